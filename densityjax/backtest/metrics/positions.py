"""Figures of weights and of what trading them costs, and means of a model's own columns.

A weight is a position over equity, signed. Turnover counts both sides of a trade.
"""

import numpy as np

from densityjax import numerics
from densityjax._typing import ArrayLike, NumpyArray
from densityjax.backtest import _returns
from densityjax.backtest.trade_metrics import win_rate


def hit_rate(returns: ArrayLike, weights: ArrayLike) -> float:
    """Returns the share of bars with a gain among those with a position.

    Args:
      returns: [T] net simple returns of the bars, fractions.
      weights: [T] weight that earned each bar (`BacktestResult.held`), in equity.

    Returns:
      The share; NaN where there never was a position.
    """
    return win_rate(_returns.read_returns(returns)[_weights(weights) != 0.0])


def turnover(weights: ArrayLike) -> float:
    """Returns the mean of `|w_t - w_{t-1}|` over [T] weights, from flat; both sides count."""
    return _returns.mean(np.abs(np.diff(_weights(weights), prepend=0.0)))


def exposure(weights: ArrayLike) -> float:
    """Returns the time in market: the share of [T] weights that is not zero; NaN without bars."""
    return _returns.mean(_weights(weights) != 0.0)


def gross_exposure(weights: ArrayLike) -> float:
    """Returns the mean absolute weight, of [T] weights in equity; NaN without bars."""
    return _returns.mean(np.abs(_weights(weights)))


def net_exposure(weights: ArrayLike) -> float:
    """Returns the mean signed weight, of [T] weights in equity; NaN without bars."""
    return _returns.mean(_weights(weights))


def break_even_cost_bps(gross_returns: ArrayLike, turnover: ArrayLike) -> float:
    """Returns the cost at which the sum of net returns is zero: `sum gross / sum turnover`.

    Args:
      gross_returns: [T] simple returns before trading costs, fractions of equity.
      turnover: [T] traded notional of each bar, both sides, fraction of equity.

    Returns:
      The cost in basis points of the traded notional, negative for a rule that loses for free; NaN
      where nothing was traded.
    """
    gross = _returns.read_returns(gross_returns, name="gross_returns").sum()
    traded = _returns.read_returns(turnover, name="turnover").sum()
    return float(gross / traded / numerics.BASIS_POINT) if traded > 0.0 else np.nan


def capacity(
    turnover: ArrayLike,
    volatility: ArrayLike,
    traded_value: ArrayLike,
    *,
    impact_bps: float,
    impact_coefficient: float = 1.0,
) -> float:
    """Returns the equity at which the mean price impact of the trades reaches `impact_bps`.

    An order of notional q in a bar of volatility v in which V is traded moves the price by
    `Y v sqrt(q / V)`; with q = equity turnover_t the mean over the traded notional grows as the
    root of equity. With `impact_bps` the break-even cost less fees and spread, it is the equity
    that has no edge left.

    Args:
      turnover: [T] traded notional of each bar, both sides, fraction of equity.
      volatility: [T] standard deviation of each bar's return, fractions.
      traded_value: [T] value traded by all in each bar, in money; positive where there is turnover.
      impact_bps: mean impact to reach, basis points of the traded notional, positive.
      impact_coefficient: Y, about 1 in the square-root law.

    Returns:
      The equity, in the money of `traded_value`; infinite where nothing was traded.

    Raises:
      ValueError: if lengths differ, or a trade fell on a bar in which nothing is traded.

    References:
      Almgren, Thum, Hauptmann and Li, Direct Estimation of Equity Market Impact, 2005; Toth et al.,
      Anomalous Price Impact, 2011, https://doi.org/10.1103/PhysRevX.1.021006.
    """
    traded = np.abs(_returns.read_returns(turnover, name="turnover"))
    spread = _returns.read_returns(volatility, name="volatility")
    value = _returns.read_returns(traded_value, name="traded_value")
    if not traded.shape == spread.shape == value.shape:
        raise ValueError(
            f"turnover, volatility and traded_value have lengths {traded.size}, {spread.size} and "
            f"{value.size}; accepted is one length"
        )
    is_traded = traded > 0.0
    if (value[is_traded] <= 0.0).any():
        raise ValueError("traded_value is zero in a bar with turnover; accepted are values > 0")
    traded, spread, value = traded[is_traded], spread[is_traded], value[is_traded]
    per_root = impact_coefficient * np.sum(traded * spread * np.sqrt(traded / value))
    if not per_root > 0.0:
        return np.inf
    return float((impact_bps * numerics.BASIS_POINT * traded.sum() / per_root) ** 2)


def in_distribution_ratio(in_distribution: ArrayLike) -> float:
    """Returns the share of [T] bars whose state passed the density gate (True); NaN without."""
    return _returns.mean(_returns.read_returns(in_distribution, name="in_distribution"))


def average_log_prob(log_prob: ArrayLike) -> float:
    """Returns the mean log density, in nats, of [T] bars; NaN without bars."""
    return _returns.mean(_returns.read_returns(log_prob, name="log_prob"))


def average_confidence(confidence: ArrayLike) -> float:
    """Returns the mean confidence, between 0 and 1, of [T] signals; NaN without bars."""
    return _returns.mean(_returns.read_returns(confidence, name="confidence"))


def _weights(weights: ArrayLike) -> NumpyArray:
    """Reads weights as a vector of finite numbers."""
    return _returns.read_returns(weights, name="weights")
