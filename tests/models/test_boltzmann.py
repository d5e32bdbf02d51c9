"""The Gaussian-Bernoulli machine: enumeration, quadrature, the mixture it is, and its training."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import special, stats

from densityjax import models, training
from densityjax.models.boltzmann import clip_log_variance
from densityjax.models.boltzmann_losses import negative_log_likelihood_fn
from densityjax.models.boltzmann_partition import all_states

SCALE, SHIFT = np.array([2.0, 0.5]), np.array([1.0, 3.0])
ROWS = jnp.asarray(np.random.default_rng(0).standard_normal((200, 2)) * SCALE + SHIFT, jnp.float32)
MODEL = models.gaussian_bernoulli_rbm(2, num_hidden=4)
PARAMS = MODEL.init(jax.random.key(0), ROWS) | {
    "kernel": jnp.array([[1.0, -0.7, 0.4, 1.3], [0.2, 1.1, -1.4, 0.5]]),
    "visible_bias": jnp.array([0.3, -0.2]),
    "hidden_bias": jnp.array([0.5, -1.0, 0.2, -0.4]),
    "log_variance": jnp.array([-0.5, 0.3]),
}


def mixture(params, x):
    """Log density of the 2^H normal laws by hand, in float64."""
    params = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), params)
    location, scale = (params["standardiser"][name] for name in ("location", "scale"))
    variance = np.exp(params["log_variance"])
    states = np.asarray(all_states(params["kernel"].shape[1]), np.float64)
    means = params["visible_bias"] + states @ params["kernel"].T
    gain = 0.5 * np.sum((means**2 - params["visible_bias"] ** 2) / variance, axis=1)
    log_weight = states @ params["hidden_bias"] + gain
    log_weight -= special.logsumexp(log_weight)
    y = (np.asarray(x, np.float64) - location) / scale
    normal = stats.norm.logpdf(y[:, None], means, np.sqrt(variance)).sum(-1)
    return special.logsumexp(log_weight + normal, axis=1) - np.log(scale).sum()


def test_e338_11_free_energy_is_the_joint_energy_summed_over_hidden_states():
    energies = jax.vmap(MODEL.energy, in_axes=(None, None, 0))(PARAMS, ROWS[3], all_states(4))
    expected = -special.logsumexp(-np.asarray(energies, np.float64))
    assert float(MODEL.free_energy(PARAMS, ROWS[3])) == pytest.approx(expected, abs=1e-5)


def test_e338_13_log_z_by_enumeration_is_that_of_quadrature():
    nodes = np.linspace(-12.0, 12.0, 241)  # trapezoids of an analytic law: exact to rounding
    grid = np.stack(np.meshgrid(nodes, nodes, indexing="ij"), -1).reshape(-1, 2)
    location, scale = (np.asarray(PARAMS["standardiser"][name]) for name in ("location", "scale"))
    x = jnp.asarray(location + scale * grid, jnp.float32)
    energies = jax.vmap(MODEL.free_energy, in_axes=(None, 0))(PARAMS, x)
    cell = 0.1**2 * scale.prod()
    expected = special.logsumexp(-np.asarray(energies, np.float64)) + np.log(cell)
    assert float(MODEL.log_z(PARAMS)) == pytest.approx(expected, abs=2e-5)


def test_e338_13_log_z_agrees_with_quadrature_to_1e_8_in_double_precision(x64):
    params = jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.float64), PARAMS)
    nodes = np.linspace(-14.0, 14.0, 281)
    grid = np.stack(np.meshgrid(nodes, nodes, indexing="ij"), -1).reshape(-1, 2)
    location, scale = (np.asarray(params["standardiser"][name]) for name in ("location", "scale"))
    x = jnp.asarray(location + scale * grid)
    energies = jax.vmap(MODEL.free_energy, in_axes=(None, 0))(params, x)
    expected = special.logsumexp(-np.asarray(energies)) + np.log(0.1**2 * scale.prod())
    assert float(MODEL.log_z(params)) == pytest.approx(expected, abs=1e-8)


def test_the_density_is_a_mixture_of_2_to_the_h_normal_laws():
    found = jax.jit(jax.vmap(MODEL.log_prob, in_axes=(None, 0)))(PARAMS, ROWS)
    np.testing.assert_allclose(found, mixture(PARAMS, ROWS), atol=2e-5)


def test_e338_13_the_free_energy_rises_without_bound_along_rays():
    directions = np.random.default_rng(1).standard_normal((8, 2))
    for direction in directions / np.linalg.norm(directions, axis=1, keepdims=True):
        x = SHIFT + SCALE * direction * np.array([[10.0], [100.0], [1000.0]])
        energies = [float(MODEL.free_energy(PARAMS, jnp.asarray(one, jnp.float32))) for one in x]
        assert energies[0] < energies[1] < energies[2]
        assert energies[2] > 1e4


def test_conditionals_are_those_of_the_joint_energy():
    h = jnp.array([1.0, 0.0, 1.0, 1.0])
    for unit in range(4):
        on, off = (MODEL.energy(PARAMS, ROWS[5], h.at[unit].set(each)) for each in (1.0, 0.0))
        expected = float(off - on)
        assert float(MODEL.hidden_logits(PARAMS, ROWS[5])[unit]) == pytest.approx(
            expected, abs=1e-4
        )
    # The mean of v given h is where the joint energy is least.
    slope = jax.grad(MODEL.energy, argnums=1)(PARAMS, MODEL.visible_mean(PARAMS, h), h)
    np.testing.assert_allclose(slope, 0.0, atol=1e-4)


def test_samples_are_exact_draws_of_the_mixture():
    keys = jax.random.split(jax.random.key(1), 10_000)
    draws = np.asarray(jax.jit(jax.vmap(MODEL.sample, in_axes=(0, None)))(keys, PARAMS))
    y = (draws - np.asarray(PARAMS["standardiser"]["location"])) / np.asarray(
        PARAMS["standardiser"]["scale"]
    )
    log_weights = np.asarray(MODEL.hidden_log_weights(PARAMS), np.float64)
    weights = special.softmax(log_weights)
    means = np.asarray(PARAMS["visible_bias"] + all_states(4) @ PARAMS["kernel"].T)
    for column in range(2):
        sd = np.exp(0.5 * float(PARAMS["log_variance"][column]))
        cdf = stats.norm.cdf(y[:, column, None], means[:, column], sd) @ weights
        assert stats.kstest(cdf, "uniform").pvalue > 1e-3
    flat = jax.vmap(lambda key: MODEL.sample(key, PARAMS, temperature=9.0))(keys[:2000])
    assert (np.asarray(flat).std(0) > 1.5 * draws.std(0)).all()


def test_annealing_finds_log_z_within_its_error_and_below_on_average():
    @jax.jit
    def anneal(key):
        return models.annealed_log_z(key, MODEL, PARAMS, num_chains=256, num_steps=200)

    estimate, exact = anneal(jax.random.key(2)), float(MODEL.log_z(PARAMS))
    assert float(estimate.log_z) == pytest.approx(exact, abs=0.05)
    assert abs(float(estimate.log_z) - exact) < 4 * float(estimate.standard_error)
    assert 100 < float(estimate.effective_sample_size) <= 256
    # log of an unbiased estimate: each chain's log weight is below log Z in the mean.
    assert float(estimate.log_weights.mean()) < exact
    low, high = estimate.interval()
    assert high - low == pytest.approx(4 * float(estimate.standard_error), rel=1e-4)


def test_a_mixing_step_keeps_gradients_of_log_variance_inside_its_range():
    assert clip_log_variance(jnp.array([-9.0, 0.0, 5.0])).tolist() == [-6.0, 0.0, 2.0]
    outward = jax.grad(lambda v: clip_log_variance(v) @ jnp.array([1.0, 1.0, -1.0]))
    inward = jax.grad(lambda v: clip_log_variance(v) @ jnp.array([-1.0, 1.0, 1.0]))
    at = jnp.array([-9.0, 0.0, 5.0])
    assert outward(at).tolist() == [0.0, 1.0, 0.0]
    assert inward(at).tolist() == [-1.0, 1.0, 1.0]


def exact_gradient(model, params, rows):
    nll = negative_log_likelihood_fn(model)
    loss = lambda p: nll(p, jax.random.key(0), rows, ())[0].mean()  # noqa: E731
    return jax.jit(jax.grad(loss))(params)


def correlation(first, second, names):
    flat = [np.concatenate([np.ravel(tree[name]) for name in names]) for tree in (first, second)]
    return np.corrcoef(*flat)[0, 1]


def test_rbm_04_divergence_gradients_correlate_with_the_exact_one():
    model = models.gaussian_bernoulli_rbm(4, num_hidden=3)
    rng = np.random.default_rng(0)
    rows = jnp.asarray(rng.standard_normal((256, 4)) @ rng.standard_normal((4, 4)), jnp.float32)
    params = model.init(jax.random.key(0), rows)
    params |= {"kernel": 0.4 * jax.random.normal(jax.random.key(1), (4, 3))}
    names = ("kernel", "visible_bias", "hidden_bias", "log_variance")

    def gradient(num_steps):
        loss_fn = models.contrastive_divergence_loss(model, num_steps=num_steps).loss_fn

        def one(key):
            return jax.grad(lambda p: loss_fn(p, key, rows, ())[0].mean())(params)

        many = jax.jit(jax.vmap(one))(jax.random.split(jax.random.key(2), 30))
        return jax.tree.map(lambda leaf: leaf.mean(0), many)

    exact = exact_gradient(model, params, rows)
    assert correlation(gradient(1), exact, names) > 0.9
    assert correlation(gradient(8), exact, names) > 0.99


def test_negatives_carry_no_gradient_and_the_buffer_of_persistent_chains_goes_on():
    loss = models.persistent_divergence_loss(MODEL, num_steps=2)
    particles = models.init_particles(jax.random.key(0), MODEL, PARAMS, 32)

    def persistent(params):
        row_losses, moved, _ = loss.loss_fn(params, jax.random.key(1), (ROWS[:64],), particles)
        return row_losses.mean(), moved

    grads, moved = jax.jit(jax.grad(persistent, has_aux=True))(PARAMS)
    assert moved.shape == (32, 2)
    assert (np.asarray(moved) != np.asarray(particles)).all()
    energies = jax.vmap(MODEL.free_energy, in_axes=(None, 0))
    expected = jax.grad(
        lambda p: energies(p, ROWS[:64]).mean() - energies(p, jnp.asarray(moved)).mean()
    )(PARAMS)
    np.testing.assert_allclose(grads["kernel"], expected["kernel"], atol=1e-5)
    assert not np.any(grads["standardiser"]["scale"])


@pytest.mark.parametrize("method", ["cd", "pcd"])
def test_a_fit_of_contrastive_divergence_beats_the_normal_law_on_two_modes(method):
    rng = np.random.default_rng(3)
    centres = np.where(rng.random((1536, 1)) < 0.5, -2.0, 2.0)
    rows = jnp.asarray(centres + 0.5 * rng.standard_normal((1536, 2)), jnp.float32)
    model = models.gaussian_bernoulli_rbm(2, num_hidden=4, initial_sd=0.1)
    params = model.init(jax.random.key(0), rows[:1024])
    loss, state = models.contrastive_divergence_loss(model), ()
    if method == "pcd":
        loss = models.persistent_divergence_loss(model)
        state = models.init_particles(jax.random.key(1), model, params, 64)
    result = training.fit(
        jax.random.key(2),
        loss.loss_fn,
        params,
        rows[:1024],
        validation=rows[1024:],
        validation_loss_fn=loss.validation_loss_fn,
        loss_state=state,
        optimizer=training.adamw(num_steps=480, learning_rate=0.03),
        num_epochs=30,
        batch_size=64,
        patience=30,
    )
    held_out = np.asarray(rows[1024:])
    covariance = np.cov(np.asarray(rows[:1024]).T)
    normal = -stats.multivariate_normal(np.zeros(2), covariance).logpdf(held_out).mean()
    assert result.best_loss < normal - 0.2
    np.testing.assert_allclose(
        result.best_loss, -mixture(result.params, held_out).mean(), atol=1e-4
    )


def test_wrong_options_and_calls_are_named():
    large = models.gaussian_bernoulli_rbm(2, num_hidden=17)
    params = large.init(jax.random.key(0), ROWS)
    for call, match in (
        (lambda: models.gaussian_bernoulli_rbm(0), "dim is 0"),
        (lambda: models.gaussian_bernoulli_rbm(2, num_hidden=0), "num_hidden is 0"),
        (lambda: models.gaussian_bernoulli_rbm(2, initial_sd=0.0), r"initial_sd is 0\.0"),
        (lambda: large.log_z(params), "num_hidden is 17: accepted is at most 16"),
        (lambda: MODEL.free_energy(PARAMS, ROWS[0], ROWS[0]), "context is of shape"),
        (lambda: models.contrastive_divergence_loss(MODEL, num_steps=0), "num_steps is 0"),
        (lambda: models.persistent_divergence_loss(MODEL, restart_probability=2.0), "restart_pro"),
        (lambda: models.init_particles(jax.random.key(0), MODEL, PARAMS, 0), "num_particles is 0"),
        (
            lambda: models.annealed_log_z(jax.random.key(0), MODEL, PARAMS, num_chains=1),
            "num_chains is 1",
        ),
        (lambda: models.BoltzmannConfig.from_json('{"dims": 3}'), "'dims'"),
    ):
        with pytest.raises(ValueError, match=match):
            call()
    config = models.BoltzmannConfig(3, 5)
    assert models.BoltzmannConfig.from_json(config.to_json()) == config
    assert models.gaussian_bernoulli_rbm(2, num_hidden=4) is MODEL
