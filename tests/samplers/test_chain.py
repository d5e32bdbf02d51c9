import functools
from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from densityjax.samplers import chain, langevin


class CountState(NamedTuple):
    position: jax.Array


class CountInfo(NamedTuple):
    is_finite: jax.Array
    value: jax.Array


def count(key, state):
    """Counts its steps; every third is said to be refused."""
    position = state.position + 1.0
    return CountState(position), CountInfo(position % 3 != 0, position)


ZERO = CountState(jnp.zeros(()))


def noisy_walk(key, state):
    return CountState(state.position + jax.random.normal(key)), ()


def test_it_keeps_every_thinned_step_after_the_burn_in():
    done = chain.run(jax.random.key(0), ZERO, count, num_samples=4, thinning=3, burn_in=5)
    np.testing.assert_array_equal(done.trace, [8.0, 11.0, 14.0, 17.0])
    assert done.final_state.position == 17.0


def test_info_is_averaged_over_all_steps_after_the_burn_in_and_refusals_counted_over_all():
    done = chain.run(jax.random.key(0), ZERO, count, num_samples=4, thinning=3, burn_in=5)
    np.testing.assert_allclose(done.mean_info.value, np.mean(np.arange(6, 18)), rtol=1e-6)
    np.testing.assert_allclose(done.mean_info.is_finite, 8.0 / 12.0, rtol=1e-6)
    assert done.num_refused == 5


def test_numbers_that_are_not_finite_are_left_out_of_the_mean_info():
    def step(key, state):
        state, info = count(key, state)
        bad = jnp.where(state.position < 7, jnp.nan, jnp.inf)  # in burn-in, and of refused steps
        is_bad = (state.position < 3) | ~info.is_finite
        values = jnp.stack([jnp.where(is_bad, bad, info.value), info.value, jnp.nan])
        return state, info._replace(value=values)

    done = chain.run(jax.random.key(0), ZERO, step, num_samples=4, thinning=3, burn_in=4)
    kept = [t for t in range(5, 17) if t % 3]
    expected = [np.mean(kept), np.mean(np.arange(5, 17)), np.nan]
    np.testing.assert_allclose(done.mean_info.value, expected, rtol=1e-6)
    np.testing.assert_allclose(done.mean_info.is_finite, len(kept) / 12.0, rtol=1e-6)


def test_a_longer_chain_begins_with_the_shorter_and_a_thinned_one_is_part_of_the_whole():
    run = functools.partial(chain.run, jax.random.key(1), ZERO, noisy_walk)
    whole = run(num_samples=24).trace
    np.testing.assert_array_equal(run(num_samples=10).trace, whole[:10])
    np.testing.assert_array_equal(run(num_samples=6, thinning=3, burn_in=6).trace, whole[8::3])
    assert np.unique(np.diff(whole)).size == 23  # every step has a key of its own


def test_collect_chooses_what_is_kept():
    run = functools.partial(chain.run, jax.random.key(0), ZERO, count, num_samples=3)
    kept = run(collect=lambda state, info: (state.position**2, info.is_finite)).trace
    np.testing.assert_array_equal(kept[0], [1.0, 4.0, 9.0])
    np.testing.assert_array_equal(kept[1], [True, True, False])
    assert run(collect=None).trace is None


def test_memory_does_not_grow_with_the_number_of_steps_where_nothing_is_kept():
    def bytes_of(num_samples, **options):
        step = functools.partial(langevin.step, score_fn=lambda x: -x, step_size=0.1)
        state = langevin.init(jnp.zeros(50), lambda x: -x)
        run = functools.partial(chain.run, step=step, num_samples=num_samples, **options)
        memory = jax.jit(run).lower(jax.random.key(0), state).compile().memory_analysis()
        return memory.temp_size_in_bytes + memory.output_size_in_bytes

    few, many = bytes_of(100, collect=None), bytes_of(100_000, collect=None)
    assert many - few <= 64 < 90_000 * 50 * 4 < bytes_of(100_000) - few


def test_calls_with_new_parameters_step_sizes_and_keys_compile_once():
    score_fn = chex.assert_max_traces(lambda params, x: -params * x, n=2)  # init and step

    @jax.jit
    def sample(key, params, step_size, x):
        bound = functools.partial(score_fn, params)
        step = functools.partial(langevin.step, score_fn=bound, step_size=step_size)
        done = chain.run(key, langevin.init(x, bound), step, num_samples=5, thinning=4, burn_in=3)
        return done.trace

    traces = [sample(jax.random.key(i), 1.0 + i, 0.01 * (1 + i), jnp.ones(3)) for i in range(5)]
    assert np.unique(np.asarray(traces)).size == 75  # the new values did reach the chain


def test_the_step_is_traced_once_whatever_the_counts():
    step = chex.assert_max_traces(noisy_walk, n=1)
    run = functools.partial(chain.run, num_samples=2, thinning=3, burn_in=4)
    jax.jit(lambda key: run(key, ZERO, step))(jax.random.key(0))


def test_chains_run_side_by_side_under_vmap_as_they_do_alone():
    run = functools.partial(chain.run, state=ZERO, step=noisy_walk, num_samples=4)
    keys = jax.random.split(jax.random.key(2), 3)
    together = jax.vmap(lambda key: run(key).trace)(keys)
    np.testing.assert_allclose(together[1], run(keys[1]).trace, rtol=1e-6)


def test_long_running_means_do_not_stall():
    """A sum of single precision would stop near 2^24; the mean of a constant is the constant."""

    def step(key, state):
        return state, CountInfo(jnp.array(True), jnp.float32(0.7))

    done = jax.jit(lambda key: chain.run(key, ZERO, step, num_samples=1, thinning=20_000_000))
    np.testing.assert_allclose(done(jax.random.key(0)).mean_info.value, 0.7, rtol=1e-6)


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"num_samples": 0}, "num_samples"),
        ({"num_samples": 2.5}, "num_samples"),
        ({"num_samples": True}, "num_samples"),
        ({"num_samples": 1, "thinning": 0}, "thinning"),
        ({"num_samples": 1, "burn_in": -1}, "burn_in"),
    ],
)
def test_bad_counts_are_refused(options, match):
    with pytest.raises(ValueError, match=match):
        chain.run(jax.random.key(0), ZERO, count, **options)
