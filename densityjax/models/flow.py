"""Normalizing flows: a normalised density with a context, exact in both directions.

From data x to noise z:

    robust standardiser  ->  location and scale read off the context  ->  tails, Lambert-W or GPD
      ->  L times (mixing, layer of splines or affine maps)  ->  base, N(0, I) or multivariate t

The layers next to the data are in `elementwise`, those after the tails in `stack`, the base in
`base`. One dimension needs no mixing and nothing to read but the context, see `marginal`. Every
network ends in zeros: a new flow is the standardiser and the fitted tails, nothing else. Durkan et
al., Neural Spline Flows, 2019 (https://arxiv.org/abs/1906.04032), section 4.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp

from densityjax._typing import Array, ArrayLike, Key, Params
from densityjax.models import marginal as marginal_lib
from densityjax.models import scalar_maps
from densityjax.models.base import build_base
from densityjax.models.config import FlowConfig
from densityjax.models.elementwise import (
    Elementwise,
    all_tails,
    build_elementwise,
    checked_context,
    joined_affine,
)
from densityjax.models.multiscale import build_stack
from densityjax.models.stack import conditioner


class Flow(NamedTuple):
    """A normalised density as pure functions of one example; `x` is [D], `context` [C] or None.

    Attributes:
      init: (key, x [N, D], context [N, C] or None, weights [N] or None) -> params. The rows set
        the standardisers and the tails; rows of weight zero are ignored.
      log_prob: (params, x, context=None, *, dropout_key=None) -> [] nats per unit volume of x.
      sample: (key, params, context=None, *, temperature=1.0) -> [D]; the temperature multiplies
        the standard deviation of the base, but for angles.
      to_noise: (params, x, context=None) -> (z [D], log |det dz/dx| []).
      from_noise: (params, z, context=None) -> (x [D], log |det dx/dz| []).
      marginal: (params, context=None) -> `Marginal`; of flows of one dimension only, not periodic
        and without ActNorm.
      config: the `FlowConfig` it was built from.
    """

    init: Callable[..., Params]
    log_prob: Callable[..., Array]
    sample: Callable[..., Array]
    to_noise: Callable[..., tuple[Array, Array]]
    from_noise: Callable[..., tuple[Array, Array]]
    marginal: Callable[..., marginal_lib.Marginal]
    config: FlowConfig


def neural_spline_flow(dim: int, *, context_dim: int = 0, **options: Any) -> Flow:
    """Builds a spline flow over examples of `dim` numbers.

    Equal arguments return the same object, so that compiled programs are found again.

    Args:
      dim: size of one example, >= 1.
      context_dim: size of the context, zero for none.
      **options: further fields of `FlowConfig`.

    Returns:
      The `Flow`.

    Raises:
      ValueError: if an option is not accepted; names it, its value and what is.
    """
    return flow_from_config(FlowConfig(dim=dim, context_dim=context_dim, **options))


def affine_flow(dim: int, *, context_dim: int = 0, **options: Any) -> Flow:
    """Builds a flow of affine couplings, y = x exp(s) + t with bounded s: the baseline of splines.

    All else is as in `neural_spline_flow`, so that a comparison shows what the splines are worth.

    Args:
      dim: size of one example, >= 1.
      context_dim: size of the context, zero for none.
      **options: further fields of `FlowConfig`.

    Returns:
      The `Flow`.

    Raises:
      ValueError: if an option is not accepted; names it, its value and what is.

    References:
      Dinh et al., Density estimation using Real NVP, 2017, https://arxiv.org/abs/1605.08803.
    """
    return neural_spline_flow(dim, context_dim=context_dim, transform="affine", **options)


@functools.lru_cache(maxsize=64)
def flow_from_config(config: FlowConfig) -> Flow:
    """Builds the flow that `config` describes; equal configs give the same object."""
    outer, stack = build_elementwise(config), build_stack(config)
    base = build_base(config, stack.is_angle)
    has_marginal = config.dim == 1 and not config.circular_dims and not config.actnorm
    spell_out = _build_marginal(config, outer) if has_marginal else None

    def init(
        key: Key, x: Array, context: Array | None = None, weights: Array | None = None
    ) -> Params:
        chex.assert_shape(x, (None, config.dim))
        context = checked_context(config, context, (x.shape[0],))
        layer_key, head_key = jax.random.split(key)
        params = outer.init(head_key, x, context, weights)
        values = None
        if config.actnorm or config.whiten or config.base != "normal" or config.num_scales > 1:
            values, context = _rows_to_value(outer, params, x, context)
        params |= stack.init(layer_key, values, weights, context)
        of_base = base.init(values, weights)
        return params | ({"base": of_base} if of_base else {})

    def to_noise(
        params: Params, x: Array, context: Array | None = None, *, dropout_key: Key | None = None
    ) -> tuple[Array, Array]:
        chex.assert_shape(x, (config.dim,))
        if spell_out is not None:
            z, log_det = marginal_lib.to_noise(spell_out(params, context, dropout_key), x[0])
            return z[None], log_det
        reading = outer.read(params, context, dropout_key)
        value, log_det = outer.to_value(params, reading, x)
        z, log_det_stack = stack.to_noise(params, value, reading.context, dropout_key)
        return z, log_det + log_det_stack

    def from_noise(params: Params, z: Array, context: Array | None = None) -> tuple[Array, Array]:
        chex.assert_shape(z, (config.dim,))
        if spell_out is not None:
            x, log_det = marginal_lib.from_noise(spell_out(params, context, None), z[0])
            return x[None], log_det
        reading = outer.read(params, context, None)
        value, log_det = stack.from_noise(params, z, reading.context)
        x, log_det_outer = outer.from_value(params, reading, value)
        return x, log_det + log_det_outer

    def log_prob(
        params: Params, x: Array, context: Array | None = None, *, dropout_key: Key | None = None
    ) -> Array:
        z, log_det = to_noise(params, x, context, dropout_key=dropout_key)
        return base.log_prob(params.get("base"), z) + log_det

    def sample(
        key: Key, params: Params, context: Array | None = None, *, temperature: ArrayLike = 1.0
    ) -> Array:
        return from_noise(params, base.sample(key, params.get("base"), temperature), context)[0]

    def marginal(params: Params, context: Array | None = None) -> marginal_lib.Marginal:
        if spell_out is None:
            raise ValueError(
                f"dim is {config.dim}, circular_dims {config.circular_dims} and actnorm "
                f"{config.actnorm}: only a flow of one dimension, not periodic, without ActNorm "
                "has a marginal"
            )
        return spell_out(params, context, None)

    return Flow(init, log_prob, sample, to_noise, from_noise, marginal, config)


def _rows_to_value(
    outer: Elementwise, params: Params, x: Array, context: Array | None
) -> tuple[Array, Array | None]:
    """Maps rows, [N, D], through the layers next to the data; also the standardised contexts."""

    def one(x: Array, context: Array | None) -> tuple[Array, Array | None]:
        reading = outer.read(params, context, None)
        return outer.to_value(params, reading, x)[0], reading.context

    return jax.vmap(one, (0, None if context is None else 0))(x, context)


def _build_marginal(config: FlowConfig, outer: Elementwise) -> Callable[..., marginal_lib.Marginal]:
    """Returns (params, context, dropout_key) -> `Marginal` of a flow of one dimension."""
    network = conditioner(config, 0, scalar_maps.num_logits(config))

    def spell_out(
        params: Params, context: Array | None, dropout_key: Key | None
    ) -> marginal_lib.Marginal:
        reading = outer.read(params, context, dropout_key)
        joined = joined_affine(params, reading)
        tail = jax.tree.map(lambda leaf: leaf[0], all_tails(config, params))

        def maps(layer: Params) -> Any:
            if network is None:
                logits = layer["logits"]
            else:
                logits = network.apply(
                    layer, jnp.zeros(0), reading.context, dropout_key=dropout_key
                )
            return scalar_maps.parameters_from_logits(config, logits)

        knots = jax.vmap(maps)(params["layers"])
        return marginal_lib.Marginal(joined.location[0], joined.scale[0], tail, knots)

    return spell_out
