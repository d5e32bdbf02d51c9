"""Which missing bars are a gap, and which a market that was closed.

Time is cut into slots of one bar, and each slot of the week is looked up in the weeks around it:

1. A bar is EXPECTED where its slot of the week has a bar in most of the four weeks before and in
   most of the four after, and in one of the two next to it (weeks without any bar left out).
   Nights, weekends and the hour that daylight saving moves fail on a side. Files under three
   weeks use the other days instead. Where every slot of the week has a bar in most weeks the
   market never closes, and every bar is expected.
2. A hole that lacks no expected bar is a closed session.
3. In a market that closes for a day or more every week, a hole is a holiday and no gap if it
   lasts ten days at most and either is a whole day long or shortens a session by two hours or
   more. A lost weekday of such a market therefore counts as a holiday: the file alone cannot tell.

Every other hole is a gap.
"""

from typing import NamedTuple

import numpy as np
import pandas as pd

from densityjax._typing import NumpyArray

NANOSECONDS = 1_000_000_000  # in a second
DAY_SECONDS = 86_400
WEEK_SECONDS = 7 * DAY_SECONDS
NUM_REFERENCE_WEEKS = 4  # weeks asked on each side: enough to outvote a holiday
MIN_WEEKS = 3  # fewer say nothing about a slot of the week
SHORT_SESSION_SECONDS = 2 * 3_600  # half days close two to four hours early
MAX_HOLIDAY_SECONDS = 10 * DAY_SECONDS  # the longest holidays of exchanges, weekends included
MIN_REGULAR_SHARE = 0.5  # share of steps equal to the interval, below which bars follow no clock


class Holes(NamedTuple):
    """The G places of an index where bars are missing, and the M bars that gaps lack.

    Attributes:
      row: [G] row of the bar before the hole.
      seconds: [G] time from the bar before to the bar after.
      num_missing: [G] expected bars that are missing; 0 in a closed session.
      is_gap: [G] True for a gap, False for a closed session or a holiday.
      is_holiday: [G] True where expected bars are missing but rule 3 takes the market as closed.
      missing: [M] stamps of the expected bars of all gaps, in order of time, ns since 1970.
      missing_hole: [M] which of the G holes each of them belongs to.
      interval_seconds: step of the bars.
      is_regular: False where bars follow no clock (trade or volume bars); then G is 0.
      closes_weekly: True where the market closes for a day or more every week.
    """

    row: NumpyArray
    seconds: NumpyArray
    num_missing: NumpyArray
    is_gap: NumpyArray
    is_holiday: NumpyArray
    missing: NumpyArray
    missing_hole: NumpyArray
    interval_seconds: float
    is_regular: bool
    closes_weekly: bool


