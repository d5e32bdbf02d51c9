"""Conformal p-values and thresholds: exact ranks, uniformity and nominal alarm rates."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from densityjax.regimes import anomalies


def test_p_value_counts_the_calibration_scores_at_least_as_strange(variant):
    rng = np.random.default_rng(0)
    calibration, scores = rng.integers(0, 6, 30).astype(np.float32), np.arange(-1.0, 8.0)
    counted = [(1 + np.sum(calibration >= s)) / 31 for s in scores]
    ours = variant(anomalies.conformal_p_value)(jnp.asarray(scores), jnp.asarray(calibration))
    np.testing.assert_allclose(ours, counted, rtol=1e-6)
    assert ours[0] == 1.0  # the least strange value of all
    assert ours[-1] == pytest.approx(1 / 31)  # the strangest: the test is one-sided


def test_random_ties_count_by_hand():
    calibration = jnp.array([1.0, 2.0, 2.0, 3.0])
    scores, uniform = jnp.array([2.0, 5.0, 0.0]), jnp.array([0.5, 0.2, 1.0])
    p_value = anomalies.conformal_p_value(scores, calibration, uniform=uniform)
    # One above, three in the tie with itself; none above, itself; four above, itself.
    np.testing.assert_allclose(p_value, [(1 + 1.5) / 5, 0.2 / 5, 1.0], rtol=1e-6)


def test_p_values_are_uniform_under_exchangeability():
    # Fresh calibration rows for each p-value: p-values that share them are dependent.
    keys = jax.random.split(jax.random.key(0), 2)
    rows = jnp.exp(2.0 * jax.random.normal(keys[0], (4000, 60)))
    uniform = jax.random.uniform(keys[1], (4000,), minval=1e-7)
    p_value = jax.vmap(lambda row, u: anomalies.conformal_p_value(row[0], row[1:], uniform=u))(
        rows, uniform
    )
    assert stats.kstest(np.asarray(p_value), "uniform").pvalue > 0.01
    plain = jax.vmap(lambda row: anomalies.conformal_p_value(row[0], row[1:]))(rows)
    counts = np.bincount(np.round(np.asarray(plain) * 60).astype(int), minlength=61)[1:]
    assert stats.chisquare(counts).pvalue > 0.01


def test_p_values_of_strange_rows_are_not_uniform():
    draws = jax.random.normal(jax.random.key(1), (2, 500))
    p_value = anomalies.conformal_p_value(jnp.abs(3.0 * draws[0]), jnp.abs(draws[1]))
    assert stats.kstest(np.asarray(p_value), "uniform").pvalue < 1e-10


@pytest.mark.parametrize("dim", [1, 10, 14])
@pytest.mark.parametrize("unit", [1.0, 1e-3, 250.0])
@pytest.mark.parametrize("rate", [0.01, 0.05])
def test_e335_18_rejection_rate_is_nominal_in_any_dimension_and_unit(dim, unit, rate):
    x = np.random.default_rng(dim).standard_normal((2, 20_000, dim)) * unit
    log_prob = stats.norm.logpdf(x, scale=unit).sum(axis=-1)
    threshold = anomalies.density_threshold(log_prob[0], rate)
    realised = float(anomalies.rejection_rate(log_prob[1], threshold))
    # Both the threshold and the rate are estimated from 20 000 rows.
    assert abs(realised - rate) < 5 * np.sqrt(2 * rate * (1 - rate) / 20_000)


@pytest.mark.parametrize(("dim", "nats", "known"), [(10, -10.0, 0.9985), (10, -15.0, 0.31)])
def test_e335_18_a_fixed_number_of_nats_rejects_a_perfect_model(dim, nats, known):
    x = np.random.default_rng(3).standard_normal((20_000, dim))
    realised = float(anomalies.rejection_rate(stats.norm.logpdf(x).sum(axis=-1), nats))
    assert realised == pytest.approx(known, abs=5 * np.sqrt(known * (1 - known) / 20_000) + 0.005)


@pytest.mark.parametrize("dim", [1, 10])
def test_e337_16_relative_threshold_is_nominal_too(dim):
    x = np.random.default_rng(4).standard_normal((2, 20_000, dim))
    relative = -0.5 * np.sum(x**2, axis=-1)  # log p(x) - log p(0)
    threshold = anomalies.density_threshold(relative[0], 0.05)
    realised = float(anomalies.rejection_rate(relative[1], threshold))
    assert abs(realised - 0.05) < 5 * np.sqrt(2 * 0.05 * 0.95 / 20_000)
    if dim == 10:
        assert float(anomalies.rejection_rate(relative[1], -5.0)) == pytest.approx(0.44, abs=0.02)


def test_ex_16_a_change_of_units_leaves_decisions_unchanged():
    log_prob = np.random.default_rng(5).standard_normal((2, 400)) - 12.0
    shifted = log_prob - 14 * np.log(1000.0)
    decisions = [
        np.asarray(anomalies.is_in_distribution(lp[1], anomalies.density_threshold(lp[0], 0.05)))
        for lp in (log_prob, shifted)
    ]
    np.testing.assert_array_equal(*decisions)
    p_values = [anomalies.conformal_p_value(-lp[1], -lp[0]) for lp in (log_prob, shifted)]
    np.testing.assert_array_equal(*p_values)


def test_threshold_and_p_value_agree_on_what_is_rejected():
    log_prob = np.random.default_rng(6).permutation(np.arange(199.0)) - 300.0
    new = np.linspace(-310.5, -90.5, 441)
    threshold = anomalies.density_threshold(log_prob, 0.05)
    by_density = ~np.asarray(anomalies.is_in_distribution(new, threshold))
    by_rank = np.asarray(anomalies.conformal_p_value(-new, -log_prob)) <= 0.05
    np.testing.assert_array_equal(by_density, by_rank)


def test_too_few_rows_for_the_rate_reject_nothing():
    assert anomalies.density_threshold(jnp.arange(50.0), 0.01) == -jnp.inf


def test_nan_is_never_mapped_to_a_decision_in_silence():
    good, bad = jnp.arange(10.0), jnp.arange(10.0).at[3].set(jnp.nan)
    p_value = anomalies.conformal_p_value(jnp.array([1.0, jnp.nan]), good)
    np.testing.assert_array_equal(np.isnan(p_value), [False, True])
    assert np.isnan(anomalies.conformal_p_value(jnp.array(1.0), bad))
    assert np.isnan(anomalies.density_threshold(bad, 0.2))
    assert np.isnan(anomalies.rejection_rate(bad, 2.0))
