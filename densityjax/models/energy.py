"""Energy models: p(x) = exp(-E(x)) / Z with E = -log q0 + f, q0 a base law and f a network.

A network alone is no density: bounded, as by layer norms, its integral is infinite. The base makes
Z finite and sets the tails: those of a normal base are Gaussian whatever f learns, those of a
'student_t' or of a flow stay theirs or become lighter, f having a floor. Inside, rows are
standardised, y = (x - location) / scale; at f = 0 the energy is -log q0, of log Z zero in units of
x. Minus the gradient of E is the score. Energies have no absolute scale: of two models, or of two
fits, only normalised log densities or ranks compare.
"""

import functools
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp

from densityjax import numerics
from densityjax._typing import Array, ArrayLike, Key, Params
from densityjax.distributions import bases
from densityjax.models import score_parts as parts
from densityjax.models.energy_config import EnergyConfig
from densityjax.models.flow import Flow, flow_from_config
from densityjax.networks import energy_network

SMALL = {"widths": (64, 32, 16), "norm": "none", "kernel_init": "he", "zero_output": False}


class Energy(NamedTuple):
    """An energy model as pure functions of one example; `x` is [D], `context` [C] or None.

    Attributes:
      init: (key, x [N, D], context [N, C] or None, weights [N] or None) -> params. The rows set
        the standardisers and start a flow of the base; rows of weight zero are ignored.
        `params["log_z"]` is zero, the log Z of the start, and belongs to losses that learn it.
      energy: (params, x, context=None, *, temperature=1.0, dropout_key=None) -> [] nats; divided
        by the temperature T, the energy of p^(1/T).
      score: (params, x, context=None, *, temperature=1.0) -> [D] minus its gradient, per unit of x.
      log_prob: (params, x, context=None, *, log_z=None) -> [] `-E - log Z`, nats per unit volume
        of x; `log_z` None takes that of the params, which only some losses learn.
      correction: (params, y, context=None, *, dropout_key=None) -> [] the network's part f, at
        standardised y and context as given.
      standard_energy: as `energy`, of standardised y and per unit volume of y.
      sample_base: (key, params, context=None) -> [D] a draw of q0, in units of x.
      base_log_prob: (params, x, context=None) -> [] log q0, nats per unit volume of x.
      config: the `EnergyConfig` it was built from.
    """

    init: Callable[..., Params]
    energy: Callable[..., Array]
    score: Callable[..., Array]
    log_prob: Callable[..., Array]
    correction: Callable[..., Array]
    standard_energy: Callable[..., Array]
    sample_base: Callable[..., Array]
    base_log_prob: Callable[..., Array]
    config: EnergyConfig


def energy_model(
    dim: int, *, context_dim: int = 0, base: str | Flow = "normal", **options: Any
) -> Energy:
    """Builds an energy model over examples of `dim` numbers.

    Equal arguments return the same object, so that compiled programs are found again.

    Args:
      dim: size of one example, >= 1.
      context_dim: size of the context, zero for none.
      base: 'normal', 'student_t', or a `Flow` of the same sizes; see `with_flow` for its params.
      **options: further fields of `EnergyConfig`.

    Returns:
      The `Energy`.

    Raises:
      ValueError: if an option is not accepted; names it, its value and what is.
    """
    if isinstance(base, Flow):
        options, base = {**options, "flow": base.config}, "flow"
    return energy_from_config(EnergyConfig(dim=dim, context_dim=context_dim, base=base, **options))


def small_energy_model(dim: int, **options: Any) -> Energy:
    """As `energy_model`, with three layers of 64, 32 and 16 units started as He et al. do."""
    return energy_model(dim, **{**SMALL, **options})


def with_flow(params: Params, flow_params: Params) -> Params:
    """Returns the params of an energy with those of a fitted flow as its base; f starts anew.

    The flow's parameters take no gradient and no weight decay.
    """
    return {**params, "frozen": {"flow": flow_params}, "log_z": jnp.zeros_like(params["log_z"])}