def median_step(index: pd.DatetimeIndex) -> float:
    """Returns the median step between bars in seconds, the lower one of two middle steps."""
    steps = np.sort(np.diff(index.as_unit("ns").asi8))
    return float(steps[(len(steps) - 1) // 2]) / NANOSECONDS


def find_holes(index: pd.DatetimeIndex, *, interval_seconds: float | None = None) -> Holes:
    """Finds where bars are missing, and tells gaps from closed sessions.

    Args:
      index: [T] strictly increasing open times, T at least 2.
      interval_seconds: step of the bars; the median step where None.

    Returns:
      The `Holes`, by the rules of this module. Bars longer than a day, and steps that do not
      divide a week, know no sessions: all their holes are gaps.
    """
    interval = median_step(index) if interval_seconds is None else float(interval_seconds)
    stamps = index.as_unit("ns").asi8
    steps = np.diff(stamps)
    is_regular = (
        interval_seconds is not None
        or interval >= DAY_SECONDS
        or bool(np.mean(steps == round(interval * NANOSECONDS)) >= MIN_REGULAR_SHARE)
    )
    slot, by_clock = _slots(stamps, interval)
    row = np.flatnonzero(np.diff(slot) > 1) if is_regular else np.zeros(0, np.int64)
    length = np.diff(slot)[row] - 1  # slots in each hole
    first = slot[row] - slot[0] + 1
    if len(row) and by_clock:
        expected = _expected_slots(slot, round(WEEK_SECONDS / interval))
    else:
        expected = np.ones(slot[-1] - slot[0] + 1 if len(row) else 0, bool)
    count = np.append(0, np.cumsum(expected))  # expected bars before each slot
    num_missing = count[first + length] - count[first]
    closes_weekly = longest_run(~expected) * interval >= DAY_SECONDS
    seconds = steps[row] / NANOSECONDS
    is_short = (num_missing < length) & (num_missing * interval >= SHORT_SESSION_SECONDS)
    is_closed = (is_short | (length * interval >= DAY_SECONDS)) & (seconds <= MAX_HOLIDAY_SECONDS)
    is_holiday = closes_weekly & (num_missing > 0) & is_closed
    is_gap = (num_missing > 0) & ~is_holiday
    offsets = [
        stamps[row[hole]]
        + np.round(
            (1 + np.flatnonzero(expected[first[hole] : first[hole] + length[hole]]))
            * (interval * NANOSECONDS)
        ).astype(np.int64)
        for hole in np.flatnonzero(is_gap)
    ]
    return Holes(
        row,
        seconds,
        num_missing,
        is_gap,
        is_holiday,
        missing=np.concatenate([np.zeros(0, np.int64), *offsets]),
        missing_hole=np.repeat(np.flatnonzero(is_gap), num_missing[is_gap]),
        interval_seconds=interval,
        is_regular=is_regular,
        closes_weekly=bool(closes_weekly),
    )


def _slots(stamps: NumpyArray, interval: float) -> tuple[NumpyArray, bool]:
    """Returns the slot number of each bar, and whether slots are those of the clock.

    Bars up to a day take the slot of the clock they fall into, so that daylight saving moves no
    daily bar out of its day. Longer ones (weeks, months) are counted in rounded steps.
    """
    step = round(interval * NANOSECONDS)
    if interval <= DAY_SECONDS and WEEK_SECONDS * NANOSECONDS % step == 0:
        return stamps // step, True
    steps = np.maximum(1, np.round(np.diff(stamps) / step)).astype(np.int64)
    return np.append(0, np.cumsum(steps)), False


def _expected_slots(slot: NumpyArray, num_slots: int) -> NumpyArray:
    """Returns whether a bar is expected in each slot from the first bar's to the last's."""
    start = slot[0] // num_slots * num_slots  # first slot of the first week
    num_weeks = (slot[-1] - start) // num_slots + 1
    present = np.zeros(num_weeks * num_slots, bool)
    present[slot - start] = True
    inside = np.zeros_like(present)
    inside[slot[0] - start : slot[-1] - start + 1] = True
    weeks = present.reshape(num_weeks, num_slots)
    used = np.flatnonzero(weeks.any(axis=1))
    if len(used) >= MIN_WEEKS:
        expected = _by_weeks(weeks, inside.reshape(weeks.shape), used).ravel()
    elif num_slots % 7 == 0:
        expected = _by_days(present, inside, num_slots // 7, start)
    else:
        expected = inside
    return expected[inside]


def _by_weeks(present: NumpyArray, inside: NumpyArray, used: NumpyArray) -> NumpyArray:
    """Applies rule 1 to [W, S] weeks by slots; `used` are the weeks that have a bar."""
    if (2 * present[used].sum(axis=0) > inside[used].sum(axis=0)).all():
        return inside
    week = np.arange(len(present))
    left, right = np.searchsorted(used, week, "left"), np.searchsorted(used, week, "right")
    num_present, num_inside = (
        np.pad(np.cumsum(table[used], axis=0, dtype=np.int32), ((1, 0), (0, 0)))
        for table in (present, inside)
    )

    def most(start: NumpyArray, stop: NumpyArray) -> NumpyArray:
        asked = num_inside[stop] - num_inside[start]
        return (asked == 0) | (2 * (num_present[stop] - num_present[start]) > asked)

    before = most(np.maximum(left - NUM_REFERENCE_WEEKS, 0), left)
    after = most(right, np.minimum(right + NUM_REFERENCE_WEEKS, len(used)))
    just_before = num_present[left] > num_present[np.maximum(left - 1, 0)]
    just_after = num_present[np.minimum(right + 1, len(used))] > num_present[right]
    return before & after & (just_before | just_after)


def _by_days(present: NumpyArray, inside: NumpyArray, num_slots: int, start: int) -> NumpyArray:
    """Expects a time of day that most weekdays have, and apart from them most weekend days."""
    days, asked = present.reshape(-1, num_slots), inside.reshape(-1, num_slots)
    weekday = (start // num_slots + np.arange(len(days)) + 3) % 7  # 1970 began on a Thursday
    expected = np.zeros_like(days)
    for kind in (weekday < 5, weekday >= 5):
        expected[kind] = 2 * days[kind].sum(axis=0) > asked[kind].sum(axis=0)
    return expected.ravel()


def longest_run(mask: NumpyArray) -> int:
    """Returns the length of the longest run of True."""
    edges = np.flatnonzero(np.diff(np.concatenate([[0], mask.astype(np.int8), [0]])))
    return int((edges[1::2] - edges[::2]).max(initial=0))
