import jax
import jax.numpy as jnp
import numpy as np
import pytest

from densityjax.bijectors import affine

FIVE = np.array([[1.0], [2.0], [3.0], [4.0], [10.0]])
fit_robust = jax.jit(affine.fit_robust, static_argnames="spread")
fit_moments = jax.jit(affine.fit_moments)


def test_known_answers_on_five_numbers():
    cases = (
        (affine.fit_standard(FIVE), 4.0, np.sqrt(10.0)),
        (affine.fit_standard(FIVE, ddof=1), 4.0, np.sqrt(12.5)),
        (affine.fit_min_max(FIVE), 1.0, 9.0),
        (affine.fit_median_iqr(FIVE), 3.0, 2.0),
        (affine.check_robust(*fit_moments(jnp.asarray(FIVE))), 4.0, np.sqrt(10.0)),
        (affine.check_robust(*fit_robust(jnp.asarray(FIVE))), 3.0, 1.4826022),
        (affine.check_robust(*fit_robust(jnp.asarray(FIVE), spread="iqr")), 3.0, 2.0 * 0.7413011),
    )
    for fitted, location, scale in cases:
        np.testing.assert_allclose(fitted.location, [location], rtol=1e-6)
        np.testing.assert_allclose(fitted.scale, [scale], rtol=1e-6)


def test_inverse_undoes_forward():
    x = np.random.default_rng(0).normal(size=(50, 3)) * [1e-4, 1.0, 1e5]
    fitted = affine.fit_standard(x)
    y, log_det = affine.forward(fitted, jnp.asarray(x[0]))
    back, back_log_det = affine.inverse(fitted, y)
    np.testing.assert_allclose(back, x[0], rtol=1e-5)
    np.testing.assert_allclose(log_det + back_log_det, 0.0, atol=1e-6)
    y = jax.vmap(lambda row: affine.forward(fitted, row)[0])(jnp.asarray(x))
    np.testing.assert_allclose(y.mean(0), 0.0, atol=1e-5)
    np.testing.assert_allclose(y.std(0), 1.0, atol=1e-5)


@pytest.mark.parametrize("sd", [1e-2, 1e-3, 2e-4])
def test_e335_08_log_det_is_that_of_the_scale_used(sd):
    x = sd * np.random.default_rng(1).normal(size=(200, 4))
    robust, _ = fit_robust(jnp.asarray(x))
    for fitted in (affine.fit_standard(x), robust, affine.fit_min_max(x)):
        row = jnp.asarray(x[0])
        _, log_det = affine.forward(fitted, row)
        jacobian = jax.jacfwd(lambda v, a=fitted: affine.forward(a, v)[0])(row)
        np.testing.assert_allclose(log_det, np.linalg.slogdet(jacobian)[1], rtol=1e-6)
    np.testing.assert_allclose(robust.scale, sd, rtol=0.3)


def test_e335_09_scoring_changes_nothing_and_a_row_alone_equals_the_row_in_a_batch():
    x = jnp.asarray(np.random.default_rng(2).normal(size=(256, 3)))
    fitted = affine.fit_standard(np.asarray(x))
    batch = jax.vmap(affine.forward, (None, 0))
    first, again, alone = batch(fitted, x), batch(fitted, x), batch(fitted, x[:1])
    np.testing.assert_array_equal(first[0], again[0])
    # The compiler divides a batch by way of reciprocals: one more rounding.
    np.testing.assert_allclose(first[0][:1], alone[0], rtol=2.5e-7)
    np.testing.assert_array_equal(first[1][:1], alone[1])


@pytest.mark.parametrize("value", [0.0, 7.3, 1e30])
def test_a_constant_column_is_an_error_that_names_it(value):
    x = np.random.default_rng(3).normal(size=(40, 3))
    x[:, 1] = value
    for fit in (affine.fit_standard, affine.fit_min_max, affine.fit_median_iqr):
        with pytest.raises(ValueError, match="column 1"):
            fit(x)
    for fit in (fit_robust, fit_moments):
        fitted, is_constant = fit(jnp.asarray(x))
        np.testing.assert_array_equal(is_constant, [False, True, False])
        assert fitted.scale[1] == 1.0
    with pytest.raises(ValueError, match="column 1"):
        affine.check_robust(fitted, is_constant)


