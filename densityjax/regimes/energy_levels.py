"""How high an energy is against its own past: a robust z-score, a regime, and a trend.

`z_t = (E_t - median) / (1.4826 MAD)` over the energies of bars strictly BEFORE t: the energy that
is judged never hides itself, whereas in its own mean and standard deviation no z exceeds
sqrt(n - 1). Regimes are cut at one record of levels. A rise is taken at once; a fall may have to
clear a margin and to wait, so that regimes do not flicker. Before enough energies are there z is
NaN and the regime unknown: it is for the reader to hold no position then.

Energies of different fits are not comparable: start anew after a refit, or bring a new reference.
"""

import enum
import functools
import math
from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np

from densityjax import numerics
from densityjax._typing import Array, ArrayLike, NumpyArray

NORMAL_MAD = 1.4826  # standard deviations of a normal law in its median absolute deviation
LOOKBACK = 20  # energies that a z-score is taken against
MIN_HISTORY = 5  # fewest of them
TREND_BARS = 5  # energies that a trend looks at


class Regime(enum.IntEnum):
    """Energy regime of a bar."""

    UNKNOWN = -1  # too few energies before it, or none of its own
    CALM = 0
    NORMAL = 1
    ELEVATED = 2
    CRISIS = 3


class Trend(enum.IntEnum):
    """Where energy has been going."""

    DECREASING = -1
    STABLE = 0
    INCREASING = 1
    UNKNOWN = 2  # too few energies before the bar, or none of its own


class LevelRule(NamedTuple):
    """Where z-scores are cut; numbers, each of which may be an array axis of a `vmap`.

    Attributes:
      normal: z from which on a bar is normal; calm below.
      elevated: z from which on it is elevated.
      crisis: z from which on it is a crisis, and anomalous.
      margin: how far z must be below a cut before the regime falls under it, in z.
      min_hold: bars that a regime lasts at least before it may fall.
      exclude_from: energies with a z from here on stay out of the past that later ones are held
        against, so that a lasting rise stays visible; infinity lets all in. It needs a past that is
        ordinary: a market that has changed for good is then in crisis for good.
    """

    normal: ArrayLike = -1.0
    elevated: ArrayLike = 1.0
    crisis: ArrayLike = 2.0
    margin: ArrayLike = 0.0
    min_hold: ArrayLike = 0
    exclude_from: ArrayLike = math.inf


class LevelState(NamedTuple):
    """What the next bar needs.

    Attributes:
      energy: [L] last energies let in, the newest last; NaN where there were none yet.
      regime: [] regime of the last bar, an integer.
      num_held: [] bars that it has lasted.
      recent: [W] last energies, let in or not, the newest last; NaN where there were none yet.
    """

    energy: Array
    regime: Array
    num_held: Array
    recent: Array


class EnergyLevel(NamedTuple):
    """Reading of one bar, or of T bars with a leading axis on every field.

    Attributes:
      z: robust z-score against strictly earlier energies, NaN where they are too few.
      regime: a `Regime`.
      trend: a `Trend`.
    """

    z: Array
    regime: Array
    trend: Array


def start(*, lookback: int = LOOKBACK, trend_bars: int = TREND_BARS) -> LevelState:
    """Returns the state before the first bar.

    Args:
      lookback: energies that a z-score is taken against, at least 2.
      trend_bars: energies from the first to the last of which a trend is read, at least 2.

    Returns:
      The `LevelState`.

    Raises:
      ValueError: if a size is below 2.
    """
    if lookback < 2 or trend_bars < 2:
        raise ValueError(f"lookback is {lookback}, trend_bars {trend_bars}: accepted are >= 2")
    unknown = jnp.asarray(Regime.UNKNOWN, jnp.int32)
    empty = functools.partial(jnp.full, fill_value=jnp.nan)
    return LevelState(empty(lookback), unknown, jnp.zeros((), jnp.int32), empty(trend_bars))


