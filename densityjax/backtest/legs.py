"""The two halves of a bar: an order at the fill price, and a position held up to the close.

Notation as in `engine`. With fills at the open the order comes first, else the holding does. Each
branch on `terms` and `bar` is made while tracing: what a backtest does not use is not compiled.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax.numpy as jnp

from densityjax._typing import Array
from densityjax.backtest import stops
from densityjax.backtest.account import or_one
from densityjax.backtest.inputs import Bar, Terms
from densityjax.backtest.sizing import limit_weights
from densityjax.backtest.stops import Exit, StopState
from densityjax.numerics import CAP_ROUNDINGS

Total = Callable[[Array], Array]  # sum over the assets of one account


class Fill(NamedTuple):
    """An order at the fill price, money."""

    position: Array  # after the order
    order: Array  # notional traded
    cost: Array
    reason: Array | None  # why it closed the position, None where only the rule can
    watch: StopState | None


class Holding(NamedTuple):
    """A position held up to the close, money; None where nothing of the kind can happen."""

    left: Array  # position after the exits; without drift its value at the start, or zero
    pnl: Array
    sold: Array | None  # notional of the exit
    cost: Array | None  # of the exit
    funding: Array | None  # received
    borrow: Array | None  # paid
    net: Array | None  # funding less borrow and the cost of exits, over all assets
    exit_: Exit | None
    watch: StopState | None


def trade(
    drifted: Array,
    at_fill: Array,
    target: Array,
    watch: StopState | None,
    bar: Bar,
    terms: Terms,
    *,
    fills_at_open: bool,
    total: Total,
) -> Fill:
    """Sends the order that leads from the drifted position to the target.

    Args:
      drifted: value of the position just before the order.
      at_fill: equity just before the order.
      target: the weight due, in equity.
      watch: state of the stops, or None.
      bar: the `Bar`.
      terms: `Terms`.
      fills_at_open: whether the fill price is the open, which resting stops meet too.
      total: sum over assets.

    Returns:
      The `Fill`.
    """
    # An infinite target is no number either: a cap must not make an ordinary weight of it.
    target = jnp.where(jnp.isfinite(target), target, jnp.nan)
    target = limit_weights(
        jnp.clip(target, terms.lowest, terms.highest),
        max_gross=terms.max_gross,
        max_net=terms.max_net,
        total=total,
    )
    reason, is_forced = None, None
    if watch is not None and terms.stops is not None:
        side = jnp.sign(drifted)
        gap_side = None
        if fills_at_open:
            reason = stops.at_open(watch, terms.stops, side, bar)
            is_forced = reason > 0.0
            gap_side = jnp.where(is_forced, side, 0.0)
        target, watch = stops.release(watch, terms.stops, target, gap_side)
    if bar.is_last is not None and not fills_at_open:
        target, is_forced = jnp.where(bar.is_last, 0.0, target), bar.is_last
        reason = jnp.where(bar.is_last, float(stops.END), jnp.zeros_like(target))
    wanted = target * at_fill
    distance = jnp.abs(wanted - drifted)
    is_kept = distance <= terms.band * at_fill
    if is_forced is not None:
        is_kept &= ~is_forced
    if bar.is_tradable is not None:
        is_kept |= ~bar.is_tradable
    position = jnp.where(is_kept, drifted, wanted)
    if bar.is_tradable is not None:  # a frozen asset counts by its target, and stays
        position = jnp.where(bar.is_tradable, position, wanted)
    position = _capped(position, at_fill, terms, total)
    if bar.is_tradable is not None:
        position = jnp.where(bar.is_tradable, position, drifted)
    order = jnp.abs(position - drifted)
    if watch is not None:
        price = bar.open if fills_at_open else bar.close
        watch = stops.after_order(watch, drifted, position, price, bar)
    return Fill(position, order, _rate(terms.cost_rate, bar, terms) * order, reason, watch)


def _capped(position: Array, equity: Array, terms: Terms, total: Total) -> Array:
    """Brings a position that the band keeps back to its caps; less than rounding is left out."""
    capped = jnp.clip(position, terms.lowest * equity, terms.highest * equity)
    if terms.max_gross is not None or terms.max_net is not None:
        unit = or_one(equity)
        caps = {"max_gross": terms.max_gross, "max_net": terms.max_net}
        capped = limit_weights(capped / unit, **caps, total=total) * unit
    slack = CAP_ROUNDINGS * jnp.finfo(position.dtype).eps * jnp.abs(position)
    return jnp.where(jnp.abs(capped - position) > slack, capped, position)


def hold(
    position: Array,
    unit: Array,
    earned: Array,
    move: Array,
    watch: StopState | None,
    bar: Bar,
    terms: Terms,
    *,
    fills_at_open: bool,
    drift: bool,
    total: Total,
) -> Holding:
    """Holds a position up to its stop or to the close, where it settles funding and borrowing.

    Args:
      position: value of the position at the start.
      unit: equity of which the position is its weight, positive.
      earned: what is added to that equity beside profits: interest, or minus the order's cost.
      move: simple return of the asset from the start to the close.
      watch: state of the stops, or None.
      bar: the `Bar`.
      terms: `Terms`.
      fills_at_open: whether the position was filled at the open, else it came through it.
      drift: whether the position drifts with the price.
      total: sum over assets.

    Returns:
      The `Holding`.
    """
    side, exit_ = jnp.sign(position), None
    if watch is not None and terms.stops is not None:
        exit_ = stops.check(watch, terms.stops, side, bar, from_open=not fills_at_open)
        watch = stops.block(watch, terms.stops, side, exit_.is_hit)
        watch = stops.after_bar(watch, side, bar)
    if bar.is_last is not None and fills_at_open:
        exit_ = _sell_at_the_end(exit_, side, bar)
    pnl = position * (move if exit_ is None else exit_.move(move))
    left = position + pnl if drift else position
    if exit_ is None and bar.funding is None and not _borrows(terms):
        return Holding(left, pnl, None, None, None, None, None, None, watch)
    at_close = unit + earned + total(pnl)
    value = left if drift else position * (at_close / unit)
    sold = cost = jnp.zeros_like(value)
    if exit_ is not None:
        sold = jnp.where(exit_.is_hit, jnp.abs(value), 0.0)
        cost = _exit_rate(exit_, bar, terms) * sold
        left, value = (jnp.where(exit_.is_hit, 0.0, money) for money in (left, value))
    funding = jnp.zeros_like(value) if bar.funding is None else -value * bar.funding
    borrow = _borrow(value, at_close, bar, terms, total)
    net = total(funding - borrow - cost)
    return Holding(left, pnl, sold, cost, funding, borrow, net, exit_, watch)


def _borrows(terms: Terms) -> bool:
    """Returns whether borrowing costs anything."""
    return not (terms.borrow_rate is None and terms.leverage_rate is None)


def _borrow(value: Array, equity: Array, bar: Bar, terms: Terms, total: Total) -> Array:
    """Returns what a bar's borrowing costs each asset: its short, and its share of the leverage."""
    cost = jnp.zeros_like(value)
    if terms.borrow_rate is not None:
        cost = cost + terms.borrow_rate * bar.elapsed * jnp.maximum(-value, 0.0)
    if terms.leverage_rate is not None:
        size = jnp.abs(value)
        gross = total(size)
        beyond = jnp.maximum(gross - jnp.maximum(equity, 0.0), 0.0)
        cost = cost + terms.leverage_rate * bar.elapsed * beyond * (size / or_one(gross))
    return cost


