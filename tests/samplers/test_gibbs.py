"""Block Gibbs sampling: its law over all states against enumeration, and its refusals."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from densityjax import models
from densityjax.models.boltzmann_partition import all_states
from densityjax.samplers import chain, gibbs

PARAMS = {
    "kernel": jnp.array([[1.2, -0.8, 0.3], [-0.5, 0.9, 1.5]]),
    "visible_bias": jnp.array([0.3, -0.6]),
    "hidden_bias": jnp.array([0.2, -0.4, -0.7]),
}
MODEL = models.bernoulli_rbm(2, num_hidden=3)


def step(key, state):
    return gibbs.step(
        key,
        state,
        lambda key, v: MODEL.sample_hidden(key, PARAMS, v),
        lambda key, h: MODEL.sample_visible(key, PARAMS, h),
    )


def test_the_law_of_a_chain_is_that_of_enumeration_jointly_over_both_layers():
    num_chains, num_samples = 500, 60

    @jax.jit
    def draw(key):
        state = gibbs.init(jnp.ones(2), 3)
        keep = lambda state, info: (state.position, state.hidden)  # noqa: E731
        return chain.run(
            key, state, step, num_samples=num_samples, thinning=5, burn_in=50, collect=keep
        )

    runs = jax.vmap(draw)(jax.random.split(jax.random.key(0), num_chains))
    v, h = (np.asarray(each).reshape(-1, each.shape[-1]) for each in runs.trace)
    number = v @ [1, 2] + h @ [4, 8, 16]
    counts = np.bincount(number.astype(int), minlength=32)
    joint = np.exp([[-MODEL.energy(PARAMS, v, h) for v in all_states(2)] for h in all_states(3)])
    expected = (joint / joint.sum()).reshape(-1)
    # h was drawn before v: the pair is still a draw of the joint law at equilibrium.
    share = counts / counts.sum()
    spread = 5.0 * np.sqrt(expected * (1 - expected) / (num_chains * num_samples / 2))
    np.testing.assert_array_less(np.abs(share - expected), spread)
    assert runs.num_refused.sum() == 0
    rate = expected.reshape(8, 4).sum(1) @ np.asarray(all_states(3)).mean(1)
    assert float(runs.mean_info.hidden_rate.mean()) == pytest.approx(rate, abs=0.01)
    assert 0.1 < float(runs.mean_info.hidden_flips.mean()) < 0.9


def test_a_draw_that_is_not_finite_is_refused_and_said_so():
    state = gibbs.init(jnp.ones(2), 3)
    broken, info = gibbs.step(
        jax.random.key(0), state, lambda key, v: jnp.ones(3), lambda key, h: jnp.full(2, jnp.nan)
    )
    np.testing.assert_array_equal(broken.position, state.position)
    assert not info.is_finite
    for call in (lambda: gibbs.init(jnp.ones((2, 2)), 3), lambda: gibbs.init(jnp.ones(2), 0)):
        with pytest.raises(ValueError, match=r"position must have rank 1|num_hidden must be"):
            call()
