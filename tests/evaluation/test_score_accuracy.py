"""Accuracy of scores against closed forms."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from densityjax.evaluation import score_accuracy as accuracy

COVARIANCE = np.array([[1.5, 0.6], [0.6, 0.8]])
ROWS = np.random.default_rng(0).standard_normal((4_000, 2)) @ np.linalg.cholesky(COVARIANCE).T
SCORES = jnp.asarray(-ROWS @ np.linalg.inv(COVARIANCE), jnp.float32)


def test_sco_11_the_true_score_has_no_error():
    found = accuracy.score_accuracy(SCORES, SCORES, 0.5)
    np.testing.assert_allclose(found, (0.0, 1.0, 1.0, 0.0), atol=1e-6)


@pytest.mark.parametrize("factor", [1.2, 0.5, -1.0])
def test_met_03_a_scaled_score_has_the_error_of_its_scale(factor):
    found = accuracy.score_accuracy(factor * SCORES, SCORES, 0.5)
    size = float(jnp.mean(jnp.sum(SCORES**2, axis=1)))
    expected = (
        (factor - 1) ** 2,
        np.sign(factor),
        np.sign(factor),
        0.25 * (factor - 1) ** 2 * size,
    )
    np.testing.assert_allclose(found, expected, rtol=1e-4)


def test_a_turned_score_loses_its_cosine_and_a_zero_one_counts_as_none():
    turned = jnp.stack([-SCORES[:, 1], SCORES[:, 0]], axis=1)
    found = accuracy.score_accuracy(turned, SCORES)
    assert float(found.cosine) == pytest.approx(0.0, abs=1e-6)
    assert float(found.relative_fisher_error) == pytest.approx(2.0, rel=1e-5)
    half = accuracy.score_accuracy(SCORES.at[::2].set(0.0), SCORES)
    assert float(half.cosine) == pytest.approx(0.5, rel=1e-5)


def test_the_asymmetry_is_that_of_the_matrix_of_a_linear_field():
    matrix = jnp.array([[1.0, 0.4], [-0.2, 2.0]])
    found = accuracy.jacobian_asymmetry(lambda x: matrix @ x, jnp.array([0.3, -1.0]))
    expected = math.sqrt(2 * 0.6**2) / float(jnp.linalg.norm(matrix))
    assert float(found) == pytest.approx(expected, rel=1e-5)
    gradient = jax.grad(lambda x: jnp.sum(jnp.sin(x)) * x[0])
    assert float(accuracy.jacobian_asymmetry(gradient, jnp.array([0.3, -1.0]))) < 1e-6
    assert float(accuracy.jacobian_asymmetry(jnp.zeros_like, jnp.zeros(2))) == 0.0


def test_met_03_level_losses_gain_over_the_line_is_zero_for_the_linear_score_and_e337_07_fixed():
    rows = jnp.asarray(ROWS, jnp.float32)
    mean, covariance = jnp.mean(rows, 0), jnp.cov(rows.T, ddof=0)
    sigmas = jnp.array([0.1, 1.0])
    noise = jax.random.normal(jax.random.key(0), (2, *rows.shape))

    def linear(y, sigma):
        return -jnp.linalg.solve(covariance + sigma**2 * jnp.eye(2), y - mean)

    found = accuracy.level_losses(linear, rows, noise, sigmas)
    np.testing.assert_allclose(found.gain, 0.0, atol=1e-5)
    eigenvalues = np.linalg.eigvalsh(COVARIANCE)
    line = [(eigenvalues / (eigenvalues + sigma**2)).sum() for sigma in (0.1, 1.0)]
    np.testing.assert_allclose(found.gaussian_line, line, rtol=0.06)  # 4,000 rows, 5 errors
    worse = accuracy.level_losses(lambda y, sigma: 0.1 * linear(y, sigma), rows, noise, sigmas)
    assert (worse.gain < -5 * worse.standard_error).all()
    again = accuracy.level_losses(linear, rows, noise, sigmas)
    np.testing.assert_array_equal(found.loss, again.loss)
