"""Langevin, MALA and HMC: on a Gaussian with known bias, and on a law that is not symmetric."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import special

from densityjax import targets
from densityjax.samplers import chain, hmc, langevin, mala

NUM_CHAINS = 4_000
KEYS = jax.random.split(jax.random.key(0), NUM_CHAINS)
SKEWED = targets.log_exponential()
MOMENTS = (-np.euler_gamma, np.pi**2 / 6.0, -2.0 * special.zeta(3.0))  # mean, variance, third


def normal_score(x):
    return -x


def normal_log_density(x):
    return -0.5 * jnp.sum(x**2)


# name: (init, step) of a target that is handed in as (score, log density)
SAMPLERS = {
    "langevin": (
        lambda x, score, _: langevin.init(x, score),
        lambda score, _, h: functools.partial(langevin.step, score_fn=score, step_size=h),
    ),
    "mala": (
        lambda x, _, log_density: mala.init(x, log_density),
        lambda _, log_density, h: functools.partial(
            mala.step, logdensity_fn=log_density, step_size=h
        ),
    ),
    "hmc": (
        lambda x, _, log_density: hmc.init(x, log_density),
        lambda _, log_density, h: functools.partial(
            hmc.step, logdensity_fn=log_density, step_size=h, num_leapfrog=3
        ),
    ),
}


@functools.cache
def ends(name, law, step_size, dim, burn_in):
    """Returns last positions [chains, D] of many chains from one point, and their mean info."""
    init, build = SAMPLERS[name]
    functions = {"normal": (normal_score, normal_log_density), "skewed": SKEWED_FUNCTIONS}[law]

    @jax.jit
    def run(keys, step_size):
        state = init(jnp.full(dim, 0.3), *functions)
        step = build(*functions, step_size)

        def one(key):
            return chain.run(key, state, step, num_samples=1, burn_in=burn_in, collect=None)

        return jax.vmap(one)(keys)

    done = run(KEYS, step_size)
    return np.asarray(done.final_state.position, np.float64), done


SKEWED_FUNCTIONS = (SKEWED.score, SKEWED.log_prob)


@pytest.mark.parametrize("step_size", [0.1, 0.5])
def test_langevin_has_the_stationary_variance_of_the_closed_form(step_size):
    """x' = (1 - a) x + sqrt(2 a) z has variance 1 / (1 - a / 2): the errata's 1.00503 at .01."""
    x, _ = ends("langevin", "normal", step_size, 3, 120)
    expected = 1.0 / (1.0 - 0.5 * step_size)
    assert abs(x.var() - expected) < 5.0 * expected * np.sqrt(2.0 / x.size)
    assert abs(x.mean()) < 5.0 * np.sqrt(expected / x.size)


def test_e338_03_temperature_is_an_argument_and_one_by_default():
    """One step from rest: noise of sd sqrt(2 a T), .141 at a = .01 and not .01."""
    state = langevin.init(jnp.zeros(20_000), normal_score)
    for temperature in (1.0, 0.25, 0.0):
        moved, _ = langevin.step(
            jax.random.key(1), state, normal_score, 0.01, temperature=temperature
        )
        expected = np.sqrt(2.0 * 0.01 * temperature)
        error = expected / np.sqrt(2.0 * 20_000)
        assert abs(float(moved.position.std()) - expected) <= 5.0 * error
    default, _ = langevin.step(jax.random.key(1), state, normal_score, 0.01)
    assert abs(float(default.position.std()) - 0.1414) < 0.004


def test_langevin_at_a_temperature_samples_a_power_of_the_density():
    step = functools.partial(langevin.step, score_fn=normal_score, step_size=0.2, temperature=0.25)
    state = langevin.init(jnp.zeros(4_000), normal_score)
    x = chain.run(jax.random.key(3), state, step, num_samples=1, burn_in=60).trace
    expected = 0.25 / (1.0 - 0.1)
    assert abs(x.var() - expected) < 5.0 * expected * np.sqrt(2.0 / x.size)


@pytest.mark.parametrize(("name", "step_size"), [("mala", 0.8), ("hmc", 0.9)])
def test_metropolis_adjusted_chains_have_no_bias_at_large_steps(name, step_size):
    x, done = ends(name, "normal", step_size, 3, 120)
    assert abs(x.var() - 1.0) < 5.0 * np.sqrt(2.0 / x.size)
    assert abs(x.mean()) < 5.0 * np.sqrt(1.0 / x.size)
    assert 0.3 < done.mean_info.acceptance_rate.mean() < 0.98


@pytest.mark.parametrize(
    ("name", "step_size", "bias"), [("langevin", 0.02, 0.03), ("mala", 0.8, 0.0), ("hmc", 0.9, 0.0)]
)
def test_chains_on_an_asymmetric_law_have_its_moments(name, step_size, bias):
    """A flipped sign anywhere turns the skewness round; `bias` allows for the finite step."""
    x = ends(name, "skewed", step_size, 1, 400 if name == "langevin" else 120)[0][:, 0]
    mean, variance, third = MOMENTS
    assert abs(x.mean() - mean) < 5.0 * np.sqrt(variance / x.size) + bias
    squares, cubes = (x - mean) ** 2, (x - mean) ** 3
    assert abs(squares.mean() - variance) < 5.0 * squares.std() / np.sqrt(x.size) + 2.0 * bias
    assert abs(cubes.mean() - third) < 5.0 * cubes.std() / np.sqrt(x.size) + 5.0 * bias
    assert cubes.mean() < -1.0


def test_acceptance_is_near_the_optimum_at_the_stated_step():
    """1.4 D^(-1/3) on N(0, I_D): .65 at D = 10, where .574 was measured."""
    state = mala.init(jnp.zeros(10), normal_log_density)
    step = functools.partial(mala.step, logdensity_fn=normal_log_density, step_size=0.65)
    done = jax.jit(lambda key: chain.run(key, state, step, num_samples=4_000, collect=None))(
        jax.random.key(5)
    )
    assert abs(float(done.mean_info.acceptance_rate) - 0.574) < 0.03
    # What was accepted is a coin of the stated probability.
    gap = done.mean_info.is_accepted - done.mean_info.acceptance_rate
    assert abs(float(gap)) < 5.0 * 0.5 / np.sqrt(4_000)


def test_the_acceptance_probability_is_metropolis_hastings_by_hand(x64):
    """The proposal's density is written out, at the very point that the noise leads to."""
    state = mala.init(jnp.array([0.7]), SKEWED.log_prob)
    for seed in range(8):
        accepted, info = mala.step(jax.random.key(seed), state, SKEWED.log_prob, 0.6)
        noise_key, _ = jax.random.split(jax.random.key(seed))
        (leaf_key,) = jax.random.split(noise_key, 1)
        noise = float(jax.random.normal(leaf_key, (1,), jnp.float64)[0])
        x = 0.7
        there = x + 0.6 * (1.0 - np.exp(x)) + np.sqrt(1.2) * noise

        def log_kernel(to, origin):
            return -((to - origin - 0.6 * (1.0 - np.exp(origin))) ** 2) / 2.4

        log_ratio = (there - np.exp(there)) - (x - np.exp(x))
        log_ratio += log_kernel(x, there) - log_kernel(there, x)
        np.testing.assert_allclose(info.acceptance_rate, np.exp(min(log_ratio, 0.0)), rtol=1e-9)
        if info.is_accepted:
            np.testing.assert_allclose(accepted.position[0], there, rtol=1e-12)
        else:
            assert accepted.position[0] == 0.7


