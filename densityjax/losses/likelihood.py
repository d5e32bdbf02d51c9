"""Losses of normalised densities."""

from collections.abc import Callable

from densityjax._typing import Array


def negative_log_likelihood(log_prob_fn: Callable[..., Array], x: Array, *context: Array) -> Array:
    """Returns `-log p(x | context)` of one example, in nats.

    Args:
      log_prob_fn: normalised log density with its parameters bound, [D] (and [C]) to [].
      x: [D] one example.
      *context: [C] what the density is conditioned on, if anything.

    Returns:
      [] the loss.
    """
    return -log_prob_fn(x, *context)
