"""Z by annealing, importance sampling and quadrature, on laws whose Z is known."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.scipy.stats import norm

from densityjax import targets
from densityjax.densities import partition_function as pf
from densityjax.samplers import hmc, mala

CONSTANT = 2.7  # log Z of every law below, unknown to the estimates
NUM_CHAINS = 400
WIDE = 3.0  # sd of the law that annealing begins at
LAWS = {
    "gaussian": targets.gaussian([0.5, -1.0], [[1.0, 0.6], [0.6, 0.8]]),
    "mixture": targets.gaussian_mixture(
        [0.7, 0.3], [[-2.0, 0.0], [2.0, 1.0]], [0.5 * np.eye(2), 0.3 * np.eye(2)]
    ),
}
PATH = pf.sigmoid_schedule(60)


def wide(x):
    return jnp.sum(norm.logpdf(x, scale=WIDE))


def mala_moves(key, x, log_density_fn):
    """Two steps, one for wide and one for narrow laws."""
    for step_size in (1.0, 0.15):
        key, step_key = jax.random.split(key)
        x = mala.step(step_key, mala.init(x, log_density_fn), log_density_fn, step_size)[0].position
    return x


def hmc_moves(key, x, log_density_fn):
    state = hmc.init(x, log_density_fn)
    return hmc.step(key, state, log_density_fn, 0.4, num_leapfrog=4)[0].position


@functools.cache
def annealed(law, backwards=False, moves=mala_moves):
    target = LAWS[law]
    run = pf.reverse_annealed_importance if backwards else pf.annealed_importance

    def one(key):
        start_key, key = jax.random.split(key)
        start = target.sample(start_key) if backwards else WIDE * jax.random.normal(start_key, (2,))
        return run(
            key,
            lambda x: target.log_prob(x) + CONSTANT,
            wide,
            start,
            moves,
            inverse_temperatures=PATH,
        )

    return jax.jit(jax.vmap(one))(jax.random.split(jax.random.key(1), NUM_CHAINS))


@pytest.mark.parametrize("law", sorted(LAWS))
def test_e338_08_annealing_finds_log_z_within_its_interval_and_a_twentieth_of_a_nat(law):
    found = pf.from_log_weights(annealed(law).log_weight, confidence=0.99)
    assert found.lower < CONSTANT < found.upper
    assert abs(found.log_z - CONSTANT) < 0.05
    assert found.effective_sample_size > 100
    assert found.spread < 1.0


def test_any_sampler_can_move_the_chains():
    found = pf.from_log_weights(annealed("gaussian", moves=hmc_moves).log_weight, confidence=0.99)
    assert found.lower < CONSTANT < found.upper


def test_backward_runs_from_exact_draws_lean_the_other_way():
    """The mean log weight is below log Z forwards, above it backwards, and the means are exact."""
    forward, backward = (annealed("mixture", flag).log_weight for flag in (False, True))
    assert forward.mean() < CONSTANT < -backward.mean()
    upper = pf.from_log_weights(backward, confidence=0.99)
    assert -upper.upper < CONSTANT < -upper.lower


def test_annealed_ends_with_their_weights_are_draws_of_the_law():
    run = annealed("mixture")
    weight = np.asarray(jax.nn.softmax(run.log_weight))
    in_first = np.asarray(run.position[:, 0] < 0.0)
    size = float(1.0 / np.sum(weight**2))
    assert weight[in_first].sum() == pytest.approx(0.7, abs=5 * (0.7 * 0.3 / size) ** 0.5)


def test_importance_sampling_agrees_with_the_law_and_says_what_it_is_worth():
    keys = jax.random.split(jax.random.key(2), 4_000)
    x = WIDE * jax.vmap(lambda key: jax.random.normal(key, (2,)))(keys)
    log_density = jax.vmap(LAWS["mixture"].log_prob)(x) + CONSTANT
    found = pf.importance_sampling(log_density, jax.vmap(wide)(x), confidence=0.99)
    assert found.lower < CONSTANT < found.upper
    weights = np.exp(np.asarray(log_density - jax.vmap(wide)(x), np.float64))
    assert found.effective_sample_size == pytest.approx(
        weights.sum() ** 2 / (weights**2).sum(), rel=1e-3
    )
    relative = weights.std() / weights.mean() / np.sqrt(weights.size)
    assert found.standard_error == pytest.approx(relative, rel=1e-3)
    assert found.tail_shape < 0.7
    narrow = jnp.asarray(np.random.default_rng(0).pareto(0.8, 4_000) + 1.0)  # weights without mean
    assert pf.from_log_weights(jnp.log(narrow)).tail_shape > 0.7


@pytest.mark.parametrize("dim", [1, 2])
def test_quadrature_is_exact_and_a_wider_box_changes_nothing(dim):
    law = targets.student_t(np.full(dim, 0.4), np.eye(dim), dof=9.0)
    found = [
        pf.quadrature(
            lambda x: law.log_prob(x) + CONSTANT, [-reach] * dim, [reach] * dim, num_panels=8
        )
        for reach in (20.0, 40.0)
    ]
    np.testing.assert_allclose(found, CONSTANT, atol=2e-4)


def test_a_law_that_is_no_law_has_a_mass_that_grows_with_the_box():
    found = [
        pf.quadrature(lambda x: -jnp.tanh(jnp.sum(x**2)), [-reach], [reach])
        for reach in (200.0, 400.0)
    ]
    assert found[1] - found[0] == pytest.approx(np.log(2.0), abs=0.05)


def test_log_likelihoods_carry_the_errors_of_rows_and_of_log_z():
    rng = np.random.default_rng(1)
    partition = pf.from_log_weights(jnp.asarray(rng.normal(0.0, 0.5, 500)))
    log_density = rng.normal(3.0, 1.0, 900)
    found = pf.log_likelihood(log_density, partition)
    assert found.mean == pytest.approx(log_density.mean() - float(partition.log_z))
    expected = np.hypot(log_density.std(ddof=1) / 30.0, float(partition.standard_error))
    assert found.standard_error == pytest.approx(expected)
    assert found.upper - found.mean == pytest.approx(1.96 * expected, rel=1e-3)


@pytest.mark.parametrize(
    ("call", "match"),
    [
        (lambda: pf.from_log_weights(jnp.zeros(1)), "1 entries"),
        (lambda: pf.from_log_weights(jnp.zeros(9), confidence=1.0), "confidence is 1"),
        (lambda: pf.sigmoid_schedule(0), "num_steps is 0"),
        (lambda: pf.quadrature(wide, [0.0] * 3, [1.0] * 3), "corners of 1 or 2"),
        (lambda: pf.quadrature(wide, [1.0], [0.0]), "in order"),
        (lambda: pf.quadrature(wide, [0.0], [1.0], num_nodes=0), "num_nodes is 0"),
        (lambda: pf.log_likelihood([1.0], pf.from_log_weights(jnp.zeros(9))), "shape"),
    ],
)
def test_wrong_arguments_are_named(call, match):
    with pytest.raises(ValueError, match=match):
        call()


def test_the_schedule_rises_from_zero_to_one_and_is_densest_at_its_ends():
    assert PATH[0] == 0.0
    assert PATH[-1] == 1.0
    gaps = np.diff(PATH)
    assert (gaps > 0.0).all()
    assert gaps[0] < gaps[30] / 5.0
