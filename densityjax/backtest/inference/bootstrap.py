"""The stationary bootstrap: resampled paths that keep the dependence of neighbouring bars.

A resampled path goes on with the next bar, the first after the last, and restarts at a uniform bar
with probability 1 / L after each, so that blocks have geometric lengths of mean L.
"""

import math

import numpy as np

from densityjax._typing import ArrayLike, NumpyArray
from densityjax.backtest import _returns
from densityjax.backtest.inference.blocks import read_matrix

CHUNK_VALUES = 2**20  # numbers transformed together: 16 MiB


def stationary_bootstrap(
    num_bars: int, *, mean_block_length: float, num_draws: int = 1_000, random_state: int = 0
) -> NumpyArray:
    """Draws the rows of resampled paths.

    Args:
      num_bars: number of bars T to draw from, and of each path.
      mean_block_length: L, in bars, >= 1; 1 draws bars independently.
      num_draws: number of paths B.
      random_state: seed.

    Returns:
      [B, T] rows, from 0 to T - 1.

    Raises:
      ValueError: if a size is below 1.

    References:
      Politis and Romano, The Stationary Bootstrap, 1994,
      https://doi.org/10.1080/01621459.1994.10476870.
    """
    if num_bars < 1 or num_draws < 1 or not mean_block_length >= 1.0:
        raise ValueError(
            f"num_bars is {num_bars}, num_draws {num_draws} and mean_block_length "
            f"{mean_block_length}: accepted are numbers >= 1"
        )
    rng = np.random.default_rng(random_state)
    shape = (num_draws, num_bars)
    is_start = rng.random(shape) < 1.0 / mean_block_length
    is_start[:, 0] = True
    fresh = rng.integers(num_bars, size=shape)
    place = np.arange(num_bars)
    last_start = np.maximum.accumulate(np.where(is_start, place, 0), axis=1)
    return (np.take_along_axis(fresh, last_start, 1) + place - last_start) % num_bars


def optimal_block_length(values: ArrayLike) -> float:
    """Returns the mean block length that estimates the variance of the mean best.

    `(2 G^2 / D)^(1/3) T^(1/3)` with G = sum lam(k / m) |k| g_k, D = 2 (sum lam(k / m) g_k)^2, g_k
    the autocovariances, lam flat to one half and then falling to zero at 1, and m twice the last
    lag before autocorrelations stay within their band for several lags.

    Args:
      values: [T] numbers in any unit, T >= 10; of returns, take what the statistic is a mean of.

    Returns:
      The length, in bars, from 1 to `min(3 sqrt(T), T / 3)`.

    Raises:
      ValueError: if there are fewer than ten values.

    References:
      Politis and White, Automatic Block-Length Selection for the Dependent Bootstrap, 2004; Patton,
      Politis and White, Correction, 2009, https://doi.org/10.1080/07474930802459016.
    """
    x = _returns.read_returns(values, name="values")
    num = x.size
    if num < 10:
        raise ValueError(f"values has {num} rows: accepted are 10 and more")
    x = x - x.mean()
    if not np.any(np.abs(x) > 0.0):
        return 1.0
    run = max(5, int(math.log10(num)))
    most = math.ceil(math.sqrt(num)) + run
    covariance = np.array([x[lag:] @ x[: num - lag] for lag in range(most + 1)]) / num
    lags = np.arange(most + 1)
    # Both ends are scaled by the part of the series that a lag leaves, less one.
    scale = np.array(
        [(x[k + 1 :] @ x[k + 1 :]) * (x[: num - k - 1] @ x[: num - k - 1]) for k in lags]
    )
    size = np.abs(covariance) * num / np.sqrt(np.where(scale > 0.0, scale, np.inf))
    is_small = size < 2.0 * math.sqrt(math.log10(num) / num)
    quiet = [k for k in range(most + 1 - run) if is_small[k : k + run].all()]
    cut = min(2 * max(quiet[0], 1), most) if quiet else most
    lags = np.arange(1, cut + 1)
    window = np.minimum(1.0, 2.0 * (1.0 - lags / cut))
    slope = 2.0 * np.sum(window * lags * covariance[1 : cut + 1])
    spectrum = covariance[0] + 2.0 * np.sum(window * covariance[1 : cut + 1])
    longest = math.ceil(min(3.0 * math.sqrt(num), num / 3.0))
    if spectrum == 0.0:
        return float(longest)
    return float(np.clip(abs(slope / spectrum) ** (2.0 / 3.0) * num ** (1.0 / 3.0), 1.0, longest))


def stationary_bootstrap_variance(values: ArrayLike, mean_block_length: float) -> NumpyArray:
    """Returns the exact variance of `sqrt(T)` times the mean of a resampled path.

    `C(0) + 2 sum_{i=1}^{T-1} b_i C(i)`, `b_i = (1 - i / T) (1 - p)^i + (i / T) (1 - p)^(T - i)`,
    with p = 1 / L and C the autocovariances over T; by Fourier transforms, a few columns at a time.

    Args:
      values: [T, N] numbers, one column for each series, or [T] of one.
      mean_block_length: L, in rows, >= 1.

    Returns:
      [N] variances, in squared units of the values.

    Raises:
      ValueError: if the length is below 1 or a value is not finite.

    References:
      Politis and Romano, The Stationary Bootstrap, 1994, lemma 1.
    """
    if not mean_block_length >= 1.0:
        raise ValueError(f"mean_block_length is {mean_block_length}: accepted are numbers >= 1")
    x = read_matrix(values, name="values")
    num, keep = len(x), 1.0 - 1.0 / mean_block_length
    lags = np.arange(1, num)
    weight = (1.0 - lags / num) * keep**lags + lags / num * keep ** (num - lags)
    variance = np.empty(x.shape[1])
    width = max(CHUNK_VALUES // num, 1)
    for first in range(0, x.shape[1], width):
        part = x[:, first : first + width]
        part = part - part.mean(0)
        power = np.abs(np.fft.rfft(part, 2 * num, axis=0)) ** 2
        covariance = np.fft.irfft(power, 2 * num, axis=0)[:num] / num
        variance[first : first + width] = covariance[0] + 2.0 * weight @ covariance[1:]
    return np.maximum(variance, 0.0)
