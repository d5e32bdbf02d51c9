"""Conditioners: where they start, what they read, what they refuse, when they drop."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from densityjax.networks import mlp, residual

NETS = {"mlp": mlp, "residual": residual}
X, CONTEXT = jnp.array([0.3, -1.0, 2.0]), jnp.array([0.5, -0.5])


@pytest.fixture(params=sorted(NETS))
def build(request):
    return NETS[request.param]


@pytest.mark.parametrize("num_context", [0, 2])
def test_flo_09_output_is_zero_at_the_start_whatever_the_input(build, num_context):
    net = build(3, 4, num_context=num_context)
    context = CONTEXT if num_context else None
    output = jax.jit(lambda key: net.apply(net.init(key), X, context))(jax.random.key(0))
    np.testing.assert_array_equal(output, np.zeros(4))


def test_both_inputs_reach_the_output_once_it_does_not_start_at_zero(build):
    net = build(3, 2, num_context=2, zero_output=False)
    params = net.init(jax.random.key(0))
    by_x, by_context = jax.jit(jax.jacobian(net.apply, (1, 2)))(params, X, CONTEXT)
    assert (jnp.abs(by_x) > 0).all()
    assert (jnp.abs(by_context) > 0).all()


def test_flo_10_kernels_are_xavier_normal_and_biases_zero():
    params = jax.jit(mlp(100, 1, widths=(300, 200)).init)(jax.random.key(1))
    for name, shape in {"hidden_0": (100, 300), "hidden_1": (300, 200)}.items():
        kernel, bias = params[name]["kernel"], params[name]["bias"]
        assert kernel.shape == shape
        expected = (2.0 / sum(shape)) ** 0.5
        # The standard error of a standard deviation is sd / sqrt(2 n) for a normal law; flax
        # cuts the normal at two standard deviations and corrects the sd, which makes it smaller.
        assert kernel.std() == pytest.approx(expected, rel=5 / (2 * kernel.size) ** 0.5)
        assert kernel.mean() == pytest.approx(0.0, abs=5 * expected / kernel.size**0.5)
        np.testing.assert_array_equal(bias, 0.0)


def test_layer_names_are_those_that_stored_parameters_have():
    key = jax.random.key(0)
    stacked = jax.eval_shape(mlp(3, 4, widths=(8, 8)).init, key)
    assert sorted(stacked) == ["hidden_0", "hidden_1", "output"]
    gated = jax.eval_shape(residual(3, 4, num_context=2, num_blocks=1, width=8).init, key)
    assert sorted(gated) == ["block_0_gate", "block_0_in", "block_0_out", "input", "output"]
    assert all(sorted(layer) == ["bias", "kernel"] for layer in gated.values())


def test_a_residual_block_without_gate_is_the_pre_activation_formula():
    net = residual(3, 2, width=8, num_blocks=1, activation="tanh", zero_output=False)
    params = net.init(jax.random.key(2))
    p = {name: (np.asarray(v["kernel"]), np.asarray(v["bias"])) for name, v in params.items()}
    hidden = X @ p["input"][0] + p["input"][1]
    update = np.tanh(hidden) @ p["block_0_in"][0] + p["block_0_in"][1]
    hidden = hidden + np.tanh(update) @ p["block_0_out"][0] + p["block_0_out"][1]
    expected = np.tanh(hidden) @ p["output"][0] + p["output"][1]
    np.testing.assert_allclose(net.apply(params, X), expected, rtol=1e-5)


def test_dropout_acts_with_a_key_alone_and_keeps_the_mean(build):
    net = build(3, 2, num_context=2, dropout=0.4, zero_output=False)
    params = net.init(jax.random.key(0))
    drop = jax.jit(
        jax.vmap(lambda key: net.apply(params, X, CONTEXT, dropout_key=key)),
    )
    dropped = drop(jax.random.split(jax.random.key(1), 4))
    assert len(np.unique(np.asarray(dropped)[:, 0])) == 4
    np.testing.assert_array_equal(dropped, drop(jax.random.split(jax.random.key(1), 4)))
    plain = build(3, 2, num_context=2, zero_output=False)
    np.testing.assert_array_equal(net.apply(params, X, CONTEXT), plain.apply(params, X, CONTEXT))


def test_a_network_of_the_context_alone_needs_no_x(build):
    net = build(0, 2, num_context=2)
    assert net.apply(net.init(jax.random.key(0)), jnp.zeros(0), CONTEXT).shape == (2,)


@pytest.mark.parametrize(
    ("num_context", "x", "context", "error", "match"),
    [
        (2, X, None, ValueError, r"context has shape None: accepted is \(2,\)"),
        (0, X, CONTEXT, ValueError, r"context has shape \(2,\): accepted is None"),
        (2, X, CONTEXT[:1], AssertionError, "shape"),
        (2, X[:2], CONTEXT, AssertionError, "shape"),
    ],
)
def test_a_wrong_input_is_refused(build, num_context, x, context, error, match):
    net = build(3, 4, num_context=num_context)
    params = net.init(jax.random.key(0))
    with pytest.raises(error, match=match):
        net.apply(params, x, context)


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"num_inputs": 0}, "num_inputs=0"),
        ({"num_outputs": 0}, "num_outputs=0"),
        ({"num_context": -1}, "num_context=-1"),
        ({"activation": "step"}, "activation is 'step'"),
        ({"dropout": 1.0}, "dropout is 1.0"),
    ],
)
def test_a_wrong_option_is_named(build, options, match):
    with pytest.raises(ValueError, match=match):
        build(**{"num_inputs": 3, "num_outputs": 2, **options})


def test_a_wrong_width_is_named():
    with pytest.raises(ValueError, match="widths is"):
        mlp(3, 2, widths=())
    with pytest.raises(ValueError, match="width 0"):
        residual(3, 2, width=0)
