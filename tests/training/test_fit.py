"""Fits: known laws, early stopping, weights, padding, failures, resumption, ensembles."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.scipy.stats import norm

from densityjax.training import adamw, fit, fit_ensemble, loop
from densityjax.training.loop import Plan, init_state, run_chunk

KEY = jax.random.key(0)
SGD = optax.sgd(0.05)


def gaussian_loss(params, key, batch, loss_state):
    """Negative log-likelihood of N(mean, exp(log_scale)) of each row of [B]."""
    del key
    return -norm.logpdf(batch, params["mean"], jnp.exp(params["log_scale"])), loss_state, ()


def distance_loss(params, key, batch, loss_state):
    """Squared distance from a noisy parameter; counts its steps in the loss's state."""
    noise = 0.1 * jax.random.normal(key)
    return (batch - params["mean"] - noise) ** 2, loss_state + 1, ()


def mean_distance_loss(params, key, batch, loss_state):
    """The same for the whole batch, a scalar."""
    each, loss_state, aux = distance_loss(params, key, batch, loss_state)
    return jnp.mean(each), loss_state, aux


START = {"mean": jnp.zeros(()), "log_scale": jnp.zeros(())}
MEAN = {"mean": jnp.zeros(())}


def rows(seed, size, mean=0.0, sd=1.0):
    return mean + sd * np.random.default_rng(seed).standard_normal(size).astype(np.float32)


def fit_mean(data, key=KEY, **options):
    defaults = {
        "validation": rows(1, 64, 1.0),
        "optimizer": SGD,
        "num_epochs": 6,
        "batch_size": 16,
        "loss_state": jnp.asarray(0),
        "chunk_epochs": 2,
    }
    return fit(key, distance_loss, MEAN, data, **{**defaults, **options})


def test_trn_01_a_known_law_is_reached_within_a_twentieth_of_a_nat():
    train, validation, test = rows(0, 2000, 2, 3), rows(1, 500, 2, 3), rows(2, 100_000, 2, 3)
    optimizer = adamw(num_steps=40 * 8, learning_rate=0.1)
    result = fit(
        KEY,
        gaussian_loss,
        START,
        train,
        validation=validation,
        optimizer=optimizer,
        num_epochs=40,
    )
    loss = gaussian_loss(result.params, KEY, test, ())[0].mean()
    entropy = 0.5 * np.log(2 * np.pi * np.e * 9)
    assert float(loss) == pytest.approx(entropy, abs=0.05)
    assert result.train_loss[0] > entropy + 0.2  # it did not start there


def test_ex_01_the_best_parameters_come_back_and_reproduce_the_recorded_loss():
    # The training rows pull past the validation rows' optimum: the best epoch is not the last.
    result = fit_mean(
        rows(0, 64, 3.0), optimizer=optax.sgd(0.01), num_epochs=20, patience=20, chunk_epochs=20
    )
    assert 0 < result.best_epoch < result.num_epochs - 1
    assert result.best_loss == np.nanmin(result.validation_loss)
    assert result.best_loss == result.validation_loss[result.best_epoch]
    assert result.state.params["mean"] != result.params["mean"]
    plan = Plan(distance_loss, SGD, 20, 16, 20, 20)
    validation_key = jax.random.split(KEY)[1]
    again = loop.evaluate(
        plan, result.params, validation_key, jnp.asarray(rows(1, 64, 1.0)), jnp.ones(64), 0
    )
    assert float(again) == pytest.approx(float(result.best_loss), rel=1e-6)


def test_trn_03_a_fit_stops_after_its_patience_inside_a_chunk():
    result = fit_mean(
        rows(0, 64, 3.0), optimizer=optax.sgd(0.01), num_epochs=50, patience=3, chunk_epochs=50
    )
    assert result.num_epochs == result.best_epoch + 4 < 50
    assert np.isfinite(result.validation_loss).sum() == result.num_epochs
    assert np.isnan(result.train_loss[result.num_epochs :]).all()
    assert result.state.loss_state == 4 * result.num_epochs  # no step after the stop


def test_padding_rows_of_the_last_batch_leave_the_weighted_mean_unbiased():
    data = jnp.asarray(rows(0, 41))
    weights = jnp.asarray(np.random.default_rng(1).uniform(0, 2, 41), jnp.float32)
    expected = np.average(-np.asarray(norm.logpdf(data)), weights=weights)
    # Without a step the mean loss of the batches, the last of them padded, is that of the rows.
    plan = Plan(gaussian_loss, optax.sgd(0.0), 1, 16, 1, 1)
    state = init_state(plan, START, ())
    state = jax.jit(run_chunk, static_argnums=0)(plan, KEY, state, data, weights, data, weights)
    assert float(state.train_loss[0]) == pytest.approx(expected, rel=1e-5)
    assert float(state.validation_loss[0]) == pytest.approx(expected, rel=1e-5)


