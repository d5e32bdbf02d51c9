"""Residual score networks with layer norms, of one noise level and of several.

`score_network` reads a point; `multi_scale_network` also a level, from a table of embeddings, with
linear interpolation between levels, or from Fourier features. Song and Ermon, Generative Modeling
by Estimating Gradients of the Data Distribution, 2019 (https://arxiv.org/abs/1907.05600).
"""

import math
from collections.abc import Callable
from typing import NamedTuple, cast

import chex
import flax.linen as nn
import jax.numpy as jnp

from densityjax._typing import Array, ArrayLike, Key, Params
from densityjax.networks.activations import ACTIVATIONS
from densityjax.networks.base import Network
from densityjax.networks.conditioners import network_from_module
from densityjax.networks.noise import fourier_features, joined

BLOCK_EXPANSION = 4  # hidden width of a residual block, in widths of the network


class MultiScaleNetwork(NamedTuple):
    """A `NoiseNetwork` over geometric noise levels, index 0 the largest.

    Attributes:
      init: as in `NoiseNetwork`.
      apply: as in `NoiseNetwork`; any positive sigma is read.
      get_sigma: level, an index or a number between two, -> sigma [], in units of x.
      num_levels: number of levels.
    """

    init: Callable[[Key], Params]
    apply: Callable[..., Array]
    get_sigma: Callable[[ArrayLike], Array]
    num_levels: int


class ResidualBlock(nn.Module):
    """x + MLP(LayerNorm(x)), hidden width four times that of `x`.

    Attributes:
      activation: name in `ACTIVATIONS`.
      dropout: share of units dropped after each of the two layers, while training.
      zero_output: start the last layer at zero, so that the block is the identity.
    """

    activation: str = "gelu"
    dropout: float = 0.1
    zero_output: bool = False

    @nn.compact
    def __call__(self, x: Array, *, deterministic: bool) -> Array:
        """Returns the block's output, of the shape of `x`."""
        width = x.shape[-1]
        hidden = nn.Dense(BLOCK_EXPANSION * width, name="expand")(nn.LayerNorm(name="norm")(x))
        hidden = ACTIVATIONS[self.activation].value(hidden)
        hidden = nn.Dropout(self.dropout, deterministic=deterministic)(hidden)
        kernel_init = nn.initializers.zeros if self.zero_output else nn.initializers.lecun_normal()
        hidden = nn.Dense(width, name="contract", kernel_init=kernel_init)(hidden)
        return x + nn.Dropout(self.dropout, deterministic=deterministic)(hidden)


class _ScoreModule(nn.Module):
    dim: int
    hidden_dim: int
    num_layers: int
    activation: str
    dropout: float
    linear_skip: bool

    @nn.compact
    def __call__(self, x: Array, context: Array | None, *, deterministic: bool) -> Array:
        activation = ACTIVATIONS[self.activation].value
        inputs = x if context is None else jnp.concatenate([x, context])
        hidden = nn.LayerNorm(name="input_norm")(nn.Dense(self.hidden_dim, name="input")(inputs))
        hidden = activation(hidden)
        for layer in range(self.num_layers):
            block = ResidualBlock(self.activation, self.dropout, name=f"block_{layer}")
            hidden = block(hidden, deterministic=deterministic)
        hidden = nn.Dense(self.hidden_dim, name="head")(nn.LayerNorm(name="head_norm")(hidden))
        output = nn.Dense(self.dim, name="output")(activation(hidden))
        if not self.linear_skip:
            return output
        # Layer norms bound what lies above them; the score of a Gaussian is linear.
        return output + nn.Dense(self.dim, False, name="skip", kernel_init=_minus_identity)(x)


def _minus_identity(key: Key, shape: tuple[int, ...], dtype: type = jnp.float32) -> Array:
    del key
    return -jnp.eye(*shape, dtype=dtype)


def score_network(
    dim: int,
    *,
    num_context: int = 0,
    hidden_dim: int = 128,
    num_layers: int = 4,
    activation: str = "gelu",
    dropout: float = 0.1,
    linear_skip: bool = True,
) -> Network:
    """The single-level residual score network: Linear, LayerNorm, GELU, blocks, head.

    Args:
      dim: size D of `x` and of the score.
      num_context: size of the context, joined with `x`; zero for none.
      hidden_dim: width.
      num_layers: residual blocks, each x + MLP(LayerNorm(x)).
      activation: name in `ACTIVATIONS`.
      dropout: share of units dropped in the blocks while training, in [0, 1).
      linear_skip: add a learnt linear map of `x` that starts at minus the identity. Without it the
        layer norms bound the score, and far points meet a force that does not grow.

    Returns:
      The `Network`, [D] to [D].

    Raises:
      ValueError: if a size, the activation or the dropout is not accepted.
    """
    _check(dim, num_context, hidden_dim, num_layers, activation, dropout)
    module = _ScoreModule(dim, hidden_dim, num_layers, activation, dropout, linear_skip)
    return network_from_module(module, dim, num_context)


