"""Probability-flow densities against closed forms: Gaussians, mixtures, a skewed law."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from densityjax import targets
from densityjax.densities import probability_flow

DIM = 3
FACTOR = np.array([[1.0, 0.0, 0.0], [0.7, 0.6, 0.0], [-0.3, 0.4, 0.5]])
COVARIANCE = FACTOR @ FACTOR.T
NOISE = np.random.default_rng(0).standard_normal((15, DIM))
POINTS = np.concatenate([np.zeros((1, DIM)), NOISE @ FACTOR.T])
KEY = jax.random.key(0)


def gaussian_score(covariance, mean=0.0):
    def score_fn(x, sigma):
        noisy = jnp.asarray(covariance) + sigma**2 * jnp.eye(DIM)
        return -jnp.linalg.solve(noisy, x - jnp.asarray(mean))

    return score_fn


def gaussian_log_prob(x, covariance, mean=0.0):
    law = targets.gaussian(np.broadcast_to(mean, DIM), covariance)
    return jax.vmap(law.log_prob)(jnp.asarray(x))


SMALL = {"sigma_min": 0.02, "sigma_max": 20.0, "num_steps": 16}
SCORE = gaussian_score(COVARIANCE)


@functools.lru_cache
def flow_at(*, is_correlated=False, **options):
    one = functools.partial(
        probability_flow.log_prob_and_error,
        SCORE,
        data_covariance=jnp.asarray(COVARIANCE) if is_correlated else None,
        **options,
    )
    return jax.jit(jax.vmap(one))(jnp.asarray(POINTS, jnp.float32))


def truth(sigma_min):
    return gaussian_log_prob(POINTS, COVARIANCE + sigma_min**2 * np.eye(DIM))


def test_den_03_a_gaussian_is_within_a_thousandth_of_a_nat():
    default = jax.jit(jax.vmap(functools.partial(probability_flow.log_prob, SCORE)))
    found = default(jnp.asarray(POINTS, jnp.float32))
    np.testing.assert_allclose(found, truth(0.0), atol=1e-3)


def test_the_prior_has_the_variance_of_noise_and_data():
    # At the centre the prior N(0, sigma_max^2 I) would be off by D / (2 sigma_max^2) = .375.
    near = {"sigma_min": 0.02, "sigma_max": 2.0, "num_steps": 16}
    given = flow_at(**near, is_correlated=True)
    np.testing.assert_allclose(given.log_prob, truth(0.02), atol=2e-3)
    unit = flow_at(**near).log_prob[0] - truth(0.02)[0]
    variances = np.linalg.eigvalsh(COVARIANCE)
    expected = -0.5 * np.log((1 + 4.0) / (variances + 4.0)).sum()
    assert float(unit) == pytest.approx(expected, abs=2e-3)
    assert abs(expected) < 0.375 / 2


def test_the_reported_step_error_bounds_the_error_and_falls_with_the_steps():
    ends = {"sigma_min": 0.02, "sigma_max": 20.0}
    exact = flow_at(num_steps=96, **ends).log_prob
    errors = {}
    for num_steps in (12, 24):
        answer = flow_at(num_steps=num_steps, **ends)
        errors[num_steps] = float(jnp.abs(answer.log_prob - exact).max())
        assert errors[num_steps] <= float(answer.step_error.max())
    assert errors[24] < errors[12] / 8  # fourth order: a sixteenth
    assert errors[24] > 1e-5


def test_a_skewed_mixture_is_found_with_its_weights():
    weights, means = [0.7, 0.3], np.array([[-1.0], [1.5]])
    covariances = np.array([[[0.3]], [[0.1]]])

    def score_fn(x, sigma):
        def log_prob(x):
            variance = jnp.asarray(covariances[:, 0, 0]) + sigma**2
            square = (x[0] - jnp.asarray(means[:, 0])) ** 2
            logs = jnp.log(jnp.asarray(weights)) - 0.5 * jnp.log(2 * jnp.pi * variance)
            return jax.nn.logsumexp(logs - 0.5 * square / variance)

        return jax.grad(log_prob)(x)

    # The law at the end is that of standardised data: the mean goes into `location`.
    location, points = np.dot(weights, means[:, 0]), jnp.linspace(-3.5, 3.5, 57)[:, None]
    one = functools.partial(probability_flow.log_prob, score_fn, location=location, num_steps=80)
    law = targets.gaussian_mixture(weights, means, covariances + probability_flow.SIGMA_MIN**2)
    found = jax.jit(jax.vmap(one))(points)
    np.testing.assert_allclose(found, jax.vmap(law.log_prob)(points), atol=3e-3)
    density = np.exp(np.asarray(found, np.float64))
    assert np.trapezoid(density, np.asarray(points[:, 0])) == pytest.approx(1.0, abs=2e-3)


def test_units_of_the_data_cost_the_log_of_the_scale():
    scale, location = np.array([100.0, 0.01, 5.0]), np.array([7.0, 0.3, -2.0])
    standard = gaussian_score(COVARIANCE)

    def score_fn(x, sigma):
        return standard((x - location) / scale, sigma) / scale

    one = functools.partial(
        probability_flow.log_prob, score_fn, location=location, scale=scale, **SMALL
    )
    rows = jnp.asarray(location + scale * POINTS, jnp.float32)
    found = jax.jit(jax.vmap(one))(rows)
    expected = flow_at(**SMALL).log_prob - np.log(scale).sum()
    np.testing.assert_allclose(found, expected, atol=2e-3)


@functools.lru_cache
def estimated(num_probes, num_keys):
    def one(x, key):
        return probability_flow.log_prob_and_error(
            SCORE,
            x,
            **SMALL,
            trace="hutchinson",
            key=key,
            num_probes=num_probes,
        )

    keys = jax.random.split(KEY, num_keys)
    return jax.jit(jax.vmap(one, (None, 0)))(jnp.asarray(POINTS[1], jnp.float32), keys)


def test_probes_are_averaged_unbiased_and_their_variance_falls_as_one_over_their_number():
    exact = flow_at(**SMALL).log_prob[1]
    few, many = estimated(4, 400), estimated(64, 400)
    for answer in (few, many):
        error = float(answer.log_prob.std() / 20.0)
        assert float(answer.log_prob.mean()) == pytest.approx(float(exact), abs=4 * error)
    # 400 answers give a variance within a tenth; 5 standard errors of the ratio are half of it.
    assert float(few.log_prob.var() / many.log_prob.var()) == pytest.approx(16.0, rel=0.5)
    # What is reported is the spread over keys.
    reported = float(jnp.sqrt(jnp.mean(many.trace_error**2)))
    assert reported == pytest.approx(float(many.log_prob.std()), rel=0.25)
    np.testing.assert_array_equal(few.log_prob, estimated.__wrapped__(4, 400).log_prob)


def test_one_dimension_and_a_diagonal_law_need_no_luck_of_the_probes():
    diagonal = gaussian_score(np.diag([0.5, 1.0, 2.0]))
    point = jnp.asarray(POINTS[2], jnp.float32)
    exact = probability_flow.log_prob(diagonal, point, **SMALL)
    probed = probability_flow.log_prob(
        diagonal, point, trace="hutchinson", key=KEY, num_probes=1, **SMALL
    )
    np.testing.assert_allclose(probed, exact, rtol=1e-5)


def test_whole_numbers_are_points_like_any_other():
    options = {"sigma_min": 0.1, "sigma_max": 3.0, "num_steps": 4}
    for flow in (probability_flow.log_prob, probability_flow.log_prob_and_error):
        one = jax.jit(functools.partial(flow, SCORE, **options))
        found, expected = one(jnp.array([1, -1, 2])), one(jnp.array([1.0, -1.0, 2.0]))
        for whole, same in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
            np.testing.assert_array_equal(whole, same)


def test_nan_in_nan_out():
    point = jnp.array([0.0, jnp.nan, 1.0])
    assert jnp.isnan(
        probability_flow.log_prob(gaussian_score(COVARIANCE), point, num_steps=4, sigma_max=2.0)
    )


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"num_steps": 3}, "num_steps is 3"),
        ({"trace": "slow"}, "trace is 'slow'"),
        ({"trace": "hutchinson"}, "key None"),
        ({"trace": "hutchinson", "key": KEY, "num_probes": 0}, "num_probes 0"),
        ({"sigma_min": 80.0}, r"sigma_min is 80\.0 and sigma_max 80\.0"),
        ({"sigma_min": 0.0}, r"sigma_min is 0\.0"),
    ],
)
def test_a_wrong_option_is_named(options, match):
    with pytest.raises(ValueError, match=match):
        probability_flow.log_prob(gaussian_score(COVARIANCE), jnp.zeros(DIM), **options)
    with pytest.raises(ValueError, match="num_steps is 6"):
        probability_flow.log_prob_and_error(gaussian_score(COVARIANCE), jnp.zeros(DIM), num_steps=6)
