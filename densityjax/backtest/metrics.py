"""Performance figures of a path of simple returns; float64 NumPy on the host.

Notation: r_t is the net simple return of bar (or trade) t, a fraction; equity is E_t =
E_{t-1} (1 + r_t) from E_0 = 1, and stays at 0 once it is there. `periods_per_year` comes from the
timestamps of the bars, never from a constant. A figure that is not defined (no bars, no spread, no
loss) is NaN, or infinite where it says so; a NaN among the returns raises.
"""

import numpy as np

from densityjax import numerics
from densityjax._typing import ArrayLike, NumpyArray


def equity_curve(returns: ArrayLike) -> NumpyArray:
    """Compounds returns from 1; ruin is absorbing.

    Args:
      returns: [T] net simple returns, fractions.

    Returns:
      [T + 1] equity in units of the start, the start included.
    """
    factors = 1.0 + _finite(returns)
    solvent = np.logical_and.accumulate(factors > 0.0)
    return np.concatenate([[1.0], np.cumprod(np.where(solvent, factors, 0.0))])


def drawdowns(returns: ArrayLike) -> NumpyArray:
    """Returns `1 - E_t / max_{s<=t} E_s`, [T + 1] fractions, the start included."""
    equity = equity_curve(returns)
    return 1.0 - equity / np.maximum.accumulate(equity)


def total_return(returns: ArrayLike) -> float:
    """Returns `E_T / E_0 - 1`, a fraction, of [T] simple returns."""
    return float(equity_curve(returns)[-1] - 1.0)


def annual_return(returns: ArrayLike, *, periods_per_year: float) -> float:
    """Returns the compound annual growth rate `(E_T / E_0)^(periods_per_year / T) - 1`.

    Args:
      returns: [T] net simple returns, fractions.
      periods_per_year: bars in a year, from the timestamps.

    Returns:
      Growth per year, a fraction; -1 after ruin, NaN without bars.
    """
    equity = equity_curve(returns)
    if equity.size < 2:
        return np.nan
    return float(equity[-1] ** (periods_per_year / (equity.size - 1)) - 1.0)


def annual_volatility(returns: ArrayLike, *, periods_per_year: float) -> float:
    """Returns the standard deviation (ddof 1) per square root of a year; NaN for under 2 bars.

    Args:
      returns: [T] net simple returns, fractions.
      periods_per_year: bars in a year, from the timestamps.

    Returns:
      Annual volatility, a fraction.
    """
    returns = _finite(returns)
    return float(np.std(returns, ddof=1) * periods_per_year**0.5) if returns.size > 1 else np.nan


def sharpe_ratio(
    returns: ArrayLike, *, periods_per_year: float = 1.0, risk_free_rate: float = 0.0
) -> float:
    """Returns the annual Sharpe ratio, mean over standard deviation (ddof 1) of excess returns.

    Args:
      returns: [T] net simple returns, fractions.
      periods_per_year: bars in a year; 1 gives the ratio per bar.
      risk_free_rate: risk-free return per year, a fraction, compounded down to one bar.

    Returns:
      The ratio; NaN for under 2 bars, and where the returns have no spread.

    References:
      Sharpe, The Sharpe Ratio, 1994, https://doi.org/10.3905/jpm.1994.409501.
    """
    excess = _finite(returns) - _per_bar(risk_free_rate, periods_per_year)
    if excess.size < 2:
        return np.nan
    spread = np.std(excess, ddof=1)
    if spread <= numerics.FLAT_SPREAD * np.abs(excess).max():
        return np.nan
    return float(np.mean(excess) / spread * periods_per_year**0.5)


def downside_deviation(
    returns: ArrayLike, *, periods_per_year: float = 1.0, minimum_acceptable_return: float = 0.0
) -> float:
    """Returns `sqrt(mean(min(r - m, 0)^2))` over ALL bars, per square root of a year.

    Args:
      returns: [T] net simple returns, fractions.
      periods_per_year: bars in a year; 1 gives the deviation per bar.
      minimum_acceptable_return: the target m per year, a fraction, compounded down to one bar.

    Returns:
      The deviation, a fraction; NaN without bars.
    """
    excess = _finite(returns) - _per_bar(minimum_acceptable_return, periods_per_year)
    if excess.size == 0:
        return np.nan
    return float(np.sqrt(np.mean(np.minimum(excess, 0.0) ** 2) * periods_per_year))


def sortino_ratio(
    returns: ArrayLike, *, periods_per_year: float = 1.0, minimum_acceptable_return: float = 0.0
) -> float:
    """Returns the annual mean excess return over the downside deviation.

    Args:
      returns: [T] net simple returns, fractions.
      periods_per_year: bars in a year; 1 gives the ratio per bar.
      minimum_acceptable_return: target per year, a fraction, compounded down to one bar.

    Returns:
      The ratio; without a bar below the target +inf for a positive mean excess, NaN otherwise.

    References:
      Sortino and Price, Performance Measurement in a Downside Risk Framework, 1994,
      https://doi.org/10.3905/joi.3.3.59.
    """
    target = _per_bar(minimum_acceptable_return, periods_per_year)
    excess = _finite(returns) - target
    if excess.size == 0:
        return np.nan
    downside = float(np.sqrt(np.mean(np.minimum(excess, 0.0) ** 2)))
    return _ratio(float(np.mean(excess)), downside, no_loss=np.inf) * periods_per_year**0.5


def max_drawdown(returns: ArrayLike) -> float:
    """Returns the largest fall from a peak, the start included: a positive fraction, 1 at ruin."""
    return float(drawdowns(returns).max())


