"""Losses of score matching against closed forms, on symmetric and on skewed laws."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from densityjax import losses, targets

KEYS = jax.random.split(jax.random.key(3), 2)
SKEWED = targets.log_exponential()  # log p = x - exp(x), D = 1: sign errors show
COVARIANCE = jnp.array([[2.0, 0.8, 0.0], [0.8, 1.0, -0.3], [0.0, -0.3, 0.5]])


def mean_and_error(values):
    values = np.asarray(values, np.float64)
    return values.mean(), values.std(ddof=1) / math.sqrt(values.size)


def gaussian_rows(num, variance=1.0, dim=3):
    x, noise = (jax.random.normal(key, (num, dim)) for key in KEYS)
    return math.sqrt(variance) * x, noise


@pytest.mark.parametrize("control_variate", [False, True])
@pytest.mark.parametrize(("slope", "variance"), [(0.4, 2.0), (-0.4, 2.0), (1 / 2.25, 2.0)])
def test_sco_08_denoising_loss_of_a_linear_score_is_the_closed_form(
    slope, variance, control_variate
):
    x, noise = gaussian_rows(40_000, variance)
    sigma = 0.5
    loss = functools.partial(
        losses.denoising_score_matching,
        lambda y, _: -slope * y,
        sigma=sigma,
        control_variate=control_variate,
    )
    mean, error = mean_and_error(jax.jit(jax.vmap(loss))(x, noise))
    expected = 3 * (sigma**2 * slope**2 * (variance + sigma**2) - 2 * sigma**2 * slope + 1)
    assert mean == pytest.approx(expected, abs=5 * error)
    assert error < 0.02  # a flipped sign is off by 1.2


def test_sco_07_e337_06_single_level_denoising_finds_the_precision_of_the_noisy_law():
    # The loss is quadratic in K of s = -K y: its gradient vanishes at (C + sigma^2 I)^-1.
    sigma, factor = 0.7, np.linalg.cholesky(np.asarray(COVARIANCE))
    x, noise = gaussian_rows(100_000)
    x = x @ factor.T

    @jax.jit
    def gradient(precision):
        def mean(precision):
            one = functools.partial(
                losses.denoising_score_matching, lambda y, _: -precision @ y, weight=1.0
            )
            return jnp.mean(jax.vmap(one, (0, 0, None))(x, noise, sigma))

        return jax.grad(mean)(precision)

    noisy = COVARIANCE + sigma**2 * jnp.eye(3)
    right, clean = jnp.linalg.inv(noisy), jnp.linalg.inv(COVARIANCE)
    hessian = 2 * np.linalg.eigvalsh(noisy).min()  # a gradient of g moves the minimiser by g / it
    assert np.abs(gradient(right)).max() / hessian < 0.03
    assert np.abs(gradient(clean)).max() > 0.5
    assert np.abs(gradient(-right)).max() > 0.5


def test_sco_08_denoising_floor_and_gaussian_line_are_what_the_true_score_loses():
    sigmas, factor = jnp.array([0.1, 1.0, 3.0]), np.linalg.cholesky(np.asarray(COVARIANCE))
    x = gaussian_rows(20_000)[0] @ factor.T
    noise = jax.random.normal(jax.random.key(8), (20_000, 3, 3))

    def true_score(y, sigma):
        return -jnp.linalg.solve(COVARIANCE + sigma**2 * jnp.eye(3), y)

    total, levels = jax.jit(
        jax.vmap(functools.partial(losses.denoising_per_level, true_score), (0, 0, None))
    )(x, noise, sigmas)
    np.testing.assert_allclose(total, levels.mean(axis=1), rtol=1e-5)
    for index, sigma in enumerate(sigmas.tolist()):
        mean, error = mean_and_error(levels[:, index])
        line = losses.gaussian_line(COVARIANCE, sigma)
        square = jnp.trace(jnp.linalg.inv(COVARIANCE + sigma**2 * jnp.eye(3)))  # E |s*|^2
        assert float(losses.denoising_floor(square, sigma, 3)) == pytest.approx(float(line), 1e-4)
        assert mean == pytest.approx(float(line), abs=5 * error)
        eigenvalues = np.linalg.eigvalsh(np.asarray(COVARIANCE, np.float64))
        assert float(line) == pytest.approx((eigenvalues / (eigenvalues + sigma**2)).sum(), 1e-4)


def test_the_linear_line_bounds_a_skewed_law_too_and_its_true_score_is_below():
    # One dimension, noise 1: p_sigma by quadrature on a grid.
    sigma, grid = 1.0, np.linspace(-14.0, 8.0, 1_601)
    clean = np.exp(grid - np.exp(grid))
    density = np.array([np.trapezoid(clean * np.exp(-0.5 * (y - grid) ** 2), grid) for y in grid])
    score = np.gradient(np.log(density), grid)
    density /= np.trapezoid(density, grid)
    floor = losses.denoising_floor(np.trapezoid(score**2 * density, grid), sigma, 1)
    line = losses.gaussian_line(jnp.array([[math.pi**2 / 6.0]]), sigma)
    assert float(floor) < float(line) - 0.02
    x = jax.vmap(SKEWED.sample)(jax.random.split(jax.random.key(1), 60_000))
    noise = jax.random.normal(jax.random.key(2), x.shape)
    wanted = jnp.asarray(score, jnp.float32)

    def loss_of(sign):
        def score_fn(y, _):
            return sign * jnp.interp(y, jnp.asarray(grid, jnp.float32), wanted)

        one = functools.partial(losses.denoising_score_matching, score_fn, sigma=sigma)
        return mean_and_error(jax.vmap(one)(x, noise))

    mean, error = loss_of(1.0)
    assert mean == pytest.approx(float(floor), abs=5 * error)
    assert loss_of(-1.0)[0] > mean + 0.5


def test_the_control_variate_keeps_the_variance_bounded_as_the_noise_falls():
    x, noise = gaussian_rows(4_000)

    def spread(sigma, control_variate):
        one = functools.partial(
            losses.denoising_score_matching,
            lambda y, _: -0.9 * y,
            sigma=sigma,
            weight=1.0,
            control_variate=control_variate,
        )
        return float(jax.vmap(one)(x, noise).std())

    assert spread(0.01, False) > 5_000.0
    assert spread(0.01, True) == pytest.approx(spread(0.1, True), rel=0.3)


def test_edm_weight_makes_every_level_lose_the_dimension():
    x, noise = gaussian_rows(20_000, 4.0)
    for sigma in (0.05, 1.0, 10.0):
        weight = losses.edm_weight(sigma, data_sd=2.0)
        one = functools.partial(
            losses.denoising_score_matching,
            lambda y, sigma: -y / (4.0 + sigma**2),
            sigma=sigma,
            weight=weight,
        )
        mean, error = mean_and_error(jax.vmap(one)(x, noise))
        assert mean == pytest.approx(3.0, abs=5 * error)


@pytest.mark.parametrize("slope", [1.0, 0.3, -0.5])
def test_sco_06_exact_loss_of_a_linear_score_is_the_closed_form(slope):
    x, _ = gaussian_rows(40_000)
    one = functools.partial(losses.exact_score_matching, lambda y: -slope * y)
    mean, error = mean_and_error(jax.vmap(one)(x))
    assert mean == pytest.approx(3 * (0.5 * slope**2 - slope), abs=5 * error + 1e-5)


def skewed_exact(sign):
    # E |s|^2 of log p = x - exp(x) is 1: at s = sign s* the loss is 1 / 2 - sign.
    return 0.5 - sign


@pytest.mark.parametrize("sign", [1.0, -1.0])
@pytest.mark.parametrize("name", ["exact", "sliced", "plain_sliced", "finite_difference"])
def test_losses_of_a_skewed_law_tell_the_sign_of_its_score(name, sign):
    x = jax.vmap(SKEWED.sample)(jax.random.split(jax.random.key(1), 100_000))
    probes = jax.random.rademacher(jax.random.key(2), x.shape, x.dtype)

    def score_fn(y):
        return sign * SKEWED.score(y)

    calls = {
        "exact": lambda y, _: losses.exact_score_matching(score_fn, y),
        "sliced": lambda y, v: losses.sliced_score_matching(score_fn, y, v),
        "plain_sliced": lambda y, v: losses.sliced_score_matching(
            score_fn, y, v, variance_reduced=False
        ),
        "finite_difference": lambda y, v: losses.finite_difference_score_matching(
            lambda point: sign * SKEWED.log_prob(point), y, 0.1 * v
        ),
    }
    mean, error = mean_and_error(jax.jit(jax.vmap(calls[name]))(x, probes))
    bias = 0.02 if name == "finite_difference" else 0.0  # O(h^2), h = .1
    assert mean == pytest.approx(skewed_exact(sign), abs=5 * error + bias)


def bent(y):
    """A score with a full Jacobian that is not symmetric."""
    return jnp.tanh(jnp.array([[1.0, 0.5, -0.3], [0.2, -0.7, 0.4], [-0.6, 0.1, 0.9]]) @ y) - y


@pytest.mark.parametrize("law", ["signs", "normal"])
@pytest.mark.parametrize("variance_reduced", [True, False])
def test_e337_05_sliced_loss_is_unbiased_for_the_exact_one(law, variance_reduced):
    x = jnp.array([0.4, -1.2, 0.7])
    draw = jax.random.rademacher if law == "signs" else jax.random.normal
    probes = draw(jax.random.key(5), (40_000, 3), jnp.float32)
    one = functools.partial(
        losses.sliced_score_matching, bent, x, variance_reduced=variance_reduced
    )
    mean, error = mean_and_error(jax.vmap(one)(probes))
    assert mean == pytest.approx(float(losses.exact_score_matching(bent, x)), abs=4 * error)
    unit = probes / jnp.linalg.norm(probes, axis=1, keepdims=True)
    scaled, error = mean_and_error(jax.vmap(one)(unit))
    assert abs(scaled - float(losses.exact_score_matching(bent, x))) > 10 * error


def test_sco_09_probe_variance_is_that_of_signs_and_normals():
    x = jnp.array([0.4, -1.2, 0.7])
    symmetric = np.asarray(jax.jacfwd(bent)(x), np.float64)
    symmetric = 0.5 * (symmetric + symmetric.T)
    off_diagonal = symmetric - np.diag(np.diag(symmetric))
    one = jax.vmap(functools.partial(losses.sliced_score_matching, bent, x))
    expected = {
        jax.random.rademacher: 2 * (off_diagonal**2).sum(),
        jax.random.normal: 2 * (symmetric**2).sum(),
    }
    for draw, variance in expected.items():
        values = np.asarray(one(draw(jax.random.key(6), (40_000, 3), jnp.float32)), np.float64)
        assert values.var() == pytest.approx(variance, rel=0.05)
    diagonal = jax.vmap(functools.partial(losses.sliced_score_matching, jnp.tanh, x))
    signs = jax.random.rademacher(jax.random.key(7), (100, 3), jnp.float32)
    np.testing.assert_allclose(diagonal(signs), losses.exact_score_matching(jnp.tanh, x), rtol=1e-5)


def normal_energy(y, log_sigma):
    variance = 1.0 + jnp.exp(2 * log_sigma)
    return 0.5 * jnp.sum(y**2) / variance + 0.5 * y.size * jnp.log(2 * jnp.pi * variance)


@pytest.mark.parametrize("log_sigma", [math.log(0.1), 0.0, math.log(3.0)])
def test_dual_floors_on_normal_data_are_one_and_the_closed_form(log_sigma):
    x, noise = gaussian_rows(60_000)
    terms = jax.jit(
        jax.vmap(functools.partial(losses.dual_score_matching_terms, normal_energy), (0, 0, None))
    )
    share = 1.0 / (1.0 + math.exp(2 * log_sigma))
    space, time = terms(x, noise, log_sigma)
    for values, floor in ((space, 1.0), (time, share * (2 - share) / 6)):
        mean, error = mean_and_error(values)
        assert mean == pytest.approx(floor, abs=5 * error)


def test_dual_loss_refuses_a_flipped_energy_and_one_without_its_constant():
    x, noise = gaussian_rows(4_000)

    def mean(energy):
        one = functools.partial(losses.dual_score_matching, energy)
        return float(jnp.mean(jax.vmap(one, (0, 0, None))(x, noise, 0.0)))

    right = mean(normal_energy)
    assert mean(lambda y, level: -normal_energy(y, level)) > right + 1.0
    # A constant that drifts with the noise is seen; no loss of one level alone can see it.
    assert mean(lambda y, level: normal_energy(y, level) + 1.5 * level) > right + 0.05


def test_dual_target_of_a_skewed_law_is_the_level_derivative_of_its_energy():
    # E[D - |eps|^2 | y] against the quadrature of -dlog p_sigma / dln sigma, at one point y.
    grid, y, level = np.linspace(-16.0, 6.0, 8_001), -1.3, -0.4
    clean = np.exp(grid - np.exp(grid))

    def energy(level):
        sigma = np.exp(level)
        kernel = np.exp(-0.5 * ((y - grid) / sigma) ** 2) / (sigma * math.sqrt(2 * math.pi))
        return -np.log(np.trapezoid(clean * kernel, grid))

    slope = (energy(level + 1e-4) - energy(level - 1e-4)) / 2e-4
    posterior = clean * np.exp(-0.5 * ((y - grid) / np.exp(level)) ** 2)
    posterior /= np.trapezoid(posterior, grid)
    noise = (y - grid) / np.exp(level)
    assert np.trapezoid((1.0 - noise**2) * posterior, grid) == pytest.approx(slope, rel=1e-4)
    # And the loss is least where the energy has that slope: its derivative in the slope vanishes.
    points = np.linspace(-6.0, 3.0, 19)

    def time_term(slope):
        one = jax.vmap(
            lambda x: losses.dual_score_matching_terms(
                lambda _, log_sigma: slope * log_sigma,
                jnp.array([x]),
                jnp.array([(y - x) / np.exp(level)]),
                level,
            )[1]
        )
        weight = np.interp(points, grid, posterior)
        return np.sum(np.asarray(one(jnp.asarray(points, jnp.float32))) * weight) / weight.sum()

    assert time_term(slope) < time_term(slope + 0.3)
    assert time_term(slope) < time_term(slope - 0.3)


def test_levels_are_stratified_and_within_their_range():
    shift = jax.random.uniform(jax.random.key(0), (256,))
    uniforms = losses.stratified_uniforms(256, shift)
    assert np.all(np.diff(np.floor(np.asarray(uniforms) * 256 - 1e-3)) >= 0)
    log_normal = losses.log_normal_sigmas(
        losses.stratified_uniforms(1000, 0.5),
        log_mean=-0.5,
        log_sd=1.2,
        sigma_min=1e-6,
        sigma_max=1e6,
    )
    assert np.log(log_normal).mean() == pytest.approx(-0.5, abs=1e-4)
    assert np.log(log_normal).std() == pytest.approx(1.2, rel=0.01)
    cut = losses.log_normal_sigmas(
        jnp.array([0.0, 0.5, 1.0]), log_mean=0.0, log_sd=1.0, sigma_min=0.02, sigma_max=20.0
    )
    np.testing.assert_allclose(cut, [0.02, 1.0, 20.0], rtol=1e-6)
    uniform = losses.log_uniform_sigmas(jnp.array([0.0, 0.5, 1.0]), sigma_min=0.01, sigma_max=1.0)
    np.testing.assert_allclose(uniform, [0.01, 0.1, 1.0], rtol=1e-5)
    grid = losses.geometric_sigmas(
        losses.stratified_uniforms(40, 0.5), sigma_min=0.01, sigma_max=1.0, num_levels=10
    )
    values, counts = np.unique(np.round(np.asarray(grid), 6), return_counts=True)
    np.testing.assert_array_equal(counts, 4)
    np.testing.assert_allclose(values[:-1] / values[1:], 0.599484, rtol=1e-3)


@pytest.mark.parametrize("sigma", [0.0, -0.5, math.nan, math.inf])
def test_a_noise_level_that_is_not_positive_is_named(sigma):
    with pytest.raises(ValueError, match=f"sigma is {sigma}: accepted is a positive"):
        losses.denoising_score_matching(lambda y, _: -y, jnp.ones(2), jnp.ones(2), sigma)


@pytest.mark.parametrize("ends", [(1.0, 1.0), (2.0, 1.0), (0.0, 1.0), (math.nan, 1.0)])
def test_ends_of_noise_levels_that_are_out_of_order_are_named(ends):
    low, high = ends
    for law in (
        losses.log_uniform_sigmas,
        functools.partial(losses.geometric_sigmas, num_levels=4),
    ):
        with pytest.raises(ValueError, match=f"sigma_min is {low} and sigma_max {high}"):
            law(jnp.array([0.5]), sigma_min=low, sigma_max=high)


@pytest.mark.parametrize("num", [7, 64, 1000])
def test_fixed_uniforms_are_even_in_every_run_and_always_the_same(num):
    uniforms = np.asarray(losses.fixed_uniforms(num))
    np.testing.assert_array_equal(uniforms, losses.fixed_uniforms(num))
    ends = np.concatenate([[0.0], np.sort(uniforms), [1.0]])
    assert np.diff(ends).max() < 3.0 / num  # three gaps: no hole wider than a few strata
