"""Hansen's skewed Student-t law with mean 0 and variance 1, in float64 on the host.

With g the density of a Student t scaled to variance 1, `p(z) = b g((b z + a) / (1 + s lambda))`
where s is the sign of `b z + a`, `a = 4 lambda g(0) (df - 2) / (df - 1)` and
`b^2 = 1 + 3 lambda^2 - a^2`. All arguments broadcast; infinite df gives the two-piece normal,
skew 0 the t, both together the standard normal.

References:
  Hansen, Autoregressive Conditional Density Estimation, 1994, eq. 10-13.
"""

import numpy as np
from scipy import stats

from densityjax._typing import ArrayLike, NumpyArray


def skew_t_log_prob(z: ArrayLike, degrees_of_freedom: ArrayLike, skew: ArrayLike) -> NumpyArray:
    """Returns the log density at z, [...], in nats.

    Args:
      z: [...] standardised return, NaN where unknown (NaN in, NaN out).
      degrees_of_freedom: [...] above 2, or infinite.
      skew: [...] lambda in (-1, 1); negative skews to the left.

    Returns:
      [...] log density.
    """
    df, skew, shift, width = _constants(degrees_of_freedom, skew)
    core = width * np.asarray(z, dtype=float) + shift
    unit = _unit_scale(df)
    return np.log(width * unit) + stats.t.logpdf(unit * core / (1.0 + np.sign(core) * skew), df)


def skew_t_cdf(z: ArrayLike, degrees_of_freedom: ArrayLike, skew: ArrayLike) -> NumpyArray:
    """Returns the probability of a value below z, [...]; arguments as in `skew_t_log_prob`."""
    df, skew, shift, width = _constants(degrees_of_freedom, skew)
    core = _unit_scale(df) * (width * np.asarray(z, dtype=float) + shift)
    left = (1.0 - skew) * stats.t.cdf(np.minimum(core, 0.0) / (1.0 - skew), df)
    right = (1.0 + skew) * stats.t.sf(np.maximum(core, 0.0) / (1.0 + skew), df)
    return np.where(core < 0.0, left, 1.0 - right)


def skew_t_quantile(
    probability: ArrayLike, degrees_of_freedom: ArrayLike, skew: ArrayLike
) -> NumpyArray:
    """Returns the value undercut with `probability`.

    Args:
      probability: [...] in (0, 1).
      degrees_of_freedom: [...] above 2, or infinite.
      skew: [...] lambda in (-1, 1).

    Returns:
      [...] quantile, in standard deviations from the mean.
    """
    df, skew, shift, width = _constants(degrees_of_freedom, skew)
    level = np.asarray(probability, dtype=float)
    left = (1.0 - skew) * stats.t.ppf(np.minimum(level / (1.0 - skew), 0.5), df)
    right = (1.0 + skew) * stats.t.isf(np.minimum((1.0 - level) / (1.0 + skew), 0.5), df)
    core = np.where(level < 0.5 * (1.0 - skew), left, right)
    return (core / _unit_scale(df) - shift) / width


def _unit_scale(df: NumpyArray) -> NumpyArray:
    """Returns the factor that takes a variance-1 variable to a plain t; 1 for infinite df."""
    return 1.0 / np.sqrt(1.0 - 2.0 / df)


def _constants(
    degrees_of_freedom: ArrayLike, skew: ArrayLike
) -> tuple[NumpyArray, NumpyArray, NumpyArray, NumpyArray]:
    """Returns df, lambda and Hansen's a and b as float64 arrays."""
    df, skew = np.asarray(degrees_of_freedom, dtype=float), np.asarray(skew, dtype=float)
    peak = _unit_scale(df) * stats.t.pdf(0.0, df)
    shift = 4.0 * skew * peak * (1.0 - 2.0 / df) / (1.0 - 1.0 / df)
    return df, skew, shift, np.sqrt(1.0 + 3.0 * skew**2 - shift**2)
