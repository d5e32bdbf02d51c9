import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import special, stats

from densityjax.bijectors import lambert_w
from densityjax.bijectors.lambert_w import Tail

TAIL = Tail(*map(jnp.float32, (0.3, 1.7, 0.25, 0.1)))
to_noise = jax.jit(jax.vmap(lambert_w.to_noise, (0, None)))
from_noise = jax.jit(jax.vmap(lambert_w.from_noise, (0, None)))
fit = jax.jit(lambert_w.fit, static_argnames=("h_max", "num_steps"))


def tail_of(location=0.0, scale=1.0, h_plus=0.0, h_minus=0.0):
    return Tail(
        *(jnp.asarray(v, jnp.result_type(float)) for v in (location, scale, h_plus, h_minus))
    )


def reference(x, tail):
    """Noise and log slope in float64, with scipy's Lambert function."""
    location, scale, plus, minus = (np.float64(v) for v in tail)
    y = (np.asarray(x, np.float64) - location) / scale
    h = np.where(y > 0.0, plus, minus)
    w = special.lambertw(h * y * y).real
    return y * np.exp(-0.5 * w), -np.log(scale) - 0.5 * w - np.log1p(w)


@pytest.mark.parametrize("h", [1e-4, 1e-2, 0.1, 0.5, 1.0])
def test_noise_agrees_with_scipy_from_tiny_to_huge_values(h):
    tail = tail_of(h_plus=h, h_minus=0.3 * h)
    x = np.concatenate([np.geomspace(1e-8, 1e30, 1500), [0.0]]).astype(np.float32)
    for sign in (1.0, -1.0):
        z, log_slope = to_noise(sign * x, tail)
        z_true, log_slope_true = reference(sign * x, tail)
        np.testing.assert_allclose(z, z_true, rtol=1e-6)
        np.testing.assert_allclose(log_slope, log_slope_true, rtol=1e-6, atol=2e-5)


def test_h_zero_is_exactly_the_identity():
    x = np.concatenate([[0.0], np.geomspace(1e-30, 1e30, 99)]).astype(np.float32)
    for transform in (to_noise, from_noise):
        value, log_slope = transform(x, tail_of())
        np.testing.assert_array_equal(value, x)
        np.testing.assert_array_equal(log_slope, 0.0)
        value, _ = transform(-x, tail_of())
        np.testing.assert_array_equal(value, -x)


