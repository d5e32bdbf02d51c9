"""Laws whose mass lies along a curve or whose scale varies: banana, funnel, ring."""

import math

import chex
import jax
import jax.numpy as jnp
from jax.scipy.stats import norm

from densityjax._typing import Array, Key
from densityjax.targets.target import Target, check_positive


def banana(*, curvature: float = 0.5, long_sd: float = 2.0, short_sd: float = 0.5) -> Target:
    """A Gaussian bent along a parabola, in two dimensions, of mean zero.

    `x_1 = long_sd z_1`, `x_2 = short_sd z_2 + curvature (x_1^2 - long_sd^2)`, z standard normal;
    the shear keeps volumes.

    Args:
      curvature: bend, per unit of x_1; zero is a Gaussian.
      long_sd: standard deviation of x_1, positive.
      short_sd: standard deviation of x_2 given x_1, positive.

    Returns:
      The `Target`, D = 2.

    Raises:
      ValueError: if a standard deviation is not positive.

    References:
      Haario, Saksman, Tamminen, Adaptive proposal distribution for random walk Metropolis (1999).
    """
    check_positive(long_sd=long_sd, short_sd=short_sd)

    def residual(x: Array) -> Array:
        chex.assert_shape(x, (2,))
        return x[1] - curvature * (x[0] ** 2 - long_sd**2)

    def log_prob(x: Array) -> Array:
        return norm.logpdf(x[0], scale=long_sd) + norm.logpdf(residual(x), scale=short_sd)

    def sample(key: Key) -> Array:
        long, short = jax.random.normal(key, (2,))
        first = long_sd * long
        return jnp.stack([first, short_sd * short + curvature * (first**2 - long_sd**2)])

    def score(x: Array) -> Array:
        pull = -residual(x) / short_sd**2
        return jnp.stack([-x[0] / long_sd**2 - 2.0 * curvature * x[0] * pull, pull])

    return Target(log_prob, sample, score)


def funnel(dim: int = 2, *, log_scale_sd: float = 3.0) -> Target:
    """Neal's funnel: `x_1 ~ N(0, log_scale_sd^2)`, the others `N(0, exp(x_1))` given it.

    Args:
      dim: dimension D, at least 2.
      log_scale_sd: standard deviation of x_1, the log variance of the others.

    Returns:
      The `Target`.

    Raises:
      ValueError: if `dim` is below 2 or the standard deviation not positive.

    References:
      Neal, Slice sampling (2003), section 8.
    """
    check_positive(log_scale_sd=log_scale_sd)
    if dim < 2:
        raise ValueError(f"dim must be at least 2, got {dim}")

    def log_prob(x: Array) -> Array:
        chex.assert_shape(x, (dim,))
        rest = norm.logpdf(x[1:], scale=jnp.exp(0.5 * x[0]))
        return norm.logpdf(x[0], scale=log_scale_sd) + jnp.sum(rest)

    def sample(key: Key) -> Array:
        noise = jax.random.normal(key, (dim,))
        first = log_scale_sd * noise[:1]
        return jnp.concatenate([first, jnp.exp(0.5 * first) * noise[1:]])

    def score(x: Array) -> Array:
        chex.assert_shape(x, (dim,))
        pull = -jnp.exp(-x[0]) * x[1:]
        first = -x[:1] / log_scale_sd**2 - 0.5 * (dim - 1) - 0.5 * jnp.dot(pull, x[1:])
        return jnp.concatenate([first, pull])

    return Target(log_prob, sample, score)


def ring(*, radius: float = 2.0, width: float = 0.2) -> Target:
    """A ring in two dimensions: the squared distance from zero is a truncated normal.

    `p(x) = exp(-(|x|^2 - radius^2)^2 / (2 t^2)) / (sqrt(2 pi) pi t Phi(radius^2 / t))` with
    `t = 2 radius width`: smooth at the centre, and round. Dividing by pi turns a density of |x|^2
    into one over the plane.

    Args:
      radius: distance of the ridge from zero, positive.
      width: standard deviation across the ridge, about, where it is small against the radius.

    Returns:
      The `Target`, D = 2.

    Raises:
      ValueError: if an argument is not positive.
    """
    check_positive(radius=radius, width=width)
    spread, centre = 2.0 * radius * width, radius**2
    lowest = -centre / spread  # standardised |x|^2 of the centre of the ring

    def standardise(x: Array) -> Array:
        chex.assert_shape(x, (2,))
        return (jnp.sum(x**2) - centre) / spread

    def log_prob(x: Array) -> Array:
        log_mass = norm.logcdf(-lowest) + math.log(math.pi * spread)
        return norm.logpdf(standardise(x)) - log_mass

    def sample(key: Key) -> Array:
        square_key, angle_key = jax.random.split(key)
        square = centre + spread * jax.random.truncated_normal(square_key, lowest, jnp.inf)
        angle = jax.random.uniform(angle_key, maxval=2.0 * math.pi)
        distance = jnp.sqrt(jnp.maximum(square, 0.0))  # rounding only: the law is truncated there
        return distance * jnp.stack([jnp.cos(angle), jnp.sin(angle)])

    return Target(log_prob, sample, lambda x: -2.0 * standardise(x) * x / spread)
