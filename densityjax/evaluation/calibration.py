"""Whether stated probabilities come true, in float64 on the host.

The probability integral transform (PIT) of a forecast is `u_t = F_t(r_t)`, its normal score
`z_t = Phi^-1(u_t)`. Under the true conditional law the `u_t` are independent and uniform. Laws
whose parameters were fitted to the very rows tested look better calibrated than they are.
"""

from typing import NamedTuple

import numpy as np
from scipy import special, stats

from densityjax._typing import ArrayLike, NumpyArray


class CalibrationTest(NamedTuple):
    """Outcome of one test of calibration.

    Attributes:
      statistic: the test's statistic.
      p_value: probability under calibration of a statistic at least as large.
    """

    statistic: float
    p_value: float


class ReliabilityCurve(NamedTuple):
    """Nominal against realised probabilities.

    Attributes:
      nominal: [K] stated probability of a return below the quantile.
      realised: [K] share of returns below it.
      lower: [K] lower end of the pointwise band of `realised` under calibration.
      upper: [K] upper end of that band.
    """

    nominal: NumpyArray
    realised: NumpyArray
    lower: NumpyArray
    upper: NumpyArray


class PitHistogram(NamedTuple):
    """Counts of the PIT in equal bins, with the band that calibration allows.

    Attributes:
      edges: [B + 1] bin edges from 0 to 1.
      counts: [B] number of values in each bin.
      lower: smallest count inside the pointwise band of one bin.
      upper: largest count inside it.
    """

    edges: NumpyArray
    counts: NumpyArray
    lower: int
    upper: int


def pit_test(pit: ArrayLike) -> CalibrationTest:
    """Tests the PIT for uniformity by Kolmogorov and Smirnov.

    Args:
      pit: [T] values of `F_t(r_t)`, in [0, 1].

    Returns:
      A `CalibrationTest` with the largest distance between the distribution functions.

    Raises:
      ValueError: if a value is not in [0, 1] or there are none.

    References:
      Diebold, Gunther and Tay, Evaluating Density Forecasts, 1998, section 3.
    """
    result = stats.kstest(_check_pit(pit), "uniform")
    return CalibrationTest(float(result.statistic), float(result.pvalue))


def berkowitz_test(normal_scores: ArrayLike) -> CalibrationTest:
    """Tests normal scores for mean 0, variance 1 and no dependence on the last one.

    The likelihood ratio of `z_t = c + rho z_{t-1} + s e_t` against c = rho = 0, s = 1, both given
    the first score; chi-squared with 3 degrees of freedom. It has more power than a test of
    uniformity against wrong scales, and none against wrong shapes with the right two moments.

    Args:
      normal_scores: [T] values of `Phi^-1(F_t(r_t))` in time order, T at least 10. Take them from
        the model where it has them: `Phi^-1` of a rounded PIT is infinite in the tails.

    Returns:
      A `CalibrationTest`.

    Raises:
      ValueError: if a score is not finite or there are too few.

    References:
      Berkowitz, Testing Density Forecasts, 2001, eq. 5-7.
    """
    z = np.asarray(normal_scores, dtype=float)
    if z.ndim != 1 or z.size < 10 or not np.all(np.isfinite(z)):
        raise ValueError(f"normal_scores must be finite and [T], T >= 10, got shape {z.shape}")
    before, after = z[:-1], z[1:]
    design = np.stack([np.ones(before.size), before], axis=1)
    coefficients = np.linalg.lstsq(design, after, rcond=None)[0]
    variance = np.mean((after - design @ coefficients) ** 2)
    if variance == 0.0:
        raise ValueError("normal_scores must vary, got a sequence that predicts itself exactly")
    free = -0.5 * after.size * (np.log(variance) + 1.0)
    statistic = max(2.0 * float(free + 0.5 * np.sum(after**2)), 0.0)
    return CalibrationTest(statistic, float(stats.chi2.sf(statistic, 3)))


