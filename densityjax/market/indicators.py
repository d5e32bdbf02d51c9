"""Technical indicators of bars, vectorised, on the host in float64.

C, H, L, O, V are close, high, low, open and volume, `[T]` each. Row `t` reads bars up to `t` and
is NaN until its window is full. Where an indicator divides by zero (flat prices, no volume) it
takes the neutral value its docstring names. Returns are fractions, never percent. A NaN in a
window makes it NaN, unless `min_share` says which share of known values is enough.
"""

import numpy as np
from scipy import signal

from densityjax import numerics
from densityjax._typing import ArrayLike
from densityjax.market.rolling import (
    EwmaState,
    as_float,
    ewma,
    lagged,
    window_kurtosis,
    window_max,
    window_mean,
    window_min,
    window_sd,
    window_skewness,
    window_sum,
)


def _ratio(top: np.ndarray, bottom: np.ndarray, neutral: ArrayLike) -> np.ndarray:
    """Returns `top / bottom`, and `neutral` where `bottom` is 0."""
    is_zero = bottom == 0.0
    return np.where(is_zero, neutral, top / np.where(is_zero, 1.0, bottom))


def sma(values: ArrayLike, window: int) -> np.ndarray:
    """Returns the simple mean of the last `window` values, [T], in their unit."""
    return window_mean(values, window)


def ema_with_state(
    values: ArrayLike, span: float, state: EwmaState | None = None
) -> tuple[np.ndarray, EwmaState]:
    """Takes `ema` of rows that follow those of `state`; returns it, [T], and the next state."""
    if not span >= 1:
        raise ValueError(f"span must be at least 1, got {span}")
    means, state = ewma(as_float(values)[None], 2.0 / (span + 1.0), state)
    return means[0], state


def ema(values: ArrayLike, span: float, *, bias_corrected: bool = True) -> np.ndarray:
    """Takes the exponential moving average with weight `2 / (span + 1)` on the newest value.

    Args:
      values: [T] in any unit; a NaN has no weight where bias-corrected.
      span: the p of `2 / (p + 1)`, at least 1.
      bias_corrected: True divides by the sum of the weights (pandas `adjust=True`); False is the
        recursion that starts at the first value (`adjust=False`), which weighs it as many.

    Returns:
      [T] averages, in the unit of `values`.

    Raises:
      ValueError: if `span` is below 1.
    """
    if bias_corrected:
        return ema_with_state(values, span)[0]
    if not span >= 1:
        raise ValueError(f"span must be at least 1, got {span}")
    array, alpha = as_float(values), 2.0 / (span + 1.0)
    return _smooth(array, alpha, array[:1]) if array.size else array


def _smooth(values: np.ndarray, alpha: float, start: ArrayLike) -> np.ndarray:
    """Runs `y_t = alpha x_t + (1 - alpha) y_{t-1}` with `y_{-1} = start`."""
    memory = (1.0 - alpha) * np.ravel(np.asarray(start))
    return signal.lfilter([alpha], [1.0, alpha - 1.0], values, zi=memory)[0]


def simple_returns(close: ArrayLike) -> np.ndarray:
    """Returns `C_t / C_{t-1} - 1`, [T], NaN in row 0."""
    return momentum(close, 1)


def log_returns(close: ArrayLike) -> np.ndarray:
    """Returns `ln(C_t / C_{t-1})`, [T], NaN in row 0."""
    return np.log(as_float(close) / lagged(close, 1))


def momentum(close: ArrayLike, window: int) -> np.ndarray:
    """Returns `C_t / C_{t-window} - 1`, [T], a fraction over exactly `window` bars."""
    return as_float(close) / lagged(close, window) - 1.0


def volatility(returns: ArrayLike, window: int, *, min_share: float = 1.0) -> np.ndarray:
    """Returns the rolling sd (ddof 1) of returns, [T], per bar; 0 where it is all rounding."""
    sd = window_sd(returns, window, min_share=min_share)
    return np.where(sd <= numerics.RETURN_ROUNDING, 0.0, sd)


