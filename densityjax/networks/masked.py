"""Masked residual network: block i of its output reads the context and the entries before i.

Every hidden unit has a degree m: it may read `x[:m]`. A connection exists where the degree does not
fall, and output block i reads units of degree i at most. Units of degree 0 read the context alone,
so the first block depends on it too. Germain et al., MADE, 2015 (https://arxiv.org/abs/1502.03509),
section 3; Nash & Durkan, Autoregressive energy machines, 2019, for the residual form.
"""

import flax.linen as nn
import jax
import numpy as np

from densityjax._typing import Array, NumpyArray
from densityjax.networks.base import Network
from densityjax.networks.conditioners import ACTIVATIONS, check_options, network_from_module


class _MaskedDense(nn.Module):
    """A dense layer whose kernel is multiplied by a fixed mask, [inputs, outputs]."""

    mask: tuple[tuple[bool, ...], ...]
    zero: bool = False

    @nn.compact
    def __call__(self, inputs: Array) -> Array:
        mask = np.asarray(self.mask, np.float32)
        kernel_init = nn.initializers.zeros if self.zero else nn.initializers.glorot_normal()
        kernel = self.param("kernel", kernel_init, mask.shape)
        bias = self.param("bias", nn.initializers.zeros, mask.shape[1:])
        return inputs @ (kernel * mask) + bias


class _MaskedResidual(nn.Module):
    input_degrees: tuple[int, ...]
    hidden_degrees: tuple[int, ...]
    output_degrees: tuple[int, ...]
    num_blocks: int
    activation: str
    dropout: float
    zero_output: bool

    @nn.compact
    def __call__(self, inputs: Array, context: Array | None, *, deterministic: bool) -> Array:
        activation = ACTIVATIONS[self.activation]
        width = len(self.hidden_degrees)
        inward = _mask(self.input_degrees, self.hidden_degrees)
        between = _mask(self.hidden_degrees, self.hidden_degrees)
        hidden = _MaskedDense(inward, name="input")(inputs)
        if context is not None:
            hidden += nn.Dense(
                width, False, name="context", kernel_init=nn.initializers.glorot_normal()
            )(context)
        for block in range(self.num_blocks):
            update = _MaskedDense(between, name=f"block_{block}_in")(activation(hidden))
            update = nn.Dropout(self.dropout, deterministic=deterministic)(activation(update))
            update = _MaskedDense(between, name=f"block_{block}_out")(update)
            if context is not None:
                gate = nn.Dense(
                    width, name=f"block_{block}_gate", kernel_init=nn.initializers.glorot_normal()
                )
                update *= jax.nn.sigmoid(gate(context))
            hidden = hidden + update
        outward = _mask(self.hidden_degrees, self.output_degrees)
        output = _MaskedDense(outward, zero=self.zero_output, name="output")
        return output(activation(hidden))


def _mask(source: tuple[int, ...], target: tuple[int, ...]) -> tuple[tuple[bool, ...], ...]:
    """Connects where the degree does not fall; [source, target]."""
    mask: NumpyArray = np.asarray(source)[:, None] <= np.asarray(target)[None, :]
    return tuple(map(tuple, mask.tolist()))


def _hidden_degrees(num_inputs: int, num_context: int, width: int) -> tuple[int, ...]:
    """Spreads degrees evenly over 0 .. I - 1; without a context a unit of degree 0 says nothing."""
    lowest = 0 if num_context or num_inputs == 1 else 1
    return tuple(lowest + unit * (num_inputs - lowest) // width for unit in range(width))


def masked_residual(
    num_inputs: int,
    outputs_per_input: int,
    *,
    num_context: int = 0,
    copies: int = 1,
    width: int = 64,
    num_blocks: int = 2,
    activation: str = "silu",
    dropout: float = 0.0,
    zero_output: bool = True,
) -> Network:
    """A residual network of `x` whose output block i reads `x[:i]` and the context.

    Its `apply` takes `x` of shape [copies * num_inputs] and returns
    [num_inputs * outputs_per_input], the block of input 0 first.

    Args:
      num_inputs: number of entries I that are ordered.
      outputs_per_input: size of one output block.
      num_context: size of the context, read by every block; zero for none.
      copies: how many numbers stand for one entry, for example 2 where angles come as cosines and
        then sines; number j of `x` belongs to entry j modulo I.
      width: size of the hidden state; with I or more every block has units of its own.
      num_blocks: number of residual blocks.
      activation: 'gelu', 'relu', 'silu' or 'tanh'.
      dropout: share of hidden units dropped while training, in [0, 1).
      zero_output: start the last layer at zero, so that the output is zero at first.

    Returns:
      The `Network`.

    Raises:
      ValueError: if a size, the activation or the dropout is not accepted.

    References:
      Germain et al., MADE, 2015, https://arxiv.org/abs/1502.03509, sections 3 and 4.
    """
    sizes = {
        "num_inputs": num_inputs,
        "outputs_per_input": outputs_per_input,
        "copies": copies,
        "width": width,
        "num_blocks + 1": num_blocks + 1,
        "num_context + 1": num_context + 1,
    }
    for name, size in sizes.items():
        if size < 1:
            raise ValueError(f"{name} is {size}: accepted is an integer >= 1")
    check_options(activation, dropout)
    module = _MaskedResidual(
        input_degrees=tuple(range(1, num_inputs + 1)) * copies,
        hidden_degrees=_hidden_degrees(num_inputs, num_context, width),
        output_degrees=tuple(i for i in range(num_inputs) for _ in range(outputs_per_input)),
        num_blocks=num_blocks,
        activation=activation,
        dropout=dropout,
        zero_output=zero_output,
    )
    return network_from_module(module, copies * num_inputs, num_context)
