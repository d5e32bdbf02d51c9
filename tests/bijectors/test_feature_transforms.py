import jax
import jax.numpy as jnp
import numpy as np
import pytest

from densityjax.bijectors import feature_transforms as ft

KINDS = ["identity", "log", "logit"]
TRANSFORM = ft.feature_transform(KINDS)
forward, inverse = jax.jit(ft.forward), jax.jit(ft.inverse)
X = jnp.array([-3.2, 0.004, 0.93])


def test_known_answers_and_round_trip():
    y, log_det = forward(TRANSFORM, X)
    np.testing.assert_allclose(y, [-3.2, np.log(0.004), np.log(0.93 / 0.07)], rtol=1e-5)
    back, back_log_det = inverse(TRANSFORM, y)
    np.testing.assert_allclose(back, X, rtol=1e-6)
    np.testing.assert_allclose(log_det + back_log_det, 0.0, atol=1e-5)


def test_log_dets_equal_autodiff_in_both_directions():
    y, log_det = forward(TRANSFORM, X)
    back_log_det = inverse(TRANSFORM, y)[1]
    for transform, value, expected in ((forward, X, log_det), (inverse, y, back_log_det)):
        jacobian = jax.jacfwd(lambda v, f=transform: f(TRANSFORM, v)[0])(value)
        np.testing.assert_allclose(np.linalg.slogdet(jacobian)[1], expected, atol=1e-5)


@pytest.mark.parametrize(("kind", "grid"), [("log", (1e-9, 60.0)), ("logit", (1e-9, 1.0 - 1e-9))])
def test_density_in_raw_units_integrates_to_one(x64, kind, grid):
    transform = ft.feature_transform([kind])

    def density(x):
        y, log_det = ft.forward(transform, x[None])
        return jnp.exp(-0.5 * ((y[0] - 0.2) / 0.7) ** 2 + log_det) / (0.7 * jnp.sqrt(2.0 * jnp.pi))

    x = jnp.linspace(*grid, 400_001)
    np.testing.assert_allclose(jnp.trapezoid(jax.jit(jax.vmap(density))(x), x), 1.0, atol=1e-5)


def test_atoms_are_squeezed_and_counted():
    x = np.array([[-1.0, 0.0, 0.0], [0.0, 4.0, 1.0], [1.0, 1e-9, 1.0], [2.0, 2.0, 0.4]])
    squeezed, report = ft.squeeze(TRANSFORM, ft.fit_ends(TRANSFORM, x, margin=1e-3), x)
    np.testing.assert_array_equal(report.num_at_lower, [0, 1, 1])
    np.testing.assert_array_equal(report.num_at_upper, [0, 0, 2])
    np.testing.assert_array_equal(squeezed[:, 0], x[:, 0])
    np.testing.assert_array_equal(squeezed[1:, 1], x[1:, 1])
    np.testing.assert_allclose(squeezed[:, 2], [1e-3, 0.999, 0.999, 0.4])
    assert squeezed[0, 1] > 0.0
    y, log_det = jax.vmap(ft.forward, (None, 0))(TRANSFORM, jnp.asarray(squeezed))
    assert np.isfinite(y).all()
    assert np.isfinite(log_det).all()


def test_default_margin_survives_single_precision():
    x = np.array([[0.0, 1.0, 1.0]])
    squeezed, _ = ft.squeeze(TRANSFORM, ft.fit_ends(TRANSFORM, x), x)
    y, log_det = forward(TRANSFORM, jnp.asarray(squeezed[0], jnp.float32))
    assert np.isfinite(y).all()
    assert np.isfinite(log_det)


def test_values_outside_the_range_are_nan_and_leave_gradients_elsewhere_finite():
    y, log_det = forward(TRANSFORM, jnp.array([1.0, -2.0, 0.5]))
    np.testing.assert_array_equal(np.isnan(y), [False, True, False])
    assert np.isnan(log_det)
    gradient = jax.grad(lambda x: ft.forward(TRANSFORM, x)[1])(jnp.array([-5.0, 70.0, 0.5]))
    np.testing.assert_allclose(gradient, [0.0, -1.0 / 70.0, 0.0], atol=1e-6)


def test_bad_arguments_raise():
    with pytest.raises(ValueError, match=r"kinds\[1\].*'cube'"):
        ft.feature_transform(["log", "cube"])
    with pytest.raises(ValueError, match="column 2"):
        ft.fit_ends(TRANSFORM, np.array([[0.0, 1.0, 1.5]]))
    with pytest.raises(ValueError, match="column 1"):
        ft.fit_ends(TRANSFORM, np.array([[0.0, -1.0, 0.5]]))
    with pytest.raises(ValueError, match="margin"):
        ft.fit_ends(TRANSFORM, np.ones((1, 3)), margin=0.5)
    with pytest.raises(ValueError, match="shape"):
        ft.fit_ends(TRANSFORM, np.ones((1, 2)))


def test_ends_are_those_of_the_fit_whatever_is_squeezed_with_a_row():
    ends = ft.fit_ends(TRANSFORM, np.array([[0.0, 0.0, 0.5], [1.0, 4.0, 0.9], [2.0, 2.0, 0.1]]))
    rows = np.array([[0.0, 0.0, 1.0], [5.0, -3.0, 1.2]])
    together, _ = ft.squeeze(TRANSFORM, ends, rows)
    alone, _ = ft.squeeze(TRANSFORM, ends, rows[:1])
    np.testing.assert_array_equal(together[:1], alone)
    np.testing.assert_array_equal(together[1], rows[1])  # outside the range: `forward` says NaN
