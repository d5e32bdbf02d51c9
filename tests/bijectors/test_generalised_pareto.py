"""The two-sided generalised Pareto layer: its law, both directions, far points, the fit."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from densityjax.bijectors import generalised_pareto as gpd
from densityjax.bijectors import lambert_w, tails

to_noise = jax.jit(jax.vmap(gpd.to_noise, (0, None)))
from_noise = jax.jit(jax.vmap(gpd.from_noise, (0, None)))
VALUES = (0.3, 2.0, 0.4, 0.1)


def tail_of(values=VALUES):
    return gpd.Tail(*(jnp.asarray(value, jnp.result_type(float)) for value in values))


def test_normal_noise_becomes_two_generalised_pareto_halves(x64):
    z = np.linspace(-8.0, 8.0, 101)
    x, _ = from_noise(z, tail_of())
    size, shape = np.abs(x - 0.3) / 2.0, np.where(z > 0, 0.4, 0.1)
    # P(|Y| > y) of the half is P(|Z| > |z|), both in logs: far out the chance underflows.
    np.testing.assert_allclose(
        stats.genpareto.logsf(size, shape), np.log(2.0) + stats.norm.logsf(np.abs(z)), rtol=1e-12
    )
    np.testing.assert_array_equal(np.sign(x - 0.3), np.sign(z))


def test_directions_undo_each_other_with_autodiff_slopes_in_float64(x64):
    # Mid-range 0 is a kink of the slope, not of the map: it is left to the next test.
    z = np.r_[np.linspace(-25.0, 25.0, 200), -1e-6, 1e-6, -0.999999, 1.000001]
    x, log_slope = from_noise(z, tail_of())
    back, back_log_slope = to_noise(x, tail_of())
    np.testing.assert_allclose(back, z, rtol=1e-9)
    np.testing.assert_allclose(log_slope + back_log_slope, 0.0, atol=1e-9)
    for fn, value, expected in ((gpd.from_noise, z, log_slope), (gpd.to_noise, x, back_log_slope)):
        slope = jax.jit(jax.vmap(jax.grad(lambda v, t, fn=fn: fn(v, t)[0]), (0, None)))
        np.testing.assert_allclose(np.log(slope(value, tail_of())), expected, atol=1e-8)


def test_float32_keeps_to_the_float64_twin_near_the_median_and_far_out():
    rng = np.random.default_rng(0)
    x = np.r_[10.0 ** rng.uniform(-6, 12, 2000) * rng.choice([-1, 1], 2000)].astype(np.float32)
    small = [np.asarray(v) for v in to_noise(x, tail_of((0.0, *VALUES[1:])))]
    with jax.enable_x64(True):
        wide = [np.asarray(v) for v in to_noise(np.float64(x), tail_of((0.0, *VALUES[1:])))]
    np.testing.assert_allclose(small[0], wide[0], rtol=3e-6)
    np.testing.assert_allclose(small[1], wide[1], rtol=3e-6, atol=1e-5)


def test_gradients_are_finite_on_cauchy_points_at_the_median_and_for_the_lightest_tails():
    x = np.r_[100.0 * np.random.default_rng(1).standard_cauchy(500), 0.0, 1e30, -1e30]

    def both(x, logits):
        return jnp.stack(gpd.to_noise(x, gpd.tail_from_logits(logits)))

    jacobian = jax.jit(jax.vmap(jax.jacrev(both, (0, 1)), (0, None)))
    for logit in (-200.0, 0.0, 200.0):
        logits = jnp.array([0.0, 0.0, logit, logit])
        assert all(np.isfinite(leaf).all() for leaf in jacobian(x.astype(np.float32), logits))


def test_the_density_integrates_to_one(x64):
    grid = np.sinh(np.linspace(-45.0, 45.0, 40_001))
    z, log_slope = to_noise(grid, tail_of())
    mass = np.exp(stats.norm.logpdf(z) + log_slope)
    assert np.trapezoid(mass, grid) == pytest.approx(1.0, abs=1e-5)


@pytest.mark.parametrize("df", [3.0, 6.0])
def test_the_fit_recovers_its_own_law_and_orders_those_of_students_t(df):
    rng = np.random.default_rng(2)
    noise = rng.standard_normal(20_000).astype(np.float32)
    x, _ = from_noise(noise, tail_of((0.5, 3.0, 0.4, 0.1)))
    fit = jax.jit(gpd.fit)
    tail, info = fit(x)
    assert bool(info.is_finite)
    np.testing.assert_allclose(tail.scale, 3.0, rtol=0.1)
    # Of 2000 excesses on a side the shape is known to (1 + h) / sqrt(2000), asymptotically.
    assert abs(float(tail.h_plus) - 0.4) < 4 * 1.4 / 2000**0.5
    assert abs(float(tail.h_minus) - 0.1) < 4 * 1.1 / 2000**0.5
    student, _ = fit(rng.standard_t(df, 20_000).astype(np.float32))
    # Beyond a tenth of the rows the shape is still on its way to 1 / df, from below.
    assert 0.3 / df < float(student.h_plus) < 1.4 / df
    assert float(student.location) == pytest.approx(0.0, abs=0.05)


def test_logits_and_the_choice_by_type_go_both_ways():
    tail = gpd.tail_from_logits(jnp.array([0.2, -0.5, 1.0, -2.0]))
    again = gpd.tail_from_logits(gpd.logits_from_tail(tail))
    np.testing.assert_allclose(again, tail, rtol=1e-5)
    x = jnp.array(1.7)
    np.testing.assert_array_equal(tails.to_noise(x, tail), gpd.to_noise(x, tail))
    np.testing.assert_array_equal(tails.from_noise(x, tail), gpd.from_noise(x, tail))
    other = lambert_w.Tail(*tail)
    np.testing.assert_array_equal(tails.to_noise(x, other), lambert_w.to_noise(x, other))
    assert not np.allclose(tails.from_noise(x, other), tails.from_noise(x, tail))
