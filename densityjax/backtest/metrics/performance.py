"""Growth of a path of simple returns, and its ratios to risk.

r_t is the net simple return of bar t; `periods_per_year` comes from the timestamps of the bars,
never from a constant. Ratios whose denominator is zero are NaN or, where it says so, infinite.
"""

import numpy as np
import pandas as pd

from densityjax import numerics
from densityjax._typing import ArrayLike
from densityjax.backtest import _returns
from densityjax.backtest._returns import NanPolicy
from densityjax.backtest.metrics.drawdown import equity_curve, max_drawdown


def total_return(returns: ArrayLike, *, nan_policy: NanPolicy = "raise") -> float:
    """Returns `E_T / E_0 - 1`, a fraction, of [T] simple returns."""
    return float(equity_curve(returns, nan_policy=nan_policy)[-1] - 1.0)


def annual_return(
    returns: ArrayLike, *, periods_per_year: float, nan_policy: NanPolicy = "raise"
) -> float:
    """Returns the compound annual growth rate `(E_T / E_0)^(periods_per_year / T) - 1`.

    Args:
      returns: [T] net simple returns, fractions.
      periods_per_year: bars in a year, from the timestamps.
      nan_policy: 'raise', 'omit' (T counts the bars left) or 'zero' (T counts all).

    Returns:
      Growth per year, a fraction; -1 after ruin, NaN without bars.
    """
    equity = equity_curve(returns, nan_policy=nan_policy)
    if equity.size < 2:
        return np.nan
    return float(equity[-1] ** (periods_per_year / (equity.size - 1)) - 1.0)


def annual_volatility(
    returns: ArrayLike, *, periods_per_year: float, nan_policy: NanPolicy = "raise"
) -> float:
    """Returns the standard deviation (ddof 1) per square root of a year; NaN for under 2 bars.

    Args:
      returns: [T] net simple returns, fractions.
      periods_per_year: bars in a year, from the timestamps.
      nan_policy: 'raise', 'omit' or 'zero'.

    Returns:
      Annual volatility, a fraction.
    """
    values = _returns.read_returns(returns, nan_policy)
    return float(np.std(values, ddof=1) * periods_per_year**0.5) if values.size > 1 else np.nan


def sharpe_ratio(
    returns: ArrayLike,
    *,
    periods_per_year: float = 1.0,
    risk_free_rate: float = 0.0,
    nan_policy: NanPolicy = "raise",
) -> float:
    """Returns the annual Sharpe ratio, mean over standard deviation (ddof 1) of excess returns.

    Args:
      returns: [T] net simple returns, fractions.
      periods_per_year: bars in a year; 1 gives the ratio per bar.
      risk_free_rate: risk-free return per year, a fraction, compounded down to one bar.
      nan_policy: 'raise', 'omit' or 'zero'.

    Returns:
      The ratio; NaN for under 2 bars, and where the returns have no spread.

    References:
      Sharpe, The Sharpe Ratio, 1994, https://doi.org/10.3905/jpm.1994.409501.
    """
    excess = _returns.read_returns(returns, nan_policy)
    excess = excess - _returns.per_bar(risk_free_rate, periods_per_year)
    if excess.size < 2:
        return np.nan
    spread = np.std(excess, ddof=1)
    if spread <= numerics.FLAT_SPREAD * np.abs(excess).max():
        return np.nan
    return float(np.mean(excess) / spread * periods_per_year**0.5)


def autocorrelation_adjusted_sharpe_ratio(
    returns: ArrayLike,
    *,
    periods_per_year: float,
    num_lags: int | None = None,
    nan_policy: NanPolicy = "raise",
) -> float:
    """Returns the annual Sharpe ratio that correlated returns deserve; the root of q is for none.

    It is `eta SR` with `eta = q / sqrt(q + 2 sum_{k=1}^{q-1} (q - k) rho_k)`, q bars a year and
    rho_k the autocorrelations, those beyond `num_lags` taken for zero. Positive ones lower it.

    Args:
      returns: [T] net simple returns, fractions.
      periods_per_year: bars in a year, q; below 2 there is nothing to adjust.
      num_lags: autocorrelations used; None takes `floor(4 (T / 100)^(2/9))`.
      nan_policy: 'raise', 'omit' or 'zero'.

    Returns:
      The ratio; NaN where the plain one is, and where the correlations sum below a variance.

    Raises:
      ValueError: if `num_lags` is negative.

    References:
      Lo, The Statistics of Sharpe Ratios, 2002, eq. 20, https://doi.org/10.2469/faj.v58.n4.2453.
    """
    values = _returns.read_returns(returns, nan_policy)
    plain = sharpe_ratio(values)
    if np.isnan(plain):
        return np.nan
    if num_lags is not None and num_lags < 0:
        raise ValueError(f"num_lags is {num_lags}; accepted are integers >= 0")
    automatic = int(4.0 * (values.size / 100.0) ** (2.0 / 9.0))
    last = min(automatic if num_lags is None else num_lags, values.size - 1)
    lags = np.arange(1, min(last, int(np.ceil(periods_per_year)) - 1) + 1)
    centred = values - values.mean()
    products = np.array([centred[lag:] @ centred[:-lag] for lag in lags])
    rho = products / (centred @ centred)
    variance = periods_per_year + 2.0 * np.sum((periods_per_year - lags) * rho)
    return float(plain * periods_per_year / variance**0.5) if variance > 0.0 else np.nan


