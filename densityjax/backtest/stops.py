"""Stops inside a bar: levels of price and time at which a position ends without its rule.

Notation: s is the side of the position, +1 long and -1 short; comparisons are made on s times the
price, so that one inequality serves both sides. The path within a bar is unknown and taken to be
the worst one: the open comes first, then a stop is met before a profit, and the trailing stop
knows the best price up to the PREVIOUS bar only. Levels hang on the average price paid.
"""

from typing import TYPE_CHECKING, NamedTuple

import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from densityjax._typing import Array, ArrayLike

if TYPE_CHECKING:
    from densityjax.backtest.inputs import Bar

# Why a position ended; the numbers are those in `Exits`, the last two are given by the record.
REASONS = ("", "stop", "profit", "trailing", "time", "end", "signal", "ruin")
NONE, STOP, PROFIT, TRAILING, TIME, END, SIGNAL, RUIN = range(len(REASONS))
TRIGGERS = ("intrabar", "close")
DISTANCES = ("stop_loss", "take_profit", "trailing", "atr_stop", "atr_profit", "max_bars")


class Stops(NamedTuple):
    """Stops of a backtest; None or infinity is off, every field but `trigger` may be swept.

    Attributes:
      stop_loss: distance below (for a short: above) the average entry, a fraction of it.
      take_profit: distance above (for a short: below) the average entry, a fraction of it.
      trailing: distance behind the best price since the entry, a fraction of that price.
      trailing_activation: gain over the entry from which the trailing stop is active, a fraction;
        None is always.
      atr_stop: as `stop_loss`, in average true ranges: the value known when the entry was decided
        (without `lag`), kept for the life of the position.
      atr_profit: as `take_profit`, in average true ranges.
      max_bars: number of bars after which a position ends, at the close of the last of them.
      reenter: 1 to follow the target again from the next fill on; 0 stays flat after a stop until
        the rule's own target changes its sign or returns to zero.
      trigger: 'intrabar' (a resting order, needs highs and lows) or 'close' (looks at closes only
        and fills at the close that triggers it, as optimistic as `fill='same_close'`).
    """

    stop_loss: ArrayLike | None = None
    take_profit: ArrayLike | None = None
    trailing: ArrayLike | None = None
    trailing_activation: ArrayLike | None = None
    atr_stop: ArrayLike | None = None
    atr_profit: ArrayLike | None = None
    max_bars: ArrayLike | None = None
    reenter: ArrayLike = False
    trigger: str = "intrabar"


class StopTerms(NamedTuple):
    """`Stops` as arrays, scalars or one value per configuration; None is off at no cost."""

    stop_loss: Array | None
    take_profit: Array | None
    trailing: Array | None
    trailing_activation: Array | None
    atr_stop: Array | None
    atr_profit: Array | None
    max_bars: Array | None
    stays_flat: Array  # 1 where a side stays blocked after its stop, 0 to enter again


class StopState(NamedTuple):
    """What the next bar needs to know of a position's stops; prices in quote currency.

    Attributes:
      entry: average price paid for the position; the last one while flat.
      blocked: side that its stop has closed and that the target still asks for, else 0.
      extreme: best price since the entry, None without a trailing stop.
      age: bars since the entry, None without a limit of time.
      atr: average true range known before the entry, None where it is not used.
    """

    entry: Array
    blocked: Array
    extreme: Array | None
    age: Array | None
    atr: Array | None


class Exit(NamedTuple):
    """An exit within a bar.

    Attributes:
      is_hit: whether there is one.
      ratio: its price over the close of the bar; 1 or anything where there is none.
      reason: index into `REASONS`, 0 for none.
      is_limit: whether a resting limit order made it, which pays the maker's fee.
    """

    is_hit: Array
    ratio: Array
    reason: Array
    is_limit: Array

    def move(self, to_close: Array) -> Array:
        """Cuts a simple return that ends at the close short at the exit."""
        return jnp.where(self.is_hit, (1.0 + to_close) * self.ratio - 1.0, to_close)


class _Levels(NamedTuple):
    """Prices times the side: the stop is hit at or below its level, the profit at or above."""

    stop: Array
    is_trailing: Array
    profit: Array


def checked(stops: Stops | None) -> Stops | None:
    """Returns stops that are as they should be, or None where no stop is on.

    Args:
      stops: `Stops` or None.

    Returns:
      The same, or None.

    Raises:
      ValueError: if `stops` is no `Stops`, a distance is not positive, or the trigger is unknown.
    """
    if stops is None:
        return None
    if not isinstance(stops, Stops):
        raise ValueError(f"stops is {stops!r}; accepted are None and a Stops")
    if stops.trigger not in TRIGGERS:
        raise ValueError(f"stops.trigger is {stops.trigger!r}; accepted are {TRIGGERS}")
    for name in (*DISTANCES, "trailing_activation"):
        value = getattr(stops, name)
        if value is None or isinstance(value, Tracer):
            continue
        # Of the right side rather than the wrong one: NaN is refused too.
        array, may_be_zero = np.asarray(value, np.float64), name == "trailing_activation"
        if not ((array > 0.0) | (may_be_zero & (array == 0.0))).all():
            least = "at least 0" if may_be_zero else "above 0"
            raise ValueError(f"stops.{name} is {value}; accepted are None and numbers {least}")
    return None if all(getattr(stops, name) is None for name in DISTANCES) else stops


