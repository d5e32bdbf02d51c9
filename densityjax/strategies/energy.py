"""Positions from energy: leave strange markets, and take the other side once a spike has passed.

One bar t enters as scalars known at its close: z, how high the energy of its state is against
strictly earlier bars (`regimes.energy_levels`), and the log return of the bar itself. Signals are
Long, Short, Exit, Reduce and Hold; the position is side times base times a curve of z. `step` also
carries what earlier bars left, so that one bar at a time equals the batch. An energy says that a
state is strange, not which way it will go: `energy_sizing.energy_overlay` only makes the positions
of another rule smaller.
"""

import enum
from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np

from densityjax._typing import Array, ArrayLike, NumpyArray
from densityjax.strategies import energy_sizing
from densityjax.strategies.energy_signals import (
    Action,
    contrarian_direction,
    should_exit,
    should_reduce,
)

WINDOW = 5  # bars in which a spike is looked for, and over which returns are added up
LARGE_AGE = 1 << 20  # bars since a side was taken, where none was


class Reason(enum.IntEnum):
    """Why a bar has the action it has; earlier members win where several apply."""

    NON_FINITE = 0  # the return is NaN or infinite
    WARMING_UP = 1  # too few energies before the bar: nothing vouches for its state
    EXTREME = 2  # z is above the exit cut
    STRANGE = 3  # z is above the reduce cut
    AFTER_FALL = 4  # a spike that came with a fall has passed
    AFTER_RISE = 5  # a spike that came with a rise has passed
    LOW_CONFIDENCE = 6  # a spike has passed, but an entry's confidence is below the minimum
    ORDINARY = 7  # nothing to act on


class EnergyRule(NamedTuple):
    """Cuts and limits of the rule; every field may be an array axis of a `vmap`.

    Attributes:
      reduce_z: z above which the action is Reduce; below `anomaly_z`.
      anomaly_z: z above which a bar is anomalous, and a spike; below `exit_z`.
      exit_z: z above which the position is closed.
      resolved_z: z below which a spike has passed; below `reduce_z`.
      least_move: sum of log returns over `WINDOW` bars that a contrarian entry needs, a fraction.
      entry_confidence: confidence of Long and Short, in [0, 1].
      reduce_confidence: confidence of Reduce.
      exit_confidence: confidence of Exit.
      hold_confidence: confidence of Hold.
      min_confidence: an entry of less than this becomes Hold. Exit and Reduce are never withheld.
      base_size: position of scale 1, as a multiple of equity.
      cutoff_z: z at which the linear curve leaves nothing.
      is_piecewise: 1 for the piecewise curve, 0 for the linear one.
      hold_bars: bars after which a side that was taken is left; infinity keeps it until an exit.
      max_position: largest position, as a multiple of equity.
    """

    reduce_z: ArrayLike = 1.5
    anomaly_z: ArrayLike = 2.0
    exit_z: ArrayLike = 3.0
    resolved_z: ArrayLike = 1.0
    least_move: ArrayLike = 0.02
    entry_confidence: ArrayLike = 0.7
    reduce_confidence: ArrayLike = 0.8
    exit_confidence: ArrayLike = 0.95
    hold_confidence: ArrayLike = 0.5
    min_confidence: ArrayLike = 0.6
    base_size: ArrayLike = 1.0
    cutoff_z: ArrayLike = 2.0
    is_piecewise: ArrayLike = 0.0
    hold_bars: ArrayLike = 5.0
    max_position: ArrayLike = 1.0


class EnergyState(NamedTuple):
    """What the next bar needs.

    Attributes:
      z: [WINDOW] z-scores of the last bars, the newest last; minus infinity where there is none,
        or where the spike has been acted on.
      returns: [WINDOW] their log returns, fractions; 0 where there is none.
      direction: [] side held, 1, 0 or -1.
      age: [] bars since it was taken, an integer.
    """

    z: Array
    returns: Array
    direction: Array
    age: Array


