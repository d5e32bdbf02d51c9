"""Variance recursions with given parameters, in float64 on the host.

`variance[0]` is the starting value and `variance[t + 1]` reads residuals up to t: T residuals
give T + 1 variances, the last one for the bar that has not happened yet. EWMA and GARCH are
linear in the squares and run as a filter; EGARCH feeds back through its own scale and loops.
"""

import numpy as np
from scipy import signal

from densityjax._typing import NumpyArray


def backcast(residuals: NumpyArray, *, decay: float = 0.94, num_rows: int = 75) -> float:
    """Returns the variance before the first row: leading squares [T] with decaying weights.

    Args:
      residuals: [T] training residuals.
      decay: ratio of successive weights.
      num_rows: number of leading rows used, at most T.

    Returns:
      A variance, in squared units of the residuals.
    """
    head = residuals[:num_rows] ** 2
    return float(np.average(head, weights=decay ** np.arange(head.size)))


def ewma_variance(returns: NumpyArray, *, start: float, decay: float) -> NumpyArray:
    """Returns [T + 1] variances `v[t + 1] = decay v[t] + (1 - decay) r[t]^2`, `v[0] = start`."""
    return _linear_recursion((1.0 - decay) * returns**2, decay, start)


def garch_variance(
    residuals: NumpyArray, *, omega: float, alpha: float, gamma: float, beta: float, start: float
) -> NumpyArray:
    """Runs GJR-GARCH(1, 1); `gamma` 0 is GARCH.

    Args:
      residuals: [T] returns less their mean.
      omega: constant, in squared units of the residuals.
      alpha: weight of the last squared residual.
      gamma: extra weight where the last residual is negative.
      beta: weight of the last variance.
      start: stand-in for the squared residual and the variance before row 0.

    Returns:
      [T + 1] variances.
    """
    first = omega + (alpha + 0.5 * gamma + beta) * start  # half of the past was negative
    shocks = omega + (alpha + gamma * (residuals < 0.0)) * residuals**2
    return _linear_recursion(shocks, beta, first)


def egarch_variance(
    residuals: NumpyArray, *, omega: float, alpha: float, gamma: float, beta: float, start: float
) -> NumpyArray:
    """Runs EGARCH(1, 1): the log variance moves with the size and the sign of the last residual.

    Args:
      residuals: [T] returns less their mean.
      omega: constant of the log variance.
      alpha: weight of `|z| - sqrt(2 / pi)` of the last standardised residual z.
      gamma: weight of z itself; negative where losses raise volatility.
      beta: weight of the last log variance.
      start: variance before row 0, whose residual counts as average.

    Returns:
      [T + 1] variances.
    """
    log_variance = np.empty(residuals.size + 1)
    log_variance[0] = omega + beta * np.log(start)
    mean_size = np.sqrt(2.0 / np.pi)
    for t, residual in enumerate(residuals):
        z = residual * np.exp(-0.5 * log_variance[t])
        shock = alpha * (abs(z) - mean_size) + gamma * z
        log_variance[t + 1] = omega + shock + beta * log_variance[t]
    return np.exp(log_variance)


def _linear_recursion(inputs: NumpyArray, decay: float, start: float) -> NumpyArray:
    """Returns [T + 1] values `v[t + 1] = inputs[t] + decay v[t]`, `v[0] = start`."""
    tail, _ = signal.lfilter([1.0], [1.0, -decay], inputs, zi=[decay * start])
    return np.concatenate([[start], tail])
