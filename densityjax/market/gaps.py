"""Whether bars are missing before a bar, told from the bars before it alone.

`sessions.find_holes` looks at a whole file, weeks ahead included; features and returns may not.
The rule here is its causal twin. The clock is the median of the first 61 steps. A bar is EXPECTED
in a slot of the week that had one in the last week with bars, and in most of the last four. Then

1. a hole that lacks no expected bar is a closed session;
2. one that also spans a closed session, and lacks an hour at most, is daylight saving;
3. in a market that closes for a day or more every week, a hole of ten days at most is a holiday
   if it is a whole day long or shortens a session by two hours or more;
4. until the first bar is a week back nothing is expected yet: a hole is a gap if it is shorter
   than a closed night or longer than ten days.

Every other hole is a gap, and no return is counted across it. A lost week of a market that closes
weekly thus passes for a holiday: the bars before it cannot tell. Bars longer than a day know no
sessions: all their holes are gaps. Trade or volume bars follow no clock and have none.
"""

from typing import NamedTuple

import numpy as np

from densityjax._typing import NumpyArray
from densityjax.market.sessions import (
    DAY_SECONDS,
    MAX_HOLIDAY_SECONDS,
    MIN_REGULAR_SHARE,
    NUM_REFERENCE_WEEKS,
    SHORT_SESSION_SECONDS,
    WEEK_SECONDS,
    longest_run,
)

CLOCK_STEPS = 61  # steps that set the clock, as many as the longest window looks back on
SHIFT_SECONDS = 3_600  # what daylight saving moves a session by
NIGHT_SECONDS = DAY_SECONDS // 2  # closed nights are longer, breaks within a session are shorter


class GapState(NamedTuple):
    """What judging the next bar needs.

    Attributes:
      start: the first stamps, `CLOCK_STEPS + 1` at most, whole seconds since 1970.
      recent: the stamps of the four weeks before the last bar, with the last one itself.
    """

    start: NumpyArray
    recent: NumpyArray


def init_gaps() -> GapState:
    """Returns the state before the first bar."""
    return GapState(np.zeros(0, np.int64), np.zeros(0, np.int64))


def find_gaps(seconds: NumpyArray, state: GapState | None = None) -> tuple[NumpyArray, GapState]:
    """Tells for each bar whether bars are missing between the bar before and it.

    Args:
      seconds: [T] opening times, whole seconds since 1970 UTC, strictly increasing, after those
        of `state`.
      state: what an earlier call handed back; None at the start of a series.

    Returns:
      [T] True after a gap, False for the first bar of a series; and the state after the last bar.
      Cutting the rows into several calls changes nothing.
    """
    state = init_gaps() if state is None else state
    num_known = state.recent.size
    stamps = np.concatenate([state.recent, seconds])
    start = np.concatenate([state.start, seconds[: CLOCK_STEPS + 1 - state.start.size]])
    is_gap = np.zeros(stamps.size, bool)
    slots: dict[int, NumpyArray] = {}  # of all stamps, by the clock that numbers them
    steps = np.diff(stamps)
    smallest = np.diff(start).min(initial=np.iinfo(np.int64).max)
    for row in 1 + np.flatnonzero(steps > smallest):  # the others cannot have a hole before them
        if row < num_known:
            continue
        num_steps = max(1, np.searchsorted(start, stamps[row]))
        interval = _clock(np.diff(start[: num_steps + 1]))
        if interval and interval not in slots:
            slots[interval] = stamps // interval
        if interval:
            seconds_off = int(steps[row - 1])
            is_gap[row] = _is_gap(slots[interval], int(row), interval, seconds_off, int(start[0]))
    last_weeks = stamps[-1:] - NUM_REFERENCE_WEEKS * WEEK_SECONDS
    recent = stamps[np.searchsorted(stamps, last_weeks[0]) :] if stamps.size else stamps
    return is_gap[num_known:], GapState(start, recent)


def _clock(steps: NumpyArray) -> int:
    """Returns the lower median step in seconds, or 0 where bars follow no clock."""
    ordered = np.sort(steps)
    interval = int(ordered[(ordered.size - 1) // 2])
    is_regular = interval >= DAY_SECONDS or np.mean(steps == interval) >= MIN_REGULAR_SHARE
    return interval if is_regular else 0


def _is_gap(slot: NumpyArray, row: int, interval: int, seconds: int, start: int) -> bool:
    """Judges the step of `seconds` into one row; `start` is the first stamp of the series."""
    if interval > DAY_SECONDS or WEEK_SECONDS % interval:
        return round(seconds / interval) > 1
    length = int(slot[row] - slot[row - 1]) - 1
    if length < 1:
        return False
    first, num_slots = start // interval, WEEK_SECONDS // interval
    if (int(slot[row - 1]) - first) * interval < WEEK_SECONDS:
        return length * interval < NIGHT_SECONDS or seconds > MAX_HOLIDAY_SECONDS
    ahead = np.arange(1, num_slots + 1)
    num_missing = int(_expected(slot[:row], first, num_slots, ahead[:length]).sum())
    spans_session = num_missing < length
    if num_missing == 0 or (spans_session and num_missing * interval <= SHIFT_SECONDS):
        return False
    is_short = spans_session and num_missing * interval >= SHORT_SESSION_SECONDS
    is_closed = (is_short or length * interval >= DAY_SECONDS) and seconds <= MAX_HOLIDAY_SECONDS
    if not is_closed:
        return True
    expected = _expected(slot[:row], first, num_slots, ahead)
    return longest_run(np.tile(~expected, 2)) * interval < DAY_SECONDS  # never closes for a day


def _expected(slot: NumpyArray, first: int, num_slots: int, ahead: NumpyArray) -> NumpyArray:
    """Returns whether a bar is expected `ahead` slots after the last of `slot`, at most a week."""
    last = slot[-1]
    back = num_slots * np.arange(1, NUM_REFERENCE_WEEKS + 1)[:, None]
    asked = last + ahead - back  # the same slot of the week, one to four weeks ago
    place = np.minimum(np.searchsorted(slot, asked), slot.size - 1)
    present, inside = slot[place] == asked, asked >= first
    edges = np.searchsorted(slot, last - np.append(0, back), side="right")
    used = (edges[:-1] > edges[1:])[:, None]  # weeks that have a bar; the newest has the last one
    return present[0] & (2 * (present & used).sum(axis=0) > (inside & used).sum(axis=0))