def volatility_ratio(
    returns: ArrayLike, short: int, long: int, *, min_share: float = 1.0
) -> np.ndarray:
    """Returns the ratio of two rolling volatilities, [T], 1 where both are 0."""
    top, bottom = (volatility(returns, window, min_share=min_share) for window in (short, long))
    return _ratio(top, bottom, 1.0)


def skewness(returns: ArrayLike, window: int, *, min_share: float = 1.0) -> np.ndarray:
    """Returns the bias-corrected rolling skewness of returns, [T], 0 where they are constant."""
    noise = numerics.RETURN_ROUNDING
    return window_skewness(returns, window, noise=noise, min_share=min_share)


def kurtosis(returns: ArrayLike, window: int, *, min_share: float = 1.0) -> np.ndarray:
    """Returns the bias-corrected rolling excess kurtosis, [T], 0 where returns are constant."""
    noise = numerics.RETURN_ROUNDING
    return window_kurtosis(returns, window, noise=noise, min_share=min_share)


def zscore(values: ArrayLike, window: int, *, min_share: float = 1.0) -> np.ndarray:
    """Returns `(x - mean) / sd` over the last `window` values (ddof 1), [T]; 0 where sd is 0."""
    deviation = as_float(values) - window_mean(values, window, min_share=min_share)
    return _ratio(deviation, window_sd(values, window, min_share=min_share), 0.0)


def ratio_to_mean(values: ArrayLike, window: int, *, min_share: float = 1.0) -> np.ndarray:
    """Returns `x_t` over the mean of the last `window` values, [T]; 1 where that is 0."""
    return _ratio(as_float(values), window_mean(values, window, min_share=min_share), 1.0)


def mean_ratio(values: ArrayLike, short: int, long: int, *, min_share: float = 1.0) -> np.ndarray:
    """Returns the mean of the last `short` values over that of `long`, [T]; 1 where that is 0."""
    top, bottom = (window_mean(values, window, min_share=min_share) for window in (short, long))
    return _ratio(top, bottom, 1.0)


def price_position(high: ArrayLike, low: ArrayLike, close: ArrayLike, window: int) -> np.ndarray:
    """Places the close in the range of the last `window` bars: `(C - min L) / (max H - min L)`.

    Args:
      high: [T] prices.
      low: [T] prices.
      close: [T] prices.
      window: number of bars; 1 is the close's place in its own bar.

    Returns:
      [T] fractions in [0, 1] for valid bars, 0.5 where the range is empty.
    """
    lowest, highest = window_min(low, window), window_max(high, window)
    return _ratio(as_float(close) - lowest, highest - lowest, 0.5)


def body_ratio(open: ArrayLike, high: ArrayLike, low: ArrayLike, close: ArrayLike) -> np.ndarray:
    """Returns `|C - O| / (H - L)`, [T], 0 on a flat bar."""
    return _ratio(np.abs(as_float(close) - as_float(open)), as_float(high) - as_float(low), 0.0)


def rsi(
    close: ArrayLike,
    window: int = 14,
    *,
    wilder: bool = False,
    scaled: bool = False,
    is_broken: ArrayLike | None = None,
    min_share: float = 1.0,
) -> np.ndarray:
    """Computes the relative strength index `g / (g + l)` of gains g and losses l.

    Args:
      close: [T] prices.
      window: number p of price differences.
      wilder: False takes the means of the last p differences; True smooths with weight 1/p from
        the mean of the first p on, as Wilder does.
      scaled: True maps [0, 1] to [-1, 1].
      is_broken: [T] True where the price difference into a bar does not count, as after a gap.
      min_share: smallest share of differences that count, for the plain means.

    Returns:
      [T] index in [0, 1], neutral 0.5 where nothing moved; NaN in the first p rows.

    Raises:
      ValueError: if `window` is below 1.

    References:
      Wilder, New Concepts in Technical Trading Systems, 1978, section VI.
    """
    change = as_float(close) - lagged(close, 1)
    if is_broken is not None:
        change = np.where(is_broken, np.nan, change)
    gain, loss = np.maximum(change, 0.0), np.maximum(-change, 0.0)
    # plain sums, not centred ones: a sum of zeros is exactly zero
    gain, loss = (
        _wilder(x, window) if wilder else window_sum(x, window, min_share=min_share)
        for x in (gain, loss)
    )
    index = _ratio(gain, gain + loss, 0.5)
    return 2.0 * index - 1.0 if scaled else index


