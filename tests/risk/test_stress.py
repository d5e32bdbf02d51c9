"""Stress scenarios against arithmetic by hand and SciPy quadrature."""

import math

import numpy as np
import pytest
from scipy import integrate, special, stats

from densityjax.risk import stress

MEAN, SCALE = 0.001, 0.01


def normal(u):
    return MEAN + SCALE * special.ndtri(u)


def test_a_gap_of_five_percent_by_hand():
    found = stress.gap(1.5)
    assert found.pnl == pytest.approx(-0.075)
    assert found.equity == pytest.approx(0.925)
    # 1.5 of equity falls to 1.425 while equity falls to .925: leverage goes UP.
    assert float(found.weights) == pytest.approx(1.425 / 0.925)
    assert not found.is_ruined
    assert stress.gap(-0.8).pnl == pytest.approx(0.04)
    two = stress.gap([0.6, -0.4], [-0.05, 0.02])
    assert two.pnl == pytest.approx(-0.03 - 0.008)
    np.testing.assert_allclose(two.weights, [0.57 / 0.962, -0.408 / 0.962])
    ruin = stress.gap([25.0, 0.0])
    assert ruin.is_ruined
    assert ruin.equity == pytest.approx(-0.25)
    assert np.all(np.isnan(ruin.weights))


def test_doubling_the_volatility_by_hand():
    stressed = stress.scale_volatility(normal, 2.0)
    # The 1 % quantile is -2.3263478740 sd, so .001 - 2 * .0232634787 at twice the spread.
    np.testing.assert_allclose(stressed(np.array([0.01, 0.5])), [-0.0455269575, 0.001], atol=1e-10)
    value, _ = stress.position_losses(stressed, 0.5, 0.99)
    assert value == pytest.approx(0.5 * (1.0 - math.exp(-0.0455269575)), abs=1e-10)


def test_fat_tails_of_a_normal_law_by_hand():
    stressed = stress.fatten_tails(normal, 4.0)
    # Quartiles .6744897502 of the normal and .7406970841 of t(4): scale .01 * .9106148; the
    # 1 % quantile of t(4) is -3.746947388.
    expected = MEAN - 0.01 * 0.6744897502 / 0.7406970841 * 3.746947388
    assert float(stressed(np.array(0.01))) == pytest.approx(expected, abs=1e-9)
    assert expected < normal(0.01) - 0.01
    grid = np.linspace(0.001, 0.999, 999)
    assert np.all(np.diff(stressed(grid)) > 0.0)
    np.testing.assert_allclose(stressed(np.array([0.25, 0.5, 0.75])), normal([0.25, 0.5, 0.75]))


def test_fat_tails_never_thin_a_law_that_is_fatter_still():
    def fat(u):
        return 0.01 * stats.t.ppf(u, 2.0)

    levels = np.array([0.001, 0.01, 0.99, 0.999])
    np.testing.assert_allclose(stress.fatten_tails(fat, 5.0)(levels), fat(levels), rtol=1e-12)


@pytest.mark.parametrize("weight", [1.0, -0.7, 0.0])
def test_losses_of_a_position_match_quadrature_on_its_losing_side(weight):
    value, shortfall = stress.position_losses(normal, weight, 0.975)
    side = 1.0 if weight >= 0.0 else -1.0
    z = -1.959963984540054 * side
    assert value == pytest.approx(-weight * np.expm1(MEAN + SCALE * z), abs=1e-14)
    tail = (-np.inf, z) if side > 0 else (z, np.inf)
    exact = integrate.quad(
        lambda z: -weight * np.expm1(MEAN + SCALE * z) * stats.norm.pdf(z) / 0.025, *tail
    )[0]
    assert shortfall == pytest.approx(exact, rel=1e-6, abs=1e-12)


def test_a_short_position_in_a_power_law_has_a_finite_reported_shortfall():
    # Without the cut E[exp(r)] of a t has no value; at the cut r is 1.9 and weighs 1e-9.
    _, shortfall = stress.position_losses(lambda u: 0.007 * stats.t.ppf(u, 4.0), -1.0, 0.99)
    level = np.linspace(0.0, 1.0, 400_001)[1:-1] ** 4
    share = 1e-9 + (0.01 - 1e-9) * level
    jacobian = 4.0 * level**0.75 * (0.01 - 1e-9)
    loss = np.expm1(0.007 * stats.t.isf(share, 4.0))
    exact = np.mean(loss * jacobian) + 1e-9 * np.expm1(0.007 * stats.t.isf(1e-9, 4.0))
    assert shortfall == pytest.approx(exact / 0.01, rel=1e-5)


@pytest.mark.parametrize("weight", [0.8, -0.8])
def test_the_table_gathers_all_scenarios_against_the_position(weight):
    rows = {row.name: row for row in stress.stress_table(normal, weight, 0.99)}
    assert list(rows) == ["forecast", "volatility", "fat_tails", "gap"]
    assert rows["gap"].value_at_risk == pytest.approx(0.04)  # .8 times 5 %, either way
    assert rows["forecast"].value_at_risk == pytest.approx(
        -weight * np.expm1(MEAN - np.sign(weight) * 0.023263478740), abs=1e-10
    )
    for name in ("volatility", "fat_tails"):
        assert rows[name].value_at_risk > 1.2 * rows["forecast"].value_at_risk
        assert rows[name].expected_shortfall > rows[name].value_at_risk
    # Twice the volatility doubles what is beyond the mean, up to exp.
    moved = -weight * np.expm1(MEAN - np.sign(weight) * 0.046526957481)
    assert rows["volatility"].value_at_risk == pytest.approx(moved, abs=1e-10)


@pytest.mark.parametrize(
    ("call", "match"),
    [
        (lambda: stress.gap(np.nan), "weights"),
        (lambda: stress.gap(1.0, -1.01), "gap_return"),
        (lambda: stress.scale_volatility(normal, 0.0), "factor"),
        (lambda: stress.fatten_tails(normal, -3.0), "degrees_of_freedom"),
        (lambda: stress.position_losses(normal, np.inf, 0.99), "weight"),
        (lambda: stress.position_losses(normal, 1.0, 99.0), "confidence"),
        (lambda: stress.position_losses(lambda u: u / 0.0 + u, 1.0, 0.99), "quantile_fn"),
        (lambda: stress.position_losses(lambda u: 0.01, 1.0, 0.99), "quantile_fn"),
    ],
)
def test_wrong_arguments_are_named(call, match):
    with np.errstate(all="ignore"), pytest.raises(ValueError, match=match):
        call()