class EnergySignal(NamedTuple):
    """Signal of one bar, or of T bars with a leading axis on every field.

    Attributes:
      action: an `Action`.
      confidence: of the action, in [0, 1].
      energy_z: z, as given.
      is_anomalous: whether z is above the anomaly cut.
      direction: side held after the action, 1, 0 or -1.
      scale: share of the base size that z leaves, in [0, 1].
      position_size: signed position, as a multiple of equity; NaN where the return is not finite.
      reason: a `Reason`.
    """

    action: Array
    confidence: Array
    energy_z: Array
    is_anomalous: Array
    direction: Array
    scale: Array
    position_size: Array
    reason: Array


def start() -> EnergyState:
    """Returns the state before the first bar."""
    none = jnp.full(WINDOW, -jnp.inf)
    return EnergyState(none, jnp.zeros(WINDOW), jnp.zeros(()), jnp.asarray(LARGE_AGE, jnp.int32))


def step(
    rule: EnergyRule, state: EnergyState, *, energy_z: ArrayLike, last_return: ArrayLike
) -> tuple[EnergyState, EnergySignal]:
    """Decides one bar, from what is known at its close and what the bars before left; jittable.

    Args:
      rule: cuts and limits; see `check_rule`.
      state: of the bar before, or `start()`.
      energy_z: [] z of the energy of this bar against strictly earlier ones; NaN while they are too
        few, which holds no position.
      last_return: [] log return from the close before to this one, a fraction.

    Returns:
      The state and an `EnergySignal` of scalars. A return that is not finite gives NaN for the
      position and `Reason.NON_FINITE`, and leaves the state as it was.
    """
    z, last_return = jnp.asarray(energy_z, float), jnp.asarray(last_return, float)
    chex.assert_rank([z, last_return], 0)
    is_valid = jnp.isfinite(last_return)
    seen = jnp.append(state.z[1:], jnp.where(jnp.isnan(z), -jnp.inf, z))
    returns = jnp.append(state.returns[1:], last_return)
    side = contrarian_direction(
        jnp.max(seen),
        z,
        jnp.sum(returns),
        spike=rule.anomaly_z,
        resolved=rule.resolved_z,
        least_move=rule.least_move,
    )
    is_sure = jnp.asarray(rule.entry_confidence) >= rule.min_confidence
    reason = jnp.select(
        [
            ~is_valid,
            jnp.isnan(z),
            should_exit(z, rule.exit_z),
            should_reduce(z, rule.reduce_z),
            (side > 0.0) & is_sure,
            (side < 0.0) & is_sure,
            side != 0.0,
        ],
        [jnp.int32(reason) for reason in list(Reason)[:-1]],
        jnp.int32(Reason.ORDINARY),
    )
    action, confidence = _action(rule, reason)
    enters = (action == Action.LONG) | (action == Action.SHORT)
    age = jnp.where(enters, 0, jnp.minimum(state.age + 1, LARGE_AGE))
    held = jnp.where(age < rule.hold_bars, state.direction, 0.0)
    direction = jnp.where(enters, side, jnp.where(action == Action.EXIT, 0.0, held))
    scale = jnp.where(
        jnp.asarray(rule.is_piecewise) > 0,
        energy_sizing.piecewise_scale(z),
        energy_sizing.linear_scale(z, rule.cutoff_z),
    )
    limit = jnp.asarray(rule.max_position, float)
    size = jnp.clip(direction * rule.base_size * scale, -limit, limit)
    # A spike is acted on once: what was seen of it is forgotten with the entry.
    after = EnergyState(jnp.where(enters, -jnp.inf, seen), returns, direction, age)
    after = jax.tree.map(lambda new, old: jnp.where(is_valid, new, old), after, state)
    return after, EnergySignal(
        action=action,
        confidence=confidence,
        energy_z=z,
        is_anomalous=z > rule.anomaly_z,
        direction=jnp.where(is_valid, direction, state.direction),
        scale=scale,
        position_size=jnp.where(is_valid, size, jnp.nan),
        reason=reason,
    )


def _action(rule: EnergyRule, reason: Array) -> tuple[Array, Array]:
    """Returns the action of a reason and its confidence."""
    kinds = [
        ((Reason.WARMING_UP, Reason.EXTREME), Action.EXIT, rule.exit_confidence),
        ((Reason.STRANGE,), Action.REDUCE, rule.reduce_confidence),
        ((Reason.AFTER_FALL,), Action.LONG, rule.entry_confidence),
        ((Reason.AFTER_RISE,), Action.SHORT, rule.entry_confidence),
    ]
    action = jnp.int32(Action.HOLD)
    confidence = jnp.asarray(rule.hold_confidence, float)
    for reasons, kind, sure in kinds:
        applies = sum(reason == int(each) for each in reasons) > 0
        action = jnp.where(applies, jnp.int32(kind), action)
        confidence = jnp.where(applies, sure, confidence)
    return action, confidence


