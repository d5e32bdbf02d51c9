"""Scores of a forecast of one number, and the rivals that know nothing.

A point forecast of a return is judged by its error, by its sign and by its correlation with what
came (the information coefficient, IC), beside a forecast of zero and an AR(1) of past returns.
"""

from typing import NamedTuple

import numpy as np
from scipy import stats

from densityjax._typing import ArrayLike, NumpyArray
from densityjax.risk.baselines import check_returns
from densityjax.risk.scoring import default_lag, long_run_variance

MIN_ROWS = 10


class PointScore(NamedTuple):
    """Scores of a point forecast of N returns.

    Attributes:
      mean_squared_error: in units of the return, squared.
      mean_absolute_error: in units of the return.
      directional_accuracy: share of right signs among rows where both are not zero; NaN if none.
      information_coefficient: Pearson correlation of forecast and return; NaN if one is constant.
      rank_information_coefficient: the same of their ranks (Spearman).
      information_coefficient_t: the IC over its Newey-West standard error.
    """

    mean_squared_error: float
    mean_absolute_error: float
    directional_accuracy: float
    information_coefficient: float
    rank_information_coefficient: float
    information_coefficient_t: float


def point_score(forecast: ArrayLike, realised: ArrayLike, *, lag: int | None = None) -> PointScore:
    """Scores a point forecast.

    Args:
      forecast: [N] expected returns, as fractions.
      realised: [N] returns that came, as fractions.
      lag: largest lag of the Bartlett kernel behind the t of the IC; None takes
        `floor(4 (N / 100)^(2/9))`.

    Returns:
      The `PointScore`.

    Raises:
      ValueError: if the arrays are not finite vectors of one length of at least 10.

    References:
      Grinold and Kahn, Active Portfolio Management, 2000, chapter 6 (the IC); Newey and West,
      1987.
    """
    told, came = np.asarray(forecast, float), np.asarray(realised, float)
    if told.ndim != 1 or told.shape != came.shape or told.size < MIN_ROWS:
        raise ValueError(
            f"forecast and realised must be [N] with N >= {MIN_ROWS}, got {told.shape} and "
            f"{came.shape}"
        )
    if not (np.all(np.isfinite(told)) and np.all(np.isfinite(came))):
        raise ValueError("forecast and realised must be finite")
    error, has_sign = came - told, (told != 0.0) & (came != 0.0)
    agree = np.sign(told[has_sign]) == np.sign(came[has_sign])
    is_constant = np.ptp(told) == 0.0 or np.ptp(came) == 0.0
    ranks = stats.rankdata(told), stats.rankdata(came)
    return PointScore(
        float(np.mean(error * error)),
        float(np.mean(np.abs(error))),
        float(agree.mean()) if agree.size else np.nan,
        np.nan if is_constant else float(np.corrcoef(told, came)[0, 1]),
        np.nan if is_constant else float(np.corrcoef(*ranks)[0, 1]),
        np.nan if is_constant else _correlation_t(told, came, lag),
    )


def zero_forecast(realised: ArrayLike) -> NumpyArray:
    """Returns the forecast that prices cannot be foretold: zeros of the shape of `realised`."""
    return np.zeros(np.shape(realised))


def ar1_forecast(returns: ArrayLike, *, num_train: int) -> NumpyArray:
    """Forecasts each next return from the last one, by a line fitted to the first returns.

    Args:
      returns: [T] returns, as fractions, finite.
      num_train: number of leading returns that the line is fitted to, at least 10.

    Returns:
      [T] forecasts: row t is made at the close of t for `returns[t + 1]`.

    Raises:
      ValueError: if `num_train` is out of range or a return is not finite.
    """
    values = check_returns(returns)
    if not MIN_ROWS <= num_train <= values.size:
        raise ValueError(f"num_train must be in [{MIN_ROWS}, {values.size}], got {num_train}")
    before, after = values[: num_train - 1], values[1:num_train]
    if np.ptp(before) == 0.0:
        return np.full(values.size, after.mean())
    slope, intercept = np.polyfit(before, after, 1)
    return intercept + slope * values


def _correlation_t(forecast: NumpyArray, realised: NumpyArray, lag: int | None) -> float:
    """Returns the correlation over its HAC error: the mean of the product of normal deviates."""
    told, came = (np.asarray(stats.zscore(values)) for values in (forecast, realised))
    product = told * came
    lag = default_lag(product.size) if lag is None else lag
    if not 0 <= lag < product.size:
        raise ValueError(f"lag must be in [0, {product.size - 1}], got {lag}")
    # the influence of one row on the correlation, whose two scales are estimated as well
    influence = product - 0.5 * product.mean() * (told * told + came * came)
    error = np.sqrt(max(long_run_variance(influence, lag), 0.0) / product.size)
    return float(product.mean() / error) if error else float(np.sign(product.mean()) * np.inf)
