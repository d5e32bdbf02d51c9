"""What is read off score models of the next return; one object per model, so programs are kept.

u is the return divided by its recent volatility, the example of the model; M members.
"""

import functools
from collections.abc import Callable

import jax

from densityjax._typing import Array, Params
from densityjax.models import Score, flow_log_prob, mixture
from densityjax.models.score_parts import standardiser


@functools.lru_cache(maxsize=64)
def readings(model: Score) -> Callable[..., tuple[Array, Array]]:
    """Returns the (params of M members, two levels, context [C], u []) -> scores and means, [M]."""

    def one(
        params: Params, sigma: Array, mean_sigma: Array, context: Array, reference: Array
    ) -> tuple[Array, Array]:
        score = model.score(params, reference[None], sigma, context)[0]
        location, scale = (leaf[0] for leaf in standardiser(params))
        # (1 + sigma^2) s at the centre is the mean of a normal law at every level, and of any law
        # in the limit of much noise: Tweedie's formula, with the shrinking of a normal law undone.
        slope = model.score(params, location[None], mean_sigma, context)[0]
        return score, location + (1.0 + mean_sigma**2) * scale**2 * slope

    return jax.vmap(one, (0, None, None, None, None))


@functools.lru_cache(maxsize=64)
def log_prob(model: Score) -> Callable[[Params, Array, Array], Array]:
    """Returns the (params of M members, u [1], context [C]) -> [] log density of their mixture."""

    def one(params: Params, u: Array, context: Array) -> Array:
        return mixture.log_prob(
            lambda member, u: flow_log_prob(model, member, u, context), params, u
        )

    return one
