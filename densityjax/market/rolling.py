"""Causal rolling windows and exponentially weighted means, on the host in float64.

Row `t` reads rows `t - window + 1 .. t` only, always in the same order, so that its value is the
same bit for bit whatever comes later and however many rows there are: each window is a loop over
its lags, elementwise over the rows, and never a running sum. Windows that are not full are NaN,
and so are those that hold a NaN; with a `min_share` below 1, NaNs are skipped where at least that
share of the window is known. Moments are centred before they are raised to a power, so nothing
cancels at the scale of prices. Exponentially weighted means are recursions with a state that can
be carried.
"""

from typing import NamedTuple

import numpy as np
from scipy import signal

from densityjax._typing import ArrayLike


class EwmaState(NamedTuple):
    """What the next value of an exponentially weighted mean needs.

    Attributes:
      memory: [2, S, 1] carried filter state of the S weighted sums and of the S sums of weights.
    """

    memory: np.ndarray


def as_float(values: ArrayLike) -> np.ndarray:
    """Returns `values` as a one-dimensional float64 array, [T].

    Raises:
      ValueError: if there is not exactly one axis.
    """
    array = np.asarray(values, dtype=np.float64)
    if array.ndim != 1:
        raise ValueError(f"values must have one axis, got shape {array.shape}")
    return array


def lagged(values: ArrayLike, lag: int) -> np.ndarray:
    """Returns `values[t - lag]` at row `t`, [T]; NaN in the first `lag` rows."""
    array = as_float(values)
    return np.concatenate([np.full(lag, np.nan), array])[: array.size]


def _slices(values: ArrayLike, window: int, smallest: int = 1) -> list[np.ndarray]:
    """Returns the `window` lagged views of `values`, oldest first."""
    array = as_float(values)
    if window != int(window) or window < smallest:
        raise ValueError(f"window must be an integer of at least {smallest}, got {window}")
    padded = np.concatenate([np.full(window - 1, np.nan), array])
    return [padded[start : start + array.size] for start in range(window)]


def _known(
    values: ArrayLike, window: int, min_share: float, smallest: int = 1
) -> tuple[list[np.ndarray], np.ndarray, np.ndarray]:
    """Returns the lagged views, the known values in each window, and which rows have enough."""
    views = _slices(values, window, smallest)
    count = np.zeros(views[0].size)
    for view in views:
        count += ~np.isnan(view)
    enough = count >= max(np.ceil(min_share * window), smallest)
    enough[: window - 1] = False  # not full
    return views, count, enough


def window_sum(values: ArrayLike, window: int, *, min_share: float = 1.0) -> np.ndarray:
    """Returns the sum of the known ones of the last `window` values, [T]."""
    views, _, enough = _known(values, window, min_share)
    total = np.zeros(enough.size)
    for view in views:
        total += np.where(np.isnan(view), 0.0, view)
    return np.where(enough, total, np.nan)


def window_mean(values: ArrayLike, window: int, *, min_share: float = 1.0) -> np.ndarray:
    """Returns the mean of the last `window` values, [T].

    The sum is taken of the differences from the newest value, so that the mean of equal values
    is that value exactly, and small moves on a large level keep their digits.

    Args:
      values: [T] in any unit.
      window: number of rows, at least 1.
      min_share: smallest share of known values, as in this module's docstring.

    Returns:
      [T] means, in the unit of `values`; NaN in the first `window - 1` rows.

    Raises:
      ValueError: if `window` is not a positive integer.
    """
    views, count, enough = _known(values, window, min_share)
    newest = np.full(enough.size, np.nan)
    for view in reversed(views):
        newest = np.where(np.isnan(newest), view, newest)
    total = np.zeros_like(newest)
    for view in views:
        total += np.where(np.isnan(view), 0.0, view - newest)
    return np.where(enough, newest + total / np.maximum(count, 1.0), np.nan)


def window_min(values: ArrayLike, window: int) -> np.ndarray:
    """Returns the smallest of the last `window` values, [T]."""
    lowest, *rest = _slices(values, window)
    for view in rest:
        lowest = np.minimum(lowest, view)
    return lowest.copy()


def window_max(values: ArrayLike, window: int) -> np.ndarray:
    """Returns the largest of the last `window` values, [T]."""
    highest, *rest = _slices(values, window)
    for view in rest:
        highest = np.maximum(highest, view)
    return highest.copy()


def window_sd(
    values: ArrayLike, window: int, *, ddof: int = 1, min_share: float = 1.0
) -> np.ndarray:
    """Returns the standard deviation of the last `window` values, by two passes.

    Args:
      values: [T] in any unit.
      window: number of rows, more than `ddof`.
      ddof: 1 for the sample convention, 0 for the population's.
      min_share: smallest share of known values, as in this module's docstring.

    Returns:
      [T] standard deviations, in the unit of `values`; exactly 0 where all values are equal.

    Raises:
      ValueError: if `window` is not an integer greater than `ddof`.
    """
    views, count, enough = _known(values, window, min_share, ddof + 1)
    mean = window_mean(values, window, min_share=min_share)
    total = np.zeros_like(mean)
    for view in views:
        total += np.where(np.isnan(view), 0.0, (view - mean) * (view - mean))
    return np.where(enough, np.sqrt(total / np.maximum(count - ddof, 1.0)), np.nan)


