"""Coverage tests of tail forecasts, in float64 on the host.

A violation at bar t is a return below the forecast quantile, `h_t = 1[r_t < -VaR_t]`; under a
right model the `h_t` are independent with probability `tail_probability` (.01 for a 99 % VaR).
Kupiec tests their number, Christoffersen their clustering over one bar, the dynamic quantile
test whether anything known beforehand predicts them, Acerbi and Szekely the size of the losses
beyond the quantile. Likelihood ratios use `xlogy`, so no violation at all is a value, not a NaN.
"""

from typing import NamedTuple

import numpy as np
from scipy import special, stats

from densityjax._typing import ArrayLike, NumpyArray


class RiskTest(NamedTuple):
    """Outcome of one test of a risk forecast.

    Attributes:
      statistic: the test's statistic; its null law is in the docstring of the test.
      p_value: probability under the null of a statistic at least as extreme.
    """

    statistic: float
    p_value: float


def kupiec_test(violations: ArrayLike, tail_probability: float) -> RiskTest:
    """Tests the number of violations: unconditional coverage.

    Computes `-2 [(n - x) ln(1 - a) + x ln a - (n - x) ln(1 - x / n) - x ln(x / n)]` for x
    violations in n bars at tail probability a, chi-squared with 1 degree of freedom.

    Args:
      violations: [T] booleans or 0/1, one per bar, true where the return fell below the quantile.
      tail_probability: probability of a violation under the null, in (0, 1); .01 for a 99 % VaR.

    Returns:
      A `RiskTest`; the p-value is two-sided (too many and too few violations both count).

    Raises:
      ValueError: if `violations` is empty, not one-dimensional or not 0/1, or the probability is
        outside (0, 1).

    References:
      Kupiec, Techniques for Verifying the Accuracy of Risk Measurement Models, 1995, eq. 3.
    """
    hits = _check_violations(violations)
    _check_probability(tail_probability)
    return _chi_squared(_unconditional_ratio(hits, tail_probability), 1)


def independence_test(violations: ArrayLike) -> RiskTest:
    """Tests whether a violation changes the odds of one on the next bar.

    The likelihood ratio of a two-state Markov chain against a constant rate, both over the T - 1
    transitions; chi-squared with 1 degree of freedom.

    Args:
      violations: [T] booleans or 0/1, in time order, T at least 2.

    Returns:
      A `RiskTest`.

    Raises:
      ValueError: if `violations` is not a 0/1 vector of at least two bars.

    References:
      Christoffersen, Evaluating Interval Forecasts, 1998, section 3.2.
    """
    return _chi_squared(_independence_ratio(_check_violations(violations, minimum=2)), 1)


def christoffersen_test(violations: ArrayLike, tail_probability: float) -> RiskTest:
    """Tests number and clustering of the violations together: conditional coverage.

    `LR_cc = LR_uc + LR_ind`, chi-squared with 2 degrees of freedom. `LR_uc` counts all T bars and
    `LR_ind` the T - 1 transitions; some software drops the first bar from both.

    Args:
      violations: [T] booleans or 0/1, in time order, T at least 2.
      tail_probability: probability of a violation under the null, in (0, 1).

    Returns:
      A `RiskTest`; `independence_test` gives the clustering part alone.

    Raises:
      ValueError: as `kupiec_test`.

    References:
      Christoffersen, Evaluating Interval Forecasts, 1998, section 3.3.
    """
    hits = _check_violations(violations, minimum=2)
    _check_probability(tail_probability)
    ratio = _unconditional_ratio(hits, tail_probability) + _independence_ratio(hits)
    return _chi_squared(ratio, 2)


def dynamic_quantile_test(
    violations: ArrayLike,
    tail_probability: float,
    value_at_risk: ArrayLike | None = None,
    *,
    num_lags: int = 4,
) -> RiskTest:
    """Tests whether past violations or the forecast itself predict a violation.

    Regresses `h_t - a` on a constant, `num_lags` lagged violations and `VaR_t`; the statistic
    `b' X'X b / (a (1 - a))` is chi-squared with the rank of X as degrees of freedom, 6 with the
    defaults and a VaR. A sample whose lags are constant loses that degree of freedom.

    Args:
      violations: [T] booleans or 0/1, in time order, T above `2 * num_lags + 4`.
      tail_probability: probability of a violation under the null, in (0, 1).
      value_at_risk: [T] forecast loss of each bar, known before it, in units of the return; left
        out of the regression where it is None.
      num_lags: number of lagged violations, at least 0.

    Returns:
      A `RiskTest`.

    Raises:
      ValueError: if the inputs are not finite vectors of one length, or too short.

    References:
      Engle and Manganelli, CAViaR, 2004, section 4 (out-of-sample DQ test).
    """
    if num_lags < 0:
        raise ValueError(f"num_lags must be at least 0, got {num_lags}")
    hits = _check_violations(violations, minimum=2 * num_lags + 5)
    _check_probability(tail_probability)
    centred = hits - tail_probability
    rows = hits.size - num_lags
    columns = [np.ones(rows)]
    columns += [centred[num_lags - lag : hits.size - lag] for lag in range(1, num_lags + 1)]
    if value_at_risk is not None:
        forecast = _check_vector("value_at_risk", value_at_risk, hits.size)[num_lags:]
        columns.append(forecast / max(np.max(np.abs(forecast)), np.finfo(float).tiny))  # for rank
    design = np.stack(columns, axis=1)
    target = centred[num_lags:]
    coefficients, _, rank, _ = np.linalg.lstsq(design, target, rcond=None)
    fitted = design @ coefficients
    statistic = fitted @ fitted / (tail_probability * (1.0 - tail_probability))
    return _chi_squared(float(statistic), int(rank))


