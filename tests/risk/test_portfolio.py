"""Portfolio weights and risk against closed forms, exact designs and hand arithmetic."""

import numpy as np
import pytest
from scipy import optimize, stats

from densityjax.risk import portfolio, tails

COVARIANCE = np.array([[4.0, 1.2, 0.3], [1.2, 2.25, -0.45], [0.3, -0.45, 1.0]]) * 1e-4
HEDGE = np.array([[1.0, 1.8], [1.8, 4.0]]) * 1e-4  # the second is sold short to hedge


def gaussian(num_scenarios, covariance=COVARIANCE, seed=0):
    rng = np.random.default_rng(seed)
    return rng.multivariate_normal(np.zeros(len(covariance)), covariance, num_scenarios)


def circles(covariance, num_radii=40, num_angles=60):
    """An exact centred elliptical design of two assets: Rayleigh radii, equal angles."""
    radius = np.sqrt(-2.0 * np.log((np.arange(num_radii) + 0.5) / num_radii))
    angle = 2.0 * np.pi * np.arange(num_angles) / num_angles
    points = radius[:, None, None] * np.stack([np.cos(angle), np.sin(angle)], -1)
    return points.reshape(-1, 2) @ np.linalg.cholesky(covariance).T


def test_the_covariance_of_gaussian_scenarios_is_theirs_within_error():
    num_scenarios = 20_000
    variances = np.diag(COVARIANCE)
    error = np.sqrt((COVARIANCE**2 + np.outer(variances, variances)) / num_scenarios)
    ours = portfolio.scenario_covariance(gaussian(num_scenarios))
    np.testing.assert_array_less(np.abs(ours - COVARIANCE), 5.0 * error)
    by_hand = portfolio.scenario_covariance([[0.01, 0.02], [0.03, -0.02]])
    np.testing.assert_allclose(by_hand, [[2e-4, -4e-4], [-4e-4, 8e-4]], rtol=1e-12)


def test_shrinkage_helps_where_scenarios_are_few():
    truth = 1e-4 * np.eye(20)
    few = gaussian(25, truth, seed=3)
    plain, shrunk = (
        np.linalg.norm(portfolio.scenario_covariance(few, shrinkage=kind) - truth)
        for kind in ("none", "ledoit_wolf")
    )
    assert shrunk < 0.3 * plain


def test_minimum_variance_weights_match_two_closed_forms():
    # Two assets: w1 = (s2^2 - s12) / (s1^2 + s2^2 - 2 s12) = (4 - 1.8) / (1 + 4 - 3.6).
    np.testing.assert_allclose(
        portfolio.minimum_variance_weights(HEDGE), [2.2 / 1.4, -0.8 / 1.4], rtol=1e-12
    )
    inverse = np.linalg.inv(COVARIANCE).sum(1)
    weights = portfolio.minimum_variance_weights(COVARIANCE)
    np.testing.assert_allclose(weights, inverse / inverse.sum(), rtol=1e-12)


def test_long_only_weights_match_a_general_optimiser():
    np.testing.assert_allclose(
        portfolio.minimum_variance_weights(HEDGE, is_long_only=True), [1.0, 0.0], atol=1e-15
    )
    rng = np.random.default_rng(1)
    clipped = 0
    for _ in range(5):
        mixing = rng.normal(size=(5, 5))
        matrix = mixing @ mixing.T + 0.1 * np.eye(5)
        ours = portfolio.minimum_variance_weights(matrix, is_long_only=True)
        other = optimize.minimize(
            lambda w, matrix=matrix: w @ matrix @ w,
            np.full(5, 0.2),
            jac=lambda w, matrix=matrix: 2.0 * matrix @ w,
            bounds=[(0, 1)] * 5,
            constraints={"type": "eq", "fun": lambda w: w.sum() - 1, "jac": lambda _: np.ones(5)},
            options={"ftol": 1e-14},
        )
        assert ours.sum() == pytest.approx(1.0, abs=1e-14)
        np.testing.assert_allclose(ours, other.x, atol=1e-5)
        clipped += np.sum(ours == 0.0)
    assert clipped > 0  # some constraint was at work


def test_minimum_variance_weights_of_the_scenarios_approach_the_closed_form():
    inverse = np.linalg.inv(COVARIANCE).sum(1)
    ours = portfolio.minimum_variance_weights(portfolio.scenario_covariance(gaussian(20_000)))
    # The weights are regression coefficients: their errors are about sqrt(v_min C^-1 / S).
    least = 1.0 / inverse.sum()
    error = np.sqrt(least * np.diag(np.linalg.inv(COVARIANCE)) / 20_000)
    np.testing.assert_array_less(np.abs(ours - inverse / inverse.sum()), 5.0 * error)


def test_shortfall_and_value_at_risk_of_a_sample_worked_by_hand():
    returns = np.arange(-5, 5)[:, None] / 100.0  # -5, -4, ..., 4 %

    def shortfall(tail):
        return portfolio.portfolio_expected_shortfall(returns, [1.0], 1.0 - tail)

    ours = [shortfall(tail) for tail in (0.10, 0.15, 0.25, 0.30)]
    np.testing.assert_allclose(ours, [0.05, 0.07 / 1.5, 0.105 / 2.5, 0.04], rtol=1e-12)
    values = [
        portfolio.portfolio_value_at_risk(returns, [1.0], 1.0 - tail)
        for tail in (0.10, 0.15, 0.20, 0.01)
    ]
    np.testing.assert_allclose(values, [0.05, 0.04, 0.04, 0.05], rtol=1e-12)
    assert shortfall(0.01) == pytest.approx(0.05)