def _wilder(values: np.ndarray, window: int) -> np.ndarray:
    """Smooths with weight 1/window from the mean of rows 1 .. window on."""
    smoothed = window_sum(values, window) / window
    if values.size > window + 1:
        smoothed[window + 1 :] = _smooth(values[window + 1 :], 1.0 / window, smoothed[window])
    return smoothed


def vwap(close: ArrayLike, volume: ArrayLike, window: int, *, min_share: float = 1.0) -> np.ndarray:
    """Returns `sum C V / sum V` over the last `window` bars, [T]; `C_t` where there is no volume.

    The sum is of moves from `C_t`, so that a constant price is its own mean exactly.

    Args:
      close: [T] prices.
      volume: [T] traded amounts.
      window: number of bars.
      min_share: smallest share of bars with known volume.

    Returns:
      [T] mean prices, in the unit of `close`.
    """
    price, size = as_float(close), as_float(volume)
    moved = np.zeros_like(price)
    for lag in range(window - 1, -1, -1):
        term = (lagged(price, lag) - price) * lagged(size, lag)
        moved += np.where(np.isnan(term), 0.0, term)  # where too few are known the ratio is NaN
    return price + _ratio(moved, window_sum(size, window, min_share=min_share), 0.0)


def vwap_ratio(
    close: ArrayLike, volume: ArrayLike, window: int, *, min_share: float = 1.0
) -> np.ndarray:
    """Returns the close over the volume-weighted mean price, [T]; 1 where there is no volume."""
    return as_float(close) / vwap(close, volume, window, min_share=min_share)


def bollinger_position(close: ArrayLike, window: int, *, width: float = 2.0) -> np.ndarray:
    """Returns `(C - mean) / (width sd)` with the population sd, [T]; 1 on the upper band.

    Args:
      close: [T] prices.
      window: number of bars.
      width: half-width of the bands, in sd.

    Returns:
      [T] unclipped positions, without unit; 0 where the sd is 0.

    References:
      Bollinger, Bollinger on Bollinger Bands, 2001, whose bands take the population sd.
    """
    deviation = as_float(close) - window_mean(close, window)
    return _ratio(deviation, width * window_sd(close, window, ddof=0), 0.0)


def true_range(high: ArrayLike, low: ArrayLike, close: ArrayLike) -> np.ndarray:
    """Returns `max(H - L, |H - C_{t-1}|, |L - C_{t-1}|)`, [T], in price; `H - L` in row 0."""
    top, bottom, before = as_float(high), as_float(low), lagged(close, 1)
    return np.fmax(top, before) - np.fmin(bottom, before)  # row 0: fmax skips the NaN


def atr(high: ArrayLike, low: ArrayLike, close: ArrayLike, span: float = 20) -> np.ndarray:
    """Returns the average true range, [T], in price: `ema` of the true range."""
    return ema(true_range(high, low, close), span)


def tr_ratio(high: ArrayLike, low: ArrayLike, close: ArrayLike, window: int) -> np.ndarray:
    """Returns the true range over its mean of the last `window` bars, [T]; 1 where that is 0."""
    return ratio_to_mean(true_range(high, low, close), window)
