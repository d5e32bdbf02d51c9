"""Coverage tests: known answers, an independent regression, and nominal size under the null."""

import numpy as np
import pytest
from scipy import stats

from densityjax.risk import coverage


def hits(count, total):
    return np.arange(total) < count


def normal_size(p_values, level=0.05):
    """Rejection rate of p-values, and five binomial standard errors of the nominal rate."""
    rate = np.mean(np.asarray(p_values) < level)
    return rate, 5.0 * np.sqrt(level * (1.0 - level) / len(p_values))


@pytest.mark.parametrize(
    ("count", "total", "probability", "statistic", "p_value"),
    [
        (0, 250, 0.01, 5.0251679, 0.0249815),
        (5, 250, 0.01, 1.9568098, 0.1618549),
        (10, 250, 0.01, 12.9554911, 0.00031898),
        (54, 4930, 0.01, 0.4390037, 0.5076037),
        (76, 4930, 0.01, 12.5333375, 0.00039976),
    ],
)
def test_kupiec_known_answers(count, total, probability, statistic, p_value):
    result = coverage.kupiec_test(hits(count, total), probability)
    assert result.statistic == pytest.approx(statistic, abs=5e-8)
    assert result.p_value == pytest.approx(p_value, abs=5e-8)


@pytest.mark.parametrize(
    ("total", "probability", "low", "high"),
    [(250, 0.01, 1, 6), (1000, 0.01, 5, 16), (1000, 0.05, 38, 64), (2530, 0.01, 17, 35)],
)
def test_kupiec_accepts_exactly_the_known_range_of_counts(total, probability, low, high):
    accepted = [
        count
        for count in range(3 * high)
        if coverage.kupiec_test(hits(count, total), probability).p_value > 0.05
    ]
    assert accepted == list(range(low, high + 1))


def test_kupiec_is_finite_when_every_bar_or_no_bar_is_a_violation():
    assert coverage.kupiec_test(np.ones(20), 0.05).statistic == pytest.approx(-40 * np.log(0.05))
    assert coverage.kupiec_test(np.zeros(20), 0.05).statistic == pytest.approx(-40 * np.log(0.95))


def test_christoffersen_known_answer_and_its_two_parts():
    violations = np.isin(np.arange(100), [10, 11, 40, 41, 42, 80])
    independence = coverage.independence_test(violations)
    joint = coverage.christoffersen_test(violations, 0.05)
    assert independence.statistic == pytest.approx(10.4452535, abs=5e-8)
    assert independence.p_value == pytest.approx(0.0012297, abs=5e-8)
    assert coverage.kupiec_test(violations, 0.05).statistic == pytest.approx(0.1984221, abs=5e-8)
    assert joint.statistic == pytest.approx(10.6436756, abs=5e-8)
    assert joint.p_value == pytest.approx(0.0048838, abs=5e-8)


def test_christoffersen_has_a_value_without_violations_and_with_violations_alone():
    for constant in (np.zeros(50), np.ones(50)):
        assert coverage.independence_test(constant) == (0.0, 1.0)
        assert np.isfinite(coverage.christoffersen_test(constant, 0.05).statistic)


def test_dynamic_quantile_equals_the_explained_sum_of_squares_of_the_normal_equations():
    rng = np.random.default_rng(0)
    violations, forecast = rng.random(600) < 0.05, 0.01 + 0.002 * rng.random(600)
    lagged = [violations[4 - lag : 600 - lag].astype(float) for lag in (1, 2, 3, 4)]
    design = np.stack([np.ones(596), *lagged, forecast[4:]], axis=1)
    target = violations[4:] - 0.05
    moment = design.T @ target
    expected = moment @ np.linalg.solve(design.T @ design, moment) / (0.05 * 0.95)
    result = coverage.dynamic_quantile_test(violations, 0.05, forecast)
    assert result.statistic == pytest.approx(expected, rel=1e-9)
    assert result.p_value == pytest.approx(stats.chi2.sf(expected, 6), rel=1e-9)


