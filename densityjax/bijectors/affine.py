"""Affine map per dimension, y = (x - location) / scale, and the standardisers that set it.

`forward` goes from data to standardised units. The fitting functions see all training rows once;
what they return is frozen, so scoring never changes the model, and the log-determinant is the
negative sum of the logs of the scales actually used. On the host a constant column is an error;
`fit_robust` and `fit_moments` run under `jit` and `vmap` and flag it instead.
"""

from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np

from densityjax import numerics
from densityjax._typing import Array, ArrayLike, NumpyArray

_MAD_TO_SD = 1.4826022185056018  # sd of a normal law over its median absolute deviation
_IQR_TO_SD = 0.7413011092528009  # sd of a normal law over its interquartile range


class Affine(NamedTuple):
    """Location and positive scale of each dimension.

    Attributes:
      location: [D] what maps to 0, in units of the data.
      scale: [D] what maps to a distance of 1, in units of the data.
    """

    location: Array
    scale: Array


def forward(affine: Affine, x: Array) -> tuple[Array, Array]:
    """Maps one example from data to standardised units.

    Args:
      affine: location and scale, [D] each.
      x: [D] example, in units of the data.

    Returns:
      y: [D] standardised example, no unit.
      log_det: [] log |det dy/dx|, the negative sum of log scales.
    """
    chex.assert_rank(x, 1)
    return (x - affine.location) / affine.scale, -jnp.sum(jnp.log(affine.scale))


def inverse(affine: Affine, y: Array) -> tuple[Array, Array]:
    """Maps one example from standardised units back to data.

    Args:
      affine: location and scale, [D] each.
      y: [D] standardised example, no unit.

    Returns:
      x: [D] example, in units of the data.
      log_det: [] log |det dx/dy|, the sum of log scales.
    """
    chex.assert_rank(y, 1)
    return affine.location + affine.scale * y, jnp.sum(jnp.log(affine.scale))


def weighted_quantile(x: Array, weights: Array, probability: ArrayLike) -> Array:
    """Returns a quantile of weighted rows; equal weights give the usual linear interpolation.

    The sorted rows of positive weight stand at the positions (W_k - w_k) / (W - w_last), where
    W_k cumulates the weights; between two positions the quantile is linear.

    Args:
      x: [N] rows, in units of the data; rows with weight 0 are ignored but must not be NaN.
      weights: [N] weights, 0 or more, not all 0.
      probability: [] level in [0, 1].

    Returns:
      The [] quantile, in units of the data.
    """
    chex.assert_rank([x, weights], 1)
    # Rows without weight go to the end, so that the last row that counts closes the range.
    order = jnp.lexsort((x, weights <= 0.0))
    x, weights = x[order], weights[order]
    before = jnp.cumsum(weights) - weights
    num_used = jnp.sum(weights > 0.0)
    last = jnp.maximum(num_used - 1, 0)
    is_used = jnp.arange(x.shape[0]) < num_used
    position = jnp.where(is_used, before, before[last])
    return jnp.interp(probability * before[last], position, jnp.where(is_used, x, x[last]))


def fit_robust(
    x: Array, weights: Array | None = None, *, spread: str = "mad"
) -> tuple[Affine, Array]:
    """Standardises by the median and a robust spread, scaled to the sd of a normal law.

    Where more than half of a column is one value the spread is 0, and the weighted standard
    deviation (ddof 0) stands in. Runs under `jit` and `vmap`.

    Args:
      x: [N, D] rows, in units of the data.
      weights: [N] weights, 0 or more; rows with weight 0 are ignored. All 1 by default.
      spread: 'mad' (median absolute deviation x 1.4826) or 'iqr' (interquartile range / 1.349).

    Returns:
      affine: the `Affine`; a constant column keeps scale 1.
      is_constant: [D] True where a column is constant to rounding or not finite.

    Raises:
      ValueError: if `spread` is neither of the two.
    """
    chex.assert_rank(x, 2)
    if spread not in ("mad", "iqr"):
        raise ValueError(f"spread must be 'mad' or 'iqr', got {spread!r}")
    weights = jnp.ones(x.shape[0], x.dtype) if weights is None else weights.astype(x.dtype)
    x = jnp.where(weights[:, None] > 0.0, x, 0.0)
    column = jax.vmap(lambda values: _robust_column(values, weights, spread), 1)
    location, scale, is_constant = column(x)
    return Affine(location, scale), is_constant


