"""How fast and how surely changes are found, by detectors set to the same rate of false alarms.

A detector is any statistic S_t that is high when something has changed, with an alarm at S > h.
Delays of two detectors can be compared only where both are wrong equally often, so h is set on
streams without a change: to a mean time between false alarms, or to a share of alarming bars.
A change that is not found within its horizon is a miss: its delay is censored, counted as a miss,
and never left out of a mean in silence.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from densityjax._typing import ArrayLike, NumpyArray


class Latency(NamedTuple):
    """Delays of E changes, bars.

    Attributes:
      delay: [E] bars from the onset to the first alarm, 0 on its very bar; NaN for a miss.
      num_missed: changes without an alarm in time.
      mean_found: mean delay of those found; NaN if none was.
      median: median delay, misses counted as later than any; infinity where half are missed.
      false_alarm_rate: share of alarming bars outside all stretches from onset to end.
    """

    delay: NumpyArray
    num_missed: int
    mean_found: float
    median: float
    false_alarm_rate: float


class AlarmScore(NamedTuple):
    """Alarms against changes: precision, recall, and their harmonic mean F1, in [0, 1]."""

    precision: float
    recall: float
    f1: float


def alarm_threshold(scores: ArrayLike, *, false_alarm_rate: float) -> float:
    """Returns the threshold above which at most that share of ordinary scores lies.

    Args:
      scores: [N] scores of bars without a change, finite, higher is stranger.
      false_alarm_rate: share of such bars that may alarm, in (0, 1).

    Returns:
      The threshold; `score > threshold` is the alarm. Infinity where N is too small for the rate.

    Raises:
      ValueError: if an argument is not accepted.
    """
    values = np.sort(np.asarray(scores, np.float64))
    if values.ndim != 1 or not values.size or not np.isfinite(values).all():
        raise ValueError(f"scores has shape {values.shape}: accepted are finite numbers [N]")
    if not 0.0 < false_alarm_rate < 1.0:
        raise ValueError(f"false_alarm_rate is {false_alarm_rate}: accepted is in (0, 1)")
    rank = int((values.size + 1) * false_alarm_rate)  # of a conformal p-value
    return float(values[-rank]) if rank else float("inf")


def run_length_threshold(streams: ArrayLike, *, run_length: float) -> float:
    """Returns the threshold whose mean time to a false alarm is as wanted.

    Each stream is watched until its first alarm or its end. The mean time is all bars watched over
    all alarms, which for rare alarms is unbiased whatever the length of the streams.

    Args:
      streams: [P, T] statistics of P streams without a change, finite.
      run_length: wanted mean number of bars to a false alarm, at least 1 and at most P T / 10, of
        which ten alarms are the least to set a threshold by.

    Returns:
      The smallest threshold with at least that run length, one of the statistics.

    Raises:
      ValueError: if an argument is not accepted.
    """
    values = np.asarray(streams, np.float64)
    if values.ndim != 2 or not values.size or not np.isfinite(values).all():
        raise ValueError(f"streams has shape {values.shape}: accepted are finite numbers [P, T]")
    if not 1.0 <= run_length <= values.size / 10:
        raise ValueError(f"run_length is {run_length}: accepted is in [1, {values.size / 10}]")
    highest = np.maximum.accumulate(values, axis=1)
    levels = np.unique(highest)
    low, high = 0, levels.size - 1  # run length rises with the level: bisection
    while low < high:
        middle = (low + high) // 2
        if _run_length(highest, levels[middle]) >= run_length:
            high = middle
        else:
            low = middle + 1
    return float(levels[low])


def _run_length(highest: NumpyArray, threshold: float) -> float:
    """Returns bars watched over alarms, of streams given by their running maximum."""
    below = highest <= threshold
    watched = np.minimum(below.sum(axis=1) + 1, highest.shape[1]).sum()
    alarms = np.sum(~below[:, -1])
    return watched / alarms if alarms else float("inf")


def detection_latency(alarms: ArrayLike, onsets: Sequence[int], ends: Sequence[int]) -> Latency:
    """Measures the delay from each onset to the first alarm before the end.

    Args:
      alarms: [T] booleans, of a detector set at a stated rate of false alarms.
      onsets: [E] first bars of the changes.
      ends: [E] bars after the last one that counts: the end of the change, or of the horizon.

    Returns:
      The `Latency`.

    Raises:
      ValueError: if a change does not lie within the bars, or changes have no bar.
    """
    is_alarm, first, last = np.asarray(alarms, bool), np.asarray(onsets), np.asarray(ends)
    if is_alarm.ndim != 1 or first.ndim != 1 or first.shape != last.shape or not first.size:
        raise ValueError(
            f"alarms, onsets and ends are {is_alarm.shape}, {first.shape} and {last.shape}: "
            "accepted are [T], [E] and [E] with E >= 1"
        )
    if not ((first >= 0) & (first < last) & (last <= is_alarm.size)).all():
        raise ValueError(f"onsets and ends must satisfy 0 <= onset < end <= {is_alarm.size}")
    delay, is_outside = np.full(first.size, np.nan), np.ones(is_alarm.size, bool)
    for number, (begin, end) in enumerate(zip(first, last, strict=True)):
        hits = np.flatnonzero(is_alarm[begin:end])
        delay[number] = hits[0] if hits.size else np.nan
        is_outside[begin:end] = False
    is_missed = np.isnan(delay)
    return Latency(
        delay,
        int(is_missed.sum()),
        float(delay[~is_missed].mean()) if not is_missed.all() else float("nan"),
        float(np.quantile(np.where(is_missed, np.inf, delay), 0.5, method="higher")),
        float(is_alarm[is_outside].mean()) if is_outside.any() else float("nan"),
    )


def alarm_score(alarm_times: ArrayLike, change_times: ArrayLike, *, margin: int) -> AlarmScore:
    """Matches alarms to changes at most `margin` bars before them, one to one.

    Args:
      alarm_times: [M] bars of alarms, of a detector that restarts after each.
      change_times: [E] bars of changes, E at least 1.
      margin: bars after a change, its own included as bar 0, within which an alarm finds it.

    Returns:
      The `AlarmScore`; a second alarm for the same change is a false one. Without any alarm the
      precision is 1, for none was false, and F1 is 0.

    Raises:
      ValueError: if there is no change, or the margin is negative.
    """
    alarms, changes = np.sort(np.asarray(alarm_times)), np.sort(np.asarray(change_times))
    if changes.ndim != 1 or not changes.size or margin < 0:
        raise ValueError(
            f"change_times has shape {changes.shape}, margin is {margin}: accepted are [E >= 1] "
            "and >= 0"
        )
    found, used = 0, 0
    for change in changes:  # the earliest alarm that is left serves the earliest change
        while used < alarms.size and alarms[used] < change:
            used += 1
        if used < alarms.size and alarms[used] <= change + margin:
            found, used = found + 1, used + 1
    precision = found / alarms.size if alarms.size else 1.0
    recall = found / changes.size
    total = precision + recall
    return AlarmScore(precision, recall, 2.0 * precision * recall / total if found else 0.0)
