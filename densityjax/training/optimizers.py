"""The default optimiser: AdamW with a cosine schedule and a clipped gradient."""

import functools

import jax
import optax

from densityjax._typing import Params


def _kernels(params: Params) -> Params:
    """Marks the leaves that decay: matrices named `kernel`, never scales, biases or statistics.

    What lies below a key `frozen` takes no gradient, and does not decay either.
    """

    def decays(path: tuple, leaf: jax.Array) -> bool:
        del leaf
        names = [getattr(step, "key", None) for step in path]
        return names[-1] == "kernel" and "frozen" not in names

    return jax.tree_util.tree_map_with_path(decays, params)


@functools.lru_cache(maxsize=64)
def adamw(
    *,
    num_steps: int,
    learning_rate: float = 1e-3,  # the chapters' and the literature's common rate
    weight_decay: float = 1e-5,  # as above; only kernels decay
    clip_norm: float = 1.0,
    warmup_steps: int = 0,
) -> optax.GradientTransformation:
    """AdamW, cosine decay to zero over `num_steps`, global gradient norm clipped.

    Equal arguments return the same object, so that compiled programs are found again.

    Args:
      num_steps: optimiser steps until the rate is zero, >= 1.
      learning_rate: peak rate, > 0.
      weight_decay: decoupled decay of kernels per step and unit rate, >= 0.
      clip_norm: largest global norm of a gradient, > 0.
      warmup_steps: steps of linear rise from zero to the peak, in [0, num_steps).

    Returns:
      The optax transformation.

    Raises:
      ValueError: if an argument is out of its range.
    """
    if num_steps < 1 or not 0 <= warmup_steps < num_steps:
        raise ValueError(
            f"num_steps={num_steps} and warmup_steps={warmup_steps}: accepted are num_steps >= 1 "
            "and 0 <= warmup_steps < num_steps"
        )
    if learning_rate <= 0 or weight_decay < 0 or clip_norm <= 0:
        raise ValueError(
            f"learning_rate={learning_rate}, weight_decay={weight_decay}, clip_norm={clip_norm}: "
            "accepted are > 0, >= 0 and > 0"
        )
    schedule = optax.warmup_cosine_decay_schedule(
        learning_rate if warmup_steps == 0 else 0.0, learning_rate, warmup_steps, num_steps
    )
    return optax.chain(
        optax.clip_by_global_norm(clip_norm),
        optax.adamw(schedule, weight_decay=weight_decay, mask=_kernels),
    )
