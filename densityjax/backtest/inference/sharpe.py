"""One rule's Sharpe ratio: its interval, how probable a true ratio above another one is, how long.

Sharpe ratios here are PER BAR unless a name says annual; kurtosis is not in excess. Notation: s the
ratio, g3 the skewness, g4 the kurtosis, rho the first autocorrelation of the returns, and T V / T
the variance of the estimate with `V(s) = a - b g3 s + c (g4 - 1) s^2 / 4`, where a = b = c = 1 for
independent returns.
"""

import math
from typing import Literal, NamedTuple

import numpy as np
from scipy import stats

from densityjax import numerics
from densityjax._typing import ArrayLike
from densityjax.backtest import _returns

VarianceAt = Literal["estimate", "null"]


class Interval(NamedTuple):
    """A confidence interval: `low` and `high`, in the unit of the figure it is for."""

    low: float
    high: float


class SharpeMoments(NamedTuple):
    """What inference on a Sharpe ratio needs to know of the returns.

    Attributes:
      sharpe_ratio: mean over standard deviation, PER BAR.
      num_bars: number of returns T.
      skewness: third standardised moment.
      kurtosis: fourth standardised moment, 3 for a normal law.
      autocorrelation: of neighbouring returns, taken to be AR(1); 0 where independent.
    """

    sharpe_ratio: float
    num_bars: int
    skewness: float = 0.0
    kurtosis: float = 3.0
    autocorrelation: float = 0.0


def sharpe_moments(returns: ArrayLike, *, autocorrelation: float | None = 0.0) -> SharpeMoments:
    """Measures the moments of returns.

    Args:
      returns: [T] simple returns of the bars, fractions.
      autocorrelation: first autocorrelation, in (-1, 1); None estimates it.

    Returns:
      The `SharpeMoments`, NaN (the autocorrelation 0) where the returns have no spread or are fewer
      than three.
    """
    values = _returns.read_returns(returns)
    flat = SharpeMoments(math.nan, values.size, math.nan, math.nan, 0.0)
    if values.size < 3:
        return flat
    spread = values.std(ddof=1)
    if spread <= numerics.FLAT_SPREAD * np.abs(values).max():
        return flat
    centred = values - values.mean()
    square = centred @ centred
    rho = float(centred[1:] @ centred[:-1] / square)
    z = centred / np.sqrt(square / values.size)
    return SharpeMoments(
        sharpe_ratio=float(values.mean() / spread),
        num_bars=values.size,
        skewness=float(np.mean(z**3)),
        kurtosis=float(np.mean(z**4)),
        autocorrelation=rho if autocorrelation is None else autocorrelation,
    )


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
    _check_confidence(confidence)
    moments = sharpe_moments(returns)
    variance = _variance(moments, moments.sharpe_ratio)
    if math.isnan(variance):
        return Interval(math.nan, math.nan)
    error = math.sqrt(variance / (moments.num_bars - 1)) * stats.norm.ppf(0.5 + 0.5 * confidence)
    annual = math.sqrt(periods_per_year)
    low, high = moments.sharpe_ratio - error, moments.sharpe_ratio + error
    return Interval(float(low * annual), float(high * annual))


def probabilistic_sharpe_ratio(
    returns: ArrayLike | SharpeMoments,
    *,
    benchmark_sharpe: float = 0.0,
    variance_at: VarianceAt = "estimate",
    autocorrelation: float | None = 0.0,
) -> float:
    """Returns the probability that the true Sharpe ratio is above a benchmark's.

    'estimate' is `Phi[(s - s*) sqrt(T - 1) / sqrt(V(s))]`, as published first; 'null' takes the
    variance under the hypothesis it tests, `Phi[(s - s*) sqrt(T) / sqrt(V(s*))]`. Correlated
    returns have a = 1 + 2 rho / (1 - rho), b = 1 + rho / (1 - rho) + rho^2 / (1 - rho^2) and
    c = 1 + 2 rho^2 / (1 - rho^2).

    Args:
      returns: [T] simple returns of the bars, fractions, or their `SharpeMoments`.
      benchmark_sharpe: s*, PER BAR.
      variance_at: 'estimate' or 'null'.
      autocorrelation: first autocorrelation of the returns; None estimates it. That of given
        `SharpeMoments` is used as it is.

    Returns:
      The probability; one minus it is the p-value of `s <= s*`. NaN where the ratio is.

    Raises:
      ValueError: if `variance_at` is unknown.

    References:
      Bailey and Lopez de Prado, The Sharpe Ratio Efficient Frontier, 2012, eq. 9; Lopez de Prado,
      Lipton and Zoonek, How to Use the Sharpe Ratio, 2025.
    """
    moments = _as_moments(returns, autocorrelation)
    excess = moments.sharpe_ratio - benchmark_sharpe
    if _is_at_null(variance_at):
        variance, num_free = _variance(moments, benchmark_sharpe), moments.num_bars
    else:
        variance, num_free = _variance(moments, moments.sharpe_ratio), moments.num_bars - 1
    return float(stats.norm.cdf(excess * math.sqrt(num_free / variance)))