def reliability_curve(
    pit: ArrayLike, probabilities: ArrayLike | None = None, *, confidence: float = 0.95
) -> ReliabilityCurve:
    """Compares stated probabilities with the share of returns that fell below their quantile.

    Args:
      pit: [T] values of `F_t(r_t)`, in [0, 1]; `F_t(r_t) <= a` says that r_t was below Q_t(a).
      probabilities: [K] probabilities a in (0, 1); None takes .01, .05, .1, .2 ... .9, .95, .99.
      confidence: level of the pointwise binomial band, in (0, 1).

    Returns:
      A `ReliabilityCurve`.

    Raises:
      ValueError: if a value, a probability or the confidence is out of range.
    """
    values = _check_pit(pit)
    if probabilities is None:
        probabilities = np.r_[0.01, 0.05, np.arange(1, 10) / 10.0, 0.95, 0.99]
    nominal = np.asarray(probabilities, dtype=float)
    if nominal.ndim != 1 or not np.all((nominal > 0.0) & (nominal < 1.0)):
        raise ValueError(f"probabilities must be [K] in (0, 1), got {probabilities}")
    lower, upper = _binomial_band(values.size, nominal, confidence)
    realised = np.mean(values[:, None] <= nominal, axis=0)
    return ReliabilityCurve(nominal, realised, lower / values.size, upper / values.size)


def pit_histogram(pit: ArrayLike, *, num_bins: int = 20, confidence: float = 0.95) -> PitHistogram:
    """Counts the PIT in equal bins; about `1 - confidence` of the bins leave the band by chance.

    Args:
      pit: [T] values of `F_t(r_t)`, in [0, 1].
      num_bins: number of bins B, at least 2.
      confidence: level of the pointwise binomial band, in (0, 1).

    Returns:
      A `PitHistogram`.

    Raises:
      ValueError: if a value, `num_bins` or the confidence is out of range.
    """
    values = _check_pit(pit)
    if num_bins < 2:
        raise ValueError(f"num_bins must be at least 2, got {num_bins}")
    counts, edges = np.histogram(values, bins=num_bins, range=(0.0, 1.0))
    lower, upper = _binomial_band(values.size, np.array(1.0 / num_bins), confidence)
    return PitHistogram(edges, counts, int(lower), int(upper))


def density_rank(log_prob: ArrayLike, sample_log_prob: ArrayLike) -> NumpyArray:
    """Ranks rows by density among draws of the model: a PIT that works in any dimension.

    `u = (1 + #{draws with lower density}) / (M + 1)`, uniform on its grid where rows and draws
    share a law: the content of the highest-density region outside the row. Too many small values
    say that the data fall where the model has little mass.

    Args:
      log_prob: [N] log densities of the rows, in nats.
      sample_log_prob: [M] log densities of draws from the same model, in the same units.

    Returns:
      [N] ranks in (0, 1].

    Raises:
      ValueError: if a log density is NaN or an input is not a vector with values.

    References:
      Hyndman, Computing and Graphing Highest Density Regions, 1996, section 2.
    """
    rows, draws = np.asarray(log_prob, dtype=float), np.asarray(sample_log_prob, dtype=float)
    for name, values in (("log_prob", rows), ("sample_log_prob", draws)):
        if values.ndim != 1 or values.size == 0 or np.any(np.isnan(values)):
            raise ValueError(f"{name} must be a vector without NaN, got shape {values.shape}")
    return (1.0 + np.searchsorted(np.sort(draws), rows, side="left")) / (draws.size + 1.0)


def normal_scores(pit: ArrayLike) -> NumpyArray:
    """Returns `Phi^-1` of the PIT, [T]; values rounded to 0 or 1 move to half a rank inside."""
    values = _check_pit(pit)
    half_rank = 0.5 / (values.size + 1.0)
    return special.ndtri(
        np.where(
            (values == 0.0) | (values == 1.0), np.clip(values, half_rank, 1.0 - half_rank), values
        )
    )


def _binomial_band(
    trials: int, probability: NumpyArray, confidence: float
) -> tuple[NumpyArray, NumpyArray]:
    """Returns the smallest and largest counts of a central binomial interval."""
    if not 0.0 < confidence < 1.0:
        raise ValueError(f"confidence must be in (0, 1), got {confidence}")
    tail = 0.5 * (1.0 - confidence)
    law = stats.binom(trials, probability)
    return np.asarray(law.ppf(tail)), np.asarray(law.ppf(1.0 - tail))


def _check_pit(pit: ArrayLike) -> NumpyArray:
    """Returns the PIT as a float64 vector in [0, 1]."""
    values = np.asarray(pit, dtype=float)
    if values.ndim != 1 or values.size == 0:
        raise ValueError(f"pit must be [T] with T >= 1, got shape {values.shape}")
    if not np.all((values >= 0.0) & (values <= 1.0)):
        raise ValueError("pit must lie in [0, 1], got values outside (NaN counts)")
    return values
