"""How good stated class probabilities are: proper scores, calibration, and its one-number repair.

Rows are examples, columns classes 0 .. K - 1. The logarithmic and the Brier score are proper: the
truth has the least mean. The expected calibration error is not, for the base rates alone have none;
it depends on its bins too, and is above zero even for the truth, by about sqrt(bins / N).
"""

from typing import NamedTuple

import numpy as np
from scipy import optimize, special

from densityjax._typing import ArrayLike, NumpyArray

NUM_BINS = 15  # of the calibration error, as in the literature
LOG_TEMPERATURE_RANGE = (-5.0, 5.0)  # temperatures from .007 to 150


class CalibrationBins(NamedTuple):
    """What the expected calibration error is made of; empty bins are NaN.

    Attributes:
      edges: [B + 1] edges of the bins of confidence.
      counts: [B] rows of each bin.
      confidence: [B] mean stated probability of the predicted class.
      accuracy: [B] share of rows whose predicted class is right.
      error: the mean of |accuracy - confidence|, weighted by counts.
    """

    edges: NumpyArray
    counts: NumpyArray
    confidence: NumpyArray
    accuracy: NumpyArray
    error: float


class TemperatureScaling(NamedTuple):
    """Logits divided by one number, which leaves every predicted class as it was.

    Attributes:
      temperature: above 1 the logits were too sure.
      log_loss_before: mean log loss of the rows it was fitted on, nats.
      log_loss_after: the same with scaled logits.
    """

    temperature: float
    log_loss_before: float
    log_loss_after: float

    def log_probabilities(self, logits: ArrayLike) -> NumpyArray:
        """Returns the log class probabilities, [N, K], of logits [N, K]."""
        return special.log_softmax(np.asarray(logits, np.float64) / self.temperature, axis=1)


def log_loss(labels: ArrayLike, log_probabilities: ArrayLike) -> float:
    """Computes the mean of -log p of the true class: from logs, so that nothing is clipped.

    Args:
      labels: [N] true classes, integers from 0 to K - 1.
      log_probabilities: [N, K] log of the stated probabilities, nats.

    Returns:
      The mean, nats; infinite where a true class had probability zero.

    Raises:
      ValueError: if shapes, labels or probabilities are not accepted.
    """
    truth, log_p = _check(labels, log_probabilities)
    return float(-np.mean(log_p[np.arange(len(truth)), truth]))


def brier_score(labels: ArrayLike, probabilities: ArrayLike) -> float:
    """Computes the mean of `sum_k (p_k - 1[y = k])^2`, from 0 to 2: twice the binary convention.

    Args:
      labels: [N] true classes, integers from 0 to K - 1.
      probabilities: [N, K] stated probabilities.

    Returns:
      The mean, no unit.

    Raises:
      ValueError: if shapes, labels or probabilities are not accepted.

    References:
      Brier, Verification of forecasts expressed in terms of probability, 1950, eq. 2.
    """
    truth, log_p = _check(labels, _logs(probabilities))
    missed = np.exp(log_p)
    missed[np.arange(len(truth)), truth] -= 1.0
    return float(np.mean(np.sum(missed**2, axis=1)))


def expected_calibration_error(
    labels: ArrayLike, probabilities: ArrayLike, *, num_bins: int = NUM_BINS
) -> CalibrationBins:
    """Compares the probability of the predicted class with how often it is right.

    Bins are of equal width on [0, 1], each without its lower edge and with its upper one; the
    first has both. Ties for the largest probability go to the first class.

    Args:
      labels: [N] true classes, integers from 0 to K - 1.
      probabilities: [N, K] stated probabilities.
      num_bins: bins B, at least 1.

    Returns:
      The `CalibrationBins`, with the `error`.

    Raises:
      ValueError: if shapes, labels, probabilities or the number of bins are not accepted.

    References:
      Guo et al., On calibration of modern neural networks, 2017,
      https://arxiv.org/abs/1706.04599, eq. 3.
    """
    if num_bins < 1:
        raise ValueError(f"num_bins is {num_bins}: accepted is an integer >= 1")
    truth, log_p = _check(labels, _logs(probabilities))
    confidence, predicted = np.exp(log_p.max(axis=1)), log_p.argmax(axis=1)
    edges = np.linspace(0.0, 1.0, num_bins + 1)
    which = np.clip(np.searchsorted(edges, confidence, side="left") - 1, 0, num_bins - 1)
    counts = np.bincount(which, minlength=num_bins)
    sums = [
        np.bincount(which, weights, minlength=num_bins)
        for weights in (confidence, (predicted == truth).astype(float))
    ]
    error = float(np.sum(np.abs(sums[1] - sums[0])) / len(truth))
    size = np.where(counts > 0, counts, np.nan)
    return CalibrationBins(edges, counts, sums[0] / size, sums[1] / size, error)


def temperature_scaling(labels: ArrayLike, logits: ArrayLike) -> TemperatureScaling:
    """Fits one temperature to validation logits by their log loss, which is convex in 1 / T.

    Args:
      labels: [N] true classes of rows that the classifier was not fitted on.
      logits: [N, K] their logits, or log probabilities.

    Returns:
      The `TemperatureScaling`; its temperature is kept in [.007, 150], where the rows ask for
      certainty or for none.

    Raises:
      ValueError: if shapes, labels or logits are not accepted.

    References:
      Guo et al., 2017, https://arxiv.org/abs/1706.04599, section 4.2.
    """
    scores = np.asarray(logits, np.float64)
    if scores.ndim != 2 or not np.isfinite(scores).all():
        raise ValueError(f"logits have shape {scores.shape}: accepted is a finite [N, K]")

    def loss(log_temperature: float) -> float:
        scaled = special.log_softmax(scores * np.exp(-log_temperature), axis=1)
        return log_loss(labels, scaled)

    before = loss(0.0)
    found = optimize.minimize_scalar(loss, bounds=LOG_TEMPERATURE_RANGE, method="bounded")
    log_temperature = float(found.x) if found.fun < before else 0.0
    return TemperatureScaling(float(np.exp(log_temperature)), before, loss(log_temperature))


def _logs(probabilities: ArrayLike) -> NumpyArray:
    values = np.asarray(probabilities, np.float64)
    if values.size and not np.all(values >= 0.0):
        raise ValueError("probabilities hold a negative number or NaN: accepted are numbers >= 0")
    with np.errstate(divide="ignore"):
        return np.log(values)


def _check(labels: ArrayLike, log_probabilities: ArrayLike) -> tuple[NumpyArray, NumpyArray]:
    """Returns labels [N] as integers and log probabilities [N, K]."""
    truth, log_p = np.asarray(labels), np.asarray(log_probabilities, np.float64)
    if log_p.ndim != 2 or truth.shape != log_p.shape[:1] or not truth.size:
        raise ValueError(
            f"labels have shape {truth.shape} and probabilities {log_p.shape}: accepted are [N] "
            "and [N, K] with N >= 1"
        )
    is_whole = np.issubdtype(truth.dtype, np.integer)
    if not is_whole or truth.min() < 0 or truth.max() >= log_p.shape[1]:
        raise ValueError(
            f"labels are {np.unique(truth)[:5]} of {truth.dtype}: accepted are integers from 0 to "
            f"{log_p.shape[1] - 1}"
        )
    sums = np.exp(log_p).sum(axis=1)
    if not np.allclose(sums, 1.0, atol=1e-4):  # single precision, some hundred classes
        raise ValueError(
            f"probabilities sum to {sums[np.argmax(np.abs(sums - 1.0))]:.6g}: accepted is 1"
        )
    return truth, log_p
