"""How the members of an ensemble make one signal: mean, median, weighted by confidence, majority.

Member i of M has a direction d_i in {-1, 0, 1} and a confidence c_i in [0, 1]; its signal is
`d_i c_i`. Each rule gives the combined signal in [-1, 1], whose sign is the direction and whose
size is the confidence; of a single member each gives that member. All act on ONE bar.
"""

from collections.abc import Callable
from typing import NamedTuple

import chex
import jax.numpy as jnp

from densityjax._typing import Array, ArrayLike

Combine = Callable[[Array, Array], Array]  # (direction [M], confidence [M]) -> signal []


class Vote(NamedTuple):
    """What an ensemble says at one bar.

    Attributes:
      direction: [] -1, 0 or 1.
      confidence: [] in [0, 1].
      in_distribution: [] whether the quorum of members finds the state ordinary.
    """

    direction: Array
    confidence: Array
    in_distribution: Array


def mean(direction: Array, confidence: Array) -> Array:
    """Returns the mean of the members' signals, from [M] directions and [M] confidences."""
    return jnp.mean(direction * confidence)


def median(direction: Array, confidence: Array) -> Array:
    """Returns their median, which is the mean of the two middle ones where M is even."""
    return jnp.median(direction * confidence)


def confidence_weighted(direction: Array, confidence: Array) -> Array:
    """Returns their mean with weights proportional to confidence; 0 where none has any."""
    total = jnp.sum(confidence)
    weight = confidence / jnp.where(total > 0.0, total, 1.0)
    return jnp.sum(weight * direction * confidence)


def majority(direction: Array, confidence: Array) -> Array:
    """Returns the direction with more members, at their mean confidence; 0 where two are even.

    Args:
      direction: [M] -1, 0 or 1; members without a direction abstain.
      confidence: [M] in [0, 1].

    Returns:
      [] signal in [-1, 1].
    """
    winner = jnp.sign(jnp.sum(direction))
    agrees = direction == winner
    return winner * jnp.sum(jnp.where(agrees, confidence, 0.0)) / jnp.maximum(jnp.sum(agrees), 1)


def vote(
    combine: Combine,
    score: Array,
    confidence: Array,
    in_distribution: Array,
    *,
    quorum: ArrayLike = 0.5,
) -> Vote:
    """Combines the members' scores at one bar.

    Args:
      combine: `mean`, `median`, `confidence_weighted`, `majority`, or another function of
        ([M] directions, [M] confidences) to a signal in [-1, 1].
      score: [M] score of the next return from each member, in one unit; its sign is read alone.
      confidence: [M] confidence of each member, in [0, 1].
      in_distribution: [M] whether each member finds the state ordinary.
      quorum: [] share of members that have to find it ordinary. At one half a state is out of
        distribution if more than half of the members say so.

    Returns:
      The `Vote`; NaN in direction and confidence where a score or confidence is NaN.
    """
    chex.assert_rank([score, confidence, in_distribution], 1)
    chex.assert_equal_shape([score, confidence, in_distribution])
    signal = combine(jnp.sign(score), confidence)
    is_known = ~jnp.any(jnp.isnan(score) | jnp.isnan(confidence))
    signal = jnp.where(is_known, signal, jnp.nan)
    share = jnp.mean(jnp.asarray(in_distribution, float))
    return Vote(jnp.sign(signal), jnp.abs(signal), share >= quorum)
