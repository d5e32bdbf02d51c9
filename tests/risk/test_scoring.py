"""Scores against closed forms, other software's numbers and a slow estimate of the variance."""

import numpy as np
import pytest
from scipy import integrate, stats

from densityjax.risk import scoring

NODES, WEIGHTS = np.polynomial.hermite_e.hermegauss(80)
WEIGHTS = WEIGHTS / WEIGHTS.sum()


@pytest.mark.parametrize(
    ("probability", "expected"), [(0.01, 0.0266521422), (0.025, 0.0584450698), (0.05, 0.1031356404)]
)
def test_expected_pinball_loss_of_the_normal_quantile(probability, expected):
    quantile = stats.norm.ppf(probability)

    def weighted(x):
        return scoring.pinball_loss(x, quantile, probability) * stats.norm.pdf(x)

    value = integrate.quad(weighted, -12, quantile)[0] + integrate.quad(weighted, quantile, 12)[0]
    assert value == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize(
    ("probability", "expected"), [(0.01, 0.98028444), (0.025, 0.84921151), (0.05, 0.72402201)]
)
def test_expected_fz0_loss_at_the_truth_is_the_log_of_the_shortfall(probability, expected):
    quantile = stats.norm.ppf(probability)
    shortfall = stats.norm.pdf(quantile) / probability

    def expectation(value, loss):
        def weighted(x):
            return scoring.fz0_loss(x, value, loss, probability) * stats.norm.pdf(x)

        parts = integrate.quad(weighted, -12, -value)[0], integrate.quad(weighted, -value, 12)[0]
        return sum(parts)

    truth = expectation(-quantile, shortfall)
    assert truth == pytest.approx(expected, abs=1e-8)
    assert expectation(-0.9 * quantile, shortfall) > truth
    assert expectation(-quantile, 1.1 * shortfall) > truth


def test_expected_log_score_and_crps_of_the_normal():
    assert WEIGHTS @ scoring.log_score(stats.norm.logpdf(NODES)) == pytest.approx(1.4189385332)
    scores = [scoring.crps_from_cdf(stats.norm.cdf, node, scale=1.0) for node in NODES]
    assert WEIGHTS @ scores == pytest.approx(0.5641895835, abs=1e-9)
    assert scoring.crps_from_cdf(stats.norm.cdf, 0.0, scale=1.0) == pytest.approx(
        0.2336949773, abs=1e-10
    )


@pytest.mark.parametrize(
    ("weights", "expected"), [([1, 1, 1], 0.45104514), ([0.3, 0.1, 0.6], 0.23546193)]
)
def test_crps_of_a_normal_mixture_matches_the_closed_form_numbers(weights, expected):
    weights = np.array(weights) / np.sum(weights)

    def cdf(x):
        return stats.norm.cdf(x[:, None], [0.0, -2.9, 0.9], [0.5, 1.4, 0.7]) @ weights

    assert scoring.crps_from_cdf(cdf, 0.3, scale=1.0) == pytest.approx(expected, abs=5e-9)


def test_crps_of_a_student_t_matches_the_published_number_by_cdf_and_by_quantiles():
    law = stats.t(5.2, 13.8, 2.3)
    assert scoring.crps_from_cdf(law.cdf, 11.1, scale=2.3) == pytest.approx(1.658226, abs=1e-6)
    by_quantiles = scoring.crps(law.ppf, np.array([11.1]))
    assert by_quantiles == pytest.approx(1.658226, rel=3e-4)


def test_crps_by_quantiles_scores_many_bars_at_once():
    scale = np.array([0.5, 1.0, 2.0])
    value = scoring.crps(lambda u: scale * stats.norm.ppf(u), np.zeros(3))
    np.testing.assert_allclose(value, 0.2336949773 * scale, rtol=1e-3)


def test_crps_of_samples_equals_the_double_sum_and_the_fair_one_is_unbiased():
    rng = np.random.default_rng(0)
    draws, observation = rng.standard_normal((40, 7)), rng.standard_normal(40)
    spread = np.abs(draws[:, :, None] - draws[:, None, :]).sum(axis=(1, 2))
    error = np.abs(draws - observation[:, None]).mean(axis=1)
    plain = scoring.crps_from_samples(draws, observation, is_fair=False)
    fair = scoring.crps_from_samples(draws, observation)
    np.testing.assert_allclose(plain, error - spread / (2 * 49), atol=1e-12)
    np.testing.assert_allclose(fair, error - spread / (2 * 42), atol=1e-12)
    many = scoring.crps_from_samples(rng.standard_normal((40_000, 4)), np.zeros(40_000))
    assert abs(many.mean() - 0.2336949773) < 5 * many.std() / np.sqrt(many.size)


