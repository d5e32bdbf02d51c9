"""What bars are, and the strict check that a frame is one.

Bars are a frame with a UTC DatetimeIndex named `timestamp` (the bar's OPEN time), strictly
increasing, and float64 columns open, high, low, close and, where the venue gives it, volume.
Every refusal is one line that names the source, the column, the row and the value; row 0 is the
first bar, and the header of a file is not counted.
"""

import difflib
from typing import Any

import numpy as np
import pandas as pd

from densityjax._typing import NumpyArray

PRICE_COLUMNS = ("open", "high", "low", "close")
EXTRA_COLUMNS = ("turnover", "trades", "funding_rate", "open_interest")
MIN_ROWS = 2  # one bar has no return


class BarsError(ValueError):
    """Raised for bars that cannot be used; the message is one line."""


def validate_bars(bars: pd.DataFrame, *, source: str = "bars") -> pd.DataFrame:
    """Checks that a frame is usable bars, and says exactly what is wrong where it is not.

    Nothing is repaired here: `repair_bars` does that, and reports it. Gaps in time pass, and so
    does an unknown (NaN) volume; a volume that is NaN throughout counts as absent.

    Args:
      bars: frame of T bars; UTC DatetimeIndex of open times, prices in quote currency, volume in
        units of the base asset.
      source: what the messages call the frame, a file name for instance.

    Returns:
      The bars, with prices and volume as float64; the same object where they already are.

    Raises:
      BarsError: fewer than two rows; a column missing, repeated or not numeric; a price that is
        not finite or not positive; a high below, or a low above, another price of its bar; a
        negative or infinite volume; times that are not UTC, not sorted or not unique; or a close
        that never changes.
    """
    _check_columns(bars, source)
    _check_times(bars.index, source)
    columns = [*PRICE_COLUMNS, *(["volume"] if "volume" in bars.columns else [])]
    for column in columns:
        _check_numeric(bars, column, source)
    _check_prices(bars, source)
    if "volume" in columns:
        volume = bars["volume"].to_numpy(np.float64)
        _refuse_where(np.isinf(volume), bars, "volume", "is not finite", source)
        _refuse_where(volume < 0.0, bars, "volume", "is negative", source)
    if (bars["close"] == bars["close"].iloc[0]).all():
        raise BarsError(
            f"{source}: column 'close' is {bars['close'].iloc[0]} in all {len(bars)} rows; "
            "a constant price carries no information"
        )
    if all(bars[column].dtype == np.float64 for column in columns):
        return bars
    return bars.astype(dict.fromkeys(columns, np.float64))


def to_numbers(values: Any) -> NumpyArray:
    """Returns a column as [T] float64, NaN where a value is not a number."""
    return np.asarray(pd.to_numeric(values, errors="coerce"), np.float64)


def missing_column(name: str, present: list[str], source: str) -> BarsError:
    """Returns the error for an absent column, with the closest name that is there."""
    close = difflib.get_close_matches(name, [str(column).lower() for column in present], n=1)
    hint = f"; did you mean the column {close[0]!r}?" if close else ""
    listed = ", ".join(map(repr, present[:12])) or "none"
    return BarsError(f"{source}: column {name!r} is missing{hint} (columns: {listed})")


def row_label(bars: pd.DataFrame, row: int) -> str:
    """Returns 'row 3 (2024-01-02 00:00:00+00:00)' for a message."""
    return f"row {row} ({bars.index[row]})"


def _check_columns(bars: pd.DataFrame, source: str) -> None:
    if not isinstance(bars, pd.DataFrame):
        raise BarsError(f"{source}: expected a pandas DataFrame, got {type(bars).__name__}")
    present = [str(column) for column in bars.columns]
    for name in PRICE_COLUMNS:
        if name not in present:
            raise missing_column(name, present, source)
    repeated = sorted({name for name in present if present.count(name) > 1})
    if repeated:
        raise BarsError(f"{source}: column {repeated[0]!r} occurs {present.count(repeated[0])}x")
    if len(bars) < MIN_ROWS:
        rows = "no rows" if len(bars) == 0 else "1 row"
        raise BarsError(f"{source}: has {rows}; at least {MIN_ROWS} bars are needed")


def _check_times(index: Any, source: str) -> None:
    if not isinstance(index, pd.DatetimeIndex):
        raise BarsError(
            f"{source}: the index must be a DatetimeIndex of open times, got {index.dtype}"
        )
    if index.tz is None:
        raise BarsError(f"{source}: the index has no time zone; use bars.tz_localize('UTC')")
    if str(index.tz) not in ("UTC", "UTC+00:00"):
        raise BarsError(f"{source}: the index is in {index.tz}; use bars.tz_convert('UTC')")
    if index.hasnans:
        row = int(np.flatnonzero(index.isna())[0])
        raise BarsError(f"{source}: the timestamp of row {row} is missing")
    step = np.diff(index.asi8)
    if (step <= 0).any():
        row = int(np.flatnonzero(step <= 0)[0]) + 1
        fault = "repeats" if step[row - 1] == 0 else "is earlier than"
        raise BarsError(
            f"{source}: the timestamp of row {row} ({index[row]}) {fault} that of row {row - 1}"
            f" ({index[row - 1]}); times must increase strictly"
        )


def _check_numeric(bars: pd.DataFrame, column: str, source: str) -> None:
    dtype = bars[column].dtype
    if pd.api.types.is_numeric_dtype(dtype) and not pd.api.types.is_bool_dtype(dtype):
        return
    bad = np.isnan(to_numbers(bars[column])) & np.asarray(bars[column].notna())
    if bad.any():
        _refuse_where(bad, bars, column, "is not a number", source)
    raise BarsError(f"{source}: column {column!r} must be numeric, got {dtype}")


def _check_prices(bars: pd.DataFrame, source: str) -> None:
    prices = {name: bars[name].to_numpy(np.float64) for name in PRICE_COLUMNS}
    for name, price in prices.items():
        _refuse_where(~np.isfinite(price), bars, name, "is not finite", source)
        _refuse_where(price <= 0.0, bars, name, "is not positive", source)
    for name in ("low", "open", "close"):
        below = prices["high"] < prices[name]
        _refuse_where(below, bars, "high", f"is below the {name}", source, other=name)
    for name in ("open", "close"):
        above = prices["low"] > prices[name]
        _refuse_where(above, bars, "low", f"is above the {name}", source, other=name)


def _refuse_where(
    bad: NumpyArray, bars: pd.DataFrame, column: str, fault: str, source: str, other: str = ""
) -> None:
    """Raises for the first row where `bad` holds, and says how many more there are."""
    if not bad.any():
        return
    row = int(np.flatnonzero(bad)[0])
    value = bars[column].iloc[row]
    shown = value if isinstance(value, str) else float(value)
    than = f" {float(bars[other].iloc[row])}" if other else ""
    count = int(bad.sum())
    more = f" (and {count - 1} more rows)" if count > 1 else ""
    raise BarsError(
        f"{source}: column {column!r}, {row_label(bars, row)}: {shown!r} {fault}{than}{more}"
    )
