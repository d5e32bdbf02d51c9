"""Trading rules: pure functions from what is known at a close to a target weight.

A rule is any function `(params, signal_t, state) -> (weight, state)` of scalars: `params` is a
NamedTuple of numbers (in a grid each becomes an axis), `signal_t` one row of the signals, all known
at the close of bar t, `weight` the target in equity, `state` what the rule remembers. Rules see no
prices and shift nothing: the engine fills their targets later. A rule of one's own:

>>> from typing import NamedTuple
>>> import jax.numpy as jnp
>>> from densityjax.backtest import rules
>>> class Params(NamedTuple):
...     threshold: float
>>> def reversal(params, signal_t, state):
...     strange = jnp.abs(signal_t.last_return) > params.threshold
...     return jnp.where(strange, -jnp.sign(signal_t.last_return), 0.0), state
>>> signals = rules.Signals(last_return=jnp.array([0.001, -0.05, 0.002, 0.04]))
>>> rules.apply_rule(reversal, Params(0.01), signals).tolist()
[0.0, 1.0, 0.0, -1.0]
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from densityjax._typing import Array, ArrayLike, Params
from densityjax.backtest.inputs import check_finite
from densityjax.backtest.sizing import volatility_size

Number = Array | float  # a scalar, or one value per configuration
Rule = Callable[[Any, Any, Any], tuple[Array, Any]]  # (params, signal_t, state) -> (weight, state)


class Signals(NamedTuple):
    """What rules may know at the close of each bar; a rule reads the fields that it needs.

    Attributes:
      expected_z: [T] conditional mean over conditional standard deviation of the next return.
      density_p_value: [T] conformal p-value of the state of bar t; small is strange.
      expected_shortfall: [T] mean loss of a unit long position in the worst cases of the next
        return, a positive fraction.
      return_std: [T] conditional standard deviation of the next return, a fraction.
      last_return: [T] return of bar t itself, from the close of t - 1 to that of t, a fraction.
      short_expected_shortfall: [T] mean loss of a unit short position in its worst cases; None
        takes the long one, which is right for a symmetric law.
    """

    expected_z: ArrayLike | None = None
    density_p_value: ArrayLike | None = None
    expected_shortfall: ArrayLike | None = None
    return_std: ArrayLike | None = None
    last_return: ArrayLike | None = None
    short_expected_shortfall: ArrayLike | None = None


class ThresholdParams(NamedTuple):
    """Parameters of `threshold_rule`, scalars.

    Attributes:
      entry_z: enter long above it and short below minus it, in standard deviations.
      exit_z: leave when `|expected_z|` falls below it or the sign turns; at most `entry_z`.
      min_p_value: flat where the p-value of the state is at or below it, a probability; 0 leaves
        the gate open.
      risk_budget: largest expected shortfall of the position, a fraction of equity.
      max_weight: largest absolute weight, in equity.
      allow_short: 1 to go short, 0 for long and flat only.
    """

    entry_z: Number
    exit_z: Number = 0.0
    min_p_value: Number = 0.0
    risk_budget: Number = np.inf
    max_weight: Number = 1.0
    allow_short: Number = 1.0


def entry_direction(expected_z: ArrayLike, entry_z: ArrayLike) -> Array:
    """Returns 1 where the forecast is above `entry_z`, -1 where it is below minus it, else 0.

    Args:
      expected_z: [...] forecast mean over standard deviation; NaN gives 0.
      entry_z: [...] threshold, 0 or more; at the threshold itself there is no entry.

    Returns:
      [...] direction, -1, 0 or 1.
    """
    z = jnp.asarray(expected_z)
    is_long, is_short = (z > 0.0) & (z > entry_z), (z < 0.0) & (-z > entry_z)
    return is_long.astype(z.dtype) - is_short.astype(z.dtype)


def is_ordinary(p_value: ArrayLike, min_p_value: ArrayLike) -> Array:
    """Returns whether a state passes the gate: its p-value is above the limit, not at it.

    An alarm is a p-value at or below its rate, so a gate at the rate shuts on the alarms.

    Args:
      p_value: [...] conformal p-values, in (0, 1]; NaN does not pass.
      min_p_value: [...] the limit; 0 lets every state through.

    Returns:
      [...] booleans.
    """
    return jnp.asarray(p_value) > min_p_value


def tail_risk_size(
    direction: ArrayLike,
    expected_shortfall: ArrayLike,
    risk_budget: ArrayLike,
    max_position: ArrayLike = 1.0,
    *,
    short_expected_shortfall: ArrayLike | None = None,
) -> Array:
    """Sizes a position so that its ES meets a budget: `direction min(max_position, budget / ES)`.

    Args:
      direction: [...] -1, 0 or 1.
      expected_shortfall: [...] ES of a unit long position per bar, a positive loss, as a fraction;
        a tail that does not lose (zero or below) is held at the cap, NaN gives NaN.
      risk_budget: [...] ES that the position may carry, as a fraction of equity per bar.
      max_position: [...] largest position, as a multiple of equity.
      short_expected_shortfall: [...] ES of a unit short position; None takes the long one.

    Returns:
      [...] signed position, as a multiple of equity.
    """
    direction, shortfall = jnp.asarray(direction), jnp.asarray(expected_shortfall)
    if short_expected_shortfall is not None:
        shortfall = jnp.where(direction < 0.0, short_expected_shortfall, shortfall)
    has_no_loss = shortfall <= 0.0
    affordable = risk_budget / jnp.where(has_no_loss, 1.0, shortfall)
    size = jnp.where(has_no_loss, max_position, jnp.minimum(max_position, affordable))
    return direction * size


def threshold_rule(params: ThresholdParams, signal_t: Signals, state: Array) -> tuple[Array, Array]:
    """Enters on a strong forecast, stays with hysteresis, sizes by the shortfall of its side.

    Args:
      params: `ThresholdParams`.
      signal_t: one row of `Signals` with `expected_z`, `density_p_value`, `expected_shortfall` and,
        for laws that are not symmetric, `short_expected_shortfall`.
      state: [] direction at the last close, -1, 0 or 1; start from 0.

    Returns:
      The weight of `tail_risk_size` and the direction.
    """
    z, p_value = jnp.asarray(signal_t.expected_z), jnp.asarray(signal_t.density_p_value)
    entry = entry_direction(z, params.entry_z)
    is_entry = (entry > 0.0) | ((entry < 0.0) & (jnp.asarray(params.allow_short) > 0))
    keeps = jnp.where(state * z >= params.exit_z, state, 0.0)
    direction = jnp.where(is_entry, entry, keeps)
    direction = jnp.where(is_ordinary(p_value, params.min_p_value), direction, 0.0).astype(z.dtype)
    # A NaN is above no threshold: without this line it would pass for "no trade".
    direction = direction + 0.0 * (z + p_value)
    weight = tail_risk_size(
        direction,
        jnp.asarray(signal_t.expected_shortfall),
        params.risk_budget,
        params.max_weight,
        short_expected_shortfall=signal_t.short_expected_shortfall,
    )
    return weight, direction


class ConstantParams(NamedTuple):
    """Parameter of `buy_and_hold`: `weight`, the target held in every bar, in equity."""

    weight: Number = 1.0


def buy_and_hold(params: ConstantParams, signal_t: Any, state: Any) -> tuple[Array, Any]:
    """Returns the same weight at every close; the first benchmark of every rule."""
    del signal_t
    return jnp.asarray(params.weight, float), state


class VolatilityParams(NamedTuple):
    """Parameters of `volatility_target`, scalars.

    Attributes:
      target_volatility: wanted standard deviation of the account's return PER BAR, a fraction.
      max_weight: largest weight, in equity.
    """

    target_volatility: Number
    max_weight: Number = 1.0


def volatility_target(params: VolatilityParams, signal_t: Signals, state: Any) -> tuple[Array, Any]:
    """Holds `min(max_weight, target_volatility / return_std)`, the second benchmark.

    Args:
      params: `VolatilityParams`.
      signal_t: one row of `Signals` with `return_std`.
      state: anything; handed on.

    Returns:
      The weight, never negative, and the state.

    References:
      Moreira and Muir, Volatility-Managed Portfolios, 2017, https://doi.org/10.1111/jofi.12513.
    """
    std = jnp.asarray(signal_t.return_std)
    return volatility_size(std, params.target_volatility, params.max_weight), state


class MomentumParams(NamedTuple):
    """Parameters of `momentum`, scalars.

    Attributes:
      decay: weight of the past in the average return, from 0 (last bar only) to 1 (excluded).
      max_weight: absolute weight, in equity.
      allow_short: 1 to go short, 0 for long and flat only.
    """

    decay: Number
    max_weight: Number = 1.0
    allow_short: Number = 1.0


def momentum(params: MomentumParams, signal_t: Signals, state: Array) -> tuple[Array, Array]:
    """Follows the sign of the exponentially weighted mean return.

    Args:
      params: `MomentumParams`.
      signal_t: one row of `Signals` with `last_return`.
      state: [] mean return so far, a fraction; start from 0.

    Returns:
      The weight, plus or minus `max_weight`, and the new mean.

    References:
      Moskowitz, Ooi and Pedersen, Time Series Momentum, 2012,
      https://doi.org/10.1016/j.jfineco.2011.11.003.
    """
    mean = params.decay * state + (1.0 - params.decay) * jnp.asarray(signal_t.last_return)
    lowest = jnp.where(jnp.asarray(params.allow_short) > 0, -1.0, 0.0)
    return params.max_weight * jnp.maximum(jnp.sign(mean), lowest.astype(mean.dtype)), mean


class RandomParams(NamedTuple):
    """Parameters of `random_rule`, scalars.

    Attributes:
      seed: whole number that fixes the draws; an axis of a grid makes independent rules.
      turnover: wanted mean traded notional per bar, both sides, in equity; at most
        `max_weight exposure (2 - exposure)`, which draws anew at every close.
      max_weight: absolute weight of a position, in equity.
      exposure: wanted share of closes with a position, in (0, 1].
    """

    seed: Number = 0
    turnover: Number = 0.1
    max_weight: Number = 1.0
    exposure: Number = 1.0


class RandomState(NamedTuple):
    """State of `random_rule`: closes seen so far, and the direction at the last one."""

    num_closes: Any = 0
    direction: Any = 0.0


def random_rule(
    params: RandomParams, signal_t: Any, state: RandomState
) -> tuple[Array, RandomState]:
    """Takes random directions with a given turnover and exposure; what luck alone would earn.

    At each close a new direction is drawn with a fixed probability: long and short with
    `exposure / 2` each, flat otherwise. Two draws differ by `exposure (2 - exposure)` on average.

    Args:
      params: `RandomParams`.
      signal_t: anything; not read.
      state: `RandomState`; start from `RandomState()`.

    Returns:
      The weight and the new state.
    """
    del signal_t
    key = jax.random.key(jnp.asarray(params.seed).astype(jnp.uint32))
    chance, pick = jax.random.uniform(jax.random.fold_in(key, state.num_closes), (2,))
    exposure = jnp.asarray(params.exposure)
    rate = params.turnover / (params.max_weight * exposure * (2.0 - exposure))
    drawn = jnp.where(pick < exposure / 2.0, 1.0, jnp.where(pick < exposure, -1.0, 0.0))
    is_new = (chance < rate) | (state.num_closes == 0)
    direction = jnp.where(is_new, drawn, state.direction).astype(jnp.result_type(float))
    return params.max_weight * direction, RandomState(state.num_closes + 1, direction)


def apply_rule(
    rule: Rule, params: Params, signals: Any, *, init_state: Any = 0.0, warmup: int = 0
) -> Array:
    """Runs one rule with one set of parameters over all bars.

    Args:
      rule: the rule, `(params, signal_t, state) -> (weight, state)`.
      params: its parameters, scalars.
      signals: pytree of [T] arrays, row t known at the close of bar t.
      init_state: the rule's state before bar 0.
      warmup: number of first bars that the rule does not see; they may be NaN.

    Returns:
      [T] target weights, in equity, decided at each close; zero within the warm-up.

    Raises:
      ValueError: if a signal is not finite after the warm-up.
    """
    check_signals(signals, warmup)
    signals, params, init_state = jax.tree.map(_as_array, (signals, params, init_state))
    return _apply(rule, params, signals, init_state, warmup)


def check_signals(signals: Any, warmup: int) -> None:
    """Raises a ValueError that names the first signal that is not finite after the warm-up."""
    for path, leaf in jax.tree_util.tree_leaves_with_path(signals):
        check_finite(f"signals{jax.tree_util.keystr(path)}", leaf, first=warmup)


def decide(
    rule: Rule, params: Params, signal_t: Any, state: Any, is_awake: Array
) -> tuple[Array, Any]:
    """Asks the rule for a target; before its warm-up is over it is flat and learns nothing."""
    weight, new_state = rule(params, signal_t, state)
    state = jax.tree.map(lambda new, old: jnp.where(is_awake, new, old), new_state, state)
    return jnp.where(is_awake, weight, 0.0), state


@functools.partial(jax.jit, static_argnames="rule")
def _apply(rule: Rule, params: Params, signals: Any, init_state: Any, warmup: ArrayLike) -> Array:
    """Scans `decide` over the rows of the signals."""
    num_bars = jax.tree.leaves(signals)[0].shape[0]

    def one_bar(state: Any, xs: tuple) -> tuple[Any, Array]:
        weight, state = decide(rule, params, xs[0], state, xs[1])
        return state, weight

    return jax.lax.scan(one_bar, init_state, (signals, jnp.arange(num_bars) >= warmup))[1]


def _as_array(leaf: ArrayLike) -> Array:
    """Puts a leaf on the device in jax's default precision; arrays of jax are left as they are."""
    return leaf if isinstance(leaf, jax.Array) else jnp.asarray(np.asarray(leaf))
