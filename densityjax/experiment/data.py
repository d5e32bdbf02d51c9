"""The bars of a run: from a data set or a file, mended if asked for, and enough of them."""

import math
from typing import NamedTuple

import jax
import pandas as pd

from densityjax import market, pipeline
from densityjax.experiment.arguments import Arguments
from densityjax.market.datasets import SIMULATED_BARS
from densityjax.market.repair import RepairReport

HORIZON = 1  # bars ahead that are forecast
MIN_PART_ROWS = 50  # bars of the validation and of the test part, for any figure to mean something
FRACTIONS = (0.7, 0.15, 0.15)  # shares of train, validation and test
WINDOWS_TO_FIT = 4  # train rows, in purges: each member drops two beside the block it stops on
IDLE_VOLUME = "The volume is zero in all training rows and was left aside."


class Data(NamedTuple):
    """What a run is about.

    Attributes:
      bars: frame of bars, valid and enough.
      notes: sentences on what was left out or mended.
      repairs: one row per mended value, or None where nothing was to be mended.
      truth: true log density of each bar's next return, nats, or None on real markets.
    """

    bars: pd.DataFrame
    notes: tuple[str, ...]
    repairs: pd.DataFrame | None
    truth: pd.Series | None


def load(arguments: Arguments) -> Data:
    """Reads the bars that the arguments name.

    Args:
      arguments: of the run.

    Returns:
      The `Data`.

    Raises:
      ValueError: for bars that are refused, or too few of them.
      OSError: if the file cannot be read.
    """
    repairs, truth, notes = None, None, []
    if arguments.bars is None:
        bars = market.load_dataset(arguments.dataset)
        truth = _truth(bars) if arguments.dataset == "simulated" else None
    else:
        bars = market.read_bars(
            arguments.bars, symbol=arguments.symbol, validate=not arguments.repair
        )
    if arguments.repair:
        source = str(bars.attrs["source"])
        bars, report = market.repair_bars(bars)
        bars = market.validate_bars(bars, source=f"{source} after repair")
        repairs, notes = report.changes, [repair_note(report)]
    _check_length(bars, arguments)
    notes = [*bars.attrs["notes"], *notes]
    train = bars.iloc[split_bars(bars, arguments).train]
    if "volume" in bars and not (train["volume"] > 0.0).any():
        bars = bars.drop(columns="volume")
        notes.append(IDLE_VOLUME)
    return Data(bars, tuple(notes), repairs, truth)


def split_bars(bars: pd.DataFrame, arguments: Arguments) -> market.Split:
    """Returns the rows of train, validation and test."""
    return market.split(bars, fractions=FRACTIONS, purge=purge(arguments))


def purge(arguments: Arguments) -> int:
    """Returns the bars dropped between the parts: the longest window and the horizon."""
    return pipeline.window(arguments.state_features) + HORIZON


def min_bars(arguments: Arguments) -> int:
    """Returns the fewest bars that can be split, fitted and judged."""
    gap = purge(arguments)
    usable = max(WINDOWS_TO_FIT * gap / FRACTIONS[0], MIN_PART_ROWS / min(FRACTIONS))
    return 2 * gap + math.ceil(usable) + 1


def repair_note(report: RepairReport) -> str:
    """Returns one sentence that counts the repairs, by kind."""
    counts = [
        f"{value:,} {name.removeprefix('num_').replace('_', ' ')}"
        for name, value in report._asdict().items()
        if name.startswith("num_") and not name.startswith("num_rows") and value
    ]
    rows = f"{report.num_rows_in:,} rows became {report.num_rows_out:,}"
    return f"Repaired: {rows} ({', '.join(counts) or 'nothing to mend'})."


def _check_length(bars: pd.DataFrame, arguments: Arguments) -> None:
    needed = min_bars(arguments)
    if len(bars) < needed:
        raise ValueError(
            f"{bars.attrs['source']}: {len(bars)} rows are too few: windows of "
            f"{purge(arguments) - HORIZON} bars and a test part of {MIN_PART_ROWS} need at least "
            f"{needed}"
        )


def check_usable(bars: pd.DataFrame, usable: pd.Index, parts: dict[str, slice]) -> None:
    """Raises where gaps or missing volumes leave a part with too few rows to work on.

    Args:
      bars: all bars.
      usable: times of the bars whose features are whole.
      parts: part -> rows of `bars`.

    Raises:
      ValueError: names the part, its usable rows, and what may be wrong with the bars.
    """
    for name, rows in parts.items():
        index = bars.index[rows]
        found = int(index.isin(usable).sum())
        if found < MIN_PART_ROWS:
            columns = [
                c for c in ("volume", "is_filled") if c in bars and _is_broken(bars, c, rows)
            ]
            because = f"; look at the column {' and '.join(columns)} there" if columns else ""
            raise ValueError(
                f"{bars.attrs.get('source', 'bars')}: the {name} part, {index[0]} to {index[-1]}, "
                f"has {found} bars with whole features, accepted is at least {MIN_PART_ROWS}"
                f"{because}"
            )


def _is_broken(bars: pd.DataFrame, column: str, rows: slice) -> bool:
    values = bars[column].iloc[rows]
    return bool(values.any() if column == "is_filled" else values.isna().any())


def _truth(bars: pd.DataFrame) -> pd.Series:
    """Simulates the market again for the law that its bars came from."""
    simulated = market.simulate_market(jax.random.key(0), SIMULATED_BARS)
    return pd.Series(simulated.log_prob, index=simulated.bars.index).reindex(bars.index)
