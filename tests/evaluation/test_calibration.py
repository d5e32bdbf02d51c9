"""Calibration and likelihood scores: right laws pass, wrong ones fail, known numbers hold."""

import numpy as np
import pytest
from scipy import optimize, stats

from densityjax.evaluation import calibration, density_scores

DRAWS = np.random.default_rng(0).standard_normal(2000)
WRONG = stats.norm.cdf(DRAWS * np.sqrt(2.0))  # the data have twice the stated variance


def test_met_16_pit_is_uniform_for_the_true_law_and_rejected_for_doubled_variance():
    assert calibration.pit_test(stats.norm.cdf(DRAWS)).p_value > 0.05
    assert calibration.pit_test(WRONG).p_value < 1e-6
    assert calibration.berkowitz_test(DRAWS).p_value > 0.05
    assert calibration.berkowitz_test(DRAWS * np.sqrt(2.0)).p_value < 1e-6


def test_pit_statistic_is_the_largest_gap_between_the_steps_and_the_diagonal():
    pit = np.array([0.1, 0.15, 0.7])
    # Steps at 0 1/3 2/3 1: the gap is largest just below .7 (2/3 - .15 after .15).
    assert calibration.pit_test(pit).statistic == pytest.approx(2 / 3 - 0.15)


def test_tests_have_nominal_size_under_the_null():
    rows = np.random.default_rng(1).standard_normal((2000, 300))
    tolerance = 5 * np.sqrt(0.05 * 0.95 / 2000)
    uniform = [calibration.pit_test(row).p_value < 0.05 for row in stats.norm.cdf(rows)]
    normal = [calibration.berkowitz_test(row).p_value < 0.05 for row in rows]
    assert abs(np.mean(uniform) - 0.05) < tolerance
    assert abs(np.mean(normal) - 0.05) < tolerance + 0.005  # the chi-squared law is asymptotic


def test_berkowitz_ratio_equals_a_numerical_maximum_of_the_likelihood():
    z = 0.3 + np.random.default_rng(2).standard_normal(80)

    def negative(theta):
        return -stats.norm.logpdf(z[1:], theta[0] + theta[1] * z[:-1], np.exp(theta[2])).sum()

    best = optimize.minimize(negative, np.zeros(3), method="BFGS").fun
    result = calibration.berkowitz_test(z)
    assert result.statistic == pytest.approx(2 * (negative(np.zeros(3)) - best), rel=1e-6)
    assert result.p_value == pytest.approx(stats.chi2.sf(result.statistic, 3))


def test_berkowitz_rejects_dependence_that_uniformity_cannot_see():
    z = np.zeros(3000)
    noise = np.random.default_rng(3).standard_normal(3000)
    for t in range(1, 3000):
        z[t] = 0.15 * z[t - 1] + np.sqrt(1 - 0.15**2) * noise[t]
    assert calibration.pit_test(stats.norm.cdf(z)).p_value > 0.01
    assert calibration.berkowitz_test(z).p_value < 1e-6


def test_reliability_follows_the_diagonal_for_the_truth_and_leaves_the_band_otherwise():
    right = calibration.reliability_curve(stats.norm.cdf(DRAWS), confidence=0.999)
    assert np.all((right.lower <= right.realised) & (right.realised <= right.upper))
    wrong = calibration.reliability_curve(WRONG, [0.01, 0.5, 0.99], confidence=0.999)
    expected = stats.norm.cdf(stats.norm.ppf([0.01, 0.5, 0.99]) / np.sqrt(2.0))
    np.testing.assert_allclose(wrong.realised, expected, atol=5 * np.sqrt(0.25 / 2000))
    outside = (wrong.realised < wrong.lower) | (wrong.realised > wrong.upper)
    np.testing.assert_array_equal(outside, [True, False, True])


def test_histogram_counts_every_value_and_flags_heavy_ends():
    right = calibration.pit_histogram(stats.norm.cdf(DRAWS), num_bins=10, confidence=0.999)
    wrong = calibration.pit_histogram(WRONG, num_bins=10, confidence=0.999)
    assert right.counts.sum() == wrong.counts.sum() == 2000
    assert right.counts.min() >= right.lower
    assert right.counts.max() <= right.upper
    assert (right.lower, right.upper) == stats.binom(2000, 0.1).interval(0.999)
    assert wrong.counts[0] > wrong.upper
    assert wrong.counts[-1] > wrong.upper


