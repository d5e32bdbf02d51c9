"""Losses for fits of energies: chains that keep the law, buffers that resume, laws recovered."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from densityjax import models, targets
from densityjax.models import Chains, EnergyState, NoisePool
from densityjax.samplers import replay
from densityjax.training import adamw, fit

KEY = jax.random.key(0)
ROWS = jax.random.normal(jax.random.key(1), (80_000, 2)) * jnp.array([1.0, 10.0]) + 3.0
NUM = 64


def output_gradient(base_scale, chains, method="cd"):
    """Gradient of the loss of each row in the output kernel of a new model: E h(x) - E h(x')."""
    model = models.energy_model(2, widths=(8,), base_scale=base_scale)
    params = model.init(KEY, ROWS)
    loss_fn = models.energy_loss(model, method=method, chains=chains).loss_fn

    def row(kernel, key, x):
        network = {**params["network"], "output": {"kernel": kernel, "bias": jnp.zeros(1)}}
        return loss_fn({**params, "network": network}, key, x[None], EnergyState())[0][0]

    rows = jax.jit(jax.vmap(jax.grad(row), (None, 0, 0)))
    kernel = params["network"]["output"]["kernel"]
    found = np.asarray(rows(kernel, jax.random.split(KEY, len(ROWS)), ROWS), np.float64)[..., 0]
    return found.mean(0) / (found.std(0) / np.sqrt(len(found)))  # in standard errors


FIXED_POINT = (1.0 - np.sqrt(1.0 - 2.0 * 0.3)) / 0.3  # curvature of unadjusted chains at step .3


@pytest.mark.parametrize(
    ("sampler", "base_scale", "is_fixed"),
    [
        ("langevin", FIXED_POINT**-0.5, True),
        ("langevin", 1.0, False),
        ("mala", 1.0, True),
        ("mala", FIXED_POINT**-0.5, False),
    ],
)
def test_chains_from_data_leave_the_fixed_point_of_their_sampler_alone(
    sampler, base_scale, is_fixed
):
    """1.225 at step .3 (1.0263 at .05) without, exactly one with a Metropolis correction."""
    chains = Chains(sampler=sampler, num_steps=2, step_size=0.3)
    error = np.abs(output_gradient(base_scale, chains))
    assert (error.max() < 5.0) == is_fixed
    assert (error.max() > 10.0) == (not is_fixed)


@functools.cache
def skewed_rows(num, seed):
    law = targets.log_exponential()
    return jax.jit(jax.vmap(law.sample))(jax.random.split(jax.random.key(seed), num))


def normal_pool(rows, num, scale=2.0):
    location, spread = rows.mean(axis=0), scale * rows.std(axis=0)
    x = location + spread * jax.random.normal(jax.random.key(5), (num, rows.shape[1]))
    log_prob = stats.norm(location, spread).logpdf(x).sum(axis=1)
    return NoisePool(x, jnp.asarray(log_prob, jnp.float32))


def with_log_prob(rows, like, scale=2.0):
    location, spread = like.mean(axis=0), scale * like.std(axis=0)
    return rows, stats.norm(location, spread).logpdf(rows).sum(axis=1).astype(np.float32)


def fitted(method, rows, *, chains=None, epochs=25, buffer=0, rate=5e-3, **options):
    """Fits a small energy, judged by its held-out density."""
    model = models.energy_model(rows.shape[1], widths=(32, 32))
    start = model.init(KEY, rows)
    held_out = rows[: len(rows) // 4]
    loss = models.energy_loss(model, method=method, chains=chains or Chains(), **options)
    state = EnergyState(
        normal_pool(rows, 4_096),
        models.start_buffer(KEY, model, start, buffer) if buffer else None,
    )
    result = fit(
        jax.random.key(7),
        loss.loss_fn,
        start,
        with_log_prob(rows[len(held_out) :], rows),
        validation=with_log_prob(held_out, rows),
        validation_loss_fn=loss.validation_loss_fn,
        optimizer=adamw(
            num_steps=epochs * -(-(len(rows) - len(held_out)) // 256), learning_rate=rate
        ),
        num_epochs=epochs,
        patience=epochs,
        chunk_epochs=epochs,
        loss_state=state,
    )
    return model, jax.tree.map(jnp.asarray, result.params), result


def density_on(model, params, lower, upper, num=2_001):
    """Normalised density of a model of one dimension on a grid, by the trapezoid rule."""
    grid = jnp.linspace(lower, upper, num)
    energy = np.asarray(jax.vmap(model.energy, (None, 0))(params, grid[:, None]), np.float64)
    mass = np.exp(-(energy - energy.min()))
    step = (upper - lower) / (num - 1)
    return np.asarray(grid, np.float64), mass / (mass.sum() * step), step, mass, energy.min()


@pytest.mark.parametrize("method", ["nce", "snl"])
def test_a_law_that_is_not_symmetric_is_learnt_with_its_log_z(method):
    model, params, _ = fitted(method, skewed_rows(4_000, 2))
    grid, density, step, mass, least = density_on(model, params, -12.0, 4.0)
    truth = np.exp(grid - np.exp(grid))
    assert 0.5 * step * np.abs(density - truth).sum() < 0.05
    exact = np.log(mass.sum() * step) - least
    assert float(params["log_z"]) == pytest.approx(exact, abs=0.1)


def test_ebm_08_langevin_maximum_likelihood_fits_a_double_well():
    """E = 2 (x^2 - 1)^2 + x / 2, tilted, so that its wells are not alike."""
    grid = np.linspace(-3.0, 3.0, 4_001)
    density = np.exp(-2.0 * (grid**2 - 1.0) ** 2 - 0.5 * grid)
    density /= density.sum()
    quantile = np.interp((np.arange(4_000) + 0.5) / 4_000, density.cumsum(), grid)
    rows = jnp.asarray(np.random.default_rng(0).permutation(quantile)[:, None], jnp.float32)
    chains = Chains(num_steps=20, step_size=0.05)
    model, params, _ = fitted("pcd", rows, chains=chains, buffer=1_024, epochs=50, rate=2e-2)
    x, found, step, _, _ = density_on(model, params, -3.0, 3.0)
    truth = np.exp(-2.0 * (x**2 - 1.0) ** 2 - 0.5 * x)
    truth /= truth.sum() * step
    assert 0.5 * step * np.abs(found - truth).sum() < 0.05


def test_e338_04_persistent_energies_rank_rows_as_the_true_density_does():
    law = targets.gaussian_mixture(
        [0.6, 0.4], [[-1.5, 0.0], [1.5, 1.0]], [np.diag([0.4, 1.0]), 0.5 * np.eye(2)]
    )
    draw = jax.jit(jax.vmap(law.sample))
    rows, test = (draw(jax.random.split(jax.random.key(s), 4_000)) for s in (3, 4))
    chains = Chains(num_steps=10, step_size=0.2)
    model, params, result = fitted("pcd", rows, chains=chains, buffer=1_024, epochs=50, rate=2e-2)
    energy = jax.vmap(model.energy, (None, 0))(params, test)
    truth = jax.vmap(law.log_prob)(test)
    assert stats.spearmanr(-energy, truth).statistic > 0.95
    buffer = result.state.loss_state.buffer
    assert buffer.age.max() > 20  # chains went on from step to step
    assert (buffer.age < 5).mean() > 0.02  # and some were begun anew


def test_a_fit_with_a_buffer_goes_on_bit_for_bit(tmp_path):
    rows = skewed_rows(512, 6)
    model = models.energy_model(1, widths=(8,))
    start = model.init(KEY, rows)
    loss = models.energy_loss(model, method="pcd", chains=Chains(num_steps=3))
    state = EnergyState(buffer=models.start_buffer(KEY, model, start, 300))
    optimizer = adamw(num_steps=16)

    def run(path=None, callback=None):
        return fit(
            jax.random.key(7),
            loss.loss_fn,
            start,
            rows,
            validation_loss_fn=loss.validation_loss_fn,
            optimizer=optimizer,
            num_epochs=4,
            batch_size=128,
            patience=9,
            chunk_epochs=2,
            loss_state=state,
            checkpoint_path=path,
            callback=callback,
        )

    def stop(progress):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "fit", stop)
    whole, resumed = run(), run(tmp_path / "fit")
    for one, other in zip(
        *(jax.tree.leaves((r.params, r.state.loss_state)) for r in (whole, resumed)), strict=True
    ):
        np.testing.assert_array_equal(one, other)
    moved = np.asarray(whole.state.loss_state.buffer.position)
    assert (moved != np.asarray(state.buffer.position)).mean() > 0.5


def test_chains_are_drawn_without_replacement_restarted_and_written_back():
    buffer = replay.ReplayBuffer(jnp.arange(200.0)[:, None], jnp.full(200, 9))
    fresh = jnp.full((100, 1), -1.0)
    taken = replay.take(KEY, buffer, fresh, restart_probability=0.3)
    assert len(set(taken.index.tolist())) == 100
    is_new = np.asarray(taken.position[:, 0] < 0.0)
    assert is_new.mean() == pytest.approx(0.3, abs=5 * (0.3 * 0.7 / 100) ** 0.5)
    np.testing.assert_array_equal(taken.position[~is_new, 0], taken.index[~is_new])
    np.testing.assert_array_equal(taken.age, np.where(is_new, 0, 9))
    after = replay.put_back(buffer, taken, taken.position + 1_000.0)
    rest = np.setdiff1d(np.arange(200), taken.index)
    np.testing.assert_array_equal(after.position[rest], buffer.position[rest])
    np.testing.assert_array_equal(after.position[taken.index], taken.position + 1_000.0)
    np.testing.assert_array_equal(after.age[taken.index], np.where(is_new, 1, 10))
    with pytest.raises(ValueError, match="fresh has 100 rows"):
        replay.take(KEY, replay.init(fresh[:50]), fresh)
    with pytest.raises(ValueError, match="restart_probability is 2"):
        replay.take(KEY, buffer, fresh, restart_probability=2.0)


@pytest.mark.parametrize("method", ["dsm", "ssm", "exact", "cnce", "short_run", "ranking"])
def test_every_method_has_finite_losses_of_rows_and_gradients_that_move_the_network(method):
    rows = ROWS[:NUM]
    model = models.energy_model(2, widths=(8,), zero_output=False)
    params = model.init(KEY, ROWS)
    loss = models.energy_loss(model, method=method, chains=Chains(num_steps=2))
    state = EnergyState(normal_pool(ROWS, 256))
    batch = with_log_prob(rows, ROWS)

    @jax.jit
    def both(params):
        value, _, _ = loss.loss_fn(params, KEY, batch, state)
        judged, _, _ = loss.validation_loss_fn(params, KEY, batch, EnergyState(None))
        return jnp.mean(value), (value, judged)

    if method == "ranking":  # which has to be judged against noise
        state_of_judge = state

        def both(params):
            value, _, _ = loss.loss_fn(params, KEY, batch, state)
            judged, _, _ = loss.validation_loss_fn(params, KEY, batch, state_of_judge)
            return jnp.mean(value), (value, judged)

    gradient, (value, judged) = jax.grad(both, has_aux=True)(params)
    assert value.shape == judged.shape == (NUM,)
    assert np.isfinite(value).all()
    assert np.isfinite(judged).all()
    kernel = gradient["network"]["hidden_0"]["kernel"]
    assert np.isfinite(kernel).all()
    assert np.any(kernel)
    assert not np.any(gradient["standardiser"]["scale"])


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"method": "mle"}, "method is 'mle'"),
        ({"chains": Chains(sampler="gibbs")}, "sampler is 'gibbs'"),
        ({"chains": Chains(num_steps=0)}, "num_steps >= 1"),
        ({"num_noise": 0}, "num_noise is 0"),
        ({"sigma": 0.0}, r"sigma 0\.0"),
    ],
)
def test_wrong_options_are_named(options, match):
    with pytest.raises(ValueError, match=match):
        models.energy_loss(models.energy_model(2, widths=(8,)), **options)


def test_losses_name_what_their_state_lacks():
    model = models.energy_model(2, widths=(8,))
    params = model.init(KEY, ROWS)
    for method, match in (("nce", "no pool"), ("pcd", "no buffer")):
        with pytest.raises(ValueError, match=match):
            models.energy_loss(model, method=method).loss_fn(params, KEY, ROWS[:8], EnergyState())
    with pytest.raises(ValueError, match="context_dim 1"):
        models.energy_loss(models.energy_model(2, context_dim=1))
