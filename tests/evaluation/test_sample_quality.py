"""Distances and two-sample tests against closed forms and their own nulls; facts of returns."""

import jax
import numpy as np
import pytest
from scipy import stats

from densityjax.evaluation.sample_quality import (
    classifier_test,
    energy_distance,
    energy_test,
    maximum_mean_discrepancy,
    wasserstein,
)
from densityjax.evaluation.stylised_facts import stylised_facts
from densityjax.market import log_returns, simulate_market

RNG = np.random.default_rng(17)


def test_distances_of_shifted_normals_are_their_closed_forms():
    x, y = RNG.standard_normal(2_000), 1.0 + RNG.standard_normal(2_000)
    # E|N(m, 2)|: folded normal; the errors of 2,000 draws are below .06
    folded = [2 / np.sqrt(np.pi) * np.exp(-m * m / 4) + m * (1 - 2 * stats.norm.cdf(-m / 2**0.5))
              for m in (1.0, 0.0)]  # fmt: skip
    assert energy_distance(x, y) == pytest.approx(2 * (folded[0] - folded[1]), abs=0.06)
    assert wasserstein(x, y) == pytest.approx(1.0, abs=0.1)
    assert wasserstein(x, x + 1.0) == pytest.approx(1.0, abs=1e-12)
    # kernel of sd 1 on N(0, 1): E k = (1 + 2)^-1/2 exp(-m^2 / (2 (1 + 2)))
    expected = 2 / np.sqrt(3.0) * (1 - np.exp(-1 / 6))
    assert maximum_mean_discrepancy(x, y, bandwidth=1.0) == pytest.approx(expected, abs=0.03)


def test_estimates_are_without_bias_for_one_law():
    pairs = [(RNG.standard_normal((40, 3)), RNG.standard_normal((60, 3))) for _ in range(300)]
    for distance in (energy_distance, lambda x, y: maximum_mean_discrepancy(x, y, bandwidth=2.0)):
        values = np.array([distance(x, y) for x, y in pairs])
        assert abs(values.mean()) < 4 * values.std() / np.sqrt(300)
        assert (values < 0.0).any()


def test_the_energy_test_has_its_size_and_power():
    same, other = [], []
    for seed in range(200):
        rng = np.random.default_rng(seed)
        x, y = rng.standard_normal((30, 2)), rng.standard_normal((30, 2))
        same.append(energy_test(x, y, num_permutations=99, random_state=seed).p_value)
        other.append(energy_test(x, 1.5 * y + 1.0, num_permutations=99, random_state=seed).p_value)
    low, high = stats.binom.interval(0.999, 200, 0.05)
    assert low <= np.sum(np.array(same) <= 0.05) <= high
    assert np.mean(np.array(other) <= 0.05) > 0.8


def test_a_forest_tells_a_ring_from_a_normal_of_the_same_covariance_and_not_one_law():
    angle = RNG.uniform(0, 2 * np.pi, 600)
    ring = np.sqrt(2.0) * np.stack([np.cos(angle), np.sin(angle)], axis=1)
    normal, again = RNG.standard_normal((600, 2)), RNG.standard_normal((500, 2))
    told = classifier_test(ring, normal)
    assert told.statistic > 0.9
    assert told.p_value < 1e-6
    same = classifier_test(again, normal)
    assert abs(same.statistic - 0.5) < 4 * 0.5 / np.sqrt(1000)
    assert same.p_value > 0.001


def test_sam_09_a_simulated_market_has_the_facts_of_markets_and_shuffled_returns_lose_them():
    returns = log_returns(simulate_market(jax.random.key(3), 20_000).bars).dropna().to_numpy()
    facts = stylised_facts(returns)
    assert facts.excess_kurtosis > 1.0
    assert facts.lower_tail_exponent < 6.0
    assert abs(facts.autocorrelation_1) < 0.25 * facts.size_autocorrelation_1
    assert facts.size_autocorrelation_1 > facts.size_autocorrelation_10 > 0.05
    assert facts.leverage < -0.02
    mixed = stylised_facts(RNG.permutation(returns))
    assert mixed.std == pytest.approx(facts.std, rel=1e-9)
    assert mixed.upper_tail_exponent == pytest.approx(facts.upper_tail_exponent, rel=1e-9)
    # correlations of 20,000 independent values: sd .007, wider for heavy tails
    assert abs(mixed.size_autocorrelation_1) < 0.04
    assert abs(mixed.leverage) < 0.04


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: energy_distance([1.0], [1.0, 2.0]), r"x must be \[N, D\], finite, with N >= 2"),
        (lambda: energy_distance([1.0, 2.0], [1.0, np.nan]), "y must be"),
        (lambda: wasserstein(np.ones((3, 2)), np.ones((3, 1))), "the same columns"),
        (lambda: maximum_mean_discrepancy([1.0, 2.0], [1.0, 2.0], bandwidth=0.0), "bandwidth"),
        (lambda: classifier_test(np.arange(4.0), np.arange(4.0)), "num_folds is 5"),
        (lambda: stylised_facts(np.ones(100)), "T >= 200"),
        (lambda: stylised_facts(np.ones(300)), "must vary, all are 1.0"),
    ],
)
def test_bad_input_is_named(call, words):
    with pytest.raises(ValueError, match=words):
        call()
