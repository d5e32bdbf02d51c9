"""Scores of forecasts and the comparison of two, in float64 on the host.

Every score here is a LOSS: lower is better. Quantiles are returns, value at risk and expected
shortfall are positive losses. Comparisons by `diebold_mariano` are positive where its FIRST
argument is the better forecast.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from scipy import stats

from densityjax._typing import ArrayLike, NumpyArray


class ScoreComparison(NamedTuple):
    """Two forecasts compared by their losses.

    Attributes:
      statistic: mean gain over its standard error; POSITIVE where the first forecast is better.
      p_value: two-sided probability under equal expected loss.
      mean_gain: `mean(loss_b - loss_a)`, in units of the loss; positive where the first is better.
      lag: largest lag of the Bartlett kernel, in bars.
    """

    statistic: float
    p_value: float
    mean_gain: float
    lag: int


def diebold_mariano(
    loss_a: ArrayLike, loss_b: ArrayLike, *, lag: int | None = None, horizon: int | None = None
) -> ScoreComparison:
    """Compares the losses of two forecasts of the same bars.

    The statistic is `mean(loss_b - loss_a)` over its Newey-West standard error, standard normal
    under equal expected loss. SIGN: a POSITIVE statistic means that the FIRST forecast has the
    smaller loss and is better. Papers that difference the other way round print the negative.

    Args:
      loss_a: [T] loss of the first forecast on each bar, lower is better.
      loss_b: [T] loss of the second forecast on the same bars, in the same unit.
      lag: largest lag of the Bartlett kernel, in bars, 0 for independent differences; None takes
        `floor(4 (T / 100)^(2/9))`.
      horizon: forecast horizon in bars for the small-sample correction, with Student-t tails of
        T - 1 degrees of freedom; None leaves both out.

    Returns:
      A `ScoreComparison`. Equal losses on every bar give statistic 0 and p-value 1.

    Raises:
      ValueError: if the losses are not finite vectors of one length of at least 2, or `lag` is not
        in [0, T - 1], or `horizon` is below 1.

    References:
      Diebold and Mariano, Comparing Predictive Accuracy, 1995, eq. 1; Newey and West, 1987;
      Harvey, Leybourne and Newbold, Testing the Equality of MSE, 1997, eq. 9 (the correction).
    """
    first, second = np.asarray(loss_a, dtype=float), np.asarray(loss_b, dtype=float)
    if first.ndim != 1 or first.shape != second.shape or first.size < 2:
        raise ValueError(
            f"loss_a and loss_b must be [T] with T >= 2, got {first.shape} and {second.shape}"
        )
    gain = second - first
    if not np.all(np.isfinite(gain)):
        raise ValueError(f"losses must be finite, got {np.sum(~np.isfinite(gain))} bad bars")
    total = gain.size
    lag = default_lag(total) if lag is None else lag
    if not 0 <= lag < total:
        raise ValueError(f"lag must be in [0, {total - 1}], got {lag}")
    mean_gain = float(gain.mean())
    error = np.sqrt(max(long_run_variance(gain, lag), 0.0) / total)
    if error == 0.0:
        statistic = float(np.sign(mean_gain) * np.inf) if mean_gain else 0.0
    else:
        statistic = mean_gain / float(error)
    if horizon is None:
        return ScoreComparison(statistic, float(2 * stats.norm.sf(abs(statistic))), mean_gain, lag)
    if horizon < 1:
        raise ValueError(f"horizon must be at least 1 bar, got {horizon}")
    correction = (total + 1 - 2 * horizon + horizon * (horizon - 1) / total) / total
    statistic *= float(np.sqrt(max(correction, 0.0)))
    p_value = float(2 * stats.t.sf(abs(statistic), total - 1))
    return ScoreComparison(statistic, p_value, mean_gain, lag)


def pinball_loss(returns: ArrayLike, quantile: ArrayLike, probability: ArrayLike) -> NumpyArray:
    """Scores a quantile: `(a - 1[r < q]) (r - q)`, at its lowest in expectation for the true one.

    Args:
      returns: [...] realised returns, as fractions.
      quantile: [...] forecast quantile, a RETURN (negative in the lower tail), same unit.
      probability: [...] probability a of a return below the quantile, in (0, 1).

    Returns:
      [...] loss in units of the return, not negative.

    References:
      Koenker and Bassett, Regression Quantiles, 1978.
    """
    surplus = np.asarray(returns, dtype=float) - np.asarray(quantile, dtype=float)
    return (np.asarray(probability, dtype=float) - (surplus < 0.0)) * surplus


def fz0_loss(
    returns: ArrayLike,
    value_at_risk: ArrayLike,
    expected_shortfall: ArrayLike,
    tail_probability: float,
) -> NumpyArray:
    """Scores VaR and ES together by the Fissler-Ziegel loss of degree zero.

    With q = -VaR and e = -ES: `-1[r <= q] (q - r) / (a e) + q / e + ln(-e) - 1`. For the true pair
    its expectation is `ln ES`. Scaling returns by c adds `ln c` to every forecast alike.

    Args:
      returns: [...] realised returns, as fractions.
      value_at_risk: [...] forecast VaR, a positive loss, in units of `returns`.
      expected_shortfall: [...] forecast ES, a positive loss, in units of `returns`.
      tail_probability: probability of a return below -VaR, in (0, 1).

    Returns:
      [...] loss, in nats (it may be negative).

    Raises:
      ValueError: if an expected shortfall is not positive or `tail_probability` is not in (0, 1).

    References:
      Patton, Ziegel and Chen, Dynamic Semiparametric Models for ES and VaR, 2019, eq. 6.
    """
    if not 0.0 < tail_probability < 1.0:
        raise ValueError(f"tail_probability must be in (0, 1), got {tail_probability}")
    realised = np.asarray(returns, dtype=float)
    value, shortfall = np.asarray(value_at_risk, float), np.asarray(expected_shortfall, float)
    if not np.all(shortfall > 0.0):
        raise ValueError(f"expected_shortfall must be a positive loss, got {np.min(shortfall)}")
    excess = np.where(realised <= -value, -value - realised, 0.0)
    return excess / (tail_probability * shortfall) + value / shortfall + np.log(shortfall) - 1.0


def log_score(log_prob: ArrayLike) -> NumpyArray:
    """Returns the logarithmic score `-log p(r)`, [...], in nats, of log densities [...]."""
    return -np.asarray(log_prob, dtype=float)


def censored_log_score(
    log_prob: ArrayLike, log_prob_outside: ArrayLike, is_inside: ArrayLike
) -> NumpyArray:
    """Scores a density on a region alone: a proper score, where a weighted log score is not.

    Args:
      log_prob: [...] log density at the realised return, in nats.
      log_prob_outside: [...] log of the forecast probability of the complement of the region.
      is_inside: [...] whether the realised return fell into the region.

    Returns:
      [...] loss in nats: `-log p(r)` inside the region, `-log P(outside)` elsewhere.

    References:
      Diks, Panchenko and van Dijk, Likelihood-based Scoring Rules, 2011, eq. 9.
    """
    return -np.where(is_inside, np.asarray(log_prob, float), np.asarray(log_prob_outside, float))


def crps(
    quantile_fn: Callable[[float], ArrayLike], observation: ArrayLike, *, num_quantiles: int = 1999
) -> NumpyArray:
    """Computes the continuous ranked probability score as the mean of pinball losses.

    `2 int_0^1 pinball(y, Q(u), u) du` by the midpoints of `num_quantiles` equal cells, so that a
    forecast needs nothing but its quantiles. The kink at `u = F(y)` leaves an error of order
    `num_quantiles^-2`, the cut tails one of order `num_quantiles^(1 / df - 2)`.

    Args:
      quantile_fn: probability in (0, 1) to the forecast's quantiles, [...], of each bar.
      observation: [...] realised returns, in units of the quantiles.
      num_quantiles: number of equally spaced probabilities, at least 1.

    Returns:
      [...] score in units of the return.

    Raises:
      ValueError: if `num_quantiles` is below 1.

    References:
      Gneiting and Raftery, Strictly Proper Scoring Rules, 2007, section 4.2.
    """
    if num_quantiles < 1:
        raise ValueError(f"num_quantiles must be at least 1, got {num_quantiles}")
    realised = np.asarray(observation, dtype=float)
    total = np.zeros(realised.shape)
    for cell in range(num_quantiles):  # one probability at a time: T rows need no T x 1999 array
        probability = (cell + 0.5) / num_quantiles
        total += pinball_loss(realised, quantile_fn(probability), probability)
    return 2.0 * total / num_quantiles


def crps_from_cdf(
    cdf_fn: Callable[[NumpyArray], ArrayLike],
    observation: float,
    *,
    scale: float,
    num_nodes: int = 400,
) -> float:
    """Computes the score of one observation by quadrature of a distribution function.

    `int_-inf^y F(x)^2 dx + int_y^inf (1 - F(x))^2 dx`, each half line mapped to (-1, 1) by
    `t = scale (1 + s) / (1 - s)` and integrated by Gauss-Legendre: exact to rounding for smooth
    laws with a finite mean whose scale is near `scale`.

    Args:
      cdf_fn: [N] returns to [N] probabilities.
      observation: realised return.
      scale: typical distance from the observation at which F changes, in units of the return.
      num_nodes: number of nodes on each side.

    Returns:
      The score, in units of the return.

    Raises:
      ValueError: if `scale` is not positive.

    References:
      Matheson and Winkler, Scoring Rules for Continuous Probability Distributions, 1976.
    """
    if not scale > 0.0:
        raise ValueError(f"scale must be positive, got {scale}")
    node, weight = np.polynomial.legendre.leggauss(num_nodes)
    distance = scale * (1.0 + node) / (1.0 - node)
    weight = weight * 2.0 * scale / (1.0 - node) ** 2
    below = np.asarray(cdf_fn(observation - distance), dtype=float)
    above = 1.0 - np.asarray(cdf_fn(observation + distance), dtype=float)
    return float(weight @ (below**2 + above**2))


def crps_from_samples(
    samples: ArrayLike, observation: ArrayLike, *, is_fair: bool = True
) -> NumpyArray:
    """Estimates the score from draws, sorted, in O(M log M).

    `mean |X - y| - sum_ij |X_i - X_j| / (2 N)`, with `N = M (M - 1)` for the fair estimator, which
    is unbiased for the law the draws come from, and `N = M^2` for the ensemble read as the law.

    Args:
      samples: [..., M] draws, M at least 2, in units of the return.
      observation: [...] realised returns.
      is_fair: whether to divide by `M (M - 1)`.

    Returns:
      [...] score in units of the return; the fair one may be slightly negative.

    Raises:
      ValueError: if there are fewer than two draws.

    References:
      Ferro, Fair Scores for Ensemble Forecasts, 2014, eq. 3.
    """
    draws = np.sort(np.asarray(samples, dtype=float), axis=-1)
    count = draws.shape[-1]
    if count < 2:
        raise ValueError(f"samples must hold at least 2 draws, got {count}")
    error = np.abs(draws - np.asarray(observation, dtype=float)[..., None]).mean(axis=-1)
    ranks = 2.0 * np.arange(1, count + 1) - count - 1.0  # sum_i<j (X_j - X_i) = ranks . X
    pairs = count * (count - 1) if is_fair else count**2
    return error - (draws @ ranks) / pairs


def default_lag(size: int) -> int:
    """Returns `floor(4 (T / 100)^(2/9))`, the usual largest lag for `size` = T values."""
    return int(4.0 * (size / 100.0) ** (2.0 / 9.0))


def long_run_variance(values: NumpyArray, lag: int) -> float:
    """Returns the Bartlett-weighted sum of autocovariances of [T] values, never negative."""
    centred = values - values.mean()
    total = values.size
    variance = centred @ centred / total
    for shift in range(1, lag + 1):
        covariance = centred[shift:] @ centred[:-shift] / total
        variance += 2.0 * (1.0 - shift / (lag + 1.0)) * covariance
    return float(variance)
