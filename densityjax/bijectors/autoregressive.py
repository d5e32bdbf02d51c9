"""Autoregressive maps: entry i is moved by a scalar map that entries before i set.

The Jacobian is triangular, so the log-determinant is the sum of the scalar log-slopes. Forward is
one pass, since the whole input is known; the inverse finds one entry after the other, D passes in
a scan. Kingma et al., Inverse autoregressive flow, 2016 (https://arxiv.org/abs/1606.04934);
Papamakarios et al., Masked autoregressive flow, 2017 (https://arxiv.org/abs/1705.07057).
"""

from collections.abc import Callable

import chex
import jax
import jax.numpy as jnp

from densityjax._typing import Array, Params


def forward(
    x: Array,
    parameters_fn: Callable[[Array], Params],
    scalar_fn: Callable[[Params, Array], tuple[Array, Array]],
) -> tuple[Array, Array]:
    """Moves every entry of one example in one pass.

    Args:
      x: [D] one example.
      parameters_fn: [D] -> pytree with a leading axis of D; entry i may depend on `x[:i]` alone.
      scalar_fn: (parameters of one entry, scalar) -> (value, log slope).

    Returns:
      The moved example, [D], and log |det dy/dx|, [].

    References:
      Papamakarios et al., 2017, https://arxiv.org/abs/1705.07057, section 3.
    """
    chex.assert_rank(x, 1)
    parameters = parameters_fn(x)
    chex.assert_tree_shape_prefix(parameters, x.shape)
    y, log_slopes = jax.vmap(scalar_fn)(parameters, x)
    return y, jnp.sum(log_slopes)


def inverse(
    y: Array,
    parameters_fn: Callable[[Array], Params],
    scalar_fn: Callable[[Params, Array], tuple[Array, Array]],
) -> tuple[Array, Array]:
    """Undoes `forward`, one entry after the other.

    Args:
      y: [D] output of `forward`.
      parameters_fn: as for `forward`.
      scalar_fn: the inverse of the scalar map of `forward`, with its log slope.

    Returns:
      The example, [D], and log |det dx/dy|, [].
    """
    chex.assert_rank(y, 1)

    def step(carry: tuple[Array, Array], i: Array) -> tuple[tuple[Array, Array], None]:
        x, total = carry
        # Entries from i on are still zero: `parameters_fn` does not read them for entry i.
        parameters = jax.tree.map(lambda leaf: leaf[i], parameters_fn(x))
        value, log_slope = scalar_fn(parameters, y[i])
        return (x.at[i].set(value), total + log_slope), None

    start = (jnp.zeros_like(y), jnp.zeros((), y.dtype))
    return jax.lax.scan(step, start, jnp.arange(y.shape[0]))[0]
