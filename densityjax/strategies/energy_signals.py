"""Readings of an energy's z-score one at a time, and the vote of several sources of signals.

The contrarian reading: after a spike that has passed, take the side against the move that came with
it. "Passed" needs a direction and a window to mean anything: within the last bars z was above one
cut, it is below another now, and the sum of the returns of those bars says which side. It fires
once for a spike.
"""

import enum
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np

from densityjax._typing import Array, ArrayLike, NumpyArray


class Action(enum.IntEnum):
    """What to do at a close; of equal votes the lower number, the more cautious one, wins."""

    EXIT = 0  # close the position
    REDUCE = 1  # keep its side, in a smaller size
    HOLD = 2  # keep it as the size rule has it
    SHORT = 3
    LONG = 4


class Aggregate(NamedTuple):
    """Votes of M sources over T bars, [T] each.

    Attributes:
      action: the `Action` with the largest weighted confidence.
      confidence: its share of the weight, each source counted by its confidence, in [0, 1].
      average_confidence: mean of `confidence` over the last bars.
      dominant: the most frequent `Action` over the last bars.
    """

    action: NumpyArray
    confidence: NumpyArray
    average_confidence: NumpyArray
    dominant: NumpyArray


def should_reduce(z: ArrayLike, threshold: ArrayLike = 1.5) -> Array:
    """Returns whether a position is to be made smaller: z above the threshold, [...]; NaN is not.

    Args:
      z: [...] z-scores of energy against strictly earlier ones.
      threshold: [...] cut, itself not above.

    Returns:
      [...] booleans.
    """
    return jnp.asarray(z, float) > jnp.asarray(threshold)


def should_exit(z: ArrayLike, threshold: ArrayLike = 3.0) -> Array:
    """Returns whether a position is to be closed: z above the threshold, or unknown, [...].

    Args:
      z: [...] z-scores; NaN is an exit, for nothing vouches for the state.
      threshold: [...] cut, itself not above.

    Returns:
      [...] booleans.
    """
    return ~(jnp.asarray(z, float) <= jnp.asarray(threshold))


def contrarian_direction(
    highest_z: ArrayLike,
    z: ArrayLike,
    total_return: ArrayLike,
    *,
    spike: ArrayLike = 2.0,
    resolved: ArrayLike = 1.0,
    least_move: ArrayLike = 0.02,
) -> Array:
    """Returns the side against the move of a spike that has passed.

    Args:
      highest_z: [...] highest z of the last bars.
      z: [...] z of this bar.
      total_return: [...] sum of the log returns of those bars, fractions.
      spike: [...] cut that the highest must be above.
      resolved: [...] cut that this bar must be below.
      least_move: [...] size that the sum must exceed, a positive fraction.

    Returns:
      [...] 1 (long) after a fall, -1 (short) after a rise, else 0; NaN anywhere gives 0.
    """
    total, move = jnp.asarray(total_return, float), jnp.asarray(least_move)
    has_passed = (jnp.asarray(highest_z) > spike) & (jnp.asarray(z) < resolved)
    side = (total < -move).astype(float) - (total > move).astype(float)
    return jnp.where(has_passed, side, 0.0)


def aggregate_actions(
    actions: ArrayLike,
    confidences: ArrayLike,
    weights: ArrayLike,
    *,
    average_over: int = 10,
    dominant_over: int = 5,
) -> Aggregate:
    """Lets M sources vote at each of T bars.

    Args:
      actions: [T, M] `Action` numbers.
      confidences: [T, M] in [0, 1].
      weights: [M] weights of the sources, not negative, one positive; only their ratios count.
      average_over: bars of the average confidence, this one included; fewer at the start.
      dominant_over: bars of the dominant action, likewise.

    Returns:
      The `Aggregate`; row t reads rows up to t. Ties go to the lower `Action`.

    Raises:
      ValueError: if shapes disagree or a number is not accepted.
    """
    acts, confidence = np.asarray(actions), np.asarray(confidences, np.float64)
    weight = np.asarray(weights, np.float64)
    if acts.ndim != 2 or acts.shape != confidence.shape or weight.shape != acts.shape[1:]:
        raise ValueError(
            f"actions, confidences and weights are {acts.shape}, {confidence.shape} and "
            f"{weight.shape}: accepted are [T, M], [T, M] and [M]"
        )
    if not np.isin(acts, list(Action)).all():
        raise ValueError(f"actions must be of {[int(a) for a in Action]}, got {np.unique(acts)}")
    if not ((confidence >= 0.0) & (confidence <= 1.0)).all():
        raise ValueError("confidences must be in [0, 1]")
    if not (np.isfinite(weight) & (weight >= 0.0)).all() or not weight.sum() > 0.0:
        raise ValueError(f"weights are {weight}: accepted are finite ones >= 0, not all 0")
    if average_over < 1 or dominant_over < 1:
        raise ValueError(f"average_over={average_over}, dominant_over={dominant_over}: need >= 1")
    weight = weight / weight.sum()
    votes = np.stack([((acts == a) * confidence) @ weight for a in Action], axis=1)
    # Equal votes that were summed in another order differ by roundings: those are ties too.
    votes = np.round(votes, 12)
    action = np.argmax(votes, axis=1)
    is_chosen = action[:, None] == np.arange(len(Action))
    return Aggregate(
        action,
        votes.max(axis=1),
        _last_mean(votes.max(axis=1)[:, None], average_over)[:, 0],
        np.argmax(np.round(_last_mean(is_chosen.astype(float), dominant_over), 12), axis=1),
    )


def _last_mean(columns: NumpyArray, window: int) -> NumpyArray:
    """Returns means over the last `window` rows [T, C], over fewer where there are fewer."""
    total = np.cumsum(np.pad(columns, [(1, 0), (0, 0)]), axis=0)
    last = np.arange(1, len(columns) + 1)
    first = np.maximum(last - window, 0)
    return (total[last] - total[first]) / (last - first)[:, None]
