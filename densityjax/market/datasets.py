"""Bars that need no download: two stock indices that ship with `arch`, and a simulated market.

The indices are daily, 1999 to 2018, from the NCSA-licensed package `arch` (https://arch.readthedocs.io).
Their `Close` is used; for an index it equals `Adj Close`. What a user should know of the data
travels with it, in `bars.attrs["notes"]`.
"""

from collections.abc import Callable
from importlib import import_module

import jax
import numpy as np
import pandas as pd

from densityjax.market.describe import describe_bars
from densityjax.market.simulate import simulate_market
from densityjax.market.validation import validate_bars

SIMULATED_BARS = 20_000  # 2.3 years of hours: enough to fit, small enough to wait for
INDICES = {"nasdaq": "NASDAQ Composite", "sp500": "S&P 500"}


def load_dataset(name: str) -> pd.DataFrame:
    """Loads bars that come with the library or its dependencies.

    Args:
      name: 'nasdaq' or 'sp500', daily bars of the index 1999-2018; or 'simulated', 20 000 bars of
        `simulate_market` from a fixed key.

    Returns:
      Frame of T bars: UTC index `timestamp` of open times (daily bars at midnight), float64
      columns open, high, low, close (index points or quote currency) and volume. `attrs` holds
      source, symbol and notes, a tuple of sentences on what to be wary of.

    Raises:
      ValueError: the name is not one of these.
    """
    loaders: dict[str, Callable[[], pd.DataFrame]] = {
        **{index: lambda index=index: _load_index(index) for index in INDICES},
        "simulated": _load_simulated,
    }
    if name not in loaders:
        raise ValueError(f"unknown dataset {name!r}; accepted: {', '.join(sorted(loaders))}")
    return loaders[name]()


def _load_index(name: str) -> pd.DataFrame:
    """Loads an index from `arch` and measures what its notes say."""
    table = import_module(f"arch.data.{name}").load()
    bars = table.rename(columns=str.lower)[["open", "high", "low", "close", "volume"]]
    times = pd.DatetimeIndex(bars.index).tz_localize("UTC")
    bars = bars.astype(np.float64).set_axis(times.rename("timestamp"))
    bars = validate_bars(bars, source=name)
    notes = [
        f"Daily bars of the {INDICES[name]} index from the package arch (NCSA licence); an index "
        "cannot be traded at its quotes.",
        "Stamped at midnight UTC of the trading day; the session itself is 14:30 to 21:00 UTC "
        "(13:30 to 20:00 in summer).",
        "Close, not Adj Close; the volume is that of the listed shares.",
        *_repeated_open_notes(bars),
    ]
    bars.attrs = {"source": f"arch.data.{name}", "symbol": name, "notes": tuple(notes)}
    return bars


def _repeated_open_notes(bars: pd.DataFrame) -> list[str]:
    """States the share of opens that repeat the close before, where there is a stretch of them."""
    stretch = [text for text in describe_bars(bars).warnings if "exactly at the close" in text]
    if not stretch:
        return []
    is_repeat = (bars["open"] == bars["close"].shift(1)).iloc[1:]
    share = is_repeat.groupby(pd.DatetimeIndex(is_repeat.index).year).mean()
    by_year = ", ".join(f"{year}: {value:.0%}" for year, value in share.items() if value > 0.05)
    return [*stretch, f"Share of opens equal to the close before, years above 5 %: {by_year}."]


def _load_simulated() -> pd.DataFrame:
    """Simulates the sample; the same bars on every machine up to rounding."""
    bars = simulate_market(jax.random.key(0), SIMULATED_BARS).bars
    notes = (
        f"Simulated: simulate_market(jax.random.key(0), {SIMULATED_BARS}), whose true density, "
        "score and regimes are known; no real market.",
    )
    bars.attrs = {"source": "simulated", "symbol": "simulated", "notes": notes}
    return validate_bars(bars, source="simulated")
