"""Bars as plain float64 arrays: what every feature formula reads.

A feature formula takes `BarArrays`, so that the same code runs on a whole frame and on the short
tail that a stream keeps. A filled bar (column `is_filled`) invents a price, and a gap in time
(`market.gaps`) is no bar: the returns into a filled bar, out of it and across a gap are NaN.
"""

from typing import NamedTuple

import numpy as np
import pandas as pd

from densityjax.market.gaps import GapState, find_gaps

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
      volume: traded amounts, NaN where unknown and where the bar is filled.
      is_broken: True where no return from the bar before counts: the first bar, a filled bar, the
        bar after one, and the bar after a gap.
      broken_move: sum of the moves ln(C_t / C_{t-1}) into broken bars, up to each bar: what the
        price did where nobody saw it trade.
    """

    seconds: np.ndarray
    open: np.ndarray
    high: np.ndarray
    low: np.ndarray
    close: np.ndarray
    volume: np.ndarray
    is_broken: np.ndarray
    broken_move: np.ndarray


class Past(NamedTuple):
    """What the next bars have to know of the bars before them.

    Attributes:
      gaps: state of the search for gaps.
      is_filled: whether the last bar was filled; True before the first bar.
      close: close of the last bar; NaN before the first.
      broken_move: that of `BarArrays` at the last bar.
    """

    gaps: GapState | None = None
    is_filled: bool = True
    close: float = float("nan")
    broken_move: float = 0.0


START = Past()  # no bars yet


def from_frame(bars: pd.DataFrame) -> BarArrays:
    """Returns `continue_from` of the first bars: those of a whole frame."""
    return continue_from(START, bars)[0]


def continue_from(past: Past, bars: pd.DataFrame) -> tuple[BarArrays, Past]:
    """Checks a frame of bars and takes it apart.

    Args:
      past: what an earlier call handed back, or `START` at the start of a series.
      bars: frame with float columns open, high, low, close, optionally volume and is_filled, and
        a strictly increasing DatetimeIndex of opening times (any other index counts as days).

    Returns:
      The `BarArrays`; volume is all NaN where the frame has none. And the `Past` of later bars.

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
    if "is_filled" in bars:
        volume = np.where(bars["is_filled"].to_numpy(bool), np.nan, volume)
    is_broken, after = broken_rows(bars, past)
    closes = np.append(past.close, prices["close"])
    moves = np.where(is_broken & ~np.isnan(closes[:-1]), np.log(closes[1:] / closes[:-1]), 0.0)
    broken_move = np.cumsum(np.append(past.broken_move, moves))
    after = after._replace(close=float(closes[-1]), broken_move=float(broken_move[-1]))
    arrays = BarArrays(
        _seconds(bars.index),
        **prices,
        volume=volume,
        is_broken=is_broken,
        broken_move=broken_move[1:],
    )
    return arrays, after


def broken_rows(bars: pd.DataFrame, past: Past = START) -> tuple[np.ndarray, Past]:
    """Tells which rows of a frame no return leads into, as in `BarArrays`.

    Args:
      bars: [T] rows, with or without the flag `is_filled`; gaps are looked for where the index
        has times.
      past: what an earlier call handed back.

    Returns:
      [T] True where the return from the row before does not count; and the `Past` of later rows.

    Raises:
      ValueError: if the timestamps do not increase.
    """
    filled = bars["is_filled"].to_numpy(bool) if "is_filled" in bars else np.zeros(len(bars), bool)
    flags, gaps = np.append(past.is_filled, filled), past.gaps
    is_broken = flags[1:] | flags[:-1]
    if isinstance(bars.index, pd.DatetimeIndex):
        after_gap, gaps = find_gaps(_seconds(bars.index), gaps)
        is_broken |= after_gap
    return is_broken, Past(gaps, bool(flags[-1]))


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


def joined_prices(bars: BarArrays) -> BarArrays:
    """Returns the bars with prices rescaled so that nothing moved into broken bars.

    Windows over price LEVELS may then reach across a gap. The scale is that of the first bar; it
    drops out of every ratio of prices.
    """
    factor = np.exp(-bars.broken_move)
    scaled = {name: getattr(bars, name) * factor for name in PRICES}
    return bars._replace(**scaled)


def log_returns(bars: BarArrays) -> np.ndarray:
    """Returns `ln(C_t / C_{t-1})`, [T]; NaN where the bar `is_broken`, and in row 0."""
    returns = np.full(bars.close.size, np.nan)
    returns[1:] = np.log(bars.close[1:] / bars.close[:-1])
    return np.where(bars.is_broken, np.nan, returns)
