"""Contrastive losses: energies learnt by telling data from other points.

Convention: p(x) = exp(-E(x)) / Z. Negatives come from the model, by chains; noise comes from a
law q whose normalised log density, every constant included, is known: a constant left out of
log q is a constant wrong in log Z. One example of data with its own negatives or noise, a scalar
out; means over rows are the caller's. What is written in log ratios, log p - log q, holds for any
energy and any noise.
"""

import math
from collections.abc import Callable

import chex
import jax
import jax.numpy as jnp

from densityjax._typing import Array, ArrayLike, LogDensityFn

EnergyFn = Callable[[Array], Array]  # [D] -> [] nats
MAX_LOG_WEIGHT = 10.0  # nats: e^10 times the average, beyond which one noise row decides


def contrastive_divergence(
    energy_fn: EnergyFn, x: Array, negative: Array, *, regularisation: ArrayLike = 0.0
) -> Array:
    """Computes `E(x) - E(x') + alpha (E(x)^2 + E(x')^2)`; no gradient goes through x'.

    Its gradient in the parameters is that of the log-likelihood as far as x' is a draw of the
    model. The value is no likelihood: it need not fall, and nothing should be selected by it. With
    alpha above zero the minimiser depends on the constant of the energy, and is not the law.

    Args:
      energy_fn: energy with parameters bound, [D] to [] nats.
      x: [D] one example of the data.
      negative: [D] the end of a chain on exp(-E): begun at data (CD-k) or carried on (persistent).
      regularisation: alpha, per nat, >= 0; chapter's value .01, which keeps energies near zero.

    Returns:
      [] the loss, nats.

    References:
      Hinton, Training Products of Experts by Minimizing Contrastive Divergence, 2002, eq. 5; Du and
      Mordatch, 2019, https://arxiv.org/abs/1903.08689, for the squares.
    """
    chex.assert_rank(x, 1)
    chex.assert_equal_shape([x, negative])
    of_data, of_negative = energy_fn(x), energy_fn(jax.lax.stop_gradient(negative))
    return of_data - of_negative + regularisation * (of_data**2 + of_negative**2)


def logistic_contrast(log_ratio: Array, noise_log_ratio: Array) -> Array:
    """Computes `softplus(-h(x)) + nu mean_k softplus(h(x_k))`, `h = log p - log q - log nu`.

    At p = q its mean is `log(1 + nu) + nu log(1 + 1 / nu)`, 2 log 2 for one noise row; it never
    overflows. At the minimum p is the normalised law of the data, its constant learnt too.

    Args:
      log_ratio: [] log p - log q of the example, nats.
      noise_log_ratio: [K] the same of K = nu rows of noise drawn from q, nats.

    Returns:
      [] the loss, nats.

    References:
      Gutmann and Hyvarinen, Noise-Contrastive Estimation of Unnormalized Statistical Models, 2012,
      eq. 8 and 28.
    """
    chex.assert_rank([log_ratio, noise_log_ratio], [0, 1])
    log_count = math.log(noise_log_ratio.shape[0])
    # nu times the mean over nu rows is the sum over them.
    of_noise = jnp.sum(jax.nn.softplus(noise_log_ratio - log_count))
    return jax.nn.softplus(log_count - log_ratio) + of_noise


def ranking_contrast(log_ratio: Array, noise_log_ratio: Array) -> Array:
    """Computes minus the log of the share of the example among itself and its noise: InfoNCE.

    `-log(r / (r + sum_k r_k))`, the example itself in the denominator, `log(1 + K)` at p = q. Any
    constant in log p falls out: log Z is not learnt, and is to be estimated afterwards.

    Args:
      log_ratio: [] log p - log q of the example, nats, up to a constant.
      noise_log_ratio: [K] the same of rows of noise drawn from q, up to the same constant.

    Returns:
      [] the loss, nats, positive.

    References:
      Ma and Collins, Noise Contrastive Estimation and Negative Sampling for Conditional Models,
      2018, https://arxiv.org/abs/1809.01812, eq. 6.
    """
    chex.assert_rank([log_ratio, noise_log_ratio], [0, 1])
    return jax.nn.logsumexp(jnp.concatenate([log_ratio[None], noise_log_ratio])) - log_ratio


