"""Figures of many configurations from streamed sums, in float64 on the host.

The definitions are those of `densityjax.backtest.metrics`.
"""

from typing import Any, NamedTuple

import numpy as np

from densityjax import numerics
from densityjax._typing import NumpyArray
from densityjax.backtest.grid_chunks import Path


class GridMetrics(NamedTuple):
    """Figures of N configurations, [N] each; definitions as in `densityjax.backtest.metrics`.

    Attributes:
      total_return: equity at the end over that at the start, less 1, a fraction.
      annual_return: compound growth per year, a fraction.
      annual_volatility: standard deviation of returns, per root of a year, a fraction.
      sharpe_ratio: annual, over zero; NaN without spread.
      sortino_ratio: annual, over zero.
      max_drawdown: largest fall from a peak, a positive fraction.
      calmar_ratio: annual return over maximum drawdown.
      turnover: mean traded notional per bar, both sides, in equity.
      exposure: share of closes with a position.
      num_trades: number of position runs of one sign, the open one included.
      is_ruined: whether equity was ever at or below zero.
    """

    total_return: NumpyArray
    annual_return: NumpyArray
    annual_volatility: NumpyArray
    sharpe_ratio: NumpyArray
    sortino_ratio: NumpyArray
    max_drawdown: NumpyArray
    calmar_ratio: NumpyArray
    turnover: NumpyArray
    exposure: NumpyArray
    num_trades: NumpyArray
    is_ruined: NumpyArray


class FullMetrics(NamedTuple):
    """All streamed figures of N configurations, [N] each: those of `GridMetrics`, and more.

    Figures of trades are of the net returns of CLOSED trades, each over the equity before its
    entry; those of bars say so in their names.

    Attributes:
      total_return: equity at the end over that at the start, less 1, a fraction.
      annual_return: compound growth per year, a fraction.
      annual_volatility: standard deviation of returns, per root of a year, a fraction.
      sharpe_ratio: annual, over zero; NaN without spread.
      sortino_ratio: annual, over zero.
      max_drawdown: largest fall from a peak, a positive fraction.
      calmar_ratio: annual return over maximum drawdown.
      turnover: mean traded notional per bar, both sides, in equity.
      exposure: share of closes with a position.
      num_trades: number of position runs of one sign, the open one included.
      is_ruined: whether equity was ever at or below zero.
      skewness: third standardised moment of the bars' returns; NaN without spread.
      kurtosis: fourth one, 3 for a normal law; NaN without spread.
      omega_ratio: gains over losses of all bars; NaN where no bar lost.
      hit_rate: share of the bars with a gain among those with a position.
      worst_bar: smallest return of a bar, a fraction.
      best_bar: largest return of a bar, a fraction.
      ulcer_index: root mean square of the drawdowns at the closes, a fraction.
      average_drawdown: mean depth of the drawdowns, a fraction.
      drawdown_duration: length of the longest drawdown, in bars.
      num_closed_trades: number of closed trades.
      win_rate: share of the closed trades that won.
      profit_factor: gains over losses of trades; infinite without a loss, NaN without either.
      payoff_ratio: mean win over mean loss of trades; NaN where one is missing.
      expectancy: mean return of a trade, a fraction.
      average_win: mean return of the trades that won, a fraction.
      average_loss: mean return of the trades that lost, a negative fraction.
      average_holding_bars: mean number of bars from entry to exit.
    """

    total_return: NumpyArray
    annual_return: NumpyArray
    annual_volatility: NumpyArray
    sharpe_ratio: NumpyArray
    sortino_ratio: NumpyArray
    max_drawdown: NumpyArray
    calmar_ratio: NumpyArray
    turnover: NumpyArray
    exposure: NumpyArray
    num_trades: NumpyArray
    is_ruined: NumpyArray
    skewness: NumpyArray
    kurtosis: NumpyArray
    omega_ratio: NumpyArray
    hit_rate: NumpyArray
    worst_bar: NumpyArray
    best_bar: NumpyArray
    ulcer_index: NumpyArray
    average_drawdown: NumpyArray
    drawdown_duration: NumpyArray
    num_closed_trades: NumpyArray
    win_rate: NumpyArray
    profit_factor: NumpyArray
    payoff_ratio: NumpyArray
    expectancy: NumpyArray
    average_win: NumpyArray
    average_loss: NumpyArray
    average_holding_bars: NumpyArray


