"""How much of a Sharpe ratio is luck: its interval, and the best of many worthless rules.

Sharpe ratios here are PER BAR unless a name says annual; kurtosis is not in excess.
"""

import math
from typing import NamedTuple

import numpy as np
from scipy import stats

from densityjax._typing import ArrayLike


class Interval(NamedTuple):
    """A confidence interval: `low` and `high`, in the unit of the figure it is for."""

    low: float
    high: float


def sharpe_interval(
    returns: ArrayLike, *, periods_per_year: float, confidence: float = 0.95
) -> Interval:
    """Returns the asymptotic interval of the annual Sharpe ratio of independent returns.

    The standard error per bar is sqrt((1 - g3 s + (g4 - 1) s^2 / 4) / (T - 1)), with s the Sharpe
    ratio, g3 the skewness and g4 the kurtosis of the returns.

    Args:
      returns: [T] simple returns of the bars, fractions.
      periods_per_year: bars in a year, from the timestamps.
      confidence: probability of covering the true ratio, in (0, 1).

    Returns:
      The `Interval`, annual; NaN where the returns have no spread or are fewer than three.

    Raises:
      ValueError: if `confidence` is outside (0, 1).

    References:
      Mertens, Comments on variance of the IID estimator in Lo (2002), 2002; Bailey and Lopez de
      Prado, The Sharpe Ratio Efficient Frontier, 2012, eq. 5.
    """
    if not 0.0 < confidence < 1.0:
        raise ValueError(f"confidence is {confidence}: accepted is 0 < confidence < 1")
    values = np.asarray(returns, np.float64)
    if values.size < 3 or not np.ptp(values) > 0.0:
        return Interval(math.nan, math.nan)
    sharpe = values.mean() / values.std(ddof=1)
    skew, kurtosis = stats.skew(values), stats.kurtosis(values, fisher=False)
    variance = 1.0 - skew * sharpe + 0.25 * (kurtosis - 1.0) * sharpe**2
    error = math.sqrt(variance / (values.size - 1)) * stats.norm.ppf(0.5 * (1.0 + confidence))
    annual = math.sqrt(periods_per_year)
    return Interval(float((sharpe - error) * annual), float((sharpe + error) * annual))


def expected_max_sharpe(num_trials: int, sharpe_std: float) -> float:
    """Returns what the best of many rules without skill would show.

    sd [(1 - c) Phi^-1(1 - 1 / K) + c Phi^-1(1 - 1 / (K e))], with c = .5772 Euler's constant.

    Args:
      num_trials: rules tried, K >= 1; one rule has no choice to be lucky by.
      sharpe_std: standard deviation of their Sharpe ratios, in any one unit.

    Returns:
      The expected maximum, in the unit of `sharpe_std`.

    Raises:
      ValueError: if `num_trials` is below 1 or `sharpe_std` is negative.

    References:
      Bailey and Lopez de Prado, The Deflated Sharpe Ratio, 2014, eq. 1.
    """
    if num_trials < 1 or sharpe_std < 0:
        raise ValueError(
            f"num_trials is {num_trials} and sharpe_std {sharpe_std}: accepted are >= 1 and >= 0"
        )
    if num_trials == 1:
        return 0.0
    first, second = stats.norm.ppf([1.0 - 1.0 / num_trials, 1.0 - 1.0 / (num_trials * math.e)])
    return float(sharpe_std * ((1.0 - np.euler_gamma) * first + np.euler_gamma * second))
