"""Neural spline flows: a normalised density with a context, exact in both directions.

From data x to noise z:

    robust standardiser  ->  location and scale read off the context  ->  Lambert-W tails
      ->  L times (mixing, rational-quadratic spline layer)  ->  N(0, I)

A spline layer is a coupling: its conditioner reads the kept half and the context (Durkan et al.,
Neural Spline Flows, 2019, https://arxiv.org/abs/1906.04032, section 4). One dimension needs no
mixing and no kept half; its splines are set by the context alone, see `marginal`. Layers are
stacked on a leading axis and scanned, so that compile time does not grow with their number. Every
network ends in zeros: a new flow is the standardiser and the fitted tails, nothing else.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp
from jax.scipy.stats import norm

from densityjax import numerics
from densityjax._typing import Array, ArrayLike, Key, Params
from densityjax.bijectors import affine, coupling, lambert_w, linear
from densityjax.bijectors import rational_quadratic_spline as rqs
from densityjax.models import marginal as marginal_lib
from densityjax.models.config import FlowConfig
from densityjax.networks import Network, mlp, residual


class Flow(NamedTuple):
    """A normalised density as pure functions of one example; `x` is [D], `context` [C] or None.

    Attributes:
      init: (key, x [N, D], context [N, C] or None, weights [N] or None) -> params. The rows set
        the standardisers and the tails; rows of weight zero are ignored.
      log_prob: (params, x, context=None, *, dropout_key=None) -> [] nats per unit volume of x.
      sample: (key, params, context=None, *, temperature=1.0) -> [D]; the temperature multiplies
        the standard deviation of the base.
      to_noise: (params, x, context=None) -> (z [D], log |det dz/dx| []).
      from_noise: (params, z, context=None) -> (x [D], log |det dx/dz| []).
      marginal: (params, context=None) -> `Marginal`; of flows of one dimension only.
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


@functools.lru_cache(maxsize=64)
def flow_from_config(config: FlowConfig) -> Flow:
    """Builds the spline flow that `config` describes; equal configs give the same object."""
    layer_net, head_net = _layer_network(config), _head_network(config)
    to_noise = functools.partial(_to_noise, config, layer_net, head_net)
    from_noise = functools.partial(_from_noise, config, layer_net, head_net)

    def log_prob(
        params: Params, x: Array, context: Array | None = None, *, dropout_key: Key | None = None
    ) -> Array:
        z, log_det = to_noise(params, x, context, dropout_key=dropout_key)
        return jnp.sum(norm.logpdf(z)) + log_det

    def sample(
        key: Key, params: Params, context: Array | None = None, *, temperature: ArrayLike = 1.0
    ) -> Array:
        noise = jnp.asarray(temperature) * jax.random.normal(key, (config.dim,))
        return from_noise(params, noise, context)[0]

    def marginal(params: Params, context: Array | None = None) -> marginal_lib.Marginal:
        if config.dim != 1:
            raise ValueError(f"dim is {config.dim}: only a flow of one dimension has a marginal")
        return _marginal(config, layer_net, head_net, params, context, None)

    init = functools.partial(_init, config, layer_net, head_net)
    return Flow(init, log_prob, sample, to_noise, from_noise, marginal, config)


def _num_kept(config: FlowConfig) -> int:
    return config.dim // 2


def _layer_network(config: FlowConfig) -> Network | None:
    """The conditioner of one layer; None where a layer reads nothing (one free spline)."""
    num_outputs = (config.dim - _num_kept(config)) * rqs.num_logits(config.num_bins)
    return _conditioner(config, _num_kept(config), num_outputs)


def _head_network(config: FlowConfig) -> Network | None:
    """The network of the conditional location and log scale; None without a context."""
    return _conditioner(config, 0, 2 * config.dim) if config.context_dim else None


def _conditioner(config: FlowConfig, num_inputs: int, num_outputs: int) -> Network | None:
    if num_inputs + config.context_dim == 0:
        return None
    common = {
        "num_context": config.context_dim,
        "activation": config.activation,
        "dropout": config.dropout,
    }
    if config.conditioner == "mlp":
        widths = (config.width,) * config.num_hidden
        return mlp(num_inputs, num_outputs, widths=widths, **common)
    return residual(
        num_inputs, num_outputs, width=config.width, num_blocks=config.num_hidden, **common
    )


