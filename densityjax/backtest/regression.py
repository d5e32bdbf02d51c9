"""What a strategy earns beyond its exposure to a benchmark: alpha, with robust errors.

`r_t = alpha + beta b_t + e_t` by least squares; the covariance of (alpha, beta) is that of Newey
and West, consistent under heteroskedastic and autocorrelated e_t.
"""

from typing import NamedTuple

import numpy as np
from scipy import stats

from densityjax._typing import ArrayLike
from densityjax.backtest import _returns


class Alpha(NamedTuple):
    """Outcome of a regression of returns on a benchmark's.

    Attributes:
      alpha: intercept per year, a fraction (per bar times bars per year, not compounded).
      beta: slope, no unit.
      alpha_t: t statistic of the intercept, HAC.
      beta_t: t statistic of the slope, HAC.
      p_value: two-sided, of alpha = 0, normal approximation.
      low: lower end of the interval of alpha, per year.
      high: upper end.
      r_squared: share of the variance that the benchmark explains.
    """

    alpha: float
    beta: float
    alpha_t: float
    beta_t: float
    p_value: float
    low: float
    high: float
    r_squared: float


def regression_alpha(
    returns: ArrayLike,
    benchmark_returns: ArrayLike,
    *,
    periods_per_year: float,
    lag: int | None = None,
    confidence: float = 0.95,
) -> Alpha:
    """Regresses returns on those of a benchmark over the same bars, at the same costs.

    Args:
      returns: [T] net simple returns of the strategy, fractions.
      benchmark_returns: [T] net simple returns of the benchmark, such as buy and hold.
      periods_per_year: bars in a year, from the timestamps.
      lag: largest lag of the Bartlett kernel, in bars, 0 for errors that are independent (then
        White's covariance); None takes `floor(4 (T / 100)^(2/9))`.
      confidence: probability of the interval of alpha, in (0, 1).

    Returns:
      The `Alpha`; all NaN where the benchmark does not move or T is under 3.

    Raises:
      ValueError: if lengths differ, a return is not finite, or an option is out of range.

    References:
      Newey and West, A Simple Positive Semi-definite Covariance Matrix, 1987.
    """
    y = _returns.read_returns(returns)
    x = _returns.read_returns(benchmark_returns, name="benchmark_returns")
    if x.size != y.size:
        raise ValueError(f"benchmark_returns has {x.size} rows: accepted are {y.size}, as returns")
    if lag is not None and lag < 0:
        raise ValueError(f"lag is {lag}: accepted are integers >= 0")
    if not 0.0 < confidence < 1.0:
        raise ValueError(f"confidence is {confidence}: accepted is 0 < confidence < 1")
    if y.size < 3 or not np.ptp(x) > 0.0:
        return Alpha(*[np.nan] * len(Alpha._fields))
    lag = int(4.0 * (y.size / 100.0) ** (2.0 / 9.0)) if lag is None else lag
    design = np.column_stack([np.ones_like(x), x])
    inverse = np.linalg.inv(design.T @ design)
    coefficients = inverse @ design.T @ y
    residual = y - design @ coefficients
    moments = design * residual[:, None]
    spread = moments.T @ moments
    for step in range(1, min(lag, y.size - 1) + 1):
        cross = moments[step:].T @ moments[:-step]
        spread += (1.0 - step / (lag + 1.0)) * (cross + cross.T)
    errors = np.sqrt(np.diag(inverse @ spread @ inverse))
    with np.errstate(divide="ignore", invalid="ignore"):
        alpha_t, beta_t = coefficients / errors
    reach = stats.norm.ppf(0.5 + 0.5 * confidence) * errors[0]
    total = np.sum((y - y.mean()) ** 2)
    return Alpha(
        alpha=float(coefficients[0] * periods_per_year),
        beta=float(coefficients[1]),
        alpha_t=float(alpha_t),
        beta_t=float(beta_t),
        p_value=float(2.0 * stats.norm.sf(abs(alpha_t))),
        low=float((coefficients[0] - reach) * periods_per_year),
        high=float((coefficients[0] + reach) * periods_per_year),
        r_squared=float(1.0 - residual @ residual / total) if total > 0.0 else np.nan,
    )
