"""Tail risk and moments of ONE return distribution, from its quantiles or from draws; jittable.

A distribution enters as `quantile_fn`, probability [] to return [], increasing, with its state or
context bound; use `jax.vmap` over states. `confidence` is .99 for the 1 % tail; value at risk
(VaR) and expected shortfall (ES) are losses, positive where money is lost, in units of the
return: `VaR_c = -Q(1 - c)` and `ES_c = -(1 - c)^-1 int_0^{1-c} Q(u) du`.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np

from densityjax._typing import Array, ArrayLike

QuantileFn = Callable[[Array], Array]  # [] probability -> [] return

NUM_TAIL_NODES = 32  # Gauss-Legendre nodes of one tail: ES to 2e-7 relative, tail index up to 1/2
MOMENT_SPLIT = 0.5  # the moments integrate each half of the distribution as a tail of its own


class RiskRecord(NamedTuple):
    """Summary of one return distribution.

    Attributes:
      value_at_risk: loss exceeded with probability `1 - confidence`, in units of the return.
      expected_shortfall: mean loss beyond the value at risk, in units of the return.
      mean: expected return.
      std: standard deviation of the return.
      skewness: third standardised central moment.
      excess_kurtosis: fourth standardised central moment less 3.
      confidence: level of the two losses, .99 for the 1 % tail.
    """

    value_at_risk: Array
    expected_shortfall: Array
    mean: Array
    std: Array
    skewness: Array
    excess_kurtosis: Array
    confidence: Array


def value_at_risk(quantile_fn: QuantileFn, confidence: ArrayLike) -> Array:
    """Returns the loss exceeded with probability `1 - confidence`.

    Args:
      quantile_fn: probability [] to return [].
      confidence: [] level in (0, 1), .99 for the 1 % tail.

    Returns:
      [] loss in units of the return, negative where even the tail gains.
    """
    chex.assert_rank(confidence, 0)
    return -quantile_fn(_tail_probability(confidence))


def expected_shortfall(
    quantile_fn: QuantileFn, confidence: ArrayLike, *, num_nodes: int = NUM_TAIL_NODES
) -> Array:
    """Returns the mean loss in the worst `1 - confidence` of outcomes.

    Gauss-Legendre in s with `u = (1 - confidence) s^4`: nodes in u itself miss the end of the
    tail, by 2 % for a tail index of 1/2.

    Args:
      quantile_fn: probability [] to return [].
      confidence: [] level in (0, 1), .99 for the 1 % tail.
      num_nodes: number of quadrature nodes.

    Returns:
      [] loss in units of the return, at least the value at risk.
    """
    chex.assert_rank(confidence, 0)
    share, weight = _tail_nodes(num_nodes)
    worst = jax.vmap(quantile_fn)(_tail_probability(confidence) * share)
    return -jnp.sum(weight * worst)


def risk_record(
    quantile_fn: QuantileFn,
    confidence: ArrayLike,
    *,
    upper_quantile_fn: QuantileFn | None = None,
    num_nodes: int = 2 * NUM_TAIL_NODES,
) -> RiskRecord:
    """Summarises a distribution by its losses and its first four moments.

    Moments are integrals of powers of the quantile over both halves, each with the nodes of a
    tail. They are finite numbers even where the law has no such moment: four moments need a tail
    index below 1/4 (more than four degrees of freedom), and the last converges slowly near it.

    Args:
      quantile_fn: probability [] to return [].
      confidence: [] level of the two losses, in (0, 1).
      upper_quantile_fn: survival probability [] to return [], `u -> Q(1 - u)` without the
        subtraction; None subtracts, which in float32 cuts the upper tail off at 6e-8.
      num_nodes: number of quadrature nodes on each half.

    Returns:
      A `RiskRecord` of scalars.
    """
    chex.assert_rank(confidence, 0)
    share, weight = _tail_nodes(num_nodes)
    tail = MOMENT_SPLIT * share
    if upper_quantile_fn is None:
        epsilon = float(jnp.finfo(tail.dtype).epsneg)  # the largest probability below 1
        upper = jax.vmap(lambda u: quantile_fn(jnp.minimum(1.0 - u, 1.0 - epsilon)))(tail)
    else:
        upper = jax.vmap(upper_quantile_fn)(tail)
    values = jnp.concatenate([jax.vmap(quantile_fn)(tail), upper])
    weights = MOMENT_SPLIT * jnp.concatenate([weight, weight])
    mean = jnp.sum(weights * values)
    std = jnp.sqrt(jnp.sum(weights * (values - mean) ** 2))
    z = (values - mean) / std
    return RiskRecord(
        value_at_risk=value_at_risk(quantile_fn, confidence),
        expected_shortfall=expected_shortfall(quantile_fn, confidence),
        mean=mean,
        std=std,
        skewness=jnp.sum(weights * z**3),
        excess_kurtosis=jnp.sum(weights * z**4) - 3.0,
        confidence=jnp.asarray(confidence, mean.dtype),
    )


def sample_value_at_risk(samples: Array, confidence: float) -> Array:
    """Returns the smallest loss among the worst `ceil((1 - confidence) n)` draws.

    Args:
      samples: [n] draws of the return.
      confidence: level in (0, 1), a Python number: it sets the number of draws.

    Returns:
      [] loss in units of the return.

    Raises:
      ValueError: if `confidence` is outside (0, 1).
    """
    chex.assert_rank(samples, 1)
    return -jnp.sort(samples)[_tail_count(samples.shape[0], confidence) - 1]


def sample_expected_shortfall(samples: Array, confidence: float) -> Array:
    """Returns the mean loss of the worst `ceil((1 - confidence) n)` draws.

    Args:
      samples: [n] draws of the return.
      confidence: level in (0, 1), a Python number: it sets the number of draws.

    Returns:
      [] loss in units of the return.

    Raises:
      ValueError: if `confidence` is outside (0, 1).
    """
    chex.assert_rank(samples, 1)
    return -jnp.mean(jnp.sort(samples)[: _tail_count(samples.shape[0], confidence)])


def prob_above(cdf_fn: Callable[[Array], Array], threshold: ArrayLike) -> Array:
    """Returns P(return > threshold), [], of a continuous law; `threshold` 0 is P(gain).

    Args:
      cdf_fn: return [] to probability [] of a smaller one.
      threshold: [] return.

    Returns:
      [] probability.
    """
    chex.assert_rank(threshold, 0)
    return 1.0 - cdf_fn(jnp.asarray(threshold))


def is_risk_acceptable(value_at_risk: ArrayLike, max_var: ArrayLike) -> Array:
    """Returns whether `value_at_risk <= max_var`: the limit itself is acceptable, NaN is not."""
    return jnp.asarray(value_at_risk) <= jnp.asarray(max_var)


def _tail_probability(confidence: ArrayLike) -> Array:
    """Returns `1 - confidence`; a Python number is subtracted in double precision first."""
    return jnp.asarray(1.0 - confidence)


def _tail_nodes(num_nodes: int) -> tuple[Array, Array]:
    """Returns shares `s^4` of the tail and weights that average a function of them."""
    node, weight = np.polynomial.legendre.leggauss(num_nodes)
    node = 0.5 * (node + 1.0)
    return jnp.asarray(node**4), jnp.asarray(2.0 * node**3 * weight)


def _tail_count(num_samples: int, confidence: float) -> int:
    """Returns `ceil((1 - confidence) n)`, at least 1, free of the rounding of `1 - confidence`."""
    if not 0.0 < confidence < 1.0:
        raise ValueError(f"confidence must be in (0, 1), got {confidence}")
    count = (1.0 - confidence) * num_samples
    return max(1, math.ceil(count * (1.0 - 1e-12)))  # 1 - .95 is 5e-17 above .05: not a 6th draw