def test_one_leapfrog_step_is_the_mala_proposal_with_the_same_acceptance(x64):
    position = {"a": jnp.array([0.4]), "b": jnp.array([-1.0, 0.2])}

    def log_density(tree):
        return sum(jnp.sum(leaf - jnp.exp(leaf)) for leaf in jax.tree.leaves(tree))

    step_size = 0.3
    for seed in range(4):
        key = jax.random.key(seed)
        ours, info = mala.step(key, mala.init(position, log_density), log_density, step_size)
        other, hmc_info = hmc.step(
            key,
            hmc.init(position, log_density),
            log_density,
            np.sqrt(2.0 * step_size),
            num_leapfrog=1,
        )
        np.testing.assert_allclose(info.acceptance_rate, hmc_info.acceptance_rate, rtol=1e-9)
        for mine, theirs in zip(
            jax.tree.leaves(ours.position), jax.tree.leaves(other.position), strict=True
        ):
            np.testing.assert_allclose(mine, theirs, rtol=1e-9)


def test_leapfrog_keeps_the_energy_to_second_order(x64):
    state = hmc.init(jnp.array([0.5, -1.0]), sum_of_skewed)

    def change(step_size, num_leapfrog):
        _, info = hmc.step(
            jax.random.key(2), state, sum_of_skewed, step_size, num_leapfrog=num_leapfrog
        )
        return abs(float(info.energy_change))

    assert 3.5 < change(0.04, 25) / change(0.02, 50) < 4.5


def sum_of_skewed(x):
    return jnp.sum(x - jnp.exp(x))


