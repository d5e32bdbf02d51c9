"""Bar primitives: the shape of one bar, and returns that respect gaps.

With O, H, L, C the prices of bar t and C_{-1} the close before. All but the returns keep the unit
of the price. A row flagged `is_filled` carries the close of an earlier bar: the returns into it
and out of it are NaN. So is the return across a gap in time, see `market.gaps`; one over a night,
a weekend or a holiday counts.
"""

from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from densityjax._typing import NumpyArray
from densityjax.market.bar_arrays import broken_rows


class _Prices(NamedTuple):
    open: NumpyArray  # [T]
    high: NumpyArray
    low: NumpyArray
    close: NumpyArray


def typical_price(bars: pd.DataFrame) -> pd.Series:
    """Returns (H + L + C) / 3, [T] in price units."""
    p = _prices(bars)
    return _series(bars, (p.high + p.low + p.close) / 3.0)


def bar_range(bars: pd.DataFrame) -> pd.Series:
    """Returns H - L, [T] in price units."""
    p = _prices(bars)
    return _series(bars, p.high - p.low)


def body(bars: pd.DataFrame) -> pd.Series:
    """Returns |C - O|, [T] in price units."""
    p = _prices(bars)
    return _series(bars, np.abs(p.close - p.open))


def upper_wick(bars: pd.DataFrame) -> pd.Series:
    """Returns H - max(O, C), [T] in price units."""
    p = _prices(bars)
    return _series(bars, p.high - np.maximum(p.open, p.close))


def lower_wick(bars: pd.DataFrame) -> pd.Series:
    """Returns min(O, C) - L, [T] in price units."""
    p = _prices(bars)
    return _series(bars, np.minimum(p.open, p.close) - p.low)


def is_bullish(bars: pd.DataFrame) -> pd.Series:
    """Returns whether C > O, [T]; a flat bar is neither bullish nor bearish."""
    p = _prices(bars)
    return _series(bars, p.close > p.open)


def is_bearish(bars: pd.DataFrame) -> pd.Series:
    """Returns whether C < O, [T]; a flat bar is neither bullish nor bearish."""
    p = _prices(bars)
    return _series(bars, p.close < p.open)


def true_range(bars: pd.DataFrame) -> pd.Series:
    """Computes max(H - L, |H - C_{-1}|, |L - C_{-1}|): the range with the gap before the bar.

    Args:
      bars: frame of T bars, prices in quote currency.

    Returns:
      [T] true range in price units; the first bar, with no close before it, has H - L.

    References:
      Wilder, New Concepts in Technical Trading Systems, 1978.
    """
    p = _prices(bars)
    previous = np.append(p.close[:1], p.close[:-1])  # the first bar's own close is in its range
    return _series(bars, np.maximum(p.high, previous) - np.minimum(p.low, previous))


def return_from(bars: pd.DataFrame | pd.Series, k: int) -> pd.Series:
    """Computes the simple return over k bars, C_t / C_{t-k} - 1.

    Args:
      bars: frame of T bars, or [T] closes in quote currency.
      k: bars to look back, at least 1.

    Returns:
      [T] returns as fractions; NaN in the first k rows, and wherever one of the k steps up to t
      touches a filled bar or is a gap.

    Raises:
      ValueError: if k is not positive, or timestamps do not increase.
    """
    return _series(bars, _growth(bars, k) - 1.0)


def simple_returns(bars: pd.DataFrame | pd.Series) -> pd.Series:
    """Returns C_t / C_{t-1} - 1, [T] fractions; NaN first, at filled rows and across gaps."""
    return return_from(bars, 1)


def log_returns(bars: pd.DataFrame | pd.Series) -> pd.Series:
    """Returns ln(C_t / C_{t-1}), [T]; NaN first, at filled rows and across gaps."""
    return _series(bars, np.log(_growth(bars, 1)))


def _growth(bars: pd.DataFrame | pd.Series, k: int) -> NumpyArray:
    """Returns C_t / C_{t-k}, [T], NaN where one of the k steps is broken."""
    if k < 1:
        raise ValueError(f"k must be at least 1 bar, got {k}")
    frame = bars if isinstance(bars, pd.DataFrame) else bars.to_frame("close")
    close = np.asarray(frame["close"], np.float64)
    growth = np.full(len(close), np.nan)
    growth[k:] = close[k:] / close[:-k]
    broken = np.cumsum(broken_rows(frame)[0])
    growth[k:][broken[k:] > broken[:-k]] = np.nan
    return growth


def _prices(bars: pd.DataFrame) -> _Prices:
    """Returns the four prices of the bars as [T] float64 arrays."""
    return _Prices(*(np.asarray(bars[name], np.float64) for name in _Prices._fields))


def _series(bars: pd.DataFrame | pd.Series, values: Any) -> pd.Series:
    """Returns [T] values on the index of the bars."""
    return pd.Series(values, index=bars.index)
