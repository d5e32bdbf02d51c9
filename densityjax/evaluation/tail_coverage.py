"""Whether the tails of a forecast are as heavy as those of what came, in float64 on the host."""

from typing import NamedTuple

import numpy as np
from scipy import stats

from densityjax._typing import ArrayLike, NumpyArray

TAIL_PROBABILITIES = (0.001, 0.01, 0.99, 0.999)  # 1 in 1,000 and in 100, on both sides


class TailCoverage(NamedTuple):
    """How often returns fell below K forecast quantiles.

    Attributes:
      probability: [K] of the quantiles.
      count: [K] returns below them.
      rate: [K] the same as a share of all.
      lower: [K] lower end of the pointwise binomial interval of the rate under calibration.
      upper: [K] upper end of that interval.
    """

    probability: NumpyArray
    count: NumpyArray
    rate: NumpyArray
    lower: NumpyArray
    upper: NumpyArray

    @property
    def is_inside(self) -> NumpyArray:
        """Whether each rate lies in its interval, [K]."""
        return (self.rate >= self.lower) & (self.rate <= self.upper)


class TailIndex(NamedTuple):
    """Hill's estimate of how fast a tail falls, `P(X > x) ~ x^-alpha`.

    Attributes:
      alpha: the tail exponent; moments of higher order than it do not exist.
      standard_error: of alpha, `alpha / sqrt(k)`, for independent values.
      threshold: the order statistic beyond which values were used, in their unit.
      num_used: number k of values beyond it.
    """

    alpha: float
    standard_error: float
    threshold: float
    num_used: int


def tail_coverage(
    pit: ArrayLike,
    *,
    probabilities: tuple[float, ...] = TAIL_PROBABILITIES,
    confidence: float = 0.95,
) -> TailCoverage:
    """Counts how often returns fell below forecast quantiles far out.

    Args:
      pit: [N] probability integral transforms of the realised returns, in [0, 1].
      probabilities: of the quantiles, each in (0, 1).
      confidence: of the pointwise interval of the rate under a right forecast.

    Returns:
      The `TailCoverage`.

    Raises:
      ValueError: if `pit` is empty or leaves [0, 1], or a probability is outside (0, 1).
    """
    values = np.asarray(pit, float)
    if values.ndim != 1 or not values.size or not np.all((values >= 0.0) & (values <= 1.0)):
        raise ValueError(f"pit must be [N] in [0, 1] with N >= 1, got shape {values.shape}")
    levels = np.asarray(probabilities, float)
    if np.any((levels <= 0.0) | (levels >= 1.0)):
        raise ValueError(f"probabilities must be in (0, 1), got {probabilities}")
    count = np.array([np.sum(values < level) for level in levels])
    lower, upper = stats.binom.interval(confidence, values.size, levels)
    return TailCoverage(
        levels, count, count / values.size, lower / values.size, upper / values.size
    )


def hill_index(values: ArrayLike, *, num_used: int) -> TailIndex:
    """Estimates the exponent of the upper tail from the largest values.

    `1 / alpha = mean of ln(X_(i) / X_(k + 1))` over the k largest. For the lower tail hand in the
    negated values. The estimate depends on k: show it for several.

    Args:
      values: [N] in any unit; the k + 1 largest must be positive.
      num_used: number k of largest values, at least 2 and below N.

    Returns:
      A `TailIndex`.

    Raises:
      ValueError: if `num_used` is out of range or a value that is used is not positive.

    References:
      Hill, A Simple General Approach to Inference About the Tail of a Distribution, 1975.
    """
    ordered = np.sort(np.asarray(values, float).ravel())[::-1]
    if not 2 <= num_used < ordered.size:
        raise ValueError(f"num_used must be in [2, {ordered.size - 1}], got {num_used}")
    threshold = float(ordered[num_used])
    if not threshold > 0.0 or not np.isfinite(ordered[0]):
        raise ValueError(f"values beyond the threshold must be positive, got {threshold}")
    mean_log = float(np.mean(np.log(ordered[:num_used] / threshold)))
    alpha = 1.0 / mean_log if mean_log > 0.0 else np.inf
    return TailIndex(alpha, alpha / np.sqrt(num_used), threshold, num_used)
