"""Frames for people: what happened in each bar, and in each trade.

A trade is a run of bars with a position of one sign: a flip closes one and opens the next, an order
that only resizes the position belongs to its trade. Money is in the unit of `initial_capital`.
"""

from typing import NamedTuple

import numpy as np
import pandas as pd

from densityjax._typing import ArrayLike, NumpyArray
from densityjax.backtest.engine import BacktestResult

TRADE_COLUMNS = ["entry", "exit", "side", "pnl", "return", "holding_bars", "is_open"]


def bar_record(
    result: BacktestResult,
    close: ArrayLike,
    index: pd.DatetimeIndex,
    *,
    signal: ArrayLike | None = None,
    confidence: ArrayLike | None = None,
    log_prob: ArrayLike | None = None,
    in_distribution: ArrayLike | None = None,
    expected_return: ArrayLike | None = None,
    return_std: ArrayLike | None = None,
    latent_return: ArrayLike | None = None,
    position_size: ArrayLike | None = None,
    reason: ArrayLike | None = None,
    initial_capital: float = 10_000.0,
) -> pd.DataFrame:
    """Lays out a backtest bar by bar.

    Args:
      result: a `BacktestResult` of T bars.
      close: [T] closing prices, in quote currency.
      index: [T] opening times of the bars.
      signal: [T] what the rule looked at, in its own unit.
      confidence: [T] confidence of the signal, between 0 and 1.
      log_prob: [T] log density of the state, in nats.
      in_distribution: [T] whether the state passed the density gate.
      expected_return: [T] mean of the next return, a fraction.
      return_std: [T] standard deviation of the next return, a fraction.
      latent_return: [T] the forecast's normal score of a gain, in standard deviations.
      position_size: [T] signed position decided at the close, in equity; it is filled later.
      reason: [T] why, in words.
      initial_capital: equity before the first bar.

    Returns:
      [T] rows indexed by `timestamp`, with price, the columns from signal to reason in the order
      above (missing where not given), position (weight at the close), pnl and cumulative_pnl (net,
      money) and equity (money). The profits add up to the change of equity.

    Raises:
      ValueError: if a column has another length than the backtest.
    """
    equity = initial_capital * np.asarray(result.equity, np.float64)
    columns = {
        "price": close,
        "signal": signal,
        "confidence": confidence,
        "log_prob": log_prob,
        "in_distribution": in_distribution,
        "expected_return": expected_return,
        "return_std": return_std,
        "latent_return": latent_return,
        "position_size": position_size,
        "reason": reason,
        "position": result.weights,
        "pnl": np.diff(equity, prepend=initial_capital),
        "cumulative_pnl": equity - initial_capital,
        "equity": equity,
    }
    given = {
        name: np.nan if values is None else np.asarray(values) for name, values in columns.items()
    }
    for name, values in {**given, "index": index}.items():
        if np.ndim(values) and np.shape(values) != equity.shape:
            raise ValueError(f"{name} has shape {np.shape(values)}; accepted is {equity.shape}")
    return pd.DataFrame(given, index=pd.DatetimeIndex(index, name="timestamp"))


class _Money(NamedTuple):
    """[T] float64 flows of each bar, in units of the equity before bar 0."""

    before: NumpyArray  # profit of the carried position up to the fill
    after: NumpyArray  # profit of the new position from the fill on
    cost: NumpyArray
    closing_cost: NumpyArray  # the part of the cost that closed the carried position, in a flip


def trade_record(
    result: BacktestResult, index: pd.Index | None = None, *, initial_capital: float = 10_000.0
) -> pd.DataFrame:
    """Cuts a backtest into trades; their profits plus interest are the change of equity.

    Args:
      result: a `BacktestResult` of T bars.
      index: [T] labels of the bars; their numbers where None.
      initial_capital: equity before the first bar.

    Returns:
      One row for each trade: entry and exit (labels of the bars with its first and last fill),
      side (+1 long, -1 short), pnl (net of costs, money), return (pnl over the equity before the
      entry, a fraction), holding_bars, is_open (marked at the last close, not closed).
    """
    labels = pd.RangeIndex(len(result.equity)) if index is None else index
    equity = np.concatenate([[1.0], np.asarray(result.equity, np.float64)])
    # In the bar of ruin nothing is left at the close: the side is that of what was held.
    is_ruin = (equity[1:] <= 0.0) & (equity[:-1] > 0.0)
    held = np.where(is_ruin, result.held, result.weights)
    side = np.sign(np.concatenate([[0.0], held])).astype(int)
    flows = _flows(result, equity)
    trades, first, pnl = [], 0, 0.0

    def close_trade(bar: int, is_open: bool) -> None:
        share = pnl / equity[first]
        row = labels[first], labels[bar], side[first + 1]
        trades.append((*row, initial_capital * pnl, share, bar - first, is_open))

    for bar in range(len(labels)):
        old, new = side[bar], side[bar + 1]
        ends = old != 0 and new != old
        closing = flows.closing_cost[bar] if new else flows.cost[bar]
        pnl += flows.before[bar] if old else 0.0
        if ends:
            pnl -= closing
            pnl += 0.0 if new else flows.after[bar]
            close_trade(bar, is_open=False)
        if new and new != old:
            first, pnl = bar, -(flows.cost[bar] - (closing if ends else 0.0))
        elif new:
            pnl -= flows.cost[bar]
        pnl += flows.after[bar] if new else 0.0
    if side[-1]:
        close_trade(len(labels) - 1, is_open=True)
    return pd.DataFrame(trades, columns=TRADE_COLUMNS)


def _flows(result: BacktestResult, equity: NumpyArray) -> _Money:
    """Splits profits and costs of each bar at its fill; the loss of ruin stops at the equity."""
    gap, body, cost, interest, weights = (
        np.asarray(getattr(result, name), np.float64)
        for name in ("gap_pnl", "body_pnl", "cost", "interest", "weights")
    )
    carried = equity[:-1] * np.concatenate([[0.0], weights[:-1]]) + gap
    traded = np.asarray(result.turnover, np.float64) * (equity[:-1] + gap + interest)
    share = np.minimum(np.abs(carried) / np.where(traded > 0.0, traded, np.inf), 1.0)
    missing = np.diff(equity) - (gap + body + interest - cost)  # zero but for the bar of ruin
    is_ruin = (equity[1:] <= 0.0) & (equity[:-1] > 0.0)
    return _Money(gap, body + np.where(is_ruin, missing, 0.0), cost, share * cost)
