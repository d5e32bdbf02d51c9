"""Open times of bars, from the spellings that files use, to one UTC DatetimeIndex.

Numbers are seconds, milliseconds, microseconds or nanoseconds since 1970 (told apart by their
size) or dates written YYYYMMDD. Text is ISO 8601. Times with a zone are converted to UTC; times
without one are taken as UTC. A file that mixes zones, or times with and without one, is refused.
"""

import numpy as np
import pandas as pd

from densityjax.market.validation import BarsError

# Epoch numbers by size: each unit covers the years 1973 to 5138, and the ranges do not meet.
EPOCH_UNITS = (("s", 1e8, 1e11), ("ms", 1e11, 1e14), ("us", 1e14, 1e17), ("ns", 1e17, 1e20))
DATE_NUMBERS = (19000101, 21001231)  # the numbers that read as a date written YYYYMMDD
ZONE_PATTERN = r"(?:\d\d:?\d\d(?::?\d\d(?:\.\d+)?)?)\s?(Z|UTC|GMT|[+-]\d\d(?::?\d\d)?)$"


def parse_times(values: pd.Series, *, source: str = "bars") -> pd.DatetimeIndex:
    """Converts a column of open times to a UTC index named `timestamp`.

    Args:
      values: [T] times: integers or floats since 1970, YYYYMMDD numbers, ISO 8601 text, or
        datetimes with or without a zone.
      source: what the messages call the file.

    Returns:
      The times as a [T] UTC DatetimeIndex, in the order given and in the unit that pandas gives
      its own indexes, or in nanoseconds where a time needs them.

    Raises:
      BarsError: a time that is missing or cannot be read, numbers of no or of mixed units, or
        mixed time zones; the message names the row and the value.
    """
    values = values.reset_index(drop=True)
    if values.isna().any():
        row = int(np.flatnonzero(values.isna())[0])
        raise BarsError(f"{source}: the timestamp of row {row} is missing")
    if isinstance(values.dtype, pd.DatetimeTZDtype):
        times = pd.DatetimeIndex(values).tz_convert("UTC")
    elif pd.api.types.is_datetime64_dtype(values.dtype):
        times = pd.DatetimeIndex(values).tz_localize("UTC")
    elif pd.api.types.is_bool_dtype(values.dtype):
        raise BarsError(f"{source}: the time column holds {values.dtype} values, not times")
    elif pd.api.types.is_numeric_dtype(values.dtype):
        times = _from_numbers(values, source)
    else:
        times = _from_text(values.astype(str).str.strip(), source)
    try:
        return _in_usual_unit(times.as_unit("ns")).rename("timestamp")
    except (ValueError, OverflowError) as error:
        raise BarsError(f"{source}: a time is out of range: {error}") from None


def _in_usual_unit(times: pd.DatetimeIndex) -> pd.DatetimeIndex:
    """Returns the times in the unit of `pd.date_range`, where that loses nothing."""
    usual = times.as_unit(pd.date_range("2000-01-01", periods=1).unit)
    return usual if (usual.as_unit("ns") == times).all() else times


def _from_numbers(values: pd.Series, source: str) -> pd.DatetimeIndex:
    low, high = float(values.min()), float(values.max())
    if low >= DATE_NUMBERS[0] and high <= DATE_NUMBERS[1]:
        return _from_text(values.astype("int64").astype(str), source)
    for unit, least, most in EPOCH_UNITS:
        if least <= low and high < most:
            times = pd.to_datetime(values, unit=unit, utc=True)
            return pd.DatetimeIndex(times)
    raise BarsError(
        f"{source}: times from {low:.15g} to {high:.15g} are not all seconds, milliseconds, "
        "microseconds or nanoseconds since 1970"
    )


def _from_text(text: pd.Series, source: str) -> pd.DatetimeIndex:
    plain = text.str.replace(r"\s?(UTC|GMT)$", "", regex=True)
    plain = plain.str.replace(r"^(\d{4})[./](\d\d)[./](\d\d)", r"\1-\2-\3", regex=True)
    times = pd.to_datetime(plain, format="ISO8601", utc=True, errors="coerce")
    if times.isna().any():
        row = int(np.flatnonzero(times.isna())[0])
        raise BarsError(
            f"{source}: the timestamp of row {row}, {text.iloc[row]!r}, is not an ISO 8601 time "
            "such as 2024-01-31 or 2024-01-31T13:00:00Z"
        )
    _refuse_mixed_zones(text, source)
    return pd.DatetimeIndex(times)


def _refuse_mixed_zones(text: pd.Series, source: str) -> None:
    """Raises for the first time whose zone, or lack of one, differs from that of row 0."""
    zones = text.str.extract(ZONE_PATTERN, expand=False).fillna("none")
    zones = zones.str.replace(":", "", regex=False)
    zones = zones.where(~zones.isin(["Z", "UTC", "GMT", "+00", "-0000"]), "+0000")
    other = (zones != zones.iloc[0]).to_numpy()
    if other.any():
        row = int(np.flatnonzero(other)[0])
        raise BarsError(
            f"{source}: mixed time zones: row 0 is {text.iloc[0]!r} and row {row} is "
            f"{text.iloc[row]!r}; write all times in UTC"
        )