def check_rule(rule: EnergyRule) -> None:
    """Raises ValueError unless the cuts rise, and confidences and sizes are in their ranges.

    Args:
      rule: scalars, or arrays of a grid; every configuration must satisfy
        `resolved_z < reduce_z < anomaly_z < exit_z`.

    Raises:
      ValueError: names what is wrong.
    """
    names = ("resolved_z", "reduce_z", "anomaly_z", "exit_z")
    cuts = np.stack(
        np.broadcast_arrays(*(np.asarray(getattr(rule, name), float) for name in names))
    )
    if not (np.diff(cuts, axis=0) > 0.0).all():
        values = [getattr(rule, name) for name in names]
        raise ValueError(f"{', '.join(names)} are {values}: accepted are rising numbers")
    for name in ("entry", "reduce", "exit", "hold", "min"):
        name = f"{name}_confidence"
        value = np.asarray(getattr(rule, name), float)
        if not ((value >= 0.0) & (value <= 1.0)).all():
            raise ValueError(f"{name} is {value}: accepted is in [0, 1]")
    for name in ("least_move", "base_size", "max_position", "hold_bars"):
        value = np.asarray(getattr(rule, name), float)
        if not (value >= 0.0).all():
            raise ValueError(f"{name} is {value}: accepted is >= 0")
    if not (np.asarray(rule.cutoff_z, float) > 0.0).all():
        raise ValueError(f"cutoff_z is {rule.cutoff_z}: accepted is above 0")


def energy_signals(
    rule: EnergyRule, *, energy_z: ArrayLike, last_return: ArrayLike
) -> EnergySignal:
    """Decides T bars on the host, oldest first, as `step` one by one would from `start()`.

    Args:
      rule: cuts and limits, scalars.
      energy_z: [T] z of each bar against strictly earlier ones; NaN while they are too few.
      last_return: [T] log return of each bar, a fraction.

    Returns:
      An `EnergySignal` of NumPy arrays with a leading axis of T.

    Raises:
      ValueError: if the rule is not accepted, lengths differ, z is infinite or a return not finite.
    """
    check_rule(rule)
    z, returns = np.asarray(energy_z, float), np.asarray(last_return, float)
    if z.ndim != 1 or z.shape != returns.shape:
        raise ValueError(f"energy_z and last_return must be [T], got {z.shape}, {returns.shape}")
    for name, is_bad in (("energy_z", np.isinf(z)), ("last_return", ~np.isfinite(returns))):
        if is_bad.any():
            first = int(np.argmax(is_bad))
            raise ValueError(f"{name} is not finite at bar {first} ({int(is_bad.sum())} bad bars)")
    return jax.tree.map(np.asarray, _decide_bars(rule, z, returns))


@jax.jit
def _decide_bars(rule: EnergyRule, z: NumpyArray, returns: NumpyArray) -> EnergySignal:
    def one_bar(state: EnergyState, bar: tuple) -> tuple[EnergyState, EnergySignal]:
        return step(rule, state, energy_z=bar[0], last_return=bar[1])

    return jax.lax.scan(one_bar, start(), (z, returns))[1]


def signal_records(signals: EnergySignal) -> list[dict[str, Any]]:
    """Returns one dictionary per bar, same keys on every branch, action and reason in words.

    Args:
      signals: an `EnergySignal` of arrays with a leading axis of T.

    Returns:
      T dictionaries of Python values: the fields.
    """
    fields = {name: np.asarray(value).tolist() for name, value in signals._asdict().items()}
    rows = zip(*fields.values(), strict=True)
    records = [dict(zip(fields, row, strict=True)) for row in rows]
    words = {"action": Action, "reason": Reason}
    return [
        record | {name: kind(record[name]).name.lower() for name, kind in words.items()}
        for record in records
    ]
