"""Conditional sampling on laws whose conditional is known in closed form."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from densityjax import targets
from densityjax.samplers import annealed, conditional, schedules

NUM = 6_000
KEYS = jax.random.split(jax.random.key(0), NUM)
COVARIANCE = np.array([[1.0, 0.7, 0.3], [0.7, 1.5, -0.2], [0.3, -0.2, 0.8]])
MEAN = np.array([0.5, -1.0, 0.0])
GAUSSIAN = targets.gaussian(MEAN, COVARIANCE)
KNOWN = np.array([np.nan, 1.0, -0.5])  # the first coordinate is unknown
MIXTURE = targets.gaussian_mixture(
    [0.7, 0.3],
    [[-1.0, -1.0], [1.5, 1.0]],
    [[[0.3, 0.1], [0.1, 0.5]], [[0.8, -0.3], [-0.3, 0.5]]],
)


def gaussian_conditional(covariance, noise_of_known=0.0):
    """Mean and variance of coordinate 0 given the others, these with noise of their own or not."""
    rest = covariance[1:, 1:] + noise_of_known * np.eye(2)
    weights = np.linalg.solve(rest, covariance[1:, 0])
    mean = MEAN[0] + weights @ (KNOWN[1:] - MEAN[1:])
    return mean, covariance[0, 0] - weights @ covariance[1:, 0]


def noised_score(law):
    return lambda x, sigma: law.noised(sigma).score(x)


@functools.partial(jax.jit, static_argnames=("kind", "law", "num_steps"))
def draws(keys, evidence, sigmas, *, kind, law, num_steps, step_sizes=None):
    score_fn = {"gaussian": noised_score(GAUSSIAN), "mixture": noised_score(MIXTURE)}[law]
    dim = {"gaussian": 3, "mixture": 2}[law]

    def one(key):
        start_key, key = jax.random.split(key)
        x = annealed.start(start_key, dim, sigmas[0])
        if kind == "langevin":
            options = {"step_sizes": step_sizes, "num_steps_per_level": num_steps}
            return conditional.langevin(key, score_fn, x, evidence, sigmas=sigmas, **options)
        return conditional.replacement(
            key, score_fn, x, evidence, sigmas=sigmas, num_resamples=num_steps
        )

    return jax.vmap(one)(keys)


def test_langevin_has_the_conditional_law_of_a_gaussian():
    """Its bias is half the share of the step in the variance, and sigma^2 of the last level."""
    share, smallest = 0.05, 0.5
    sigmas = schedules.geometric_levels(sigma_min=0.02, sigma_max=10.0, num_levels=20)
    steps = schedules.smooth_steps(sigmas, share=share, smallest_variance=smallest)
    draw = draws(
        KEYS,
        conditional.observe(KNOWN),
        sigmas,
        kind="langevin",
        law="gaussian",
        num_steps=30,
        step_sizes=steps,
    )
    x = np.asarray(draw.position)
    mean, variance = gaussian_conditional(COVARIANCE)
    assert abs(x[:, 0].mean() - mean) < 5.0 * np.sqrt(variance / NUM) + 2e-3
    assert abs(x[:, 0].var() / variance - 1.0) < 5.0 * np.sqrt(2.0 / NUM) + share
    assert abs(mean - MEAN[0]) > 0.5  # the evidence says something
    np.testing.assert_array_equal(x[:, 1:], np.tile(KNOWN[1:].astype(np.float32), (NUM, 1)))
    assert not draw.num_refused.any()


def test_langevin_on_an_asymmetric_mixture_has_its_conditional_weights():
    known = 0.2
    sigmas = schedules.geometric_levels(sigma_min=0.02, sigma_max=6.0, num_levels=20)
    steps = schedules.smooth_steps(sigmas, share=0.1, smallest_variance=0.25)
    evidence = conditional.observe([np.nan, known])
    options = {"kind": "langevin", "law": "mixture", "num_steps": 40, "step_sizes": steps}
    x = np.asarray(draws(KEYS, evidence, sigmas, **options).position)[:, 0]
    weights = np.array([0.7, 0.3]) * stats.norm.pdf(known, [-1.0, 1.0], np.sqrt(0.5))
    weights /= weights.sum()
    means = np.array([-1.0 + 0.2 * (known + 1.0), 1.5 - 0.6 * (known - 1.0)])
    variances = np.array([0.3 - 0.02, 0.8 - 0.18])
    mean = weights @ means
    variance = weights @ (variances + means**2) - mean**2
    assert abs(x.mean() - mean) < 5.0 * np.sqrt(variance / NUM) + 0.05
    assert abs(x.var() / variance - 1.0) < 5.0 * np.sqrt(2.0 / NUM) + 0.08
    below = weights @ stats.norm.cdf(0.5, means, np.sqrt(variances))
    assert abs((x < 0.5).mean() - below) < 5.0 * np.sqrt(0.25 / NUM) + 0.02


def replacement_recursion(sigmas, num_resamples):
    """Mean and variance of coordinate 0, which is linear in the noise: no simulation."""
    unit = np.eye(3)
    mean, variance = 0.0, sigmas[0] ** 2
    for sigma, after in itertools.pairwise(sigmas):
        drop = sigma**2 - after**2
        row = np.linalg.inv(COVARIANCE + sigma**2 * unit)[0]
        for again in range(num_resamples):
            pull = row[1:] @ (KNOWN[1:] - MEAN[1:])
            mean = mean - drop * (row[0] * (mean - MEAN[0]) + pull)
            variance = (1.0 - drop * row[0]) ** 2 * variance
            variance += drop**2 * sigma**2 * np.sum(row[1:] ** 2) + drop * (after / sigma) ** 2
            if again < num_resamples - 1:
                variance += drop
    row = np.linalg.inv(COVARIANCE + sigmas[-1] ** 2 * unit)[0]  # Tweedie, the known with noise
    last = sigmas[-1] ** 2
    mean -= last * (row[0] * (mean - MEAN[0]) + row[1:] @ (KNOWN[1:] - MEAN[1:]))
    variance = (1.0 - last * row[0]) ** 2 * variance + last**3 * np.sum(row[1:] ** 2)
    return mean, variance


def test_replacement_follows_its_recursion_and_resampling_brings_the_mean_nearer():
    sigmas = np.geomspace(10.0, 0.02, 30)
    exact, _ = gaussian_conditional(COVARIANCE)
    misses = []  # share of the shift of the mean that is missing
    for num_resamples in (1, 10):
        draw = draws(
            KEYS,
            conditional.observe(KNOWN),
            jnp.asarray(sigmas),
            kind="replacement",
            law="gaussian",
            num_steps=num_resamples,
        )
        x = np.asarray(draw.position)
        mean, variance = replacement_recursion(sigmas, num_resamples)
        assert abs(x[:, 0].mean() - mean) < 5.0 * np.sqrt(variance / NUM)
        assert abs(x[:, 0].var() / variance - 1.0) < 5.0 * np.sqrt(2.0 / NUM)
        np.testing.assert_array_equal(x[:, 1:], np.tile(KNOWN[1:].astype(np.float32), (NUM, 1)))
        misses.append((exact - mean) / (exact - MEAN[0]))
    assert 0.3 < misses[0] < 0.5  # crossed once, much of what the evidence says is lost
    assert 0.0 < misses[1] < 0.05


def test_the_known_carry_the_noise_of_the_level_where_they_are_replaced():
    """A predictor that copies a known coordinate to the unknown one shows what it was given."""

    def copy(key, x, sigma, next_sigma, score_fn):
        return x.at[0].set(x[1])

    @jax.jit
    @jax.vmap
    def unknown(key):
        return conditional.replacement(
            key,
            noised_score(GAUSSIAN),
            jnp.zeros(3),
            conditional.observe(KNOWN),
            sigmas=jnp.array([3.0, 2.0, 0.5]),
            num_resamples=1,
            predictor=copy,
            final_denoise=False,
        ).position[0]

    x = unknown(KEYS)
    assert abs(x.mean() - KNOWN[1]) < 5.0 * 2.0 / np.sqrt(NUM)
    assert abs(x.std() / 2.0 - 1.0) < 5.0 / np.sqrt(2.0 * NUM)


def test_replacement_is_exact_in_the_limit_of_levels_and_resamples():
    exact, exact_variance = gaussian_conditional(COVARIANCE)
    sigmas = np.geomspace(10.0, 0.02, 400)
    mean, variance = replacement_recursion(sigmas, 100)
    assert abs(mean - exact) < 0.01 * abs(exact - MEAN[0])
    assert abs(variance / exact_variance - 1.0) < 0.02
    # Resampling alone is not enough: wide intervals make the spread too small.
    _, variance = replacement_recursion(sigmas[::22], 100)
    assert variance / exact_variance < 0.8


def test_nothing_known_is_sampling_and_all_known_is_the_evidence():
    sigmas = schedules.geometric_levels(sigma_min=0.1, sigma_max=2.0, num_levels=4)
    steps = schedules.smooth_steps(sigmas, share=0.1, smallest_variance=0.5)
    options = {"sigmas": sigmas, "step_sizes": steps, "num_steps_per_level": 3}
    score_fn, key = noised_score(GAUSSIAN), jax.random.key(1)
    free = conditional.langevin(
        key, score_fn, jnp.ones(3), conditional.observe(np.full(3, np.nan)), **options
    )
    plain = annealed.sample(key, score_fn, jnp.ones(3), **options)
    np.testing.assert_allclose(free.position, plain.position, rtol=1e-5)
    all_known = conditional.observe([1.0, 2.0, 3.0])
    fixed = conditional.langevin(key, score_fn, jnp.ones(3), all_known, **options)
    np.testing.assert_array_equal(fixed.position, [1.0, 2.0, 3.0])


@pytest.mark.parametrize(
    ("evidence", "match"),
    [
        (conditional.observe([1.0, np.nan]), "shape"),
        (conditional.Evidence(jnp.ones(3), jnp.ones(2, bool)), "is_known"),
        (conditional.Evidence(jnp.ones(3), jnp.ones(3)), "is_known"),
        (conditional.observe([1.0, np.inf, np.nan]), "finite"),
    ],
)
def test_bad_evidence_is_refused(evidence, match):
    sigmas = jnp.array([1.0, 0.1])
    for call in (
        functools.partial(conditional.replacement, sigmas=sigmas),
        functools.partial(
            conditional.langevin, sigmas=sigmas, step_sizes=sigmas, num_steps_per_level=1
        ),
    ):
        with pytest.raises(ValueError, match=match):
            call(jax.random.key(0), noised_score(GAUSSIAN), jnp.ones(3), evidence)


def test_bad_settings_are_refused():
    run = functools.partial(
        conditional.replacement,
        jax.random.key(0),
        noised_score(GAUSSIAN),
        jnp.ones(3),
        conditional.observe(KNOWN),
    )
    with pytest.raises(ValueError, match="num_resamples"):
        run(sigmas=jnp.array([1.0, 0.1]), num_resamples=0)
    with pytest.raises(ValueError, match="2 levels"):
        run(sigmas=jnp.array([1.0]))
