"""Monotone rational-quadratic spline on an interval, linear outside.

All functions act on ONE scalar; use `jax.vmap` for more. A spline of K bins has K + 1 knots
(x_k, y_k) with slopes d_k. In a bin of width w and height h: s = h / w, alpha = d_k / s,
beta = d_{k+1} / s, t = (x - x_k) / w, o = (x_{k+1} - x) / w, and y rises by the fraction
p = t (t + alpha o) / (t^2 + o^2 + (alpha + beta) t o) of h. The map is C1: where its log density
is differentiated in x, the result jumps at the knots. Durkan et al., Neural Spline Flows, 2019
(https://arxiv.org/abs/1906.04032), equations 4-8, rewritten without differences of like numbers.
"""

from typing import Literal, NamedTuple

import chex
import jax
import jax.numpy as jnp

from densityjax import numerics
from densityjax._typing import Array, ArrayLike

Tails = Literal["identity", "linear", "circular"]
_SLOPE_SURPLUS = {"identity": -1, "linear": 1, "circular": 0}  # free slopes less the bins


class Knots(NamedTuple):
    """Spline knots, increasing in both coordinates.

    Attributes:
      x: [K + 1] knot inputs, in units of the input.
      y: [K + 1] knot outputs, in units of the output.
      slope: [K + 1] derivatives dy/dx at the knots; the end ones continue outside.
    """

    x: Array
    y: Array
    slope: Array


def num_logits(num_bins: int, *, tails: Tails = "identity") -> int:
    """Returns how many unconstrained values set one spline.

    Args:
      num_bins: number of bins K, at least 1.
      tails: 'identity' (3 K - 1: end slopes fixed at 1), 'linear' (3 K + 1: end slopes free) or
        'circular' (3 K: both end slopes equal).

    Returns:
      The length of the `logits` of `knots_from_logits`.

    Raises:
      ValueError: if `num_bins` or `tails` is not one of the above.
    """
    if num_bins < 1:
        raise ValueError(f"num_bins must be at least 1, got {num_bins}")
    if tails not in _SLOPE_SURPLUS:
        raise ValueError(f"tails must be one of {sorted(_SLOPE_SURPLUS)}, got {tails!r}")
    return 3 * num_bins + _SLOPE_SURPLUS[tails]


def knots_from_logits(
    logits: Array,
    *,
    bound: ArrayLike,
    tails: Tails = "identity",
    min_bin: float = numerics.MIN_BIN,
    min_slope: float = numerics.MIN_SLOPE,
) -> Knots:
    """Maps unconstrained values to knots on `[-bound, bound]`; zeros give the identity.

    Args:
      logits: [num_logits(K)] unconstrained widths, heights and slopes, e.g. a network's output.
      bound: half-width of the spline interval, in units of the input.
      tails: 'identity', 'linear' or 'circular', see `num_logits`.
      min_bin: smallest bin, as a fraction of the interval.
      min_slope: smallest knot derivative, output units per input unit.

    Returns:
      The `Knots` of the spline.

    Raises:
      ValueError: if the number of logits fits no number of bins, or a minimum is out of range.
    """
    lower = -jnp.asarray(bound)
    return knots_on_interval(
        logits, lower, bound, tails=tails, min_bin=min_bin, min_slope=min_slope
    )


