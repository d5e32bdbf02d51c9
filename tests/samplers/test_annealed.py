"""Annealed Langevin dynamics with exact scores: the closed recursion of the variance, and skew."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from densityjax import targets
from densityjax.samplers import annealed, chain, schedules

NUM = 6_000
KEYS = jax.random.split(jax.random.key(0), NUM)
VARIANCES = np.array([1.0, 9.0, 0.01])
CHAPTER = schedules.geometric_levels(sigma_min=0.01, sigma_max=1.0, num_levels=10)
WIDE = schedules.geometric_levels(sigma_min=0.02, sigma_max=15.0, num_levels=20)
SKEWED = targets.gaussian_mixture([0.8, 0.2], [[-0.5], [2.0]], [[[0.25]], [[1.0]]])


def gaussian_score(x, sigma):
    """Three Gaussians side by side, of mean zero and the variances above."""
    return -x / (jnp.asarray(VARIANCES) + sigma**2)


def recursion(sigmas, step_sizes, num_steps, start, *, is_denoised=True):
    """Variances [L, 3] after each level, step by step; the last with Tweedie where asked."""
    value, after = np.asarray(start, np.float64) * np.ones(3), []
    for sigma, step_size in zip(np.asarray(sigmas), np.asarray(step_sizes), strict=True):
        for _ in range(num_steps):
            with np.errstate(over="ignore"):  # steps for one variance may be too long for another
                value = (1.0 - step_size / (VARIANCES + sigma**2)) ** 2 * value + 2.0 * step_size
        after.append(value)
    if is_denoised:
        after[-1] = after[-1] * (VARIANCES / (VARIANCES + np.asarray(sigmas)[-1] ** 2)) ** 2
    return np.stack(after)


@functools.partial(jax.jit, static_argnames=("num_steps", "is_denoised"))
def gaussian_draws(keys, sigmas, step_sizes, start_sd, num_steps, is_denoised=True):
    def one(key):
        start_key, key = jax.random.split(key)
        return annealed.sample(
            key,
            gaussian_score,
            annealed.start(start_key, 3, start_sd),
            sigmas=sigmas,
            step_sizes=step_sizes,
            num_steps_per_level=num_steps,
            final_denoise=is_denoised,
        )

    return jax.vmap(one)(keys)


def assert_variances(x, expected):
    error = np.sqrt(2.0 / len(x))
    np.testing.assert_array_less(np.abs(np.asarray(x).var(0) / expected - 1.0), 5.0 * error)


def test_e337_11_the_published_schedule_freezes_and_the_ncsnv2_step_does_less():
    """1.389 and 1.061 where 1 is right; 3.39 and 9.1 where 9 is; .0207 and .0105 where .01 is."""
    slow = schedules.proportional_steps(CHAPTER, share=0.01)
    fast = schedules.proportional_steps(CHAPTER, share=0.1)
    expected = [recursion(CHAPTER, each, 100, 1.0)[-1] for each in (slow, fast)]
    np.testing.assert_allclose(expected[0], [1.389, 3.39, 0.0207], rtol=2e-3)
    np.testing.assert_allclose(expected[1], [1.061, 9.12, 0.0105], rtol=3e-3)
    for steps, each in zip((slow, fast), expected, strict=True):
        draw = gaussian_draws(KEYS, CHAPTER, steps, 1.0, 100)
        assert_variances(draw.position, each)
        assert not draw.num_refused.any()


def test_e337_11_steps_for_smooth_data_bring_the_variance_within_two_percent():
    """Start at sigma_max; sd 1 with its own smallest variance as the scale of the step."""
    steps = schedules.smooth_steps(WIDE, share=0.03, smallest_variance=1.0)
    expected = recursion(WIDE, steps, 20, 15.0**2)[-1]
    assert abs(expected[0] - 1.0) < 0.02
    assert_variances(gaussian_draws(KEYS, WIDE, steps, 15.0, 20).position, expected)
    # The same at sd 3 and .1, by the recursion that was just tested. The last level must be small
    # against the data: Tweedie leaves v / (v + sigma_L^2) of the variance.
    for i, smallest, sigma_min, num_steps in ((1, 9.0, 0.02, 20), (2, 0.01, 0.005, 200)):
        levels = schedules.geometric_levels(sigma_min=sigma_min, sigma_max=15.0, num_levels=25)
        steps = schedules.smooth_steps(levels, share=0.03, smallest_variance=smallest)
        ratio = recursion(levels, steps, num_steps, 225.0)[-1][i] / VARIANCES[i]
        assert abs(ratio - 1.0) < 0.02


def test_e337_11_two_starts_end_alike():
    steps = schedules.smooth_steps(WIDE, share=0.03, smallest_variance=1.0)
    options = {"sigmas": WIDE, "step_sizes": steps, "num_steps_per_level": 20}
    one = jax.jit(lambda x: annealed.sample(KEYS[0], gaussian_score, x, **options).position)
    near, far = one(jnp.full(3, -20.0)), one(jnp.full(3, 20.0))
    # A linear score: what is left of a start is its product of contractions, no noise in it.
    left = np.prod(
        [(1.0 - float(a) / (1.0 + float(s) ** 2)) ** 20 for s, a in zip(WIDE, steps, strict=True)]
    )
    assert left < 1e-4
    np.testing.assert_allclose(near[0], far[0], atol=1e-2)


def test_every_level_has_the_variance_of_the_recursion():
    steps = schedules.proportional_steps(CHAPTER, share=0.05)
    expected = recursion(CHAPTER, steps, 5, 1.0, is_denoised=False)
    step = functools.partial(
        annealed.step,
        score_fn=gaussian_score,
        sigmas=CHAPTER,
        step_sizes=steps,
        num_steps_per_level=5,
    )

    @jax.jit
    @jax.vmap
    def levels(key):
        state = annealed.init(annealed.start(key, 3, 1.0))
        return chain.run(jax.random.fold_in(key, 1), state, step, num_samples=10, thinning=5)

    trace = levels(KEYS).trace
    for i in range(10):
        assert_variances(trace[:, i], expected[i])


def test_the_last_denoising_changes_the_variance_by_the_stated_factor():
    sigmas = schedules.geometric_levels(sigma_min=0.5, sigma_max=5.0, num_levels=6)
    steps = schedules.smooth_steps(sigmas, share=0.1, smallest_variance=0.1)
    run = functools.partial(gaussian_draws, KEYS, sigmas, steps, 5.0, 10)
    noisy, clean = run(is_denoised=False).position, run(is_denoised=True).position
    factor = VARIANCES / (VARIANCES + 0.25)
    np.testing.assert_allclose(clean, noisy * factor, rtol=1e-4, atol=1e-6)


def test_a_single_level_is_the_chain_on_the_noised_law():
    """Not annealed: stationary at (v + sigma^2) / (1 - a / (2 (v + sigma^2)))."""
    sigmas, steps = jnp.array([0.3]), jnp.array([0.05])
    draw = gaussian_draws(KEYS, sigmas, steps, 1.0, 400, False)
    noised = VARIANCES + 0.09
    expected = noised / (1.0 - 0.05 / (2.0 * noised))
    expected[1] = recursion(sigmas, steps, 400, 1.0, is_denoised=False)[-1][1]
    assert_variances(draw.position, expected)


def test_an_asymmetric_law_comes_out_the_right_way_round():
    sigmas = schedules.geometric_levels(sigma_min=0.02, sigma_max=10.0, num_levels=20)
    steps = schedules.smooth_steps(sigmas, share=0.1, smallest_variance=0.25)

    @jax.jit
    @jax.vmap
    def draws(key):
        start_key, key = jax.random.split(key)
        return annealed.sample(
            key,
            lambda x, sigma: SKEWED.noised(sigma).score(x),
            annealed.start(start_key, 1, 10.0),
            sigmas=sigmas,
            step_sizes=steps,
            num_steps_per_level=30,
        )

    x = np.asarray(draws(KEYS).position)[:, 0]
    exact = np.asarray(jax.jit(jax.vmap(SKEWED.sample))(KEYS))[:, 0]
    error = np.sqrt(2.0 * exact.var() / NUM)
    assert abs(x.mean()) < 5.0 * error + 0.02  # .8 (-.5) + .2 (2) = 0
    third = 0.8 * (-0.125 - 1.5 * 0.25) + 0.2 * (8.0 + 6.0)  # E x^3 = sum w (m^3 + 3 m v)
    cubes = x**3
    assert abs(cubes.mean() - third) < 5.0 * cubes.std() / np.sqrt(NUM) + 0.1 * third
    assert abs((x > 1.0).mean() - (exact > 1.0).mean()) < 5.0 * np.sqrt(0.32 / NUM) + 0.01


def test_steps_that_are_not_finite_are_refused_and_counted():
    def broken(x, sigma):
        return jnp.where(sigma < 0.1, jnp.nan, -x / (1.0 + sigma**2))

    steps = schedules.proportional_steps(CHAPTER, share=0.05)
    draw = annealed.sample(
        jax.random.key(0),
        broken,
        jnp.ones(2),
        sigmas=CHAPTER,
        step_sizes=steps,
        num_steps_per_level=3,
        final_denoise=False,
    )
    assert np.isfinite(draw.position).all()
    assert draw.num_refused == 3 * int((CHAPTER < 0.1).sum())


UP, LEVELS = jnp.array([0.1, 1.0]), jnp.array([1.0, 0.1])


@pytest.mark.parametrize(
    ("call", "match"),
    [
        (lambda run: run(jnp.ones((2, 2)), sigmas=LEVELS, step_sizes=LEVELS), "rank 1"),
        (lambda run: run(jnp.ones(2), sigmas=UP, step_sizes=LEVELS), "decreasing"),
        (lambda run: run(jnp.ones(2), sigmas=LEVELS[:, None], step_sizes=LEVELS), "rank 1"),
        (lambda run: run(jnp.ones(2), sigmas=LEVELS, step_sizes=LEVELS[:1]), "step_sizes"),
        (lambda run: run(jnp.ones(2), sigmas=LEVELS, step_sizes=-LEVELS), "step_sizes"),
        (
            lambda run: run(jnp.ones(2), sigmas=LEVELS, step_sizes=LEVELS, num_steps_per_level=0),
            "num_steps_per_level",
        ),
        (
            lambda run: run(jnp.ones(2), sigmas=LEVELS, step_sizes=LEVELS, temperature=-1.0),
            "temperature",
        ),
        (lambda run: annealed.start(jax.random.key(0), 0, 1.0), "dim"),
        (lambda run: annealed.start(jax.random.key(0), 2, 0.0), "sigma_max"),
    ],
)
def test_bad_settings_are_refused(call, match):
    def run(x, **options):
        options = {"num_steps_per_level": 2} | options
        return annealed.sample(jax.random.key(0), lambda x, sigma: -x, x, **options)

    with pytest.raises(ValueError, match=match):
        call(run)
