"""ActNorm: a learnt affine map per dimension that starts by standardising the rows it first sees.

y = (x - location) exp(-log_scale), both parameters trained after the start. Kingma & Dhariwal,
Glow, 2018 (https://arxiv.org/abs/1807.03039), section 3.1.
"""

from typing import NamedTuple

import chex
import jax.numpy as jnp

from densityjax import numerics
from densityjax._typing import Array


class ActNorm(NamedTuple):
    """Parameters of the map.

    Attributes:
      location: [D] what maps to 0, in units of the input.
      log_scale: [D] natural log of the input distance that maps to 1.
    """

    location: Array
    log_scale: Array


def fit(x: Array, weights: Array | None = None) -> ActNorm:
    """Sets the start from rows: they come out with mean 0 and standard deviation 1.

    Args:
      x: [N, D] rows, in units of the input.
      weights: [N] weights, 0 or more, not all 0; rows of weight 0 are ignored. All 1 by default.

    Returns:
      The `ActNorm`; a column that does not vary keeps its scale.

    References:
      Kingma & Dhariwal, 2018, https://arxiv.org/abs/1807.03039, section 3.1.
    """
    chex.assert_rank(x, 2)
    weights = jnp.ones(x.shape[0], x.dtype) if weights is None else weights.astype(x.dtype)
    share = (weights / jnp.sum(weights))[:, None]
    x = jnp.where(share > 0.0, x, 0.0)
    location = jnp.sum(share * x, axis=0)
    location += jnp.sum(share * (x - location), axis=0)  # what rounding of the first sum left
    sd = jnp.sqrt(jnp.sum(share * (x - location) ** 2, axis=0))
    floor = jnp.maximum(numerics.SCALE_FLOOR, jnp.finfo(x.dtype).eps)
    is_usable = jnp.isfinite(sd) & (sd > floor * jnp.max(jnp.abs(x), axis=0))
    log_scale = jnp.log(jnp.where(is_usable, sd, 1.0))
    return ActNorm(jnp.where(jnp.isfinite(location), location, 0.0), log_scale)


def forward(actnorm: ActNorm, x: Array) -> tuple[Array, Array]:
    """Returns y, [D], and log |det dy/dx|, [], of one example `x`, [D]."""
    chex.assert_rank(x, 1)
    return (x - actnorm.location) * jnp.exp(-actnorm.log_scale), -jnp.sum(actnorm.log_scale)


def inverse(actnorm: ActNorm, y: Array) -> tuple[Array, Array]:
    """Returns x, [D], and log |det dx/dy|, [], of one output `y`, [D]."""
    chex.assert_rank(y, 1)
    return actnorm.location + y * jnp.exp(actnorm.log_scale), jnp.sum(actnorm.log_scale)
