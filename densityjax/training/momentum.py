"""Gradient descent with momentum, the optimiser of contrastive divergence since its first days.

One rate for all parameters: weights that start near zero leave it slowly. `adamw`, whose steps do
not shrink with the gradient, learns Gaussian machines in fewer epochs.
"""

import functools

import optax

from densityjax.training.optimizers import _kernels

CLIP_NORM = 10.0  # largest norm of a gradient: variances near their floor make huge ones


@functools.lru_cache(maxsize=64)
def momentum_sgd(
    *,
    num_steps: int,
    learning_rate: float = 1e-2,
    momentum: float = 0.9,
    weight_decay: float = 1e-4,  # of kernels alone
    clip_norm: float = CLIP_NORM,
) -> optax.GradientTransformation:
    """Descent with momentum, a cosine decay to zero over `num_steps` and decay of kernels.

    Equal arguments return the same object, so that compiled programs are found again.

    Args:
      num_steps: optimiser steps until the rate is zero, >= 1.
      learning_rate: first rate, > 0.
      momentum: share of the last step that goes on, in [0, 1).
      weight_decay: decay of kernels, added to their gradients, >= 0.
      clip_norm: largest global norm of a gradient, > 0.

    Returns:
      The optax transformation.

    Raises:
      ValueError: if an argument is out of its range.

    References:
      Hinton, A practical guide to training restricted Boltzmann machines, 2010, sections 7 to 10.
    """
    if num_steps < 1 or not 0.0 <= momentum < 1.0:
        raise ValueError(
            f"num_steps={num_steps} and momentum={momentum}: accepted are >= 1 and in [0, 1)"
        )
    if learning_rate <= 0 or weight_decay < 0 or clip_norm <= 0:
        raise ValueError(
            f"learning_rate={learning_rate}, weight_decay={weight_decay}, clip_norm={clip_norm}: "
            "accepted are > 0, >= 0 and > 0"
        )
    return optax.chain(
        optax.clip_by_global_norm(clip_norm),
        optax.add_decayed_weights(weight_decay, mask=_kernels),
        optax.sgd(optax.cosine_decay_schedule(learning_rate, num_steps), momentum=momentum),
    )
