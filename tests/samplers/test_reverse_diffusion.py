"""Reverse diffusion with exact scores: variances by recursion, the flow map, and skew."""

import functools
import itertools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from densityjax import targets
from densityjax.samplers import mala, reverse_diffusion, schedules

NUM = 8_000
KEYS = jax.random.split(jax.random.key(0), NUM)
RANGE = {"sigma_min": 0.02, "sigma_max": 20.0}
SKEWED = targets.gaussian_mixture([0.8, 0.2], [[-0.5], [2.0]], [[[0.25]], [[1.0]]])
VARIANCES = np.array([1.0, 0.1, 0.01])


def gaussian_score(x, sigma):
    return -x / (jnp.asarray(VARIANCES, x.dtype) + sigma**2)


def normal_score(x, sigma):
    return -x / (1.0 + sigma**2)


def skewed_score(x, sigma):
    return SKEWED.noised(sigma).score(x)


@functools.partial(
    jax.jit, static_argnames=("score_fn", "dim", "predictor", "corrector", "final_denoise")
)
def draws(keys, sigmas, *, score_fn=normal_score, dim=1, **options):
    def one(key):
        start_key, key = jax.random.split(key)
        start = reverse_diffusion.start(start_key, dim, 20.0)
        return reverse_diffusion.sample(key, score_fn, start, sigmas=sigmas, **options)

    return jax.vmap(one)(keys)


@pytest.mark.parametrize(
    ("num_levels", "known"),
    [
        (10, [1.147, 0.1212, 0.0127]),
        (18, [1.037, 0.1052, 0.01037]),
        (36, [1.008, 0.1010, 0.0098]),
    ],
)
def test_heun_scales_a_gaussian_by_the_known_factors(num_levels, known, x64):
    """The map is linear and without noise: one point shows the variance exactly."""
    sigmas = schedules.edm_levels(**RANGE, num_levels=num_levels)
    x = reverse_diffusion.sample(
        jax.random.key(0), gaussian_score, jnp.ones(3), sigmas=sigmas
    ).position
    np.testing.assert_allclose((20.0**2 + 1.0) * x**2, known, rtol=6e-3)


def test_heun_agrees_with_the_closed_form_of_the_flow_and_its_error_falls_by_four(x64):
    """x sqrt((v + sigma_min^2) / (v + sigma_max^2)), to 1e-4."""
    exact = np.sqrt((VARIANCES + 0.02**2) / (VARIANCES + 20.0**2))

    def errors(num_levels):
        sigmas = schedules.edm_levels(**RANGE, num_levels=num_levels)
        draw = reverse_diffusion.sample(
            jax.random.key(0), gaussian_score, jnp.ones(3), sigmas=sigmas, final_denoise=False
        )
        return np.abs(draw.position / exact - 1.0)

    coarse, fine = errors(161), errors(321)
    assert fine.max() < 1e-4
    np.testing.assert_allclose(coarse / fine, 4.0, rtol=0.1)


def stochastic_variance(sigmas, kind, share):
    value = 20.0**2 + 1.0
    for sigma, after in itertools.pairwise(sigmas):
        drop = sigma**2 - after**2
        noise = drop if kind == "euler_maruyama" else drop * (after / sigma) ** 2
        value = (1.0 - drop / (1.0 + sigma**2)) ** 2 * value + noise
        step_size = share * after**2
        value = (1.0 - step_size / (1.0 + after**2)) ** 2 * value + 2.0 * step_size
    return value


@pytest.mark.parametrize(
    ("kind", "share", "known"),
    [
        ("euler_maruyama", 0.0, (0.15, 0.072, 0.035)),
        ("ancestral", 0.0, (-0.13, -0.067, -0.034)),
        ("euler_maruyama", 0.1, (0.072, 0.025, 0.011)),
    ],
)
def test_reverse_diffusion_has_the_known_excess_and_a_corrector_halves_it(kind, share, known):
    corrector = reverse_diffusion.langevin_corrector(share=share) if share else None
    for num_levels, excess in zip((50, 100, 200), known, strict=True):
        sigmas = np.geomspace(20.0, 0.02, num_levels)
        expected = stochastic_variance(sigmas, kind, share)
        assert abs(expected - 1.0 - excess) < 0.006  # as quoted, to about half a percent
        if num_levels == 50:
            options = {"predictor": getattr(reverse_diffusion, kind), "corrector": corrector}
            draw = draws(KEYS, jnp.asarray(sigmas), dim=4, final_denoise=False, **options)
            error = np.sqrt(2.0 / (4 * NUM))
            assert abs(float(draw.position.var()) / expected - 1.0) < 5.0 * error
            assert not draw.num_refused.any()


