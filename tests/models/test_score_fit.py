"""A fitted score model against a skewed mixture: scores, densities, weights of its modes."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from densityjax import models, targets
from densityjax.evaluation import score_accuracy as accuracy
from densityjax.training import adamw, fit

KEY = jax.random.key(0)

# One mixture, skewed, with unequal scales; noise adds to its covariances.
WEIGHTS, CENTRES = [0.75, 0.25], np.array([[-1.0, 0.0], [2.5, 0.02]])
SPREADS = np.array([[[0.5, 0.002], [0.002, 2e-5]], [[0.3, 0.0], [0.0, 1e-5]]])
LAW = targets.gaussian_mixture(WEIGHTS, CENTRES, SPREADS)


@functools.lru_cache
def fitted():
    model = models.score_model(2, width=48)
    losses = models.score_loss(model, num_validation_draws=4)
    train, validation, test = (
        jax.jit(jax.vmap(LAW.sample))(jax.random.split(jax.random.key(seed), num))
        for seed, num in ((1, 8_192), (2, 512), (3, 400))
    )
    result = fit(
        KEY,
        losses.loss_fn,
        model.init(jax.random.key(4), train),
        train,
        validation=validation,
        validation_loss_fn=losses.validation_loss_fn,
        optimizer=adamw(num_steps=24 * 32, learning_rate=5e-3),
        num_epochs=24,
        batch_size=256,
        chunk_epochs=24,
    )
    return model, jax.tree.map(jnp.asarray, result.params), test, result


def test_sco_11_a_fit_finds_the_score_of_a_mixture_at_every_level():
    model, params, test, _ = fitted()
    scale = np.asarray(params["standardiser"]["scale"], np.float64)
    noise = jax.random.normal(jax.random.key(5), test.shape)
    score = jax.jit(jax.vmap(lambda x, sigma: model.score(params, x, sigma), (0, None)))
    for sigma in (0.2, 1.0, 5.0):
        noisy = targets.gaussian_mixture(WEIGHTS, CENTRES, SPREADS + np.diag((sigma * scale) ** 2))
        points = test + sigma * jnp.asarray(scale, jnp.float32) * noise
        # In standard units, where both columns count.
        found = accuracy.score_accuracy(
            score(points, sigma) * scale, jax.vmap(noisy.score)(points) * scale, sigma
        )
        assert float(found.correlation) > 0.99
        assert float(found.relative_fisher_error) < 0.03
        assert float(found.excess) < 0.03


SIDES = [np.linspace(-4.0, 5.0, 48), np.linspace(-0.02, 0.04, 32)]


@functools.lru_cache
def densities():
    """Log densities of the test rows, and of a grid around the law, by one program."""
    model, params, test, _ = fitted()
    grid = np.stack(np.meshgrid(*SIDES), -1).reshape(-1, 2)
    one = functools.partial(models.flow_log_prob_and_error, model, params, num_steps=24)
    found = jax.jit(jax.vmap(one))(jnp.concatenate([test, jnp.asarray(grid, jnp.float32)]))
    split = len(test)
    return jax.tree.map(lambda leaf: np.asarray(leaf[:split], np.float64), found), (
        grid,
        np.exp(np.asarray(found.log_prob[split:], np.float64)),
    )


def test_sco_11_the_density_of_a_fit_is_that_of_the_mixture_in_units_of_the_data():
    found, _ = densities()
    truth = np.asarray(jax.vmap(LAW.log_prob)(fitted()[2]), np.float64)
    assert np.corrcoef(found.log_prob, truth)[0, 1] > 0.97
    assert abs((found.log_prob - truth).mean()) < 0.1
    assert found.step_error.mean() < 0.05


def test_e337_10_modes_far_apart_get_their_weights():
    """By the mass that the density gives each side, not by samples: no sampler is needed."""
    _, (grid, density) = densities()
    cell = np.prod([side[1] - side[0] for side in SIDES])
    assert density.sum() * cell == pytest.approx(1.0, abs=0.08)
    assert density[grid[:, 0] > 0.9].sum() * cell == pytest.approx(0.25, abs=0.05)


def test_trn_05_e337_07_the_best_loss_is_reproduced_whatever_the_key():
    model, params, _, result = fitted()
    losses = models.score_loss(model, num_validation_draws=4)
    validation = jax.jit(jax.vmap(LAW.sample))(jax.random.split(jax.random.key(2), 512))
    judge = jax.jit(losses.validation_loss_fn)
    again = [judge(params, jax.random.key(seed), validation, ())[0] for seed in (0, 1)]
    np.testing.assert_array_equal(*again)
    assert float(again[0].mean()) == pytest.approx(float(result.best_loss), rel=1e-4)
    train = jax.jit(losses.loss_fn)
    noisy = [
        float(train(params, jax.random.key(seed), validation, ())[0].mean()) for seed in (0, 1)
    ]
    assert noisy[0] != noisy[1]
