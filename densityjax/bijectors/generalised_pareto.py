"""Two-sided generalised Pareto tail layer: Gaussian noise to power tails, one shape on each side.

With y = (x - location) / scale and the shape h of the side of y, |y| = (c^-h - 1) / h where
c = erfc(|z| / sqrt 2) is the chance that noise is larger than |z|. For standard normal noise |y|
then is generalised Pareto with shape h: tail index 1 / h. The location is the median. Against
`lambert_w` the map bends at 0 (the density has a cusp there) and does not hold the Gaussian, but
it forgives careless training. All functions but `fit` act on ONE scalar. Hickling & Prangle,
Flexible tails for normalizing flows, 2024 (https://arxiv.org/abs/2406.16971), section 3.
"""

import functools
import math
from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp
from jax.scipy.special import erf, erfinv, log_ndtr

from densityjax import numerics
from densityjax._typing import Array
from densityjax.bijectors import affine, tail_fit
from densityjax.bijectors.tail_fit import FitInfo

H_MAX = 0.5  # largest shape by default: the variance stays finite
_THRESHOLD = 0.8  # of each side: a tenth of all rows lies beyond, the usual choice
_H_START = 0.15  # where `fit` starts: tails of a Student t with about seven degrees of freedom
_LOG_2, _HALF_LOG_2PI = math.log(2.0), 0.5 * math.log(2.0 * math.pi)
_NEWTON_STEPS = 4  # to rounding of float64 for noise up to 60


class Tail(NamedTuple):
    """Parameters of the layer for one dimension.

    Attributes:
      location: [] median of the data, in units of the data.
      scale: [] positive scale, in units of the data.
      h_plus: [] shape above the location, positive, no unit; the tail index is 1 / h.
      h_minus: [] shape below the location, likewise.
    """

    location: Array
    scale: Array
    h_plus: Array
    h_minus: Array


def tail_from_logits(logits: Array, *, h_max: float = H_MAX) -> Tail:
    """Maps unconstrained values to a `Tail`.

    Args:
      logits: [4] location, log scale, and the logits of the shapes h_plus and h_minus between
        `numerics.MIN_TAIL_SHAPE` and h_max.
      h_max: upper end of the shapes, no unit.

    Returns:
      The `Tail`.
    """
    chex.assert_shape(logits, (4,))
    floor = numerics.MIN_TAIL_SHAPE
    h_plus, h_minus = floor + (h_max - floor) * jax.nn.sigmoid(logits[2:])
    return Tail(logits[0], jnp.exp(logits[1]), h_plus, h_minus)


def logits_from_tail(tail: Tail, *, h_max: float = H_MAX) -> Array:
    """Undoes `tail_from_logits`.

    Args:
      tail: the parameters, scalars; shapes are moved inside their range, where logits are finite.
      h_max: upper end of the shapes, no unit.

    Returns:
      The [4] logits.
    """
    floor = numerics.MIN_TAIL_SHAPE
    share = (jnp.stack([tail.h_plus, tail.h_minus]) - floor) / (h_max - floor)
    edge = jnp.asarray(numerics.MIN_SHARE, share.dtype)
    share = jnp.clip(share, edge, 1.0 - edge)
    plus, minus = jnp.log(share) - jnp.log1p(-share)
    return jnp.stack([tail.location, jnp.log(tail.scale), plus, minus])


def to_noise(x: Array, tail: Tail) -> tuple[Array, Array]:
    """Maps data to noise.

    Args:
      x: [] value, in units of the data.
      tail: the parameters, scalars.

    Returns:
      z: [] noise, no unit.
      log_slope: [] natural log of dz/dx.

    References:
      Hickling & Prangle, 2024, https://arxiv.org/abs/2406.16971, section 3, solved for z.
    """
    chex.assert_rank(x, 0)
    y = (x - tail.location) / tail.scale
    is_above = y > 0.0
    h, size = jnp.where(is_above, tail.h_plus, tail.h_minus), jnp.where(is_above, y, -y)
    log_term = jnp.log1p(h * size)
    log_chance = -log_term / h
    z = _noise_of_log_chance(log_chance)
    log_mills = log_chance - _LOG_2 + 0.5 * z * z + _HALF_LOG_2PI
    return jnp.where(is_above, z, -z), log_mills - log_term - jnp.log(tail.scale)


def from_noise(z: Array, tail: Tail) -> tuple[Array, Array]:
    """Maps noise to data.

    Args:
      z: [] noise, no unit.
      tail: the parameters, scalars.

    Returns:
      x: [] value, in units of the data.
      log_slope: [] natural log of dx/dz.

    References:
      Hickling & Prangle, 2024, https://arxiv.org/abs/2406.16971, section 3.
    """
    chex.assert_rank(z, 0)
    is_above = z > 0.0
    h, size = jnp.where(is_above, tail.h_plus, tail.h_minus), jnp.where(is_above, z, -z)
    log_chance = _log_chance(size)
    distance = jnp.expm1(-h * log_chance) / h
    x = tail.location + tail.scale * jnp.where(is_above, distance, -distance)
    log_mills = log_chance - _LOG_2 + 0.5 * z * z + _HALF_LOG_2PI
    return x, jnp.log(tail.scale) - h * log_chance - log_mills


