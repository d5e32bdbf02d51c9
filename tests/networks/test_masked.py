"""The masked network: what each block reads, by its Jacobian, and where it starts."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from densityjax.networks import masked_residual

CONTEXT = jnp.array([0.5, -0.5])


def jacobians(net, num_x, num_context):
    """By x, [I, P, inputs], and by the context; parameters are random everywhere."""
    context = CONTEXT[:num_context] if num_context else None
    shapes = jax.eval_shape(net.init, jax.random.key(0))
    rng = np.random.default_rng(0)
    params = jax.tree.map(lambda leaf: rng.standard_normal(leaf.shape).astype("f4"), shapes)
    x = jnp.asarray(rng.standard_normal(num_x), jnp.float32)
    both = jax.jit(jax.jacobian(net.apply, (1, 2) if num_context else 1))(params, x, context)
    return [np.asarray(one) for one in (both if num_context else [both])]


@pytest.mark.parametrize("num_context", [0, 2])
@pytest.mark.parametrize(("dim", "width"), [(1, 4), (4, 16), (5, 3)])
def test_block_i_reads_the_entries_before_it_and_the_context(num_context, dim, width):
    net = masked_residual(dim, 3, num_context=num_context, width=width)
    by_x, *by_context = jacobians(net, dim, num_context)
    reads = (np.abs(by_x.reshape(dim, 3, dim)) > 0).any(1)
    earlier = np.tri(dim, k=-1, dtype=bool)
    assert not reads[~earlier].any()
    if width >= dim:
        np.testing.assert_array_equal(reads, earlier)
    if num_context:  # the first block too
        assert (np.abs(by_context[0].reshape(dim, 3, -1)) > 0).all()


def test_copies_of_an_entry_share_its_place_in_the_order():
    by_x = jacobians(masked_residual(3, 2, copies=2, width=12), 6, 0)[0].reshape(3, 2, 2, 3)
    reads = (np.abs(by_x) > 0).any(1)
    np.testing.assert_array_equal(reads[:, 0], np.tri(3, k=-1, dtype=bool))
    np.testing.assert_array_equal(reads[:, 1], np.tri(3, k=-1, dtype=bool))


def test_output_is_zero_at_the_start_and_dropout_needs_a_key():
    net = masked_residual(3, 2, num_context=2, dropout=0.4)
    params = net.init(jax.random.key(0))
    np.testing.assert_array_equal(net.apply(params, jnp.ones(3), CONTEXT), np.zeros(6))
    net = masked_residual(3, 2, num_context=2, dropout=0.4, zero_output=False)
    drop = jax.jit(lambda key: net.apply(params_of(net), jnp.ones(3), CONTEXT, dropout_key=key))
    plain = net.apply(params_of(net), jnp.ones(3), CONTEXT)
    assert not np.allclose(drop(jax.random.key(1)), plain)


def params_of(net):
    return net.init(jax.random.key(0))


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"num_inputs": 0}, "num_inputs is 0"),
        ({"copies": 0}, "copies is 0"),
        ({"width": 0}, "width is 0"),
        ({"activation": "step"}, "activation is 'step'"),
        ({"dropout": 1.0}, "dropout is 1.0"),
    ],
)
def test_a_wrong_option_is_named(options, match):
    with pytest.raises(ValueError, match=match):
        masked_residual(**{"num_inputs": 3, "outputs_per_input": 2, **options})
