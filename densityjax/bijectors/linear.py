"""Linear map by its LU factors, and permutations of the dimensions.

y = L U x[permutation]: L has a unit diagonal, U a positive one, both are learned; the permutation
is fixed. The log-determinant is the sum of D logs, the inverse two triangular solves, and all-zero
parameters leave the permutation alone. Kingma & Dhariwal, Glow, 2018
(https://arxiv.org/abs/1807.03039), section 3.2. All functions act on one example `[D]`.
"""

from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp

from densityjax import numerics
from densityjax._typing import Array, Key

_HIGHEST = jax.lax.Precision.HIGHEST  # accelerators round float32 products otherwise
_LOGIT_OF_ONE = numerics.softplus_inverse(1.0 - numerics.MIN_SLOPE)


class Linear(NamedTuple):
    """Unconstrained parameters of the LU factors.

    Attributes:
      lower: [D, D] the entries below the diagonal are those of L; the rest is ignored.
      upper: [D, D] the entries above the diagonal are those of U; the rest is ignored.
      diagonal_logits: [D] unconstrained diagonal of U; 0 gives 1.
    """

    lower: Array
    upper: Array
    diagonal_logits: Array


def init(dim: int) -> Linear:
    """Returns the parameters of the identity, all zero.

    Args:
      dim: number of dimensions D, at least 1.

    Returns:
      The `Linear`.

    Raises:
      ValueError: if `dim` is not positive.
    """
    if dim < 1:
        raise ValueError(f"dim must be at least 1, got {dim}")
    return Linear(jnp.zeros((dim, dim)), jnp.zeros((dim, dim)), jnp.zeros(dim))


def whitening(x: Array, weights: Array | None = None) -> Linear:
    """Returns the lower-triangular map that takes the correlation out of rows.

    It is the inverse of the Cholesky factor of their correlation matrix, drawn towards the identity
    by `numerics.CORRELATION_SHRINKAGE`. The rows should have about unit variance: it is left alone.

    Args:
      x: [N, D] rows; columns without spread count as uncorrelated.
      weights: [N] non-negative; None counts all alike. What rows of weight zero hold is not read.

    Returns:
      The `Linear`, whose `upper` is zero.
    """
    chex.assert_rank(x, 2)
    weights = jnp.ones(x.shape[0], x.dtype) if weights is None else weights
    share = weights / jnp.sum(weights)
    x = jnp.where(weights[:, None] > 0.0, x, 0.0)
    centred = x - jnp.matmul(share, x, precision=_HIGHEST)
    covariance = jnp.matmul(centred.T * share, centred, precision=_HIGHEST)
    variance = jnp.diagonal(covariance)
    spread = jnp.sqrt(jnp.where(variance > 0.0, variance, 1.0))
    keep = 1.0 - numerics.CORRELATION_SHRINKAGE
    unit = jnp.eye(x.shape[1], dtype=x.dtype)
    correlation = jnp.where(unit > 0.0, 1.0, keep * covariance / jnp.outer(spread, spread))
    factor = jnp.linalg.cholesky(correlation)
    undone = jax.scipy.linalg.solve_triangular(factor, unit, lower=True)
    diagonal = jnp.diagonal(undone)  # at least 1, for a row of the factor has norm 1
    softplus = diagonal - numerics.MIN_SLOPE
    logits = softplus + jnp.log(-jnp.expm1(-softplus)) - _LOGIT_OF_ONE
    return Linear(jnp.tril(undone / diagonal, -1), jnp.zeros_like(undone), logits)


def forward(linear: Linear, x: Array, *, permutation: Array) -> tuple[Array, Array]:
    """Permutes the dimensions of one example, then mixes them.

    Args:
      linear: the parameters, for D dimensions.
      x: [D] example.
      permutation: [D] integers; entry i is the dimension of `x` that goes to place i.

    Returns:
      y: [D] mixed example.
      log_det: [] log |det dy/dx|.
    """
    chex.assert_rank(x, 1)
    chex.assert_equal_shape([x, permutation, linear.diagonal_logits])
    lower, upper, diagonal = _factors(linear)
    y = jnp.matmul(upper, x[permutation], precision=_HIGHEST)
    return jnp.matmul(lower, y, precision=_HIGHEST), jnp.sum(jnp.log(diagonal))


def inverse(linear: Linear, y: Array, *, permutation: Array) -> tuple[Array, Array]:
    """Undoes `forward` by two triangular solves.

    Args:
      linear: the parameters, for D dimensions.
      y: [D] mixed example.
      permutation: [D] integers, as for `forward`.

    Returns:
      x: [D] example.
      log_det: [] log |det dx/dy|.
    """
    chex.assert_rank(y, 1)
    chex.assert_equal_shape([y, permutation, linear.diagonal_logits])
    lower, upper, diagonal = _factors(linear)
    x = jax.scipy.linalg.solve_triangular(lower, y, lower=True, unit_diagonal=True)
    x = jax.scipy.linalg.solve_triangular(upper, x)
    return x[inverse_permutation(permutation)], -jnp.sum(jnp.log(diagonal))


def identity_permutation(dim: int) -> Array:
    """Returns the `[dim]` permutation that moves nothing."""
    return jnp.arange(dim)


def reverse_permutation(dim: int) -> Array:
    """Returns the `[dim]` permutation that reverses the dimensions; it is its own inverse."""
    return jnp.arange(dim)[::-1]


def random_permutation(key: Key, dim: int) -> Array:
    """Returns a uniformly random `[dim]` permutation.

    Random permutations between half masks leave some dimensions untransformed more often than
    not; masks that alternate, or a check of coverage, are the safe choice there.
    """
    return jax.random.permutation(key, dim)


def inverse_permutation(permutation: Array) -> Array:
    """Returns the permutation that undoes `permutation`, both `[D]`."""
    chex.assert_rank(permutation, 1)
    return jnp.argsort(permutation)


def _factors(linear: Linear) -> tuple[Array, Array, Array]:
    """Returns L, U and the diagonal of U, which is floored softplus and thus never near 0."""
    dim = linear.diagonal_logits.shape[0]
    chex.assert_shape([linear.lower, linear.upper], (dim, dim))
    diagonal = jax.nn.softplus(linear.diagonal_logits + _LOGIT_OF_ONE) + numerics.MIN_SLOPE
    unit = jnp.eye(dim, dtype=diagonal.dtype)
    return jnp.tril(linear.lower, -1) + unit, jnp.triu(linear.upper, 1) + diagonal * unit, diagonal