def make_stops(stops: Stops | None, dtype: jnp.dtype | None = None) -> StopTerms | None:
    """Turns `Stops`, scalars or [N] arrays, into arrays; None where no stop is on."""
    stops = checked(stops)
    if stops is None:
        return None
    given = {name: getattr(stops, name) for name in (*DISTANCES, "trailing_activation")}
    if stops.trailing is None:
        given["trailing_activation"] = None
    elif stops.trailing_activation is None:
        given["trailing_activation"] = -np.inf
    stays_flat = 1.0 - jnp.asarray(stops.reenter, dtype or float)
    as_array = {
        name: None if value is None else jnp.asarray(value, dtype or float)
        for name, value in given.items()
    }
    return StopTerms(**as_array, stays_flat=stays_flat)


def uses_range(stops: Stops | StopTerms | None) -> bool:
    """Returns whether a stop is given in average true ranges."""
    return stops is not None and not (stops.atr_stop is None and stops.atr_profit is None)


def start(terms: StopTerms | None, shape: tuple[int, ...], dtype: jnp.dtype) -> StopState | None:
    """Returns the state before bar 0, where nothing is held; only what the terms need exists."""
    if terms is None:
        return None
    ones = jnp.ones(shape, dtype)
    return StopState(
        entry=ones,
        blocked=0.0 * ones,
        extreme=None if terms.trailing is None else ones,
        age=None if terms.max_bars is None else 0.0 * ones,
        atr=ones if uses_range(terms) else None,
    )


def _levels(state: StopState, terms: StopTerms, side: Array, bar: "Bar") -> _Levels:
    """Returns the nearest stop and the nearest profit of a position, infinite where off."""
    entry = state.entry
    at_entry = side * entry
    gain = _nearest(entry, terms.take_profit, terms.atr_profit, state.atr)
    loss = _nearest(entry, terms.stop_loss, terms.atr_stop, state.atr)
    scale = 1.0 if bar.stop_scale is None else bar.stop_scale
    fixed, profit = at_entry - loss * scale, at_entry + gain
    activation = terms.trailing_activation
    if terms.trailing is None or activation is None or state.extreme is None:
        return _Levels(fixed, jnp.zeros_like(side, bool), profit)
    at_best = side * state.extreme
    is_active = at_best - at_entry >= activation * entry
    trailing = at_best - state.extreme * terms.trailing * scale
    is_trailing = is_active & (trailing > fixed)
    return _Levels(jnp.where(is_trailing, trailing, fixed), is_trailing, profit)


def _nearest(
    entry: Array, fraction: Array | None, ranges: Array | None, atr: Array | None
) -> Array:
    """Returns the smaller distance of two, in quote currency; infinite where both are off."""
    distance = jnp.full_like(entry, jnp.inf) if fraction is None else entry * fraction
    if ranges is None or atr is None:
        return distance
    # Infinity times a range of zero would be NaN, and switch the other stop off as well.
    return jnp.minimum(distance, jnp.where(ranges < jnp.inf, ranges * atr, jnp.inf))


def at_open(state: StopState, terms: StopTerms, side: Array, bar: "Bar") -> Array:
    """Returns the reason why the open ends a carried position, 0 for none.

    The resting order meets the first price of the bar: beyond its level it is filled there, before
    or instead of what the rule wanted at that open.

    Args:
      state: the position's `StopState`.
      terms: `StopTerms`.
      side: -1, 0 or 1.
      bar: the `Bar`.

    Returns:
      Index into `REASONS`.
    """
    if bar.high is None:
        return jnp.zeros_like(side)
    levels, price = _levels(state, terms, side, bar), side * bar.open
    reason = jnp.where(levels.is_trailing, float(TRAILING), float(STOP))
    reason = jnp.where(price <= levels.stop, reason, 0.0)
    reason = jnp.where(price >= levels.profit, float(PROFIT), reason)
    return jnp.where(_may_end(side, bar), reason, 0.0)