def test_an_evaluation_in_several_batches_equals_the_weighted_mean(monkeypatch):
    monkeypatch.setattr(loop, "EVALUATION_ROWS", 8)
    data, weights = jnp.asarray(rows(0, 41)), jnp.linspace(0.0, 2.0, 41)
    plan = Plan(gaussian_loss, SGD, 1, 7, 1, 1)
    loss = loop.evaluate(plan, START, KEY, data, weights, ())
    expected = np.average(-np.asarray(norm.logpdf(data)), weights=weights)
    assert float(loss) == pytest.approx(expected, rel=1e-5)


def test_a_loss_of_the_whole_batch_is_judged_on_every_row_once(monkeypatch):
    monkeypatch.setattr(loop, "EVALUATION_ROWS", 8)
    data = jnp.asarray(rows(0, 41))

    def mean_loss(params, key, batch, loss_state):
        loss, loss_state, aux = gaussian_loss(params, key, batch, loss_state)
        return loss.mean(), loss_state, aux

    loss = loop.evaluate(Plan(mean_loss, SGD, 1, 7, 1, 1), START, KEY, data, jnp.ones(41), ())
    assert float(loss) == pytest.approx(-float(norm.logpdf(data).mean()), rel=1e-5)


def test_a_checkpoint_of_another_fit_is_refused(tmp_path):
    options = {"optimizer": SGD, "num_epochs": 2, "checkpoint_path": tmp_path / "fit"}
    fit(KEY, gaussian_loss, START, rows(0, 32), **options)
    with pytest.raises(ValueError, match="holds another fit"):
        fit(KEY, gaussian_loss, START, rows(1, 32), **options)


def test_the_validation_loss_may_differ_from_that_of_training():
    def off_by_one(params, key, batch, loss_state):
        loss, loss_state, aux = gaussian_loss(params, key, batch, loss_state)
        return loss + 1.0, loss_state, aux

    options = {"optimizer": optax.sgd(0.0), "num_epochs": 1}
    plain = fit(KEY, gaussian_loss, START, rows(0, 32), **options)
    shifted = fit(KEY, gaussian_loss, START, rows(0, 32), validation_loss_fn=off_by_one, **options)
    assert shifted.best_loss == pytest.approx(plain.best_loss + 1.0)
    assert shifted.train_loss[0] == plain.train_loss[0]


def test_a_loss_of_the_whole_batch_equals_the_mean_of_its_rows_and_takes_no_weights():
    data = rows(0, 64, 1.0)
    options = {
        "validation": rows(1, 64),
        "optimizer": SGD,
        "num_epochs": 2,
        "batch_size": 16,
        "loss_state": jnp.asarray(0),
    }
    by_row = fit(KEY, distance_loss, MEAN, data, **options)
    whole = fit(KEY, mean_distance_loss, MEAN, data, **options)
    chex.assert_trees_all_close(whole, by_row, rtol=1e-5)
    for name in ("weights", "validation_weights"):
        with pytest.raises(ValueError, match="weights need the loss of each row"):
            fit(KEY, mean_distance_loss, MEAN, data, **options, **{name: np.ones(64)})


def test_a_row_of_weight_two_counts_as_the_row_twice_and_a_nan_of_weight_zero_not_at_all():
    data = rows(0, 12)
    weights = np.array([2.0] * 4 + [1.0] * 8 + [0.0], np.float32)
    options = {
        "validation": data,
        "optimizer": SGD,
        "num_epochs": 30,
        "batch_size": 16,
        "patience": 30,
    }
    with_nan = np.append(data, np.float32(np.nan))
    weighted = fit(KEY, gaussian_loss, START, with_nan, weights=weights, **options)
    twice = fit(KEY, gaussian_loss, START, np.concatenate([data[:4], data]), **options)
    chex.assert_trees_all_close(weighted.state.params, twice.state.params, rtol=1e-4)
    plain = fit(KEY, gaussian_loss, START, data, **options)
    assert abs(weighted.params["mean"] - plain.params["mean"]) > 0.01


def test_trn_07_a_loss_that_is_not_finite_names_epoch_and_batch():
    data = rows(0, 64)
    data[17] = np.nan
    with pytest.raises(FloatingPointError, match=r"epoch 0, batch \d"):
        fit_mean(data)
    with pytest.raises(FloatingPointError, match="epoch 0, the evaluation of the validation"):
        fit_mean(rows(0, 64), validation=data)


def test_trn_07_an_ensemble_names_the_member_too():
    data = rows(0, 64)
    data[17] = np.nan
    weights = np.ones((3, 64), np.float32)
    weights[[0, 2], 17] = 0.0  # member 1 alone sees the row
    with pytest.raises(FloatingPointError, match=r"epoch 0, batch \d of member 1"):
        fit_three(data, weights=weights)


