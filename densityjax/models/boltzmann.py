"""The Gaussian-Bernoulli restricted Boltzmann machine: real visible units, binary hidden ones.

Inside, rows are standardised, y = (x - location) / scale. With visible bias m, variances s^2,
weights W [D, H] and hidden bias b,

    E(x, h) = |(y - m) / s|^2 / 2 - (y / s^2)' W h - b' h,
    F(x) = -log sum_h exp(-E(x, h)) = |(y - m) / s|^2 / 2 - sum_j softplus(b + W' (y / s^2))_j,

so that h | x is Bernoulli with logits b + W' (y / s^2) and y | h is N(m + W h, s^2): a mixture of
2^H normal laws of one covariance, whose tails are normal. F rises along every ray. Z is the
integral of exp(-F) over x, in units of x. Hinton and Salakhutdinov, Reducing the dimensionality of
data with neural networks, 2006; Cho et al., Improved learning of Gaussian-Bernoulli restricted
Boltzmann machines, 2011, for one variance a column inside both terms.
"""

import functools
import math
from collections.abc import Callable
from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp

from densityjax._typing import Array, Key, Params
from densityjax.models import boltzmann_partition as partition
from densityjax.models.boltzmann_config import BoltzmannConfig
from densityjax.models.score_parts import fit_standardiser, standardiser

LOG_VARIANCE_RANGE = (-6.0, 2.0)  # of standardised columns: sd from .05 to 2.7
LOG_2_PI = math.log(2.0 * math.pi)
HIGHEST = jax.lax.Precision.HIGHEST  # accelerators would round products to a few digits


class GaussianBernoulliRBM(NamedTuple):
    """The machine as pure functions of one example; `x` is [D], `h` [H] zeros and ones.

    Attributes:
      init: (key, x [N, D], context=None, weights [N] or None) -> params. The rows set the
        standardiser; the machine starts close to the normal law of independent columns.
      energy: (params, x, h) -> [] joint energy, nats.
      free_energy: (params, x, context=None) -> [] minus the log of p(x) Z, nats.
      hidden_logits: (params, x) -> [H] log odds of each hidden unit given x.
      visible_mean: (params, h) -> [D] mean of x given h, in units of x.
      sample_hidden: (key, params, x) -> [H] a draw of p(h | x).
      sample_visible: (key, params, h) -> [D] a draw of p(x | h).
      reconstruct: (params, x) -> [D] mean of x given the mean hidden units, in units of x.
      reconstruction_error: (params, x) -> [] mean square of what `reconstruct` misses, in
        variances of the columns. No likelihood: a machine with wide steps has a small one too.
      hidden_log_weights: (params) -> [2^H] log of p(h) Z of every state; H of at most 16.
      log_z: (params) -> [] log Z, exact; H of at most 16.
      log_z_without_weights: (params) -> [] log Z of the machine with W = 0.
      log_prob: (params, x, context=None, *, log_z=None) -> [] log density per unit volume of x;
        exact with `log_z` None, for H of at most 16.
      sample: (key, params, context=None, *, temperature=1.0) -> [D] an exact draw; H of at most 16.
        The temperature widens the normal laws and flattens the weights of the hidden states.
      config: the `BoltzmannConfig` it was built from.
    """

    init: Callable[..., Params]
    energy: Callable[..., Array]
    free_energy: Callable[..., Array]
    hidden_logits: Callable[..., Array]
    visible_mean: Callable[..., Array]
    sample_hidden: Callable[..., Array]
    sample_visible: Callable[..., Array]
    reconstruct: Callable[..., Array]
    reconstruction_error: Callable[..., Array]
    hidden_log_weights: Callable[..., Array]
    log_z: Callable[..., Array]
    log_z_without_weights: Callable[..., Array]
    log_prob: Callable[..., Array]
    sample: Callable[..., Array]
    config: BoltzmannConfig


def gaussian_bernoulli_rbm(
    dim: int, *, num_hidden: int = 16, initial_sd: float = 0.01
) -> GaussianBernoulliRBM:
    """Builds a Gaussian-Bernoulli machine over examples of `dim` real numbers.

    Equal arguments return the same object, so that compiled programs are found again.

    Args:
      dim: visible units D, >= 1.
      num_hidden: hidden units H, >= 1; up to 16 have an exact density and exact samples.
      initial_sd: sd of the weights at the start.

    Returns:
      The `GaussianBernoulliRBM`.

    Raises:
      ValueError: if an argument is not accepted; names it, its value and what is.
    """
    return gaussian_rbm_from_config(BoltzmannConfig(dim, num_hidden, "gaussian", initial_sd))


@jax.custom_vjp
def clip_log_variance(value: Array) -> Array:
    """Clips log variances to [-6, 2]; gradients that lead back inside pass, others stop there."""
    return jnp.clip(value, *LOG_VARIANCE_RANGE)


def _clip_forward(value: Array) -> tuple[Array, Array]:
    return clip_log_variance(value), value


def _clip_backward(value: Array, gradient: Array) -> tuple[Array]:
    low, high = LOG_VARIANCE_RANGE
    # Descent moves against the gradient.
    leaves = ((value <= low) & (gradient > 0.0)) | ((value >= high) & (gradient < 0.0))
    return (jnp.where(leaves, 0.0, gradient),)


clip_log_variance.defvjp(_clip_forward, _clip_backward)


