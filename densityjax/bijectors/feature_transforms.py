"""Maps of bounded or positive features to the whole line, with log-determinants.

A log for positive features, a logit for features in [0, 1], the identity for the rest. Atoms at
the ends (a close at the bar's high has position exactly 1) have no finite image: `squeeze` moves
them inside by a stated margin and counts them, so that a report can say how many there were.
The scalar maps act on ONE value; `forward` and `inverse` on one example `[D]`.
"""

from typing import Literal, NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np

from densityjax import numerics
from densityjax._typing import Array, NumpyArray

Kind = Literal["identity", "log", "logit"]
_CODES = {"identity": 0, "log": 1, "logit": 2}


class FeatureTransform(NamedTuple):
    """Which map each feature gets.

    Attributes:
      code: [D] integers: 0 identity, 1 log, 2 logit.
    """

    code: Array


class SqueezeReport(NamedTuple):
    """How many values `squeeze` moved.

    Attributes:
      num_at_lower: [D] number of rows at the lower end, 0.
      num_at_upper: [D] number of rows at the upper end, 1; 0 for features without one.
    """

    num_at_lower: NumpyArray
    num_at_upper: NumpyArray


def feature_transform(kinds: list[Kind]) -> FeatureTransform:
    """Builds the transform of D features.

    Args:
      kinds: D names, 'identity', 'log' (positive values) or 'logit' (values in (0, 1)).

    Returns:
      The `FeatureTransform`.

    Raises:
      ValueError: if a name is not one of the three.
    """
    for index, kind in enumerate(kinds):
        if kind not in _CODES:
            raise ValueError(f"kinds[{index}] must be one of {sorted(_CODES)}, got {kind!r}")
    return FeatureTransform(jnp.array([_CODES[kind] for kind in kinds], jnp.int32))


def forward(transform: FeatureTransform, x: Array) -> tuple[Array, Array]:
    """Maps one example from data to the whole line.

    Args:
      transform: the map of each of D features.
      x: [D] example, in units of the data; NaN where a value lies outside its feature's range.

    Returns:
      y: [D] mapped example.
      log_det: [] log |det dy/dx|.
    """
    chex.assert_rank(x, 1)
    chex.assert_equal_shape([x, transform.code])
    y, log_slope = jax.vmap(_forward_one)(transform.code, x)
    return y, jnp.sum(log_slope)


def inverse(transform: FeatureTransform, y: Array) -> tuple[Array, Array]:
    """Maps one example back to data.

    Args:
      transform: the map of each of D features.
      y: [D] mapped example.

    Returns:
      x: [D] example, in units of the data.
      log_det: [] log |det dx/dy|.
    """
    chex.assert_rank(y, 1)
    chex.assert_equal_shape([y, transform.code])
    x, log_slope = jax.vmap(_inverse_one)(transform.code, y)
    return x, jnp.sum(log_slope)


def squeeze(
    transform: FeatureTransform, x: NumpyArray, *, margin: float = numerics.ATOM_MARGIN
) -> tuple[NumpyArray, SqueezeReport]:
    """Moves atoms at the ends inside, and counts them; on the host.

    Values at 0 of a log feature go to `margin` times the feature's median positive value; values
    of a logit feature go from [0, 1] to [margin, 1 - margin] by clipping.

    Args:
      transform: the map of each of D features.
      x: [N, D] rows, in units of the data.
      margin: distance from the end, as a fraction of the range (logit) or of the median (log).

    Returns:
      squeezed: [N, D] rows with finite images.
      report: the `SqueezeReport`.

    Raises:
      ValueError: if a value lies outside its feature's closed range, or `margin` is not in
        (0, 0.5), naming the column.
    """
    x = np.array(x, np.float64)
    if x.ndim != 2 or x.shape[1] != transform.code.shape[0]:
        raise ValueError(f"x must be [N, {transform.code.shape[0]}], got shape {x.shape}")
    if not 0.0 < margin < 0.5:
        raise ValueError(f"margin must be in (0, 0.5), got {margin}")
    num_at_lower, num_at_upper = np.zeros((2, x.shape[1]), np.int64)
    for column, code in enumerate(np.asarray(transform.code)):
        if code == _CODES["identity"]:
            continue
        lower, upper = _ends(x[:, column], code, margin, column)
        num_at_lower[column] = np.sum(x[:, column] == 0.0)
        num_at_upper[column] = np.sum(x[:, column] == 1.0) if np.isfinite(upper) else 0
        x[:, column] = np.clip(x[:, column], lower, upper)
    return x, SqueezeReport(num_at_lower, num_at_upper)


def _ends(values: NumpyArray, code: int, margin: float, column: int) -> tuple[float, float]:
    """Returns the least and largest value that stay; raises on values outside the range."""
    if code == _CODES["logit"]:
        if (values < 0.0).any() or (values > 1.0).any():
            raise ValueError(f"x must lie in [0, 1] in column {column}, got {_range(values)}")
        return margin, 1.0 - margin
    positive = values[values > 0.0]
    if (values < 0.0).any() or not positive.size:
        raise ValueError(f"x must be positive in column {column}, got {_range(values)}")
    # Only the atom at 0 moves: a positive value stays, however small.
    return min(margin * float(np.median(positive)), float(positive.min())), np.inf


def _range(values: NumpyArray) -> str:
    """Describes the range of `values` for a message."""
    return f"values from {values.min()} to {values.max()}"


def _forward_one(code: Array, x: Array) -> tuple[Array, Array]:
    """Maps one value; all branches see safe values, so that gradients stay finite."""
    positive = jnp.where((code > 0) & (x > 0.0), x, 0.5)
    rest = jnp.where((code == _CODES["logit"]) & (x < 1.0), 1.0 - x, 0.5)
    is_outside = ((code > 0) & ~(x > 0.0)) | ((code == _CODES["logit"]) & ~(x < 1.0))
    log_x, log_rest = jnp.log(positive), jnp.log(rest)
    y = jnp.select([code == 0, code == 1], [x, log_x], log_x - log_rest)
    log_slope = jnp.select([code == 0, code == 1], [jnp.zeros_like(x), -log_x], -log_x - log_rest)
    return jnp.where(is_outside, jnp.nan, y), jnp.where(is_outside, jnp.nan, log_slope)


def _inverse_one(code: Array, y: Array) -> tuple[Array, Array]:
    """Maps one value back."""
    log_y = jnp.where(code == 1, y, 0.0)
    x = jnp.select([code == 0, code == 1], [y, jnp.exp(log_y)], jax.nn.sigmoid(y))
    log_slope = jax.nn.log_sigmoid(y) + jax.nn.log_sigmoid(-y)
    return x, jnp.select([code == 0, code == 1], [jnp.zeros_like(y), y], log_slope)
