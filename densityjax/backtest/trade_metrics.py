"""Figures of closed trades, kept apart from those of bars.

A trade is a row of `densityjax.backtest.trade_record`. One winning trade of ten bars may have four
bars that lost: its win rate is 1, the hit rate of its bars .6.
"""

from typing import NamedTuple

import numpy as np
import pandas as pd

from densityjax._typing import ArrayLike
from densityjax.backtest import _returns


class TradeMetrics(NamedTuple):
    """Figures of the closed trades of a backtest; NaN where there is no trade of the kind.

    Attributes:
      num_trades: closed trades.
      num_open: trades still open at the last bar, left out of all else.
      num_winners: those with a positive net profit.
      num_losers: those with a negative one.
      num_long: those that were long.
      num_short: those that were short.
      win_rate: winners over closed trades.
      profit_factor: total profits over total losses, in money.
      payoff_ratio: mean winner over mean loser, in money.
      expectancy: mean net return of a trade, fraction of the equity before it.
      average_win: mean net return of the winners, a fraction.
      average_loss: mean net return of the losers, a negative fraction.
      best_trade: largest net return, a fraction.
      worst_trade: smallest net return, a fraction.
      average_pnl: mean net profit of a trade, money.
      average_holding_bars: mean number of bars from entry to exit.
      longest_holding_bars: largest one.
    """

    num_trades: int
    num_open: int
    num_winners: int
    num_losers: int
    num_long: int
    num_short: int
    win_rate: float
    profit_factor: float
    payoff_ratio: float
    expectancy: float
    average_win: float
    average_loss: float
    best_trade: float
    worst_trade: float
    average_pnl: float
    average_holding_bars: float
    longest_holding_bars: float


def measure_trades(trades: pd.DataFrame) -> TradeMetrics:
    """Computes the figures of the closed trades.

    Args:
      trades: [n] rows of `trade_record`, with side, pnl (money), return (fraction), holding_bars
        and is_open.

    Returns:
      The `TradeMetrics`.

    Raises:
      ValueError: if a column is missing or a profit is not finite.
    """
    needed = ("side", "pnl", "return", "holding_bars", "is_open")
    missing = [name for name in needed if name not in trades]
    if missing:
        raise ValueError(f"trades lack the columns {missing}; accepted are those of trade_record")
    is_open = trades["is_open"].to_numpy(bool)
    side, pnl, returns, holding = (
        _returns.read_returns(trades[name].to_numpy()[~is_open], name=name) for name in needed[:4]
    )
    return TradeMetrics(
        num_trades=pnl.size,
        num_open=int(is_open.sum()),
        num_winners=int(np.sum(pnl > 0.0)),
        num_losers=int(np.sum(pnl < 0.0)),
        num_long=int(np.sum(side > 0.0)),
        num_short=int(np.sum(side < 0.0)),
        win_rate=win_rate(pnl),
        profit_factor=profit_factor(pnl),
        payoff_ratio=payoff_ratio(pnl),
        expectancy=expectancy(returns),
        average_win=_returns.mean(returns[pnl > 0.0]),
        average_loss=_returns.mean(returns[pnl < 0.0]),
        best_trade=float(returns.max()) if returns.size else np.nan,
        worst_trade=float(returns.min()) if returns.size else np.nan,
        average_pnl=_returns.mean(pnl),
        average_holding_bars=_returns.mean(holding),
        longest_holding_bars=float(holding.max()) if holding.size else np.nan,
    )


def win_rate(returns: ArrayLike) -> float:
    """Returns the share of [n] closed trades with a positive net return; NaN without a trade."""
    return _returns.mean(_returns.read_returns(returns) > 0.0)


def profit_factor(returns: ArrayLike) -> float:
    """Returns total gains over total losses, of trades or of bars, whichever is passed.

    Args:
      returns: [n] net returns (or profits) of closed trades, or of bars.

    Returns:
      The ratio; +inf with gains and no loss, NaN where there is neither.
    """
    values = _returns.read_returns(returns)
    gains, losses = np.maximum(values, 0.0).sum(), np.maximum(-values, 0.0).sum()
    return _returns.ratio(gains, losses, no_loss=np.inf)


def payoff_ratio(returns: ArrayLike) -> float:
    """Returns the mean win over the mean loss, of [n] trades or bars; NaN where one is missing."""
    values = _returns.read_returns(returns)
    wins, losses = values[values > 0.0], values[values < 0.0]
    return float(-wins.mean() / losses.mean()) if wins.size and losses.size else np.nan


def expectancy(returns: ArrayLike) -> float:
    """Returns the mean net return (or profit) of [n] closed trades; NaN without a trade."""
    return _returns.mean(_returns.read_returns(returns))
