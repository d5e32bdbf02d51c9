"""Closed trades of a grid, streamed: the sums of `trade_record` without its list.

A trade is a run of bars with a position of one sign, as in `trades`. Its return is its profit net
of costs, funding and borrowing over the equity at the close before its entry. Up to two trades end
in one bar: one that the order closes, and one that a stop or ruin ends.
"""

from typing import Any, NamedTuple

import jax.numpy as jnp

from densityjax._typing import Array
from densityjax.backtest.account import AccountState, BarInfo


class OpenTrade(NamedTuple):
    """The trade that is open, [N] each; of no meaning without a position.

    Attributes:
      pnl: its profit so far, money.
      equity: equity at the close before its entry, money.
      age: number of closes that it was held at.
    """

    pnl: Any
    equity: Any
    age: Any


class TradeSums(NamedTuple):
    """Sums over closed trades, [N] each; returns as fractions of the equity before the entry."""

    num_closed: Any
    num_wins: Any
    num_losses: Any
    gains: Any
    losses: Any


class Closing(NamedTuple):
    """A trade that ends: whether there is one, its profit and the equity before its entry."""

    is_closed: Array
    pnl: Array
    equity: Array


class _Money(NamedTuple):
    """Flows of one bar, money."""

    before: Array  # equity at the last close
    gap: Array
    later: Array  # profit after the order, or for fills at the close carried along before it
    at_fill: Array
    order_cost: Array
    exit_cost: Array
    interest: Array


def take_bar(
    trade: OpenTrade,
    before: AccountState,
    after: AccountState,
    info: BarInfo,
    *,
    fills_at_open: bool,
) -> tuple[tuple[Closing, Closing], OpenTrade]:
    """Takes the open trade through one bar.

    Args:
      trade: `OpenTrade` at the last close.
      before: account at the last close, [N] leaves.
      after: account at this close.
      info: what happened between.
      fills_at_open: whether orders fill at the open of their bar.

    Returns:
      Two `Closing`s, and the trade that is open at this close.
    """
    nothing = jnp.zeros_like(before.equity)
    carry = info.funding - info.borrow
    exit_cost = nothing if info.exits is None else info.exits.cost
    at_fill = before.equity + info.gap_pnl + info.interest
    money = _Money(
        before=before.equity,
        gap=info.gap_pnl,
        later=carry + info.body_pnl,
        at_fill=at_fill if fills_at_open else at_fill + carry - exit_cost,
        order_cost=info.cost - exit_cost,
        exit_cost=exit_cost,
        interest=info.interest,
    )
    is_ruin = (after.equity <= 0.0) & (before.equity > 0.0)
    take = _open_fills if fills_at_open else _close_fills
    closings, pnl, equity, is_new = take(trade, before, after, info, money, is_ruin)
    age = jnp.where(is_new, 0.0, trade.age) + (after.position != 0.0)
    return closings, OpenTrade(pnl, equity, age)


def _open_fills(
    trade: OpenTrade,
    before: AccountState,
    after: AccountState,
    info: BarInfo,
    money: _Money,
    is_ruin: Array,
) -> tuple[tuple[Closing, Closing], Array, Array, Array]:
    """The order at the open closes one trade; a stop or ruin later in the bar ends another."""
    side, filled = jnp.sign(before.position), jnp.sign(info.filled)
    is_open = ~(money.at_fill <= 0.0)
    is_closed = is_open & (side != 0.0) & (filled != side)
    is_new = (filled != 0.0) & (filled != side)
    closing_cost = _closing_cost(is_closed, before.position + money.gap, filled, info, money)
    pnl = trade.pnl + money.gap - closing_cost
    # At ruin the loss ends at the equity there was, and falls on the trade that is there last.
    all_lost = -money.before - money.interest
    closed_pnl = jnp.where(is_ruin & (filled == 0.0), trade.pnl + all_lost, pnl)
    rest = money.later - (money.order_cost - closing_cost) - money.exit_cost
    held_pnl = jnp.where(is_new, 0.0, pnl) + rest
    ruined_pnl = jnp.where(is_new, closing_cost - money.gap, trade.pnl) + all_lost
    held_pnl = jnp.where(is_ruin, ruined_pnl, held_pnl)
    equity = jnp.where(is_new, money.before, trade.equity)
    is_held = (filled != 0.0) | (~is_open & (side != 0.0))
    is_ended = is_held & (after.position == 0.0)
    closings = Closing(is_closed, closed_pnl, trade.equity), Closing(is_ended, held_pnl, equity)
    return closings, held_pnl, equity, is_new