def average_drawdown(returns: ArrayLike) -> float:
    """Returns the mean depth of the drawdowns, each from a peak until it is reached again.

    Args:
      returns: [T] net simple returns, fractions.

    Returns:
      Mean of the deepest point of every drawdown, an open one included; 0 where there is none.
    """
    depth = drawdowns(returns)
    edges = np.flatnonzero(np.diff(np.concatenate([[False], depth > 0.0, [False]]).astype(int)))
    deepest = [depth[first:last].max() for first, last in edges.reshape(-1, 2)]
    return float(np.mean(deepest)) if deepest else 0.0


def drawdown_duration(returns: ArrayLike) -> int:
    """Returns the length of the longest drawdown, in bars below the peak; an open one counts."""
    below = np.concatenate([[False], drawdowns(returns) > 0.0, [False]]).astype(int)
    edges = np.flatnonzero(np.diff(below)).reshape(-1, 2)
    return int(np.max(edges[:, 1] - edges[:, 0], initial=0))


def calmar_ratio(returns: ArrayLike, *, periods_per_year: float) -> float:
    """Returns `annual_return / max_drawdown`; NaN where equity was never below its peak.

    Args:
      returns: [T] net simple returns, fractions.
      periods_per_year: bars in a year, from the timestamps.

    Returns:
      The ratio, per year.
    """
    growth = annual_return(returns, periods_per_year=periods_per_year)
    return _ratio(growth, max_drawdown(returns))


def omega_ratio(returns: ArrayLike, *, threshold: float = 0.0) -> float:
    """Returns `sum max(r - threshold, 0) / sum max(threshold - r, 0)`; NaN where nothing is below.

    Args:
      returns: [T] net simple returns, fractions.
      threshold: return per bar that divides gains from losses, a fraction.

    Returns:
      The ratio.

    References:
      Keating and Shadwick, A Universal Performance Measure, 2002.
    """
    excess = _finite(returns) - threshold
    return _ratio(np.maximum(excess, 0.0).sum(), np.maximum(-excess, 0.0).sum())


def profit_factor(returns: ArrayLike) -> float:
    """Returns total gains over total losses, of trades or of bars, whichever is passed.

    Args:
      returns: [n] net returns (or profits) of closed trades, or of bars.

    Returns:
      The ratio; +inf with gains and no loss, NaN where there is neither.
    """
    returns = _finite(returns)
    gains, losses = np.maximum(returns, 0.0).sum(), np.maximum(-returns, 0.0).sum()
    return _ratio(gains, losses, no_loss=np.inf)


def payoff_ratio(returns: ArrayLike) -> float:
    """Returns the mean win over the mean loss, of [n] trades or bars; NaN where one is missing."""
    returns = _finite(returns)
    wins, losses = returns[returns > 0.0], returns[returns < 0.0]
    return float(-wins.mean() / losses.mean()) if wins.size and losses.size else np.nan


def win_rate(returns: ArrayLike) -> float:
    """Returns the share of [n] closed trades with a positive net return; NaN without a trade."""
    returns = _finite(returns)
    return float(np.mean(returns > 0.0)) if returns.size else np.nan


def hit_rate(returns: ArrayLike, weights: ArrayLike) -> float:
    """Returns the share of bars with a gain among those with a position.

    Args:
      returns: [T] net simple returns of the bars, fractions.
      weights: [T] weight that earned each bar (`BacktestResult.held`), in equity.

    Returns:
      The share; NaN where there never was a position.
    """
    return win_rate(_finite(returns)[_finite(weights, "weights") != 0.0])


def turnover(weights: ArrayLike) -> float:
    """Returns the mean of `|w_t - w_{t-1}|` over [T] weights, from flat; both sides count."""
    return _mean(np.abs(np.diff(_finite(weights, "weights"), prepend=0.0)))


def exposure(weights: ArrayLike) -> float:
    """Returns the share of bars with a position, of [T] weights; NaN without bars."""
    return _mean(_finite(weights, "weights") != 0.0)


def in_distribution_ratio(in_distribution: ArrayLike) -> float:
    """Returns the share of [T] bars whose state passed the density gate (True); NaN without."""
    return _mean(_finite(in_distribution, "in_distribution"))


def average_log_prob(log_prob: ArrayLike) -> float:
    """Returns the mean log density, in nats, of [T] bars; NaN without bars."""
    return _mean(_finite(log_prob, "log_prob"))


def average_confidence(confidence: ArrayLike) -> float:
    """Returns the mean confidence, between 0 and 1, of [T] signals; NaN without bars."""
    return _mean(_finite(confidence, "confidence"))


def _finite(values: ArrayLike, name: str = "returns") -> NumpyArray:
    """Returns a float64 vector, or raises a ValueError that names the first bad row."""
    array = np.asarray(values, np.float64)
    if array.ndim != 1:
        raise ValueError(f"{name} has shape {array.shape}; accepted is one dimension, [T]")
    if not np.isfinite(array).all():
        row = int(np.argmin(np.isfinite(array)))
        raise ValueError(f"{name}[{row}] is {array[row]}; accepted are finite numbers")
    return array


def _per_bar(annual_rate: float, periods_per_year: float) -> float:
    """Compounds a rate per year down to one bar."""
    return (1.0 + annual_rate) ** (1.0 / periods_per_year) - 1.0


def _ratio(gain: float, loss: float, *, no_loss: float = np.nan) -> float:
    """Returns `gain / loss`, and `no_loss` where there is a gain and no loss."""
    if loss == 0.0:
        return no_loss if gain > 0.0 else np.nan
    return float(gain / loss)


def _mean(values: NumpyArray) -> float:
    """Returns the mean, NaN of an empty vector."""
    return float(np.mean(values)) if values.size else np.nan
