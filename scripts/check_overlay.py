"""What an energy overlay does to a strategy, at equal mean exposure, with intervals for the gain.

python scripts/check_overlay.py                                  # three simulated markets, S&P 500
python scripts/check_overlay.py --bars SPY_1d.parquet --bars BTCUSD_1h.parquet

A kernel density of the energy features is fitted to the first three eighths of the bars. On the
second half z, the robust z-score of a bar's energy, scales the targets of a base strategy: against
the 20 energies before it, or, with --against reference, against those of the eighth in between. The
base is then held smaller, by one number, so that both have the same mean size of position: what is
left of the difference is timing, not leverage. That number is known only afterwards; it is for the
comparison, not for trading. Differences (overlay less base) are of the annual Sharpe ratio, the
Calmar ratio and the 95 % expected shortfall, whose fall is a gain; their 95 % intervals are of the
stationary bootstrap of paired bars.
"""

import argparse
import pathlib
import sys
from collections.abc import Callable

import jax
import numpy as np
import pandas as pd

from densityjax import backtest, market
from densityjax.backtest import metrics
from densityjax.backtest.inference import bootstrap_difference
from densityjax.regimes import energy_levels, kernel_energy
from densityjax.strategies.energy_sizing import OverlayParams, OverlaySignals, energy_overlay

FEATURES = "energy"
MOST_KERNELS = 3_000  # last rows of the fit that carry a kernel
PASTS = ("past", "reference")
CURVES = {"linear": 0, "piecewise": 1, "regimes": 2}
FEE_BPS = 2.0


def energy_z(bars: pd.DataFrame, against: str = "past") -> pd.Series:
    """Returns z of the bars of the second half, by a density of bars of the first."""
    features = market.compute_features(bars, FEATURES)
    rows, half = features.to_numpy(float), len(features) // 2
    last = half - half // 4
    train = rows[max(0, last - MOST_KERNELS) : last]
    keep = np.ptp(train, axis=0) > 0
    location, scale = train[:, keep].mean(axis=0), train[:, keep].std(axis=0)
    model = kernel_energy.fit_kernel_energy((train[:, keep] - location) / scale)
    energy = kernel_energy.kernel_energies(model, (rows[last:, keep] - location) / scale)
    if against == "reference":
        z = energy_levels.reference_z(energy, energy[: half - last])
    else:
        z = np.asarray(energy_levels.energy_levels(energy).z)
    return pd.Series(z[half - last :], index=features.index[half:])


def base_weights(name: str, bars: pd.DataFrame) -> np.ndarray:
    """Returns the targets of a base strategy, [T]: always long, or with the trend."""
    if name == "long":
        return np.ones(len(bars))
    returns = market.simple_returns(bars).fillna(0.0).to_numpy(float)
    params = backtest.MomentumParams(decay=0.98, allow_short=1.0)
    signals = backtest.Signals(last_return=returns)
    return np.asarray(backtest.apply_rule(backtest.momentum, params, signals))


def compare(
    bars: pd.DataFrame, base: str, curve: str, *, num_draws: int, against: str = "past"
) -> dict[str, tuple[float, float, float, float, float]]:
    """Returns, for each figure, base, overlay less base, both ends of the interval, and p."""
    z = energy_z(bars, against)
    known = bars.loc[z.index]
    weights = base_weights(base, bars)[bars.index.get_indexer(z.index)]
    params = OverlayParams(curve=CURVES[curve])
    signals = OverlaySignals(weight=weights, energy_z=z.to_numpy())
    scaled = np.asarray(backtest.apply_rule(energy_overlay, params, signals), float)
    share = np.abs(scaled).mean() / np.abs(weights).mean()
    prices = backtest.Prices(open=known["open"].to_numpy(), close=known["close"].to_numpy())
    costs = backtest.Costs(fee_bps=FEE_BPS)
    plain, overlay = (
        np.asarray(backtest.run(w, prices, costs=costs).returns, float)
        for w in (share * weights, scaled)
    )
    per_year = market.periods_per_year(known.index)
    figures: dict[str, Callable[..., float]] = {
        "Sharpe": lambda r: metrics.sharpe_ratio(r, periods_per_year=per_year),
        "Calmar": lambda r: metrics.calmar_ratio(r, periods_per_year=per_year),
        "ES %": lambda r: 100.0 * metrics.expected_shortfall(r),
    }
    found = {}
    for name, figure in figures.items():
        gap = bootstrap_difference(figure, overlay, plain, num_draws=num_draws)
        found[name] = (figure(plain), gap.estimate, gap.low, gap.high, gap.p_value)
    turnover = [metrics.turnover(w) for w in (share * weights, scaled)]
    found["turnover"] = (turnover[0], turnover[1] - turnover[0], np.nan, np.nan, np.nan)
    found["mean size"] = (share, 0.0, np.nan, np.nan, np.nan)
    return found


def markets(options: argparse.Namespace) -> dict[str, pd.DataFrame]:
    """Returns the bars by name."""
    if options.bars:
        return {pathlib.Path(path).stem: market.read_bars(path) for path in options.bars}
    simulated = {
        f"simulated {seed}": market.simulate_market(jax.random.key(seed), options.num_bars).bars
        for seed in range(3)
    }
    return {"sp500": market.load_dataset("sp500"), **simulated}


def main(words: list[str]) -> int:
    """Prints the comparison; returns the exit status."""
    parser = argparse.ArgumentParser(description="A base strategy with and without an overlay.")
    parser.add_argument("--bars", action="append", metavar="FILE", help="repeatable")
    parser.add_argument("--num-bars", type=int, default=8_000, help="of each simulated market")
    parser.add_argument("--draws", type=int, default=500, help="resampled paths, default 500")
    parser.add_argument("--against", choices=PASTS, default="past", help="what z is held against")
    options = parser.parse_args(words)
    try:
        for name, bars in markets(options).items():
            for base in ("long", "momentum"):
                for curve in CURVES:
                    settings = {"num_draws": options.draws, "against": options.against}
                    found = compare(bars, base, curve, **settings)
                    print(f"{name}, {base}, {curve}: {_line(found)}", flush=True)
    except (ValueError, OSError) as error:
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    return 0


def _line(found: dict[str, tuple[float, float, float, float, float]]) -> str:
    """Writes one comparison."""
    parts = []
    for name, (plain, gap, low, high, p) in found.items():
        if np.isnan(low):
            parts.append(f"{name} {plain:.3f}" + (f" {gap:+.3f}" if gap else ""))
        else:
            parts.append(f"{name} {plain:.3f} {gap:+.3f} [{low:+.3f}, {high:+.3f}] p {p:.2f}")
    return "; ".join(parts)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
