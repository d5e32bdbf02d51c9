"""Does a density integrate to one? Importance sampling from a law that can be sampled.

With x_i ~ q and w_i = p(x_i) / q(x_i), the mean weight estimates the integral Z of p. The answer is
worth as much as its effective sample size (sum w)^2 / sum w^2 and the tail of its weights: a Pareto
shape above .7 means that the largest weights decide. Vehtari et al., Pareto smoothed importance
sampling, 2024 (https://arxiv.org/abs/1507.02646), section 2, for the threshold; Zhang and Stephens,
A new and efficient estimation method for the generalized Pareto distribution, 2009, for the shape.
"""

import math
from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp

from densityjax._typing import Array

MIN_TAIL = 5  # fewest weights that a tail shape is read from


class Normalisation(NamedTuple):
    """What importance sampling says of the integral of a density.

    Attributes:
      log_z: [] log of the estimated integral, nats; 0 for a normalised density.
      standard_error: [] of `log_z`, `sqrt(1 / ESS - 1 / N)`, nats.
      effective_sample_size: [] rows that count, from 1 to N.
      tail_shape: [] Pareto shape of the largest weights; above .7 the rest is not to be trusted.
    """

    log_z: Array
    standard_error: Array
    effective_sample_size: Array
    tail_shape: Array


def importance_check(log_prob: Array, proposal_log_prob: Array) -> Normalisation:
    """Estimates the integral of a density from rows drawn from another law.

    Args:
      log_prob: [N] log density in question at rows drawn from the proposal, nats.
      proposal_log_prob: [N] normalised log density of the proposal there, nats, same units.

    Returns:
      The `Normalisation`; NaN where a log density is NaN.
    """
    chex.assert_rank([log_prob, proposal_log_prob], 1)
    chex.assert_equal_shape([log_prob, proposal_log_prob])
    log_weights = log_prob - proposal_log_prob
    num = log_weights.shape[0]
    log_sum = jax.nn.logsumexp(log_weights)
    size = jnp.exp(2.0 * log_sum - jax.nn.logsumexp(2.0 * log_weights))
    error = jnp.sqrt(jnp.maximum(1.0 / size - 1.0 / num, 0.0))
    return Normalisation(log_sum - math.log(num), error, size, tail_shape(log_weights))


def tail_shape(log_weights: Array) -> Array:
    """Fits the Pareto shape of the largest `min(N / 5, 3 sqrt(N))` weights.

    Args:
      log_weights: [N] logs of importance weights, up to a constant.

    Returns:
      [] the shape, 0 for exponential tails, 1 for a mean that does not exist; NaN below 25 rows.
    """
    chex.assert_rank(log_weights, 1)
    num = log_weights.shape[0]
    size = min(num // 5, math.ceil(3.0 * math.sqrt(num)))
    if size < MIN_TAIL:
        return jnp.full((), jnp.nan, log_weights.dtype)
    top = jax.lax.top_k(log_weights, size + 1)[0][::-1]
    weights = jnp.exp(top - top[-1])
    excess = weights[1:] - weights[0]
    # The profile likelihood over a grid of rates, weighted by itself: no search, no bad start.
    num_rates = 30 + int(math.sqrt(size))
    grid = 1.0 - jnp.sqrt(num_rates / (jnp.arange(num_rates) + 0.5))
    rates = 1.0 / excess[-1] + grid / (3.0 * excess[int(size / 4 + 0.5) - 1])
    shapes = jax.vmap(lambda rate: jnp.mean(jnp.log1p(-rate * excess)))(rates)
    fits = size * (jnp.log(-rates / shapes) - shapes - 1.0)
    rate = jnp.vdot(jax.nn.softmax(fits), rates)
    shape = jnp.mean(jnp.log1p(-rate * excess))
    shape = (size * shape + 5.0) / (size + 10.0)  # drawn towards 1/2, by ten rows of prior
    # Equal weights have no tail at all.
    return jnp.where(excess[-1] > 0.0, shape, 0.0)