def fit(
    x: Array, weights: Array | None = None, *, h_max: float = H_MAX, num_steps: int = 40
) -> tuple[Tail, FitInfo]:
    """Fits one dimension: the median, shapes from the excesses of each side, then the scale.

    The likelihood of all rows would be that of the body, which is no generalised Pareto law: it
    calls tails of market returns exponential. So the shapes are those of the excesses over a high
    quantile of each side, by maximum likelihood, and the scale that of all rows given the shapes.
    Use `jax.vmap` for more dimensions.

    Args:
      x: [N] rows, in units of the data.
      weights: [N] weights, 0 or more; rows with weight 0 are ignored, NaN included. All 1 by
        default.
      h_max: upper end of the shapes, no unit.
      num_steps: number of Newton steps.

    Returns:
      The `Tail` and a `FitInfo`.

    References:
      McNeil & Frey, Journal of Empirical Finance 7, 2000, section 2.2, for the excesses.
    """
    rows = tail_fit.standardise(x, weights)
    shapes = jnp.stack([_shape_logit(y, rows.share, h_max, num_steps) for y in (rows.y, -rows.y)])

    def to_noise_by_scale(value: Array, log_scale: Array) -> tuple[Array, Array]:
        logits = jnp.concatenate([jnp.zeros(1, x.dtype), log_scale, shapes])
        return to_noise(value, tail_from_logits(logits, h_max=h_max))

    loss = functools.partial(tail_fit.normal_loss, rows, to_noise_by_scale)
    log_scale = tail_fit.minimise(loss, jnp.zeros(1, x.dtype), num_steps)
    logits = jnp.concatenate([jnp.zeros(1, x.dtype), log_scale, shapes])
    tail = tail_from_logits(logits, h_max=h_max)
    tail = tail._replace(location=rows.centre, scale=rows.width * tail.scale)
    return tail, tail_fit.fit_info(rows, loss, log_scale)


def _shape_logit(y: Array, share: Array, h_max: float, num_steps: int) -> Array:
    """Fits the generalised Pareto law of the excesses of the positive side; its shape's logit."""
    share = jnp.where(y > 0.0, share, 0.0)
    threshold = affine.weighted_quantile(y, share, _THRESHOLD)
    share = jnp.where(y > threshold, share, 0.0)
    total = jnp.sum(share)
    share = share / jnp.where(total > 0.0, total, 1.0)
    excess = jnp.where(share > 0.0, y - threshold, 0.0)
    mean = jnp.sum(share * excess)
    floor = numerics.MIN_TAIL_SHAPE

    def loss(logits: Array) -> Array:
        shape = floor + (h_max - floor) * jax.nn.sigmoid(logits[1])
        size = excess * jnp.exp(-logits[0])
        return logits[0] + jnp.sum(share * (1.0 + 1.0 / shape) * jnp.log1p(shape * size))

    theta = math.log(_H_START / (h_max - _H_START)) if _H_START < h_max else 0.0
    start = jnp.stack([jnp.log(jnp.where(mean > 0.0, mean, 1.0)), jnp.asarray(theta, y.dtype)])
    return tail_fit.minimise(loss, start, num_steps)[1]


def _log_chance(size: Array) -> Array:
    """Returns log erfc(size / sqrt 2) for size >= 0, without cancellation near 0."""
    is_near = size < 1.0
    near, far = jnp.where(is_near, size, 0.0), jnp.where(is_near, 1.0, size)
    return jnp.where(is_near, jnp.log1p(-erf(near / math.sqrt(2.0))), log_ndtr(-far) + _LOG_2)


@jax.custom_jvp
def _noise_of_log_chance(log_chance: Array) -> Array:
    """Returns the z >= 0 with log erfc(z / sqrt 2) = log_chance <= 0."""
    is_near = log_chance > -1.0
    near = math.sqrt(2.0) * erfinv(-jnp.expm1(jnp.where(is_near, log_chance, 0.0)))
    # In logs, for the chance itself underflows; the start is the tail's leading term.
    target = jnp.where(is_near, -1.0, log_chance) - _LOG_2
    z = jnp.sqrt(jnp.maximum(-2.0 * target - jnp.log(-4.0 * math.pi * target), 0.0))
    for _ in range(_NEWTON_STEPS):
        value = log_ndtr(-z)
        z = z + (value - target) * jnp.exp(value + 0.5 * z * z + _HALF_LOG_2PI)
    return jnp.where(is_near, near, z)


@_noise_of_log_chance.defjvp
def _noise_of_log_chance_jvp(primals: tuple[Array], tangents: tuple[Array]) -> tuple[Array, Array]:
    """The implicit-function rule: minus Mills' ratio."""
    ((log_chance,), (tangent,)) = primals, tangents
    z = _noise_of_log_chance(log_chance)
    return z, -jnp.exp(log_chance - _LOG_2 + 0.5 * z * z + _HALF_LOG_2PI) * tangent
