"""What a set of bars covers: span, step, gaps, annualisation, and what to be wary of.

`periods_per_year` comes from the timestamps, (n - 1) / (elapsed seconds / 31 536 000), a year of
365 days: 8760 for hourly bars that never stop, about 252 for daily bars of a stock exchange. The
count from the step alone, 31 536 000 / step, is given beside it.
"""

from typing import NamedTuple, cast

import numpy as np
import pandas as pd

from densityjax._typing import NumpyArray
from densityjax.market.sessions import DAY_SECONDS, NANOSECONDS, Holes, find_holes

YEAR_SECONDS = 365 * DAY_SECONDS
MIN_SPAN_DAYS = {"daily": 365, "intraday": 182}  # a year, half a year
LONG_GAP_SECONDS = 30 * DAY_SECONDS
ANNUALISATION_SHARE = 0.05  # how far the two counts of bars per year may be apart unmentioned
STALE_WINDOW = 120  # opens of sessions looked at together, about half a year of days
STALE_SHARE = 0.8  # share of them equal to the close before that means no open was recorded


class BarsDescription(NamedTuple):
    """What a set of bars covers.

    Attributes:
      num_bars: number of bars.
      start: open time of the first bar, UTC.
      end: open time of the last bar, UTC.
      span_days: time from the first to the last open, in days of 24 hours.
      interval_seconds: median step between bars.
      num_gaps: places where bars are missing while the market was open.
      num_missing_bars: bars missing in all gaps together.
      largest_gap_seconds: longest time from the bar before a gap to the bar after; 0 without one.
      num_holidays: places where bars are missing and the market is taken to have been closed.
      periods_per_year: bars per year of 365 days, from the timestamps.
      periods_per_year_by_interval: bars per year if the market never closed.
      has_volume: True where at least one bar has a volume above zero.
      warnings: sentences for a person, most important first; empty where all is well.
    """

    num_bars: int
    start: pd.Timestamp
    end: pd.Timestamp
    span_days: float
    interval_seconds: float
    num_gaps: int
    num_missing_bars: int
    largest_gap_seconds: float
    num_holidays: int
    periods_per_year: float
    periods_per_year_by_interval: float
    has_volume: bool
    warnings: tuple[str, ...]


def periods_per_year(index: pd.Index) -> float:
    """Computes bars per year from timestamps, (n - 1) / (elapsed seconds / 31 536 000).

    Args:
      index: [T] strictly increasing open times, T at least 2; naive times count as UTC.

    Returns:
      Bars per year of 365 days.

    Raises:
      ValueError: an index that holds no times, fewer than two of them, a missing one, or times
        that do not increase strictly.
    """
    if not isinstance(index, pd.DatetimeIndex):
        raise ValueError(f"index must be a DatetimeIndex, got {type(index).__name__}")
    if len(index) < 2:
        raise ValueError(f"index must hold at least 2 times, got {len(index)}")
    if index.hasnans or not (index.is_monotonic_increasing and index.is_unique):
        raise ValueError("index must increase strictly: it has missing, equal or unsorted times")
    return (len(index) - 1) * YEAR_SECONDS / _span_seconds(index)


def describe_bars(bars: pd.DataFrame) -> BarsDescription:
    """Describes bars, and warns of what would mislead a fit.

    Closed sessions (nights, weekends, holidays) are told from gaps by `market.sessions`.

    Args:
      bars: frame of T bars that `validate_bars` accepts.

    Returns:
      The `BarsDescription`.

    Raises:
      ValueError: the index holds no times, fewer than two, or times that do not increase.
    """
    per_year = periods_per_year(bars.index)
    index = pd.DatetimeIndex(bars.index)
    holes = find_holes(index)
    volume = bars["volume"].to_numpy(np.float64) if "volume" in bars else np.zeros(0)
    partial = BarsDescription(
        num_bars=len(bars),
        start=cast(pd.Timestamp, index[0]),
        end=cast(pd.Timestamp, index[-1]),
        span_days=_span_seconds(index) / DAY_SECONDS,
        interval_seconds=holes.interval_seconds,
        num_gaps=int(holes.is_gap.sum()),
        num_missing_bars=int(holes.num_missing[holes.is_gap].sum()),
        largest_gap_seconds=float(holes.seconds[holes.is_gap].max(initial=0.0)),
        num_holidays=int(holes.is_holiday.sum()),
        periods_per_year=per_year,
        periods_per_year_by_interval=YEAR_SECONDS / holes.interval_seconds,
        has_volume=bool((volume > 0.0).any()),
        warnings=(),
    )
    warnings = [
        *_span_warnings(partial),
        *_gap_warnings(partial, holes, index),
        *_volume_warnings(volume),
        *_stale_open_warnings(bars, holes),
    ]
    return partial._replace(warnings=tuple(warnings))


