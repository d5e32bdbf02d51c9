"""Our spline keeps single precision beside the knots, where the usual forms lose it."""

import functools

import numpy as np
import pytest

from densityjax.bijectors import rational_quadratic_spline as rqs
from densityjax.distributions import spline_accuracy

measure = functools.cache(spline_accuracy.measure)


@pytest.mark.parametrize("near", [False, True])
@pytest.mark.parametrize("scale", [1.0, 4.0, 8.0])
def test_our_errors_stay_at_rounding_at_every_scale(scale, near):
    ours = measure(scale, near=near)["densityjax"]
    assert ours.num_not_finite == 0
    assert ours.forward < 2e-6
    assert ours.inverse < 5e-6
    assert ours.forward_log_slope < 2e-5
    assert ours.inverse_log_slope < 2e-5


@pytest.mark.parametrize("scale", [1.0, 4.0, 8.0])
def test_the_usual_inverses_lose_a_hundred_times_as_much_beside_a_knot(scale):
    errors = measure(scale, near=True)
    ours = errors["densityjax"].inverse_log_slope
    for name in ("distrax", "textbook, root", "textbook, point"):
        other = errors[name]
        assert other.inverse_log_slope > 100.0 * ours or other.num_not_finite > 0, name
        # Forward they are all right: the harness holds everybody to the same truth.
        assert other.forward < 2e-5, name


def test_the_oracle_undoes_itself_and_has_the_slope_of_differences():
    logits = 2.0 * np.random.default_rng(0).standard_normal(rqs.num_logits(8))
    wide = rqs.Knots(
        *(np.asarray(a, np.longdouble) for a in rqs.knots_from_logits(logits, bound=3.0))
    )
    x = np.linspace(-2.99, 2.99, 1001)
    y, log_slope = spline_accuracy.exact_forward(wide, x)
    back, back_log_slope = spline_accuracy.exact_inverse(wide, y)
    np.testing.assert_allclose(back, x, atol=1e-12)
    np.testing.assert_allclose(log_slope, -back_log_slope, atol=1e-10)
    ahead, behind = (spline_accuracy.exact_forward(wide, x + h)[0] for h in (1e-6, -1e-6))
    np.testing.assert_allclose((ahead - behind) / 2e-6, np.exp(log_slope), rtol=1e-3)
