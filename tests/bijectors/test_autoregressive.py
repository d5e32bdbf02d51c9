"""Autoregressive, affine, ActNorm: both directions, log-determinants, where they start."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from densityjax.bijectors import actnorm, autoregressive, coupling, shift_scale

WEIGHTS = np.random.default_rng(0).standard_normal((4, 8))


def before(x):
    """Logits [4, 2] of which row i reads x[:i]."""
    mask = np.repeat(np.tri(4, k=-1), 2, axis=0)
    return jnp.tanh((mask * WEIGHTS.T) @ x).reshape(4, 2)


def kept(x):
    return jnp.tanh(jnp.asarray(WEIGHTS[:2, :4].T) @ x).reshape(2, 2)


def scalar(direction):
    return lambda logits, value: getattr(shift_scale, direction)(
        shift_scale.from_logits(logits), value
    )


def transforms(kind):
    """Forward and inverse of one layer over four numbers."""
    if kind == "autoregressive":
        return (
            lambda x: autoregressive.forward(x, before, scalar("forward")),
            lambda y: autoregressive.inverse(y, before, scalar("inverse")),
        )
    return (
        lambda x: coupling.transform(x, 2, kept, scalar("forward")),
        lambda y: coupling.transform(y, 2, kept, scalar("inverse")),
    )


@pytest.mark.parametrize("kind", ["autoregressive", "coupling"])
def test_flo_08_inverse_undoes_forward_and_log_dets_equal_autodiff(x64, kind):
    forward, inverse = transforms(kind)
    x = jnp.array([0.3, -1.0, 2.0, 30.0])
    y, log_det = jax.jit(forward)(x)
    back, back_log_det = jax.jit(inverse)(y)
    np.testing.assert_allclose(back, x, rtol=1e-12)
    assert np.abs(y - x).max() > 0.1
    for fn, value, expected in ((forward, x, log_det), (inverse, y, back_log_det)):
        jacobian = jax.jit(jax.jacfwd(lambda v, fn=fn: fn(v)[0]))(value)
        np.testing.assert_allclose(np.linalg.slogdet(jacobian)[1], expected, atol=1e-12)
        assert np.abs(np.triu(jacobian, 1)).max() == 0.0


def test_the_autoregressive_inverse_has_gradients(x64):
    _, inverse = transforms("autoregressive")
    y = jnp.array([0.3, -1.0, 2.0, 3.0])
    grad = jax.jit(jax.grad(lambda y: jnp.sum(inverse(y)[0] ** 2)))(y)
    step = 1e-6 * np.eye(4)
    values = [jnp.sum(inverse(y + s * row)[0] ** 2) for row in step for s in (1, -1)]
    numeric = (np.array(values[::2]) - np.array(values[1::2])) / 2e-6
    np.testing.assert_allclose(grad, numeric, rtol=1e-6)


def test_the_log_scale_is_bounded_and_zeros_give_the_identity():
    extreme = shift_scale.from_logits(jnp.array([0.0, 1e9]))
    assert float(extreme.log_scale) == 2.0
    y, log_slope = shift_scale.forward(shift_scale.from_logits(jnp.zeros(2)), jnp.array(1.7))
    assert (float(y), float(log_slope)) == (np.float32(1.7), 0.0)


def test_actnorm_starts_by_standardising_the_weighted_rows():
    rng = np.random.default_rng(1)
    x = rng.normal([5.0, -2.0, 1.0], [0.1, 30.0, 0.0], (400, 3)).astype(np.float32)
    weights = (np.arange(400) < 300).astype(np.float32)
    x[300:] = np.nan
    params = actnorm.fit(jnp.asarray(x), jnp.asarray(weights))
    y, log_det = jax.vmap(actnorm.forward, (None, 0))(params, x[:300])
    np.testing.assert_allclose(y.mean(0), 0.0, atol=1e-3)
    np.testing.assert_allclose(y.std(0)[:2], 1.0, atol=1e-3)
    assert float(params.log_scale[2]) == 0.0  # a column that does not vary keeps its scale
    np.testing.assert_allclose(log_det, -np.log(x[:300, :2].std(0)).sum(), atol=1e-3)
    back, back_log_det = jax.vmap(actnorm.inverse, (None, 0))(params, y)
    np.testing.assert_allclose(back, x[:300], rtol=1e-5)
    np.testing.assert_allclose(back_log_det, -log_det)
