"""Maps of bounded or positive features to the whole line, with log-determinants.

A log for positive features, a logit for features in [0, 1], the identity for the rest; then, where
it is asked for, a Lambert-W layer that turns power tails into normal ones. Atoms at
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
from densityjax.bijectors import lambert_w

Kind = Literal["identity", "log", "logit"]
_CODES = {"identity": 0, "log": 1, "logit": 2}


class FeatureTransform(NamedTuple):
    """Which map each feature gets.

    Attributes:
      code: [D] integers: 0 identity, 1 log, 2 logit.
      tail: Lambert-W layer behind it, leaves [D] in units of the mapped feature, or None.
    """

    code: Array
    tail: lambert_w.Tail | None = None


class Ends(NamedTuple):
    """Least and largest value of each feature that are mapped as they are.

    Attributes:
      lower: [D] in units of the data; minus infinity for the identity.
      upper: [D] in units of the data; infinity for the identity and the log.
    """

    lower: NumpyArray
    upper: NumpyArray


class SqueezeReport(NamedTuple):
    """How many values `squeeze` moved.

    Attributes:
      num_at_lower: [D] number of rows moved up from the lower end, 0.
      num_at_upper: [D] number of rows moved down from the upper end, 1.
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
    if transform.tail is not None:
        y, tail_slope = jax.vmap(lambert_w.to_noise)(y, transform.tail)
        log_slope += tail_slope
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
    tail_slope = jnp.zeros_like(y)
    if transform.tail is not None:
        y, tail_slope = jax.vmap(lambert_w.from_noise)(y, transform.tail)
    x, log_slope = jax.vmap(_inverse_one)(transform.code, y)
    return x, jnp.sum(log_slope + tail_slope)


def fit_ends(
    transform: FeatureTransform, x: NumpyArray, *, margin: float = numerics.ATOM_MARGIN
) -> Ends:
    """Sets, from training rows, how far inside an atom at an end is moved; on the host.

    Log features: the smallest positive value, or `margin` times the median positive value where
    that is less. Logit features: `margin` and 1 - `margin`.

    Args:
      transform: the map of each of D features.
      x: [N, D] training rows, in units of the data.
      margin: distance from the end, as a fraction of the range (logit) or of the median (log).

    Returns:
      The `Ends`.

    Raises:
      ValueError: if a value lies outside its feature's closed range, or `margin` is not in
        (0, 0.5), naming the column.
    """
    x = _checked(transform, x)
    if not 0.0 < margin < 0.5:
        raise ValueError(f"margin must be in (0, 0.5), got {margin}")
    ends = [
        (-np.inf, np.inf)
        if code == _CODES["identity"]
        else _ends(x[:, column], code, margin, column)
        for column, code in enumerate(np.asarray(transform.code))
    ]
    lower, upper = np.array(ends).T
    return Ends(lower, upper)


def squeeze(
    transform: FeatureTransform, ends: Ends, x: NumpyArray
) -> tuple[NumpyArray, SqueezeReport]:
    """Moves values between an end of their range and the `Ends` inside, and counts them.

    Each row is moved by itself; a value outside the closed range stays, and `forward` gives it NaN.

    Args:
      transform: the map of each of D features.
      ends: of `fit_ends`.
      x: [N, D] rows, in units of the data.

    Returns:
      squeezed: [N, D] rows.
      report: the `SqueezeReport`.
    """
    x = _checked(transform, x)
    code = np.asarray(transform.code)
    is_low = (code > 0) & (x >= 0.0) & (x < ends.lower)
    is_high = (code == _CODES["logit"]) & (x <= 1.0) & (x > ends.upper)
    squeezed = np.where(is_low, ends.lower, np.where(is_high, ends.upper, x))
    return squeezed, SqueezeReport(is_low.sum(axis=0), is_high.sum(axis=0))


@jax.jit
def _fit_tails(
    transform: FeatureTransform, x: Array, weights: Array
) -> tuple[lambert_w.Tail, Array]:
    """Fits a layer to each column of rows [N, D]; returns it and whether the fits are finite."""
    mapped, _ = jax.vmap(forward, (None, 0))(transform._replace(tail=None), x)
    tail, info = jax.vmap(lambda column: lambert_w.fit(column, weights))(mapped.T)
    return tail, info.is_finite


def fit_tails(
    transform: FeatureTransform, x: NumpyArray, weights: NumpyArray | None = None
) -> FeatureTransform:
    """Puts a Lambert-W layer behind the map of each feature, fitted by maximum likelihood.

    Args:
      transform: the map of each of D features.
      x: [N, D] squeezed training rows, in units of the data.
      weights: [N] weights, 0 or more; rows of weight 0 are not seen. All 1 by default.

    Returns:
      The transform with its layer.

    Raises:
      ValueError: if the fit of a column is not finite, naming it.

    References:
      Goerg, 2015, https://arxiv.org/abs/1010.2265, section 4.1.
    """
    x = _checked(transform, x).astype(np.float32)
    weights = np.ones(len(x), np.float32) if weights is None else weights
    tail, is_finite = _fit_tails(transform, x, weights)
    if not np.all(is_finite):
        column = int(np.flatnonzero(~np.asarray(is_finite))[0])
        raise ValueError(
            f"x has no tail in column {column} in single precision, {_range(x[:, column])}: "
            "accepted are finite values that vary"
        )
    return transform._replace(tail=tail)


def _checked(transform: FeatureTransform, x: NumpyArray) -> NumpyArray:
    x = np.asarray(x, np.float64)
    if x.ndim != 2 or x.shape[1] != transform.code.shape[0]:
        raise ValueError(f"x must be [N, {transform.code.shape[0]}], got shape {x.shape}")
    return x


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
