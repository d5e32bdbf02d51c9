"""Statistics of a stream's last values, and of a sample.

`RollingStatistics` keeps the last values themselves and takes their moments by two passes when
asked: running sums, however shifted, drift and cancel over a long stream; a short buffer cannot.
"""

from typing import NamedTuple

import numpy as np

from densityjax._typing import ArrayLike
from densityjax.market.rolling import as_float

PERCENTILES = (1, 5, 25, 75, 95, 99)


class RollingStatistics(NamedTuple):
    """The last values of a stream.

    Attributes:
      window: how many values to keep.
      values: those kept, oldest first, at most `window`.
    """

    window: int
    values: tuple[float, ...] = ()


def init(window: int) -> RollingStatistics:
    """Returns statistics of no values yet, over the next `window`.

    Raises:
      ValueError: if `window` is below 2.
    """
    if window < 2:
        raise ValueError(f"window must be at least 2, got {window}")
    return RollingStatistics(int(window))


def push(state: RollingStatistics, value: float) -> RollingStatistics:
    """Returns the statistics with `value` added, and the oldest forgotten where full."""
    kept = state.values[-(state.window - 1) :]
    return state._replace(values=(*kept, float(value)))


def is_full(state: RollingStatistics) -> bool:
    """Returns whether as many values are there as the window holds."""
    return len(state.values) == state.window


def mean(state: RollingStatistics) -> float:
    """Returns the mean of the values kept; NaN without any."""
    if not state.values:
        return float("nan")
    newest = state.values[-1]  # differences from it keep their digits at any level
    return newest + sum(value - newest for value in state.values) / len(state.values)


def sd(state: RollingStatistics, *, ddof: int = 1) -> float:
    """Returns the standard deviation of the values kept; NaN unless there are more than `ddof`."""
    if len(state.values) <= ddof:
        return float("nan")
    centre = mean(state)
    squares = sum((value - centre) * (value - centre) for value in state.values)
    return float(np.sqrt(squares / (len(state.values) - ddof)))


def describe(values: ArrayLike) -> dict[str, float]:
    """Describes a sample.

    Args:
      values: [N] finite numbers in any unit, N at least 4.

    Returns:
      count, mean, sd (ddof 1), min, max, median and percentiles (`p1` .. `p99`, linear
      interpolation) in the unit of `values`; skewness and excess kurtosis, bias-corrected as in
      pandas, without unit.

    Raises:
      ValueError: if there are fewer than 4 values or one is not finite.
    """
    array = as_float(values)
    if array.size < 4 or not np.isfinite(array).all():
        raise ValueError(f"values must be at least 4 finite numbers, got {array}")
    found = {
        "count": float(array.size),
        "mean": float(array.mean()),
        "sd": float(array.std(ddof=1)),
        "min": float(array.min()),
        "median": float(np.median(array)),
        "max": float(array.max()),
    }
    found |= {f"p{q}": float(np.percentile(array, q)) for q in PERCENTILES}
    n, scores = array.size, np.zeros_like(array)
    if found["max"] > found["min"]:
        scores = (array - array.mean()) / found["sd"]
    skewness = n / ((n - 1) * (n - 2)) * float(np.sum(scores**3))
    fourths = n * (n + 1) / ((n - 1) * (n - 2) * (n - 3)) * float(np.sum(scores**4))
    excess = fourths - 3 * (n - 1) ** 2 / ((n - 2) * (n - 3)) if scores.any() else 0.0
    return found | {"skewness": skewness, "excess_kurtosis": excess}
