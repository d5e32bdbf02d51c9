"""Losses for fits: closed forms of a new model, dropout, methods, refusals."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from densityjax import models
from densityjax.training import fit

KEY = jax.random.key(0)
ROWS = jax.random.normal(jax.random.key(1), (4_096, 3)) * jnp.array([1.0, 10.0, 0.1])
MODEL = models.score_model(3, width=8)
PARAMS = MODEL.init(KEY, ROWS)


def mean_and_error(values):
    values = np.asarray(values, np.float64)
    return values.mean(), values.std(ddof=1) / np.sqrt(values.size)


@functools.lru_cache
def loss_of(options=(), seed=0):
    losses = models.score_loss(MODEL, **dict(options))
    return jax.jit(losses.loss_fn)(PARAMS, jax.random.key(seed), ROWS, ())[0]


@pytest.mark.parametrize("law", ["log_normal", "log_uniform", "geometric"])
def test_a_new_model_loses_the_dimension_on_normal_data_at_every_law_of_levels(law):
    mean, error = mean_and_error(loss_of((("levels", models.Levels(law)),)))
    assert mean == pytest.approx(3.0, abs=5 * error)
    assert error < 0.1


def test_the_control_variate_changes_the_noise_and_not_the_mean():
    options = (("levels", models.Levels(log_mean=-3.0, log_sd=0.1)),)
    plain, cut = loss_of(options), loss_of((*options, ("control_variate", True)))
    assert np.var(cut) < np.var(plain) / 5
    mean, error = mean_and_error(plain - cut)
    assert mean == pytest.approx(0.0, abs=5 * error)


@pytest.mark.parametrize("method", ["sliced", "exact"])
def test_sliced_and_exact_losses_of_a_new_model_are_half_the_fisher_information(method):
    # At the truth the loss is -E |s*|^2 / 2 = -D / (2 v), times the weight v sigma^2.
    sigma = 0.5
    options = (("method", method), ("levels", models.Levels(log_mean=np.log(0.5), log_sd=1e-6)))
    mean, error = mean_and_error(loss_of(options))
    assert mean == pytest.approx(-1.5 * sigma**2, abs=5 * error)


def test_levels_are_stratified_over_a_batch():
    """The mean over a batch of a function of the level varies far less than with free draws."""
    options = (("levels", models.Levels("log_uniform")), ("weight", "sigma_squared"))
    means = [float(loss_of(options, seed).mean()) for seed in range(8)]
    # Weight sigma^2 on N(0, I): D / (1 + sigma^2), from 0 to 3, sd 1.4 over levels.
    assert np.mean(means) == pytest.approx(
        np.log((1 + 0.02**-2) / (1 + 20.0**-2)) * 1.5 / np.log(1000), rel=0.02
    )
    assert np.std(means) < 0.05


def test_dropout_acts_in_training_and_not_in_validation():
    model = models.score_model(3, width=8, network="multi_scale", dropout=0.5)
    params = model.init(KEY, ROWS)
    bare = models.score_model(3, width=8, network="multi_scale")
    pairs = [models.score_loss(each, num_validation_draws=1) for each in (model, bare)]

    @jax.jit
    def both(params):
        judged = [pair.validation_loss_fn(params, KEY, ROWS[:64], ())[0] for pair in pairs]
        return judged, [pair.loss_fn(params, KEY, ROWS[:64], ())[0] for pair in pairs]

    judged, trained = both(params)
    np.testing.assert_allclose(*judged, rtol=1e-6)
    assert np.abs(trained[0] - trained[1]).max() > 0


def test_a_fit_of_fewer_rows_than_a_batch_takes_contexts_and_weights():
    model = models.score_model(2, context_dim=1, width=8)
    rows = jax.random.normal(KEY, (40, 2))
    context = rows[:, :1] + 1.0
    losses = models.score_loss(model, num_validation_draws=2)
    result = fit(
        KEY,
        losses.loss_fn,
        model.init(KEY, rows, context),
        (rows, context),
        validation_loss_fn=losses.validation_loss_fn,
        weights=np.r_[np.ones(30), np.zeros(10)],
        batch_size=256,
        num_epochs=3,
    )
    assert np.isfinite(result.validation_loss).all()
    assert result.validation_loss[-1] < result.validation_loss[0]


@pytest.mark.parametrize(
    ("build", "match"),
    [
        (lambda: models.score_loss(MODEL, method="noise"), "method is 'noise'"),
        (lambda: models.score_loss(MODEL, weight="snr"), "weight is 'snr'"),
        (lambda: models.score_loss(MODEL, levels=models.Levels("cosine")), "law is 'cosine'"),
        (lambda: models.score_loss(MODEL, levels=models.Levels(log_sd=0.0)), r"log_sd=0\.0"),
        (lambda: models.score_loss(MODEL, num_validation_draws=0), "num_validation_draws is 0"),
    ],
)
def test_a_wrong_option_is_named(build, match):
    with pytest.raises(ValueError, match=match):
        build()