def _init(
    config: FlowConfig,
    layer_net: Network | None,
    head_net: Network | None,
    key: Key,
    x: Array,
    context: Array | None = None,
    weights: Array | None = None,
) -> Params:
    """Fits standardisers and tails to the rows; networks start at zero output."""
    chex.assert_shape(x, (None, config.dim))
    context = _checked_context(config, context, (x.shape[0],))
    layer_key, head_key = jax.random.split(key)
    standardiser, _ = affine.fit_robust(x, weights)
    params = {
        "standardiser": standardiser._asdict(),
        "layers": _init_layers(config, layer_net, layer_key),
        "mixing": _init_mixing(config),
    }
    if config.tail == "lambert_w":
        standard, _ = jax.vmap(functools.partial(affine.forward, standardiser))(x)
        tails, _ = jax.vmap(functools.partial(lambert_w.fit, weights=weights))(standard.T)
        params["tail"] = {"logits": jax.vmap(lambert_w.logits_from_tail)(tails)}
    if head_net is not None and context is not None:
        params["context_standardiser"] = affine.fit_robust(context, weights)[0]._asdict()
        params["head"] = head_net.init(head_key)
        params["skip"] = {"kernel": jnp.zeros((config.context_dim, 2 * config.dim))}
    return params


def _checked_context(
    config: FlowConfig, context: Array | None, rows: tuple[int, ...]
) -> Array | None:
    """Returns `context`, [*rows, C], or None where the flow takes none; raises on a mismatch."""
    if (context is None) != (config.context_dim == 0):
        given = "missing" if context is None else f"of shape {context.shape}"
        accepted = [*rows, config.context_dim] if config.context_dim else None
        raise ValueError(f"context is {given}: accepted is {accepted}")
    if context is not None:
        chex.assert_shape(context, (*rows, config.context_dim))
    return context


def _init_layers(config: FlowConfig, layer_net: Network | None, key: Key) -> Params:
    if layer_net is None:
        return {"logits": jnp.zeros((config.num_layers, rqs.num_logits(config.num_bins)))}
    return jax.vmap(layer_net.init)(jax.random.split(key, config.num_layers))


def _init_mixing(config: FlowConfig) -> Params:
    """Learnt mixing starts as the reversal that the fixed one is; see `_mix`."""
    if config.dim == 1 or config.mixing == "permutation":
        return {}
    lu = linear.init(config.dim)._asdict()
    return jax.tree.map(lambda leaf: jnp.stack([leaf] * config.num_layers), lu)


def _read_context(
    config: FlowConfig,
    head_net: Network | None,
    params: Params,
    context: Array | None,
    dropout_key: Key | None,
) -> tuple[Array | None, Array, Array]:
    """Returns the standardised context and the location and log scale [D] that it implies."""
    context = _checked_context(config, context, ())
    if head_net is None or context is None:
        return None, jnp.zeros(config.dim), jnp.zeros(config.dim)
    fixed = jax.lax.stop_gradient(params["context_standardiser"])
    standard, _ = affine.forward(affine.Affine(**fixed), context)
    out = head_net.apply(params["head"], jnp.zeros(0), standard, dropout_key=dropout_key)
    out += jnp.matmul(standard, params["skip"]["kernel"], precision=jax.lax.Precision.HIGHEST)
    location, log_scale = jnp.split(out, 2)
    bounded = numerics.MAX_LOG_SCALE * jnp.tanh(log_scale / numerics.MAX_LOG_SCALE)
    return standard, location, bounded


def _affine(params: Params, location: Array, log_scale: Array) -> affine.Affine:
    """Joins the standardiser and the conditional location and scale into one map."""
    fixed = jax.lax.stop_gradient(params["standardiser"])
    return affine.Affine(
        fixed["location"] + fixed["scale"] * location, fixed["scale"] * jnp.exp(log_scale)
    )


def _tail(config: FlowConfig, params: Params) -> lambert_w.Tail:
    """The tails of all dimensions; light ones where the config wants none."""
    if config.tail == "lambert_w":
        return jax.vmap(lambert_w.tail_from_logits)(params["tail"]["logits"])
    zeros, ones = jnp.zeros(config.dim), jnp.ones(config.dim)
    return lambert_w.Tail(location=zeros, scale=ones, h_plus=zeros, h_minus=zeros)


def _knots(config: FlowConfig, logits: Array) -> rqs.Knots:
    return rqs.knots_from_logits(logits, bound=config.bound)


