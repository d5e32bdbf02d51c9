"""Laws with heavy or unequal tails: multivariate Student t, two-piece t, log-exponential."""

import math

import chex
import jax
import jax.numpy as jnp
import numpy as np
from scipy import special

from densityjax._typing import Array, ArrayLike, Key
from densityjax.targets.target import Target, check_positive, cholesky_factors


def student_t(location: ArrayLike, scale: ArrayLike, *, dof: float = 3.0) -> Target:
    """The multivariate Student t; covariance `scale dof / (dof - 2)` where `dof` is above 2.

    Args:
      location: [D] centre.
      scale: [D, D] scale matrix, symmetric, positive definite.
      dof: degrees of freedom, positive: the power of the tail.

    Returns:
      The `Target`.

    Raises:
      ValueError: if shapes disagree, the scale is not positive definite or `dof` not positive.
    """
    check_positive(dof=dof)
    factors = cholesky_factors("scale", scale)
    centre = jnp.asarray(np.asarray(location, np.float64))
    dim = factors.shape[-1]
    if factors.ndim != 2 or centre.shape != (dim,):
        raise ValueError(f"location and scale disagree: {centre.shape}, {factors.shape}")
    constant = float(special.gammaln(0.5 * (dof + dim)) - special.gammaln(0.5 * dof))
    constant -= 0.5 * dim * math.log(dof * math.pi) + float(np.log(np.diag(factors)).sum())
    factor, whiten = jnp.asarray(factors), jnp.asarray(np.linalg.inv(factors))
    highest = jax.lax.Precision.HIGHEST  # accelerators round products otherwise

    def standardise(x: Array) -> Array:
        chex.assert_shape(x, (dim,))
        return jnp.matmul(whiten, x - centre, precision=highest)

    def log_prob(x: Array) -> Array:
        return constant - 0.5 * (dof + dim) * jnp.log1p(jnp.sum(standardise(x) ** 2) / dof)

    def sample(key: Key) -> Array:
        noise_key, scale_key = jax.random.split(key)
        noise = jnp.matmul(factor, jax.random.normal(noise_key, (dim,)), precision=highest)
        return centre + noise / jnp.sqrt(2.0 * jax.random.gamma(scale_key, 0.5 * dof) / dof)

    def score(x: Array) -> Array:
        z = standardise(x)
        pull = jnp.matmul(whiten.T, z, precision=highest)
        return -(dof + dim) * pull / (dof + jnp.sum(z**2))

    return Target(log_prob, sample, score)


def two_piece_t(
    *, mode: float = 0.0, lower_scale: float = 1.5, upper_scale: float = 1.0, dof: float = 5.0
) -> Target:
    """A skewed Student t in one dimension: another scale on either side of its mode.

    Args:
      mode: where the halves join, continuously, in units of x.
      lower_scale: scale below the mode, positive; the larger one is the longer tail.
      upper_scale: scale above the mode, positive.
      dof: degrees of freedom, positive.

    Returns:
      The `Target`, D = 1; mass below the mode is `lower_scale / (lower_scale + upper_scale)`.

    Raises:
      ValueError: if a scale or `dof` is not positive.

    References:
      Fernandez and Steel, On Bayesian modeling of fat tails and skewness (1998), eq. 1.
    """
    check_positive(lower_scale=lower_scale, upper_scale=upper_scale, dof=dof)
    constant = float(special.gammaln(0.5 * (dof + 1.0)) - special.gammaln(0.5 * dof))
    constant += math.log(2.0 / (lower_scale + upper_scale)) - 0.5 * math.log(dof * math.pi)
    lower_mass = lower_scale / (lower_scale + upper_scale)

    def standardise(x: Array) -> tuple[Array, Array]:
        chex.assert_shape(x, (1,))
        scale = jnp.where(x < mode, lower_scale, upper_scale)
        return (x - mode) / scale, scale

    def log_prob(x: Array) -> Array:
        z, _ = standardise(x)
        return jnp.sum(constant - 0.5 * (dof + 1.0) * jnp.log1p(z**2 / dof))

    def sample(key: Key) -> Array:
        side_key, size_key = jax.random.split(key)
        is_lower = jax.random.uniform(side_key) < lower_mass
        size = jnp.abs(jax.random.t(size_key, dof, (1,)))
        return mode + jnp.where(is_lower, -lower_scale, upper_scale) * size

    def score(x: Array) -> Array:
        z, scale = standardise(x)
        return -(dof + 1.0) * z / (scale * (dof + z**2))

    return Target(log_prob, sample, score)


def log_exponential() -> Target:
    """The law of the log of an exponential variable, `log p(x) = x - exp(x)`, D = 1.

    Skewed to the left, smooth and light: mean -.5772 (minus Euler's constant), variance pi^2 / 6,
    skewness -1.1395. A sign error that symmetric targets hide shows here.
    """

    def log_prob(x: Array) -> Array:
        chex.assert_shape(x, (1,))
        return jnp.sum(x - jnp.exp(x))

    def sample(key: Key) -> Array:
        return -jax.random.gumbel(key, (1,))  # -log(-log u) is minus it

    return Target(log_prob, sample, lambda x: 1.0 - jnp.exp(x))
