"""Hamilton filter of the simulated market: what returns up to t say about the next one.

The volatility is a function of past returns; the regime is not. Its probability is carried in logs:
`log P(s_{t+1} = j | r up to t) = logsumexp_i(log P(s_t = i | r up to t) + log A_ij)`.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from densityjax._typing import Array, ArrayLike, NumpyArray
from densityjax.market.simulated_density import mixture_log_pdf
from densityjax.market.simulated_law import MarketLaw
from densityjax.market.simulated_path import double_precision, next_variance, variance_coefficients


class ConditionalLaw(NamedTuple):
    """What the past says about the next return.

    Attributes:
      sigma: [T] scale of the next return, log return.
      regime_probability: [T, S] probability of each regime of the next bar.
    """

    sigma: NumpyArray
    regime_probability: NumpyArray


def conditional_law(law: MarketLaw, returns: ArrayLike) -> ConditionalLaw:
    """Filters returns: the law of each next return given those up to it.

    Args:
      law: the law of the market, whose first bar starts from the stationary regimes.
      returns: [T] log returns from the first bar on.

    Returns:
      The `ConditionalLaw`; row t reads returns up to t.

    Raises:
      ValueError: if `returns` is not a finite vector.
    """
    returns = np.asarray(returns, np.float64)
    if returns.ndim != 1 or not np.all(np.isfinite(returns)):
        raise ValueError(f"returns must be a finite vector, got shape {returns.shape}")
    with double_precision():
        variance = np.asarray(_variance_path(variance_coefficients(law), returns))
        x = (returns / np.sqrt(variance[:-1]))[:, None]
        each_regime = np.eye(law.num_regimes)  # one-hot probabilities: the density in each regime
        log_likelihood = np.stack(
            [
                mixture_log_pdf(law.components, np.broadcast_to(one, (len(x), len(one))), x)
                for one in each_regime
            ],
            axis=-1,
        )[:, 0]
        log_probability = _filter_regimes(law.transition, law.stationary, log_likelihood)
    return ConditionalLaw(np.sqrt(variance[1:]), np.exp(np.asarray(log_probability)))


@jax.jit
def _variance_path(coefficients: Array, returns: Array) -> Array:
    """Returns sigma^2 of every bar and of the one after the last, [T + 1]."""

    def step(variance: Array, log_return: Array) -> tuple[Array, Array]:
        variance = next_variance(coefficients, variance, log_return)
        return variance, variance

    path = jax.lax.scan(step, coefficients[0], returns)[1]
    return jnp.concatenate([coefficients[:1], path])


@jax.jit
def _filter_regimes(transition: Array, stationary: Array, log_likelihood: Array) -> Array:
    """Returns log P(s_{t+1} | r up to t), [T, S], from log likelihoods [T, S] of each bar."""
    log_transition = jnp.log(transition)

    def step(predicted: Array, log_likelihood_t: Array) -> tuple[Array, Array]:
        joint = predicted + log_likelihood_t
        filtered = joint - jax.nn.logsumexp(joint)
        predicted = jax.nn.logsumexp(filtered[:, None] + log_transition, axis=0)
        return predicted, predicted

    return jax.lax.scan(step, jnp.log(stationary), log_likelihood)[1]