def test_the_state_carries_the_gradient_of_where_it_is():
    state = mala.init(jnp.array([0.2]), SKEWED.log_prob)
    for seed in range(5):
        state, _ = mala.step(jax.random.key(seed), state, SKEWED.log_prob, 1.5)
        np.testing.assert_allclose(state.logdensity, SKEWED.log_prob(state.position), rtol=1e-6)
        np.testing.assert_allclose(state.logdensity_grad, SKEWED.score(state.position), rtol=1e-5)


def walled_score(x):
    return jnp.where(x > 0.5, jnp.nan, -x)


def walled_log_density(x):
    return jnp.sum(jnp.where(x > 0.5, jnp.nan, -0.5 * x**2))


@pytest.mark.parametrize("name", SAMPLERS)
def test_proposals_that_are_not_finite_are_refused_and_counted(name):
    init, build = SAMPLERS[name]
    functions = (walled_score, walled_log_density)
    state, step = init(jnp.zeros(1), *functions), build(*functions, 0.7)
    done = jax.jit(lambda key: chain.run(key, state, step, num_samples=400))(jax.random.key(0))
    assert np.isfinite(done.trace).all()
    assert done.trace.max() <= 0.5
    assert 20 < done.num_refused < 380
    np.testing.assert_allclose(1.0 - done.mean_info.is_finite, done.num_refused / 400, rtol=1e-5)
    refused = np.diff(np.asarray(done.trace)[:, 0]) == 0.0
    if name == "langevin":  # it stays only where it was refused
        assert abs(int(refused.sum()) - int(done.num_refused)) <= 1


def test_clipping_shortens_the_step_and_says_so():
    state = langevin.init(jnp.array([30.0, 40.0]), normal_score)
    key, step_size = jax.random.key(0), 1e-6
    clipped, info = langevin.step(key, state, normal_score, step_size, max_score_norm=5.0)
    free, free_info = langevin.step(key, state, normal_score, step_size)
    np.testing.assert_allclose(info.score_norm, 50.0, rtol=1e-6)
    assert info.is_clipped
    assert not free_info.is_clipped
    wide = functools.partial(langevin.step, key, state, normal_score, 1.0, temperature=0.0)
    np.testing.assert_allclose(wide(max_score_norm=5.0)[0].position, [27.0, 36.0], rtol=1e-5)
    np.testing.assert_allclose(wide(max_score_norm=60.0)[0].position, [0.0, 0.0], atol=1e-5)
    np.testing.assert_allclose(clipped.score, [-30.0, -40.0], rtol=1e-3)  # kept unclipped
    assert free.position.shape == (2,)


def test_the_top_level_face_binds_target_and_step_size():
    algorithm = mala.as_top_level_api(SKEWED.log_prob, step_size=0.5)
    state = algorithm.init(jnp.array([0.1]))
    ours, info = algorithm.step(jax.random.key(0), state)
    by_kernel, _ = mala.build_kernel()(jax.random.key(0), state, SKEWED.log_prob, 0.5)
    np.testing.assert_array_equal(ours.position, by_kernel.position)
    assert mala.MALAState._fields == ("position", "logdensity", "logdensity_grad")
    assert mala.MALAInfo._fields[:2] == ("acceptance_rate", "is_accepted")
    assert info.is_finite


@pytest.mark.parametrize(
    ("call", "match"),
    [
        (lambda key, s, m, h: langevin.step(key, s, normal_score, -0.1), "step_size"),
        (lambda key, s, m, h: langevin.step(key, s, normal_score, np.inf), "step_size"),
        (lambda key, s, m, h: langevin.step(key, s, normal_score, 1, temperature=-1), "temperat"),
        (lambda key, s, m, h: langevin.step(key, s, normal_score, 1, max_score_norm=0), "max_sc"),
        (lambda key, s, m, h: mala.step(key, m, normal_log_density, 0.0), "step_size"),
        (lambda key, s, m, h: mala.as_top_level_api(normal_log_density, -1.0), "step_size"),
        (lambda key, s, m, h: hmc.step(key, h, normal_log_density, np.nan), "step_size"),
        (
            lambda key, s, m, h: hmc.step(key, h, normal_log_density, 0.1, num_leapfrog=0),
            "num_leapfrog",
        ),
    ],
)
def test_bad_settings_are_refused(call, match):
    x = jnp.zeros(2)
    states = (
        langevin.init(x, normal_score),
        mala.init(x, normal_log_density),
        hmc.init(x, normal_log_density),
    )
    with pytest.raises(ValueError, match=match):
        call(jax.random.key(0), *states)
