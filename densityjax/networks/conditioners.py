"""Conditioners: networks whose last layer starts at zero, so that a flow starts as the identity.

`mlp` is the plain perceptron, `residual` the pre-activation residual network with a gate by the
context in every block (Durkan et al., Neural Spline Flows, 2019, section 4, and its public code).
Kernels are Xavier-normal, sd sqrt(2 / (fan_in + fan_out)); biases start at zero.
"""

from collections.abc import Callable, Sequence
from typing import cast

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp

from densityjax._typing import Array, Key, Params
from densityjax.networks.base import Network

ACTIVATIONS: dict[str, Callable[[Array], Array]] = {
    "gelu": jax.nn.gelu,
    "relu": jax.nn.relu,
    "silu": jax.nn.silu,
    "tanh": jnp.tanh,
}


def _dense(size: int, name: str, *, zero: bool = False) -> nn.Dense:
    kernel_init = nn.initializers.zeros if zero else nn.initializers.glorot_normal()
    return nn.Dense(size, name=name, kernel_init=kernel_init)


class _MLP(nn.Module):
    widths: tuple[int, ...]
    num_outputs: int
    activation: str
    dropout: float
    zero_output: bool

    @nn.compact
    def __call__(self, inputs: Array, context: Array | None, *, deterministic: bool) -> Array:
        hidden = inputs if context is None else jnp.concatenate([inputs, context])
        for layer, width in enumerate(self.widths):
            hidden = ACTIVATIONS[self.activation](_dense(width, f"hidden_{layer}")(hidden))
            hidden = nn.Dropout(self.dropout, deterministic=deterministic)(hidden)
        return _dense(self.num_outputs, "output", zero=self.zero_output)(hidden)


class _Residual(nn.Module):
    width: int
    num_blocks: int
    num_outputs: int
    activation: str
    dropout: float
    zero_output: bool

    @nn.compact
    def __call__(self, inputs: Array, context: Array | None, *, deterministic: bool) -> Array:
        activation = ACTIVATIONS[self.activation]
        joined = inputs if context is None else jnp.concatenate([inputs, context])
        hidden = _dense(self.width, "input")(joined)
        for block in range(self.num_blocks):
            update = _dense(self.width, f"block_{block}_in")(activation(hidden))
            update = nn.Dropout(self.dropout, deterministic=deterministic)(activation(update))
            update = _dense(self.width, f"block_{block}_out")(update)
            if context is not None:
                update *= jax.nn.sigmoid(_dense(self.width, f"block_{block}_gate")(context))
            hidden = hidden + update
        return _dense(self.num_outputs, "output", zero=self.zero_output)(activation(hidden))


def network_from_module(module: nn.Module, num_inputs: int, num_context: int) -> Network:
    """Wraps a Linen module whose call takes (x, context, *, deterministic).

    Args:
      module: the module, for one example.
      num_inputs: size of `x`.
      num_context: size of the context; zero for none.

    Returns:
      The `Network`; it raises ValueError where a context is missing or not wanted.
    """

    def check_inputs(x: Array, context: Array | None) -> None:
        chex.assert_shape(x, (num_inputs,))
        if (context is None) != (num_context == 0):
            given = None if context is None else context.shape
            accepted = (num_context,) if num_context else None
            raise ValueError(f"context has shape {given}: accepted is {accepted}")
        if context is not None:
            chex.assert_shape(context, (num_context,))

    def init(key: Key) -> Params:
        context = jnp.zeros(num_context) if num_context else None
        return module.init(key, jnp.zeros(num_inputs), context, deterministic=True)["params"]

    def apply(
        params: Params, x: Array, context: Array | None = None, *, dropout_key: Key | None = None
    ) -> Array:
        check_inputs(x, context)
        rngs = None if dropout_key is None else {"dropout": dropout_key}
        output = module.apply(
            {"params": params}, x, context, deterministic=dropout_key is None, rngs=rngs
        )
        return cast(Array, output)  # a tuple only where `mutable` is asked for

    return Network(init, apply)


def _check(
    num_inputs: int, num_context: int, num_outputs: int, activation: str, dropout: float
) -> None:
    if num_inputs < 0 or num_context < 0 or num_inputs + num_context < 1 or num_outputs < 1:
        raise ValueError(
            f"sizes must be positive, got num_inputs={num_inputs}, num_context={num_context} "
            f"and num_outputs={num_outputs}"
        )
    check_options(activation, dropout)


def check_options(activation: str, dropout: float) -> None:
    """Raises ValueError where the name of an activation or a share of dropout is not accepted."""
    if activation not in ACTIVATIONS:
        raise ValueError(f"activation is {activation!r}; accepted are {sorted(ACTIVATIONS)}")
    if not 0.0 <= dropout < 1.0:
        raise ValueError(f"dropout is {dropout}; accepted is 0 <= dropout < 1")


def mlp(
    num_inputs: int,
    num_outputs: int,
    *,
    num_context: int = 0,
    widths: Sequence[int] = (128, 128, 128),
    activation: str = "gelu",
    dropout: float = 0.0,
    zero_output: bool = True,
) -> Network:
    """A multilayer perceptron of `x`, [num_inputs], joined with `context`, [num_context].

    Args:
      num_inputs: size of `x`; zero where only the context is read.
      num_outputs: size of the output.
      num_context: size of the context; zero for none.
      widths: sizes of the hidden layers, at least one.
      activation: 'gelu', 'relu', 'silu' or 'tanh'.
      dropout: share of hidden units dropped while training, in [0, 1).
      zero_output: start the last layer at zero, so that the output is zero at first.

    Returns:
      The `Network`.

    Raises:
      ValueError: if a size, the activation or the dropout is not accepted.
    """
    _check(num_inputs, num_context, num_outputs, activation, dropout)
    if not widths or min(widths) < 1:
        raise ValueError(f"widths is {tuple(widths)}; accepted are one or more positive sizes")
    module = _MLP(tuple(widths), num_outputs, activation, dropout, zero_output)
    return network_from_module(module, num_inputs, num_context)


def residual(
    num_inputs: int,
    num_outputs: int,
    *,
    num_context: int = 0,
    width: int = 64,
    num_blocks: int = 2,
    activation: str = "silu",
    dropout: float = 0.0,
    zero_output: bool = True,
) -> Network:
    """A pre-activation residual network, each block gated by the context.

    Args:
      num_inputs: size of `x`; zero where only the context is read.
      num_outputs: size of the output.
      num_context: size of the context; zero for none.
      width: size of the hidden state.
      num_blocks: number of residual blocks.
      activation: 'gelu', 'relu', 'silu' or 'tanh'.
      dropout: share of hidden units dropped while training, in [0, 1).
      zero_output: start the last layer at zero, so that the output is zero at first.

    Returns:
      The `Network`.

    Raises:
      ValueError: if a size, the activation or the dropout is not accepted.
    """
    _check(num_inputs, num_context, num_outputs, activation, dropout)
    if width < 1 or num_blocks < 0:
        raise ValueError(f"width {width} and num_blocks {num_blocks}: accepted are >= 1 and >= 0")
    module = _Residual(width, num_blocks, num_outputs, activation, dropout, zero_output)
    return network_from_module(module, num_inputs, num_context)