@pytest.mark.parametrize("confidence", [0.9, 0.95, 0.99])
def test_the_shortfall_of_one_asset_is_the_sample_shortfall(x64, confidence):
    returns = gaussian(2000)
    weights = [0.0, 2.0, 0.0]
    ours = portfolio.portfolio_expected_shortfall(returns, weights, confidence)
    value = portfolio.portfolio_value_at_risk(returns, weights, confidence)
    column = 2.0 * returns[:, 1]
    assert ours == pytest.approx(float(tails.sample_expected_shortfall(column, confidence)))
    assert value == pytest.approx(float(tails.sample_value_at_risk(column, confidence)))
    # And both are near the normal law's: the tail mean has sd about s / sqrt(n (1 - c)).
    error = 0.03 / np.sqrt(2000 * (1 - confidence))
    exact = stats.norm.pdf(stats.norm.ppf(confidence)) / (1 - confidence) * 0.03
    assert ours == pytest.approx(exact, abs=5 * error)


def test_shortfall_contributions_sum_and_are_the_derivative():
    returns, weights = gaussian(1000), np.array([0.5, -0.3, 0.8])
    found = portfolio.expected_shortfall_contributions(returns, weights, 0.973)
    total = portfolio.portfolio_expected_shortfall(returns, weights, 0.973)
    assert found.total == pytest.approx(total, rel=1e-13)
    assert found.component.sum() == pytest.approx(total, rel=1e-13)
    for asset in range(3):
        step = 1e-7 * np.eye(3)[asset]  # too small to change the order of the tail
        up, down = (
            portfolio.portfolio_expected_shortfall(returns, weights + sign * step, 0.973)
            for sign in (1, -1)
        )
        assert found.marginal[asset] == pytest.approx((up - down) / 2e-7, rel=1e-6)


def test_volatility_contributions_of_two_assets_by_hand():
    # w = (.5, .5): variance (1 + 3.6 + 4) / 4 = 2.15e-4; C w = (1.4, 2.9)e-4.
    found = portfolio.volatility_contributions(HEDGE, [0.5, 0.5])
    volatility = np.sqrt(2.15e-4)
    assert found.total == pytest.approx(volatility, rel=1e-12)
    np.testing.assert_allclose(found.marginal, np.array([1.4e-4, 2.9e-4]) / volatility, rtol=1e-12)
    np.testing.assert_allclose(found.component, 0.5 * found.marginal, rtol=1e-12)


@pytest.mark.parametrize("confidence", [0.9, 0.975])
def test_least_shortfall_weights_of_a_centred_elliptical_law_have_least_variance(confidence):
    covariance = np.array([[4.0, 0.5], [0.5, 1.0]]) * 1e-4
    found = portfolio.minimum_expected_shortfall_weights(circles(covariance), confidence)
    expected = portfolio.minimum_variance_weights(covariance)  # (.5, 3.5) / 4
    # Sixty angles and forty radii: the level lines of the shortfall are polygons, not ellipses.
    np.testing.assert_allclose(found.weights, expected, atol=0.02)
    assert found.weights.sum() == pytest.approx(1.0, abs=1e-12)


def test_least_shortfall_weights_beat_a_grid_and_keep_to_their_caps():
    rng = np.random.default_rng(5)
    returns = rng.standard_t(3, (400, 3)) * [0.02, 0.015, 0.01] + [0.004, 0.001, 0.0]
    free = portfolio.minimum_expected_shortfall_weights(returns, 0.95)
    capped = portfolio.minimum_expected_shortfall_weights(returns, 0.95, max_weight=0.4)
    grid = [(i, j, 40 - i - j) for i in range(41) for j in range(41 - i)]
    for found, cap in ((free, 1.0), (capped, 0.4)):
        best = min(
            portfolio.portfolio_expected_shortfall(returns, np.array(w) / 40.0, 0.95)
            for w in grid
            if max(w) <= 40 * cap
        )
        assert found.expected_shortfall <= best + 1e-12
        assert found.expected_shortfall > 0.97 * best  # and no better than a finer grid can be
        assert found.weights.max() <= cap
        assert found.value_at_risk <= found.expected_shortfall
    assert free.weights.max() > 0.4
    assert capped.expected_shortfall > free.expected_shortfall


@pytest.mark.parametrize(
    ("call", "match"),
    [
        (lambda r: portfolio.scenario_covariance(r[0]), "scenarios"),
        (lambda r: portfolio.scenario_covariance(r * np.nan), "finite"),
        (lambda r: portfolio.scenario_covariance(r, shrinkage="oas"), "shrinkage"),
        (lambda r: portfolio.minimum_variance_weights(-np.eye(2)), "positive definite"),
        (lambda r: portfolio.minimum_variance_weights([[1.0, 0.1], [0.2, 1.0]]), "symmetric"),
        (lambda r: portfolio.minimum_variance_weights(r), "covariance"),
        (lambda r: portfolio.portfolio_returns(r, [1.0]), "weights"),
        (lambda r: portfolio.portfolio_value_at_risk(r, np.ones(3), 1.0), "confidence"),
        (lambda r: portfolio.minimum_expected_shortfall_weights(r, 95.0), "confidence"),
        (
            lambda r: portfolio.minimum_expected_shortfall_weights(r, 0.9, max_weight=0.3),
            "max_weight",
        ),
        (lambda r: portfolio.volatility_contributions(COVARIANCE, np.zeros(3)), "variance"),
    ],
)
def test_wrong_arguments_are_named(call, match):
    with pytest.raises(ValueError, match=match):
        call(gaussian(50))
