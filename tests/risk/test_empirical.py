"""Forecasts by quantiles: against samples, known laws and their own causality."""

import numpy as np
import pytest
from scipy import stats

from densityjax.risk import baselines, coverage, scoring
from densityjax.risk.empirical import (
    PROBABILITIES,
    QuantileForecast,
    filtered_historical_simulation,
    historical_simulation,
    quantile_boosting,
)

RNG = np.random.default_rng(11)
NOISE = 0.01 * RNG.standard_t(5, 6000)


def garch_returns(size):
    """GARCH(1, 1) with skewed innovations: centred exponential minus a normal."""
    rng = np.random.default_rng(5)
    z = (rng.standard_normal(size) - 0.8 * (rng.exponential(size=size) - 1.0)) / np.sqrt(1.64)
    returns, variance = np.empty(size), 1e-4
    for t in range(size):
        returns[t] = np.sqrt(variance) * z[t]
        variance = 2e-6 + 0.1 * returns[t] ** 2 + 0.88 * variance
    return returns


def test_historical_simulation_is_the_quantile_of_each_window():
    found = historical_simulation(NOISE, window=250)
    assert np.isnan(found.quantiles[:249]).all()
    for t in (249, 250, 4097, 5999):
        window = NOISE[t - 249 : t + 1]
        np.testing.assert_allclose(found.quantiles[t], np.quantile(window, PROBABILITIES))
        assert found.value_at_risk(0.99)[t] == pytest.approx(-np.quantile(window, 0.01))


def test_the_shortfall_of_a_fine_quantile_table_is_that_of_the_law():
    levels = np.linspace(1e-5, 1 - 1e-5, 40_001)
    law = QuantileForecast(levels, stats.norm.ppf(levels)[None])
    for confidence, expected in ((0.99, 2.6652142203), (0.975, 2.3378027922), (0.95, 2.0627128075)):
        assert law.expected_shortfall(confidence)[0] == pytest.approx(expected, rel=2e-3)
    assert law.quantile(1e-9) == law.quantiles[:, 0]
    assert law[np.array([True])].quantile(0.5)[0] == pytest.approx(0.0, abs=1e-12)


def test_filtered_simulation_scales_its_own_residuals_and_beats_the_plain_one():
    returns, num_train = garch_returns(6000), 3000
    found = filtered_historical_simulation(returns, num_train=num_train)
    law = baselines.gjr_skewt(returns, num_train=num_train)
    standard = (found.quantiles - law.location[:, None]) / law.scale[:, None]
    np.testing.assert_allclose(standard, np.broadcast_to(standard[0], standard.shape), atol=1e-9)
    test = slice(num_train - 1, -1)
    following, plain = returns[num_train:], historical_simulation(returns)
    for probability in (0.01, 0.05):
        violations = following < found.quantile(probability)[test]
        # 3,000 bars: the binomial band at 1 in 1,000
        low, high = stats.binom.interval(0.999, following.size, probability)
        assert low <= violations.sum() <= high
    losses = [
        scoring.pinball_loss(following, forecast.quantile(0.05)[test], 0.05)
        for forecast in (found, plain)
    ]
    assert scoring.diebold_mariano(*losses).statistic > 2.0
    assert coverage.christoffersen_test(violations, 0.05).p_value > 0.001


def test_boosted_quantiles_find_a_law_that_depends_on_the_context():
    rng = np.random.default_rng(2)
    context = rng.uniform(-1.0, 1.0, (6000, 3))
    width = np.exp(context[:, 0])
    returns = 0.01 * width * rng.standard_normal(6000)
    found = quantile_boosting(context, np.full(6000, 0.01), returns, num_train=4000)
    assert (np.diff(found.quantiles, axis=1) >= 0.0).all()
    test = slice(4000, None)
    for probability in (0.05, 0.5, 0.9):
        truth = 0.01 * width[test] * stats.norm.ppf(probability)
        error = np.abs(found.quantile(probability)[test] - truth) / (0.01 * width[test])
        assert np.median(error) < 0.15
    rate = np.mean(returns[test] < found.quantile(0.05)[test])
    assert abs(rate - 0.05) < 4 * np.sqrt(0.05 * 0.95 / 2000)


def test_later_returns_change_no_earlier_row():
    returns, other = garch_returns(1500), garch_returns(1500)
    other[1200:] = NOISE[:300]
    context = RNG.standard_normal((1500, 2))
    for forecast in (
        lambda r: historical_simulation(r, window=100),
        lambda r: filtered_historical_simulation(r, num_train=1000),
        lambda r: quantile_boosting(
            context, np.full(1500, 0.01), np.append(r[1:], np.nan), num_train=1000, max_iter=5
        ),
    ):
        assert np.array_equal(
            forecast(returns).quantiles[:1200], forecast(other).quantiles[:1200], equal_nan=True
        )


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: historical_simulation([0.1, np.nan]), "returns must be finite"),
        (lambda: historical_simulation(NOISE[:100]), r"window must be in \[2, 100\] returns"),
        (lambda: filtered_historical_simulation(NOISE, num_train=5), "num_train must be in"),
        (lambda: quantile_boosting(NOISE, NOISE, NOISE, num_train=500), "must agree"),
        (
            lambda: quantile_boosting(NOISE[:, None], -1 + 0 * NOISE, NOISE, num_train=500),
            "scale must be positive, got -1",
        ),
        (
            lambda: quantile_boosting(NOISE[:, None], 1 + 0 * NOISE, NOISE, num_train=50),
            "num_train must leave 100 known returns, got 50",
        ),
        (
            lambda: quantile_boosting(
                NOISE[:, None], 1 + 0 * NOISE, NOISE, num_train=500, probabilities=(0.5, 0.1)
            ),
            "probabilities must increase",
        ),
    ],
)
def test_bad_input_is_named(call, words):
    with pytest.raises(ValueError, match=words):
        call()
