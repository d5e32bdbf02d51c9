"""Networks of noise levels and the activations: closed forms, what they read, what they refuse."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from densityjax.networks import (
    activations,
    leaky_relu,
    multi_scale_network,
    noise_network,
    num_parameters,
    score_network,
)
from densityjax.networks.score import ResidualBlock

X, CONTEXT = jnp.array([0.3, -1.0, 2.0]), jnp.array([0.5, -0.5])
GRID = jnp.concatenate([jnp.linspace(-6.0, -0.1, 40), jnp.linspace(0.1, 6.0, 40)])  # no kink


@pytest.mark.parametrize("name", sorted(activations.ACTIVATIONS))
def test_sco_10_slopes_of_activations_are_their_derivatives(name):
    activation = activations.ACTIVATIONS[name]
    slope = jax.vmap(jax.grad(activation.value))(GRID)
    np.testing.assert_allclose(activation.slope(GRID), slope, atol=2e-6)
    bend = jax.vmap(jax.grad(jax.grad(activation.value)))(GRID)
    if not activation.is_smooth:  # away from the kink, straight: nothing for a trace to learn from
        np.testing.assert_array_equal(bend, 0.0)


def test_sco_10_values_are_the_textbook_ones():
    value = {name: one.value(jnp.array([-2.0, 0.0, 1.0])) for name, one in _table().items()}
    np.testing.assert_allclose(value["leaky_relu"], [-0.02, 0.0, 1.0], rtol=1e-6)
    np.testing.assert_allclose(value["relu"], [0.0, 0.0, 1.0])
    np.testing.assert_allclose(value["sigmoid"], [0.119203, 0.5, 0.731059], atol=1e-6)
    np.testing.assert_allclose(value["silu"], [-0.238406, 0.0, 0.731059], atol=1e-6)
    np.testing.assert_allclose(value["tanh"], [-0.964028, 0.0, 0.761594], atol=1e-6)
    np.testing.assert_allclose(value["gelu"], [-0.0455, 0.0, 0.841345], atol=5e-4)  # tanh form
    np.testing.assert_allclose(value["identity"], [-2.0, 0.0, 1.0])
    assert float(leaky_relu(0.25).value(jnp.asarray(-2.0))) == -0.5
    with pytest.raises(ValueError, match=r"leak is 1\.0"):
        leaky_relu(1.0)


def _table():
    return activations.ACTIVATIONS


def test_sco_02_a_block_whose_last_layer_is_zero_is_the_identity():
    block = ResidualBlock(zero_output=True, dropout=0.0)
    hidden = jnp.linspace(-3.0, 3.0, 8)
    output, params = block.init_with_output(jax.random.key(0), hidden, deterministic=True)
    np.testing.assert_array_equal(output, hidden)
    assert params["params"]["expand"]["kernel"].shape == (8, 32)  # four times the width
    plain = ResidualBlock(dropout=0.0)
    moved, _ = plain.init_with_output(jax.random.key(0), hidden, deterministic=True)
    assert jnp.abs(moved - hidden).max() > 0.1


@pytest.fixture(scope="module")
def single():
    net = score_network(3, num_context=2, hidden_dim=32, num_layers=2)
    return net, net.init(jax.random.key(0))


def test_sco_01_the_score_network_has_the_published_layers(single):
    _, params = single
    expected = {"input", "input_norm", "block_0", "block_1", "head_norm", "head", "output", "skip"}
    assert set(params) == expected
    # Weights and biases: input, two norms, blocks of (norm, 4 w, w), head, output; then the skip.
    block = 2 * 32 + (32 * 128 + 128) + (128 * 32 + 32)
    heads = (5 * 32 + 32) + 2 * 2 * 32 + (32 * 32 + 32) + (32 * 3 + 3)
    assert num_parameters(params) == 2 * block + heads + 9


def test_sco_01_dropout_acts_with_a_key_alone(single):
    net, params = single
    still = [net.apply(params, X, CONTEXT) for _ in range(2)]
    np.testing.assert_array_equal(*still)
    moved = [net.apply(params, X, CONTEXT, dropout_key=jax.random.key(key)) for key in (0, 1)]
    assert jnp.abs(moved[0] - moved[1]).max() > 0.0


def test_e337_09_the_score_grows_in_proportion_to_the_distance_only_with_the_linear_skip():
    norms = {}
    for skip in (True, False):
        net = score_network(3, hidden_dim=16, num_layers=1, linear_skip=skip)
        params = net.init(jax.random.key(1))
        norms[skip] = np.array([jnp.linalg.norm(net.apply(params, r * X)) for r in (1e1, 1e2, 1e3)])
    np.testing.assert_allclose(norms[True][1:] / norms[True][:-1], 10.0, rtol=0.2)
    assert norms[False][2] < 1.1 * norms[False][0]  # bounded: the published form


@pytest.mark.parametrize("embedding", ["table", "fourier"])
def test_sco_03_the_embedding_receives_gradient_and_any_level_is_read(embedding):
    net = multi_scale_network(3, hidden_dim=16, num_layers=1, num_levels=10, embedding=embedding)
    params = net.init(jax.random.key(0))
    between = net.get_sigma(4.25)

    @jax.jit
    def slopes(params, sigma):
        return jax.grad(lambda p: jnp.sum(net.apply(p, X, sigma) ** 2))(params)

    slope = slopes(params, between)
    assert jnp.abs(slope["level"]["kernel"]).max() > 0.0
    if embedding == "table":
        reached = np.flatnonzero(np.abs(slope["embedding"]).max(axis=1))
        np.testing.assert_array_equal(reached, [4, 5])
        assert params["embedding"].shape == (10, 16)
    outputs = [net.apply(params, X, net.get_sigma(level)) for level in (4.0, 4.25, 5.0)]
    assert jnp.abs(outputs[0] - outputs[1]).max() > 0.0
    assert jnp.abs(outputs[1] - outputs[2]).max() > 0.0
    assert jnp.isfinite(net.apply(params, X, 30.0)).all()  # beyond both ends: held
    assert jnp.isfinite(net.apply(params, X, 1e-4)).all()


def test_sco_04_levels_are_geometric_and_the_first_is_the_largest():
    net = multi_scale_network(3)
    sigmas = net.get_sigma(jnp.arange(net.num_levels))
    np.testing.assert_allclose(sigmas[1:] / sigmas[:-1], 0.599484, rtol=1e-5)
    np.testing.assert_allclose(sigmas[jnp.array([0, 9])], [1.0, 0.01], rtol=1e-5)


def test_sco_04_each_level_of_the_table_reads_its_own_row():
    net = multi_scale_network(2, hidden_dim=8, num_layers=0, num_levels=3)
    params = net.init(jax.random.key(0))
    for level in range(3):
        hidden = X[:2] @ params["input"]["kernel"] + params["input"]["bias"]
        hidden += params["embedding"][level] @ params["level"]["kernel"] + params["level"]["bias"]
        expected = hidden @ params["output"]["kernel"] + params["output"]["bias"]
        np.testing.assert_allclose(
            net.apply(params, X[:2], net.get_sigma(level)), expected, atol=1e-5
        )


@pytest.mark.parametrize("body", ["residual", "mlp"])
def test_the_default_network_starts_at_zero_and_reads_point_level_and_context(body):
    net = noise_network(3, 2, num_context=2, body=body, width=16)
    params = net.init(jax.random.key(0))
    np.testing.assert_array_equal(net.apply(params, X, 0.5, CONTEXT), np.zeros(2))
    open_net = noise_network(3, 2, num_context=2, body=body, width=16, zero_output=False)
    by = jax.jit(jax.jacfwd(open_net.apply, (1, 2, 3)))(params | _output(params), X, 0.5, CONTEXT)
    assert all((jnp.abs(each) > 0.0).all() for each in by)


def _output(params):
    return {"output": jax.tree.map(lambda leaf: leaf + 0.3, params["output"])}


@pytest.mark.parametrize(
    ("build", "match"),
    [
        (lambda: noise_network(0, 1), "num_inputs=0"),
        (lambda: noise_network(1, 1, body="cnn"), "body is 'cnn'"),
        (lambda: noise_network(1, 1, activation="step"), "activation is 'step'"),
        (lambda: score_network(0), "dim=0"),
        (lambda: score_network(2, activation="step"), "activation is 'step'"),
        (lambda: score_network(2, dropout=1.0), r"dropout is 1\.0"),
        (lambda: multi_scale_network(2, num_levels=1), "num_levels=1"),
        (lambda: multi_scale_network(2, sigma_min=1.0), r"sigma_min=1\.0"),
        (lambda: multi_scale_network(2, embedding="one_hot"), "embedding is 'one_hot'"),
    ],
)
def test_a_wrong_option_is_named(build, match):
    with pytest.raises(ValueError, match=match):
        build()


def test_a_missing_context_is_refused():
    net = noise_network(3, 1, num_context=2, width=8)
    with pytest.raises(ValueError, match="context has shape None"):
        net.apply(net.init(jax.random.key(0)), X, 0.5)