def _standardised_powers(
    values: ArrayLike, window: int, noise: float, power: int, min_share: float
) -> tuple[np.ndarray, np.ndarray]:
    """Returns the sum over the window of `((x - mean) / sd)**power`; 0 where `sd <= noise`.

    Beside it the number n of known values, NaN where there are too few of them.
    """
    views, count, enough = _known(values, window, min_share, power)
    mean = window_mean(values, window, min_share=min_share)
    sd = window_sd(values, window, min_share=min_share)
    is_flat = sd <= noise
    safe_sd = np.where(is_flat, 1.0, sd)  # NaN stays NaN
    total = np.zeros_like(mean)
    for view in views:
        score = np.where(np.isnan(view), 0.0, (view - mean) / safe_sd)
        square = score * score
        total += square * score if power == 3 else square * square
    return np.where(is_flat, 0.0, total), np.where(enough, count, np.nan)


def window_skewness(
    values: ArrayLike, window: int, *, noise: float = 0.0, min_share: float = 1.0
) -> np.ndarray:
    """Returns the bias-corrected skewness of the last `window` values, as pandas `skew`.

    `G1 = n / ((n - 1) (n - 2)) * sum(((x - mean) / sd)^3)` with the sample `sd`.

    Args:
      values: [T] in any unit.
      window: number of rows n, at least 3.
      noise: windows whose `sd` is not above this count as constant, in the unit of `values`.
      min_share: smallest share of known values, as in this module's docstring.

    Returns:
      [T] skewness, without unit; 0 for a constant window.

    Raises:
      ValueError: if `window` is not an integer of at least 3.

    References:
      Joanes and Gill, Comparing measures of sample skewness and kurtosis, 1998, G1,
      https://doi.org/10.1111/1467-9884.00122.
    """
    cubes, n = _standardised_powers(values, window, noise, 3, min_share)
    return n / ((n - 1) * (n - 2)) * cubes


def window_kurtosis(
    values: ArrayLike, window: int, *, noise: float = 0.0, min_share: float = 1.0
) -> np.ndarray:
    """Returns the bias-corrected excess kurtosis of the last `window` values, as pandas `kurt`.

    Args:
      values: [T] in any unit.
      window: number of rows n, at least 4.
      noise: windows whose `sd` is not above this count as constant, in the unit of `values`.
      min_share: smallest share of known values, as in this module's docstring.

    Returns:
      [T] excess kurtosis, without unit; 0 for a constant window, as for a Gaussian.

    Raises:
      ValueError: if `window` is not an integer of at least 4.

    References:
      Joanes and Gill, 1998, G2, https://doi.org/10.1111/1467-9884.00122.
    """
    fourths, n = _standardised_powers(values, window, noise, 4, min_share)
    scale = n * (n + 1) / ((n - 1) * (n - 2) * (n - 3))
    excess = scale * fourths - 3 * (n - 1) * (n - 1) / ((n - 2) * (n - 3))
    return np.where(fourths == 0.0, 0.0 * n, excess)  # 0 n: NaN where values are missing


def halflife_to_alpha(halflife: float) -> float:
    """Returns the weight of the newest value when weights halve every `halflife` rows."""
    if not halflife > 0:
        raise ValueError(f"halflife must be positive, got {halflife}")
    return float(-np.expm1(-np.log(2.0) / halflife))


def ewma(
    values: np.ndarray, alpha: float, state: EwmaState | None = None
) -> tuple[np.ndarray, EwmaState]:
    """Takes bias-corrected exponentially weighted means of S series at once.

    `sum_j (1 - alpha)^j x_{t-j} / sum_j (1 - alpha)^j` over the values that are there: a NaN has
    no weight, and ages the others all the same (pandas `ewm(adjust=True, ignore_na=False)`).

    Args:
      values: [S, T] series in any unit; the rows that follow those of `state`.
      alpha: weight of the newest value, in (0, 1].
      state: what an earlier call handed back, or None at the start.

    Returns:
      [S, T] means, NaN before the first value of a series; and the state after the last row.
      Cutting the rows into several calls changes no bit.

    Raises:
      ValueError: if `alpha` is not in (0, 1].
    """
    if not 0.0 < alpha <= 1.0:
        raise ValueError(f"alpha must be in (0, 1], got {alpha}")
    is_there = ~np.isnan(values)
    stacked = np.stack([np.where(is_there, values, 0.0), is_there.astype(np.float64)])
    memory = np.zeros((*stacked.shape[:-1], 1)) if state is None else state.memory
    sums, memory = signal.lfilter([alpha], [1.0, alpha - 1.0], stacked, zi=memory)
    means = np.full(values.shape, np.nan)
    np.divide(sums[0], sums[1], out=means, where=sums[1] > 0.0)
    return means, EwmaState(memory)