def test_censored_log_score_of_a_smoothed_ensemble_matches_the_published_number():
    ensemble, observation, edge = np.array([4.2, 5.1, 6.1, 7.6, 8.3, 9.5]), 6.2, 8.0
    spread = stats.iqr(ensemble) / 1.34  # the rule of thumb for the kernel width
    width = 1.06 * min(ensemble.std(ddof=1), spread) * ensemble.size**-0.2
    log_prob = np.log(stats.norm.pdf(observation, ensemble, width).mean())
    outside = np.log(stats.norm.cdf(edge, ensemble, width).mean())
    assert scoring.log_score(log_prob) == pytest.approx(1.926475, abs=2e-6)
    score = scoring.censored_log_score(log_prob, outside, observation >= edge)
    assert score == pytest.approx(0.3929448, abs=2e-7)


def test_diebold_mariano_is_positive_where_the_first_forecast_is_better():
    rng = np.random.default_rng(1)
    loss = rng.standard_normal(500) ** 2
    worse = loss + 0.2 + 0.5 * rng.standard_normal(500)
    better_first = scoring.diebold_mariano(loss, worse)
    worse_first = scoring.diebold_mariano(worse, loss)
    assert better_first.statistic > 3.0
    assert better_first.mean_gain == pytest.approx(np.mean(worse - loss))
    assert worse_first.statistic == pytest.approx(-better_first.statistic)
    assert worse_first.p_value == pytest.approx(better_first.p_value)


@pytest.mark.parametrize("lag", [0, 1, 5, 10])
def test_diebold_mariano_equals_a_plain_double_loop(lag):
    rng = np.random.default_rng(2)
    difference = np.convolve(rng.standard_normal(120), [1.0, 0.6, 0.3], "valid") + 0.2
    total, centred = difference.size, difference - difference.mean()
    variance = 0.0
    for i in range(total):
        for j in range(total):
            variance += max(0.0, 1 - abs(i - j) / (lag + 1)) * centred[i] * centred[j]
    expected = difference.mean() / np.sqrt(variance / total**2)
    result = scoring.diebold_mariano(np.zeros(total), difference, lag=lag)
    assert result.statistic == pytest.approx(expected, rel=1e-10)
    assert result.p_value == pytest.approx(2 * stats.norm.sf(abs(expected)), rel=1e-9)
    assert result.lag == lag


def test_diebold_mariano_without_lags_and_with_the_correction_is_the_paired_t_test():
    rng = np.random.default_rng(3)
    first, second = rng.standard_normal((2, 30))
    result = scoring.diebold_mariano(first, second, lag=0, horizon=1)
    expected = stats.ttest_rel(second, first)
    assert result.statistic == pytest.approx(expected.statistic, rel=1e-12)
    assert result.p_value == pytest.approx(expected.pvalue, rel=1e-10)


def test_diebold_mariano_keeps_its_size_under_serial_dependence():
    rng = np.random.default_rng(4)
    noise = rng.standard_normal((1000, 802))
    losses = noise[:, 2:] + 0.5 * noise[:, 1:-1] + 0.25 * noise[:, :-2]
    zeros = np.zeros(800)
    hac = np.mean([scoring.diebold_mariano(row, zeros, lag=10).p_value < 0.05 for row in losses])
    plain = np.mean([scoring.diebold_mariano(row, zeros, lag=0).p_value < 0.05 for row in losses])
    # The Bartlett kernel at lag 10 understates this variance a little: two points are allowed.
    assert abs(hac - 0.05) < 5 * np.sqrt(0.05 * 0.95 / 1000) + 0.02
    assert plain > 0.12


def test_diebold_mariano_of_equal_losses_is_zero_and_of_a_constant_gap_infinite():
    loss = np.arange(20.0)
    assert scoring.diebold_mariano(loss, loss)[:2] == (0.0, 1.0)
    assert scoring.diebold_mariano(loss, loss + 1.0)[:2] == (np.inf, 0.0)


def test_bad_input_raises_and_names_the_argument():
    with pytest.raises(ValueError, match="loss_a and loss_b"):
        scoring.diebold_mariano(np.zeros(3), np.zeros(4))
    with pytest.raises(ValueError, match="finite"):
        scoring.diebold_mariano([0.0, np.nan, 1.0], np.zeros(3))
    with pytest.raises(ValueError, match="lag"):
        scoring.diebold_mariano(np.zeros(20), np.ones(20), lag=20)
    with pytest.raises(ValueError, match="positive loss"):
        scoring.fz0_loss([0.0], [0.02], [-0.03], 0.05)
    with pytest.raises(ValueError, match="samples"):
        scoring.crps_from_samples(np.zeros((3, 1)), np.zeros(3))
