"""Realised tails of returns: value at risk, expected shortfall, tail ratio.

Losses are positive; `confidence` = .99 looks at the worst hundredth of the bars. These describe a
path that was; forecasts of the next bar's tail are scored in `densityjax.risk`.
"""

import math
import warnings
from typing import Literal

import numpy as np

from densityjax import numerics
from densityjax._typing import ArrayLike, NumpyArray
from densityjax.backtest import _returns
from densityjax.backtest._returns import NanPolicy


def value_at_risk(
    returns: ArrayLike,
    *,
    confidence: float = 0.95,
    method: Literal["linear", "inverted_cdf"] = "linear",
    nan_policy: NanPolicy = "raise",
) -> float:
    """Returns the loss that is exceeded in a share `1 - confidence` of the bars.

    Args:
      returns: [T] net simple returns, fractions.
      confidence: share of bars with a smaller loss, in (0, 1).
      method: 'linear' interpolates between two returns, 'inverted_cdf' takes one that was.
      nan_policy: 'raise', 'omit' or 'zero'.

    Returns:
      Minus the quantile, positive for a loss; NaN without bars. A tail of less than one bar warns.

    Raises:
      ValueError: if `confidence` is outside (0, 1) or the method is unknown.
    """
    values = _returns.read_returns(returns, nan_policy)
    _check_tail(values, confidence)
    if method not in ("linear", "inverted_cdf"):
        raise ValueError(f"method is {method!r}; accepted are 'linear' and 'inverted_cdf'")
    tail = 1.0 - confidence
    return -float(np.quantile(values, tail, method=method)) if values.size else np.nan


def expected_shortfall(
    returns: ArrayLike, *, confidence: float = 0.95, nan_policy: NanPolicy = "raise"
) -> float:
    """Returns the mean loss of the worst `1 - confidence` of the bars, a share of a bar included.

    With returns sorted upwards, a = 1 - confidence and k = ceil(a n), it is
    `-[sum_{i<k} r_(i) + (a n - k + 1) r_(k)] / (a n)`: continuous in a and subadditive, unlike the
    mean of whole observations beyond the VaR.

    Args:
      returns: [T] net simple returns, fractions.
      confidence: one less the share of bars averaged, in (0, 1).
      nan_policy: 'raise', 'omit' or 'zero'.

    Returns:
      The mean loss (CVaR), positive for a loss; NaN without bars.

    Raises:
      ValueError: if `confidence` is outside (0, 1).

    References:
      Rockafellar and Uryasev, Conditional Value-at-Risk for General Loss Distributions, 2002,
      prop. 8, https://doi.org/10.1016/S0378-4266(02)00271-6.
    """
    values = np.sort(_returns.read_returns(returns, nan_policy))
    _check_tail(values, confidence)
    if not values.size:
        return np.nan
    mass = (1.0 - confidence) * values.size
    # 1 - .9 is a rounding below .1: without the margin a whole number of bars could gain one.
    whole = max(math.ceil(mass - numerics.SHARE_ROUNDING * values.size), 1)
    part = mass - whole + 1.0
    return -float((values[: whole - 1].sum() + part * values[whole - 1]) / mass)


def tail_ratio(
    returns: ArrayLike, *, confidence: float = 0.95, nan_policy: NanPolicy = "raise"
) -> float:
    """Returns `|Q(confidence)| / |Q(1 - confidence)|` of the returns.

    Args:
      returns: [T] net simple returns, fractions.
      confidence: probability of the upper quantile, in (.5, 1) for a tail.
      nan_policy: 'raise', 'omit' or 'zero'.

    Returns:
      The ratio, above 1 where gains reach further than losses; NaN without bars and where the lower
      quantile is zero.

    Raises:
      ValueError: if `confidence` is outside (0, 1).
    """
    values = _returns.read_returns(returns, nan_policy)
    _check_tail(values, confidence)
    if not values.size:
        return np.nan
    low, high = np.abs(np.quantile(values, [1.0 - confidence, confidence]))
    return _returns.ratio(float(high), float(low))


def _check_tail(values: NumpyArray, confidence: float) -> None:
    """Refuses a confidence outside (0, 1); warns of a tail that holds less than one bar."""
    if not 0.0 < confidence < 1.0:
        raise ValueError(f"confidence is {confidence}; accepted is 0 < confidence < 1")
    if 0.0 < values.size * (1.0 - confidence) < 1.0 - numerics.SHARE_ROUNDING * values.size:
        warnings.warn(
            f"{values.size} bars hold less than one in the tail beyond {confidence}: the "
            "figure is that of the worst bar",
            stacklevel=3,
        )