def check(state: StopState, terms: StopTerms, side: Array, bar: "Bar", *, from_open: bool) -> Exit:
    """Finds where a position held within a bar ends, by the worst path.

    Args:
      state: the position's `StopState`.
      terms: `StopTerms`.
      side: -1, 0 or 1.
      bar: the `Bar`, with the prices that the trigger needs.
      from_open: whether the position came through the open; otherwise it was filled there.

    Returns:
      The `Exit`.
    """
    levels, close = _levels(state, terms, side, bar), side * bar.close
    if bar.high is None:
        is_stop, is_profit = close <= levels.stop, close >= levels.profit
        is_limit, price = jnp.zeros_like(is_stop), close
    else:
        worst = jnp.minimum(side * bar.low, side * bar.high)
        best = jnp.maximum(side * bar.low, side * bar.high)
        is_stop, is_profit = worst <= levels.stop, best >= levels.profit
        is_limit = is_profit & ~is_stop
        price = jnp.where(is_stop, levels.stop, levels.profit)
        if from_open:
            opened = side * bar.open
            gaps_up, gaps_down = opened >= levels.profit, opened <= levels.stop
            price = jnp.where(gaps_up | gaps_down, opened, price)
            is_stop = (is_stop | gaps_down) & ~gaps_up
            is_profit, is_limit = is_profit | gaps_up, is_limit & ~(gaps_up | gaps_down)
    stop_reason = jnp.where(levels.is_trailing, float(TRAILING), float(STOP))
    reason = jnp.where(is_stop, stop_reason, jnp.where(is_profit, float(PROFIT), 0.0))
    if terms.max_bars is not None and state.age is not None:
        is_late = (reason == 0.0) & (state.age + bar.elapsed >= terms.max_bars)
        reason = jnp.where(is_late, float(TIME), reason)
        price = jnp.where(is_late, close, price)
    reason = jnp.where(_may_end(side, bar), reason, 0.0)
    ratio = jnp.where(reason > 0.0, price, close) / jnp.where(close == 0.0, 1.0, close)
    return Exit(reason > 0.0, ratio, reason, is_limit)


def _may_end(side: Array, bar: "Bar") -> Array:
    """Returns whether there is a position, and a market in which it can be closed."""
    return side != 0.0 if bar.is_tradable is None else (side != 0.0) & bar.is_tradable


def block(state: StopState, terms: StopTerms, side: Array, is_hit: Array) -> StopState:
    """Remembers the side that a stop has closed within a bar."""
    return state._replace(blocked=jnp.where(is_hit, side * terms.stays_flat, state.blocked))


def release(
    state: StopState, terms: StopTerms, target: Array, gap_side: Array | None
) -> tuple[Array, StopState]:
    """Keeps a target from a side that its stop has closed, until it leaves that side by itself.

    Args:
      state: `StopState`.
      terms: `StopTerms`.
      target: the weight due, after its caps.
      gap_side: side that the open of this bar has just closed, 0 for none; None at a close.

    Returns:
      The target, zero where its side is blocked, and the new state.
    """
    blocked = state.blocked
    if gap_side is not None:
        blocked = jnp.where(gap_side != 0.0, gap_side, blocked)
    is_blocked = (jnp.sign(target) == blocked) & (blocked != 0.0)
    still = jnp.where(is_blocked, blocked * terms.stays_flat, 0.0)
    return jnp.where(is_blocked, 0.0, target), state._replace(blocked=still)


def after_order(
    state: StopState, held: Array, filled: Array, price: Array, bar: "Bar"
) -> StopState:
    """Starts the stops of a new position, and averages the entry of one that is added to.

    Args:
      state: `StopState`.
      held: value of the position just before the order, money.
      filled: its value just after the order.
      price: price of the fill, in quote currency.
      bar: the `Bar`.

    Returns:
      The new state; a partial sale leaves the average entry as it is.
    """
    is_new = (filled != 0.0) & (jnp.sign(filled) != jnp.sign(held))
    old_share = jnp.abs(held) / jnp.where(filled == 0.0, 1.0, jnp.abs(filled))
    is_added = ~is_new & (old_share < 1.0) & (filled != 0.0)
    average = price + (state.entry - price) * old_share
    entry = jnp.where(is_new, price, jnp.where(is_added, average, state.entry))
    return StopState(
        entry=entry,
        blocked=state.blocked,
        extreme=None if state.extreme is None else jnp.where(is_new, price, state.extreme),
        age=None if state.age is None else jnp.where(is_new, 0.0, state.age),
        atr=None if state.atr is None else jnp.where(is_new, bar.atr, state.atr),
    )


def after_bar(state: StopState, side: Array, bar: "Bar") -> StopState:
    """Moves the best price and the age of a position through a bar that it was held in."""
    extreme, age = state.extreme, state.age
    if extreme is not None:
        low, high = (bar.close, bar.close) if bar.high is None else (bar.low, bar.high)
        best = jnp.where(side > 0.0, jnp.maximum(extreme, high), jnp.minimum(extreme, low))
        extreme = jnp.where(side == 0.0, extreme, best)
    return state._replace(extreme=extreme, age=None if age is None else age + bar.elapsed)
