"""The forecast of a return against closed forms: normal, Lambert-W, mixtures, and its edges."""

import jax
import numpy as np
import pandas as pd
import pytest
from scipy import integrate, optimize, special, stats

from densityjax.bijectors import lambert_w
from densityjax.bijectors.rational_quadratic_spline import Knots
from densityjax.models import ReturnDistribution
from densityjax.models.marginal import Marginal, from_noise
from densityjax.risk.scoring import crps_from_cdf

GRID = np.array([-0.05, -0.012, -0.001, 0.0, 0.003, 0.02, 0.04])


def forecast(location, scale, h_plus=0.0, h_minus=0.0, knots=None):
    """Members [N, M] with tails h; the spline is the identity unless knots are given."""
    location, scale = np.broadcast_arrays(
        np.atleast_2d(np.float32(location)), np.atleast_2d(np.float32(scale))
    )
    shape = location.shape

    def full(value):
        return np.broadcast_to(np.asarray(value, np.float32), shape)

    edges = np.broadcast_to(np.float32([-4.0, 4.0]), (*shape, 1, 2))
    knots = Knots(edges, edges, np.ones_like(edges)) if knots is None else knots
    tail = lambert_w.Tail(full(0.0), full(1.0), full(h_plus), full(h_minus))
    index = pd.date_range("2020-01-01", periods=shape[0], freq="h", tz="UTC", name="timestamp")
    return ReturnDistribution(index, Marginal(location, scale, tail, knots))


def repeat(distribution, size):
    return distribution[np.zeros(size, int)]


NORMAL = repeat(forecast(0.001, 0.02), len(GRID))
LAW = stats.norm(0.001, 0.02)


def test_a_normal_law_has_the_closed_forms():
    np.testing.assert_allclose(NORMAL.log_prob(GRID), LAW.logpdf(GRID), rtol=1e-5)
    np.testing.assert_allclose(NORMAL.cdf(GRID), LAW.cdf(GRID), rtol=1e-5)
    np.testing.assert_allclose(NORMAL.prob_above(GRID), LAW.sf(GRID), rtol=1e-5)
    np.testing.assert_allclose(NORMAL.prob_above(), LAW.sf(0.0), rtol=1e-5)
    levels = np.array([1e-6, 0.01, 0.3, 0.5, 0.7, 0.99, 0.99999])
    np.testing.assert_allclose(NORMAL.quantile(levels), LAW.ppf(levels), rtol=2e-4, atol=1e-8)
    np.testing.assert_allclose(NORMAL.mean(), 0.001, rtol=1e-4)
    np.testing.assert_allclose(NORMAL.std(), 0.02, rtol=1e-5)
    z = (GRID - 0.001) / 0.02
    crps = 0.02 * (z * (2 * stats.norm.cdf(z) - 1) + 2 * stats.norm.pdf(z) - np.pi**-0.5)
    np.testing.assert_allclose(NORMAL.crps(GRID), crps, rtol=1e-4)


def test_e335_19_value_at_risk_and_shortfall_of_the_standard_normal():
    normal = forecast(0.0, 1.0)
    assert normal.value_at_risk(0.95)[0] == pytest.approx(1.644854, abs=2e-6)
    assert normal.expected_shortfall(0.95)[0] == pytest.approx(2.062713, abs=2e-6)
    assert normal.value_at_risk(0.99)[0] == pytest.approx(2.326348, abs=5e-6)
    assert normal.expected_shortfall(0.99)[0] == pytest.approx(2.665214, abs=5e-6)
    # A shortfall of nearly all cases is minus the mean of the law.
    assert forecast(0.3, 1.0).expected_shortfall(1e-4)[0] == pytest.approx(-0.3, abs=1e-3)


