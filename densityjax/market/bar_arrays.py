"""Bars as plain float64 arrays: what every feature formula reads.

A feature formula takes `BarArrays`, so that the same code runs on a whole frame and on the short
tail that a stream keeps. A filled bar (column `is_filled`) invents a price: the returns into it
and out of it are NaN.
"""

from typing import NamedTuple

import numpy as np
import pandas as pd

DAY = 86_400  # seconds
PRICES = ("open", "high", "low", "close")


class BarArrays(NamedTuple):
    """Bars by column, each [T].

    Attributes:
      seconds: open times, whole seconds since 1970 UTC, or one day a row without a time index.
      open: opening prices, positive.
      high: highest prices.
      low: lowest prices.
      close: closing prices.
      volume: traded amounts, NaN where unknown.
      is_filled: True where the bar was made up to bridge a gap.
    """

    seconds: np.ndarray
    open: np.ndarray
    high: np.ndarray
    low: np.ndarray
    close: np.ndarray
    volume: np.ndarray
    is_filled: np.ndarray


def from_frame(bars: pd.DataFrame) -> BarArrays:
    """Checks a frame of bars and takes it apart.

    Args:
      bars: frame with float columns open, high, low, close, optionally volume and is_filled, and
        a strictly increasing DatetimeIndex of opening times (any other index counts as days).

    Returns:
      The `BarArrays`; volume is all NaN where the frame has none.

    Raises:
      ValueError: if a price column is missing, a price is not positive and finite, a volume is
        negative or infinite, or the timestamps do not increase.
    """
    missing = [name for name in PRICES if name not in bars.columns]
    if missing:
        raise ValueError(f"bars must have the columns {PRICES}, {missing} are missing")
    prices = {name: bars[name].to_numpy(np.float64) for name in PRICES}
    for name, price in prices.items():
        _refuse(name, price, ~(np.isfinite(price) & (price > 0.0)), "positive and finite")
    volume = bars["volume"].to_numpy(np.float64) if "volume" in bars else np.full(len(bars), np.nan)
    _refuse("volume", volume, (volume < 0.0) | np.isinf(volume), "finite and not negative")
    filled = bars["is_filled"].to_numpy(bool) if "is_filled" in bars else np.zeros(len(bars), bool)
    return BarArrays(_seconds(bars.index), **prices, volume=volume, is_filled=filled)


def _refuse(name: str, values: np.ndarray, is_bad: np.ndarray, accepted: str) -> None:
    """Raises on the first bad value."""
    for row in np.flatnonzero(is_bad)[:1]:
        raise ValueError(f"{name} must be {accepted}, got {values[row]} in row {row}")


def _seconds(index: pd.Index) -> np.ndarray:
    """Returns the whole seconds since 1970 UTC of an index of times, or a day a row."""
    if not isinstance(index, pd.DatetimeIndex):
        return DAY * np.arange(len(index), dtype=np.int64)
    if not index.is_monotonic_increasing or not index.is_unique:
        raise ValueError("timestamps of bars must be strictly increasing")
    stamps = index if index.tz is None else index.tz_convert(None)
    return stamps.to_numpy().astype("datetime64[s]").astype(np.int64)


def log_returns(bars: BarArrays) -> np.ndarray:
    """Returns `ln(C_t / C_{t-1})`, [T]; NaN in row 0 and on both sides of a filled bar."""
    close, filled = bars.close, bars.is_filled
    touches = filled.copy()
    touches[1:] |= filled[:-1]
    returns = np.full(close.size, np.nan)
    returns[1:] = np.log(close[1:] / close[:-1])
    returns[touches] = np.nan
    return returns
