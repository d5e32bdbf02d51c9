"""Descent with momentum: its first steps by hand, what decays, and refusals."""

import jax.numpy as jnp
import numpy as np
import optax
import pytest

from densityjax import training


def test_steps_are_those_of_momentum_on_a_falling_rate_and_only_kernels_decay():
    optimizer = training.momentum_sgd(num_steps=10, learning_rate=0.1, weight_decay=0.5)
    params = {"kernel": jnp.array([2.0]), "bias": jnp.array([2.0])}
    state, velocity, hand = optimizer.init(params), np.zeros(2), np.array([2.0, 2.0])
    for step in range(3):
        gradient = {"kernel": jnp.array([1.0]), "bias": jnp.array([1.0])}
        updates, state = optimizer.update(gradient, state, params)
        params = optax.apply_updates(params, updates)
        velocity = 0.9 * velocity + 1.0 + np.array([0.5 * hand[0], 0.0])
        hand = hand - 0.1 * 0.5 * (1 + np.cos(np.pi * step / 10)) * velocity
    np.testing.assert_allclose([params["kernel"][0], params["bias"][0]], hand, rtol=1e-5)


def test_large_gradients_are_clipped_and_wrong_options_named():
    optimizer = training.momentum_sgd(num_steps=10, learning_rate=0.1, clip_norm=2.0)
    params = {"bias": jnp.zeros(4)}
    updates, _ = optimizer.update({"bias": jnp.full(4, 100.0)}, optimizer.init(params), params)
    np.testing.assert_allclose(updates["bias"], -0.1, rtol=1e-5)
    for options in ({"num_steps": 0}, {"num_steps": 1, "momentum": 1.0}):
        with pytest.raises(ValueError, match="momentum="):
            training.momentum_sgd(**options)
    with pytest.raises(ValueError, match=r"learning_rate=0\.0"):
        training.momentum_sgd(num_steps=1, learning_rate=0.0)
