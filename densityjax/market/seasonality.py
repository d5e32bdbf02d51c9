"""Calendar features of intraday bars: the clock, and how volatile the next bar tends to be.

Bar `t` sits in a slot of the day and in a slot of the week, given by its opening time. What is
learned for a slot is the size of the move of the FOLLOWING bar, `z_{t+1} = |l_{t+1}| / sigma_t`,
so that the last bar of a session learns about the overnight gap and the last one of a week about
the weekend, whatever the calendar of the market. Only moves that are past by then are used.
"""

from typing import NamedTuple

import numpy as np
from scipy import signal

from densityjax.market.bar_arrays import DAY
from densityjax.market.rolling import EwmaState, ewma, halflife_to_alpha

WEEK, HOUR = 7 * DAY, 3_600  # seconds
MONDAY = 3 * DAY  # 1 January 1970 was a Thursday: this makes weeks begin on Monday
DAY_HALFLIFE = 20.0  # visits of a slot of the day: a month of trading days
WEEK_HALFLIFE = 12.0  # visits of a slot of the week, times the bars of an hour: a quarter
AVERAGE_HALFLIFE = 500.0  # bars, for the mean over all slots
PRIOR_VISITS = 5.0  # a new slot counts as having seen this many average moves
LARGEST_MOVE = 10.0  # sd; one jump cannot rule a slot for months
SMALLEST_MOVE = 0.01  # sd, beside the mean move: flat prices give a ratio of one

NAMES = (
    "sin_day",
    "cos_day",
    "sin_week",
    "cos_week",
    "day_slot_log_ratio",
    "week_slot_log_ratio",
)


class SlotProfile(NamedTuple):
    """Weighted sums of moves (row 0) and of weights (row 1) of every slot, each [2, slots].

    Attributes:
      sums: the sums after the last move of each slot.
      memory: the same as the filter carries them, aged by one visit.
    """

    sums: np.ndarray
    memory: np.ndarray


class CalendarState(NamedTuple):
    """What the next bar's calendar features need.

    Attributes:
      bar_seconds: typical step between bars, seconds.
      last_second: opening time of the last bar, or None before the first.
      average: mean move over all slots.
      day: profile by time of day.
      week: profile by hour of week.
    """

    bar_seconds: int
    last_second: int | None
    average: EwmaState | None
    day: SlotProfile
    week: SlotProfile


def init_calendar(bar_seconds: int) -> CalendarState:
    """Returns the state before the first bar, for bars of `bar_seconds` < one day."""

    def empty(num_slots: int) -> SlotProfile:
        return SlotProfile(np.zeros((2, num_slots)), np.zeros((2, num_slots)))

    num_slots = -(-DAY // bar_seconds)
    return CalendarState(bar_seconds, None, None, empty(num_slots), empty(WEEK // HOUR))


def _visit(
    profile: SlotProfile, slots: np.ndarray, origins: np.ndarray, moves: np.ndarray, alpha: float
) -> tuple[np.ndarray, SlotProfile]:
    """Adds move `t` to slot `origins[t]`, then reads slot `slots[t]`, in turn for each row."""
    read, sums, memory = np.empty((2, slots.size)), profile.sums.copy(), profile.memory.copy()
    is_there = ~np.isnan(moves)
    stacked = np.stack([np.where(is_there, moves, 0.0), is_there.astype(np.float64)])
    for slot in np.unique(np.concatenate([slots, origins[origins >= 0]])):
        added, asked = np.flatnonzero(origins == slot), np.flatnonzero(slots == slot)
        history = sums[:, slot, None]
        if added.size:
            after, last = signal.lfilter(
                [alpha], [1.0, alpha - 1.0], stacked[:, added], zi=memory[:, slot, None]
            )
            history = np.concatenate([history, after], axis=1)
            sums[:, slot], memory[:, slot] = after[:, -1], last[:, 0]
        read[:, asked] = history[:, np.searchsorted(added, asked, side="right")]
    return read, SlotProfile(sums, memory)


def _log_ratio(read: np.ndarray, average: np.ndarray, alpha: float) -> np.ndarray:
    """Returns the log of a slot's mean move over the average one, shrunk towards 0."""
    prior = PRIOR_VISITS * alpha
    usual = np.nan_to_num(average)
    numerator = read[0] + prior * usual + SMALLEST_MOVE
    return np.log(numerator / ((read[1] + prior) * usual + SMALLEST_MOVE))


def calendar_features(
    seconds: np.ndarray, moves: np.ndarray, state: CalendarState
) -> tuple[dict[str, np.ndarray], CalendarState]:
    """Computes the calendar features of consecutive bars and the state after them.

    Args:
      seconds: [T] opening times, seconds since 1970 UTC.
      moves: [T] `|l_t| / sigma_{t-1}`, in sd; NaN where there is none.
      state: what an earlier call or `init_calendar` handed back.

    Returns:
      The columns `NAMES`, each [T]: sine and cosine of the time of day and of the week, without
      unit, and two natural logs of volatility ratios; and the state after the last row.
    """
    moves = np.minimum(moves, LARGEST_MOVE)
    first = state.last_second
    before = np.concatenate([[0 if first is None else first], seconds[:-1]])
    average, overall = ewma(moves[None], halflife_to_alpha(AVERAGE_HALFLIFE), state.average)
    day_alpha = halflife_to_alpha(DAY_HALFLIFE)
    week_alpha = halflife_to_alpha(WEEK_HALFLIFE * max(1.0, HOUR / state.bar_seconds))

    reads, profiles = [], []
    for profile, period, width, alpha in (
        (state.day, DAY, state.bar_seconds, day_alpha),
        (state.week, WEEK, HOUR, week_alpha),
    ):
        slots, origins = ((times + MONDAY) % period // width for times in (seconds, before))
        origins[:1] = -1 if first is None else origins[:1]
        read, new = _visit(profile, slots, origins, moves, alpha)
        reads.append(_log_ratio(read, average[0], alpha))
        profiles.append(new)
    day_angle = 2 * np.pi * ((seconds + MONDAY) % DAY / DAY)
    week_angle = 2 * np.pi * ((seconds + MONDAY) % WEEK / WEEK)
    clock = [np.sin(day_angle), np.cos(day_angle), np.sin(week_angle), np.cos(week_angle)]
    columns: dict[str, np.ndarray] = dict(zip(NAMES, clock + reads, strict=True))
    last = int(seconds[-1]) if seconds.size else state.last_second
    return columns, CalendarState(state.bar_seconds, last, overall, *profiles)
