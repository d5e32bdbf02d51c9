"""Gaussian laws that are hard in a known way; each is exact at any noise level too.

A narrow direction sets the step size of a chain and a wide one its length; modes far apart hide
their weights from any score without noise; two regimes are what a market state looks like.
"""

import jax
import numpy as np

from densityjax._typing import Key
from densityjax.targets.gaussian import gaussian, gaussian_mixture
from densityjax.targets.target import Target, check_positive


def ill_conditioned_gaussian(
    key: Key, dim: int = 10, *, condition_number: float = 1_000.0
) -> Target:
    """A normal law of mean zero, turned at random, with variances between 1 and much less.

    Args:
      key: random key of the rotation, typed.
      dim: dimension D, at least 2.
      condition_number: largest variance, 1, over the smallest; the others are geometric between.

    Returns:
      The `Target`.

    Raises:
      ValueError: if `dim` is below 2 or the condition number below 1 or not finite.
    """
    if dim < 2:
        raise ValueError(f"dim must be at least 2, got {dim}")
    if not 1.0 <= condition_number < np.inf:
        raise ValueError(f"condition_number must be finite and >= 1, got {condition_number}")
    rotation, _ = np.linalg.qr(np.asarray(jax.random.normal(key, (dim, dim)), np.float64))
    variances = np.geomspace(1.0, 1.0 / condition_number, dim)
    covariance = (rotation * variances) @ rotation.T
    return gaussian(np.zeros(dim), 0.5 * (covariance + covariance.T))


def separated_mixture(*, distance: float = 8.0) -> Target:
    """Three modes of weights .6, .3 and .1 in the plane, of sd .5 to 1 and far apart.

    Between the modes there is no mass, so that a score learnt without noise knows the shape of
    each and nothing of the weights.

    Args:
      distance: side of the triangle of centres, units of x, positive; 8 is ten sd and more.

    Returns:
      The `Target`, D = 2.

    Raises:
      ValueError: if the distance is not positive and finite.

    References:
      Wenliang and Kanagawa, Blindness of score-based methods to isolated components and mixing
      proportions, 2020, https://arxiv.org/abs/2008.10087.
    """
    check_positive(distance=distance)
    centres = distance * np.array([[-0.5, 0.0], [0.5, 0.0], [0.0, 0.75**0.5]])
    covariances = np.array([[[1.0, 0.4], [0.4, 0.5]], [[0.3, 0.0], [0.0, 0.6]], 0.25 * np.eye(2)])
    return gaussian_mixture(np.array([0.6, 0.3, 0.1]), centres, covariances)


def two_regimes(
    dim: int = 10,
    *,
    crisis_weight: float = 0.15,
    crisis_scale: float = 2.5,
    correlations: tuple[float, float] = (0.2, 0.7),
) -> Target:
    """A calm and a crisis regime around zero: in a crisis all moves are larger, and together.

    Args:
      dim: dimension D, at least 2.
      crisis_weight: probability of the crisis, in (0, 1).
      crisis_scale: sd of every coordinate in the crisis, positive; in the calm it is 1.
      correlations: of all pairs of coordinates, in the calm and in the crisis, each in
        (-1 / (D - 1), 1).

    Returns:
      The `Target`.

    Raises:
      ValueError: if an argument is not accepted.
    """
    if dim < 2:
        raise ValueError(f"dim must be at least 2, got {dim}")
    if not 0.0 < crisis_weight < 1.0:
        raise ValueError(f"crisis_weight must be in (0, 1), got {crisis_weight}")
    check_positive(crisis_scale=crisis_scale)
    if not all(-1.0 / (dim - 1) < each < 1.0 for each in correlations):
        raise ValueError(f"correlations must be in (-1 / (dim - 1), 1), got {correlations}")
    covariances = np.stack([each + (1.0 - each) * np.eye(dim) for each in correlations])
    covariances[1] *= crisis_scale**2
    weights = np.array([1.0 - crisis_weight, crisis_weight])
    return gaussian_mixture(weights, np.zeros((2, dim)), covariances)
