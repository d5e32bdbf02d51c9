"""Affine map of one scalar, y = x exp(s) + t, with a bounded log scale s.

The scalar map of affine couplings and of masked autoregressive flows: the baseline that splines
are to beat. The bound keeps a stack of layers from overflowing on far points. Dinh et al., Density
estimation using Real NVP, 2017 (https://arxiv.org/abs/1605.08803), section 3.2.
"""

from typing import NamedTuple

import chex
import jax.numpy as jnp

from densityjax import numerics
from densityjax._typing import Array

NUM_LOGITS = 2


class ShiftScale(NamedTuple):
    """Parameters of the map.

    Attributes:
      shift: [] t, in units of the output.
      log_scale: [] s, natural log of output units per input unit.
    """

    shift: Array
    log_scale: Array


def from_logits(
    logits: Array, *, max_log_scale: float = numerics.MAX_LAYER_LOG_SCALE
) -> ShiftScale:
    """Maps unconstrained values to a `ShiftScale`; zeros give the identity.

    Args:
      logits: [2] shift and unbounded log scale.
      max_log_scale: bound of |s|, reached in the limit.

    Returns:
      The `ShiftScale`.
    """
    chex.assert_shape(logits, (NUM_LOGITS,))
    return ShiftScale(logits[0], max_log_scale * jnp.tanh(logits[1] / max_log_scale))


def forward(parameters: ShiftScale, x: Array) -> tuple[Array, Array]:
    """Returns y = x exp(s) + t and log dy/dx, both []."""
    chex.assert_rank(x, 0)
    return x * jnp.exp(parameters.log_scale) + parameters.shift, parameters.log_scale


def inverse(parameters: ShiftScale, y: Array) -> tuple[Array, Array]:
    """Returns x = (y - t) exp(-s) and log dx/dy, both []."""
    chex.assert_rank(y, 0)
    return (y - parameters.shift) * jnp.exp(-parameters.log_scale), -parameters.log_scale
