"""Rational-quadratic spline on the circle [-pi, pi), followed by a rotation.

The spline maps the interval onto itself with equal slopes at both ends, so the density is
continuous across the seam; the rotation moves the seam, which would be a fixed point otherwise.
All functions but `features` act on ONE angle. Rezende et al., Normalizing flows on tori and
spheres, 2020 (https://arxiv.org/abs/2002.02428), section 2.1.
"""

import math
from typing import NamedTuple

import chex
import jax.numpy as jnp

from densityjax._typing import Array
from densityjax.bijectors import rational_quadratic_spline as rqs


class CircularSpline(NamedTuple):
    """A monotone map of the circle onto itself.

    Attributes:
      knots: the spline on [-pi, pi], arrays of shape [K + 1] with equal end slopes.
      phase: [] rotation after the spline, in radians.
    """

    knots: rqs.Knots
    phase: Array


def num_logits(num_bins: int) -> int:
    """Returns how many unconstrained values set one map: 3 K of the spline and the phase."""
    return rqs.num_logits(num_bins, tails="circular") + 1


def from_logits(logits: Array) -> CircularSpline:
    """Maps unconstrained values to a `CircularSpline`; zeros give the identity.

    Args:
      logits: [num_logits(K)] widths, heights and slopes of the spline, then the phase in radians.

    Returns:
      The `CircularSpline`.

    Raises:
      ValueError: if the number of logits fits no number of bins.
    """
    knots = rqs.knots_from_logits(logits[:-1], bound=math.pi, tails="circular")
    return CircularSpline(knots, logits[-1])


def wrap(angle: Array) -> Array:
    """Brings angles, [...] in radians, into [-pi, pi) by whole turns; those inside stay exactly."""
    turns = jnp.floor((angle + math.pi) / (2.0 * math.pi))
    return angle - 2.0 * math.pi * turns


def forward(circular: CircularSpline, x: Array) -> tuple[Array, Array]:
    """Maps an angle.

    Args:
      circular: the map.
      x: [] angle in radians; whole turns do not matter.

    Returns:
      y: [] angle in [-pi, pi).
      log_slope: [] natural log of dy/dx.

    References:
      Rezende et al., 2020, https://arxiv.org/abs/2002.02428, section 2.1.
    """
    chex.assert_rank(x, 0)
    y, log_slope = rqs.forward(circular.knots, wrap(x))
    return wrap(y + circular.phase), log_slope


def inverse(circular: CircularSpline, y: Array) -> tuple[Array, Array]:
    """Maps an angle back.

    Args:
      circular: the map.
      y: [] angle in radians; whole turns do not matter.

    Returns:
      x: [] angle in [-pi, pi).
      log_slope: [] natural log of dx/dy.
    """
    chex.assert_rank(y, 0)
    x, log_slope = rqs.inverse(circular.knots, wrap(y - circular.phase))
    return wrap(x), log_slope


def features(x: Array, is_circular: Array) -> Array:
    """What a network may read of a vector of which some entries are angles.

    Args:
      x: [D] values; angles in radians where `is_circular`.
      is_circular: [D] True where the entry is an angle.

    Returns:
      [2 D] the entries, cosines in place of angles, then the sines of angles and 0 elsewhere.
    """
    chex.assert_equal_shape([x, is_circular])
    angle = jnp.where(is_circular, x, 0.0)
    first = jnp.where(is_circular, jnp.cos(angle), x)
    return jnp.concatenate([first, jnp.where(is_circular, jnp.sin(angle), 0.0)])
