"""An energy that needs no fit: mean squared z-score of a state against its own moving moments.

Of a state x_t [D] with exponentially weighted mean m and variance v of the states BEFORE it,
`E_t = mean_d (x_td - m_d)^2 / v_d`. The moments are weighted means whose weights sum to one from
the first state on, so that nothing climbs from an arbitrary start, and E is NaN until enough states
are there. E is then held against the buffer of the last energies, itself not among them.

Energies of moving moments have heavier tails than a chi-square and are skewed: `z > 2` has no
nominal rate. `p_value`, the rank within the buffer, has: it is the one to alarm on.
"""

from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np

from densityjax import numerics
from densityjax._typing import Array, ArrayLike
from densityjax.regimes.energy_levels import LevelRule, level

WINDOW = 100  # energies of the buffer
DECAY = 0.1  # weight of the newest state in the moving moments
MIN_STATES = 20  # states before the first energy: twice the memory of the moments
MIN_ENERGIES = 20  # energies before the first z: a spread known to a sixth


class StreamingState(NamedTuple):
    """What the next state needs.

    Attributes:
      num_states: [] states seen.
      weight: [] sum of the exponential weights.
      mean: [D] weighted mean, units of the state.
      square: [D] weighted sum of squared deviations from it.
      energy: [W] last energies, the newest last; NaN where there were none yet.
    """

    num_states: Array
    weight: Array
    mean: Array
    square: Array
    energy: Array


class StreamingEnergy(NamedTuple):
    """Reading of one state, or of T with a leading axis on every field.

    Attributes:
      energy: mean squared z-score, about 1 on average where the law of states stays; NaN at first.
      z: standard deviations above the mean of the buffer; NaN at first.
      p_value: share of the buffer at or above this energy, itself counted, in (0, 1].
      is_anomalous: whether z is at or above the rule's crisis.
      regime: `energy_levels.Regime` of z.
      scale: `clip(1 - z / crisis, 0, 1)`, by which a position may be scaled; 0 while z is unknown.
    """

    energy: Array
    z: Array
    p_value: Array
    is_anomalous: Array
    regime: Array
    scale: Array


def start(dim: int, *, window: int = WINDOW) -> StreamingState:
    """Returns the state before the first of D numbers; also what a reset returns to.

    Args:
      dim: size D of a state, at least 1.
      window: energies of the buffer, at least 2.

    Returns:
      The `StreamingState`.

    Raises:
      ValueError: if a size is not accepted.
    """
    if dim < 1 or window < 2:
        raise ValueError(f"dim is {dim}, window {window}: accepted are >= 1 and >= 2")
    none = jnp.zeros(dim)
    return StreamingState(
        jnp.zeros((), jnp.int32), jnp.zeros(()), none, none, jnp.full(window, jnp.nan)
    )


def step(
    state: StreamingState,
    x: ArrayLike,
    *,
    decay: ArrayLike = DECAY,
    rule: LevelRule = LevelRule(),  # noqa: B008  an immutable NamedTuple of numbers
) -> tuple[StreamingState, StreamingEnergy]:
    """Reads one state against those before it, then lets it in; jittable.

    Args:
      state: of the state before, or `start(dim)`.
      x: [D] numbers, any units; one that is not finite gives NaN and is not let in.
      decay: weight of the newest state in the moving moments, in (0, 1).
      rule: where z is cut into regimes; margin, hold and exclusion are not read here.

    Returns:
      The state and the `StreamingEnergy`.
    """
    x = jnp.asarray(x, float)
    chex.assert_equal_shape([x, state.mean])
    is_valid = jnp.all(jnp.isfinite(x))
    # With q the sum of squared weights, E(x - m)^2 = (1 + q) sd^2 and Ev = (1 - q) sd^2: their
    # ratio tends to the factor below.
    kept = 1.0 - jnp.asarray(decay, float)
    variance = state.square / jnp.maximum(state.weight, 1.0) / kept
    size = numerics.SCALE_FLOOR * jnp.maximum(jnp.abs(state.mean), 1.0)
    energy = jnp.mean((x - state.mean) ** 2 / jnp.maximum(variance, size**2))
    energy = jnp.where(is_valid & (state.num_states >= MIN_STATES), energy, jnp.nan)
    reading = _read(energy, state.energy, rule)
    weight = kept * state.weight + 1.0
    mean = state.mean + (x - state.mean) / weight
    after = StreamingState(
        num_states=state.num_states + 1,
        weight=weight,
        mean=mean,
        square=kept * state.square + (x - state.mean) * (x - mean),
        energy=jnp.where(jnp.isnan(energy), state.energy, jnp.append(state.energy[1:], energy)),
    )
    return jax.tree.map(lambda new, old: jnp.where(is_valid, new, old), after, state), reading


def _read(energy: Array, past: Array, rule: LevelRule) -> StreamingEnergy:
    """Holds an energy against those before it."""
    num = jnp.sum(jnp.isfinite(past))
    is_ready = jnp.isfinite(energy) & (num >= MIN_ENERGIES)
    sd = jnp.nanstd(past, ddof=1)
    spread = jnp.maximum(sd, jnp.finfo(past.dtype).eps * jnp.nanmax(past, initial=0.0))
    spread = jnp.maximum(spread, jnp.finfo(past.dtype).tiny)
    z = jnp.clip((energy - jnp.nanmean(past)) / spread, -numerics.LARGEST_Z, numerics.LARGEST_Z)
    z = jnp.where(is_ready, z, jnp.nan)
    rank = (1.0 + jnp.sum(past >= energy)) / (1.0 + num)
    scale = jnp.clip(1.0 - z / rule.crisis, 0.0, 1.0)
    return StreamingEnergy(
        energy=energy,
        z=z,
        p_value=jnp.where(is_ready, rank, jnp.nan),
        is_anomalous=z >= rule.crisis,
        regime=level(rule, z),
        scale=jnp.where(is_ready, scale, 0.0),
    )


def streaming_energies(
    x: ArrayLike,
    *,
    window: int = WINDOW,
    decay: float = DECAY,
    rule: LevelRule = LevelRule(),  # noqa: B008  an immutable NamedTuple of numbers
) -> StreamingEnergy:
    """Reads T states, oldest first, as `step` one by one would.

    Args:
      x: [T, D] states in order of time.
      window: energies of the buffer.
      decay: weight of the newest state in the moving moments, in (0, 1).
      rule: where z is cut into regimes.

    Returns:
      A `StreamingEnergy` of NumPy arrays [T]; row t reads states up to t.

    Raises:
      ValueError: if the shape, the window or the decay is not accepted.
    """
    rows = np.asarray(x, float)
    if rows.ndim != 2 or not 0.0 < decay < 1.0:
        raise ValueError(f"x is {rows.shape} and decay {decay}: accepted are [T, D] and (0, 1)")
    begin = start(rows.shape[1], window=window)
    return jax.tree.map(np.asarray, _scan(begin, jnp.asarray(rows, float), decay, rule))


@jax.jit
def _scan(begin: StreamingState, x: Array, decay: ArrayLike, rule: LevelRule) -> StreamingEnergy:
    def one(state: StreamingState, row: Array) -> tuple[StreamingState, StreamingEnergy]:
        return step(state, row, decay=decay, rule=rule)

    return jax.lax.scan(one, begin, x)[1]
