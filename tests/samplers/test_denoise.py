import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from densityjax import targets
from densityjax.samplers import denoise

MIXTURE = targets.gaussian_mixture([0.8, 0.2], [[0.0], [2.0]], [[[0.2]], [[1.0]]])


def gaussian_score(variance):
    return lambda x, sigma: -x / (variance + sigma**2)


def mixture_score(x, sigma):
    return MIXTURE.noised(sigma).score(x)


@pytest.mark.parametrize("sigma", [0.1, 1.0, 3.0])
def test_e337_12_tweedie_on_a_gaussian_shrinks_by_the_closed_form(sigma):
    y = jnp.array([0.5, -2.0, 7.0])
    for variance in (1.0, 0.3):
        found = denoise.tweedie(gaussian_score(variance), y, sigma)
        np.testing.assert_allclose(found, variance * y / (variance + sigma**2), atol=1e-6)
        covariance = denoise.tweedie_covariance(gaussian_score(variance), y, sigma)
        expected = variance * sigma**2 / (variance + sigma**2) * np.eye(3)
        np.testing.assert_allclose(covariance, expected, rtol=1e-5, atol=1e-6)


def test_tweedie_is_the_posterior_mean_of_an_asymmetric_law_by_quadrature(x64):
    x = np.linspace(-6.0, 9.0, 6_001)
    prior = np.exp(jax.vmap(lambda value: MIXTURE.log_prob(value[None]))(x))
    for y in (-1.0, 0.7, 1.6, 4.0):
        posterior = prior * np.exp(-0.5 * ((y - x) / 0.6) ** 2)
        posterior /= posterior.sum()
        mean = posterior @ x
        found = denoise.tweedie(mixture_score, jnp.array([y]), 0.6)
        np.testing.assert_allclose(found[0], mean, rtol=1e-7)
        spread = denoise.tweedie_covariance(mixture_score, jnp.array([y]), 0.6)
        np.testing.assert_allclose(spread[0, 0], posterior @ (x - mean) ** 2, rtol=1e-6)


def test_tweedie_reaches_the_bayes_error_and_ascent_does_not():
    """On N(0, v I) the mean square error is d v sigma^2 / (v + sigma^2)."""
    variance, sigma, dim = 1.0, 0.8, 2
    keys = jax.random.split(jax.random.key(0))
    x = jax.random.normal(keys[0], (20_000, dim))
    y = x + sigma * jax.random.normal(keys[1], x.shape)
    in_batches = functools.partial(jax.vmap, in_axes=(0, None))
    score_fn = gaussian_score(variance)
    for denoiser in (denoise.tweedie, functools.partial(denoise.ascend, num_steps=20)):
        found = jax.jit(in_batches(functools.partial(denoiser, score_fn)))(y, sigma)
        errors = jnp.sum((found - x) ** 2, axis=-1)
        excess = float(errors.mean()) - dim * variance * sigma**2 / (variance + sigma**2)
        error = float(errors.std()) / np.sqrt(len(x))
        if denoiser is denoise.tweedie:
            assert abs(excess) < 5.0 * error
        else:
            assert excess > 20.0 * error


@pytest.mark.parametrize(("num_steps", "share_of_way"), [(20, 0.182), (50, 0.395)])
def test_e337_12_small_ascent_goes_a_part_of_the_way_only(num_steps, share_of_way):
    """Where the data is the point 3, the way is y - 3 and each step goes a hundredth of it."""
    reached = denoise.ascend(
        lambda x, sigma: (3.0 - x) / sigma**2, jnp.array([8.0]), 0.5, num_steps=num_steps
    )
    np.testing.assert_allclose((8.0 - reached[0]) / 5.0, share_of_way, atol=5e-4)


@pytest.mark.parametrize(
    ("call", "match"),
    [
        (lambda y: denoise.tweedie(mixture_score, y, 0.0), "sigma"),
        (lambda y: denoise.tweedie_covariance(mixture_score, y, -1.0), "sigma"),
        (lambda y: denoise.ascend(mixture_score, y, 1.0, num_steps=0), "num_steps"),
        (lambda y: denoise.ascend(mixture_score, y, 1.0, share=-0.01), "share"),
    ],
)
def test_bad_settings_are_refused(call, match):
    with pytest.raises(ValueError, match=match):
        call(jnp.zeros(1))


def test_a_batch_is_not_taken_for_one_example():
    with pytest.raises(AssertionError, match="rank"):
        denoise.tweedie(mixture_score, jnp.zeros((2, 1)), 1.0)
