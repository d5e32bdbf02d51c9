"""What all figures share: reading returns, and ratios whose denominator may be zero.

A NaN among returns is a missing bar. The policy says what becomes of it: 'raise' refuses it,
'omit' leaves the bar out (its time goes too), 'zero' counts it as a bar on which nothing moved.
"""

from typing import Literal

import numpy as np

from densityjax._typing import ArrayLike, NumpyArray

NanPolicy = Literal["raise", "omit", "zero"]
POLICIES = ("raise", "omit", "zero")


def read_returns(
    values: ArrayLike, nan_policy: NanPolicy = "raise", *, name: str = "returns"
) -> NumpyArray:
    """Returns a float64 vector of finite numbers.

    Args:
      values: [T] numbers, in any unit.
      nan_policy: 'raise', 'omit' or 'zero': what becomes of NaN. Infinities always raise.
      name: what the messages call the values.

    Returns:
      [T] numbers, fewer under 'omit'.

    Raises:
      ValueError: if the values are not one-dimensional or one is not finite, with its row; or if
        the policy is unknown.
    """
    array = np.asarray(values, np.float64)
    if array.ndim != 1:
        raise ValueError(f"{name} has shape {array.shape}; accepted is one dimension, [T]")
    if nan_policy not in POLICIES:
        raise ValueError(f"nan_policy is {nan_policy!r}; accepted are {POLICIES}")
    if nan_policy == "omit":
        array = array[~np.isnan(array)]
    elif nan_policy == "zero":
        array = np.where(np.isnan(array), 0.0, array)
    if not np.isfinite(array).all():
        row = int(np.argmin(np.isfinite(array)))
        raise ValueError(f"{name}[{row}] is {array[row]}; accepted are finite numbers")
    return array


def per_bar(annual_rate: float, periods_per_year: float) -> float:
    """Compounds a rate per year down to one bar; a ValueError where a year loses more than all."""
    if not annual_rate > -1.0:
        raise ValueError(f"a rate per year is {annual_rate}; accepted are fractions above -1")
    return (1.0 + annual_rate) ** (1.0 / periods_per_year) - 1.0


def ratio(gain: float, loss: float, *, no_loss: float = np.nan) -> float:
    """Returns `gain / loss`, and `no_loss` where there is a gain and no loss."""
    if loss == 0.0:
        return no_loss if gain > 0.0 else np.nan
    return float(gain / loss)


def mean(values: NumpyArray) -> float:
    """Returns the mean, NaN of an empty vector."""
    return float(np.mean(values)) if values.size else np.nan