def test_the_losses_of_a_short_position_come_from_the_upper_tail():
    normal, levels = forecast(0.3, 1.0), (0.99, 0.95, 0.6, 0.05)
    z = stats.norm.ppf(levels)
    expected = stats.norm.pdf(z) / (1 - np.array(levels))
    short = [normal.expected_shortfall(level, side="short")[0] for level in levels]
    np.testing.assert_allclose(short, expected + 0.3, atol=5e-6)
    risk = [normal.value_at_risk(level, side="short")[0] for level in levels]
    np.testing.assert_allclose(risk, z + 0.3, atol=5e-6)
    # A skewed law: h below the location only, so that the upper tail is that of the normal.
    skewed = forecast(0.0, 0.01, 0.0, 0.4)
    assert skewed.expected_shortfall(0.99, side="short")[0] == pytest.approx(0.02665214, rel=1e-5)
    z, h = stats.norm.ppf(0.01), 0.4
    heavy = 0.01 * stats.norm.pdf(z * (1 - h) ** 0.5) / ((1 - h) * 0.01)
    assert skewed.expected_shortfall(0.99)[0] == pytest.approx(heavy, rel=1e-5)
    record = skewed.risk_record(0.99, side="short")
    assert record.value_at_risk[0] == pytest.approx(0.01 * stats.norm.ppf(0.99), rel=1e-5)
    with pytest.raises(ValueError, match="side is 'both': accepted are long, short"):
        skewed.value_at_risk(0.99, side="both")


STEEP_X = np.array([-4.0, -1.0, 0.5, 4.0], np.float32)
STEEP_Y = np.array([[-4.0, -2.5, 2.0, 4.0], [-4.0, 0.0, 0.2, 4.0]], np.float32)
STEEP_SLOPE = np.array([[1.0, 0.2, 3.0, 1.0], [1.0, 2.0, 0.3, 1.0]], np.float32)
STEEP = forecast(
    [-0.01, 0.02],
    [0.03, 0.01],
    [0.1, 0.0],
    [0.3, 0.2],
    Knots(
        np.stack([STEEP_X, STEEP_X])[None, :, None],
        STEEP_Y[None, :, None],
        STEEP_SLOPE[None, :, None],
    ),
)


def test_moments_and_both_shortfalls_of_steep_splines_equal_sums_over_a_fine_grid():
    z = np.linspace(-9.0, 9.0, 200_001)
    members = jax.tree.map(lambda leaf: leaf[0], STEEP.members)
    inverse = jax.jit(jax.vmap(jax.vmap(from_noise, (None, 0)), (0, None)))
    values = np.asarray(inverse(members, np.float32(z))[0], np.float64).ravel()
    order = np.argsort(values)
    mass = np.tile(stats.norm.pdf(z), 2)[order]
    values, mass = values[order], mass / mass.sum()
    std = (mass @ values**2 - (mass @ values) ** 2) ** 0.5
    np.testing.assert_allclose(STEEP.mean(), mass @ values, atol=1e-4 * std)
    np.testing.assert_allclose(STEEP.std(), std, rtol=2e-4)
    for tail in (0.01, 0.05, 0.3):
        long, short = (STEEP.expected_shortfall(1 - tail, side=s)[0] for s in ("long", "short"))
        below, above = np.cumsum(mass) <= tail, np.cumsum(mass[::-1])[::-1] <= tail
        assert long == pytest.approx(-np.average(values[below], weights=mass[below]), rel=1e-3)
        assert short == pytest.approx(np.average(values[above], weights=mass[above]), rel=1e-3)
        risk = STEEP.value_at_risk(1 - tail, side="short")
        assert STEEP.prob_above(risk)[0] == pytest.approx(tail, rel=1e-4)


