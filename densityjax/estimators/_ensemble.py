"""Functions of one row for an ensemble of flows; one object per flow, so that programs are kept."""

import functools
from collections.abc import Callable

import jax

from densityjax._typing import Array, Key, Params
from densityjax.models import Flow, mixture


@functools.lru_cache(maxsize=64)
def log_prob(flow: Flow) -> Callable[[Params, Array], Array]:
    """Returns the (params of M members, x [D]) -> [] log density of their equal mixture, nats."""
    return functools.partial(mixture.log_prob, flow.log_prob)


@functools.lru_cache(maxsize=64)
def sample(flow: Flow) -> Callable[[Params, Key], Array]:
    """Returns the (params of M members, key) -> [D] draw from their equal mixture."""

    def one(params: Params, key: Key) -> Array:
        member_key, sample_key = jax.random.split(key)
        return flow.sample(sample_key, mixture.pick_member(member_key, params))

    return one


@functools.lru_cache(maxsize=64)
def to_noise(flow: Flow) -> Callable[[Params, Array], Array]:
    """Returns the (params of ONE member, x [D]) -> [D] codes of a row."""
    return lambda params, x: flow.to_noise(params, x)[0]