def test_density_rank_is_uniform_in_ten_dimensions_and_rejects_a_narrow_model():
    x = np.random.default_rng(4).standard_normal((2, 3000, 10))
    rows, draws = stats.norm.logpdf(x).sum(axis=-1)
    assert calibration.pit_test(calibration.density_rank(rows, draws)).p_value > 0.01
    narrow_rows = stats.norm.logpdf(x[0], scale=0.9).sum(axis=-1)
    narrow_draws = stats.norm.logpdf(0.9 * x[1], scale=0.9).sum(axis=-1)
    rank = calibration.density_rank(narrow_rows, narrow_draws)
    assert calibration.pit_test(rank).p_value < 1e-6
    assert rank.mean() < 0.45
    np.testing.assert_allclose(calibration.density_rank([0.0, 9.0], [1.0, 2.0]), [1 / 3, 1.0])


def test_normal_scores_invert_the_pit_and_stay_finite_at_its_ends():
    np.testing.assert_allclose(calibration.normal_scores(stats.norm.cdf(DRAWS)), DRAWS, atol=1e-9)
    ends = calibration.normal_scores([0.0, 1e-9, 0.5, 1.0])
    assert np.all(np.isfinite(ends))
    assert ends[1] == pytest.approx(stats.norm.ppf(1e-9))


@pytest.mark.parametrize("pit", [[], [0.5, 1.2], [0.5, np.nan], [[0.5]]])
def test_values_that_are_not_probabilities_raise(pit):
    with pytest.raises(ValueError, match="pit"):
        calibration.pit_test(pit)


def test_other_bad_input_raises_and_names_the_argument():
    with pytest.raises(ValueError, match="normal_scores"):
        calibration.berkowitz_test(np.append(DRAWS, np.inf))
    with pytest.raises(ValueError, match="probabilities"):
        calibration.reliability_curve([0.5], [95.0])
    with pytest.raises(ValueError, match="confidence"):
        calibration.pit_histogram([0.5], confidence=95.0)
    with pytest.raises(ValueError, match="sample_log_prob"):
        calibration.density_rank([0.0], [np.nan])


@pytest.mark.parametrize("dim", [1, 7])
def test_e335_15_bits_per_dimension_of_a_unit_normal(dim):
    node, weight = np.polynomial.hermite_e.hermegauss(20)
    # Quadrature nodes repeated by weight are awkward; the mean is linear, so weight beforehand.
    log_prob = dim * stats.norm.logpdf(node) * weight / weight.sum() * node.size
    assert -density_scores.mean_log_likelihood(log_prob) / dim == pytest.approx(1.418939, abs=1e-6)
    assert density_scores.bits_per_dimension(log_prob, dim) == pytest.approx(2.047096, abs=1e-6)


def test_e335_15_a_score_is_stated_in_declared_units():
    x = np.random.default_rng(5).standard_normal((500, 3))
    scale = np.array([0.01, 2.0, 30.0])
    standardised = stats.norm.logpdf(x).sum(axis=-1)
    in_units = stats.norm.logpdf(x * scale, scale=scale).sum(axis=-1)
    score = density_scores.density_score(
        standardised, 3, unit="fractions", log_jacobian=-np.log(scale).sum()
    )
    direct = density_scores.density_score(in_units, 3, unit="fractions")
    np.testing.assert_allclose(score[:3], direct[:3], rtol=1e-10)
    assert score.num_rows == 500
    assert score.standard_error == pytest.approx(stats.sem(in_units))
    bits = -in_units.mean() / 3 / np.log(2.0)
    assert score.bits_per_dimension == pytest.approx(bits)


def test_ex_04_log_densities_that_are_not_finite_raise():
    with pytest.raises(ValueError, match="finite"):
        density_scores.mean_log_likelihood([0.0, np.nan])
    with pytest.raises(ValueError, match="dim"):
        density_scores.bits_per_dimension([0.0], 0)
    with pytest.raises(ValueError, match="unit"):
        density_scores.density_score([0.0], 1, unit=" ")
