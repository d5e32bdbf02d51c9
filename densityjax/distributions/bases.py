"""Base distributions of flows, as pure functions of one example; standard location and scale.

The multivariate t with `df` degrees of freedom shares one mixing variable between the dimensions,
so joint extremes stay dependent. Its power tails must not meet a Lambert-W layer with h > 0: the
result has no mean. `wallace_to_t` and `wallace_from_t` tie the t to marginals close to normal,
which is the safe way to have both.
"""

import math
from collections.abc import Callable

import chex
import jax
import jax.numpy as jnp

from densityjax import numerics
from densityjax._typing import Array, ArrayLike, Key

# Coefficients of log1p(u) / u and expm1(u) / u, highest power first.
_LOG1P_SERIES = tuple((-1.0) ** k / (k + 1) for k in range(8, -1, -1))
_EXPM1_SERIES = tuple(1.0 / math.factorial(k + 1) for k in range(8, -1, -1))


def normal_log_prob(z: Array) -> Array:
    """Returns the log density of the standard normal law.

    Args:
      z: [D] example, no unit.

    Returns:
      The [] log density, in nats.
    """
    chex.assert_rank(z, 1)
    return -0.5 * (jnp.sum(z * z) + z.shape[0] * math.log(2.0 * math.pi))


def normal_sample(key: Key, dim: int) -> Array:
    """Draws one `[dim]` example of the standard normal law."""
    return jax.random.normal(key, (dim,))


def student_t_log_prob(z: Array, df: ArrayLike) -> Array:
    """Returns the log density of the multivariate t with identity scale.

    Args:
      z: [D] example, no unit.
      df: [] degrees of freedom, positive; the variance is df / (df - 2) where df > 2.

    Returns:
      The [] log density, in nats.

    References:
      Kotz & Nadarajah, Multivariate t Distributions and Their Applications, 2004, equation 1.1.
    """
    chex.assert_rank(z, 1)
    df, dim = jnp.asarray(df, z.dtype), z.shape[0]
    lgamma, half = jax.scipy.special.gammaln, 0.5 * (df + dim)
    constant = lgamma(half) - lgamma(0.5 * df) - 0.5 * dim * jnp.log(df * math.pi)
    # Far out the squares overflow: there the largest entry is taken out of the sum.
    size = jax.lax.stop_gradient(jnp.max(jnp.abs(z)))
    is_far = size > numerics.SQUARE_CAP
    size = jnp.where(is_far, size, 1.0)
    near, far = jnp.where(is_far, 0.0, z), jnp.where(is_far, z / size, 1.0)
    log_far = 2.0 * jnp.log(size) + jnp.log(jnp.sum(far * far) / df)
    log_term = jnp.where(is_far, log_far, jnp.log1p(jnp.sum(near * near) / df))
    return constant - half * log_term


def student_t_sample(key: Key, dim: int, df: ArrayLike) -> Array:
    """Draws one `[dim]` example of the multivariate t with `df` degrees of freedom."""
    normal_key, chi_key = jax.random.split(key)
    half = 0.5 * jnp.asarray(df, jnp.result_type(float))
    # In logs: for few degrees of freedom the gamma variable underflows.
    log_mixing = jax.random.loggamma(chi_key, half) - jnp.log(half)
    return jax.random.normal(normal_key, (dim,)) * jnp.exp(-0.5 * log_mixing)


def wallace_from_t(z: Array, df: ArrayLike) -> tuple[Array, Array]:
    """Maps one t value to a nearly normal score, g = sign(z) kappa sqrt(df log1p(z^2 / df)).

    kappa = (8 df + 1) / (8 df + 3).

    Args:
      z: [] value with t tails, no unit.
      df: [] degrees of freedom, positive.

    Returns:
      g: [] score, close to normal for |g| < 4.
      log_slope: [] natural log of dg/dz.

    References:
      Wallace, Bounds on normal approximations to Student's and the chi-square distributions,
      Annals of Mathematical Statistics 30, 1959.
    """
    chex.assert_rank(z, 0)
    kappa = wallace_factor(df)
    u = z * z / df
    ratio = _ratio(u, jnp.log1p, _LOG1P_SERIES)
    return kappa * z * jnp.sqrt(ratio), jnp.log(kappa) - 0.5 * jnp.log(ratio) - jnp.log1p(u)