def acerbi_szekely_test(
    returns: ArrayLike,
    value_at_risk: ArrayLike,
    expected_shortfall: ArrayLike,
    tail_probability: float,
    *,
    simulated_returns: ArrayLike | None = None,
) -> RiskTest:
    """Tests the expected shortfall by `Z2 = 1 + mean(r_t h_t / (a ES_t))`.

    Z2 has mean 0 under the null and is negative where risk is understated, so the p-value is of
    the LOWER tail. Its law depends on the forecast's: with `simulated_returns` drawn from the
    forecast itself the p-value is a Monte Carlo one, `(1 + #{Z2* <= Z2}) / (S + 1)`; without, it
    is the normal approximation of the self-normalised mean, which is rough for a few violations.

    Args:
      returns: [T] realised returns, as fractions.
      value_at_risk: [T] forecast VaR of each bar, a positive loss, in units of `returns`.
      expected_shortfall: [T] forecast ES of each bar, a positive loss, in units of `returns`.
      tail_probability: probability of a violation under the null, in (0, 1).
      simulated_returns: [S, T] draws of the forecast distribution of each bar, or None.

    Returns:
      A `RiskTest` whose statistic is Z2.

    Raises:
      ValueError: if shapes differ, a value is not finite, or an expected shortfall is not positive.

    References:
      Acerbi and Szekely, Backtesting Expected Shortfall, 2014, eq. 6.
    """
    _check_probability(tail_probability)
    realised = _check_vector("returns", returns)
    quantile = -_check_vector("value_at_risk", value_at_risk, realised.size)
    shortfall = _check_vector("expected_shortfall", expected_shortfall, realised.size)
    if np.min(shortfall) <= 0.0:
        raise ValueError(f"expected_shortfall must be a positive loss, got {np.min(shortfall)}")

    def terms(paths: NumpyArray) -> NumpyArray:
        return 1.0 + np.where(paths < quantile, paths, 0.0) / (tail_probability * shortfall)

    observed = terms(realised)
    statistic = float(observed.mean())
    if simulated_returns is None:
        error = observed.std(ddof=1) / np.sqrt(realised.size)
        studentised = statistic / error if error > 0.0 else np.copysign(np.inf, statistic)
        return RiskTest(statistic, float(stats.norm.cdf(studentised)))
    paths = np.asarray(simulated_returns, dtype=float)
    if paths.ndim != 2 or paths.shape[1] != realised.size:
        raise ValueError(f"simulated_returns must be [S, {realised.size}], got {paths.shape}")
    below = np.count_nonzero(terms(paths).mean(axis=1) <= statistic)
    return RiskTest(statistic, (1.0 + below) / (paths.shape[0] + 1.0))


def _unconditional_ratio(hits: NumpyArray, probability: float) -> float:
    """Returns -2 log of the binomial likelihood at the null over that at the observed rate."""
    misses, count = hits.size - hits.sum(), hits.sum()
    rate = count / hits.size
    null = special.xlog1py(misses, -probability) + special.xlogy(count, probability)
    free = special.xlog1py(misses, -rate) + special.xlogy(count, rate)
    return max(float(-2.0 * (null - free)), 0.0)


def _independence_ratio(hits: NumpyArray) -> float:
    """Returns -2 log likelihood ratio of one rate against one rate per previous state."""
    before, after = hits[:-1], hits[1:]
    hit_after = np.array([after[before == 0].sum(), after[before == 1].sum()])
    visits = np.array([np.count_nonzero(before == 0), np.count_nonzero(before == 1)])
    free = sum(_bernoulli(hit, visit) for hit, visit in zip(hit_after, visits, strict=True))
    return max(-2.0 * (_bernoulli(hit_after.sum(), visits.sum()) - free), 0.0)


def _bernoulli(count: float, trials: int) -> float:
    """Returns the highest log likelihood of `count` successes in `trials`, 0 without trials."""
    rate = count / trials if trials else 0.0
    return float(special.xlogy(count, rate) + special.xlog1py(trials - count, -rate))


def _chi_squared(statistic: float, degrees_of_freedom: int) -> RiskTest:
    """Returns the statistic beside its upper-tail chi-squared probability."""
    return RiskTest(statistic, float(stats.chi2.sf(statistic, degrees_of_freedom)))


def _check_violations(violations: ArrayLike, minimum: int = 1) -> NumpyArray:
    """Returns the violations as a float64 vector of zeros and ones."""
    hits = np.asarray(violations, dtype=float)
    if hits.ndim != 1 or hits.size < minimum:
        raise ValueError(f"violations must be [T] with T >= {minimum}, got shape {hits.shape}")
    if not np.all((hits == 0.0) | (hits == 1.0)):
        raise ValueError("violations must be booleans or 0/1, got other values (NaN counts)")
    return hits


def _check_vector(name: str, values: ArrayLike, size: int | None = None) -> NumpyArray:
    """Returns `values` as a finite float64 vector, of length `size` where that is given."""
    vector = np.asarray(values, dtype=float)
    if vector.ndim != 1 or vector.size == 0 or size not in (None, vector.size):
        raise ValueError(f"{name} must be [{'T' if size is None else size}], got {vector.shape}")
    if not np.all(np.isfinite(vector)):
        raise ValueError(f"{name} must be finite, got {np.sum(~np.isfinite(vector))} bad values")
    return vector


def _check_probability(probability: float) -> None:
    """Raises unless the tail probability is strictly between 0 and 1."""
    if not 0.0 < probability < 1.0:
        raise ValueError(f"tail_probability must be in (0, 1), got {probability}")
