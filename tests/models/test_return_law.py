"""Laws of several layers and rows that are hard to solve: quantiles, shortfalls and moments."""

import jax
import numpy as np
import pandas as pd
import pytest

from densityjax.bijectors import lambert_w
from densityjax.bijectors.rational_quadratic_spline import Knots
from densityjax.bijectors.shift_scale import ShiftScale
from densityjax.models import ReturnDistribution
from densityjax.models.marginal import Marginal, from_noise

KNOTS_X = np.float32([-4.0, -1.0, 0.5, 4.0])
KNOTS_Y = np.float32([[-4.0, -2.5, 2.0, 4.0], [-4.0, 0.0, 0.2, 4.0]])
SLOPES = np.float32([[1.0, 0.2, 3.0, 1.0], [1.0, 2.0, 0.3, 1.0]])
SPLINES = Knots(np.stack([KNOTS_X, KNOTS_X]), KNOTS_Y, SLOPES)
KNOTS_IDENTITY = Knots(*(np.float32([[-4.0, 4.0]]),) * 2, np.ones((1, 2), np.float32))
AFFINE = ShiftScale(np.float32([0.3]), np.float32([-0.2]))


def forecast(location, scale, knots, h=0.0):
    """Members [N, M] with one tail parameter h; all have the layers `knots`."""
    location, scale = np.broadcast_arrays(np.float32(location), np.float32(scale))
    shape = location.shape
    knots = jax.tree.map(lambda leaf: np.broadcast_to(leaf, (*shape, *leaf.shape)), knots)
    full = [np.full(shape, value, np.float32) for value in (0.0, 1.0, h, h)]
    index = pd.RangeIndex(shape[0])
    return ReturnDistribution(index, Marginal(location, scale, lambert_w.Tail(*full), knots))


@pytest.mark.parametrize("knots", [SPLINES, AFFINE], ids=["two splines", "affine"])
def test_a_law_of_other_layers_has_the_figures_of_sums_over_a_fine_grid(knots):
    law = forecast([[-0.01, 0.02]], [[0.03, 0.01]], knots, h=0.1)
    z = np.linspace(-8.0, 8.0, 100_001)
    inverse = jax.jit(jax.vmap(jax.vmap(from_noise, (None, 0)), (0, None)))
    members = jax.tree.map(lambda leaf: leaf[0], law.members)
    values = np.asarray(inverse(members, np.float32(z))[0], np.float64).ravel()
    order = np.argsort(values)
    mass = np.tile(np.exp(-0.5 * z**2), 2)[order]
    values, mass = values[order], mass / mass.sum()
    std = (mass @ values**2 - (mass @ values) ** 2) ** 0.5
    # The integrals follow the bins of the first spline: the knots of the second cost them digits.
    np.testing.assert_allclose(law.mean(), mass @ values, atol=5e-3 * std)
    np.testing.assert_allclose(law.std(), std, rtol=5e-3)
    for tail in (0.01, 0.3):
        risk, below = law.value_at_risk(1 - tail), np.cumsum(mass) <= tail
        assert law.cdf(-risk)[0] == pytest.approx(tail, rel=1e-4)
        expected = -np.average(values[below], weights=mass[below])
        assert law.expected_shortfall(1 - tail)[0] == pytest.approx(expected, rel=5e-3)


def test_quantiles_of_members_far_apart_are_solved_whatever_share_of_rows_is_slow():
    rng = np.random.default_rng(0)
    location = rng.normal(0.0, 1.0, (1500, 8)) * np.where(np.arange(1500) % 2, 1e-3, 1.0)[:, None]
    scale = np.exp(rng.normal(-5.0, 2.0, (1500, 8)))
    many = forecast(location, scale, KNOTS_IDENTITY)
    width = np.float32(1e-5 * (np.ptp(location, axis=1) + 4.0 * scale.max(axis=1)))
    for probability in (0.01, 0.5, 0.95):
        x = many.quantile(probability)
        # Where narrow members make the CDF steep, the point is what is right, not the level.
        assert (many.cdf(x - width) <= probability + 1e-3).all()
        assert (many.cdf(x + width) >= probability - 1e-3).all()


def test_a_level_that_was_asked_for_is_kept_and_no_caller_can_alter_it():
    law = forecast([[0.0, 0.1]], [[1.0, 2.0]], KNOTS_IDENTITY)
    first = law.quantile(0.05)
    kept = first.copy()
    first[:] = np.nan
    np.testing.assert_array_equal(law.quantile(0.05), kept)
    np.testing.assert_allclose(law.value_at_risk(0.95), -kept, rtol=1e-6)
    assert law.quantile(0.01) < kept
    assert law.value_at_risk(0.95, side="short") > 0.0