def self_normalised_bound(
    energy: Array,
    noise_log_ratio: Array,
    log_z: ArrayLike,
    *,
    max_log_weight: float = MAX_LOG_WEIGHT,
) -> Array:
    """Computes `E(x) + b - 1 + mean_k exp(-E(x_k) - log q(x_k) - b)`: above -log p in the mean.

    Equal to it at b = log Z, which is where the minimum in b lies: maximum likelihood with the
    normaliser learnt. Weights beyond `exp(max_log_weight)` go on linearly in their log, so that
    one noise row cannot throw a fit away; there the bound is looser, its gradient still points on.

    Args:
      energy: [] energy of the example, nats.
      noise_log_ratio: [K] -E - log q of rows of noise drawn from q, nats.
      log_z: [] learnt log Z, b, nats.
      max_log_weight: log weight, less b, from which on the exponential is a straight line.

    Returns:
      [] the loss, nats.

    References:
      Senetaire et al., Learning Energy-Based Models by Self-normalising the Likelihood, 2025,
      https://arxiv.org/abs/2503.07021.
    """
    chex.assert_rank([energy, noise_log_ratio], [0, 1])
    log_weight = noise_log_ratio - log_z
    capped = jnp.minimum(log_weight, max_log_weight)
    weight = jnp.exp(capped) * (1.0 + log_weight - capped)
    return energy + log_z - 1.0 + jnp.mean(weight)


def _log_ratios(
    energy_fn: EnergyFn, noise_log_prob_fn: LogDensityFn, x: Array, noise: Array
) -> tuple[Array, Array]:
    """Returns -E - log q at x, [], and at rows of noise, [K]."""
    chex.assert_rank([x, noise], [1, 2])
    chex.assert_equal_shape_suffix([x, noise], 1)

    def one(point: Array) -> Array:
        return -energy_fn(point) - noise_log_prob_fn(point)

    return one(x), jax.vmap(one)(noise)


def noise_contrastive_estimation(
    energy_fn: EnergyFn,
    x: Array,
    noise: Array,
    noise_log_prob_fn: LogDensityFn,
    *,
    log_z: ArrayLike = 0.0,
    ranking: bool = False,
) -> Array:
    """As `logistic_contrast`, or `ranking_contrast`, of an energy and a law of noise.

    Args:
      energy_fn: energy with parameters bound, [D] to [] nats.
      x: [D] one example of the data.
      noise: [K, D] draws of the noise; the number of them is nu.
      noise_log_prob_fn: normalised log density of the noise, [D] to [] nats, all constants in it.
      log_z: [] learnt log Z, nats; of no effect on ranking.
      ranking: rank the example among its noise, instead of classifying each row.

    Returns:
      [] the loss, nats.

    References:
      As `logistic_contrast` and `ranking_contrast`.
    """
    of_data, of_noise = _log_ratios(energy_fn, noise_log_prob_fn, x, noise)
    contrast = ranking_contrast if ranking else logistic_contrast
    return contrast(of_data - log_z, of_noise - log_z)


def conditional_noise_contrastive_estimation(energy_fn: EnergyFn, x: Array, noisy: Array) -> Array:
    """Computes `2 mean_k softplus(E(x) - E(x_k))` for x_k a copy of x with symmetric noise.

    The law of the noise and Z cancel, so nothing else is needed and log Z is not learnt: 2 log 2
    for a flat energy. Modes farther apart than the noise keep a constant each.

    Args:
      energy_fn: energy with parameters bound, [D] to [] nats.
      x: [D] one example of the data.
      noisy: [K, D] copies of it with symmetric noise, `x + sigma eps`.

    Returns:
      [] the loss, nats.

    References:
      Ceylan and Gutmann, Conditional Noise-Contrastive Estimation of Unnormalised Models, 2018,
      https://arxiv.org/abs/1806.03664, eq. 11.
    """
    chex.assert_rank([x, noisy], [1, 2])
    chex.assert_equal_shape_suffix([x, noisy], 1)
    return 2.0 * jnp.mean(jax.nn.softplus(energy_fn(x) - jax.vmap(energy_fn)(noisy)))


def self_normalised_likelihood(
    energy_fn: EnergyFn,
    x: Array,
    noise: Array,
    noise_log_prob_fn: LogDensityFn,
    *,
    log_z: ArrayLike,
    max_log_weight: float = MAX_LOG_WEIGHT,
) -> Array:
    """As `self_normalised_bound`, of an energy and a law of noise.

    Args:
      energy_fn: energy with parameters bound, [D] to [] nats.
      x: [D] one example of the data.
      noise: [K, D] draws of the noise.
      noise_log_prob_fn: normalised log density of the noise, [D] to [] nats.
      log_z: [] learnt log Z, nats.
      max_log_weight: as in `self_normalised_bound`.

    Returns:
      [] the loss, nats.

    References:
      As `self_normalised_bound`.
    """
    _, of_noise = _log_ratios(energy_fn, noise_log_prob_fn, x, noise)
    return self_normalised_bound(energy_fn(x), of_noise, log_z, max_log_weight=max_log_weight)