def test_dynamic_quantile_loses_degrees_of_freedom_to_constant_lags():
    # No violation: X has rank 1, and the statistic is n a^2 / (a (1 - a)).
    result = coverage.dynamic_quantile_test(np.zeros(104), 0.05)
    assert result.statistic == pytest.approx(100 * 0.05 / 0.95)
    assert result.p_value == pytest.approx(stats.chi2.sf(result.statistic, 1))


@pytest.mark.parametrize(
    "test",
    [
        coverage.kupiec_test,
        coverage.christoffersen_test,
        lambda v, p: coverage.independence_test(v),
        coverage.dynamic_quantile_test,
    ],
)
def test_size_is_nominal_under_the_null(test):
    # 1 000 bars at 5 %; the chi-squared law is asymptotic, so 1.5 points are allowed on top.
    draws = np.random.default_rng(1).random((1500, 1000)) < 0.05
    rate, tolerance = normal_size([test(draw, 0.05).p_value for draw in draws])
    assert abs(rate - 0.05) < tolerance + 0.015


def test_clustered_violations_of_the_right_number_are_rejected():
    # Pairs of violations at the nominal rate: unconditional coverage cannot see them.
    violations = np.zeros(1000, bool)
    violations[np.arange(20, 1000, 40)] = True
    violations[np.arange(21, 1000, 40)] = True
    assert coverage.kupiec_test(violations, 0.05).p_value > 0.5
    assert coverage.christoffersen_test(violations, 0.05).p_value < 1e-6
    assert coverage.dynamic_quantile_test(violations, 0.05).p_value < 1e-6


def normal_tail(probability):
    quantile = stats.norm.ppf(probability)
    return -quantile, stats.norm.pdf(quantile) / probability


@pytest.mark.parametrize(("total", "point"), [(250, -0.699), (1000, -0.337)])
def test_acerbi_szekely_reaches_its_published_five_per_cent_points(total, point):
    value, shortfall = (np.full(total, tail) for tail in normal_tail(0.025))
    rng = np.random.default_rng(2)
    paths = rng.standard_normal((6000, total))
    # Shift one path's worst loss so that Z2 is the published point exactly.
    returns = np.zeros(total)
    returns[0] = (point - 1.0) * 0.025 * shortfall[0] * total
    result = coverage.acerbi_szekely_test(returns, value, shortfall, 0.025, simulated_returns=paths)
    assert result.statistic == pytest.approx(point)
    assert result.p_value == pytest.approx(0.05, abs=5 * np.sqrt(0.05 * 0.95 / 6000))


def test_acerbi_szekely_is_near_zero_for_the_truth_and_rejects_understated_risk():
    value, shortfall = (np.full(4000, tail) for tail in normal_tail(0.025))
    returns = np.random.default_rng(3).standard_normal(4000)
    honest = coverage.acerbi_szekely_test(returns, value, shortfall, 0.025)
    wild = coverage.acerbi_szekely_test(1.4 * returns, value, shortfall, 0.025)
    # sd of one term is sqrt(E[r^2; tail]) / (a ES), about 6.4.
    assert abs(honest.statistic) < 5 * 6.4 / np.sqrt(4000)
    assert honest.p_value > 0.01
    assert wild.statistic < -0.5
    assert wild.p_value < 1e-3


@pytest.mark.parametrize(
    ("violations", "probability", "match"),
    [
        ([], 0.05, "violations"),
        ([[0, 1]], 0.05, "violations"),
        ([0, 2, 1], 0.05, "violations"),
        ([0.0, np.nan], 0.05, "violations"),
        ([0, 1], 0.0, "tail_probability"),
        ([0, 1], 5.0, "tail_probability"),
    ],
)
def test_bad_input_raises_and_names_the_argument(violations, probability, match):
    with pytest.raises(ValueError, match=match):
        coverage.kupiec_test(violations, probability)


def test_lengths_that_differ_raise():
    with pytest.raises(ValueError, match="value_at_risk"):
        coverage.dynamic_quantile_test(np.zeros(30), 0.05, np.ones(29))
    with pytest.raises(ValueError, match="positive loss"):
        coverage.acerbi_szekely_test([0.1], [0.1], [-0.2], 0.05)