def fit_moments(x: Array, weights: Array | None = None) -> tuple[Affine, Array]:
    """Standardises by weighted mean and standard deviation; runs under `jit` and `vmap`.

    Args:
      x: [N, D] rows, in units of the data.
      weights: [N] weights, 0 or more; rows with weight 0 are ignored. All 1 by default.

    Returns:
      affine: the `Affine`; a constant column keeps scale 1.
      is_constant: [D] True where a column is constant to rounding or not finite.
    """
    chex.assert_rank(x, 2)
    weights = jnp.ones(x.shape[0], x.dtype) if weights is None else weights.astype(x.dtype)
    x = jnp.where(weights[:, None] > 0.0, x, 0.0)
    share = (weights / jnp.sum(weights))[:, None]
    size = jnp.max(jnp.where(weights[:, None] > 0.0, jnp.abs(x), 0.0), axis=0)
    # Divide before squaring: squares of large data overflow single precision.
    unit = jnp.where(size > 0.0, size, 1.0)
    mean = jnp.sum(share * (x / unit), axis=0)
    scale = unit * jnp.sqrt(jnp.sum(share * (x / unit - mean) ** 2, axis=0))
    floor = jnp.maximum(numerics.SCALE_FLOOR, jnp.finfo(x.dtype).eps) * size
    is_usable = jnp.isfinite(scale) & jnp.isfinite(mean) & (scale > floor)
    return Affine(unit * mean, jnp.where(is_usable, scale, 1.0)), ~is_usable


def fit_standard(x: NumpyArray, *, ddof: int = 0) -> Affine:
    """Standardises by mean and standard deviation: the z-score, on the host.

    Args:
      x: [N, D] training rows, in units of the data.
      ddof: the standard deviation divides by N - ddof.

    Returns:
      The `Affine`.

    Raises:
      ValueError: if a column is constant or not finite, naming its index.
    """
    x = _rows(x)
    return _checked(x, x.mean(axis=0), x.std(axis=0, ddof=ddof))


def fit_min_max(x: NumpyArray) -> Affine:
    """Maps the range of each column of training rows to [0, 1], on the host.

    Args:
      x: [N, D] training rows, in units of the data.

    Returns:
      The `Affine`: location is the minimum, scale the range.

    Raises:
      ValueError: if a column is constant or not finite, naming its index.
    """
    x = _rows(x)
    return _checked(x, x.min(axis=0), np.ptp(x, axis=0))


def fit_median_iqr(x: NumpyArray) -> Affine:
    """Standardises by median and interquartile range, unscaled, on the host.

    Args:
      x: [N, D] training rows, in units of the data.

    Returns:
      The `Affine`: location is the median, scale the distance of the quartiles.

    Raises:
      ValueError: if a column's quartiles coincide or it is not finite, naming its index.
    """
    x = _rows(x)
    lower, median, upper = np.quantile(x, [0.25, 0.5, 0.75], axis=0)
    return _checked(x, median, upper - lower)


def check_robust(affine: Affine, is_constant: Array) -> Affine:
    """Returns the `Affine` of `fit_robust`; raises ValueError on the host for a flagged column."""
    flagged = np.flatnonzero(np.asarray(is_constant))
    if flagged.size:
        raise ValueError(f"x must have finite columns that vary, column {flagged[0]} does not")
    return affine


def _robust_column(x: Array, weights: Array, spread: str) -> tuple[Array, Array, Array]:
    """Returns location, scale and the constant flag of one column, [N]."""
    median = weighted_quantile(x, weights, 0.5)
    if spread == "mad":
        scale = _MAD_TO_SD * weighted_quantile(jnp.abs(x - median), weights, 0.5)
    else:
        quartiles = [weighted_quantile(x, weights, p) for p in (0.25, 0.75)]
        scale = _IQR_TO_SD * (quartiles[1] - quartiles[0])
    share = weights / jnp.sum(weights)
    # Divide before squaring: squares of large data overflow single precision.
    size = jnp.max(jnp.where(weights > 0.0, jnp.abs(x), 0.0))
    unit = jnp.where(size > 0.0, size, 1.0)
    deviation = (x - median) / unit
    centred = deviation - jnp.sum(share * deviation)
    sd = unit * jnp.sqrt(jnp.sum(share * centred * centred))
    floor = jnp.maximum(numerics.SCALE_FLOOR, jnp.finfo(x.dtype).eps) * size
    scale = jnp.where(scale > floor, scale, sd)
    is_usable = jnp.isfinite(scale) & jnp.isfinite(median) & (scale > floor)
    return median, jnp.where(is_usable, scale, 1.0), ~is_usable


def _rows(x: NumpyArray) -> NumpyArray:
    """Returns `x` as a float64 matrix of at least one row."""
    x = np.asarray(x, np.float64)
    if x.ndim != 2 or x.shape[0] == 0:
        raise ValueError(f"x must be [N, D] with N at least 1, got shape {x.shape}")
    return x


def _checked(x: NumpyArray, location: NumpyArray, scale: NumpyArray) -> Affine:
    """Refuses scales that rounding, not the data, has made."""
    size = np.abs(x).max(axis=0)
    is_good = np.isfinite(x).all(axis=0) & (scale > numerics.SCALE_FLOOR * size)
    if not is_good.all():
        index = int(np.flatnonzero(~is_good)[0])
        raise ValueError(
            f"x must have finite columns that vary, column {index} has scale {scale[index]}"
        )
    return Affine(jnp.asarray(location), jnp.asarray(scale))