@functools.lru_cache(maxsize=64)
def energy_from_config(config: EnergyConfig) -> Energy:
    """Builds the energy model that `config` describes; equal configs give the same object."""
    network = energy_network(
        config.dim,
        num_context=config.context_dim,
        widths=config.widths,
        activation=config.activation,
        norm=config.norm,
        kernel_init=config.kernel_init,
        max_gain=config.max_gain,
        dropout=config.dropout,
        zero_output=config.zero_output,
    )
    flow = None if config.flow is None else flow_from_config(config.flow)

    def init(
        key: Key, x: Array, context: Array | None = None, weights: Array | None = None
    ) -> Params:
        return _init_parts(config, network.init, flow, key, x, context, weights)

    def correction(
        params: Params, y: Array, context: Array | None = None, *, dropout_key: Key | None = None
    ) -> Array:
        chex.assert_shape(y, (config.dim,))
        context = parts.standardised_context(config, params, context)
        value = network.apply(params["network"], y, context, dropout_key=dropout_key)[0]
        if config.floor is None:
            return value
        # Zero at zero, of slope nearly one there, and never below the floor.
        shift = numerics.softplus_inverse(config.floor)
        return jax.nn.softplus(value + shift) - config.floor

    def base_log_prob(params: Params, x: Array, context: Array | None = None) -> Array:
        if flow is not None:
            return flow.log_prob(jax.lax.stop_gradient(params["frozen"]["flow"]), x, context)
        location, scale = parts.standardiser(params)
        return _standard_base(config, (x - location) / scale) - jnp.sum(jnp.log(scale))

    def energy(
        params: Params,
        x: Array,
        context: Array | None = None,
        *,
        temperature: ArrayLike = 1.0,
        dropout_key: Key | None = None,
    ) -> Array:
        location, scale = parts.standardiser(params)
        y = (x - location) / scale
        inside = correction(params, y, context, dropout_key=dropout_key)
        return (inside - base_log_prob(params, x, context)) / jnp.asarray(temperature)

    def standard_energy(
        params: Params, y: Array, context: Array | None = None, **options: Any
    ) -> Array:
        location, scale = parts.standardiser(params)
        temperature = jnp.asarray(options.get("temperature", 1.0))
        shift = jnp.sum(jnp.log(scale)) / temperature
        return energy(params, location + scale * y, context, **options) - shift

    def score(
        params: Params, x: Array, context: Array | None = None, *, temperature: ArrayLike = 1.0
    ) -> Array:
        return -jax.grad(energy, argnums=1)(params, x, context, temperature=temperature)

    def log_prob(
        params: Params,
        x: Array,
        context: Array | None = None,
        *,
        log_z: ArrayLike | None = None,
    ) -> Array:
        shift = params["log_z"] if log_z is None else jnp.asarray(log_z)
        return -energy(params, x, context) - shift

    def sample_base(key: Key, params: Params, context: Array | None = None) -> Array:
        if flow is not None:
            return flow.sample(key, params["frozen"]["flow"], context)
        location, scale = parts.standardiser(params)
        return location + scale * config.base_scale * _standard_draw(config, key)

    return Energy(
        init, energy, score, log_prob, correction, standard_energy, sample_base, base_log_prob,
        config,
    )  # fmt: skip


def _init_parts(
    config: EnergyConfig,
    network_init: Callable[[Key], Params],
    flow: Flow | None,
    key: Key,
    x: Array,
    context: Array | None,
    weights: Array | None,
) -> Params:
    """Sets all parameters from rows; ValueError for rows that are not accepted."""
    chex.assert_shape(x, (None, config.dim))
    network_key, flow_key = jax.random.split(key)
    params = {"standardiser": parts.fit_standardiser(x, weights)._asdict()}
    if config.context_dim:
        chex.assert_shape(context, (x.shape[0], config.context_dim))
        fitted = parts.fit_standardiser(jnp.asarray(context), weights, name="context")
        params["context_standardiser"] = fitted._asdict()
    elif context is not None:
        raise ValueError(f"context is of shape {context.shape}: accepted is None")
    if flow is not None:
        params["frozen"] = {"flow": flow.init(flow_key, x, context, weights)}
    params["network"] = jax.jit(network_init)(network_key)
    return params | {"log_z": jnp.zeros((), x.dtype)}


def _standard_base(config: EnergyConfig, y: Array) -> Array:
    """Returns log q0 at y, per unit volume of y, of a base that is not a flow."""
    z = y / config.base_scale
    inside = (
        bases.normal_log_prob(z)
        if config.base == "normal"
        else bases.student_t_log_prob(z, config.base_dof)
    )
    return inside - config.dim * math.log(config.base_scale)


def _standard_draw(config: EnergyConfig, key: Key) -> Array:
    if config.base == "normal":
        return bases.normal_sample(key, config.dim)
    return bases.student_t_sample(key, config.dim, config.base_dof)
