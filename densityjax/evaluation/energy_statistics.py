"""Energies in summary, and alarms on them that look at the past alone.

Energies have no absolute scale: a constant may be added to all of them and nothing has changed. So
they are read against reference energies, of rows that neither fitted the model nor are judged, and
only from above: a row of unusually low energy is the most ordinary of all. All on the host.
"""

from typing import NamedTuple

import numpy as np

from densityjax._typing import ArrayLike, NumpyArray

MIN_HISTORY = 10  # energies before a threshold moves: their spread is known to a quarter by then


class EnergyStatistics(NamedTuple):
    """Summary of reference energies, nats.

    Attributes:
      mean: their average.
      sd: their standard deviation (ddof 1), NaN for one energy.
      minimum: the least.
      maximum: the largest.
      median: the middle one, or the mean of the middle two.
      num: how many they are.
    """

    mean: float
    sd: float
    minimum: float
    maximum: float
    median: float
    num: int


def _checked(name: str, energy: ArrayLike) -> NumpyArray:
    values = np.asarray(energy, np.float64)
    if values.ndim != 1 or values.size < 1 or not np.isfinite(values).all():
        raise ValueError(
            f"{name} has shape {values.shape}: accepted are finite numbers [N], N >= 1"
        )
    return values


def energy_statistics(energy: ArrayLike) -> EnergyStatistics:
    """Summarises reference energies, [N]; ValueError where they are none or not finite."""
    values = _checked("energy", energy)
    sd = float(values.std(ddof=1)) if values.size > 1 else float("nan")
    return EnergyStatistics(
        float(values.mean()),
        sd,
        float(values.min()),
        float(values.max()),
        float(np.median(values)),
        values.size,
    )


def normalise(energy: ArrayLike, reference: EnergyStatistics) -> NumpyArray:
    """Returns `(E - mean) / sd` of the reference, no unit; no scale is left of the model's own.

    Args:
      energy: [...] energies, nats.
      reference: statistics of other rows' energies; a row in its own reference hides itself.

    Returns:
      [...] normalised energies; NaN where the energy is.

    Raises:
      ValueError: if the reference has no spread.
    """
    if not reference.sd > 0.0:
        raise ValueError(f"reference has sd {reference.sd}: accepted is a positive one")
    return (np.asarray(energy, np.float64) - reference.mean) / reference.sd


def is_anomalous(
    energy: ArrayLike, reference_energy: ArrayLike, *, false_alarm_rate: float = 0.05
) -> NumpyArray:
    """Flags energies above the reference quantile: one-sided, high alone is strange.

    The rank is that of a conformal p-value: among exchangeable rows at most the stated share is
    flagged, and none where the reference is too small for so rare an alarm.

    Args:
      energy: [...] energies, nats; NaN is flagged by no alarm and raises instead.
      reference_energy: [N] energies of held-out rows, of the same model.
      false_alarm_rate: share of ordinary rows that may be flagged, in (0, 1).

    Returns:
      [...] booleans.

    Raises:
      ValueError: if an energy is not a number, or the rate is not accepted.
    """
    values = np.asarray(energy, np.float64)
    reference = np.sort(_checked("reference_energy", reference_energy))
    if not 0.0 < false_alarm_rate < 1.0:
        raise ValueError(
            f"false_alarm_rate is {false_alarm_rate}: accepted is 0 < false_alarm_rate < 1"
        )
    if np.isnan(values).any():
        raise ValueError("energy has a NaN: accepted are numbers, for it is neither low nor high")
    rank = int((reference.size + 1) * false_alarm_rate)
    if rank < 1:
        return np.zeros(values.shape, bool)
    return values > reference[-rank]


def adaptive_threshold(
    energy: ArrayLike, *, base: float, rate: float, min_history: int = MIN_HISTORY
) -> NumpyArray:
    """Returns `base (1 + rate sd(E))`, the spread being that of strictly earlier energies.

    An energy is never part of the threshold that it is held against.

    Args:
      energy: [T] normalised energies in order of time, no unit; see `normalise`.
      base: threshold where the energies do not vary, positive, in units of the energies.
      rate: how much a standard deviation adds, as a share of the base, >= 0.
      min_history: earlier energies below which the threshold is the base, >= 2.

    Returns:
      [T] thresholds; `energy > threshold` is the alarm.

    Raises:
      ValueError: if an energy is not finite or a setting is not accepted.
    """
    values = _checked("energy", energy)
    if not 0.0 < base < np.inf or not 0.0 <= rate < np.inf or min_history < 2:
        raise ValueError(
            f"base is {base}, rate {rate} and min_history {min_history}: accepted are > 0, >= 0 "
            "and >= 2"
        )
    count = np.arange(values.size)  # of strictly earlier energies
    centred = values - values[0]  # no squares of a large constant: any earlier value would do
    total = np.concatenate([[0.0], np.cumsum(centred)[:-1]])
    squares = np.concatenate([[0.0], np.cumsum(centred**2)[:-1]])
    number = np.maximum(count, 2)
    variance = np.maximum(squares - total**2 / number, 0.0) / (number - 1)
    return np.where(count >= min_history, base * (1.0 + rate * np.sqrt(variance)), base)