def wallace_to_t(g: Array, df: ArrayLike) -> tuple[Array, Array]:
    """Undoes `wallace_from_t`: z = sign(g) sqrt(df expm1(g^2 / (df kappa^2))).

    Args:
      g: [] score, no unit.
      df: [] degrees of freedom, positive.

    Returns:
      z: [] value with t tails.
      log_slope: [] natural log of dz/dg.
    """
    chex.assert_rank(g, 0)
    kappa = wallace_factor(df)
    u = (g / kappa) ** 2 / df
    ratio = _ratio(u, jnp.expm1, _EXPM1_SERIES)
    return g / kappa * jnp.sqrt(ratio), u - jnp.log(kappa) - 0.5 * jnp.log(ratio)


def _ratio(u: Array, function: Callable[[Array], Array], series: tuple[float, ...]) -> Array:
    """Returns function(u) / u, by its series near 0, where the derivative of the quotient fails."""
    is_small = u < numerics.SERIES_SWITCH
    safe = jnp.where(is_small, 1.0, u)
    small = jnp.where(is_small, u, 0.0)
    return jnp.where(
        is_small, jnp.polyval(jnp.asarray(series, u.dtype), small), function(safe) / safe
    )


def wallace_factor(df: ArrayLike) -> Array:
    """Returns Wallace's factor kappa = (8 df + 1) / (8 df + 3), less than 1."""
    df = jnp.asarray(df)
    return (8.0 * df + 1.0) / (8.0 * df + 3.0)


def wallace_t_log_prob(g: Array, df: ArrayLike) -> Array:
    """Returns the log density of Wallace scores of the multivariate t with identity scale.

    The entries are close to normal one by one and share the mixing variable of the t. In logs
    throughout, for t values of far scores overflow.

    Args:
      g: [D] scores, no unit; see `wallace_from_t`.
      df: [] degrees of freedom, positive.

    Returns:
      The [] log density, in nats.
    """
    chex.assert_rank(g, 1)
    kappa, dim, df = wallace_factor(df), g.shape[0], jnp.asarray(df, g.dtype)
    a = (g / kappa) ** 2 / df  # log(1 + z^2 / df) of the t value z
    is_far = jnp.max(a) > 1.0
    near, far = jnp.where(is_far, 0.0, a), jnp.where(is_far, a, 1.0)
    largest = jnp.max(far)
    others = jnp.sum(jnp.exp(far - largest)) - (dim - 1) * jnp.exp(-largest)
    log_term = jnp.where(is_far, largest + jnp.log(others), jnp.log1p(jnp.sum(jnp.expm1(near))))
    is_large = a > 1.0
    large, small = jnp.where(is_large, a, 2.0), jnp.where(is_large, 0.0, a)
    log_ratio = large + jnp.log1p(-jnp.exp(-large)) - jnp.log(large)
    log_ratio = jnp.where(is_large, log_ratio, jnp.log(_ratio(small, jnp.expm1, _EXPM1_SERIES)))
    lgamma, half = jax.scipy.special.gammaln, 0.5 * (df + dim)
    constant = lgamma(half) - lgamma(0.5 * df) - 0.5 * dim * jnp.log(df * math.pi)
    log_slope = jnp.sum(a - jnp.log(kappa) - 0.5 * log_ratio)
    return constant - half * log_term + log_slope


def student_t_cdf(z: Array, df: ArrayLike) -> Array:
    """Returns P(T <= z) for Student's t in one dimension, by the incomplete beta function.

    Args:
      z: [] value, no unit.
      df: [] degrees of freedom, positive.

    Returns:
      The [] probability.
    """
    chex.assert_rank(z, 0)
    df = jnp.asarray(df, z.dtype)
    tail = 0.5 * jax.scipy.special.betainc(0.5 * df, 0.5, df / (df + z * z))
    return jnp.where(z > 0.0, 1.0 - tail, tail)
