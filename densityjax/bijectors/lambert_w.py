"""Lambert-W tail layer: a Gaussian core with power tails, one index on each side.

With y = (x - location) / scale, noise and data are tied by y = z exp(h z^2 / 2), where h is
`h_plus` for y > 0 and `h_minus` otherwise. Standard normal noise then gets the tail index 1 / h:
the mean exists for h < 1, the variance for h < 1/2, and h = 0 is the identity. The way back is the
principal branch W of the Lambert function, z = y exp(-w / 2) with w = W(h y^2) = h z^2. The map
is C2 at 0 even where the sides differ. All functions but `fit` act on ONE scalar.

Never put a base with power tails, such as Student's t, straight under this layer: the result has
no mean. Goerg, The Lambert Way to Gaussianize heavy-tailed data, 2015
(https://arxiv.org/abs/1010.2265), equations 5-9.
"""

import functools
import math
from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp

from densityjax import numerics
from densityjax._typing import Array
from densityjax.bijectors import tail_fit
from densityjax.bijectors.tail_fit import FitInfo

H_MAX = 0.5  # largest tail parameter by default: the variance stays finite
_H_START = 0.1  # where `fit` starts: tails of a Student t with about six degrees of freedom


class Tail(NamedTuple):
    """Parameters of the layer for one dimension.

    Attributes:
      location: [] centre of the data, in units of the data.
      scale: [] positive scale of the core, in units of the data.
      h_plus: [] tail parameter above the location, 0 or more, no unit; the tail index is 1 / h.
      h_minus: [] tail parameter below the location, likewise.
    """

    location: Array
    scale: Array
    h_plus: Array
    h_minus: Array


def tail_from_logits(logits: Array, *, h_max: float = H_MAX) -> Tail:
    """Maps unconstrained values to a `Tail`.

    Args:
      logits: [4] location, log scale, and the logits of h_plus / h_max and h_minus / h_max.
      h_max: upper end of the tail parameters, no unit.

    Returns:
      The `Tail`.
    """
    chex.assert_shape(logits, (4,))
    location, log_scale, plus, minus = logits
    h_plus, h_minus = h_max * jax.nn.sigmoid(plus), h_max * jax.nn.sigmoid(minus)
    return Tail(location, jnp.exp(log_scale), h_plus, h_minus)