def _check(
    dim: int, num_context: int, hidden_dim: int, num_layers: int, activation: str, dropout: float
) -> None:
    if dim < 1 or num_context < 0 or hidden_dim < 1 or num_layers < 0:
        raise ValueError(
            f"dim={dim}, num_context={num_context}, hidden_dim={hidden_dim}, "
            f"num_layers={num_layers}: accepted are >= 1, >= 0, >= 1 and >= 0"
        )
    if activation not in ACTIVATIONS:
        raise ValueError(f"activation is {activation!r}; accepted are {sorted(ACTIVATIONS)}")
    if not 0.0 <= dropout < 1.0:
        raise ValueError(f"dropout is {dropout}; accepted is 0 <= dropout < 1")


class _MultiScaleModule(nn.Module):
    num_outputs: int
    hidden_dim: int
    num_layers: int
    num_levels: int  # zero for Fourier features
    activation: str
    dropout: float

    @nn.compact
    def __call__(self, x: Array, level: Array, *, deterministic: bool) -> Array:
        hidden = nn.Dense(self.hidden_dim, name="input")(x)
        if self.num_levels:
            shape = (self.num_levels, self.hidden_dim)
            table = self.param("embedding", nn.initializers.normal(1.0), shape)
            level = _between_rows(table, level)
        hidden = hidden + nn.Dense(self.hidden_dim, name="level")(level)
        for layer in range(self.num_layers):
            block = ResidualBlock(self.activation, self.dropout, name=f"block_{layer}")
            hidden = block(hidden, deterministic=deterministic)
        return nn.Dense(self.num_outputs, name="output")(hidden)


def _between_rows(table: Array, level: Array) -> Array:
    """Interpolates linearly between the rows of [L, H] at a real level, held at both ends."""
    last = table.shape[0] - 1
    level = jnp.clip(level, 0.0, last)
    lower = jnp.clip(jnp.floor(level).astype(jnp.int32), 0, max(last - 1, 0))
    upper = jnp.minimum(lower + 1, last)
    share = level - lower
    return (1.0 - share) * table[lower] + share * table[upper]


def multi_scale_network(
    dim: int,
    *,
    num_outputs: int | None = None,
    num_context: int = 0,
    hidden_dim: int = 128,
    num_layers: int = 4,
    num_levels: int = 10,
    sigma_min: float = 0.01,
    sigma_max: float = 1.0,
    embedding: str = "table",
    activation: str = "gelu",
    dropout: float = 0.1,
) -> MultiScaleNetwork:
    """The residual network with a level embedding added to its first layer.

    Args:
      dim: size D of `x`.
      num_outputs: size of the output; None for D.
      num_context: size of the context, joined with `x`; zero for none.
      hidden_dim: width.
      num_layers: residual blocks, each x + MLP(LayerNorm(x)).
      num_levels: number of noise levels, at least 2, geometric from `sigma_max` to `sigma_min`.
      sigma_min: smallest noise level, in units of x.
      sigma_max: largest noise level, in units of x.
      embedding: 'table' (a learnt row for each level, interpolated in ln sigma between them and
        held beyond them) or 'fourier' (features of ln sigma).
      activation: name in `ACTIVATIONS`.
      dropout: share of units dropped in the blocks while training, in [0, 1).

    Returns:
      The `MultiScaleNetwork`.

    Raises:
      ValueError: if an argument is not accepted.
    """
    _check(dim, num_context, hidden_dim, num_layers, activation, dropout)
    if num_levels < 2 or not 0.0 < sigma_min < sigma_max < math.inf:
        raise ValueError(
            f"num_levels={num_levels}, sigma_min={sigma_min}, sigma_max={sigma_max}: accepted are "
            ">= 2 and 0 < sigma_min < sigma_max"
        )
    if embedding not in ("table", "fourier"):
        raise ValueError(f"embedding is {embedding!r}: accepted are 'table' and 'fourier'")
    is_table = embedding == "table"
    log_ratio = math.log(sigma_min / sigma_max) / (num_levels - 1)
    rows = num_levels if is_table else 0
    outputs = dim if num_outputs is None else num_outputs
    module = _MultiScaleModule(outputs, hidden_dim, num_layers, rows, activation, dropout)

    def read(sigma: ArrayLike) -> Array:
        if not is_table:
            return fourier_features(sigma)
        return (jnp.log(jnp.asarray(sigma)) - math.log(sigma_max)) / log_ratio

    def init(key: Key) -> Params:
        inputs = jnp.zeros(dim + num_context)
        return module.init(key, inputs, read(sigma_max), deterministic=True)["params"]

    def apply(
        params: Params,
        x: Array,
        sigma: ArrayLike,
        context: Array | None = None,
        *,
        dropout_key: Key | None = None,
    ) -> Array:
        chex.assert_shape(x, (dim,))
        inputs = joined(x, context, num_context)
        rngs = None if dropout_key is None else {"dropout": dropout_key}
        output = module.apply(
            {"params": params}, inputs, read(sigma), deterministic=dropout_key is None, rngs=rngs
        )
        return cast(Array, output)  # a tuple only where `mutable` is asked for

    def get_sigma(level: ArrayLike) -> Array:
        return sigma_max * jnp.exp(log_ratio * jnp.asarray(level))

    return MultiScaleNetwork(init, apply, get_sigma, num_levels)