def test_round_trip_closes_and_log_slopes_cancel():
    x = np.concatenate([-np.geomspace(1e-3, 7e11, 500), np.geomspace(1e-3, 7e11, 500)])
    z, log_slope = to_noise(x.astype(np.float32), TAIL)
    back, back_log_slope = from_noise(z, TAIL)
    np.testing.assert_allclose(back, x, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(log_slope + back_log_slope, 0.0, atol=2e-5)


def test_round_trip_closes_in_float64(x64):
    tail, x = tail_of(0.3, 1.7, 0.25, 0.1), jnp.linspace(-300.0, 300.0, 1001)
    z, log_slope = to_noise(x, tail)
    back, back_log_slope = from_noise(z, tail)
    np.testing.assert_allclose(back, x, rtol=1e-10, atol=1e-10)
    np.testing.assert_allclose(log_slope + back_log_slope, 0.0, atol=1e-10)


def test_log_slopes_equal_autodiff_in_both_directions(x64):
    tail, x = tail_of(0.3, 1.7, 0.25, 0.1), jnp.linspace(-40.0, 40.0, 81)
    for transform in (lambert_w.to_noise, lambert_w.from_noise):
        value = jnp.clip(x, -8.0, 8.0) if transform is lambert_w.from_noise else x
        _, log_slope = jax.jit(jax.vmap(transform, (0, None)))(value, tail)
        slope = jax.vmap(jax.grad(lambda v, f=transform: f(v, tail)[0]))(value)
        np.testing.assert_allclose(log_slope, jnp.log(slope), atol=1e-10)


def test_first_and_second_derivatives_match_finite_differences(x64):
    def value(point):
        z, log_slope = lambert_w.to_noise(point[0], Tail(*point[1:]))
        return jnp.sin(z) + log_slope

    points = jnp.array(
        [
            [x, 0.1, 1.3, h, 0.5 * h]
            for x in (-1e6, -30.0, -2.0, 0.4, 3.0, 1e4, 1e14)
            for h in (0.02, 0.4)
        ]
    )
    step = 1e-5 * jnp.maximum(jnp.abs(points), 0.01)
    for derivative, function in ((jax.grad(value), value), (jax.hessian(value), jax.grad(value))):
        exact = jax.jit(jax.vmap(derivative))(points)
        function = jax.jit(jax.vmap(function))
        for k in range(5):
            shift = step * jnp.eye(5)[k]
            numeric = function(points + shift) - function(points - shift)
            width = 2.0 * step[:, k].reshape((-1,) + (1,) * (numeric.ndim - 1))
            atol = 1e-7 * np.abs(exact).max()  # rounding of the largest derivative
            np.testing.assert_allclose(exact[:, k], numeric / width, rtol=1e-5, atol=atol)


@pytest.mark.parametrize("h", [0.0, 1e-4, 0.1, 1.0])
def test_gradients_are_finite_up_to_huge_values(h):
    def value(x, tail):
        return jnp.stack(lambert_w.to_noise(x, tail))

    x = np.concatenate([-np.geomspace(1e-30, 1e30, 61), [0.0], np.geomspace(1e-30, 1e30, 61)])
    jacobian = jax.jit(jax.vmap(jax.jacrev(value, (0, 1)), (0, None)))
    leaves = jax.tree.leaves(jacobian(x.astype(np.float32), tail_of(0.0, 1.0, h, h)))
    assert all(np.isfinite(leaf).all() for leaf in leaves)


def test_density_integrates_to_one_with_power_tails(x64):
    tail = tail_of(0.3, 1.7, 0.45, 0.1)
    # Quadrature in v = asinh(x) reaches |x| = 1e9.
    v = jnp.linspace(-21.0, 21.0, 40_001)
    z, log_slope = to_noise(jnp.sinh(v), tail)
    density = jnp.exp(-0.5 * z * z + log_slope) / jnp.sqrt(2.0 * jnp.pi)
    np.testing.assert_allclose(jnp.trapezoid(density * jnp.cosh(v), v), 1.0, atol=1e-8)


def test_logits_and_tail_undo_each_other():
    logits = jnp.array([0.7, -1.2, 0.4, -2.5])
    tail = lambert_w.tail_from_logits(logits, h_max=0.8)
    assert (tail.scale > 0.0) & (0.0 < tail.h_minus) & (tail.h_plus < 0.8)
    np.testing.assert_allclose(lambert_w.logits_from_tail(tail, h_max=0.8), logits, rtol=1e-5)
    assert np.isfinite(lambert_w.logits_from_tail(tail_of(h_plus=0.5))).all()


def test_fit_recovers_its_own_law_within_standard_errors():
    truth = tail_of(0.02, 0.01, 0.1, 0.3)
    z = jax.random.normal(jax.random.key(1), (20_000,))
    x, _ = from_noise(z, truth)
    tail, info = fit(x)
    assert info.is_finite & (info.gradient_norm < 1e-3)

    def mean_log_likelihood(params):
        z, log_slope = jax.vmap(lambert_w.to_noise, (0, None))(x, Tail(*params))
        return jnp.mean(log_slope - 0.5 * z * z) - 0.5 * jnp.log(2.0 * jnp.pi)

    unit = jnp.array([0.01, 0.01, 1.0, 1.0])
    information = -jax.hessian(lambda p: mean_log_likelihood(p * unit))(jnp.stack(truth) / unit)
    standard_error = jnp.sqrt(jnp.diag(jnp.linalg.inv(information)) / x.size)
    assert (jnp.abs(jnp.stack(tail) - jnp.stack(truth)) / unit < 4.0 * standard_error).all()
    np.testing.assert_allclose(info.log_likelihood, mean_log_likelihood(jnp.stack(tail)), atol=1e-4)
    assert info.log_likelihood >= mean_log_likelihood(jnp.stack(truth))


@pytest.mark.parametrize(
    ("law", "milli_nats"),
    [(stats.t(3), 0.18), (stats.t(5), 0.05), (stats.norm(), 0.0), (stats.laplace(), 7.7)],
)
def test_divergence_from_known_laws_to_their_best_fit(x64, law, milli_nats):
    # Quadrature nodes as weighted rows: the fit then minimises the divergence itself.
    v = np.linspace(-16.0, 16.0, 4001)
    x, weights = np.sinh(v), law.pdf(np.sinh(v)) * np.cosh(v)
    assert abs(np.sum(weights) * (v[1] - v[0]) - 1.0) < 1e-5
    _, info = fit(jnp.asarray(x), jnp.asarray(weights))
    entropy = float(law.entropy())
    np.testing.assert_allclose(1e3 * (-info.log_likelihood - entropy), milli_nats, atol=0.06)


def test_rows_without_weight_are_ignored_and_columns_fit_apart():
    rng = np.random.default_rng(2)
    x = rng.standard_t(4, size=(20_000, 2)).astype(np.float32) * np.float32([1e-3, 50.0])
    dirty = np.concatenate([x, np.full((500, 2), np.nan, np.float32)])
    weights = jnp.asarray(np.r_[np.ones(20_000), np.zeros(500)], jnp.float32)
    tail, info = jax.jit(jax.vmap(lambert_w.fit, (1, None)))(dirty, weights)
    assert info.is_finite.all()
    for d in range(2):
        alone, _ = fit(x[:, d])
        one = [leaf[d] for leaf in tail]
        np.testing.assert_allclose(one, alone, rtol=2e-2, atol=1e-3 * one[1])
    assert (tail.h_plus > 0.05).all() & (tail.h_minus > 0.05).all()


def test_a_constant_column_is_flagged():
    _, info = fit(jnp.full(20_000, 2.5))
    assert not info.is_finite
