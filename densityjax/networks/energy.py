"""Energy networks: a perceptron from a point to one number, with its growth under control.

Each hidden layer is linear, then a layer norm if asked for, then the activation. The input itself
is never normalised: a network that reads only directions gives all points of a ray one energy. The
gradient in the input is the force of a sampler, so activations must be smooth.
"""

from collections.abc import Sequence

import chex
import flax.linen as nn
import jax.numpy as jnp

from densityjax._typing import Array
from densityjax.networks.base import Network
from densityjax.networks.conditioners import ACTIVATIONS, check_options, network_from_module

NORMS = ("none", "layer")
STARTS = {"xavier": nn.initializers.glorot_normal, "he": nn.initializers.he_normal}
NUM_SQUARINGS = 4  # of a Gram matrix: the bound is above the norm by a factor of n^(1 / 32) at most


def spectral_norm_bound(kernel: Array) -> Array:
    """Returns an upper bound of the largest singular value, [], of a matrix [A, B].

    It is the Schatten norm of order 32, `(sum_i s_i^32)^(1/32)`: never below the largest singular
    value, at most 17 percent above it up to 128 of them, and smooth, where power iterations may
    stop below it.
    """
    chex.assert_rank(kernel, 2)
    is_tall = kernel.shape[0] >= kernel.shape[1]
    gram = kernel.T @ kernel if is_tall else kernel @ kernel.T
    log_size, share = jnp.zeros((), kernel.dtype), 1.0
    for _ in range(NUM_SQUARINGS):
        trace = jnp.maximum(jnp.trace(gram), jnp.finfo(kernel.dtype).tiny)
        log_size += share * jnp.log(trace)
        gram, share = (gram / trace) @ (gram / trace), 0.5 * share
    last = jnp.maximum(jnp.trace(gram), jnp.finfo(kernel.dtype).tiny)
    return jnp.exp(0.5 * (log_size + share * jnp.log(last)))


class _Dense(nn.Module):
    size: int
    start: str
    max_gain: float | None

    @nn.compact
    def __call__(self, inputs: Array) -> Array:
        kernel_init = nn.initializers.zeros if self.start == "zeros" else STARTS[self.start]()
        kernel = self.param("kernel", kernel_init, (inputs.shape[-1], self.size))
        bias = self.param("bias", nn.initializers.zeros, (self.size,))
        if self.max_gain is not None:
            kernel = kernel * jnp.minimum(1.0, self.max_gain / spectral_norm_bound(kernel))
        return inputs @ kernel + bias


class _Energy(nn.Module):
    widths: tuple[int, ...]
    activation: str
    norm: str
    start: str
    max_gain: float | None
    dropout: float
    zero_output: bool

    @nn.compact
    def __call__(self, inputs: Array, context: Array | None, *, deterministic: bool) -> Array:
        hidden = inputs if context is None else jnp.concatenate([inputs, context])
        for layer, width in enumerate(self.widths):
            dense = _Dense(width, self.start, self.max_gain, name=f"hidden_{layer}")
            hidden = dense(hidden)
            if self.norm == "layer":
                hidden = nn.LayerNorm(name=f"norm_{layer}")(hidden)
            hidden = ACTIVATIONS[self.activation](hidden)
            hidden = nn.Dropout(self.dropout, deterministic=deterministic)(hidden)
        start = "zeros" if self.zero_output else self.start
        return _Dense(1, start, self.max_gain, name="output")(hidden)


def energy_network(
    num_inputs: int,
    *,
    num_context: int = 0,
    widths: Sequence[int] = (128, 64, 32),
    activation: str = "silu",
    norm: str = "none",
    kernel_init: str = "xavier",
    max_gain: float | None = None,
    dropout: float = 0.0,
    zero_output: bool = True,
) -> Network:
    """A perceptron with one output; without norms it grows at most linearly along every ray.

    Args:
      num_inputs: size of `x`, >= 1.
      num_context: size of the context, read beside `x`; zero for none.
      widths: sizes of the hidden layers, at least one.
      activation: 'gelu', 'silu' or 'tanh'; a ReLU has no second derivative to match scores by.
      norm: 'none', or 'layer' for a layer norm in front of every activation, which bounds the
        output over all of space.
      kernel_init: 'xavier', or 'he' (sd sqrt(2 / fan-in)).
      max_gain: most that any layer may stretch a vector, by its spectral norm; None for no limit.
        The output then moves by at most `1.13 max_gain` to the power of the layers, times the move.
      dropout: share of hidden units dropped while training, in [0, 1).
      zero_output: start the last layer at zero, so that the output is zero at first.

    Returns:
      The `Network`, whose output is [1].

    Raises:
      ValueError: if an argument is not accepted.
    """
    if num_inputs < 1 or num_context < 0:
        raise ValueError(
            f"num_inputs={num_inputs} and num_context={num_context}: accepted are >= 1 and >= 0"
        )
    if not widths or min(widths) < 1:
        raise ValueError(f"widths is {tuple(widths)}: accepted are one or more positive sizes")
    check_options(activation, dropout)
    if activation == "relu":
        raise ValueError("activation is 'relu': accepted are 'gelu', 'silu' and 'tanh'")
    for name, value, accepted in (
        ("norm", norm, NORMS),
        ("kernel_init", kernel_init, tuple(STARTS)),
    ):
        if value not in accepted:
            raise ValueError(f"{name} is {value!r}: accepted are {accepted}")
    if max_gain is not None and not max_gain > 0.0:
        raise ValueError(f"max_gain is {max_gain}: accepted is a positive number or None")
    module = _Energy(tuple(widths), activation, norm, kernel_init, max_gain, dropout, zero_output)
    return network_from_module(module, num_inputs, num_context)
