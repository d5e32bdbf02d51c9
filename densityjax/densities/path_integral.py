"""Log ratio of densities at two points, the integral of the score along the line between them.

    log p(x) - log p(x_0) = int_0^1 s(x_0 + t (x - x_0)) . (x - x_0) dt

Relative only: it gives no normalised density. A network's score is the gradient of no function
unless it was built as one, and then the value depends on the path; at a small noise level the line
crosses empty space, where nothing was learnt. A diagnostic: `probability_flow` is the density.
"""

from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np

from densityjax._typing import Array, NumpyArray, ScoreFn

RULES = ("gauss_legendre", "midpoint", "left")


class LogRatio(NamedTuple):
    """A log ratio with an estimate of the error of its quadrature.

    Attributes:
      log_ratio: [] log p(x) - log p(reference), nats.
      error: [] absolute change of it from half as many nodes, nats.
    """

    log_ratio: Array
    error: Array


def log_density_ratio(
    score_fn: ScoreFn,
    x: Array,
    reference: Array | None = None,
    *,
    rule: str = "gauss_legendre",
    num_nodes: int = 100,
) -> Array:
    """Computes log p(x) - log p(reference) along the straight line.

    Args:
      score_fn: score with parameters and noise level bound, [D] to [D], per unit of x.
      x: [D] one point.
      reference: [D] the other point; None for zero, the mean of standardised data.
      rule: 'gauss_legendre' (exact for polynomials of degree 2 n - 1), 'midpoint' (exact for a
        linear score) or 'left' (off by 1 / n of the whole there; for comparison).
      num_nodes: calls of `score_fn`, n.

    Returns:
      [] log ratio, nats.

    Raises:
      ValueError: if the rule or the number of nodes is not accepted.
    """
    chex.assert_rank(x, 1)
    x = jnp.asarray(x, jnp.result_type(x, float))  # whole numbers would cut the nodes to 0 and 1
    start = jnp.zeros_like(x) if reference is None else reference
    chex.assert_equal_shape([x, start])
    nodes, weights = _rule(rule, num_nodes)
    step = x - start

    def slope(share: Array) -> Array:
        return jnp.vdot(score_fn(start + share * step), step)

    slopes = jax.lax.map(slope, jnp.asarray(nodes, x.dtype))
    return jnp.vdot(jnp.asarray(weights, x.dtype), slopes)


def log_density_ratio_and_error(
    score_fn: ScoreFn,
    x: Array,
    reference: Array | None = None,
    *,
    rule: str = "gauss_legendre",
    num_nodes: int = 100,
) -> LogRatio:
    """As `log_density_ratio`, beside the same with half the nodes.

    Args:
      score_fn: as in `log_density_ratio`.
      x: [D] one point.
      reference: as in `log_density_ratio`.
      rule: as in `log_density_ratio`.
      num_nodes: calls of `score_fn`, at least 2; half as many again for the error.

    Returns:
      The `LogRatio`.

    Raises:
      ValueError: if the rule or the number of nodes is not accepted.
    """
    if num_nodes < 2:
        raise ValueError(f"num_nodes is {num_nodes}: accepted is at least 2, for half as many")
    fine, coarse = (
        log_density_ratio(score_fn, x, reference, rule=rule, num_nodes=nodes)
        for nodes in (num_nodes, num_nodes // 2)
    )
    return LogRatio(fine, jnp.abs(fine - coarse))


def _rule(rule: str, num_nodes: int) -> tuple[NumpyArray, NumpyArray]:
    """Returns nodes and weights on [0, 1], [n] each, on the host."""
    if rule not in RULES or num_nodes < 1:
        raise ValueError(
            f"rule is {rule!r} and num_nodes {num_nodes}: accepted are {RULES} and at least 1"
        )
    if rule == "gauss_legendre":
        nodes, weights = np.polynomial.legendre.leggauss(num_nodes)
        return 0.5 * (nodes + 1.0), 0.5 * weights
    offset = 0.5 if rule == "midpoint" else 0.0
    return (np.arange(num_nodes) + offset) / num_nodes, np.full(num_nodes, 1.0 / num_nodes)