STARTS = [0.0, 1.0, 5.0]  # the second at the optimum of the validation rows


def fit_three(data, **options):
    return fit_ensemble(
        jax.random.split(KEY, 3),
        distance_loss,
        {"mean": jnp.array(STARTS)},
        data,
        validation=rows(1, 64, 1.0),
        optimizer=SGD,
        num_epochs=12,
        batch_size=16,
        patience=2,
        loss_state=jnp.asarray(0),
        **options,
    )


def test_a_member_of_an_ensemble_is_the_single_fit_of_its_key_start_and_weights():
    data = rows(0, 64, 2.0)  # pulls past it
    weights = np.random.default_rng(2).poisson(1.0, (3, 64)).astype(np.float32)
    together = fit_three(data, weights=weights)
    for member, start in enumerate(STARTS):
        alone = fit(
            jax.random.split(KEY, 3)[member],
            distance_loss,
            {"mean": jnp.asarray(start)},
            data,
            validation=rows(1, 64, 1.0),
            optimizer=SGD,
            num_epochs=12,
            batch_size=16,
            patience=2,
            weights=weights[member],
            loss_state=jnp.asarray(0),
        )
        mine = jax.tree.map(lambda leaf, member=member: leaf[member], together[:-1])
        chex.assert_trees_all_close(mine, tuple(alone[:-1]), rtol=1e-4)
    assert len(set(together.num_epochs.tolist())) > 1  # members stop on their own


def test_an_interrupted_fit_goes_on_bit_for_bit(tmp_path):
    class Interruption(Exception):
        pass

    def interrupt(progress):
        if progress.epoch == 4:
            raise Interruption

    data, told = rows(0, 64, 1.0), []
    whole = fit_mean(data, callback=told.append)
    assert [p.epoch for p in told] == [2, 4, 6]
    assert [p.num_running for p in told] == [1, 1, 0]
    assert told[-1].best_loss == float(whole.best_loss)
    with pytest.raises(Interruption):
        fit_mean(data, callback=interrupt, checkpoint_path=tmp_path / "state")
    resumed = []
    result = fit_mean(data, callback=resumed.append, checkpoint_path=tmp_path / "state")
    assert [p.epoch for p in resumed] == [6]
    chex.assert_trees_all_equal(result, whole)
    chex.assert_trees_all_equal(fit_mean(data, checkpoint_path=tmp_path / "state"), whole)
    with pytest.raises(ValueError, match="do not fit"):
        fit_mean(data, num_epochs=7, checkpoint_path=tmp_path / "state")


def test_the_callers_parameters_survive_the_donation():
    params = {"mean": jnp.ones(())}
    loss_state = jnp.asarray(5)
    options = {"validation": rows(1, 64), "optimizer": SGD, "num_epochs": 1, "batch_size": 16}
    for _ in range(2):
        fit(KEY, distance_loss, params, rows(0, 64), loss_state=loss_state, **options)
    assert float(params["mean"]) == 1.0
    assert int(loss_state) == 5


def test_equal_arguments_compile_once_and_another_key_does_not_compile_again():
    traces = []

    def loss(params, key, batch, loss_state):
        traces.append(key)
        return distance_loss(params, key, batch, loss_state)

    options = {
        "validation": rows(1, 64),
        "num_epochs": 3,
        "batch_size": 16,
        "chunk_epochs": 1,
        "loss_state": jnp.asarray(0),
    }
    fit(KEY, loss, MEAN, rows(0, 64), optimizer=adamw(num_steps=12), **options)
    num_traces = len(traces)
    fit(jax.random.key(1), loss, MEAN, rows(3, 64), optimizer=adamw(num_steps=12), **options)
    assert len(traces) == num_traces > 0


def test_ex_17_the_same_key_gives_the_same_fit_and_another_key_another():
    data = rows(0, 64, 1.0)
    chex.assert_trees_all_equal(fit_mean(data), fit_mean(data))
    assert fit_mean(data, key=jax.random.key(1)).best_loss != fit_mean(data).best_loss


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"num_epochs": 0}, "num_epochs is 0"),
        ({"batch_size": 0}, "batch_size is 0"),
        ({"patience": 0}, "patience is 0"),
        ({"chunk_epochs": 0}, "chunk_epochs is 0"),
        ({"weights": np.ones(63)}, r"weights has shape \(63,\)"),
        ({"weights": np.ones((2, 64))}, r"weights has shape \(2, 64\)"),
        ({"weights": np.zeros(64)}, "weights must be"),
        ({"weights": -np.ones(64)}, "weights must be"),
        ({"validation_weights": np.full(64, np.nan)}, "validation_weights must be"),
        ({"validation": np.ones(0)}, "validation have leading sizes"),
    ],
)
def test_a_wrong_argument_is_named(options, match):
    with pytest.raises(ValueError, match=match):
        fit_mean(rows(0, 64), **options)
