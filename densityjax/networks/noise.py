"""The default network of scores and energies: a perceptron that also reads a noise level.

The level enters by u = ln(sigma) / 4 and Fourier features of it, beside the point and a context.
Nothing bounds the input: layer norms there would bound a score, while that of a Gaussian is linear.
Karras et al., 2022 (https://arxiv.org/abs/2206.00364), table 1, for ln(sigma) / 4.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from densityjax._typing import Array, ArrayLike, Key, Params
from densityjax.networks.conditioners import mlp, residual

FREQUENCIES = (0.25, 0.5, 1.0, 2.0)  # cycles per unit of ln(sigma) / 4, a factor of 55 in sigma
NUM_FEATURES = 1 + 2 * len(FREQUENCIES)
BODIES = {"mlp": mlp, "residual": residual}


class NoiseNetwork(NamedTuple):
    """A network that also reads a noise level; both functions are pure.

    Attributes:
      init: key -> params, a nested dict of arrays.
      apply: (params, x [num_inputs], sigma [], context [num_context] or None, *,
        dropout_key=None) -> output [num_outputs], for ONE example; dropout acts only where a
        `dropout_key` is given.
    """

    init: Callable[[Key], Params]
    apply: Callable[..., Array]


def num_parameters(params: Params) -> int:
    """Returns how many numbers a pytree of parameters holds."""
    return sum(leaf.size for leaf in jax.tree.leaves(params))


def fourier_features(sigma: ArrayLike) -> Array:
    """Returns u = ln(sigma) / 4 and its sines and cosines, [9], of a positive `sigma`, []."""
    level = 0.25 * jnp.log(jnp.asarray(sigma))
    angle = 2.0 * math.pi * jnp.asarray(FREQUENCIES) * level
    return jnp.concatenate([level[None], jnp.sin(angle), jnp.cos(angle)])


def noise_network(
    num_inputs: int,
    num_outputs: int,
    *,
    num_context: int = 0,
    body: str = "residual",
    width: int = 128,
    num_hidden: int = 1,
    activation: str = "silu",
    dropout: float = 0.0,
    zero_output: bool = True,
) -> NoiseNetwork:
    """A perceptron of `x`, Fourier features of the noise level, and a context, side by side.

    Args:
      num_inputs: size of `x`.
      num_outputs: size of the output.
      num_context: size of the context; zero for none.
      body: 'residual' (pre-activation blocks of two layers) or 'mlp'.
      width: hidden width.
      num_hidden: blocks of a 'residual' body, hidden layers of an 'mlp'.
      activation: 'gelu', 'relu', 'silu' or 'tanh'.
      dropout: share of hidden units dropped while training, in [0, 1).
      zero_output: start the last layer at zero, so that the output is zero at first.

    Returns:
      The `NoiseNetwork`.

    Raises:
      ValueError: if an argument is not accepted.
    """
    if body not in BODIES:
        raise ValueError(f"body is {body!r}: accepted are {sorted(BODIES)}")
    if num_inputs < 1 or num_context < 0 or num_hidden < 1:
        raise ValueError(
            f"num_inputs={num_inputs}, num_context={num_context}, num_hidden={num_hidden}: "
            "accepted are >= 1, >= 0 and >= 1"
        )
    shape = (
        {"width": width, "num_blocks": num_hidden}
        if body == "residual"
        else {"widths": (width,) * num_hidden}
    )
    net = BODIES[body](
        num_inputs + NUM_FEATURES + num_context,
        num_outputs,
        activation=activation,
        dropout=dropout,
        zero_output=zero_output,
        **shape,
    )

    def apply(
        params: Params,
        x: Array,
        sigma: ArrayLike,
        context: Array | None = None,
        *,
        dropout_key: Key | None = None,
    ) -> Array:
        features = fourier_features(sigma).astype(x.dtype)
        inputs = joined(jnp.concatenate([x, features]), context, num_context)
        return net.apply(params, inputs, dropout_key=dropout_key)

    return NoiseNetwork(net.init, apply)


def joined(x: Array, context: Array | None, num_context: int) -> Array:
    """Returns `x`, [D], with the context, [C], behind it; ValueError where one is missing."""
    if (context is None) != (num_context == 0):
        given = None if context is None else context.shape
        raise ValueError(f"context has shape {given}: accepted is {(num_context,) or None}")
    return x if context is None else jnp.concatenate([x, context])
