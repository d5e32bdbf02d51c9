"""Gaussians and their mixtures, with and without noise.

Adding independent N(0, sigma^2 I) noise to either adds sigma^2 I to each covariance and leaves the
rest. `Target.noised` does that for any sigma, a traced one too: covariances are taken apart into
eigenvalues and eigenvectors once, and noise only raises the eigenvalues.
"""

import math
from collections.abc import Callable

import chex
import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from densityjax._typing import Array, ArrayLike, Key, NumpyArray
from densityjax.targets.target import Target, check_positive, cholesky_factors


def gaussian(mean: ArrayLike, covariance: ArrayLike) -> Target:
    """The normal law N(mean, covariance).

    Args:
      mean: [D] centre.
      covariance: [D, D] symmetric, positive definite.

    Returns:
      The `Target`.

    Raises:
      ValueError: if shapes disagree or the covariance is not positive definite.
    """
    return gaussian_mixture(
        np.ones(1), np.asarray(mean, np.float64)[None], np.asarray(covariance, np.float64)[None]
    )


def gaussian_mixture(weights: ArrayLike, means: ArrayLike, covariances: ArrayLike) -> Target:
    """The mixture `sum_k weights_k N(means_k, covariances_k)`.

    Args:
      weights: [K] probabilities of the modes, of sum one.
      means: [K, D] centres of the modes.
      covariances: [K, D, D] covariances of the modes, positive definite.

    Returns:
      The `Target`.

    Raises:
      ValueError: if shapes disagree, weights are no probabilities or a covariance is not positive
        definite.
    """
    prob, centres = np.asarray(weights, np.float64), np.asarray(means, np.float64)
    factors = cholesky_factors("covariances", covariances)
    if centres.ndim != 2 or factors.shape != (*centres.shape, centres.shape[1]):
        raise ValueError(f"means and covariances disagree: {centres.shape}, {factors.shape}")
    if prob.shape != centres.shape[:1] or np.any(prob < 0.0) or not np.isclose(prob.sum(), 1.0):
        raise ValueError(f"weights must be {len(centres)} probabilities of sum 1, got {prob}")
    dim = centres.shape[1]
    whitener = np.linalg.inv(factors)  # [K, D, D], z = whitener (x - mean) is standard
    log_scale = np.log(np.diagonal(factors, axis1=-2, axis2=-1)).sum(-1)
    constant = jnp.asarray(np.log(prob) - log_scale - 0.5 * dim * math.log(2.0 * math.pi))
    centre, factor, whiten = (jnp.asarray(array) for array in (centres, factors, whitener))
    highest = jax.lax.Precision.HIGHEST  # accelerators round products otherwise

    def standardise(x: Array) -> Array:
        chex.assert_shape(x, (dim,))
        return jnp.einsum("kij,kj->ki", whiten, x - centre, precision=highest)

    def joint(z: Array) -> Array:
        return constant - 0.5 * jnp.sum(z**2, axis=-1)

    def score(x: Array) -> Array:
        z = standardise(x)
        pull = -jnp.einsum("kji,kj->ki", whiten, z, precision=highest)
        return jax.nn.softmax(joint(z)) @ pull

    def sample(key: Key) -> Array:
        mode_key, noise_key = jax.random.split(key)
        mode = jax.random.categorical(mode_key, jnp.log(jnp.asarray(prob)))
        noise = jax.random.normal(noise_key, (dim,))
        return centre[mode] + jnp.matmul(factor[mode], noise, precision=highest)

    noised = _noising(prob, centres, np.asarray(covariances, np.float64), sample)
    return Target(lambda x: jax.nn.logsumexp(joint(standardise(x))), sample, score, noised)


def _noising(
    prob: NumpyArray,
    centres: NumpyArray,
    covariances: NumpyArray,
    sample: Callable[[Key], Array],
) -> Callable[[ArrayLike], Target]:
    """Builds `Target.noised` of a mixture, as `gaussian_mixture` takes it, and its sampler."""
    values, vectors = np.linalg.eigh(covariances)
    log_prob_of_mode, centre = jnp.asarray(np.log(prob)), jnp.asarray(centres)
    eigenvalue, rotation = jnp.asarray(values), jnp.asarray(vectors)
    highest = jax.lax.Precision.HIGHEST  # accelerators round products otherwise

    def noised(sigma: ArrayLike) -> Target:
        if not isinstance(sigma, Tracer) and not 0.0 <= float(np.asarray(sigma)) < np.inf:
            raise ValueError(f"sigma must be finite and not negative, got {sigma}")
        variance = eigenvalue + jnp.square(sigma)
        constant = log_prob_of_mode - 0.5 * jnp.sum(jnp.log(2.0 * math.pi * variance), axis=-1)

        def along(x: Array) -> Array:
            chex.assert_shape(x, centre.shape[1:])
            return jnp.einsum("kji,kj->ki", rotation, x - centre, precision=highest)

        def joint(y: Array) -> Array:
            return constant - 0.5 * jnp.sum(y**2 / variance, axis=-1)

        def score(x: Array) -> Array:
            y = along(x)
            pull = -jnp.einsum("kij,kj->ki", rotation, y / variance, precision=highest)
            return jax.nn.softmax(joint(y)) @ pull

        def noisy_sample(key: Key) -> Array:
            clean_key, noise_key = jax.random.split(key)
            return sample(clean_key) + sigma * jax.random.normal(noise_key, centre.shape[1:])

        def noised_again(more: ArrayLike) -> Target:
            return noised(jnp.sqrt(jnp.square(sigma) + jnp.square(more)))

        return Target(
            lambda x: jax.nn.logsumexp(joint(along(x))), noisy_sample, score, noised_again
        )

    return noised


def random_gaussian_mixture(
    key: Key, dim: int, *, num_modes: int = 5, centre_sd: float = 3.0, mode_sd: float = 0.5
) -> Target:
    """A mixture of round modes, equally likely, with centres drawn from N(0, centre_sd^2 I).

    Args:
      key: random key of the centres, typed.
      dim: dimension D, positive.
      num_modes: number of modes K, positive.
      centre_sd: standard deviation of the centres, in units of x; 3 and 2 are usual.
      mode_sd: standard deviation of every mode, in units of x.

    Returns:
      The `Target`.

    Raises:
      ValueError: if a size or a standard deviation is not positive.
    """
    check_positive(dim=dim, num_modes=num_modes, centre_sd=centre_sd, mode_sd=mode_sd)
    means = centre_sd * np.asarray(jax.random.normal(key, (num_modes, dim)), np.float64)
    covariances = np.tile(mode_sd**2 * np.eye(dim), (num_modes, 1, 1))
    return gaussian_mixture(np.full(num_modes, 1.0 / num_modes), means, covariances)
