"""The partition function of Boltzmann machines: exact by enumeration, or annealed.

A layer of H binary units has 2^H states; state number n holds bit j of n in unit j. Sums over all
states run in blocks, so that memory stays small. Annealed importance sampling multiplies the
weights W of a machine by an inverse temperature that rises from 0, where the units are independent
and Z is known, to 1. Neal, Annealed importance sampling, 2001, eq. 10-11; Salakhutdinov and Murray,
On the quantitative analysis of deep belief networks, 2008, section 4.1.
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from densityjax._typing import Array, Key, Params
from densityjax.samplers import gibbs

MOST_ENUMERATED = 16  # units: 65,536 states
BLOCK = 4096  # states at a time
SCHEDULE_RANGE = 4.0  # half-width of the sigmoid schedule, logits: most steps near both ends


class AnnealedLogZ(NamedTuple):
    """An estimate of log Z from annealed chains.

    Attributes:
      log_z: [] log of the mean weight, nats; below the truth in expectation, by little where
        `standard_error` is small.
      standard_error: [] of `log_z`, `sqrt(1 / ESS - 1 / M)`, nats.
      effective_sample_size: [] chains that count, from 1 to M.
      log_weights: [M] logs of the weights, nats; the mean of their exponentials is Z.
    """

    log_z: Array
    standard_error: Array
    effective_sample_size: Array
    log_weights: Array

    def interval(self, num_errors: float = 2.0) -> tuple[float, float]:
        """Returns lower and upper end of `log_z` at so many standard errors, nats."""
        spread = num_errors * float(self.standard_error)
        return float(self.log_z) - spread, float(self.log_z) + spread


def check_enumerable(num_units: int, name: str = "num_hidden") -> None:
    """Raises ValueError where a layer has too many units for the sum over all its states."""
    if num_units > MOST_ENUMERATED:
        raise ValueError(
            f"{name} is {num_units}: accepted is at most {MOST_ENUMERATED} for exact sums over all "
            "states; see annealed_log_z"
        )


def states(num_units: int, index: Array) -> Array:
    """Returns the binary states [..., H] of the state numbers `index`, [...], as floats."""
    bits = jnp.asarray(index)[..., None] >> jnp.arange(num_units)
    return (bits & 1).astype(jnp.result_type(float))


def all_states(num_units: int) -> Array:
    """Returns all binary states of a layer, [2^H, H]; ValueError for more than 16 units."""
    check_enumerable(num_units)
    return states(num_units, jnp.arange(2**num_units))


def table(log_weight_fn: Callable[[Array], Array], num_units: int) -> Array:
    """Computes the log weight of every state of a layer, some thousand states at a time.

    Args:
      log_weight_fn: log weight of states, [B, H] to [B], nats.
      num_units: units H of the layer, at most 16.

    Returns:
      [2^H] log weights, nats, in order of the state numbers.

    Raises:
      ValueError: if there are too many units.
    """
    check_enumerable(num_units)
    num_states = 2**num_units
    blocks = jnp.arange(num_states).reshape(-1, min(num_states, BLOCK))
    return jax.lax.map(lambda each: log_weight_fn(states(num_units, each)), blocks).reshape(-1)


def sample_state(key: Key, log_weights: Array, num_units: int) -> Array:
    """Draws one state with probability proportional to `exp(log_weights)`.

    In two stages, half of the units each, so that no sum over all states is rounded and no draw
    needs as many random numbers as there are states.

    Args:
      key: random key, typed.
      log_weights: [2^H] log weights, nats, in order of the state numbers.
      num_units: units H of the layer.

    Returns:
      [H] zeros and ones.
    """
    high_key, low_key = jax.random.split(key)
    num_low = 2 ** (num_units // 2)
    grid = log_weights.reshape(-1, num_low)
    high = jax.random.categorical(high_key, jax.nn.logsumexp(grid, axis=1))
    low = jax.random.categorical(low_key, grid[high])
    return states(num_units, high * num_low + low)


def inverse_temperatures(num_steps: int) -> Array:
    """Returns [num_steps + 1] inverse temperatures from 0 to 1 on a sigmoid: dense at both ends."""
    ends = jnp.linspace(-SCHEDULE_RANGE, SCHEDULE_RANGE, num_steps + 1)
    curve = jax.nn.sigmoid(ends)
    return (curve - curve[0]) / (curve[-1] - curve[0])


def annealed_log_z(
    key: Key,
    model: Any,
    params: Params,
    *,
    num_chains: int = 256,
    num_steps: int = 500,
) -> AnnealedLogZ:
    """Estimates log Z of a restricted Boltzmann machine by annealing its weights from zero.

    Each chain starts at an exact draw of the machine without weights, and takes one Gibbs step at
    every inverse temperature, after its weight was updated.

    Args:
      key: random key, typed.
      model: a `GaussianBernoulliRBM` or a `BernoulliRBM`.
      params: its parameters.
      num_chains: chains M, at least 2.
      num_steps: inverse temperatures above 0, at least 1.

    Returns:
      The `AnnealedLogZ`, over visible units in the units of the data.

    Raises:
      ValueError: if a count is too small.
    """
    if num_chains < 2 or num_steps < 1:
        raise ValueError(
            f"num_chains is {num_chains} and num_steps {num_steps}: accepted are >= 2 and >= 1"
        )
    schedule = inverse_temperatures(num_steps)

    def at(beta: Array) -> Params:
        return params | {"kernel": beta * params["kernel"]}

    def one_chain(key: Key) -> Array:
        start_key, steps_key = jax.random.split(key)
        cold = at(jnp.zeros_like(schedule[0]))
        hidden = jnp.zeros(model.config.num_hidden)  # without weights the visible do not read it
        visible = model.sample_visible(start_key, cold, hidden)
        state = gibbs.GibbsState(visible, hidden)

        def one_step(carry: tuple, inputs: tuple) -> tuple[tuple, None]:
            state, log_weight = carry
            index, before, after = inputs
            rise = model.free_energy(at(before), state.position)
            rise -= model.free_energy(at(after), state.position)
            state, _ = gibbs.step(
                jax.random.fold_in(steps_key, index),
                state,
                lambda key, v: model.sample_hidden(key, at(after), v),
                lambda key, h: model.sample_visible(key, at(after), h),
            )
            return (state, log_weight + rise), None

        inputs = (jnp.arange(num_steps), schedule[:-1], schedule[1:])
        (_, log_weight), _ = jax.lax.scan(one_step, (state, jnp.zeros(())), inputs)
        return log_weight

    log_ratio = jax.vmap(one_chain)(jax.random.split(key, num_chains))
    log_weights = model.log_z_without_weights(params) + log_ratio
    log_sum = jax.nn.logsumexp(log_weights)
    size = jnp.exp(2.0 * log_sum - jax.nn.logsumexp(2.0 * log_weights))
    error = jnp.sqrt(jnp.maximum(1.0 / size - 1.0 / num_chains, 0.0))
    return AnnealedLogZ(log_sum - math.log(num_chains), error, size, log_weights)
