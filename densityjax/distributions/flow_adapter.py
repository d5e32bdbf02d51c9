"""A flow as a `distrax.Distribution`: `log_prob` and `sample` with leading batch axes."""

from collections.abc import Callable
from typing import Any

import distrax
import jax
import jax.numpy as jnp

from densityjax._typing import Array, Key, Params


class FlowDistribution(distrax.Distribution):
    """The density of one fitted flow at one context; see `as_distrax`."""

    def __init__(self, flow: Any, params: Params, dim: int, context: Array | None = None) -> None:
        super().__init__()
        self._log_prob: Callable[..., Array] = flow.log_prob
        self._sample: Callable[..., Array] = flow.sample
        self._params, self._dim, self._context = params, dim, context

    @property
    def event_shape(self) -> tuple[int, ...]:
        """Shape of one example, (D,)."""
        return (self._dim,)

    def _sample_n(self, key: Key, n: int) -> Array:
        """Draws `[n, D]` examples."""
        keys = jax.random.split(key, n)
        return jax.vmap(lambda k: self._sample(k, self._params, self._context))(keys)

    def log_prob(self, value: Array) -> Array:
        """Returns log densities in nats.

        Args:
          value: [..., D] examples, in units of the data.

        Returns:
          The [...] log densities.
        """
        log_prob = jnp.vectorize(
            lambda x: self._log_prob(self._params, x, self._context), signature="(d)->()"
        )
        return log_prob(value)


def as_distrax(
    flow: Any, params: Params, *, dim: int, context: Array | None = None
) -> FlowDistribution:
    """Wraps a flow's pure functions.

    Args:
      flow: an object with `log_prob(params, x, context)` -> [] nats and
        `sample(key, params, context)` -> [D], each for one example.
      params: the flow's parameters.
      dim: number of dimensions D.
      context: [C] what the density is conditioned on, or None.

    Returns:
      The `FlowDistribution`; its seeds may be keys or integers, as everywhere in distrax.
    """
    return FlowDistribution(flow, params, dim, context)