def minimum_track_record_length(
    returns: ArrayLike | SharpeMoments,
    *,
    benchmark_sharpe: float = 0.0,
    confidence: float = 0.95,
    variance_at: VarianceAt = "estimate",
    autocorrelation: float | None = 0.0,
) -> float:
    """Returns how many bars it takes until the Sharpe ratio is above a benchmark's with confidence.

    `1 + V(s) (z / (s - s*))^2` at the estimate, `V(s*) (z / (s - s*))^2` under the null, with z the
    normal quantile of the confidence.

    Args:
      returns: [T] simple returns of the bars, fractions, or their `SharpeMoments`.
      benchmark_sharpe: s*, PER BAR.
      confidence: wanted probabilistic Sharpe ratio, in (0, 1).
      variance_at: 'estimate' or 'null'.
      autocorrelation: first autocorrelation of the returns; None estimates it.

    Returns:
      Number of bars, not rounded; infinite where the ratio is not above the benchmark's, NaN where
      it is NaN.

    Raises:
      ValueError: if `confidence` is outside (0, 1) or `variance_at` is unknown.

    References:
      Bailey and Lopez de Prado, The Sharpe Ratio Efficient Frontier, 2012, eq. 11.
    """
    _check_confidence(confidence)
    moments, at_null = _as_moments(returns, autocorrelation), _is_at_null(variance_at)
    excess = moments.sharpe_ratio - benchmark_sharpe
    if excess <= 0.0:
        return math.inf
    variance = _variance(moments, benchmark_sharpe if at_null else moments.sharpe_ratio)
    bars = variance * (stats.norm.ppf(confidence) / excess) ** 2
    return float(bars if at_null else 1.0 + bars)


def _variance(moments: SharpeMoments, sharpe: float) -> float:
    """Returns T times the variance of the estimated ratio, were the true one `sharpe`."""
    rho = moments.autocorrelation
    if not -1.0 < rho < 1.0:
        raise ValueError(f"autocorrelation is {rho}; accepted is -1 < autocorrelation < 1")
    linear, square = rho / (1.0 - rho), rho**2 / (1.0 - rho**2)
    a, b, c = 1.0 + 2.0 * linear, 1.0 + linear + square, 1.0 + 2.0 * square
    return a - b * moments.skewness * sharpe + 0.25 * c * (moments.kurtosis - 1.0) * sharpe**2


def _as_moments(returns: ArrayLike | SharpeMoments, autocorrelation: float | None) -> SharpeMoments:
    """Returns given moments as they are, and measures returns."""
    if isinstance(returns, SharpeMoments):
        return returns
    return sharpe_moments(returns, autocorrelation=autocorrelation)


def _is_at_null(variance_at: VarianceAt) -> bool:
    """Says which variance was asked for."""
    if variance_at not in ("estimate", "null"):
        raise ValueError(f"variance_at is {variance_at!r}; accepted are 'estimate' and 'null'")
    return variance_at == "null"


def _check_confidence(confidence: float) -> None:
    """Raises a ValueError unless the confidence is inside (0, 1)."""
    if not 0.0 < confidence < 1.0:
        raise ValueError(f"confidence is {confidence}: accepted is 0 < confidence < 1")
