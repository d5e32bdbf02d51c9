"""Two toy walks of bars, for demonstrations and plumbing tests.

Neither resembles a market: returns are uniform, volatility is constant, volume is noise. A law with
known density, clustered volatility and regimes is `densityjax.market.simulate`.
"""

import jax
import numpy as np
import pandas as pd

from densityjax._typing import Key, NumpyArray
from densityjax.market.simulate import bar_index

TREND_BARS = 100  # bars between two draws of the trend
MAX_WICK = 0.005  # largest wick, as a fraction of the body's end


def uniform_walk_bars(
    key: Key,
    num_bars: int,
    *,
    max_move: float = 0.02,
    initial_price: float = 50_000.0,
    start: str = "2024-01-01",
    interval: str = "1h",
) -> pd.DataFrame:
    """Bars whose simple returns are independent and uniform on `[-max_move, max_move]`.

    Args:
      key: random key, typed.
      num_bars: number of bars, at least 2.
      max_move: largest move of a bar, a fraction in (0, 1).
      initial_price: open of the first bar, positive.
      start: open time of the first bar; UTC where it names no zone.
      interval: spacing of the bars, as pandas writes it.

    Returns:
      Bars [num_bars]: open (the previous close), high, low, close, volume.

    Raises:
      ValueError: if an argument is outside what is stated here.
    """
    _check(num_bars, max_move, initial_price)
    move_key, wick_key = jax.random.split(key)
    moves = _uniform(move_key, (num_bars,), -max_move, max_move)
    close = initial_price * np.cumprod(1.0 + moves)
    return _bars(wick_key, initial_price, close, bar_index(start, interval, num_bars))


def trend_regime_bars(
    key: Key,
    num_bars: int,
    *,
    max_trend: float = 0.002,
    max_noise: float = 0.015,
    floor: float = 30_000.0,
    ceiling: float = 80_000.0,
    initial_price: float = 50_000.0,
    start: str = "2024-01-01",
    interval: str = "1h",
) -> pd.DataFrame:
    """Bars with a trend redrawn every 100 bars, uniform noise, and a price held in a band.

    A bar's simple return is `trend + noise`, both uniform about zero. All four prices are clamped
    to `[floor, ceiling]`, and the walk goes on from the clamped close: at a limit the moves
    outwards are cut off, so the price reverts from there and returns are neither uniform nor
    independent. It is an artefact of the recipe; a rule that profits from it has found the clamp.

    Args:
      key: random key, typed.
      num_bars: number of bars, at least 2.
      max_trend: largest trend, a fraction a bar, in (0, 1).
      max_noise: largest noise, a fraction a bar, in (0, 1).
      floor: lowest price, positive.
      ceiling: highest price, above the floor.
      initial_price: open of the first bar, inside the band.
      start: open time of the first bar; UTC where it names no zone.
      interval: spacing of the bars, as pandas writes it.

    Returns:
      Bars [num_bars]: open (the previous close), high, low, close, volume.

    Raises:
      ValueError: if an argument is outside what is stated here.
    """
    _check(num_bars, max_trend, initial_price)
    _check(num_bars, max_noise, initial_price)
    if not 0.0 < floor <= initial_price <= ceiling < np.inf or floor == ceiling:
        raise ValueError(
            f"need 0 < floor <= initial_price <= ceiling, floor below ceiling: "
            f"{floor}, {initial_price}, {ceiling}"
        )
    trend_key, noise_key, wick_key = jax.random.split(key, 3)
    trends = _uniform(trend_key, (-(-num_bars // TREND_BARS),), -max_trend, max_trend)
    noise = _uniform(noise_key, (num_bars,), -max_noise, max_noise)
    moves = np.repeat(trends, TREND_BARS)[:num_bars] + noise
    close, price = np.empty(num_bars), initial_price
    for t, move in enumerate(moves):
        price = min(max(price * (1.0 + move), floor), ceiling)
        close[t] = price
    bars = _bars(wick_key, initial_price, close, bar_index(start, interval, num_bars))
    names = ["open", "high", "low", "close"]
    return bars.assign(**{name: bars[name].clip(floor, ceiling) for name in names})


def _bars(
    key: Key, initial_price: float, close: NumpyArray, index: pd.DatetimeIndex
) -> pd.DataFrame:
    """Adds opens, uniform wicks and uniform volume to closes."""
    wick_key, volume_key = jax.random.split(key)
    upper, lower = _uniform(wick_key, (2, len(close)), 0.0, MAX_WICK)
    open_ = np.concatenate([[initial_price], close[:-1]])
    columns = {
        "open": open_,
        "high": np.maximum(open_, close) * (1.0 + upper),
        "low": np.minimum(open_, close) * (1.0 - lower),
        "close": close,
        "volume": _uniform(volume_key, (len(close),), 100.0, 1_000.0),
    }
    return pd.DataFrame(columns, index=index)


def _uniform(key: Key, shape: tuple[int, ...], low: float, high: float) -> NumpyArray:
    """Draws uniform numbers, float64 on the host."""
    unit = np.asarray(jax.random.uniform(key, shape), np.float64)
    return low + (high - low) * unit


def _check(num_bars: int, size: float, initial_price: float) -> None:
    """Raises `ValueError` on sizes that give no prices."""
    if not isinstance(num_bars, int | np.integer) or num_bars < 2:
        raise ValueError(f"num_bars must be a whole number, at least 2, got {num_bars}")
    if not 0.0 < size < 1.0:
        raise ValueError(f"moves must be a fraction in (0, 1), got {size}")
    if not 0.0 < initial_price < np.inf:
        raise ValueError(f"initial_price must be positive and finite, got {initial_price}")