def past_scale(past: Array) -> tuple[Array, Array]:
    """Returns median and robust standard deviation of earlier energies.

    Args:
      past: [L] energies, nats; NaN where there is none.

    Returns:
      [] median and [] 1.4826 MAD, nats, positive: a past without spread has that of its rounding,
      from which any other energy is far away. NaN without any energy.
    """
    centre = jnp.nanmedian(past)
    scale = NORMAL_MAD * jnp.nanmedian(jnp.abs(past - centre))
    rounding = jnp.finfo(past.dtype).eps * jnp.nanmax(jnp.abs(past), initial=0.0)
    floor = jnp.maximum(numerics.FLAT_SHARE * rounding, jnp.finfo(past.dtype).tiny)
    return centre, jnp.maximum(scale, floor)


def past_z(energy: ArrayLike, past: Array, *, min_history: ArrayLike = MIN_HISTORY) -> Array:
    """Returns the robust z-score of an energy against earlier ones.

    Args:
      energy: [] energy, nats.
      past: [L] earlier energies, nats; NaN where there is none.
      min_history: fewest that count.

    Returns:
      [] z-score, no unit, held within +-`numerics.LARGEST_Z`; NaN where the past is too short.
    """
    energy = jnp.asarray(energy, float)
    chex.assert_rank([energy, past], [0, 1])
    centre, scale = past_scale(past)
    z = jnp.clip((energy - centre) / scale, -numerics.LARGEST_Z, numerics.LARGEST_Z)
    return jnp.where(jnp.sum(jnp.isfinite(past)) >= min_history, z, jnp.nan)


def level(rule: LevelRule, z: ArrayLike) -> Array:
    """Returns the `Regime` of z-scores [...], an integer; a cut belongs to the regime above."""
    z = jnp.asarray(z, float)
    above = sum((z >= cut).astype(jnp.int32) for cut in (rule.normal, rule.elevated, rule.crisis))
    return jnp.where(jnp.isnan(z), int(Regime.UNKNOWN), jnp.asarray(above))


def trend(first: ArrayLike, last: ArrayLike, *, threshold: float = 0.5) -> Array:
    """Returns the `Trend` between two energies [...] over one robust standard deviation.

    Args:
      first: [...] the earlier energy, over the spread of the past; NaN gives unknown.
      last: [...] the later one, likewise.
      threshold: change beyond which the trend is not stable, no unit.

    Returns:
      [...] integers.
    """
    change = jnp.asarray(last, float) - jnp.asarray(first, float)
    rising = (change > threshold).astype(jnp.int32) - (change < -threshold).astype(jnp.int32)
    return jnp.where(jnp.isnan(change), int(Trend.UNKNOWN), rising)


def step(
    rule: LevelRule, state: LevelState, energy: ArrayLike, *, min_history: ArrayLike = MIN_HISTORY
) -> tuple[LevelState, EnergyLevel]:
    """Reads one bar and then lets its energy into the past; jittable.

    Args:
      rule: the levels.
      state: of the bar before, or `start()`.
      energy: [] energy of this bar, nats; NaN leaves regime and past as they were, with z NaN.
      min_history: earlier energies below which z is NaN, at least 2.

    Returns:
      The state and the `EnergyLevel`.
    """
    energy = jnp.asarray(energy, float)
    z = past_z(energy, state.energy, min_history=min_history)
    regime = _held(rule, state, z)
    is_known = jnp.isfinite(energy)
    enters = is_known & ~(z >= rule.exclude_from)
    pushed = jnp.append(state.energy[1:], energy)
    recent = jnp.where(is_known, jnp.append(state.recent[1:], energy), state.recent)
    after = LevelState(
        energy=jnp.where(enters, pushed, state.energy),
        regime=jnp.where(is_known, regime, state.regime),
        num_held=jnp.where(
            is_known, jnp.where(regime == state.regime, state.num_held + 1, 1), state.num_held
        ),
        recent=recent,
    )
    # Both ends against one past: a steady rise is one, though each z of it is the same.
    ends = jnp.where(
        jnp.isnan(z), jnp.nan, recent[jnp.array([0, -1])] / past_scale(state.energy)[1]
    )
    regime = jnp.where(is_known, regime, int(Regime.UNKNOWN))
    return after, EnergyLevel(z, regime, trend(ends[0], ends[1]))


