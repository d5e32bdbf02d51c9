"""The clocks of bars: when each bar of a timeframe opens, in milliseconds UTC since 1970.

Minutes, hours and days start at 1970; weeks start on Mondays; months have their own lengths. All
else asks the grid of opens and never adds a length to a time.
"""

import difflib

import numpy as np
import pandas as pd

from densityjax._typing import NumpyArray

MINUTE_MS = 60_000
DAY_MS = 1440 * MINUTE_MS
WEEK_MS = 7 * DAY_MS
MONDAY_MS = 4 * DAY_MS  # 1970-01-05, the first Monday
MONTH = "1M"
STEPS_MS = {
    **{f"{n}m": n * MINUTE_MS for n in (1, 3, 5, 15, 30)},
    **{f"{n}h": n * 60 * MINUTE_MS for n in (1, 2, 4, 6, 12)},
    "1d": DAY_MS,
    "1w": WEEK_MS,
}
TIMEFRAMES = (*STEPS_MS, MONTH)


def check_timeframe(timeframe: str) -> str:
    """Returns the timeframe, or raises `ValueError` naming it and those that there are."""
    if timeframe in TIMEFRAMES:
        return timeframe
    near = difflib.get_close_matches(str(timeframe), TIMEFRAMES, n=1, cutoff=0.4)
    hint = f" (did you mean {near[0]!r}?)" if near else ""
    raise ValueError(f"timeframe is {timeframe!r}{hint}: accepted are {', '.join(TIMEFRAMES)}")


def floor_open(timeframe: str, time_ms: int) -> int:
    """Returns the open of the bar that holds a time, both in ms since 1970."""
    if timeframe == MONTH:
        month = np.datetime64(int(time_ms), "ms").astype("datetime64[M]")
        return int(month.astype("datetime64[ms]").astype(np.int64))
    step, offset = _grid(timeframe)
    return (int(time_ms) - offset) // step * step + offset


def next_open(timeframe: str, open_ms: int) -> int:
    """Returns the open after a given one, which is the close of its bar, in ms since 1970."""
    if timeframe == MONTH:
        month = np.datetime64(int(open_ms), "ms").astype("datetime64[M]") + 1
        return int(month.astype("datetime64[ms]").astype(np.int64))
    return int(open_ms) + _grid(timeframe)[0]


def opens_between(timeframe: str, start_ms: int, stop_ms: int) -> NumpyArray:
    """Returns every open in a half-open span of time.

    Args:
      timeframe: name of the clock, such as "1h".
      start_ms: first time of the span, ms since 1970.
      stop_ms: end of the span, ms since 1970, not in it.

    Returns:
      [T] int64 increasing opens, ms since 1970.

    Raises:
      ValueError: the timeframe is unknown.
    """
    check_timeframe(timeframe)
    first = floor_open(timeframe, start_ms)
    if first < start_ms:
        first = next_open(timeframe, first)
    if timeframe == MONTH:
        start, stop = (
            np.datetime64(int(t), "ms").astype("datetime64[M]") for t in (first, stop_ms)
        )
        months = np.arange(start, stop + 1).astype("datetime64[ms]").astype(np.int64)
        return months[(months >= start_ms) & (months < stop_ms)]
    return np.arange(first, stop_ms, _grid(timeframe)[0], dtype=np.int64)


def missing_spans(timeframe: str, opens: NumpyArray, times: NumpyArray) -> list[tuple[int, int]]:
    """Returns the holes of a series as spans of time.

    Args:
      timeframe: name of the clock.
      opens: [T] increasing opens that could be there, ms since 1970.
      times: [N] increasing opens that are, ms since 1970.

    Returns:
      (start, stop) of each hole, ms since 1970: the open of its first missing bar, and the close
      of its last.
    """
    is_missing = ~np.isin(opens, times)
    edges = np.flatnonzero(np.diff(np.concatenate([[0], is_missing.astype(np.int8), [0]])))
    pairs = edges.reshape(-1, 2)
    return [(int(opens[a]), next_open(timeframe, int(opens[b - 1]))) for a, b in pairs]


def to_ms(time: str | int | pd.Timestamp, *, name: str) -> int:
    """Returns a time in ms since 1970; text and stamps without a zone are UTC, integers are ms.

    Args:
      time: ISO 8601 text, a stamp, or ms since 1970.
      name: what the message calls it.

    Returns:
      Milliseconds since 1970, rounded down.

    Raises:
      ValueError: the time cannot be read.
    """
    if isinstance(time, int | np.integer) and not isinstance(time, bool):
        return int(time)
    try:
        stamp = pd.Timestamp(time)
    except (ValueError, TypeError):
        stamp = pd.NaT
    if not isinstance(stamp, pd.Timestamp):
        raise ValueError(f"{name} is {time!r}: accepted is an ISO 8601 time such as 2022-01-31")
    stamp = stamp.tz_localize("UTC") if stamp.tz is None else stamp.tz_convert("UTC")
    return int(stamp.as_unit("ns").value // 10**6)


def stamps_ms(index: pd.Index) -> NumpyArray:
    """Returns the times of an index of stamps, [T] int64 ms since 1970."""
    return pd.DatetimeIndex(index).as_unit("ms").asi8


def show_ms(time_ms: int) -> str:
    """Returns a time as text, such as 2022-01-31 13:00."""
    return pd.Timestamp(int(time_ms), unit="ms").strftime("%Y-%m-%d %H:%M")


def _grid(timeframe: str) -> tuple[int, int]:
    """Returns the step and the offset of a clock of equal steps, in ms."""
    check_timeframe(timeframe)
    return STEPS_MS[timeframe], MONDAY_MS if timeframe == "1w" else 0
