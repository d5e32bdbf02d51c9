"""Grids of one rule, by this library, by vectorbt or by a loop of numba: one worker for each.

python grid_peers.py densityjax|numba|vectorbt: see `worker_loop` for what it is told and answers.
The rule is half long above a threshold and half short below minus it, rebalanced to its weight at
every close (`fill='same_close'`), with a fee on the traded notional. Figures: total return, Sharpe
ratio per bar, maximum drawdown; the total returns are written to the job's `answer` to be compared.
"""

import math
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
from worker_loop import Arrays, serve

FEE_BPS = 10.0
WEIGHT = 0.5  # vectorbt pays fees from cash: a weight of 1 would leave none for them


def numba_call(data: Arrays) -> Callable[[], np.ndarray]:
    """Returns a parallel loop over rules, each a loop over bars with the same arithmetic."""
    import numba  # pyright: ignore[reportMissingImports]

    @numba.njit(parallel=True, fastmath=False, cache=False)
    def run(close: Any, z: Any, thresholds: Any, rate: Any) -> Any:
        one, zero, weight = np.float32(1.0), np.float32(0.0), np.float32(WEIGHT)
        out = np.empty((3, thresholds.size), np.float32)
        num_bars = close.size
        for i in numba.prange(thresholds.size):
            threshold = thresholds[i]
            equity, position = one, zero
            total, square, downside, turnover = zero, zero, zero, zero
            held, entries, depth, lowest = zero, zero, one, one
            for t in range(num_bars):
                gap = close[t] / close[t - 1] - one if t else zero
                pnl = position * gap
                at_fill = equity + pnl
                target = zero
                if z[t] > threshold:
                    target = weight
                elif -z[t] > threshold:
                    target = -weight
                wanted, drifted = target * at_fill, position + pnl
                order = abs(wanted - drifted)
                r = (pnl - rate * order) / equity
                turnover += order / at_fill
                entries += one if wanted != zero and wanted * drifted <= zero else zero
                held += one if wanted != zero else zero
                position = wanted
                equity = equity * (one + r)
                depth = min(depth * (one + r), one)
                lowest = min(lowest, depth)
                total += r
                square += r * r
                downside += min(r, zero) ** 2
            mean = total / num_bars
            out[0, i] = equity - one
            out[1, i] = mean / math.sqrt(max(square / num_bars - mean * mean, 1e-30))  # no spread
            # What a compiler could leave out if nobody read it.
            out[2, i] = one - lowest + zero * (turnover + held + entries + downside)
        return out

    rate = np.float32(FEE_BPS * 1e-4)  # one basis point
    return lambda: run(data["close"], data["z"], data["thresholds"], rate)[0]


def vectorbt_call(data: Arrays) -> Callable[[], np.ndarray]:
    """Returns the portfolio of one column for each rule, and the same figures."""
    import pandas as pd
    import vectorbt as vbt  # pyright: ignore[reportMissingImports]

    index = pd.date_range("2024-01-01", periods=data["close"].size, freq="h")
    close = pd.Series(data["close"].astype(np.float64), index)
    z, thresholds = data["z"][:, None], data["thresholds"][None]

    def call() -> np.ndarray:
        size = pd.DataFrame((z > thresholds) * WEIGHT - (-z > thresholds) * WEIGHT, index)
        portfolio = vbt.Portfolio.from_orders(
            close, size, size_type="targetpercent", fees=FEE_BPS * 1e-4, init_cash=1.0
        )
        figures = (
            portfolio.total_return(),
            portfolio.sharpe_ratio(freq="1h", year_freq="1h"),
            portfolio.max_drawdown(),
        )
        return np.asarray(figures[0])

    return call


def densityjax_call(data: Arrays) -> Callable[[], np.ndarray]:
    """Returns the grid of this library, core metrics."""
    import jax.numpy as jnp

    from densityjax import backtest

    def rule(params: Any, signal_t: Any, state: Any) -> tuple[Any, Any]:
        z = signal_t["z"]
        is_long, is_short = z > params["threshold"], -z > params["threshold"]
        return WEIGHT * (is_long.astype(jnp.float32) - is_short.astype(jnp.float32)), state

    def call() -> np.ndarray:
        return backtest.run_grid(
            rule,
            {"threshold": data["thresholds"]},
            {"z": data["z"]},
            backtest.Prices(close=data["close"]),
            costs=backtest.Costs(FEE_BPS),
            fill="same_close",
        ).metrics.total_return

    return call


CALLS = {"densityjax": densityjax_call, "numba": numba_call, "vectorbt": vectorbt_call}


class Grids:
    """One of the three, as the worker loop sees it."""

    def __init__(self, name: str) -> None:
        """Keeps the name: 'densityjax', 'numba' or 'vectorbt'."""
        self.name = name
        self.packages = (name, "numpy")

    def prepare(
        self, job: dict[str, Any], data: Arrays
    ) -> tuple[Callable[[], Any], dict[str, int]]:
        """Returns what runs the grid once; its total returns are written down."""
        call = CALLS[self.name](data)
        np.save(job["answer"], call())
        return call, {"rules": data["thresholds"].size}

    def fit(self, job: dict[str, Any], data: Arrays) -> dict[str, Any]:
        """Refuses: nothing is fitted here."""
        raise ValueError(f"op is 'fit' for {self.name}: accepted are versions, prepare, go")


if __name__ == "__main__":
    serve(Grids(sys.argv[1]))
