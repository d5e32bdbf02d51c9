"""An energy model with the flow that it is normalised by and sampled from; functions of one row.

The flow is fitted first. Its draws are the noise that the energy is told from, the proposal that
log Z is estimated with, and the candidates that samples are chosen among.
"""

import dataclasses
import functools
import json
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from densityjax._typing import Array, Key, NumpyArray, Params
from densityjax.densities import partition_function
from densityjax.models import (
    Energy,
    EnergyConfig,
    Flow,
    FlowConfig,
    NoisePool,
    energy_from_config,
    flow_from_config,
    map_rows,
)

NUM_CANDIDATES = 32  # draws of the flow that a sample is chosen among: a bias of about var w / 32


@dataclasses.dataclass(frozen=True)
class ProposedEnergyConfig:
    """Shape of an energy and of its proposal.

    Attributes:
      energy: the `EnergyConfig`.
      proposal: the `FlowConfig`; that of the base too, where the base is a flow.
    """

    energy: EnergyConfig
    proposal: FlowConfig

    def __post_init__(self) -> None:
        """Turns what JSON gives as objects into records."""
        for name, kind in (("energy", EnergyConfig), ("proposal", FlowConfig)):
            if isinstance(getattr(self, name), dict):
                object.__setattr__(self, name, kind(**getattr(self, name)))

    @property
    def dim(self) -> int:
        """Size of one example."""
        return self.energy.dim

    @property
    def context_dim(self) -> int:
        """Size of the context: none."""
        return self.energy.context_dim

    def to_json(self) -> str:
        """Returns the fields as one JSON object."""
        return json.dumps(dataclasses.asdict(self), sort_keys=True)


class ProposedEnergy(NamedTuple):
    """An energy and its proposal; its params are {'energy', 'proposal'}.

    Attributes:
      init: as that of `Energy`.
      energy: the `Energy`.
      proposal: the `Flow`.
      config: the `ProposedEnergyConfig`.
    """

    init: Callable[..., Params]
    energy: Energy
    proposal: Flow
    config: ProposedEnergyConfig


@functools.lru_cache(maxsize=64)
def proposed_energy_from_config(config: ProposedEnergyConfig) -> ProposedEnergy:
    """Builds what `config` describes; equal configs give the same object."""
    energy, flow = energy_from_config(config.energy), flow_from_config(config.proposal)

    def init(key: Key, x: Array, context: Array | None = None, weights: Any = None) -> Params:
        energy_key, flow_key = jax.random.split(key)
        return {
            "energy": energy.init(energy_key, x, context, weights),
            "proposal": flow.init(flow_key, x, context, weights),
        }

    return ProposedEnergy(init, energy, flow, config)


@functools.lru_cache(maxsize=64)
def log_density(model: ProposedEnergy) -> Callable[[Params, Array], Array]:
    """Returns the (params, u [D]) -> [] log density up to log Z, -E, nats per unit volume of u."""
    return lambda params, u: -model.energy.energy(params["energy"], u)


@functools.lru_cache(maxsize=64)
def proposal_log_prob(model: ProposedEnergy) -> Callable[[Params, Array], Array]:
    """Returns the (params, u [D]) -> [] log density of the proposal, nats per unit volume of u."""
    return lambda params, u: model.proposal.log_prob(params["proposal"], u)


def _log_weight(model: ProposedEnergy, params: Params, u: Array) -> Array:
    """Returns -E - log q, [], at u [D]; a flow that is base and proposal cancels."""
    if model.config.energy.flow == model.config.proposal:
        fitted = params["energy"]["standardiser"]
        y = (u - fitted["location"]) / fitted["scale"]
        return -model.energy.correction(params["energy"], y)
    return log_density(model)(params, u) - proposal_log_prob(model)(params, u)


@functools.lru_cache(maxsize=64)
def weighted_draw(model: ProposedEnergy) -> Callable[[Params, Key], Array]:
    """Returns the (params, key) -> [] log weight of a draw of the proposal, nats."""

    def one(params: Params, key: Key) -> Array:
        return _log_weight(model, params, model.proposal.sample(key, params["proposal"]))

    return one


@functools.lru_cache(maxsize=64)
def pool_draw(model: ProposedEnergy) -> Callable[[Params, Key], NoisePool]:
    """Returns the (params, key) -> draw of the proposal and its log density."""

    def one(params: Params, key: Key) -> NoisePool:
        u = model.proposal.sample(key, params["proposal"])
        return NoisePool(u, model.proposal.log_prob(params["proposal"], u))

    return one


@functools.lru_cache(maxsize=64)
def sample(model: ProposedEnergy) -> Callable[[Params, Key], Array]:
    """Returns the (params, key) -> [D] draw: one of some candidates of the flow, by its weight."""

    def one(params: Params, key: Key) -> Array:
        draw_key, choice_key = jax.random.split(key)
        keys = jax.random.split(draw_key, NUM_CANDIDATES)
        candidates = jax.vmap(model.proposal.sample, (0, None))(keys, params["proposal"])
        weights = jax.vmap(_log_weight, (None, None, 0))(model, params, candidates)
        return candidates[jax.random.categorical(choice_key, weights)]

    return one


def estimate_log_z(
    model: ProposedEnergy, params: Params, key: Key, num_rows: int
) -> partition_function.PartitionFunction:
    """Estimates log Z from fresh draws of the proposal.

    Args:
      model: the `ProposedEnergy`.
      params: its parameters.
      key: random key, typed; not that of the pool that the energy was fitted against.
      num_rows: draws, >= 2.

    Returns:
      The `PartitionFunction`, on the host.
    """
    weights: NumpyArray = map_rows(
        weighted_draw(model), jax.random.split(key, num_rows), shared=(params,)
    )
    found = partition_function.from_log_weights(jnp.asarray(weights))
    return jax.tree.map(np.asarray, found)


def partition_from(values: NumpyArray) -> partition_function.PartitionFunction:
    """Rebuilds the estimate of log Z from its numbers in their order."""
    return partition_function.PartitionFunction(*np.asarray(values))
