"""Tail risk against closed forms, known answers and sorted lists."""

import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.scipy.special import ndtr, ndtri
from scipy import integrate, special, stats

from densityjax.risk import tails


def student_t(df, scale=1.0):
    """Quantile function of a Student t by scipy, called from jax."""

    def quantile(probability):
        return scale * jax.pure_callback(
            lambda u: np.asarray(stats.t.ppf(u, df), u.dtype),
            jax.ShapeDtypeStruct(jnp.shape(probability), probability.dtype),
            probability,
            vmap_method="expand_dims",
        )

    return quantile


@pytest.mark.parametrize(
    ("quantile_fn", "confidence", "value", "shortfall"),
    [
        (ndtri, 0.95, 1.644854, 2.062713),
        (ndtri, 0.99, 2.3263478740, 2.6652142203),
        (student_t(4.0), 0.95, 2.131847, 3.202870),
        (student_t(4.0), 0.99, 3.746947, 5.220584),
        (student_t(5.0, 0.6**0.5), 0.99, 2.6064635694, 3.4488367600),
        (student_t(5.0, 0.6**0.5), 0.975, 1.9911641279, 2.7278020716),
    ],
)
def test_e335_19_known_values_at_risk_and_shortfalls(
    x64, quantile_fn, confidence, value, shortfall
):
    assert float(tails.value_at_risk(quantile_fn, confidence)) == pytest.approx(value, abs=5e-7)
    ours = float(tails.expected_shortfall(quantile_fn, confidence))
    assert ours == pytest.approx(shortfall, abs=1e-6)


def test_known_values_hold_in_single_precision_under_jit_and_vmap(variant):
    def both(scale, confidence):
        def quantile(u):
            return 0.5 + scale * ndtri(u)

        value = tails.value_at_risk(quantile, confidence)
        return value, tails.expected_shortfall(quantile, confidence)

    scales, levels = jnp.array([1.0, 2.0]), jnp.array([0.95, 0.95])
    value, shortfall = variant(jax.vmap(both))(scales, levels)
    np.testing.assert_allclose(value, np.array([1, 2]) * 1.644854 - 0.5, rtol=2e-6)
    np.testing.assert_allclose(shortfall, np.array([1, 2]) * 2.062713 - 0.5, rtol=2e-6)


@pytest.mark.parametrize("tail_weight", [0.1, 0.3, 0.5])
def test_shortfall_of_a_heavy_lambert_tail_matches_its_closed_form(variant, tail_weight):
    # r = z exp(h z^2 / 2) has ES = phi(q sqrt(1 - h)) / ((1 - h) a), q the base quantile.
    def quantile(u):
        z = ndtri(u)
        return z * jnp.exp(0.5 * tail_weight * z**2)

    q = special.ndtri(0.01)
    expected = stats.norm.pdf(q * np.sqrt(1 - tail_weight)) / ((1 - tail_weight) * 0.01)
    ours = variant(functools.partial(tails.expected_shortfall, quantile))(0.99)
    # float32: 2e-7 from the nodes, and rounding of ndtri's tail in the exponent.
    assert float(ours) == pytest.approx(expected, rel=1e-5)


def test_plain_nodes_would_fail_where_the_substitution_does_not(x64):
    def quantile(u):
        z = ndtri(u)
        return z * jnp.exp(0.25 * z**2)

    q = special.ndtri(0.01)
    expected = stats.norm.pdf(q * np.sqrt(0.5)) / 0.005
    node, weight = np.polynomial.legendre.leggauss(32)
    plain = -0.5 * weight @ np.asarray(quantile(jnp.asarray(0.005 * (node + 1.0))))
    ours = float(tails.expected_shortfall(quantile, 0.99))
    assert plain < 0.99 * expected
    assert ours == pytest.approx(expected, rel=1e-6)


def test_ec_14_the_worst_draws_are_exactly_the_ceiling_of_their_share():
    samples = jnp.asarray(np.random.default_rng(0).permutation(np.arange(100.0)) - 50.0)
    assert float(tails.sample_value_at_risk(samples, 0.95)) == 46.0  # -50 .. -46: five draws
    assert float(tails.sample_expected_shortfall(samples, 0.95)) == 48.0
    assert float(tails.sample_expected_shortfall(samples, 0.945)) == 47.5  # ceil(5.5) = 6
    assert float(tails.sample_expected_shortfall(samples, 0.9999)) == 50.0
    gains = samples + 100.0  # a tail that gains is a negative loss, not its absolute value
    assert float(tails.sample_expected_shortfall(gains, 0.95)) == -52.0


