"""Whether bars are missing before a bar, told from the bars before it alone.

`sessions.find_holes` looks at a whole file, weeks ahead included; features and returns may not.
The rule here is its causal twin. The clock is the median of the first 61 steps. A bar is EXPECTED
in a slot of the week that had one in the last week with bars, and in most of the last four. Then

1. a hole that lacks no expected bar is a closed session;
2. one that also spans a closed session, and lacks an hour at most, is daylight saving;
3. in a market that closes for a day or more every week, a hole of ten days at most is a holiday
   if it is a whole day long or shortens a session by two hours or more;
4. until the first bar is a week back nothing is expected yet: only a hole shorter than a closed
   night is a gap.

Every other hole is a gap, and no return is counted across it. Bars longer than a day know no
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
    steps = np.diff(stamps)
    smallest = np.diff(start).min(initial=np.iinfo(np.int64).max)
    for row in 1 + np.flatnonzero(steps > smallest):  # the others cannot have a hole before them
        if row >= num_known:
            num_steps = max(1, np.searchsorted(start, stamps[row]))
            is_gap[row] = _is_gap(stamps, int(row), start[: num_steps + 1])
    last_weeks = stamps[-1:] - NUM_REFERENCE_WEEKS * WEEK_SECONDS
    recent = stamps[np.searchsorted(stamps, last_weeks[0]) :] if stamps.size else stamps
    return is_gap[num_known:], GapState(start, recent)


def _is_gap(stamps: NumpyArray, row: int, start: NumpyArray) -> bool:
    """Judges the step into one row, given the first stamps of the series up to that row."""
    steps = np.sort(np.diff(start))
    interval = int(steps[(steps.size - 1) // 2])
    if interval < DAY_SECONDS and np.mean(steps == interval) < MIN_REGULAR_SHARE:
        return False  # no clock
    seconds = int(stamps[row] - stamps[row - 1])
    if interval > DAY_SECONDS or WEEK_SECONDS % interval:
        return round(seconds / interval) > 1
    length = int(stamps[row] // interval - stamps[row - 1] // interval) - 1
    if length < 1:
        return False
    if stamps[row - 1] - start[0] < WEEK_SECONDS:
        return length * interval < NIGHT_SECONDS
    expected = _expected(stamps[:row] // interval, int(start[0] // interval), interval)
    missing = expected[np.arange(1, min(length, expected.size) + 1) % expected.size]
    num_missing = int(missing.sum())
    spans_session = num_missing < length
    if num_missing == 0 or (spans_session and num_missing * interval <= SHIFT_SECONDS):
        return False
    is_short = spans_session and num_missing * interval >= SHORT_SESSION_SECONDS
    is_closed = (is_short or length * interval >= DAY_SECONDS) and seconds <= MAX_HOLIDAY_SECONDS
    closes_weekly = longest_run(np.tile(~expected, 2)) * interval >= DAY_SECONDS
    return not (closes_weekly and is_closed)


def _expected(slot: NumpyArray, first: int, interval: int) -> NumpyArray:
    """Returns whether a bar is expected 0, 1, .. slots after the last of `slot`, modulo a week."""
    num_slots = WEEK_SECONDS // interval
    age = slot[-1] - slot[slot > slot[-1] - NUM_REFERENCE_WEEKS * num_slots]
    present = np.zeros(NUM_REFERENCE_WEEKS * num_slots, bool)
    present[age] = True
    inside = np.arange(present.size) <= slot[-1] - first
    weeks, asked = (x.reshape(NUM_REFERENCE_WEEKS, num_slots) for x in (present, inside))
    used = weeks.any(axis=1)  # the newest week always is: it holds the last bar
    is_expected = weeks[0] & (2 * weeks[used].sum(axis=0) > asked[used].sum(axis=0))
    return np.roll(is_expected[::-1], 1)  # `age` counts backwards in time