def test_rsk_03_the_record_holds_both_losses_and_four_moments():
    record = NORMAL.risk_record(0.95)
    np.testing.assert_allclose(record.value_at_risk, 0.02 * 1.644854 - 0.001, rtol=1e-5)
    np.testing.assert_allclose(record.expected_shortfall, 0.02 * 2.062713 - 0.001, rtol=1e-5)
    np.testing.assert_allclose([record.mean[0], record.std[0]], [0.001, 0.02], rtol=1e-4)
    np.testing.assert_allclose(record.skewness, 0.0, atol=1e-4)
    np.testing.assert_allclose(record.excess_kurtosis, 0.0, atol=1e-4)
    np.testing.assert_allclose(record.confidence, 0.95, rtol=1e-6)
    # Lambert-W moments, Goerg (2015), eq. 12: the n-th is n! / (2^(n/2) (n/2)!) (1 - n h)^-(n+1)/2.
    h = 0.1
    variance, fourth = (1 - 2 * h) ** -1.5, 3 * (1 - 4 * h) ** -2.5
    heavy = forecast(0.0, 1.0, h, h).risk_record(0.95)
    assert heavy.std[0] == pytest.approx(variance**0.5, rel=1e-4)
    assert heavy.excess_kurtosis[0] == pytest.approx(fourth / variance**2 - 3, rel=1e-3)


@pytest.mark.parametrize("h", [0.1, 0.3, 0.5])
def test_a_lambert_w_tail_has_its_closed_forms(h):
    heavy = repeat(forecast(0.0, 1.0, 0.0, h), 5)
    probability = np.array([1e-4, 0.01, 0.05, 0.2, 0.5])
    z = stats.norm.ppf(probability)
    np.testing.assert_allclose(
        heavy.quantile(probability), z * np.exp(0.5 * h * z**2), rtol=1e-5, atol=1e-6
    )
    # int_-inf^q z exp(h z^2 / 2) phi(z) dz = -phi(q sqrt(1 - h)) / (1 - h)
    shortfall = stats.norm.pdf(z * (1 - h) ** 0.5) / ((1 - h) * probability)
    np.testing.assert_allclose(heavy.expected_shortfall(1 - probability), shortfall, rtol=2e-4)
    y = np.array([-30.0, -5.0, -0.5, 0.5, 5.0])
    noise = np.where(y < 0, np.sign(y) * (special.lambertw(h * y**2).real / h) ** 0.5, y)
    slope = np.where(y < 0, noise / y / (1 + h * noise**2), 1.0)
    log_prob = stats.norm.logpdf(noise) + np.log(slope)
    np.testing.assert_allclose(heavy.log_prob(y), log_prob, rtol=1e-4)


MEMBERS = [stats.norm(-0.01, 0.03), stats.norm(0.02, 0.01)]
MIXED = repeat(forecast([-0.01, 0.02], [0.03, 0.01]), len(GRID))


def mixed_cdf(x):
    return np.mean([law.cdf(x) for law in MEMBERS], axis=0)


def test_an_ensemble_is_the_equal_mixture_of_its_members():
    density = np.mean([law.pdf(GRID) for law in MEMBERS], axis=0)
    np.testing.assert_allclose(MIXED.log_prob(GRID), np.log(density), rtol=1e-4)
    np.testing.assert_allclose(MIXED.cdf(GRID), mixed_cdf(GRID), rtol=1e-4)
    mean = 0.005
    variance = np.mean([law.var() + (law.mean() - mean) ** 2 for law in MEMBERS])
    np.testing.assert_allclose(MIXED.mean(), mean, rtol=1e-4)
    np.testing.assert_allclose(MIXED.std(), variance**0.5, rtol=1e-5)
    levels = np.array([1e-4, 0.01, 0.2, 0.5, 0.8, 0.99, 0.9999])
    expected = [
        optimize.brentq(lambda x, p: mixed_cdf(x) - p, -1, 1, args=(p,), xtol=1e-12) for p in levels
    ]
    np.testing.assert_allclose(MIXED.quantile(levels), expected, rtol=1e-3, atol=1e-7)
    np.testing.assert_allclose(MIXED.cdf(MIXED.quantile(levels)), levels, rtol=1e-4)
    for row in (1, 2):
        q, a = expected[row], levels[row]
        below = [integrate.quad(lambda x, law=law: x * law.pdf(x), -1, q)[0] for law in MEMBERS]
        shortfall = MIXED.expected_shortfall(1 - a)[0]
        assert shortfall == pytest.approx(-np.mean(below) / a, rel=1e-3)
    scores = [crps_from_cdf(mixed_cdf, x, scale=0.02) for x in GRID]
    np.testing.assert_allclose(MIXED.crps(GRID), scores, rtol=1e-4)


