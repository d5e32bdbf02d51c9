"""Dual energies: normalised at the start, units, the heat equation, and a fitted density."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from densityjax import models, targets
from densityjax.densities import importance_check
from densityjax.training import adamw, fit

KEY = jax.random.key(0)
LAW = targets.log_exponential()  # skewed: mean -.577, sd 1.283


@functools.lru_cache
def fitted():
    model = models.dual_score_model(1, width=48)
    losses = models.dual_score_loss(model, num_validation_draws=4)
    train, validation = (
        jax.jit(jax.vmap(LAW.sample))(jax.random.split(jax.random.key(seed), num))
        for seed, num in ((1, 8_192), (2, 512))
    )
    start = model.init(jax.random.key(4), train)
    result = fit(
        KEY,
        losses.loss_fn,
        start,
        train,
        validation=validation,
        validation_loss_fn=losses.validation_loss_fn,
        optimizer=adamw(num_steps=25 * 32, learning_rate=5e-3),
        num_epochs=25,
        batch_size=256,
        chunk_epochs=25,
    )
    return model, start, jax.tree.map(jnp.asarray, result.params)


def normal_energy(y, sigma):
    variance = 1 + sigma**2
    return 0.5 * np.sum(np.square(y)) / variance + 0.5 * y.size * np.log(2 * np.pi * variance)


def test_a_new_energy_is_the_normal_law_in_units_of_the_data():
    model = models.dual_score_model(2, width=8)
    rows = jax.random.normal(KEY, (200, 2)) * jnp.array([100.0, 0.01]) + 3.0
    params = model.init(KEY, rows)
    location, scale = (np.asarray(params["standardiser"][n]) for n in ("location", "scale"))
    energy, score = jax.jit(model.energy), jax.jit(model.score)
    for sigma in (0.05, 1.0, 20.0):
        y = (np.asarray(rows[0]) - location) / scale
        expected = normal_energy(y, sigma) + np.log(scale).sum()
        found = float(energy(params, rows[0], math.log(sigma)))
        assert found == pytest.approx(expected, rel=1e-4)
        np.testing.assert_allclose(
            score(params, rows[0], sigma), -y / (1 + sigma**2) / scale, rtol=1e-4
        )
    residual = jax.jit(functools.partial(models.heat_residual, model))
    assert abs(float(residual(params, jnp.array([0.5, -2.0]), -0.3))) < 1e-4


@functools.lru_cache
def log_prob_at_grid():
    model, _, params = fitted()
    grid = jnp.linspace(-9.0, 3.0, 801)[:, None]
    found = jax.jit(jax.vmap(lambda x: model.log_prob(params, x)))(grid)
    return np.asarray(grid[:, 0], np.float64), np.asarray(found, np.float64)


def test_a_fitted_energy_is_a_normalised_log_density_of_a_skewed_law():
    grid, found = log_prob_at_grid()
    assert np.trapezoid(np.exp(found), grid) == pytest.approx(1.0, abs=0.05)
    truth = grid - np.exp(grid)
    weight = np.exp(truth)
    error = found - truth
    bias = np.trapezoid(weight * error, grid)
    assert abs(bias) < 0.1
    assert np.trapezoid(weight * np.abs(error - bias), grid) < 0.1
    mean = np.trapezoid(grid * np.exp(found), grid)
    assert mean == pytest.approx(-np.euler_gamma, abs=0.1)  # a mirrored law would have +.577


def test_the_fit_beats_its_start_and_the_integral_is_confirmed_by_sampling():
    model, start, params = fitted()
    test = jax.vmap(LAW.sample)(jax.random.split(jax.random.key(9), 4_000))
    log_prob = jax.jit(jax.vmap(model.log_prob, (None, 0)))
    gain = np.mean(np.asarray(log_prob(params, test) - log_prob(start, test)))
    # The entropy of the law is 1 + gamma; that of a normal of its variance .09 nats more.
    assert gain > 0.05
    assert -np.mean(np.asarray(log_prob(params, test))) == pytest.approx(
        1 + np.euler_gamma, abs=0.1
    )
    proposal = targets.student_t(np.array([-0.6]), np.array([[2.5]]), dof=5.0)
    rows = jax.vmap(proposal.sample)(jax.random.split(jax.random.key(10), 4_000))
    check = importance_check(log_prob(params, rows), jax.vmap(proposal.log_prob)(rows))
    assert float(check.log_z) == pytest.approx(0.0, abs=0.05 + 4 * float(check.standard_error))
    assert float(check.effective_sample_size) > 1_000


def test_the_fitted_energy_nearly_solves_the_heat_equation_where_data_lie():
    model, _, params = fitted()
    residual = jax.jit(jax.vmap(lambda y: models.heat_residual(model, params, y, -0.5)))
    assert float(jnp.abs(residual(jnp.linspace(-1.5, 1.2, 12)[:, None])).mean()) < 0.15


def test_losses_are_fixed_in_validation_and_refuse_levels():
    model, _, params = fitted()
    losses = models.dual_score_loss(model, num_validation_draws=2)
    rows = jax.random.normal(KEY, (64, 1))
    judge = jax.jit(losses.validation_loss_fn)
    twice = [judge(params, jax.random.key(k), rows, ())[0] for k in (0, 1)]
    np.testing.assert_array_equal(*twice)
    with pytest.raises(ValueError, match="law is 'cosine'"):
        models.dual_score_loss(model, levels=models.Levels("cosine"))


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"activation": "relu"}, "activation is 'relu'"),
        ({"network": "multi_scale"}, "network is 'multi_scale'"),
        ({"sigma_min": 2.0, "sigma_max": 1.0}, r"sigma_min is 2\.0"),
    ],
)
def test_a_wrong_option_is_named(options, match):
    with pytest.raises(ValueError, match=match):
        models.dual_score_model(2, **options)


def test_dual_options_are_not_those_of_scores():
    with pytest.raises(ValueError, match="accepted is 'dual'"):
        models.dual_score_from_config(models.ScoreConfig(dim=2))
