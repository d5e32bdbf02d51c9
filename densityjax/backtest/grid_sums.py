"""What a grid adds up bar by bar: a few numbers for each configuration, whatever the history.

Notation: r is the net return of a bar, E the equity, `depth` is E over its running peak. Each leaf
is a vector over the configurations of one chunk. Sums start anew with each block of bars, which
keeps single precision accurate; `Marks` run on from block to block.
"""

from typing import Any, NamedTuple

import jax.numpy as jnp

from densityjax._typing import Array
from densityjax.backtest import grid_trades
from densityjax.backtest.account import AccountState, BarInfo
from densityjax.backtest.grid_trades import OpenTrade, TradeSums
from densityjax.backtest.inputs import Bar


class MoreSums(NamedTuple):
    """Sums over a block of bars that only `metrics='full'` takes, [N] each.

    Attributes:
      cubes: sum of `r^3`.
      fourths: sum of `r^4`.
      gains: sum of `max(r, 0)`.
      losses: sum of `max(-r, 0)`.
      bars_earning: number of bars with a position that earned them.
      bars_gaining: number of those with `r > 0`.
      num_drawdowns: number of drawdowns that began.
      depths: sum over drawdowns of their deepest points, fractions.
      squared_depths: sum over bars of the squared drawdown.
      trades: `TradeSums`.
    """

    cubes: Any
    fourths: Any
    gains: Any
    losses: Any
    bars_earning: Any
    bars_gaining: Any
    num_drawdowns: Any
    depths: Any
    squared_depths: Any
    trades: TradeSums


class Sums(NamedTuple):
    """Sums over a block of bars, [N] each; `more` is None for the core metrics."""

    returns: Any
    squares: Any
    downside_squares: Any
    turnover: Any
    bars_held: Any
    num_trades: Any
    more: MoreSums | None


class MoreMarks(NamedTuple):
    """What only `metrics='full'` carries from bar to bar, [N] each.

    Attributes:
      low: smallest depth within the drawdown that is open, 1 without one.
      bars_below: length of the drawdown that is open, in bars.
      longest_below: length of the longest so far, in bars.
      worst: smallest return of a bar so far.
      best: largest return of a bar so far.
      trade: `OpenTrade`.
    """

    low: Any
    bars_below: Any
    longest_below: Any
    worst: Any
    best: Any
    trade: OpenTrade


class Marks(NamedTuple):
    """Extremes so far, [N] each; `more` is None for the core metrics."""

    depth: Any
    lowest_depth: Any
    more: MoreMarks | None


def start(zeros: Array, *, is_full: bool) -> tuple[Sums, Marks]:
    """Returns sums of nothing and the marks before bar 0.

    Args:
      zeros: [N] zeros of the floating-point type of the account.
      is_full: whether all metrics are taken.

    Returns:
      `Sums` and `Marks`.
    """
    ones = zeros + 1.0
    if not is_full:
        return Sums(*[zeros] * 6, more=None), Marks(ones, ones, None)
    more = MoreSums(*[zeros] * 9, trades=TradeSums(*[zeros] * len(TradeSums._fields)))
    marks = MoreMarks(
        low=ones,
        bars_below=zeros,
        longest_below=zeros,
        worst=zeros + jnp.inf,
        best=zeros - jnp.inf,
        trade=OpenTrade(pnl=zeros, equity=ones, age=zeros),
    )
    return Sums(*[zeros] * 6, more=more), Marks(ones, ones, marks)


def rebase(marks: Marks, unit: Array) -> Marks:
    """Returns the marks with money in another unit, `unit` [N] of the old one."""
    if marks.more is None:
        return marks
    trade = marks.more.trade
    trade = trade._replace(pnl=trade.pnl / unit, equity=trade.equity / unit)
    return marks._replace(more=marks.more._replace(trade=trade))


def add_bar(
    sums: Sums,
    marks: Marks,
    before: AccountState,
    after: AccountState,
    info: BarInfo,
    bar: Bar,
    *,
    fills_at_open: bool,
) -> tuple[Sums, Marks]:
    """Adds one bar of all configurations.

    Args:
      sums: `Sums` of this block so far.
      marks: `Marks` so far.
      before: accounts at the last close, [N] leaves.
      after: accounts at this close.
      info: what happened between.
      bar: the market's bar.
      fills_at_open: whether orders fill at the open of their bar.

    Returns:
      The new sums and marks.
    """
    r = info.net_return
    depth = jnp.minimum(marks.depth * (1.0 + r), 1.0)
    more = more_marks = None
    if sums.more is not None and marks.more is not None:
        is_earning = info.filled != 0.0 if fills_at_open else before.position != 0.0
        closings, trade = grid_trades.take_bar(
            marks.more.trade, before, after, info, fills_at_open=fills_at_open
        )
        more, more_marks = _add_more(sums.more, marks, r, depth, is_earning, bar)
        more = more._replace(trades=grid_trades.add_closings(sums.more.trades, closings))
        more_marks = more_marks._replace(trade=trade)
    new_sums = Sums(
        returns=sums.returns + r,
        squares=sums.squares + r**2,
        downside_squares=sums.downside_squares + jnp.minimum(r, 0.0) ** 2,
        turnover=sums.turnover + info.turnover,
        bars_held=sums.bars_held + (after.position != 0.0),
        num_trades=sums.num_trades + info.is_entry,
        more=more,
    )
    return new_sums, Marks(depth, jnp.minimum(marks.lowest_depth, depth), more_marks)


def _add_more(
    sums: MoreSums, marks: Marks, r: Array, depth: Array, is_earning: Array, bar: Bar
) -> tuple[MoreSums, MoreMarks]:
    """Adds a bar to the sums and marks of the full metrics, trades left as they are."""
    old: Any = marks.more
    is_below = depth < 1.0
    low = jnp.minimum(old.low, depth)
    bars_below = jnp.where(is_below, old.bars_below + 1.0, 0.0)
    is_market = bar.elapsed > 0.0  # rows that only fill up a block have no return
    new = MoreSums(
        cubes=sums.cubes + r**3,
        fourths=sums.fourths + (r**2) ** 2,
        gains=sums.gains + jnp.maximum(r, 0.0),
        losses=sums.losses + jnp.maximum(-r, 0.0),
        bars_earning=sums.bars_earning + is_earning,
        bars_gaining=sums.bars_gaining + (is_earning & (r > 0.0)),
        num_drawdowns=sums.num_drawdowns + (is_below & (old.bars_below == 0.0)),
        # The steps down of one drawdown add up to its deepest point.
        depths=sums.depths + (old.low - low),
        squared_depths=sums.squared_depths + (1.0 - depth) ** 2,
        trades=sums.trades,
    )
    return new, MoreMarks(
        low=jnp.where(is_below, low, 1.0),
        bars_below=bars_below,
        longest_below=jnp.maximum(old.longest_below, bars_below),
        worst=jnp.minimum(old.worst, jnp.where(is_market, r, jnp.inf)),
        best=jnp.maximum(old.best, jnp.where(is_market, r, -jnp.inf)),
        trade=old.trade,
    )
