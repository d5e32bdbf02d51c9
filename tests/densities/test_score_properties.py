"""What a score is and is not: its law's integral, its zeros, its divergence."""

import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from densityjax import targets
from densityjax.densities import partition_function, path_integral, probability_flow

CENTRE = 3.0
MIXTURE = targets.gaussian_mixture(
    [0.5, 0.5], [[-CENTRE, 0.0], [CENTRE, 0.0]], [np.eye(2), np.eye(2)]
)
SKEWED = targets.gaussian_mixture([0.7, 0.3], [[-1.0, 0.2], [1.5, 1.0]], [np.eye(2)] * 2)


def test_e337_03_z_is_the_integral_of_exp_of_minus_the_energy():
    found = partition_function.quadrature(lambda x: -0.5 * jnp.sum(x**2), [-12.0], [12.0])
    assert float(found) == pytest.approx(0.918939, abs=2e-6)
    normalised = partition_function.quadrature(
        lambda x: -0.5 * jnp.sum(x**2) - 0.5 * math.log(2 * math.pi), [-12.0], [12.0]
    )
    assert float(normalised) == pytest.approx(0.0, abs=2e-6)  # of p itself the integral is 1


def test_e337_04_the_score_is_zero_at_a_saddle_too():
    saddle = jnp.zeros(2)
    np.testing.assert_allclose(MIXTURE.score(saddle), 0.0, atol=1e-6)
    curvature = np.linalg.eigvalsh(np.asarray(jax.hessian(MIXTURE.log_prob)(saddle), np.float64))
    # Equal modes at -m and m: second derivatives m^2 - 1 between them and -1 across.
    np.testing.assert_allclose(curvature, [-1.0, CENTRE**2 - 1.0], rtol=1e-4)
    assert float(MIXTURE.log_prob(saddle)) < float(MIXTURE.log_prob(jnp.array([2.0, 0.0])))


def test_e337_04_a_score_gives_the_density_once_its_integral_is_known():
    """Log densities from the score up to a constant; the constant from the integral being 1."""
    start = jnp.array([0.5, 0.5])

    def relative(x):
        return path_integral.log_density_ratio(SKEWED.score, x, start, num_nodes=24)

    low, high = [-8.0, -8.0], [8.0, 8.0]
    log_z = partition_function.quadrature(relative, low, high)
    x = jnp.array([-1.2, 0.7])
    assert float(relative(x) - log_z) == pytest.approx(float(SKEWED.log_prob(x)), abs=1e-3)


def test_e337_15_the_divergence_of_the_score_is_the_laplacian_and_the_flow_integrates_it():
    for x, sigma in itertools.product(([0.3, -1.0], [-2.0, 1.0]), (0.1, 1.0)):
        point, law = jnp.array(x), SKEWED.noised(sigma)
        divergence = jnp.trace(jax.jacfwd(law.score)(point))
        laplacian = jnp.trace(jax.hessian(law.log_prob)(point))
        assert float(divergence) == pytest.approx(float(laplacian), abs=1e-4)
    point = jnp.array([-1.2, 0.7])
    found = probability_flow.log_prob(
        lambda y, sigma: SKEWED.noised(sigma).score(y), point, location=jnp.array([-0.25, 0.44])
    )
    assert float(found) == pytest.approx(float(SKEWED.log_prob(point)), abs=2e-3)
