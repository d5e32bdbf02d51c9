"""What returns of almost every market share, as numbers: does a model's sample share it too?

Tails heavier than normal, more so downwards; hardly any correlation of returns but much, and for
long, of their sizes; larger moves after falls than after rises.
"""

from typing import NamedTuple

import numpy as np
from scipy import stats

from densityjax._typing import ArrayLike
from densityjax.evaluation.tail_coverage import hill_index

TAIL_SHARE = 0.05  # of the returns, used for the tail exponents
MIN_RETURNS = 200  # ten in each tail


class StylisedFacts(NamedTuple):
    """Facts about one series of returns.

    Attributes:
      std: standard deviation of one return, as a fraction.
      skewness: third standardised moment.
      excess_kurtosis: fourth standardised moment less 3.
      lower_tail_exponent: Hill's alpha of losses beyond the 5 % quantile.
      upper_tail_exponent: the same of gains.
      autocorrelation_1: of returns, over one bar.
      size_autocorrelation_1: of absolute returns, over one bar.
      size_autocorrelation_10: of absolute returns, over ten bars.
      leverage: correlation of a return with the size of the next one; negative where falls are
        followed by larger moves.
    """

    std: float
    skewness: float
    excess_kurtosis: float
    lower_tail_exponent: float
    upper_tail_exponent: float
    autocorrelation_1: float
    size_autocorrelation_1: float
    size_autocorrelation_10: float
    leverage: float


def stylised_facts(returns: ArrayLike) -> StylisedFacts:
    """Measures the facts of a series.

    Args:
      returns: [T] log returns, oldest first, as fractions; T at least 200.

    Returns:
      The `StylisedFacts`.

    Raises:
      ValueError: if there are too few returns, one is not finite, or they are constant.

    References:
      Cont, Empirical Properties of Asset Returns: Stylized Facts and Statistical Issues, 2001.
    """
    values = np.asarray(returns, float)
    if values.ndim != 1 or values.size < MIN_RETURNS or not np.all(np.isfinite(values)):
        raise ValueError(
            f"returns must be [T], finite, with T >= {MIN_RETURNS}, got shape {values.shape}"
        )
    if np.ptp(values) == 0.0:
        raise ValueError(f"returns must vary, all are {values[0]}")
    centred, size, used = values - values.mean(), np.abs(values), int(TAIL_SHARE * values.size)

    def correlation(first: np.ndarray, second: np.ndarray) -> float:
        return float(np.corrcoef(first, second)[0, 1])

    return StylisedFacts(
        std=float(values.std(ddof=1)),
        skewness=float(stats.skew(values)),
        excess_kurtosis=float(stats.kurtosis(values)),
        lower_tail_exponent=hill_index(-centred, num_used=used).alpha,
        upper_tail_exponent=hill_index(centred, num_used=used).alpha,
        autocorrelation_1=correlation(values[1:], values[:-1]),
        size_autocorrelation_1=correlation(size[1:], size[:-1]),
        size_autocorrelation_10=correlation(size[10:], size[:-10]),
        leverage=correlation(size[1:], values[:-1]),
    )
