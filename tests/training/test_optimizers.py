"""AdamW as the package sets it up: what decays, what the schedule does, what is refused."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from densityjax.training import adamw

PARAMS = {"net": {"kernel": jnp.ones((2, 2)), "bias": jnp.ones(2)}, "scale": jnp.ones(3)}


def test_only_kernels_decay_when_the_gradient_is_zero():
    optimizer = adamw(num_steps=10, learning_rate=0.1, weight_decay=0.5)
    zero = jax.tree.map(jnp.zeros_like, PARAMS)
    updates, _ = jax.jit(optimizer.update)(zero, optimizer.init(PARAMS), PARAMS)
    np.testing.assert_allclose(updates["net"]["kernel"], -0.1 * 0.5, rtol=1e-6)
    np.testing.assert_array_equal(updates["net"]["bias"], 0.0)
    np.testing.assert_array_equal(updates["scale"], 0.0)


@pytest.mark.parametrize("warmup_steps", [0, 4])
def test_the_rate_follows_the_cosine_and_ends_at_zero(warmup_steps):
    optimizer = adamw(num_steps=20, learning_rate=0.1, weight_decay=0.0, warmup_steps=warmup_steps)
    grads = {"x": jnp.ones(())}
    state, update = optimizer.init(grads), jax.jit(optimizer.update)
    sizes = []
    for _ in range(21):
        updates, state = update(grads, state, grads)
        sizes.append(-float(updates["x"]))  # Adam's first moment over its root: 1 throughout
    step = np.arange(21)
    rise = step / max(warmup_steps, 1)
    fall = 0.5 * (1 + np.cos(np.pi * (step - warmup_steps) / (20 - warmup_steps)))
    expected = 0.1 * np.where(step < warmup_steps, rise, fall)
    np.testing.assert_allclose(sizes, expected, atol=1e-6)


def test_a_gradient_is_clipped_by_its_global_norm():
    optimizer = adamw(num_steps=10, clip_norm=1.0)
    grads = jax.tree.map(lambda leaf: 100.0 * leaf, PARAMS)
    _, state = jax.jit(optimizer.update)(grads, optimizer.init(PARAMS), PARAMS)
    adam = next(s for s in jax.tree.leaves(state, is_leaf=_is_adam) if _is_adam(s))
    # The first moment after one step is 0.1 times the clipped gradient, of norm 1.
    assert float(optax.tree.norm(adam.mu)) == pytest.approx(0.1, rel=1e-5)


def _is_adam(state):
    return isinstance(state, optax.ScaleByAdamState)


def test_equal_arguments_give_the_same_object():
    assert adamw(num_steps=7) is adamw(num_steps=7)


@pytest.mark.parametrize(
    "wrong",
    [
        {"num_steps": 0},
        {"warmup_steps": 10},
        {"learning_rate": 0.0},
        {"weight_decay": -1.0},
        {"clip_norm": 0.0},
    ],
)
def test_a_wrong_argument_is_named(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        adamw(**{"num_steps": 10, **wrong})


def test_what_is_frozen_does_not_decay():
    params = {"frozen": {"kernel": jnp.ones(3)}, "network": {"kernel": jnp.ones(3)}}
    optimizer = adamw(num_steps=10, learning_rate=0.1, weight_decay=0.5)
    still = jax.tree.map(jnp.zeros_like, params)
    updates, _ = optimizer.update(still, optimizer.init(params), params)
    assert not np.any(updates["frozen"]["kernel"])
    np.testing.assert_allclose(updates["network"]["kernel"], -0.05, rtol=1e-5)