@functools.lru_cache(maxsize=64)
def gaussian_rbm_from_config(config: BoltzmannConfig) -> GaussianBernoulliRBM:
    """Builds the machine that `config` describes; equal configs give the same object."""
    if config.visible != "gaussian":
        raise ValueError(f"visible is {config.visible!r}: accepted is 'gaussian'")
    dim, num_hidden = config.dim, config.num_hidden

    def init(
        key: Key, x: Array, context: Array | None = None, weights: Array | None = None
    ) -> Params:
        refuse_context(context)
        chex.assert_shape(x, (None, dim))
        return {
            "standardiser": fit_standardiser(x, weights)._asdict(),
            "kernel": config.initial_sd * jax.random.normal(key, (dim, num_hidden)),
            "visible_bias": jnp.zeros(dim),
            "hidden_bias": jnp.zeros(num_hidden),
            "log_variance": jnp.zeros(dim),
        }

    def standard(params: Params, x: Array) -> Array:
        chex.assert_shape(x, (dim,))
        location, scale = standardiser(params)
        return (x - location) / scale

    def variance(params: Params) -> Array:
        return jnp.exp(clip_log_variance(params["log_variance"]))

    def logits(params: Params, y: Array) -> Array:
        drive = jnp.matmul(y / variance(params), params["kernel"], precision=HIGHEST)
        return params["hidden_bias"] + drive

    def quadratic(params: Params, y: Array) -> Array:
        return 0.5 * jnp.sum((y - params["visible_bias"]) ** 2 / variance(params))

    def energy(params: Params, x: Array, h: Array) -> Array:
        chex.assert_shape(h, (num_hidden,))
        y = standard(params, x)
        return quadratic(params, y) - jnp.vdot(logits(params, y), h, precision=HIGHEST)

    def free_energy(params: Params, x: Array, context: Array | None = None) -> Array:
        refuse_context(context)
        y = standard(params, x)
        return quadratic(params, y) - jnp.sum(jax.nn.softplus(logits(params, y)))

    def hidden_logits(params: Params, x: Array) -> Array:
        return logits(params, standard(params, x))

    def visible_mean(params: Params, h: Array) -> Array:
        chex.assert_shape(h, (num_hidden,))
        location, scale = standardiser(params)
        mean = params["visible_bias"] + jnp.matmul(params["kernel"], h, precision=HIGHEST)
        return location + scale * mean

    def sample_hidden(key: Key, params: Params, x: Array) -> Array:
        rate = jax.nn.sigmoid(hidden_logits(params, x))
        return jax.random.bernoulli(key, rate).astype(rate.dtype)

    def sample_visible(key: Key, params: Params, h: Array, *, spread: float = 1.0) -> Array:
        mean = visible_mean(params, h)
        sd = standardiser(params).scale * jnp.sqrt(variance(params))
        return mean + spread * sd * jax.random.normal(key, mean.shape, mean.dtype)

    def reconstruct(params: Params, x: Array) -> Array:
        return visible_mean(params, jax.nn.sigmoid(hidden_logits(params, x)))

    def reconstruction_error(params: Params, x: Array) -> Array:
        missed = (x - reconstruct(params, x)) / standardiser(params).scale
        return jnp.mean(missed**2)

    def volume(params: Params) -> Array:
        log_scale = jnp.log(standardiser(params).scale)
        return jnp.sum(log_scale + 0.5 * (LOG_2_PI + clip_log_variance(params["log_variance"])))

    def hidden_log_weights(params: Params) -> Array:
        # |m + W h|^2 - |m|^2 in units of s^2 is linear and quadratic in h: D drops out of the sum.
        scaled = params["kernel"] / variance(params)[:, None]
        linear = params["hidden_bias"] + jnp.matmul(
            params["visible_bias"], scaled, precision=HIGHEST
        )
        square = jnp.matmul(params["kernel"].T, scaled, precision=HIGHEST)

        def log_weight(h: Array) -> Array:
            pull = linear + 0.5 * jnp.matmul(h, square, precision=HIGHEST)
            return jnp.sum(h * pull, axis=-1)

        return partition.table(log_weight, num_hidden) + volume(params)

    def log_z(params: Params) -> Array:
        return jax.nn.logsumexp(hidden_log_weights(params))

    def log_z_without_weights(params: Params) -> Array:
        return jnp.sum(jax.nn.softplus(params["hidden_bias"])) + volume(params)

    def log_prob(
        params: Params, x: Array, context: Array | None = None, *, log_z: Array | None = None
    ) -> Array:
        normaliser = jax.nn.logsumexp(hidden_log_weights(params)) if log_z is None else log_z
        return -free_energy(params, x, context) - normaliser

    def sample(
        key: Key, params: Params, context: Array | None = None, *, temperature: float = 1.0
    ) -> Array:
        refuse_context(context)
        hidden_key, visible_key = jax.random.split(key)
        log_weights = hidden_log_weights(params) / temperature
        h = partition.sample_state(hidden_key, log_weights, num_hidden)
        return sample_visible(visible_key, params, h, spread=temperature**0.5)

    return GaussianBernoulliRBM(
        init,
        energy,
        free_energy,
        hidden_logits,
        visible_mean,
        sample_hidden,
        sample_visible,
        reconstruct,
        reconstruction_error,
        hidden_log_weights,
        log_z,
        log_z_without_weights,
        log_prob,
        sample,
        config,
    )


def refuse_context(context: Array | None) -> None:
    """Raises ValueError where a context is given: machines take none."""
    if context is not None:
        raise ValueError(f"context is of shape {jnp.shape(context)}: accepted is None")