def test_sample_shortfall_agrees_with_the_exact_one_within_its_error():
    draws = jax.random.normal(jax.random.key(0), (200_000,))
    worst = np.sort(np.asarray(draws))[:10_000]
    error = float(np.sqrt(worst.var() / 10_000 + 0.95 * (2.0627 - 1.6449) ** 2 / 10_000))
    ours = float(tails.sample_expected_shortfall(draws, 0.95))
    assert ours == pytest.approx(2.062713, abs=5 * error)
    assert float(tails.sample_value_at_risk(draws, 0.95)) == pytest.approx(1.644854, abs=0.025)


def test_risk_record_of_a_normal_and_of_a_student_t(x64):
    normal = tails.risk_record(lambda u: 0.1 + 2.0 * ndtri(u), 0.95)
    expected = (2 * 1.644853627 - 0.1, 2 * 2.0627128075 - 0.1, 0.1, 2.0, 0.0, 0.0, 0.95)
    np.testing.assert_allclose(np.array(normal), expected, atol=1e-7)
    quantile = student_t(12.0)
    heavy = tails.risk_record(quantile, 0.99, upper_quantile_fn=lambda u: -quantile(u))
    moments = [float(heavy.mean), float(heavy.std), float(heavy.skewness)]
    np.testing.assert_allclose(moments, [0.0, np.sqrt(1.2), 0.0], atol=1e-7)
    assert float(heavy.excess_kurtosis) == pytest.approx(6.0 / 8.0, abs=1e-5)


def test_risk_record_of_a_skewed_law_matches_quadrature_of_its_density(x64):
    # r = sinh(z + 1/2), density by the change of variable.
    def density(r):
        return stats.norm.pdf(np.arcsinh(r) - 0.5) / np.sqrt(1 + r * r)

    def raw(power):
        return integrate.quad(
            lambda z: np.sinh(z + 0.5) ** power * stats.norm.pdf(z), -12, 12, limit=200
        )[0]

    record = tails.risk_record(
        lambda u: jnp.sinh(ndtri(u) + 0.5),
        0.95,
        upper_quantile_fn=lambda u: jnp.sinh(0.5 - ndtri(u)),
        num_nodes=96,
    )
    mean, second, third = raw(1), raw(2), raw(3)
    variance = second - mean**2
    skewness = (third - 3 * mean * variance - mean**3) / variance**1.5
    assert float(record.mean) == pytest.approx(mean, rel=1e-7)
    assert float(record.std) == pytest.approx(np.sqrt(variance), rel=1e-6)
    assert float(record.skewness) == pytest.approx(skewness, rel=1e-4)
    q = -float(record.value_at_risk)
    assert integrate.quad(density, -np.inf, q)[0] == pytest.approx(0.05, abs=1e-8)


def test_risk_record_is_finite_in_single_precision(variant):
    record = variant(lambda: tails.risk_record(ndtri, 0.95))()
    chex.assert_tree_all_finite(record)
    np.testing.assert_allclose(np.array(record[2:6]), [0, 1, 0, 0], atol=2e-3)


def test_e335_16_the_same_state_gives_the_same_mean_and_different_states_different_ones():
    def mean(state):
        return tails.risk_record(lambda u: state + 0.006 * ndtri(u), 0.95).mean

    first, again, other = jax.vmap(mean)(jnp.array([5e-5, 5e-5, -5e-5]))
    assert first == again
    assert first > 0 > other


@pytest.mark.parametrize(
    ("threshold", "probability"), [(0.0, 0.5), (1.0, 0.1586552539), (-2.0, 0.9772498681)]
)
def test_prob_above_of_a_normal(threshold, probability):
    assert float(tails.prob_above(ndtr, threshold)) == pytest.approx(probability, abs=1e-6)


def test_a_risk_at_the_limit_is_acceptable_and_one_that_is_not_a_number_is_not():
    losses = jnp.array([0.01, 0.02, 0.020001, jnp.nan])
    acceptable = tails.is_risk_acceptable(losses, jnp.float32(0.02))
    np.testing.assert_array_equal(acceptable, [True, True, False, False])


def test_a_confidence_outside_the_unit_interval_raises():
    with pytest.raises(ValueError, match="confidence"):
        tails.sample_expected_shortfall(jnp.zeros(10), 95.0)