def test_a_column_with_nan_is_refused():
    x = np.random.default_rng(3).normal(size=(40, 3))
    x[5, 2] = np.nan
    with pytest.raises(ValueError, match="column 2"):
        affine.fit_standard(x)
    for fit in (fit_robust, fit_moments):
        _, is_constant = fit(jnp.asarray(x))
        np.testing.assert_array_equal(is_constant, [False, False, True])
    with pytest.raises(ValueError, match="shape"):
        affine.fit_standard(x[0])
    with pytest.raises(ValueError, match="'mad' or 'iqr'"):
        affine.fit_robust(jnp.asarray(x), spread="sd")


def test_a_column_that_is_mostly_one_value_falls_back_to_the_standard_deviation():
    x = np.r_[np.zeros(80), np.random.default_rng(4).normal(size=20)][:, None]
    fitted, is_constant = fit_robust(jnp.asarray(x))
    assert not is_constant[0]
    np.testing.assert_allclose(fitted.scale, x.std(axis=0), rtol=1e-5)


@pytest.mark.parametrize("size", [1.0, 1e30])
def test_weighted_moments_are_those_of_repeated_rows_at_any_size(size):
    x = (size * np.random.default_rng(8).gamma(2.0, size=(40, 2))).astype(np.float32)
    weights = (np.arange(40) % 3).astype(np.float32)
    dirty = np.where(weights[:, None] > 0.0, x, np.nan)
    fitted, is_constant = fit_moments(jnp.asarray(dirty), weights)
    repeated = np.repeat(x.astype(np.float64), weights.astype(int), axis=0)
    np.testing.assert_allclose(fitted.location, repeated.mean(0), rtol=1e-6)
    np.testing.assert_allclose(fitted.scale, repeated.std(0), rtol=1e-6)
    assert not is_constant.any()


@pytest.mark.parametrize("spread", ["mad", "iqr"])
def test_rows_without_weight_are_ignored(spread):
    x = np.random.default_rng(5).standard_cauchy(size=(60, 2)).astype(np.float32)
    weights = (np.arange(60) % 3 != 0).astype(np.float32)
    dirty = np.where(weights[:, None] > 0.0, x, np.nan)
    fitted, is_constant = fit_robust(dirty, weights, spread=spread)
    expected, _ = fit_robust(x[weights > 0.0], spread=spread)
    np.testing.assert_allclose(np.stack(fitted), np.stack(expected), rtol=1e-6)
    assert not is_constant.any()


@pytest.mark.parametrize("probability", [0.0, 0.05, 0.25, 0.5, 0.9, 1.0])
def test_weighted_quantile_equals_numpy_for_equal_weights(x64, probability):
    x = np.random.default_rng(6).normal(size=37)
    weights = np.full(37, 0.3)
    value = affine.weighted_quantile(jnp.asarray(x), jnp.asarray(weights), probability)
    np.testing.assert_allclose(value, np.quantile(x, probability), rtol=1e-12)


def test_weighted_quantile_of_a_density_on_a_grid_is_its_quantile():
    x = np.linspace(-8.0, 8.0, 4001)
    value = affine.weighted_quantile(jnp.asarray(x), jnp.asarray(np.exp(-0.5 * x * x)), 0.9)
    np.testing.assert_allclose(value, 1.2815516, atol=5e-3)


def test_robust_fit_vmaps():
    x = jnp.asarray(np.random.default_rng(7).normal(size=(3, 50, 2)))
    batch, _ = jax.jit(jax.vmap(affine.fit_robust))(x)
    single, _ = fit_robust(x[1])
    np.testing.assert_allclose(batch.scale[1], single.scale, rtol=1e-6)
