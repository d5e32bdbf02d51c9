"""Regimes from scores: simulated regimes are found again, and changes of the log density seen."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.metrics import adjusted_rand_score

from densityjax import targets
from densityjax.regimes import score_regimes

STORM = 6.0 * (0.4 * np.eye(3) + 0.6)
LAW = targets.gaussian_mixture([0.7, 0.3], np.zeros((2, 3)), [0.5 * np.eye(3), STORM])


def noised_score(x, sigma):
    return LAW.noised(sigma).score(x)


@pytest.fixture(scope="module")
def market():
    """Hidden regimes that last about 50 rows, rows and their features."""
    rng = np.random.default_rng(4)
    labels = np.zeros(1600, int)
    for t in range(1, 1600):
        labels[t] = labels[t - 1] ^ (rng.random() < 0.02)
    calm, storm = np.sqrt(0.5) * np.eye(3), np.linalg.cholesky(STORM)
    noise = rng.standard_normal((1600, 3))
    rows = np.where(labels[:, None] == 1, noise @ storm.T, noise @ calm.T)
    read = functools.partial(score_regimes.score_features, noised_score)
    return labels, rows, np.asarray(jax.jit(jax.vmap(read))(jnp.asarray(rows, jnp.float32)))


def test_prm_07_regimes_of_rows_are_found_from_their_scores_and_numbered_by_distance(market):
    labels, _, features = market
    clusters = score_regimes.fit_score_regimes(features[:1000])
    probability = score_regimes.regime_probabilities(clusters, features)
    np.testing.assert_allclose(probability.sum(axis=1), 1.0)
    found = probability[1000:].argmax(axis=1)
    index = adjusted_rand_score(labels[1000:], found)
    assert index > 0.75
    assert np.mean(found == labels[1000:]) > 0.9  # 1 is the storm, the farther out
    alone = score_regimes.regime_probabilities(clusters, features, stay=0.0)[1000:]
    assert index > adjusted_rand_score(labels[1000:], alone.argmax(axis=1)) + 0.1
    # Nothing looks ahead: other rows from 1200 on change no regime before.
    other = np.concatenate([features[:1200], features[1200:][::-1]])
    again = score_regimes.regime_probabilities(clusters, other)
    np.testing.assert_array_equal(again[:1200], probability[:1200])


def test_features_of_a_normal_law_are_the_closed_form():
    x, sigmas = jnp.array([0.3, -2.0, 1.0]), jnp.array([0.1, 2.0])
    features = score_regimes.score_features(
        lambda y, sigma: -y / (0.5 + sigma**2), x, sigmas=sigmas
    )
    square = np.asarray(sigmas) ** 2
    size = np.sqrt(np.mean(np.asarray(x) ** 2))
    np.testing.assert_allclose(features, size * (1.0 + square) / (0.5 + square), rtol=1e-5)


def test_prm_07_a_change_of_the_log_density_is_seen_within_some_rows_and_not_before():
    rng = np.random.default_rng(5)
    rows = rng.standard_normal((400, 3)) * np.sqrt(0.5)
    rows[300:] = rng.standard_normal((100, 3)) @ np.linalg.cholesky(STORM).T
    log_prob = np.asarray(jax.vmap(LAW.log_prob)(jnp.asarray(rows, jnp.float32)))
    recent = score_regimes.density_changes(log_prob[150:], log_prob[:150], hazard=0.005)
    assert recent[30:150].max() < 0.5
    assert recent[150:165].max() > 0.9
    np.testing.assert_array_equal(
        score_regimes.density_changes(log_prob[150:300], log_prob[:150], hazard=0.005),
        recent[:150],
    )


def test_bad_arguments_are_refused(market):
    clusters = score_regimes.fit_score_regimes(market[2][:100])
    with pytest.raises(ValueError, match=r"stay is 1\.0"):
        score_regimes.regime_probabilities(clusters, market[2], stay=1.0)
    with pytest.raises(ValueError, match="accepted is a positive one"):
        score_regimes.density_changes(np.zeros(5), np.zeros(5))
