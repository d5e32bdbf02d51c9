import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from densityjax.distributions import bases


@pytest.mark.parametrize("df", [1.0, 2.5, 5.0, 1e4])
@pytest.mark.parametrize("dim", [1, 3])
def test_multivariate_t_agrees_with_scipy(dim, df):
    z = np.concatenate([np.random.default_rng(0).normal(size=(20, dim)), np.full((1, dim), 1e6)])
    log_prob = jax.jit(jax.vmap(bases.student_t_log_prob, (0, None)))(z.astype(np.float32), df)
    law = stats.multivariate_t(np.zeros(dim), np.eye(dim), df)
    np.testing.assert_allclose(log_prob, law.logpdf(z).reshape(-1), rtol=2e-4, atol=5e-3)


def test_multivariate_t_is_finite_and_differentiable_far_out():
    z = jnp.array([[1e30, -1.0], [0.0, 0.0], [-3e37, 3e37], [1e16, 1e14]])
    value, gradient = jax.vmap(jax.value_and_grad(bases.student_t_log_prob), (0, None))(z, 3.0)
    assert np.isfinite(value).all()
    assert np.isfinite(gradient).all()
    np.testing.assert_allclose(gradient[0, 0], -5.0 / 1e30, rtol=1e-5)
    expected = stats.multivariate_t(np.zeros(2), np.eye(2), 3.0).logpdf([1e16, 1e14])
    np.testing.assert_allclose(value[3], expected, rtol=1e-6)


def test_normal_agrees_with_scipy():
    z = np.random.default_rng(1).normal(size=(20, 4)).astype(np.float32)
    expected = stats.multivariate_normal(np.zeros(4)).logpdf(z)
    np.testing.assert_allclose(jax.vmap(bases.normal_log_prob)(z), expected, rtol=1e-5)


def test_samples_follow_their_laws():
    keys = jax.random.split(jax.random.key(0), 5000)
    t = jax.jit(jax.vmap(lambda k: bases.student_t_sample(k, 2, 3.0)))(keys)
    normal = jax.jit(jax.vmap(lambda k: bases.normal_sample(k, 2)))(keys)
    assert stats.kstest(np.asarray(t[:, 0]), stats.t(3.0).cdf).pvalue > 1e-3
    assert stats.kstest(np.asarray(normal[:, 0]), stats.norm.cdf).pvalue > 1e-3
    # The shared mixing variable: (|z|^2 / 2) is F-distributed with 2 and 3 degrees of freedom.
    radius = 0.5 * np.asarray(jnp.sum(t * t, axis=1))
    assert stats.kstest(radius, stats.f(2, 3).cdf).pvalue > 1e-3


@pytest.mark.parametrize(("df", "largest"), [(2.5, 0.15), (3.0, 0.11), (5.0, 0.05), (10.0, 0.01)])
def test_wallace_scores_are_close_to_normal(x64, df, largest):
    g = np.linspace(-4.0, 4.0, 81)
    z, _ = jax.vmap(bases.wallace_to_t, (0, None))(jnp.asarray(g), df)
    exact = stats.norm.isf(stats.t(df).sf(np.abs(z))) * np.sign(g)
    assert np.abs(exact - g).max() < 1.2 * largest


def test_wallace_maps_undo_each_other_with_the_log_slopes_of_autodiff(x64):
    z = jnp.concatenate([jnp.linspace(-50.0, 50.0, 41), jnp.array([1e-9, -1e-4, 0.13, 0.18])])
    g, log_slope = jax.vmap(bases.wallace_from_t, (0, None))(z, 3.0)
    back, back_log_slope = jax.vmap(bases.wallace_to_t, (0, None))(g, 3.0)
    np.testing.assert_allclose(back, z, rtol=1e-10, atol=1e-12)
    np.testing.assert_allclose(log_slope + back_log_slope, 0.0, atol=1e-10)
    for transform, value, expected in (
        (bases.wallace_from_t, z, log_slope),
        (bases.wallace_to_t, g, back_log_slope),
    ):
        slope = jax.vmap(jax.grad(lambda v, f=transform: f(v, 3.0)[0]))(value)
        np.testing.assert_allclose(jnp.log(slope), expected, atol=1e-10)


def test_the_density_of_wallace_scores_is_that_of_the_t_values_and_survives_far_out(x64):
    rng = np.random.default_rng(4)
    g = jnp.asarray(rng.standard_normal((50, 3)) * rng.choice([1e-3, 1.0, 4.0], (50, 1)))
    for df in (2.5, 7.0, 200.0):
        direct = jax.jit(jax.vmap(bases.wallace_t_log_prob, (0, None)))(g, df)
        z, log_slope = jax.vmap(jax.vmap(bases.wallace_to_t, (0, None)), (0, None))(g, df)
        by_t = jax.vmap(bases.student_t_log_prob, (0, None))(z, df) + log_slope.sum(1)
        np.testing.assert_allclose(direct, by_t, rtol=1e-9, atol=1e-9)
    far = jnp.array([[300.0, -300.0], [1e7, 2.0], [0.0, 0.0]], jnp.float32)
    both = jax.jit(jax.vmap(jax.value_and_grad(bases.wallace_t_log_prob, (0, 1)), (0, None)))
    values, grads = both(far, jnp.float32(2.5))
    assert all(np.isfinite(leaf).all() for leaf in (values, *grads))


def test_the_cdf_of_students_t_is_that_of_scipy(x64):
    z = np.r_[-np.logspace(-3, 4, 50), 0.0, np.logspace(-3, 4, 50)]
    for df in (1.0, 3.5, 40.0):
        got = jax.jit(jax.vmap(bases.student_t_cdf, (0, None)))(z, df)
        np.testing.assert_allclose(got, stats.t.cdf(z, df), rtol=1e-9, atol=1e-15)
