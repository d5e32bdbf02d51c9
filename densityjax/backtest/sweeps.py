"""Two sweeps that a result has to live through: shifted decisions, and dearer trading."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from densityjax._typing import ArrayLike
from densityjax.backtest import metrics
from densityjax.backtest.account import BacktestResult
from densityjax.backtest.engine import run
from densityjax.backtest.inputs import Costs, Prices

LAGS = tuple(range(-5, 11))  # bars; negative ones decide before they can know
COSTS_BPS = (0.0, 1.0, 2.0, 3.0, 5.0, 7.5, 10.0, 15.0, 20.0)


def lead_lag_sweep(
    weights: ArrayLike,
    prices: Prices,
    *,
    periods_per_year: float,
    lags: Sequence[int] = LAGS,
    costs: Costs = Costs(),  # noqa: B008  an immutable NamedTuple of numbers
    **options: Any,
) -> pd.DataFrame:
    """Trades the same weights some bars later, and some bars too early.

    A real edge fades over the lags. A cliff between 0 and 1 means that it lives for one bar only:
    look-ahead, or an edge that cannot be traded. A negative lag is a decision moved before what it
    knew: a ratio that does NOT rise there says that weights follow the market rather than lead it.

    Args:
      weights: [T] target weights, decided at each close.
      prices: `Prices` of [T] arrays.
      periods_per_year: bars in a year, from the timestamps.
      lags: bars by which the weights are late; negative for early.
      costs: `Costs`.
      **options: of `run`: fill, drift, band, max_leverage, allow_short, ...

    Returns:
      One row for each lag: sharpe_ratio (annual), total_return, turnover (per bar), num_bars (those
      whose weight was given). Rows are comparable: all lags trade the bars that all have.

    Raises:
      ValueError: if a lag reaches over all bars, or as `run`.
    """
    targets = np.asarray(weights, np.float64)
    ahead, behind = max(0, -min(lags)), max(0, *lags)
    if ahead + behind + 2 > targets.size:
        raise ValueError(
            f"lags are {list(lags)}: accepted are those shorter than {targets.size} bars"
        )
    rows = slice(behind, targets.size - ahead)
    window = Prices(*(None if p is None else np.asarray(p)[rows] for p in prices))
    figures = {}
    for lag in lags:
        shifted = targets[behind - lag : targets.size - ahead - lag]
        figures[lag] = _figures(run(shifted, window, costs=costs, **options), periods_per_year)
    return _frame(figures, "lag")


def cost_sweep(
    weights: ArrayLike,
    prices: Prices,
    *,
    periods_per_year: float,
    fees_bps: Sequence[float] = COSTS_BPS,
    costs: Costs = Costs(),  # noqa: B008  an immutable NamedTuple of numbers
    **options: Any,
) -> pd.DataFrame:
    """Trades the same weights at higher and higher cost.

    Args:
      weights: [T] target weights, decided at each close.
      prices: `Prices` of [T] arrays.
      periods_per_year: bars in a year, from the timestamps.
      fees_bps: fees to try, basis points of the traded notional.
      costs: `Costs` whose fee is replaced (spread, slippage and rates stay).
      **options: of `run`: fill, drift, band, lag, max_leverage, allow_short, ...

    Returns:
      One row for each fee_bps: sharpe_ratio (annual), total_return, turnover (per bar), num_bars.
      `frame.attrs["break_even_bps"]` is the fee at which the sum of net returns is zero, NaN where
      nothing is traded.

    Raises:
      ValueError: as `run`.
    """
    free = run(weights, prices, costs=costs._replace(fee_bps=0.0, maker_fee_bps=None), **options)
    figures = {}
    for fee in fees_bps:
        charged = costs._replace(fee_bps=float(fee), maker_fee_bps=None)
        figures[float(fee)] = _figures(
            run(weights, prices, costs=charged, **options), periods_per_year
        )
    frame = _frame(figures, "fee_bps")
    frame.attrs["break_even_bps"] = metrics.break_even_cost_bps(
        np.asarray(free.returns, np.float64), np.asarray(free.turnover, np.float64)
    )
    return frame


def _figures(result: BacktestResult, periods_per_year: float) -> dict[str, float]:
    """Returns what a sweep shows of one account."""
    returns = np.asarray(result.returns, np.float64)
    return {
        "sharpe_ratio": metrics.sharpe_ratio(returns, periods_per_year=periods_per_year),
        "total_return": metrics.total_return(returns),
        "turnover": float(np.mean(np.asarray(result.turnover, np.float64))),
        "num_bars": returns.size,
    }


def _frame(figures: dict[Any, dict[str, float]], name: str) -> pd.DataFrame:
    """Lays figures out, one row for each value that was tried."""
    return pd.DataFrame(list(figures.values()), index=pd.Index(list(figures), name=name))