def _close_fills(
    trade: OpenTrade,
    before: AccountState,
    after: AccountState,
    info: BarInfo,
    money: _Money,
    is_ruin: Array,
) -> tuple[tuple[Closing, Closing], Array, Array, Array]:
    """A stop within the bar ends one trade; the order at the close ends or begins another."""
    del after
    is_hit = is_ruin & False if info.exits is None else info.exits.reason > 0
    is_exit = is_hit & ~is_ruin
    side = jnp.where(is_exit, 0.0, jnp.sign(before.position))
    filled = jnp.sign(info.filled)
    exit_pnl = trade.pnl + money.gap - money.exit_cost
    pnl = jnp.where(is_exit, 0.0, exit_pnl + money.later)
    is_open = ~(money.at_fill <= 0.0)
    is_closed = is_open & (side != 0.0) & (filled != side)
    is_new = (filled != 0.0) & (filled != side)
    carried = jnp.where(is_hit, 0.0, before.position + money.gap)
    closing_cost = _closing_cost(is_closed, carried, filled, info, money)
    all_lost = -money.before - money.interest
    lost_pnl = trade.pnl + all_lost
    closed_pnl = jnp.where(is_ruin & (filled == 0.0), lost_pnl, pnl - closing_cost)
    left = jnp.where(is_new, 0.0, pnl) - (money.order_cost - closing_cost)
    ruined_pnl = jnp.where(is_new, closing_cost - money.gap - money.later + all_lost, lost_pnl)
    equity = jnp.where(is_new, money.before, trade.equity)
    is_ended = is_ruin & ((filled != 0.0) | (~is_open & (side != 0.0)))
    ended = Closing(
        is_exit | is_ended,
        jnp.where(is_ruin, ruined_pnl, exit_pnl),
        jnp.where(is_ruin, equity, trade.equity),
    )
    return (ended, Closing(is_closed, closed_pnl, trade.equity)), left, equity, is_new


def _closing_cost(
    is_closed: Array, carried: Array, filled: Array, info: BarInfo, money: _Money
) -> Array:
    """Returns what the order's cost is to the trade that it closes; a flip shares it."""
    turnover = info.turnover if info.exits is None else info.turnover - info.exits.turnover
    traded = turnover * money.at_fill
    is_flip = (filled != 0.0) & (traded > 0.0)
    share = jnp.minimum(jnp.abs(carried) / jnp.where(is_flip, traded, 1.0), 1.0)
    return jnp.where(is_closed, jnp.where(is_flip, share, 1.0) * money.order_cost, 0.0)


def add_closings(sums: TradeSums, closings: tuple[Closing, ...]) -> TradeSums:
    """Adds the trades that ended in a bar to the sums."""
    for is_closed, pnl, equity in closings:
        earned = jnp.where(is_closed, pnl / jnp.where(equity <= 0.0, 1.0, equity), 0.0)
        sums = TradeSums(
            num_closed=sums.num_closed + is_closed,
            num_wins=sums.num_wins + (earned > 0.0),
            num_losses=sums.num_losses + (earned < 0.0),
            gains=sums.gains + jnp.maximum(earned, 0.0),
            losses=sums.losses + jnp.maximum(-earned, 0.0),
        )
    return sums
