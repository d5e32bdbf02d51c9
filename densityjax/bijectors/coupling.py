"""Coupling: one part of a vector is kept, the other is moved by a map that reads the kept part.

The log-determinant is the sum of the scalar log-slopes of the moved part, in either direction
(Dinh et al., NICE, 2014, https://arxiv.org/abs/1410.8516, eq. 3-5).
"""

from collections.abc import Callable

import chex
import jax
import jax.numpy as jnp

from densityjax._typing import Array, Params


def transform(
    x: Array,
    num_kept: int,
    parameters_fn: Callable[[Array], Params],
    scalar_fn: Callable[[Params, Array], tuple[Array, Array]],
) -> tuple[Array, Array]:
    """Moves `x[num_kept:]` by scalar maps whose parameters are read off `x[:num_kept]`.

    The inverse is the same call with the inverse scalar map, for the kept part is unchanged.

    Args:
      x: [D] one example.
      num_kept: leading entries that pass unchanged, in [0, D).
      parameters_fn: kept part [num_kept] -> pytree with a leading axis of D - num_kept.
      scalar_fn: (parameters of one entry, scalar) -> (value, log slope).

    Returns:
      The moved example, [D], and the log-determinant, [].
    """
    chex.assert_rank(x, 1)
    kept, moved = x[:num_kept], x[num_kept:]
    parameters = parameters_fn(kept)
    chex.assert_tree_shape_prefix(parameters, moved.shape)
    moved, log_slopes = jax.vmap(scalar_fn)(parameters, moved)
    return jnp.concatenate([kept, moved]), jnp.sum(log_slopes)