def downside_deviation(
    returns: ArrayLike,
    *,
    periods_per_year: float = 1.0,
    minimum_acceptable_return: float = 0.0,
    nan_policy: NanPolicy = "raise",
) -> float:
    """Returns `sqrt(mean(min(r - m, 0)^2))` over ALL bars, per square root of a year.

    Args:
      returns: [T] net simple returns, fractions.
      periods_per_year: bars in a year; 1 gives the deviation per bar.
      minimum_acceptable_return: the target m per year, a fraction, compounded down to one bar.
      nan_policy: 'raise', 'omit' or 'zero'.

    Returns:
      The deviation, a fraction; NaN without bars.
    """
    excess = _returns.read_returns(returns, nan_policy)
    excess = excess - _returns.per_bar(minimum_acceptable_return, periods_per_year)
    if excess.size == 0:
        return np.nan
    return float(np.sqrt(np.mean(np.minimum(excess, 0.0) ** 2) * periods_per_year))


def sortino_ratio(
    returns: ArrayLike,
    *,
    periods_per_year: float = 1.0,
    minimum_acceptable_return: float = 0.0,
    nan_policy: NanPolicy = "raise",
) -> float:
    """Returns the annual mean excess return over the downside deviation.

    Args:
      returns: [T] net simple returns, fractions.
      periods_per_year: bars in a year; 1 gives the ratio per bar.
      minimum_acceptable_return: target per year, a fraction, compounded down to one bar.
      nan_policy: 'raise', 'omit' or 'zero'.

    Returns:
      The ratio; without a bar below the target +inf for a positive mean excess, NaN otherwise.

    References:
      Sortino and Price, Performance Measurement in a Downside Risk Framework, 1994,
      https://doi.org/10.3905/joi.3.3.59.
    """
    excess = _returns.read_returns(returns, nan_policy)
    excess = excess - _returns.per_bar(minimum_acceptable_return, periods_per_year)
    if excess.size == 0:
        return np.nan
    downside = float(np.sqrt(np.mean(np.minimum(excess, 0.0) ** 2)))
    ratio = _returns.ratio(float(np.mean(excess)), downside, no_loss=np.inf)
    return ratio * periods_per_year**0.5


def calmar_ratio(
    returns: ArrayLike, *, periods_per_year: float, nan_policy: NanPolicy = "raise"
) -> float:
    """Returns `annual_return / max_drawdown`; NaN where equity was never below its peak.

    Args:
      returns: [T] net simple returns, fractions.
      periods_per_year: bars in a year, from the timestamps.
      nan_policy: 'raise', 'omit' or 'zero'.

    Returns:
      The ratio, per year.
    """
    values = _returns.read_returns(returns, nan_policy)
    growth = annual_return(values, periods_per_year=periods_per_year)
    depth = max_drawdown(values)
    return growth / depth if depth > 0.0 else np.nan


def omega_ratio(
    returns: ArrayLike, *, threshold: float = 0.0, nan_policy: NanPolicy = "raise"
) -> float:
    """Returns `sum max(r - threshold, 0) / sum max(threshold - r, 0)`; NaN where nothing is below.

    Args:
      returns: [T] net simple returns, fractions.
      threshold: return per bar that divides gains from losses, a fraction.
      nan_policy: 'raise', 'omit' or 'zero'.

    Returns:
      The ratio.

    References:
      Keating and Shadwick, A Universal Performance Measure, 2002.
    """
    excess = _returns.read_returns(returns, nan_policy) - threshold
    return _returns.ratio(np.maximum(excess, 0.0).sum(), np.maximum(-excess, 0.0).sum())


def daily_returns(returns: ArrayLike, index: pd.DatetimeIndex) -> pd.Series:
    """Compounds the returns of bars within UTC days.

    A Sharpe ratio per bar depends on the sampling where returns are correlated; that of days is
    the one to compare across bar lengths.

    Args:
      returns: [T] net simple returns, fractions.
      index: [T] opening times of the bars, UTC.

    Returns:
      [days] simple returns, fractions, of the days that have a bar.

    Raises:
      ValueError: if the lengths differ.
    """
    values = _returns.read_returns(returns)
    if len(index) != values.size:
        raise ValueError(f"index has {len(index)} rows; accepted are {values.size}, as returns")
    days = pd.DatetimeIndex(index).floor("D")
    return pd.Series(1.0 + values, index=days).groupby(level=0).prod() - 1.0