def knots_on_interval(
    logits: Array,
    lower: ArrayLike,
    upper: ArrayLike,
    *,
    tails: Tails = "identity",
    min_bin: float = numerics.MIN_BIN,
    min_slope: float = numerics.MIN_SLOPE,
) -> Knots:
    """Maps unconstrained values to knots on `[lower, upper]`; zeros give the identity.

    Args:
      logits: [num_logits(K)] unconstrained widths, heights and slopes, in this order.
      lower: left end of the interval, in units of the input.
      upper: right end of the interval, in units of the input.
      tails: 'identity', 'linear' or 'circular', see `num_logits`.
      min_bin: smallest bin, as a fraction of the interval.
      min_slope: smallest knot derivative, output units per input unit.

    Returns:
      The `Knots` of the spline.

    Raises:
      ValueError: if the number of logits fits no number of bins, or a minimum is out of range.
    """
    chex.assert_rank(logits, 1)
    num_bins = max((logits.shape[0] - _SLOPE_SURPLUS.get(tails, 0)) // 3, 1)
    if logits.shape[0] != num_logits(num_bins, tails=tails):
        raise ValueError(f"logits must fit a number of bins with {tails=}, got {logits.shape[0]}")
    if not 0.0 < min_bin * num_bins <= 1.0:
        raise ValueError(f"min_bin must be in (0, 1 / {num_bins}], got {min_bin}")
    if not 0.0 < min_slope < 1.0:
        raise ValueError(f"min_slope must be in (0, 1), got {min_slope}")
    widths, heights, slopes = jnp.split(logits, [num_bins, 2 * num_bins])
    # The offset makes a zero logit the slope 1.
    slope = jax.nn.softplus(slopes + numerics.softplus_inverse(1.0 - min_slope)) + min_slope
    if tails == "identity":
        slope = jnp.pad(slope, 1, constant_values=1.0)
    elif tails == "circular":
        slope = jnp.append(slope, slope[0])
    x = _edges(widths, lower, upper, min_bin)
    return Knots(x, _edges(heights, lower, upper, min_bin), slope)


def identity(num_bins: int, bound: ArrayLike) -> Knots:
    """Returns the `Knots` of y = x with `num_bins` equal bins on `[-bound, bound]`."""
    return knots_from_logits(jnp.zeros(num_logits(num_bins)), bound=bound)


def forward(knots: Knots, x: Array) -> tuple[Array, Array]:
    """Maps a scalar through the spline.

    Args:
      knots: the spline, arrays of shape [K + 1].
      x: [] input; NaN gives NaN.

    Returns:
      y: [] output.
      log_slope: [] natural log of dy/dx at `x`.

    References:
      Durkan et al., Neural Spline Flows, 2019, https://arxiv.org/abs/1906.04032, equations 4-5.
    """
    chex.assert_rank(x, 0)
    chex.assert_equal_shape(knots)
    # Clip first, select last: what the tail branch discards stays finite, gradients included.
    safe_x = jnp.clip(x, knots.x[0], knots.x[-1])
    cell = _cell(knots, safe_x, knots.x)
    height, width = cell.y1 - cell.y0, cell.x1 - cell.x0
    # Both ends are measured from their own knot: 1 - t would lose `o` beside the upper knot.
    t, o = (safe_x - cell.x0) / width, (cell.x1 - safe_x) / width
    den = _den(cell, t, o)
    p, q = t * (t + cell.alpha * o) / den, o * (o + cell.beta * t) / den
    y = jnp.where(p <= q, cell.y0 + height * p, cell.y1 - height * q)
    outside, y_tail, slope_tail = _tail(knots.x, knots.y, knots.slope, x)
    slope = jnp.where(outside, slope_tail, _slope(cell, t, o))
    return jnp.where(outside, y_tail, y), jnp.log(slope)


def inverse(knots: Knots, y: Array) -> tuple[Array, Array]:
    """Maps a scalar back through the spline.

    With omega = (y - y_k) / h, v = (y_{k+1} - y) / h and r = alpha v - beta omega, the ratio
    rho = t / o solves v rho^2 + r rho - omega = 0. Its discriminant r^2 + 4 omega v is a sum of
    squares, so the root exists, needs no guard, and has a finite gradient.

    Args:
      knots: the spline, arrays of shape [K + 1].
      y: [] output of `forward`; NaN gives NaN.

    Returns:
      x: [] input.
      log_slope: [] natural log of dx/dy at `y`.

    References:
      Durkan et al., Neural Spline Flows, 2019, https://arxiv.org/abs/1906.04032, equations 6-8.
    """
    chex.assert_rank(y, 0)
    chex.assert_equal_shape(knots)
    safe_y = jnp.clip(y, knots.y[0], knots.y[-1])
    cell = _cell(knots, safe_y, knots.y)
    height, width = cell.y1 - cell.y0, cell.x1 - cell.x0
    omega, v = (safe_y - cell.y0) / height, (cell.y1 - safe_y) / height
    r = cell.alpha * v - cell.beta * omega
    root = jnp.sqrt(r * r + 4.0 * omega * v)
    right = r >= 0.0
    total = root + jnp.where(right, r, -r)  # not abs: its derivative at 0 is 0
    small = 2.0 * jnp.where(right, omega, v)
    t, o = jnp.where(right, small, total), jnp.where(right, total, small)
    t, o = t / (small + total), o / (small + total)
    x = jnp.where(t <= o, cell.x0 + t * width, cell.x1 - o * width)
    outside, x_tail, slope_tail = _tail(knots.y, knots.x, 1.0 / knots.slope, y)
    slope = jnp.where(outside, slope_tail, 1.0 / _slope(cell, t, o))
    return jnp.where(outside, x_tail, x), jnp.log(slope)


class _Cell(NamedTuple):
    """One bin: its knots (x0, y0), (x1, y1), s = height / width, and knot slopes over s."""

    x0: Array
    x1: Array
    y0: Array
    y1: Array
    s: Array
    alpha: Array
    beta: Array


def _edges(logits: Array, lower: ArrayLike, upper: ArrayLike, min_bin: float) -> Array:
    """Cumulates a floored softmax to [K + 1] knots; both ends are pinned, not summed."""
    share = jax.nn.softmax(logits) * (1.0 - logits.shape[0] * min_bin) + min_bin
    lower, upper = jnp.asarray(lower, share.dtype), jnp.asarray(upper, share.dtype)
    inner = lower + (upper - lower) * jnp.cumsum(share)[:-1]
    return jnp.concatenate([lower[None], inner, upper[None]])


def _cell(knots: Knots, value: Array, edges: Array) -> _Cell:
    """Picks the bin of `edges` that holds `value`: compare and sum, no gather."""
    above = value >= edges[1:-1]
    first, last = jnp.ones((1,), bool), jnp.zeros((1,), bool)
    one_hot = jnp.concatenate([first, above]) & ~jnp.concatenate([above, last])

    def pick(values: Array) -> Array:
        return jnp.sum(jnp.where(one_hot, values, 0.0))

    x0, x1, y0, y1, d0, d1 = (pick(v) for k in knots for v in (k[:-1], k[1:]))
    s = (y1 - y0) / (x1 - x0)
    return _Cell(x0, x1, y0, y1, s, d0 / s, d1 / s)


def _den(cell: _Cell, t: Array, o: Array) -> Array:
    """Returns t^2 + o^2 + (alpha + beta) t o, at least 1/2."""
    return t * t + o * o + (cell.alpha + cell.beta) * (t * o)


def _slope(cell: _Cell, t: Array, o: Array) -> Array:
    """Returns dy/dx = s (beta t^2 + 2 t o + alpha o^2) / den^2; every term is positive."""
    den = _den(cell, t, o)
    return cell.s * ((cell.beta * t * t + 2.0 * t * o + cell.alpha * o * o) / den) / den


def _tail(start: Array, end: Array, slope: Array, value: Array) -> tuple[Array, Array, Array]:
    """Continues the line of the nearer end knot from `start` to `end` coordinates.

    The end knots themselves count as outside, so that they map exactly; NaN counts as inside.
    """
    is_above = value >= start[-1]
    outside = is_above | (value <= start[0])
    a, b, d = (jnp.where(is_above, k[-1], k[0]) for k in (start, end, slope))
    # The second form is exactly `value` where d = 1 and a = b; the first is exact at the knot.
    line = jnp.where(value == a, b + (value - a) * d, value * d + (b - a * d))
    return outside, line, d
