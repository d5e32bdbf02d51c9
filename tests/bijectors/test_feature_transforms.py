import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

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


def heavy_rows(num):
    """Rows of the three kinds; the first column and the log of the second have power tails."""
    t = stats.t(3.0).rvs((num, 2), random_state=0)
    uniform = np.random.default_rng(1).uniform(size=num)
    return np.stack([5.0 * t[:, 0] - 2.0, np.exp(0.3 * t[:, 1]), uniform], axis=1)


def test_a_tail_layer_behind_the_map_has_exact_log_dets_and_leads_back():
    fitted = ft.fit_tails(TRANSFORM, heavy_rows(4000))
    y, log_det = ft.forward(fitted, X)
    x, log_det_back = ft.inverse(fitted, y)
    np.testing.assert_allclose(x, X, rtol=1e-5)
    np.testing.assert_allclose(log_det_back, -log_det, rtol=1e-5)
    jacobian = jax.jacfwd(lambda x: ft.forward(fitted, x)[0])(X)
    np.testing.assert_allclose(log_det, np.linalg.slogdet(jacobian)[1], rtol=1e-5)


def test_fitted_tails_turn_power_tails_into_normal_ones_and_leave_light_ones():
    fitted = ft.fit_tails(TRANSFORM, heavy_rows(4000))
    assert fitted.tail is not None
    heavy, _ = jax.vmap(ft.forward, (None, 0))(TRANSFORM, jnp.asarray(heavy_rows(20_000)))
    mapped, _ = jax.vmap(ft.forward, (None, 0))(fitted, jnp.asarray(heavy_rows(20_000)))
    # The kurtosis of a normal sample of 20,000 has a standard error of .035; that of t3 has no end.
    assert (stats.kurtosis(heavy[:, :2]) > 8.0).all()
    assert (np.abs(stats.kurtosis(mapped[:, :2])) < 0.7).all()
    assert (
        float(fitted.tail.h_plus[2] + fitted.tail.h_minus[2]) < 0.3
    )  # logistic: exponential tails


def test_rows_without_weight_move_no_tail_and_a_constant_column_is_named():
    rows, weights = heavy_rows(512), np.arange(512.0) < 400
    few = ft.fit_tails(TRANSFORM, rows[:400])
    weighted = ft.fit_tails(TRANSFORM, rows, weights.astype(np.float32))
    np.testing.assert_allclose(np.stack(few.tail), np.stack(weighted.tail), rtol=1e-3, atol=1e-4)
    rows[:, 1] = 2.0
    with pytest.raises(ValueError, match="no tail in column 1"):
        ft.fit_tails(TRANSFORM, rows)
