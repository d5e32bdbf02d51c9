"""Divergence, tail coverage and regime scores against laws with known answers."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.scipy.stats import norm
from scipy import stats

from densityjax.evaluation.divergence import kl_divergence, kl_to_model
from densityjax.evaluation.regime_scores import regime_score
from densityjax.evaluation.tail_coverage import hill_index, tail_coverage
from densityjax.targets import gaussian

RNG = np.random.default_rng(21)


def test_the_divergence_of_shifted_normals_is_half_the_squared_shift():
    law = gaussian(np.zeros(1), np.eye(1))
    found = kl_to_model(jax.random.key(0), law, lambda x: norm.logpdf(x[0], 1.0))
    assert abs(found.value - 0.5) < 4 * found.standard_error
    assert found.standard_error == pytest.approx(1 / np.sqrt(10_000), rel=0.05)  # sd of X is 1


def test_the_divergence_of_wider_normals_is_the_closed_form_and_of_a_law_itself_zero():
    mean, covariance = np.array([1.0, -2.0]), np.array([[2.0, 0.6], [0.6, 1.0]])
    law = gaussian(mean, covariance)
    wide = gaussian(mean, 4.0 * covariance)
    found = kl_to_model(jax.random.key(1), law, wide.log_prob)
    assert abs(found.value - (2 * np.log(2.0) - 1 + 0.25)) < 4 * found.standard_error
    same = kl_to_model(jax.random.key(2), law, law.log_prob, num_samples=100)
    assert (same.value, same.standard_error) == (0.0, 0.0)


def test_a_model_that_misses_a_draw_is_infinitely_far():
    found = kl_divergence([-1.0, -1.0, -1.0], [-1.0, -jnp.inf, -1.0])
    assert found.value == np.inf
    assert np.isnan(found.standard_error)


def test_tail_coverage_accepts_the_true_law_and_rejects_thin_tails():
    draws = stats.t(4).rvs(200_000, random_state=RNG)
    true = tail_coverage(stats.t(4).cdf(draws))
    assert true.is_inside.all()
    assert np.array_equal(true.count, np.round(true.rate * 200_000))
    thin = tail_coverage(stats.norm(scale=np.sqrt(2.0)).cdf(draws))  # the right variance
    assert not thin.is_inside[[0, 1, 2, 3]].any()
    assert thin.rate[0] > 0.003  # a 1 in 1,000 event comes three times as often


@pytest.mark.parametrize("exponent", [2.0, 4.0])
def test_hill_finds_the_exponent_of_a_pareto_tail(exponent):
    draws = RNG.pareto(exponent, 50_000) + 1.0  # exactly Pareto above 1
    found = hill_index(draws, num_used=2_000)
    assert abs(found.alpha - exponent) < 4 * found.standard_error
    assert found.standard_error == pytest.approx(found.alpha / np.sqrt(2_000))
    assert np.sum(draws > found.threshold) == found.num_used == 2_000
    scaled = hill_index(7.0 * draws, num_used=2_000)
    assert scaled.alpha == pytest.approx(found.alpha, rel=1e-12)
    assert hill_index(-np.sort(-draws), num_used=2_000) == found


def test_regime_scores_by_hand_and_after_matching():
    true = np.array([0, 0, 0, 0, 1, 1, 1, 2, 2, 2])
    found = np.array([0, 0, 0, 1, 1, 1, 0, 2, 2, 2])
    score = regime_score(true, found)
    assert score.accuracy == 0.8
    assert score.macro_f1 == pytest.approx((0.75 + 2 / 3 + 1) / 3)
    renamed = np.array([7, 3, 5])[found]
    matched = regime_score(true, renamed, match=True)
    assert matched == pytest.approx(score)
    assert regime_score(true, renamed).accuracy == 0.0
    assert regime_score(true, true).adjusted_rand_index == 1.0
    noise = RNG.integers(0, 3, 10_000), RNG.integers(0, 3, 10_000)
    assert abs(regime_score(*noise).adjusted_rand_index) < 0.01
    split = regime_score(true, np.array([0, 0, 4, 4, 1, 1, 1, 2, 2, 2]), match=True)
    assert split.accuracy == 0.8  # a fourth cluster matches nothing


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: kl_divergence([0.0], [0.0]), r"must be \[N\] with N >= 2"),
        (lambda: kl_divergence([0.0, np.nan], [0.0, 0.0]), "must be finite"),
        (lambda: tail_coverage([0.5, 1.5]), r"pit must be \[N\] in \[0, 1\]"),
        (lambda: tail_coverage([0.5], probabilities=(0.0,)), "probabilities must be in"),
        (lambda: hill_index([1.0, 2.0, 3.0], num_used=3), r"num_used must be in \[2, 2\], got 3"),
        (lambda: hill_index([-1.0, -2.0, 3.0, 4.0], num_used=2), "must be positive, got -1"),
        (lambda: regime_score([0, 1], [0]), r"must be \[N\]"),
    ],
)
def test_bad_input_is_named(call, words):
    with pytest.raises(ValueError, match=words):
        call()
