"""The running average of parameters in a fit: the closed form, what is kept, resumption."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from densityjax.training import fit

KEY = jax.random.key(0)
ROWS = jax.random.normal(jax.random.key(1), (40,)) + 2.0
VALIDATION = jax.random.normal(jax.random.key(2), (32,)) + 2.0


def loss(params, key, batch, loss_state):
    """Squared distance from a noisy parameter; its state lists the parameters before each step."""
    path, index = loss_state
    noise = 0.1 * jax.random.normal(key)
    loss_state = path.at[index].set(jax.lax.stop_gradient(params["mean"])), index + 1
    return (batch - params["mean"] - noise + 0.0 * params["fixed"]) ** 2, loss_state, ()


def judge(params, key, batch, loss_state):
    del key
    return (batch - params["mean"]) ** 2, loss_state, ()


def run(**options):
    return fit(
        KEY,
        loss,
        {"mean": jnp.zeros(()), "fixed": jnp.asarray(0.1)},
        ROWS,
        validation=VALIDATION,
        validation_loss_fn=judge,
        optimizer=optax.sgd(0.05),
        num_epochs=6,
        batch_size=16,
        loss_state=(jnp.zeros(18), jnp.asarray(0)),
        **{"chunk_epochs": 2, "ema_decay": 0.8, **options},
    )


def test_the_average_is_the_recursion_and_what_is_judged_and_returned_is_it():
    result = run()
    path = np.append(np.asarray(result.state.loss_state[0], np.float64)[1:], 0.0)
    path[-1] = result.state.params["mean"]
    average, after = 0.0, []
    for t, value in enumerate(path):
        decay = min(0.8, (1 + t) / (10 + t))
        average = decay * average + (1 - decay) * value
        after.append(average)
    assert float(result.state.average["mean"]) == pytest.approx(average, rel=1e-5)
    ends = np.array(after)[2::3]  # three steps an epoch
    expected = np.mean((np.asarray(VALIDATION, np.float64)[:, None] - ends) ** 2, axis=0)
    np.testing.assert_allclose(result.validation_loss, expected, rtol=1e-5)
    assert float(result.params["mean"]) == pytest.approx(ends[expected.argmin()], rel=1e-5)
    assert abs(float(result.params["mean"] - result.state.params["mean"])) > 1e-3
    assert float(result.params["fixed"]) == float(np.float32(0.1))  # to the bit


def test_a_stopped_fit_goes_on_bit_for_bit_with_its_average(tmp_path):
    whole = run()

    class Stop(Exception):
        pass

    def stop(progress):
        raise Stop

    with pytest.raises(Stop):
        run(checkpoint_path=tmp_path / "state", callback=stop)
    resumed = []
    found = run(checkpoint_path=tmp_path / "state", callback=resumed.append)
    assert [each.epoch for each in resumed] == [4, 6]
    chex.assert_trees_all_equal(found, whole)
    with pytest.raises(ValueError, match="it holds another fit"):
        run(checkpoint_path=tmp_path / "state", ema_decay=0.7)


def test_without_a_decay_nothing_is_kept_and_a_bad_one_is_named():
    assert run(ema_decay=None).state.average == ()
    with pytest.raises(ValueError, match=r"ema_decay is 1\.0"):
        run(ema_decay=1.0)
