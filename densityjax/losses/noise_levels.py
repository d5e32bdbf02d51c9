"""Laws of the noise level in training: from uniform numbers to sigma, stratified over a batch.

Levels are made from numbers in (0, 1) handed in, one shared shift for random strata, none for fixed
ones: the mean over a batch then varies far less than with independent draws. ln sigma is normal,
uniform, or on a grid of geometric levels.
"""

import math

import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jax.scipy.special import ndtri

from densityjax._typing import Array, ArrayLike

_GOLDEN = 0.5 * (math.sqrt(5.0) - 1.0)  # its multiples modulo 1 are even, whatever the number


def stratified_uniforms(num: int, shift: ArrayLike) -> Array:
    """Returns `(i + shift) / num`, [num]: one number in each stratum of (0, 1).

    Args:
      num: how many.
      shift: [] number in (0, 1), random in training; or [num], one for each stratum.

    Returns:
      [num] numbers in (0, 1), increasing for one shift.
    """
    return (jnp.arange(num) + shift) / num


def fixed_uniforms(num: int) -> Array:
    """Returns `num` fixed numbers in (0, 1), even in any run of neighbours, in no order."""
    return jnp.asarray(np.mod((np.arange(num) + 0.5) * _GOLDEN, 1.0), jnp.float32)


def log_normal_sigmas(
    uniforms: Array,
    *,
    log_mean: float,
    log_sd: float,
    sigma_min: ArrayLike,
    sigma_max: ArrayLike,
) -> Array:
    """Maps uniform numbers to levels with `ln sigma ~ N(log_mean, log_sd^2)`, cut to a range.

    Args:
      uniforms: [N] numbers in (0, 1).
      log_mean: mean of ln sigma.
      log_sd: standard deviation of ln sigma.
      sigma_min: [] smallest level; what would lie below is put there.
      sigma_max: [] largest level.

    Returns:
      [N] noise levels, in the units of both ends.

    References:
      Karras et al., 2022, https://arxiv.org/abs/2206.00364, table 1, P_mean and P_std.
    """
    return jnp.clip(jnp.exp(log_mean + log_sd * ndtri(uniforms)), sigma_min, sigma_max)


def log_uniform_sigmas(uniforms: Array, *, sigma_min: ArrayLike, sigma_max: ArrayLike) -> Array:
    """Maps uniform numbers to levels uniform in ln sigma; weight sigma^2 bounds the KL.

    Args:
      uniforms: [N] numbers in [0, 1].
      sigma_min: [] smallest level, positive.
      sigma_max: [] largest level.

    Returns:
      [N] noise levels, in the units of both ends.

    Raises:
      ValueError: unless `0 < sigma_min < sigma_max` where they are numbers.
    """
    is_known = not any(isinstance(level, Tracer) for level in (sigma_min, sigma_max))
    if is_known and not np.all((0.0 < np.asarray(sigma_min)) & (sigma_min < np.asarray(sigma_max))):
        raise ValueError(
            f"sigma_min is {sigma_min} and sigma_max {sigma_max}: accepted is "
            "0 < sigma_min < sigma_max"
        )
    low, high = jnp.log(jnp.asarray(sigma_min)), jnp.log(jnp.asarray(sigma_max))
    return jnp.exp(low + (high - low) * uniforms)


def geometric_sigmas(
    uniforms: Array, *, sigma_min: ArrayLike, sigma_max: ArrayLike, num_levels: int
) -> Array:
    """Maps uniform numbers to `num_levels` geometric levels, all equally likely.

    Args:
      uniforms: [N] numbers in (0, 1).
      sigma_min: [] smallest level.
      sigma_max: [] largest level.
      num_levels: number of levels, at least 2.

    Returns:
      [N] noise levels, each one of the geometric grid.

    Raises:
      ValueError: as `log_uniform_sigmas`.
    """
    level = jnp.minimum(jnp.floor(uniforms * num_levels), num_levels - 1) / (num_levels - 1)
    return log_uniform_sigmas(1.0 - level, sigma_min=sigma_min, sigma_max=sigma_max)
