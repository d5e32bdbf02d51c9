"""The rational-quadratic spline as a `distrax.Bijector`, over the package's own scalar core.

A drop-in for `distrax.RationalQuadraticSpline`: the same arguments, parameter layout and
boundary options, with an inverse that keeps its accuracy beside the knots. Batch axes of the
parameters broadcast against the input.
"""

from collections.abc import Callable

import distrax
import jax.numpy as jnp

from densityjax._typing import Array
from densityjax.bijectors import rational_quadratic_spline as rqs

_BOUNDARY_SLOPES = ("unconstrained", "lower_identity", "upper_identity", "identity", "circular")


class RationalQuadraticSpline(distrax.Bijector):
    """Elementwise monotone spline on `[range_min, range_max]`, linear outside.

    All-zero `params` give the identity.

    Args:
      params: [..., 3 K + 1] unconstrained widths, heights and slopes of K bins, in this order.
      range_min: left end of the interval, in units of the input.
      range_max: right end of the interval, in units of the input.
      boundary_slopes: 'unconstrained', 'lower_identity', 'upper_identity' or 'identity' (that end
        slope is 1, or both are), or 'circular' (both end slopes are equal).
      min_bin_size: smallest width and height of a bin, in units of the input.
      min_knot_slope: smallest derivative at a knot, in (0, 1).

    Raises:
      ValueError: if an argument is not as described, or the bins do not fit into the interval.

    References:
      Durkan et al., Neural Spline Flows, 2019, https://arxiv.org/abs/1906.04032, equations 4-8.
    """

    def __init__(
        self,
        params: Array,
        range_min: float,
        range_max: float,
        boundary_slopes: str = "unconstrained",
        min_bin_size: float = 1e-4,  # the default of distrax
        min_knot_slope: float = 1e-4,  # the default of distrax
    ) -> None:
        super().__init__(event_ndims_in=0)
        num_logits, width = jnp.shape(params)[-1], range_max - range_min
        num_bins = (num_logits - 1) // 3
        if num_logits < 4 or num_logits % 3 != 1:
            raise ValueError(
                f"params must have 3 K + 1 >= 4 values on its last axis, got {num_logits}"
            )
        if range_min >= range_max:
            raise ValueError(f"range_min must be below range_max, got {range_min} and {range_max}")
        if not 0.0 < min_bin_size * num_bins <= width:
            raise ValueError(f"min_bin_size must be in (0, {width / num_bins}], got {min_bin_size}")
        if not 0.0 < min_knot_slope < 1.0:
            raise ValueError(f"min_knot_slope must be in (0, 1), got {min_knot_slope}")
        if boundary_slopes not in _BOUNDARY_SLOPES:
            raise ValueError(
                f"boundary_slopes must be one of {_BOUNDARY_SLOPES}, got {boundary_slopes!r}"
            )
        min_bin = min(min_bin_size / width, 1.0 / num_bins)

        def knots_of(logits: Array) -> rqs.Knots:
            knots = rqs.knots_on_interval(
                logits,
                range_min,
                range_max,
                tails="linear",
                min_bin=min_bin,
                min_slope=min_knot_slope,
            )
            return knots._replace(slope=_constrain(knots.slope, boundary_slopes))

        build = jnp.vectorize(knots_of, signature="(p)->(k),(k),(k)")
        self._num_bins = num_bins
        self._x_pos, self._y_pos, self._knot_slopes = build(jnp.asarray(params))

    @property
    def num_bins(self) -> int:
        """Number of bins K."""
        return self._num_bins

    @property
    def knot_slopes(self) -> Array:
        """Derivatives at the knots, [..., K + 1]."""
        return self._knot_slopes

    @property
    def x_pos(self) -> Array:
        """Knot inputs, [..., K + 1]."""
        return self._x_pos

    @property
    def y_pos(self) -> Array:
        """Knot outputs, [..., K + 1]."""
        return self._y_pos

    def forward_and_log_det(self, x: Array) -> tuple[Array, Array]:
        """Maps `x` through the spline.

        Args:
          x: [...] inputs, broadcast against the batch axes of the parameters.

        Returns:
          y: [...] outputs.
          log_det: [...] natural logs of dy/dx.
        """
        return _elementwise(rqs.forward)(x, self._x_pos, self._y_pos, self._knot_slopes)

    def inverse_and_log_det(self, y: Array) -> tuple[Array, Array]:
        """Maps `y` back through the spline.

        Args:
          y: [...] outputs, broadcast against the batch axes of the parameters.

        Returns:
          x: [...] inputs.
          log_det: [...] natural logs of dx/dy.
        """
        return _elementwise(rqs.inverse)(y, self._x_pos, self._y_pos, self._knot_slopes)


def _constrain(slope: Array, boundary_slopes: str) -> Array:
    """Sets the end slopes of `slope`, [K + 1]."""
    if boundary_slopes in ("lower_identity", "identity"):
        slope = slope.at[0].set(1.0)
    if boundary_slopes in ("upper_identity", "identity"):
        slope = slope.at[-1].set(1.0)
    if boundary_slopes == "circular":
        slope = slope.at[-1].set(slope[0])
    return slope


def _elementwise(
    transform: Callable[..., tuple[Array, Array]],
) -> Callable[..., tuple[Array, Array]]:
    """Broadcasts a scalar function of `Knots` and a value over arrays of both."""
    return jnp.vectorize(
        lambda value, x, y, slope: transform(rqs.Knots(x, y, slope), value),
        signature="(),(k),(k),(k)->(),()",
    )