def _held(rule: LevelRule, state: LevelState, z: Array) -> Array:
    """Returns the regime: up at once, down past the margin and after the hold."""
    now = level(rule, z)
    # Under the margin means: even lifted by it, z is below the cut.
    lowered = jnp.minimum(level(rule, z + rule.margin), state.regime)
    may_fall = state.num_held >= rule.min_hold
    falls = jnp.where(may_fall, lowered, state.regime)
    is_open = (state.regime == Regime.UNKNOWN) | (now == Regime.UNKNOWN) | (now >= state.regime)
    return jnp.where(is_open, now, falls)


def energy_levels(
    energy: ArrayLike,
    *,
    rule: LevelRule = LevelRule(),  # noqa: B008  an immutable NamedTuple of numbers
    lookback: int = LOOKBACK,
    min_history: int = MIN_HISTORY,
    trend_bars: int = TREND_BARS,
) -> EnergyLevel:
    """Reads T bars, oldest first, as `step` one by one would.

    Args:
      energy: [T] energies of one fit in order of time, nats; NaN where there is none.
      rule: the levels, scalars.
      lookback: energies that a z-score is taken against.
      min_history: fewest of them, at least 2 and at most `lookback`.
      trend_bars: energies that a trend spans.

    Returns:
      An `EnergyLevel` of NumPy arrays [T]; row t reads energies up to t.

    Raises:
      ValueError: if levels are not in order, or a size is not accepted.
    """
    check_rule(rule)
    values = np.asarray(energy, float)
    if values.ndim != 1:
        raise ValueError(f"energy has shape {values.shape}: accepted is [T]")
    if not 2 <= min_history <= lookback:
        raise ValueError(f"min_history is {min_history}: accepted is in [2, lookback={lookback}]")
    # Only differences matter: what all share would cost digits in single precision.
    known = values[np.isfinite(values)]
    centred = values - (known[0] if known.size else 0.0)
    begin = start(lookback=lookback, trend_bars=trend_bars)
    return jax.tree.map(np.asarray, _scan(rule, begin, jnp.asarray(centred, float), min_history))


@jax.jit
def _scan(rule: LevelRule, begin: LevelState, energy: Array, min_history: ArrayLike) -> EnergyLevel:
    def one_bar(state: LevelState, value: Array) -> tuple[LevelState, EnergyLevel]:
        return step(rule, state, value, min_history=min_history)

    return jax.lax.scan(one_bar, begin, energy)[1]


def check_rule(rule: LevelRule) -> None:
    """Raises ValueError unless normal < elevated < crisis, and margin and hold are not negative."""
    cuts = rule.normal, rule.elevated, rule.crisis
    if not np.all(np.diff(np.asarray(np.broadcast_arrays(*cuts), float), axis=0) > 0.0):
        raise ValueError(f"normal, elevated, crisis are {cuts}: accepted are rising numbers")
    if not (np.all(np.asarray(rule.margin) >= 0) and np.all(np.asarray(rule.min_hold) >= 0)):
        raise ValueError(f"margin is {rule.margin}, min_hold {rule.min_hold}: accepted are >= 0")


def reference_z(energy: ArrayLike, reference_energy: ArrayLike) -> NumpyArray:
    """Returns robust z-scores against a fixed reference: a lasting rise never fades from them.

    Args:
      energy: [...] energies, nats.
      reference_energy: [N] energies of earlier rows under the same fit, finite, N at least 2.

    Returns:
      [...] z-scores, NaN where the energy is.

    Raises:
      ValueError: if the reference is too short, not finite, or without spread.
    """
    reference = np.asarray(reference_energy, np.float64)
    if reference.ndim != 1 or reference.size < 2 or not np.isfinite(reference).all():
        raise ValueError(
            f"reference_energy has shape {reference.shape}: accepted are finite numbers [N >= 2]"
        )
    centre = np.median(reference)
    scale = NORMAL_MAD * np.median(np.abs(reference - centre))
    if not scale > 0.0:
        raise ValueError(f"reference_energy has a median absolute deviation of {scale}")
    return (np.asarray(energy, np.float64) - centre) / scale
