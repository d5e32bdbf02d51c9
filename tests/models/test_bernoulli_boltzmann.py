"""The Bernoulli machine: closed forms, enumeration, generation; and the thermometer code."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import special

from densityjax import models
from densityjax.models.boltzmann_losses import negative_log_likelihood_fn
from densityjax.models.boltzmann_partition import all_states

MODEL = models.bernoulli_rbm(5, num_hidden=3)
PARAMS = {
    "kernel": jax.random.normal(jax.random.key(0), (5, 3)),
    "visible_bias": jnp.linspace(-0.5, 0.5, 5),
    "hidden_bias": jnp.array([0.2, -0.6, 0.4]),
}
VISIBLE = all_states(5)


def energies(model, params, v):
    return np.asarray(jax.vmap(model.free_energy, in_axes=(None, 0))(params, v), np.float64)


def test_e338_12_free_energy_of_one_unit_of_weight_one():
    one = models.bernoulli_rbm(1, num_hidden=1)
    params = {"kernel": jnp.ones((1, 1)), "visible_bias": jnp.zeros(1), "hidden_bias": jnp.zeros(1)}
    found = [float(one.free_energy(params, jnp.array([each]))) for each in (1.0, 0.0)]
    assert found == pytest.approx([-1.313262, -0.693147], abs=1e-6)
    steep = params | {"kernel": jnp.full((1, 1), 500.0)}
    assert float(one.free_energy(steep, jnp.ones(1))) == pytest.approx(-500.0)  # no overflow


def test_e338_11_hidden_states_sum_out_to_the_free_energy():
    joint = jax.vmap(jax.vmap(MODEL.energy, in_axes=(None, None, 0)), in_axes=(None, 0, None))
    table = np.asarray(joint(PARAMS, VISIBLE, all_states(3)), np.float64)
    np.testing.assert_allclose(
        -special.logsumexp(-table, axis=1), energies(MODEL, PARAMS, VISIBLE), atol=1e-5
    )
    hand = -np.einsum("nd,dh,mh->nm", VISIBLE, PARAMS["kernel"], all_states(3))
    hand -= (np.asarray(VISIBLE) @ np.asarray(PARAMS["visible_bias"]))[:, None]
    hand -= np.asarray(all_states(3)) @ np.asarray(PARAMS["hidden_bias"])
    np.testing.assert_allclose(table, hand, atol=1e-5)


@pytest.mark.parametrize("num_hidden", [3, 7])
def test_log_z_is_the_sum_over_all_visible_states_whichever_layer_is_smaller(num_hidden):
    model = models.bernoulli_rbm(5, num_hidden=num_hidden)
    params = PARAMS | {
        "kernel": jax.random.normal(jax.random.key(1), (5, num_hidden)),
        "hidden_bias": jnp.linspace(-1.0, 0.5, num_hidden),
    }
    expected = special.logsumexp(-energies(model, params, VISIBLE))
    assert float(model.log_z(params)) == pytest.approx(expected, abs=1e-5)
    total = jax.vmap(model.log_prob, in_axes=(None, 0))(params, VISIBLE)
    assert float(jnp.exp(total).sum()) == pytest.approx(1.0, abs=1e-5)
    if num_hidden == 3:
        estimate = models.annealed_log_z(
            jax.random.key(2), model, params, num_chains=256, num_steps=100
        )
        assert float(estimate.log_z) == pytest.approx(expected, abs=0.05)


def test_rbm_05_long_chains_generate_the_enumerated_law():
    keys = jax.random.split(jax.random.key(3), 8_000)
    draws = jax.jit(jax.vmap(lambda key: MODEL.generate(key, PARAMS, num_steps=60)))(keys)
    number = np.asarray(draws) @ 2 ** np.arange(5)
    share = np.bincount(number.astype(int), minlength=32) / len(keys)
    expected = np.exp(jax.vmap(MODEL.log_prob, in_axes=(None, 0))(PARAMS, VISIBLE))
    error = np.sqrt(expected * (1 - expected) / len(keys))
    np.testing.assert_array_less(np.abs(share - expected), 5 * error)


def test_e338_12_gradients_of_long_divergence_are_the_enumerated_ones():
    rows = VISIBLE[jnp.array([1, 5, 9, 30, 30, 7, 3, 14])]
    rows = jnp.tile(rows, (32, 1))
    loss_fn = models.contrastive_divergence_loss(MODEL, num_steps=30).loss_fn
    nll = negative_log_likelihood_fn(MODEL)

    @jax.jit
    def gradients(keys):
        one = lambda key: jax.grad(lambda p: loss_fn(p, key, rows, ())[0].mean())(PARAMS)  # noqa: E731
        exact = jax.grad(lambda p: nll(p, keys[0], rows, ())[0].mean())(PARAMS)
        return jax.vmap(one)(keys), exact

    sampled, exact = gradients(jax.random.split(jax.random.key(4), 60))
    for name, grads in sampled.items():
        error = np.std(grads, axis=0) / 60**0.5
        assert (np.abs(np.mean(grads, axis=0) - exact[name]) < 5 * error + 1e-4).all(), name


def test_reconstruction_is_the_mean_field_way_down_and_its_error_a_mean_square():
    v = VISIBLE[11]
    hidden = special.expit(np.asarray(MODEL.hidden_logits(PARAMS, v)))
    kernel, bias = np.asarray(PARAMS["kernel"]), np.asarray(PARAMS["visible_bias"])
    expected = special.expit(bias + kernel @ hidden)
    np.testing.assert_allclose(MODEL.reconstruct(PARAMS, v), expected, rtol=1e-5)
    error = np.mean((np.asarray(v) - expected) ** 2)
    assert float(MODEL.reconstruction_error(PARAMS, v)) == pytest.approx(error, rel=1e-5)


def test_e338_13_real_rows_are_refused_and_a_thermometer_makes_them_binary():
    rows = np.random.default_rng(0).standard_normal((500, 2)) * [1.0, 30.0]
    with pytest.raises(ValueError, match=r"the rows hold .* accepted are zeros and ones"):
        models.bernoulli_rbm(2).init(jax.random.key(0), jnp.asarray(rows))
    code = models.fit_binariser(rows, num_thresholds=3)
    np.testing.assert_allclose(code.thresholds, np.quantile(rows, [0.25, 0.5, 0.75], axis=0).T)
    bits = models.binarise(code, rows)
    assert bits.shape == (500, 6)
    models.check_binary(bits)
    np.testing.assert_allclose(bits.mean(0), [0.75, 0.5, 0.25] * 2, atol=0.005)
    # A larger value never turns a bit off.
    order = np.argsort(rows[:, 1])
    assert (np.diff(bits[order, 3:], axis=0) >= 0).all()
    # Bits of training rows do not move with later rows.
    np.testing.assert_array_equal(models.binarise(code, rows[:7]), bits[:7])
    machine = models.bernoulli_rbm(6, num_hidden=2)
    started = machine.init(jax.random.key(0), jnp.asarray(bits))
    assert float(jnp.std(started["kernel"])) == pytest.approx(0.01, rel=0.6)
    assert not np.any(started["visible_bias"])


def test_wrong_rows_and_options_of_the_code_are_named():
    code = models.fit_binariser(np.arange(8.0).reshape(4, 2))
    for call, match in (
        (lambda: models.fit_binariser(np.full((3, 2), np.nan)), "accepted is a finite table"),
        (lambda: models.fit_binariser(np.ones((3, 2)), num_thresholds=0), "num_thresholds is 0"),
        (lambda: models.binarise(code, np.ones((3, 3))), r"accepted is \[N, 2\]"),
        (lambda: models.binarise(code, np.full((3, 2), np.nan)), "without a NaN"),
    ):
        with pytest.raises(ValueError, match=match):
            call()
    large = models.bernoulli_rbm(17, num_hidden=18)
    params = large.init(jax.random.key(0), jnp.zeros((1, 17)))
    with pytest.raises(ValueError, match="smaller of dim and num_hidden is 17"):
        large.log_z(params)
