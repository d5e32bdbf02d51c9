"""Lists strange bars: how high the energy of a bar's features is against strictly earlier bars.

python scripts/detect_anomalies.py --dataset sp500 --anomalies-only
python scripts/detect_anomalies.py --bars my_bars.csv --limit 500 --threshold 2.5 --online

A kernel density of the features, fitted to the bars before those that are listed, gives each bar an
energy; z is its distance from the median of the 20 energies before it, in robust standard
deviations. With --online nothing is fitted: bars come one at a time, and the energy is the mean
squared z-score of a bar's features against their own moving moments. z has no nominal rate: the
last line says what share of the bars was flagged. A density of a bar tells that it is strange now.
"""

import argparse
import sys
from typing import NamedTuple

import numpy as np
import pandas as pd

from densityjax import market
from densityjax.market import streaming
from densityjax.regimes import energy_levels, kernel_energy, streaming_energy
from densityjax.regimes.energy_levels import LevelRule, Regime, Trend

FEATURES = "energy"
LEAST_ROWS, MOST_ROWS = 100, 4_000  # with features, that the density is fitted to
ONLINE_BARS = 400  # before the listed ones: windows of features, moving moments, and their buffer
WARM_ROWS = 100  # between them and the listed ones: their energies are those of unseen bars


class Found(NamedTuple):
    """Readings of the listed bars, one row a bar.

    Attributes:
      times: opening times.
      energy: energies, nats; no unit online.
      z: z-scores.
      regime: `Regime` numbers.
      trend: `Trend` numbers, or None online.
    """

    times: pd.DatetimeIndex
    energy: np.ndarray
    z: np.ndarray
    regime: np.ndarray
    trend: np.ndarray | None = None


def offline(features: pd.DataFrame, limit: int, rule: LevelRule) -> Found:
    """Fits a density to the rows before the last `limit`, and reads these."""
    rows = features.to_numpy(float)
    first = len(rows) - min(limit, len(rows) - LEAST_ROWS - WARM_ROWS)
    if first >= len(rows):
        raise ValueError(
            f"the bars have {len(rows)} rows of features: accepted are more than "
            f"{LEAST_ROWS + WARM_ROWS}"
        )
    train = rows[max(0, first - WARM_ROWS - MOST_ROWS) : first - WARM_ROWS]
    keep = np.ptp(train, axis=0) > 0
    location, scale = train[:, keep].mean(axis=0), train[:, keep].std(axis=0)
    model = kernel_energy.fit_kernel_energy((train[:, keep] - location) / scale)
    unseen = (rows[first - WARM_ROWS :, keep] - location) / scale
    energy = kernel_energy.kernel_energies(model, unseen)
    level = energy_levels.energy_levels(energy, rule=rule)
    times = pd.DatetimeIndex(features.index[first:])
    read = (np.asarray(v)[WARM_ROWS:] for v in (energy, level.z, level.regime, level.trend))
    return Found(times, *read)


def online(bars: pd.DataFrame, limit: int, rule: LevelRule) -> Found:
    """Takes the bars in one at a time; each is read against those before it."""
    state = market.init_stream(FEATURES, has_volume="volume" in bars)
    rows, times = [], []
    for stamp, bar in bars.iloc[-(limit + ONLINE_BARS) :].iterrows():
        state, row = streaming.step(state, bar)
        if row is not None:
            rows.append(row.to_numpy(float))
            times.append(stamp)
    if not rows:
        raise ValueError(f"the {len(bars)} bars are too few for one row of features")
    found = streaming_energy.streaming_energies(np.array(rows), rule=rule)
    kept = slice(max(0, len(rows) - limit), None)
    index = pd.DatetimeIndex(times)[kept]
    return Found(index, *(np.asarray(v)[kept] for v in (found.energy, found.z, found.regime)))


def lines(found: Found, returns: pd.Series, *, anomalies_only: bool) -> list[str]:
    """Lays the readings out, one line a bar, and what share was flagged."""
    is_flagged, stamps = found.regime == Regime.CRISIS, list(found.times)
    table = [f"{'time':<25} {'return %':>9} {'energy':>10} {'z':>8}  {'regime':<9} trend"]
    for row in np.flatnonzero(is_flagged) if anomalies_only else range(len(found.times)):
        stamp = stamps[row]
        trend = "" if found.trend is None else Trend(int(found.trend[row])).name.lower()
        regime = Regime(int(found.regime[row])).name.lower()
        table.append(
            f"{stamp.isoformat():<25} {100 * returns.loc[stamp]:>9.2f} {found.energy[row]:>10.2f} "
            f"{found.z[row]:>8.2f}  {regime:<9} {trend}".rstrip()
        )
    known = int(np.isfinite(found.z).sum())
    share = f" ({100 * is_flagged.sum() / known:.1f} %)" if known else ""
    return [*table, f"flagged: {int(is_flagged.sum())} of {known} bars with a z-score{share}"]


def parsed(words: list[str]) -> argparse.Namespace:
    """Reads the arguments; what is not accepted ends the program with status 2."""
    parser = argparse.ArgumentParser(description="Lists bars whose features are strange.")
    source = parser.add_mutually_exclusive_group()
    source.add_argument("--dataset", default="sp500", help="sp500 (default), nasdaq or simulated")
    source.add_argument("--bars", metavar="FILE", help="CSV, CSV.gz or Parquet file of bars")
    parser.add_argument("--symbol", help="symbol to take from a file that holds several")
    parser.add_argument("--limit", type=int, default=500, help="last bars to read, default 500")
    cut = "z from which on a bar is flagged, above 1; default 2"
    parser.add_argument("--threshold", type=float, default=2.0, help=cut)
    parser.add_argument("--online", action="store_true", help="bar by bar, with nothing fitted")
    parser.add_argument("--anomalies-only", action="store_true", help="list flagged bars alone")
    return parser.parse_args(words)


def main(words: list[str]) -> int:
    """Reads the bars and lists them; returns the exit status."""
    options = parsed(words)
    try:
        if options.limit < 1:
            raise ValueError(f"--limit is {options.limit}: accepted is at least 1")
        rule = LevelRule(crisis=options.threshold)
        energy_levels.check_rule(rule)
        if options.bars:
            bars = market.read_bars(options.bars, symbol=options.symbol)
        else:
            bars = market.load_dataset(options.dataset)
        if options.online:
            found = online(bars, options.limit, rule)
        else:
            found = offline(market.compute_features(bars, FEATURES), options.limit, rule)
    except (ValueError, OSError) as error:
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    returns = market.simple_returns(bars)
    print("\n".join(lines(found, returns, anomalies_only=options.anomalies_only)))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
