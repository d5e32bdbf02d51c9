import jax
import jax.numpy as jnp
import numpy as np
import pytest

from densityjax.bijectors import linear

DIM = 5
forward, inverse = jax.jit(linear.forward), jax.jit(linear.inverse)


def random_linear(dim=DIM, scale=0.5):
    keys = jax.random.split(jax.random.key(0), 3)
    shapes = ((dim, dim), (dim, dim), (dim,))
    return linear.Linear(
        *(scale * jax.random.normal(k, s) for k, s in zip(keys, shapes, strict=True))
    )


def permutation_of(dim=DIM):
    return linear.random_permutation(jax.random.key(4), dim)


@pytest.mark.parametrize("dim", [1, DIM])
def test_inverse_undoes_forward_and_log_dets_equal_autodiff(dim):
    params, permutation = random_linear(dim), permutation_of(dim)
    x = jax.random.normal(jax.random.key(1), (dim,))
    y, log_det = forward(params, x, permutation=permutation)
    back, back_log_det = inverse(params, y, permutation=permutation)
    np.testing.assert_allclose(back, x, atol=1e-5)
    np.testing.assert_allclose(log_det + back_log_det, 0.0, atol=1e-6)
    for transform, value, expected in ((forward, x, log_det), (inverse, y, back_log_det)):
        jacobian = jax.jacfwd(lambda v, f=transform: f(params, v, permutation=permutation)[0])
        np.testing.assert_allclose(np.linalg.slogdet(jacobian(value))[1], expected, atol=1e-5)


def test_forward_is_the_product_of_its_factors():
    params, permutation = random_linear(), permutation_of()
    x = jax.random.normal(jax.random.key(1), (DIM,))
    lower = np.tril(params.lower, -1) + np.eye(DIM)
    diagonal = 1e-3 + np.log1p(np.exp(np.float64(params.diagonal_logits)) * np.expm1(0.999))
    upper = np.triu(params.upper, 1) + np.diag(diagonal)
    shuffled = np.eye(DIM)[np.asarray(permutation)]
    y, log_det = forward(params, x, permutation=permutation)
    np.testing.assert_allclose(y, lower @ upper @ shuffled @ np.asarray(x), atol=1e-5)
    np.testing.assert_allclose(log_det, np.log(diagonal).sum(), atol=1e-5)


def test_it_starts_as_the_permutation_alone():
    x, permutation = jnp.arange(1.0, 6.0), permutation_of()
    y, log_det = forward(linear.init(DIM), x, permutation=permutation)
    np.testing.assert_allclose(y, x[permutation], rtol=2e-7)
    np.testing.assert_allclose(log_det, 0.0, atol=1e-6)
    y, _ = forward(linear.init(DIM), x, permutation=linear.identity_permutation(DIM))
    np.testing.assert_allclose(y, x, rtol=2e-7)


def test_gradients_reach_every_used_parameter_and_no_other():
    params, permutation = random_linear(), permutation_of()

    def loss(params):
        y, log_det = linear.forward(params, jnp.arange(1.0, 6.0), permutation=permutation)
        return jnp.sum(y * y) - log_det

    gradient = jax.jit(jax.grad(loss))(params)
    used = np.tri(DIM, k=-1, dtype=bool)
    np.testing.assert_array_equal(gradient.lower != 0.0, used)
    np.testing.assert_array_equal(gradient.upper != 0.0, used.T)
    assert (gradient.diagonal_logits != 0.0).all()


def test_permutations():
    x = jnp.array([3.0, 1.0, 4.0, 1.5, 9.0])
    permutation = permutation_of()
    np.testing.assert_array_equal(np.sort(permutation), np.arange(DIM))
    undo = linear.inverse_permutation(permutation)
    np.testing.assert_array_equal(x[permutation][undo], x)
    np.testing.assert_array_equal(x[linear.reverse_permutation(DIM)], x[::-1])
    np.testing.assert_array_equal(x[linear.identity_permutation(DIM)], x)
    with pytest.raises(ValueError, match="dim must be at least 1, got 0"):
        linear.init(0)


def test_random_permutations_are_uniform():
    keys = jax.random.split(jax.random.key(3), 6000)
    draws = np.asarray(jax.jit(jax.vmap(lambda k: linear.random_permutation(k, 3)))(keys))
    counts = np.unique(draws @ [9, 3, 1], return_counts=True)[1]
    assert counts.size == 6
    assert np.abs(counts - 1000).max() < 5 * np.sqrt(1000 * 5 / 6)


def test_whitening_undoes_the_correlation_of_weighted_rows_and_leaves_flat_columns():
    rows = np.random.default_rng(0).standard_normal((500, 4))
    rows[:, 1] += 3.0 * rows[:, 0]
    rows /= rows.std(0)
    rows[:, 3] = 7.0
    weights = np.repeat([1.0, 0.0], [400, 100])
    spoilt = np.where(weights[:, None] > 0, rows, np.nan).astype("float32")
    factors = jax.jit(linear.whitening)(spoilt, weights.astype("float32"))
    order = linear.identity_permutation(4)
    out, log_det = jax.vmap(lambda x: linear.forward(factors, x, permutation=order))(
        rows[:400].astype("float32")
    )
    correlation = np.corrcoef(rows[:400, :3].T)
    shrunk = np.where(np.eye(3) > 0, 1.0, 0.99 * correlation)
    wanted = np.linalg.solve(np.linalg.cholesky(shrunk), rows[:400, :3].T).T
    np.testing.assert_allclose(out[:, :3], wanted, atol=1e-4)
    np.testing.assert_allclose(out[:, 3], 7.0, rtol=1e-6)
    np.testing.assert_allclose(log_det, -0.5 * np.linalg.slogdet(shrunk)[1], atol=1e-5)
