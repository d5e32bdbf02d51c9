"""Clusters of latent codes: separate ones are found, and a flow's codes tell calm from stormy."""

import jax
import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import adjusted_rand_score

from densityjax.estimators import FlowDensity
from densityjax.market import compute_features, simulate_market
from densityjax.regimes.latent_clusters import fit_latent_clusters, regime_probabilities, regimes

RNG = np.random.default_rng(9)


def test_separate_clusters_are_found_and_numbered_by_the_given_column():
    labels = RNG.integers(0, 3, 1500)
    codes = np.array([[0.0, 6.0], [-6.0, 0.0], [5.0, -5.0]])[labels]
    codes = codes + RNG.standard_normal((1500, 2))
    volatility = np.array([0.2, 0.1, 0.3])[labels] + 0.01 * RNG.standard_normal(1500)
    clusters = fit_latent_clusters(codes[:1000], volatility[:1000], halflife=0.0)
    found = regimes(clusters, codes[1000:])
    assert np.mean(found == np.array([1, 0, 2])[labels[1000:]]) > 0.99
    probabilities = regime_probabilities(clusters, codes[1000:])
    np.testing.assert_allclose(probabilities.sum(axis=1), 1.0)
    one = regime_probabilities(clusters, codes[1003:1004])
    np.testing.assert_allclose(one, probabilities[3:4], rtol=1e-12)


def test_averages_are_those_of_pandas_and_read_the_past_alone():
    codes = RNG.standard_normal((300, 2))
    clusters = fit_latent_clusters(codes, codes[:, 0], num_regimes=2, halflife=5.0)
    averaged = pd.DataFrame(codes).ewm(halflife=5.0).mean().to_numpy()
    alone = clusters._replace(halflife=0.0)
    expected = regime_probabilities(alone, averaged)
    np.testing.assert_allclose(regime_probabilities(clusters, codes), expected, rtol=1e-9)
    other = np.concatenate([codes[:200], 9.0 + codes[200:]])
    found = regime_probabilities(clusters, other)
    assert np.array_equal(found[:200], regime_probabilities(clusters, codes)[:200])
    assert not np.allclose(found[200:], expected[200:])


def test_reg_05_codes_of_a_flow_tell_the_regimes_of_a_simulated_market_apart():
    simulated = simulate_market(jax.random.key(6), 4000)
    state = compute_features(simulated.bars, "flow")
    true = np.asarray(simulated.regime)[simulated.bars.index.get_indexer(state.index)]
    density = FlowDensity(width=16, num_layers=2, num_hidden=1, num_epochs=10).fit(state[:3000])
    codes = density.to_noise(state)
    assert codes.shape == state.shape
    # codes of held-out rows are nearly standard normal: that is what makes them comparable
    assert np.all(np.abs(np.median(codes[3000:], axis=0)) < 0.5)
    volatility = np.log(state["volatility_20"].to_numpy())
    clusters = fit_latent_clusters(codes[:3000], volatility[:3000])
    found = regimes(clusters, codes)[3000:]
    means = [volatility[3000:][found == regime].mean() for regime in np.unique(found)]
    assert means == sorted(means)
    # 1,000 rows are about ten regimes: shifted in time, the labels agree by chance alone
    index = adjusted_rand_score(true[3000:], found)
    assert index > 0.15
    shifted = [adjusted_rand_score(true[3000:], np.roll(found, k)) for k in range(200, 800, 100)]
    assert index > np.mean(shifted) + 0.1


@pytest.mark.parametrize(
    ("codes", "order_by", "num_regimes", "words"),
    [
        (np.zeros(5), np.zeros(5), 2, r"codes must be \[N, D\] and finite"),
        (np.full((5, 2), np.nan), np.zeros(5), 2, "codes must be"),
        (np.zeros((5, 2)), np.zeros(4), 2, r"order_by must be \[5\]"),
        (np.zeros((5, 2)), np.zeros(5), 6, r"num_regimes must be in \[2, 5\], got 6"),
    ],
)
def test_bad_input_is_named(codes, order_by, num_regimes, words):
    with pytest.raises(ValueError, match=words):
        fit_latent_clusters(codes, order_by, num_regimes=num_regimes)