def figures(
    path: Path, num_bars: int, periods_per_year: float, eps: float
) -> GridMetrics | FullMetrics:
    """Turns streamed sums into figures.

    Args:
      path: `Path` of float64 arrays, [N] or [S, N] each.
      num_bars: T, the bars of the market.
      periods_per_year: bars in a year.
      eps: relative rounding of the arithmetic that made the sums.

    Returns:
      `FullMetrics` where the path holds what they need, else `GridMetrics`.
    """
    mean, square = path.returns.sum(0) / num_bars, path.squares.sum(0) / num_bars
    variance = np.maximum(square - mean**2, 0.0) * num_bars / max(num_bars - 1, 1)
    std = np.sqrt(variance) if num_bars > 1 else np.full_like(mean, np.nan)
    is_flat = variance <= numerics.FLAT_SHARE * eps * square
    totals, drawdown = path.totals, 1.0 - path.marks.lowest_depth
    root, downside = periods_per_year**0.5, np.sqrt(totals.downside_squares / num_bars)
    growth = np.expm1(path.log_growth * periods_per_year / num_bars)
    core = GridMetrics(
        total_return=np.expm1(path.log_growth),
        annual_return=growth,
        annual_volatility=std * root,
        sharpe_ratio=_ratio(mean, np.where(is_flat, 0.0, std), np.nan) * root,
        sortino_ratio=_ratio(mean, downside, np.inf) * root,
        max_drawdown=drawdown,
        calmar_ratio=_ratio(growth, drawdown, np.nan),
        turnover=totals.turnover / num_bars,
        exposure=totals.bars_held / num_bars,
        num_trades=totals.num_trades.astype(int),
        is_ruined=path.is_ruined.astype(bool),
    )
    if totals.more is None:
        return core
    return FullMetrics(*core, *_moments(path, num_bars, is_flat), *_more(path, num_bars))


def _moments(path: Path, num_bars: int, is_flat: NumpyArray) -> tuple[NumpyArray, NumpyArray]:
    """Returns skewness and kurtosis from the sums of powers about zero."""
    sums = (path.returns, path.squares, path.cubes, path.fourths)
    m1, m2, m3, m4 = (power.sum(0) / num_bars for power in sums)
    variance = np.where(is_flat, np.nan, m2 - m1**2)
    third = m3 - 3.0 * m1 * m2 + 2.0 * m1**3
    fourth = m4 - 4.0 * m1 * m3 + 6.0 * m1**2 * m2 - 3.0 * m1**4
    return third / variance**1.5, fourth / variance**2


def _more(path: Path, num_bars: int) -> tuple[NumpyArray, ...]:
    """Returns the figures of `FullMetrics` from `omega_ratio` on, in their order."""
    sums: Any = path.totals.more
    marks: Any = path.marks.more
    trades, num_closed = sums.trades, sums.trades.num_closed
    is_open = path.totals.num_trades > num_closed  # at the end: more have begun than are closed
    bars_closed = path.totals.bars_held - marks.trade.age * is_open
    return (
        _ratio(sums.gains, sums.losses, np.nan),
        _mean(sums.bars_gaining, sums.bars_earning),
        marks.worst,
        marks.best,
        np.sqrt(sums.squared_depths / num_bars),
        sums.depths / np.maximum(sums.num_drawdowns, 1.0),
        marks.longest_below.astype(int),
        num_closed.astype(int),
        _mean(trades.num_wins, num_closed),
        _ratio(trades.gains, trades.losses, np.inf),
        _mean(_mean(trades.gains, trades.num_wins), _mean(trades.losses, trades.num_losses)),
        _mean(trades.gains - trades.losses, num_closed),
        _mean(trades.gains, trades.num_wins),
        -_mean(trades.losses, trades.num_losses),
        _mean(bars_closed, num_closed),
    )


def _mean(total: NumpyArray, number: NumpyArray) -> NumpyArray:
    """Returns `total / number`, NaN where there is none."""
    return total / np.where(number == 0.0, np.nan, number)


def _ratio(gain: NumpyArray, loss: NumpyArray, no_loss: float) -> NumpyArray:
    """Returns `gain / loss`, and where loss is zero `no_loss` for a gain and NaN otherwise."""
    safe = np.where(loss == 0.0, 1.0, loss)
    return np.where(loss == 0.0, np.where(gain > 0.0, no_loss, np.nan), gain / safe)