def mala_corrector(key, x, sigma, score_fn):
    """Any sampler at the new level will do: one without bias, on the noised log density."""
    del score_fn
    log_prob = SKEWED.noised(sigma).log_prob
    state, _ = mala.step(key, mala.init(x, log_prob), log_prob, 0.3 * (0.25 + sigma**2))
    return state.position


@pytest.mark.parametrize(
    ("predictor", "corrector", "num_levels", "bias"),
    [
        (reverse_diffusion.heun, None, 36, 0.02),
        (reverse_diffusion.euler_maruyama, None, 200, 0.06),
        (reverse_diffusion.ancestral, reverse_diffusion.langevin_corrector(), 200, 0.06),
        (reverse_diffusion.euler_maruyama, mala_corrector, 100, 0.06),
    ],
)
def test_an_asymmetric_law_comes_out_the_right_way_round(predictor, corrector, num_levels, bias):
    build = schedules.edm_levels if corrector is None else schedules.geometric_levels
    sigmas = build(**RANGE, num_levels=num_levels)
    x = draws(KEYS, sigmas, score_fn=skewed_score, predictor=predictor, corrector=corrector)
    x = np.asarray(x.position, np.float64)[:, 0]
    variance = 0.8 * (0.25 + 0.25) + 0.2 * (4.0 + 1.0)
    third = 0.8 * (-0.125 - 1.5 * 0.25) + 0.2 * (8.0 + 6.0)  # E x^3 = sum w (m^3 + 3 m v)
    assert abs(x.mean()) < 5.0 * np.sqrt(variance / NUM) + bias
    squares, cubes = x**2, x**3
    assert abs(squares.mean() - variance) < 5.0 * squares.std() / np.sqrt(NUM) + bias * variance
    assert abs(cubes.mean() - third) < 5.0 * cubes.std() / np.sqrt(NUM) + 2.0 * bias * third


def test_new_parameters_find_the_compiled_sampler_again():
    score_fn = chex.assert_max_traces(lambda params, x, sigma: -x / (params + sigma**2), n=3)
    sigmas = schedules.edm_levels(**RANGE, num_levels=8)

    @jax.jit
    def one(key, params):
        bound = functools.partial(score_fn, params)
        return reverse_diffusion.sample(key, bound, jnp.ones(2), sigmas=sigmas).position

    # Three traces: twice in an interval of Heun, once at the end, in one compilation.
    found = [float(one(jax.random.key(0), variance)[0]) for variance in (0.5, 1.0, 2.0, 3.0)]
    assert np.all(np.diff(found) > 0.0)


def test_the_start_has_the_variance_of_the_noised_data():
    x = jax.vmap(lambda key: reverse_diffusion.start(key, 2, 3.0, data_sd=jnp.array([4.0, 0.0])))
    np.testing.assert_allclose(x(KEYS).std(0), [5.0, 3.0], rtol=5.0 / np.sqrt(2.0 * NUM))


def test_intervals_that_are_not_finite_are_refused_and_counted():
    def broken(x, sigma):
        return jnp.where(sigma < 1.0, jnp.inf, -x / (1.0 + sigma**2))

    sigmas = schedules.edm_levels(**RANGE, num_levels=12)
    draw = reverse_diffusion.sample(
        jax.random.key(0), broken, jnp.ones(2), sigmas=sigmas, final_denoise=False
    )
    assert np.isfinite(draw.position).all()
    assert draw.num_refused == int((sigmas[1:] < 1.0).sum())  # Heun looks at both ends


@pytest.mark.parametrize(
    ("call", "match"),
    [
        (lambda run: run(jnp.ones(2), sigmas=jnp.array([1.0])), "2 levels"),
        (lambda run: run(jnp.ones(2), sigmas=jnp.array([0.1, 1.0])), "decreasing"),
        (lambda run: run(jnp.ones(2), sigmas=jnp.array([1.0, 0.0])), "positive"),
        (lambda run: run(jnp.ones((2, 1)), sigmas=jnp.array([1.0, 0.1])), "rank 1"),
        (lambda run: reverse_diffusion.langevin_corrector(share=0.0), "share"),
        (lambda run: reverse_diffusion.langevin_corrector(num_steps=0), "num_steps"),
        (lambda run: reverse_diffusion.start(jax.random.key(0), 2, -1.0), "sigma_max"),
        (lambda run: reverse_diffusion.start(jax.random.key(0), 0, 1.0), "dim"),
        (lambda run: reverse_diffusion.start(jax.random.key(0), 2, 1.0, data_sd=-1), "data_sd"),
    ],
)
def test_bad_settings_are_refused(call, match):
    run = functools.partial(reverse_diffusion.sample, jax.random.key(0), normal_score)
    with pytest.raises(ValueError, match=match):
        call(run)
