"""A spline flow learns a known curved law, by the optimiser that the library is built on."""

import jax
import numpy as np
import pytest

from densityjax import targets
from densityjax.models import neural_spline_flow
from densityjax.training import adamw, fit

NUM_TRAIN, NUM_EPOCHS, BATCH = 8_192, 30, 256
LONG, SHORT = 2.0, 0.5
LAW = targets.banana(curvature=0.5, long_sd=LONG, short_sd=SHORT)
# The bend keeps volumes, so that the entropy is that of two independent normals.
ENTROPY = np.log(2 * np.pi * np.e) + np.log(LONG) + np.log(SHORT)
FLOW = neural_spline_flow(2, num_layers=3, width=32, num_hidden=1)


def likelihood_loss(params, key, batch, loss_state):
    """Negative log-likelihood of each row of [B, 2]."""
    del key
    return -jax.vmap(lambda row: FLOW.log_prob(params, row))(batch), loss_state, ()


def test_trn_01_flo_21_a_spline_flow_reaches_the_entropy_within_a_twentieth_of_a_nat():
    draw = jax.jit(jax.vmap(LAW.sample))
    train, validation, test = (
        draw(jax.random.split(jax.random.key(seed), size))
        for seed, size in ((0, NUM_TRAIN), (1, 2_048), (2, 32_768))
    )
    start = jax.jit(FLOW.init)(jax.random.key(3), train)
    result = fit(
        jax.random.key(4),
        likelihood_loss,
        start,
        train,
        validation=validation,
        optimizer=adamw(
            num_steps=NUM_EPOCHS * NUM_TRAIN // BATCH,
            learning_rate=1e-3,
            weight_decay=1e-5,
            clip_norm=1.0,
        ),
        num_epochs=NUM_EPOCHS,
        batch_size=BATCH,
    )
    log_prob = jax.jit(jax.vmap(FLOW.log_prob, in_axes=(None, 0)))

    def held_out(params):
        return -np.mean(np.asarray(log_prob(params, test)), dtype=np.float64)

    # The mean of 32,768 rows of unit variance is off by .006.
    assert held_out(result.params) == pytest.approx(ENTROPY, abs=0.05)
    assert held_out(start) > ENTROPY + 0.2  # it did not start there
    # The same rows for flow and law: what is left is the divergence, which is not negative.
    truth = np.mean(np.asarray(jax.jit(jax.vmap(LAW.log_prob))(test)), dtype=np.float64)
    assert -0.002 < held_out(result.params) + truth < 0.04
