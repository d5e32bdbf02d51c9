"""Holds the forecaster against GARCH and its kin on your own bars: one scoreboard per series.

python scripts/score_forecasts.py my_bars.csv more.parquet      # files of bars
python scripts/score_forecasts.py nasdaq sp500                  # data sets that ship with arch
"""

import argparse
import json
import math
import os
import pathlib
import sys
import time
from typing import TYPE_CHECKING, NoReturn

if TYPE_CHECKING:
    import pandas as pd

    from densityjax.experiment.scoreboard import Scoreboard

REFUSED = 2  # exit status, as shells have it
DATASETS = ("nasdaq", "sp500", "simulated")
SHOWN = {  # column: heading, format
    "log_score": ("log score", "{:.4f}"),
    "gain": ("gain", "{:+.4f}"),
    "diebold_mariano": ("DM t", "{:+.2f}"),
    "crps": ("CRPS", "{:.4g}"),
    "pinball_1": ("pin 1%", "{:.3g}"),
    "pinball_5": ("pin 5%", "{:.3g}"),
    "pinball_95": ("pin 95%", "{:.3g}"),
    "pinball_99": ("pin 99%", "{:.3g}"),
    "fz0_99": ("FZ0 1%", "{:.3f}"),
    "violation_rate_1_lower": ("hits 1%", "{:.2%}"),
    "violation_rate_1_upper": ("hits 99%", "{:.2%}"),
}


class Parser(argparse.ArgumentParser):
    """A parser that refuses in one line."""

    def error(self, message: str) -> NoReturn:
        """Says what is wrong and exits with status 2."""
        self.exit(REFUSED, f"error: {message} (--help lists what is accepted)\n")


def parse(words: list[str]) -> argparse.Namespace:
    """Reads the command line."""
    parser = Parser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("files", nargs="+", metavar="FILE", help="bars, or a data set's name")
    parser.add_argument("--symbol", action="append", help="of a panel; again for more (all)")
    parser.add_argument("--train-share", type=float, default=0.7, help="fitted on (default 0.7)")
    parser.add_argument("--seed", type=int, default=0, help="of the forecaster (default 0)")
    parser.add_argument("--out", metavar="FILE", help="JSON file for all scoreboards")
    arguments = parser.parse_args(words)
    if arguments.out and not pathlib.Path(arguments.out).absolute().parent.is_dir():
        parser.error(f"out is {arguments.out!r}: accepted is a file in a folder that exists")
    return arguments


def series(name: str, symbols: list[str] | None) -> "list[tuple[str, pd.DataFrame]]":
    """Reads the series of one argument: a data set, a file, or each symbol of a panel."""
    from densityjax import market

    if name in DATASETS and symbols:
        raise ValueError(f"symbol is given with {name!r}, which has none: accepted with a panel")
    if name in DATASETS:
        return [(name, market.load_dataset(name))]
    stem = pathlib.Path(name).name.split(".")[0]
    found = symbols or market.list_symbols(name) or [None]
    return [
        (stem if symbol is None else f"{stem} {symbol}", market.read_bars(name, symbol=symbol))
        for symbol in found
    ]


def show(name: str, board: "Scoreboard") -> None:
    """Prints one scoreboard."""
    print(
        f"\n{name}: fitted on {board.num_train:,} bars, judged on {board.num_test:,} rows, "
        f"{board.start:%Y-%m-%d} to {board.end:%Y-%m-%d}"
    )
    heads = [head for head, _ in SHOWN.values()]
    print(f"{'':20s}" + "".join(f"{head:>10s}" for head in [*heads, "tests"]))
    for model, row in board.table.to_dict(orient="index").items():
        cells = [
            form.format(row[column]) if math.isfinite(row[column]) else "-"
            for column, (_, form) in SHOWN.items()
        ]
        tests = f"{row['tests_passed']:.0f}/{row['num_tests']:.0f}"
        print(f"{model!s:20s}" + "".join(f"{cell:>10s}" for cell in [*cells, tests]))


def as_json(board: "Scoreboard") -> dict:
    """Returns a scoreboard as JSON holds it: null where a figure is not defined."""
    rows = board.table.astype(object).where(board.table.notna(), None)
    return {
        "num_train": board.num_train,
        "num_test": board.num_test,
        "start": str(board.start),
        "end": str(board.end),
        "forecasts": rows.to_dict(orient="index"),
    }


def write(boards: "dict[str, Scoreboard]", path: str | None) -> None:
    """Writes all boards so far to a JSON file, whole or not at all; None writes nothing."""
    if path is None:
        return
    partial = pathlib.Path(f"{path}.partial")
    found = {name: as_json(board) for name, board in boards.items()}
    partial.write_text(json.dumps(found, indent=1, allow_nan=False))
    partial.replace(path)


def summary(boards: "dict[str, Scoreboard]") -> str:
    """Returns one line per series: the forecaster against the best rival, score by score."""
    lines = [f"\n{'best rival by':24s}{'log score':>28s}{'CRPS':>28s}{'pinball 1% + 99%':>28s}"]
    for name, board in boards.items():
        ours, others = board.table.iloc[0], board.table.iloc[1:]
        law = others["log_score"].idxmax()
        gain, statistic = others.loc[law, ["gain", "diebold_mariano"]]
        sharp = others["crps"].idxmin()
        crps = 100 * (ours["crps"] / others["crps"].min() - 1)
        tails = others["pinball_1"] + others["pinball_99"]
        tail = 100 * ((ours["pinball_1"] + ours["pinball_99"]) / tails.min() - 1)
        lines.append(
            f"{name:24s}{f'{law} {gain:+.4f} t {statistic:+.1f}':>28s}"
            f"{f'{sharp} {crps:+.2f}%':>28s}{f'{tails.idxmin()} {tail:+.2f}%':>28s}"
        )
    return "\n".join(lines)


def main() -> int:
    """Scores every series, prints and writes the boards; returns the exit status."""
    arguments = parse(sys.argv[1:])
    cache = pathlib.Path(os.environ.get("XDG_CACHE_HOME", "~/.cache")).expanduser()
    os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(cache / "densityjax"))
    os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.2")
    # Imported late: the cache must be named before jax starts, and --help must be quick.
    from densityjax.estimators import ReturnForecaster
    from densityjax.experiment.scoreboard import score

    boards = {}
    try:
        for file in arguments.files:
            for name, bars in series(file, arguments.symbol):
                if name in boards:
                    raise ValueError(f"two series are called {name!r}: rename a file")
                start = time.perf_counter()
                boards[name] = score(
                    bars,
                    train_share=arguments.train_share,
                    forecaster=ReturnForecaster(random_state=arguments.seed),
                    report=lambda model, name=name: print(f"{name}: {model}", file=sys.stderr),
                )
                show(name, boards[name])
                write(boards, arguments.out)
                print(f"{time.perf_counter() - start:.0f} s", file=sys.stderr)
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return REFUSED
    if len(boards) > 1:
        print(summary(boards))
    return 0


if __name__ == "__main__":
    sys.exit(main())