def logits_from_tail(tail: Tail, *, h_max: float = H_MAX) -> Array:
    """Undoes `tail_from_logits`.

    Args:
      tail: the parameters, scalars; h is moved inside (0, h_max), where its logit is finite.
      h_max: upper end of the tail parameters, no unit.

    Returns:
      The [4] logits.
    """
    share = jnp.stack([tail.h_plus, tail.h_minus]) / h_max
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
      Goerg, 2015, https://arxiv.org/abs/1010.2265, equation 8.
    """
    chex.assert_rank(x, 0)
    y = (x - tail.location) / tail.scale
    z, w = _lambert(y, jnp.where(y > 0.0, tail.h_plus, tail.h_minus))
    return z, -jnp.log(tail.scale) - 0.5 * w - jnp.log1p(w)


def from_noise(z: Array, tail: Tail) -> tuple[Array, Array]:
    """Maps noise to data.

    Args:
      z: [] noise, no unit.
      tail: the parameters, scalars.

    Returns:
      x: [] value, in units of the data.
      log_slope: [] natural log of dx/dz.

    References:
      Goerg, 2015, https://arxiv.org/abs/1010.2265, equation 6.
    """
    chex.assert_rank(z, 0)
    w = jnp.where(z > 0.0, tail.h_plus, tail.h_minus) * z * z
    x = tail.location + tail.scale * z * jnp.exp(0.5 * w)
    return x, jnp.log(tail.scale) + 0.5 * w + jnp.log1p(w)


def fit(
    x: Array, weights: Array | None = None, *, h_max: float = H_MAX, num_steps: int = 40
) -> tuple[Tail, FitInfo]:
    """Fits one dimension by maximum likelihood with standard normal noise.

    A damped Newton method on the four logits, from the median and the scaled median absolute
    deviation; a step that does not raise the likelihood is refused. Use `jax.vmap` for more
    dimensions.

    Args:
      x: [N] rows, in units of the data.
      weights: [N] weights, 0 or more; rows with weight 0 are ignored, NaN included. All 1 by
        default.
      h_max: upper end of the tail parameters, no unit.
      num_steps: number of Newton steps.

    Returns:
      The `Tail` and a `FitInfo`.
    """
    h_start = min(_H_START, 0.5 * h_max)
    theta = math.log(h_start / (h_max - h_start))
    rows = tail_fit.standardise(x, weights)
    layer = functools.partial(_to_noise_by_logits, h_max=h_max)
    loss = functools.partial(tail_fit.normal_loss, rows, layer)
    start = jnp.array([0.0, 0.0, theta, theta], x.dtype)
    logits = tail_fit.minimise(loss, start, num_steps)
    tail = tail_from_logits(logits, h_max=h_max)
    location, scale = rows.centre + rows.width * tail.location, rows.width * tail.scale
    return tail._replace(location=location, scale=scale), tail_fit.fit_info(rows, loss, logits)


def _to_noise_by_logits(x: Array, logits: Array, *, h_max: float) -> tuple[Array, Array]:
    return to_noise(x, tail_from_logits(logits, h_max=h_max))


@jax.custom_jvp
def _lambert(y: Array, h: Array) -> tuple[Array, Array]:
    """Solves y = z exp(h z^2 / 2); returns z and w = h z^2."""
    size = jnp.abs(y)
    log_u = jnp.log(jnp.where(h > 0.0, h, 1.0)) + 2.0 * jnp.log(jnp.where(size > 0.0, size, 1.0))
    is_huge = (h > 0.0) & (log_u > numerics.LAMBERT_LOG_SWITCH)
    w_huge = _lambert_w_of_log(jnp.where(is_huge, log_u, numerics.LAMBERT_LOG_SWITCH))
    w = jnp.where(is_huge, w_huge, _lambert_w(jnp.where(is_huge, 0.0, (h * size) * size)))
    # The exponential turns the absolute error of w into a relative one: only for small w.
    is_large = w > 1.0
    root = jnp.sign(y) * jnp.sqrt(w / jnp.where(is_large, h, 1.0))
    return jnp.where(is_large, root, y * jnp.exp(-0.5 * w)), w


@_lambert.defjvp
def _lambert_jvp(
    primals: tuple[Array, Array], tangents: tuple[Array, Array]
) -> tuple[tuple[Array, Array], tuple[Array, Array]]:
    """The implicit-function rule: no division by h, hence exact at h = 0."""
    (y, h), (dy, dh) = primals, tangents
    z, w = _lambert(y, h)
    q = 1.0 / (1.0 + w)
    rate = jnp.exp(-0.5 * w) * q
    # Past the cap h is 0 for all purposes; uncapped, the cube would overflow.
    capped = jnp.clip(z, -numerics.LAMBERT_CUBE_CAP, numerics.LAMBERT_CUBE_CAP)
    square = capped * capped
    dz = rate * dy - 0.5 * capped * square * q * dh
    dw = 2.0 * h * z * rate * dy + square * q * dh
    return (z, w), (dz, dw)


def _lambert_w(u: Array) -> Array:
    """Returns W(u) for u >= 0: a start good to a few percent, and two or three Halley steps."""
    log_u = jnp.log1p(u)
    w = log_u * (1.0 - jnp.log1p(log_u) / (2.0 + log_u))
    for _ in range(2 if u.dtype == jnp.float32 else 3):
        f = w - u * jnp.exp(-w)
        w = w - f / ((1.0 + w) - (w + 2.0) * f / (2.0 * w + 2.0))
    return w


def _lambert_w_of_log(log_u: Array) -> Array:
    """Returns W(exp(log_u)) for large `log_u`, by Newton steps on w + log w = log u."""
    w = log_u - jnp.log(log_u)
    for _ in range(3 if log_u.dtype == jnp.float32 else 5):
        w = w * (1.0 + log_u - jnp.log(w)) / (1.0 + w)
    return w