def _span_seconds(index: pd.DatetimeIndex) -> float:
    """Returns the time from the first to the last stamp in seconds."""
    stamps = index.as_unit("ns").asi8
    return float(stamps[-1] - stamps[0]) / NANOSECONDS


def _span_warnings(found: BarsDescription) -> list[str]:
    """Warns of a span too short to have seen several kinds of market."""
    kind = "daily" if found.interval_seconds >= DAY_SECONDS else "intraday"
    if found.span_days >= MIN_SPAN_DAYS[kind]:
        return []
    return [
        f"The bars span {found.span_days:.0f} days; {kind} bars need at least "
        f"{MIN_SPAN_DAYS[kind]}, and two years are better."
    ]


def _gap_warnings(found: BarsDescription, holes: Holes, index: pd.DatetimeIndex) -> list[str]:
    """Warns of bars without a clock, long gaps, and two counts of bars per year that differ."""
    if not holes.is_regular:
        return [
            "The steps between bars are irregular, so gaps cannot be counted; the median step is "
            f"{found.interval_seconds:g} seconds."
        ]
    warnings = []
    if found.largest_gap_seconds > LONG_GAP_SECONDS:
        row = holes.row[holes.is_gap & (holes.seconds == found.largest_gap_seconds)][0]
        days = found.largest_gap_seconds / DAY_SECONDS
        warnings.append(f"No bar for {days:.0f} days after {index[row]}.")
    ratio = found.periods_per_year / found.periods_per_year_by_interval
    if abs(ratio - 1.0) > ANNUALISATION_SHARE:
        why = (
            "the market closes, which is as it should be"
            if not found.num_gaps
            else f"the market closes, and {found.num_missing_bars} bars are missing in gaps"
            if holes.closes_weekly or len(holes.row) > found.num_gaps
            else f"{found.num_missing_bars} bars are missing in gaps"
        )
        warnings.append(
            f"{found.periods_per_year:.0f} bars a year by the timestamps and "
            f"{found.periods_per_year_by_interval:.0f} by the step alone: {why}. The timestamps "
            "are used."
        )
    return warnings


def _volume_warnings(volume: NumpyArray) -> list[str]:
    """Warns of volume that says nothing, or that is unknown in places."""
    if not len(volume) or np.isnan(volume).all():
        return ["There is no volume; features that need it are left out."]
    if not (volume > 0.0).any():
        return ["The volume is zero throughout; features that need it are left out."]
    unknown = int(np.isnan(volume).sum())
    return [f"The volume is unknown in {unknown} of {len(volume)} bars."] if unknown else []


def _stale_open_warnings(bars: pd.DataFrame, holes: Holes) -> list[str]:
    """Warns of a long stretch of sessions that open exactly at the close before."""
    if not holes.closes_weekly:  # where trading never stops, the next open is the last price
        return []
    first = np.arange(1, len(bars))
    if holes.interval_seconds < DAY_SECONDS:
        first = holes.row + 1  # bars that open a session
    opens, closes = bars["open"].to_numpy(), bars["close"].to_numpy()
    is_stale = opens[first] == closes[first - 1]
    if len(first) < STALE_WINDOW:
        return []
    count = np.convolve(is_stale, np.ones(STALE_WINDOW), "valid")
    windows = np.flatnonzero(count >= STALE_SHARE * STALE_WINDOW)
    if not len(windows):
        return []
    stretches = np.split(windows, np.flatnonzero(np.diff(windows) > STALE_WINDOW) + 1)
    longest = max(stretches, key=lambda stretch: stretch[-1] - stretch[0])
    rows = first[longest[0] : longest[-1] + STALE_WINDOW]
    rows = rows[is_stale[longest[0] : longest[-1] + STALE_WINDOW]]
    return [
        f"Between {bars.index[rows[0]]:%Y-%m-%d} and {bars.index[rows[-1]]:%Y-%m-%d} most "
        "sessions open exactly at the close before: their opens were not recorded, so overnight "
        "moves sit inside the bars and fills at the open are too good."
    ]
