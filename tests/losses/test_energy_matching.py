"""Score matching of energies: minima in closed form, and a sign that cannot be turned round."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from densityjax import losses, targets

SIGMA = 0.4
LAW = targets.gaussian_mixture([0.7, 0.3], [[-1.0], [2.0]], [[[0.6]], [[0.2]]])


def hermite(num=30):
    point, weight = np.polynomial.hermite_e.hermegauss(num)
    return jnp.asarray(point), jnp.asarray(weight / weight.sum())


def legendre(log_prob, lower=-7.0, upper=6.0, num=200):
    node, weight = np.polynomial.legendre.leggauss(num)
    x = jnp.asarray(lower + 0.5 * (upper - lower) * (node + 1.0))[:, None]
    return x, 0.5 * (upper - lower) * weight * jnp.exp(jax.vmap(log_prob)(x))


@pytest.mark.parametrize(("variance", "sigma"), [(1.0, 0.1), (0.3, 1.0)])
def test_e338_02_denoising_fits_a_positive_curvature(variance, sigma, x64):
    """d (sigma^2 k^2 (v + sigma^2) - 2 sigma^2 k + 1) is least at k = 1 / (v + sigma^2)."""
    point, weight = hermite(6)

    def mean(k):
        def one(x, eps):
            return losses.energy_denoising_score_matching(
                lambda y: 0.5 * k * jnp.sum(y**2), jnp.sqrt(variance) * x[None], eps[None], sigma
            )

        return weight @ jax.vmap(jax.vmap(one, (None, 0)), (0, None))(point, point) @ weight

    k = 1.0 / (variance + sigma**2)
    assert jax.grad(mean)(k) == pytest.approx(0.0, abs=1e-10)
    assert mean(k) == pytest.approx(variance / (variance + sigma**2), rel=1e-9)
    assert mean(-k) > mean(k) + 3.0 * sigma**2 * k
    if (variance, sigma) == (1.0, 0.1):
        assert k == pytest.approx(0.990, abs=1e-3)


def test_denoising_is_least_at_the_energy_of_the_noisy_law_and_not_of_the_clean_one(x64):
    (x, mass), (eps, weight) = legendre(LAW.log_prob), hermite()
    noisy = LAW.noised(SIGMA)

    def mean(theta):
        def energy(y):
            return -theta[0] * noisy.log_prob(y) - theta[1] * LAW.log_prob(y)

        def one(x, eps):
            return losses.energy_denoising_score_matching(energy, x, eps[None], SIGMA)

        return mass @ jax.vmap(jax.vmap(one, (None, 0)), (0, None))(x, eps) @ weight

    gradient = jax.jit(jax.grad(mean))
    np.testing.assert_allclose(gradient(jnp.array([1.0, 0.0])), 0.0, atol=1e-6)
    assert abs(gradient(jnp.array([0.0, 1.0]))).max() > 0.01
    assert gradient(jnp.array([-1.0, 0.0]))[0] < -0.5


@pytest.mark.parametrize("name", ["exact", "sliced", "plain_sliced"])
def test_energies_matched_without_noise_are_those_of_a_law_that_is_not_symmetric(name, x64):
    """E = a exp(x) - b x for the log of an exponential variable: a = b = 1, whatever the sign."""
    x, mass = legendre(lambda x: jnp.sum(x - jnp.exp(x)), -24.0, 4.0)
    direction = jnp.array([-1.0])

    def loss(theta, x):
        def energy(y):
            return jnp.sum(theta[0] * jnp.exp(y) - theta[1] * y)

        if name == "exact":
            return losses.energy_exact_score_matching(energy, x)
        return losses.energy_sliced_score_matching(
            energy, x, direction, variance_reduced=name == "sliced"
        )

    def mean(theta):
        return mass @ jax.vmap(loss, (None, 0))(theta, x)

    truth = jnp.ones(2)
    np.testing.assert_allclose(jax.jit(jax.grad(mean))(truth), 0.0, atol=1e-8)
    # -E |s*|^2 / 2 there, and E (1 - exp(x))^2 = 1 for an exponential variable.
    assert jax.jit(mean)(truth) == pytest.approx(-0.5, abs=1e-8)
    assert jax.jit(mean)(-truth) == pytest.approx(1.5, abs=1e-8)


def test_levels_of_an_energy_reach_the_floor_of_each():
    """U = |y|^2 / (2 (1 + sigma^2)) on N(0, I_2): D / (1 + sigma^2) at every level."""
    sigmas = jnp.array([0.1, 1.0, 3.0])
    keys = jax.random.split(jax.random.key(0), 4_000)

    def one(key):
        x_key, noise_key = jax.random.split(key)
        x, noise = jax.random.normal(x_key, (2,)), jax.random.normal(noise_key, (3, 2))
        return losses.energy_denoising_per_level(
            lambda y, sigma: 0.5 * jnp.sum(y**2) / (1.0 + sigma**2), x, noise, sigmas
        )

    mean, per_level = jax.jit(jax.vmap(one))(keys)
    error = np.asarray(per_level).std(0) / np.sqrt(4_000)
    found, expected = np.asarray(per_level).mean(0), 2.0 / (1.0 + np.asarray(sigmas) ** 2)
    assert (abs(found - expected) < 5.0 * error).all()
    np.testing.assert_allclose(mean, per_level.mean(axis=1), rtol=1e-5)
