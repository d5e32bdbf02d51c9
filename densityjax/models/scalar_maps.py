"""The scalar maps of flow layers: splines or affine maps of reals, circular splines of angles."""

import jax.numpy as jnp

from densityjax._typing import Array
from densityjax.bijectors import circular_spline, shift_scale
from densityjax.bijectors import rational_quadratic_spline as rqs
from densityjax.models.config import FlowConfig


def num_logits(config: FlowConfig) -> int:
    """Returns how many unconstrained values set the scalar map of one real entry."""
    return (
        shift_scale.NUM_LOGITS if config.transform == "affine" else rqs.num_logits(config.num_bins)
    )


def parameters_from_logits(config: FlowConfig, logits: Array) -> rqs.Knots | shift_scale.ShiftScale:
    """Returns the parameters of the scalar map of one real entry from its logits, [P]."""
    if config.transform == "affine":
        return shift_scale.from_logits(logits)
    return rqs.knots_from_logits(logits, bound=config.bound)


def apply(
    parameters: rqs.Knots | shift_scale.ShiftScale, value: Array, *, inverse: bool = False
) -> tuple[Array, Array]:
    """Moves a scalar by the map that the type of `parameters` names; also the log slope."""
    if isinstance(parameters, shift_scale.ShiftScale):
        return (shift_scale.inverse if inverse else shift_scale.forward)(parameters, value)
    return (rqs.inverse if inverse else rqs.forward)(parameters, value)


def apply_logits(
    config: FlowConfig, logits: Array, is_angle: Array | None, value: Array, *, inverse: bool
) -> tuple[Array, Array]:
    """Moves one entry by the map that its logits set.

    Args:
      config: names the scalar map and its size.
      logits: [P] unconstrained values; an angle and a real entry read the same ones.
      is_angle: [] whether the entry is an angle; None where none is.
      value: [] the entry.
      inverse: undo the map.

    Returns:
      The moved entry and its log slope, both [].
    """
    real = logits[: num_logits(config)]
    moved, log_slope = apply(parameters_from_logits(config, real), value, inverse=inverse)
    if is_angle is None:
        return moved, log_slope
    of_angle = circular_spline.from_logits(logits[: circular_spline.num_logits(config.num_bins)])
    turn = circular_spline.inverse if inverse else circular_spline.forward
    turned, log_slope_turned = turn(of_angle, value)
    return jnp.where(is_angle, turned, moved), jnp.where(is_angle, log_slope_turned, log_slope)
