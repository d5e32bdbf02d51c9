"""The account: its state between bars, what one bar did to it, and the path of a whole backtest.

Money is in units of the equity before bar 0, weights and returns are fractions of equity.
"""

from typing import NamedTuple

import jax.numpy as jnp

from densityjax._typing import Array
from densityjax.backtest import stops as stops_
from densityjax.backtest.stops import StopState, StopTerms


class AccountState(NamedTuple):
    """What the next bar needs to know of the account, in units of the equity before bar 0.

    Attributes:
      equity: cash plus marked position at the last close; zero means ruined, and stays zero.
      position: marked value of the position at the last close, negative when short.
      stops: state of the stops, None where there are none.
    """

    equity: Array
    position: Array
    stops: StopState | None = None


class Exits(NamedTuple):
    """Fills within the bars that no target asked for, and why targets' orders closed positions.

    Attributes:
      reason: [T] index into `stops.REASONS` of the exit within the bar; 0 for none.
      order_reason: [T] the same for the order at the bar's fill price, where a stop met the open
        or the last close sold; 0 for the rule's own orders.
      turnover: [T] notional of the exit within the bar, fraction of equity at the bar's order.
      cost: [T] what it cost, money.
      ratio: [T] its price over the close of the bar; 1 where there is none.
    """

    reason: Array
    order_reason: Array
    turnover: Array
    cost: Array
    ratio: Array


class BarInfo(NamedTuple):
    """What happened to the account in one bar; never fed back. Units as in `BacktestResult`."""

    net_return: Array
    turnover: Array
    filled: Array  # weight after the order, as a fraction of the equity just before it
    cost: Array
    gap_pnl: Array
    body_pnl: Array
    interest: Array
    funding: Array
    borrow: Array
    is_entry: Array  # whether the order began a position of a new sign
    exits: Exits | None  # None without stops and without a sale at the end


class BacktestResult(NamedTuple):
    """Outcome of one backtest over T bars; money is in units of the equity before bar 0.

    In every bar but that of ruin, where the loss stops at the equity there is, `equity[t] -
    equity[t - 1] = gap_pnl[t] + body_pnl[t] + interest[t] + funding[t] - borrow[t] - cost[t]`.

    Attributes:
      equity: [T] cash plus marked position at the close of each bar; 1 before bar 0.
      returns: [T] net simple return of each bar, as a fraction of equity.
      weights: [T] position at each close, after any trade at that close, fraction of equity.
      held: [T] weight that earned each bar: that after the fill at its open, or the carried one.
      filled: [T] weight after each bar's order, as a fraction of the equity just before it.
      turnover: [T] traded notional of each bar (both sides), fraction of equity before costs.
      cost: [T] trading costs of each bar, those of stops too, money.
      gap_pnl: [T] gross profit of the carried position up to the fill, money.
      body_pnl: [T] gross profit of the new position from the fill to the close, money.
      interest: [T] what cash earned, money.
      funding: [T] what funding paid to the account, money; negative when it paid.
      borrow: [T] what borrowing cost, money.
      fill_ratio: [T] fill price of each bar's order over its close.
      exits: `Exits` of [T] arrays; None without stops and without a sale at the end.
      fills_at_open: [] whether orders filled at the open of their bar, before its stops.
      is_ruined: [] whether equity was ever at or below zero.
      is_finite: [] False where a target or a price used was NaN or infinite; the rest is then void.
    """

    equity: Array
    returns: Array
    weights: Array
    held: Array
    filled: Array
    turnover: Array
    cost: Array
    gap_pnl: Array
    body_pnl: Array
    interest: Array
    funding: Array
    borrow: Array
    fill_ratio: Array
    exits: Exits | None
    fills_at_open: Array
    is_ruined: Array
    is_finite: Array


def start(
    shape: tuple[int, ...] = (),
    dtype: jnp.dtype | None = None,
    stops: StopTerms | None = None,
) -> AccountState:
    """Returns the account before bar 0, equity 1 and all in cash, once per entry of `shape`.

    Args:
      shape: () for one account, (N,) for N configurations.
      dtype: floating-point type; the default of jax where None.
      stops: `Terms.stops`, whose state begins here too.

    Returns:
      The `AccountState`.
    """
    equity = jnp.ones(shape, dtype or float)
    state = stops_.start(stops, shape, equity.dtype)
    return AccountState(equity, jnp.zeros_like(equity), state)


def rebase(state: AccountState) -> AccountState:
    """Returns the account in units of its own equity, so that long histories never overflow."""
    unit = or_one(state.equity)
    return state._replace(equity=state.equity / unit, position=state.position / unit)


def or_one(money: Array) -> Array:
    """Returns a divisor: money, or 1 where there is none and the quotient is of no use."""
    return jnp.where(money <= 0.0, 1.0, money)