def _marginal(
    config: FlowConfig,
    layer_net: Network | None,
    head_net: Network | None,
    params: Params,
    context: Array | None,
    dropout_key: Key | None,
) -> marginal_lib.Marginal:
    standard, location, log_scale = _read_context(config, head_net, params, context, dropout_key)
    joined = _affine(params, location, log_scale)
    tail = jax.tree.map(lambda leaf: leaf[0], _tail(config, params))

    def logits(layer: Params) -> Array:
        if layer_net is None:
            return layer["logits"]
        return layer_net.apply(layer, jnp.zeros(0), standard, dropout_key=dropout_key)

    knots = jax.vmap(lambda layer: _knots(config, logits(layer)))(params["layers"])
    return marginal_lib.Marginal(joined.location[0], joined.scale[0], tail, knots)


def _couple(
    config: FlowConfig,
    layer_net: Network | None,
    layer: Params,
    x: Array,
    context: Array | None,
    scalar_map: Callable[[rqs.Knots, Array], tuple[Array, Array]],
    dropout_key: Key | None,
) -> tuple[Array, Array]:
    """Moves the second part of `x` by splines that read the first part and the context."""
    num_kept = _num_kept(config)
    assert layer_net is not None  # two or more dimensions always keep a part

    def parameters(kept: Array) -> Array:
        logits = layer_net.apply(layer, kept, context, dropout_key=dropout_key)
        return logits.reshape(config.dim - num_kept, -1)

    def move(logits: Array, value: Array) -> tuple[Array, Array]:
        return scalar_map(_knots(config, logits), value)

    return coupling.transform(x, num_kept, parameters, move)


def _mix(config: FlowConfig, mixing: Params, x: Array, *, inverse: bool) -> tuple[Array, Array]:
    """Reverses the dimensions, so that two layers move them all, and mixes them if asked to."""
    order = linear.reverse_permutation(config.dim)
    if config.mixing == "permutation":
        return x[order], jnp.zeros(())  # its own inverse
    apply = linear.inverse if inverse else linear.forward
    return apply(linear.Linear(**mixing), x, permutation=order)


def _to_noise(
    config: FlowConfig,
    layer_net: Network | None,
    head_net: Network | None,
    params: Params,
    x: Array,
    context: Array | None = None,
    *,
    dropout_key: Key | None = None,
) -> tuple[Array, Array]:
    chex.assert_shape(x, (config.dim,))
    if config.dim == 1:
        one = _marginal(config, layer_net, head_net, params, context, dropout_key)
        z, log_det = marginal_lib.to_noise(one, x[0])
        return z[None], log_det
    standard, location, log_scale = _read_context(config, head_net, params, context, dropout_key)
    value, total = affine.forward(_affine(params, location, log_scale), x)
    value, log_slopes = jax.vmap(lambert_w.to_noise)(value, _tail(config, params))

    def layer(carry: tuple[Array, Array], inputs: tuple) -> tuple[tuple[Array, Array], None]:
        value, total = carry
        mixed, log_det_mixed = _mix(config, inputs[1], value, inverse=False)
        moved, log_det = _couple(
            config, layer_net, inputs[0], mixed, standard, rqs.forward, dropout_key
        )
        return (moved, total + log_det_mixed + log_det), None

    start = (value, total + jnp.sum(log_slopes))
    return jax.lax.scan(layer, start, (params["layers"], params["mixing"]))[0]


def _from_noise(
    config: FlowConfig,
    layer_net: Network | None,
    head_net: Network | None,
    params: Params,
    z: Array,
    context: Array | None = None,
) -> tuple[Array, Array]:
    chex.assert_shape(z, (config.dim,))
    if config.dim == 1:
        one = _marginal(config, layer_net, head_net, params, context, None)
        x, log_det = marginal_lib.from_noise(one, z[0])
        return x[None], log_det
    standard, location, log_scale = _read_context(config, head_net, params, context, None)

    def layer(carry: tuple[Array, Array], inputs: tuple) -> tuple[tuple[Array, Array], None]:
        value, total = carry
        moved, log_det = _couple(config, layer_net, inputs[0], value, standard, rqs.inverse, None)
        unmixed, log_det_mixed = _mix(config, inputs[1], moved, inverse=True)
        return (unmixed, total + log_det + log_det_mixed), None

    layers = (params["layers"], params["mixing"])
    (value, total), _ = jax.lax.scan(layer, (z, jnp.zeros(())), layers, reverse=True)
    value, log_slopes = jax.vmap(lambert_w.from_noise)(value, _tail(config, params))
    x, log_det = affine.inverse(_affine(params, location, log_scale), value)
    return x, total + jnp.sum(log_slopes) + log_det