def _rate(rate: Array, bar: Bar, terms: Terms) -> Array:
    """Adds the slippage that grows with volatility to a cost per notional."""
    if terms.volatility_slope is None:
        return rate
    return rate + terms.volatility_slope * bar.volatility


def _exit_rate(exit_: Exit, bar: Bar, terms: Terms) -> Array:
    """Returns the cost per notional of an exit: taker, or maker where a limit order made it."""
    rate = terms.cost_rate
    if terms.stop_rate is not None and terms.limit_rate is not None:
        rate = jnp.where(exit_.reason == stops.END, terms.cost_rate, terms.stop_rate)
        rate = jnp.where(exit_.is_limit, terms.limit_rate, rate)
    return _rate(rate, bar, terms)


def _sell_at_the_end(exit_: Exit | None, side: Array, bar: Bar) -> Exit:
    """Adds the sale at the last close to the exit that stops make."""
    is_sold = bar.is_last & (side != 0.0)
    if exit_ is None:
        one = jnp.ones_like(side)
        return Exit(is_sold, one, jnp.where(is_sold, float(stops.END), 0.0), ~(one > 0.0))
    reason = jnp.where(is_sold & ~exit_.is_hit, float(stops.END), exit_.reason)
    return Exit(exit_.is_hit | is_sold, exit_.ratio, reason, exit_.is_limit & exit_.is_hit)