def test_a_mixture_of_steep_splines_and_heavy_tails_integrates_to_one():
    grid = 0.03 * np.sinh(np.linspace(-20, 20, 20_001))
    rows = repeat(STEEP, len(grid))
    assert integrate.trapezoid(np.exp(rows.log_prob(grid)), grid) == pytest.approx(1, abs=1e-3)
    centre = slice(9_500, 10_501)
    mass = integrate.trapezoid(np.exp(rows[centre].log_prob(grid[centre])), grid[centre])
    assert mass == pytest.approx(np.ptp(rows[centre].cdf(grid[centre])), rel=1e-3)


def test_draws_follow_the_cdf_are_keyed_and_differ_between_bars():
    draws = MIXED[:3].sample(jax.random.key(0), 4000)
    assert draws.shape == (3, 4000)
    assert stats.kstest(draws.ravel(), mixed_cdf).pvalue > 1e-3
    assert abs(np.corrcoef(draws)[0, 1]) < 5 / 4000**0.5
    np.testing.assert_array_equal(draws, MIXED[:3].sample(jax.random.key(0), 4000))
    assert (draws[:, :5] != MIXED[:3].sample(jax.random.key(1), 4000)[:, :5]).all()
    with pytest.raises(ValueError, match="n is 0"):
        MIXED.sample(jax.random.key(0), 0)


def test_nan_returns_give_nan_in_their_rows_alone():
    r = np.where(np.arange(len(GRID)) == 2, np.nan, GRID)
    for method in (MIXED.log_prob, MIXED.cdf, MIXED.crps):
        np.testing.assert_array_equal(np.isnan(method(r)), np.isnan(r))
    np.testing.assert_array_equal(np.delete(MIXED.cdf(r), 2), np.delete(MIXED.cdf(GRID), 2))


@pytest.mark.parametrize("level", [0.0, 1.0, -0.1, 99.0, np.nan])
def test_a_level_outside_its_range_is_named(level):
    with pytest.raises(ValueError, match="probability is"):
        MIXED.quantile(level)
    for method in (MIXED.value_at_risk, MIXED.expected_shortfall, MIXED.risk_record):
        with pytest.raises(ValueError, match="confidence is"):
            method(level)


def test_a_wrong_number_of_values_is_named_and_no_rows_are_refused():
    with pytest.raises(ValueError, match=r"r has shape \(3,\): accepted is one or \[7\]"):
        MIXED.log_prob(np.zeros(3))
    with pytest.raises(ValueError, match="0 rows"):
        MIXED[:0].mean()


def test_a_row_is_chosen_by_slice_mask_or_number_and_does_not_see_its_batch():
    rng = np.random.default_rng(0)
    location, scale = rng.normal(0, 0.01, (4097, 2)), rng.uniform(0.005, 0.02, (4097, 2))
    many = forecast(location, scale)
    assert len(many) == 4097
    answers = many.quantile(0.05)
    assert answers.shape == (4097,)
    for size in (1, 63, 65):
        few = many[:size]
        assert few.index.equals(many.index[:size])
        np.testing.assert_allclose(few.quantile(0.05), answers[:size], rtol=1e-6)
    mask = np.arange(4097) % 1000 == 7
    assert many[mask].index.equals(many.index[mask])
    np.testing.assert_allclose(many[mask].quantile(0.05), answers[mask], rtol=1e-6)
    np.testing.assert_array_equal(many[[3, 1]].members.scale, many.members.scale[[3, 1]])
