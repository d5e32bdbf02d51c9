"""The metrics against published reference values, hand arithmetic and pandas."""

import math

import numpy as np
import pandas as pd
import pytest

from densityjax.backtest import metrics

REFERENCE = np.array([1, 10, -4, 2, 3, 2, 1, -10]) / 100.0
THREE = [0.03, -0.01, -0.01]


@pytest.mark.parametrize(
    ("figure", "expected"),
    [
        (metrics.sharpe_ratio(REFERENCE, periods_per_year=252), 1.7238613961706866),
        (metrics.annual_volatility(REFERENCE, periods_per_year=252), 0.9136465399704637),
        (metrics.downside_deviation(REFERENCE, periods_per_year=252), 0.6044832503882965),
        (metrics.sortino_ratio(REFERENCE, periods_per_year=252), 2.605531251673693),
        (metrics.max_drawdown(REFERENCE), 0.10),
        (metrics.profit_factor(REFERENCE), 1.357142857142857),
        (metrics.omega_ratio(REFERENCE), 1.357142857142857),
        (metrics.hit_rate(REFERENCE, np.ones(8)), 0.75),
    ],
)
def test_reference_values_of_eight_returns(figure, expected):
    np.testing.assert_allclose(figure, expected, rtol=1e-12)


def test_reference_growth_of_eight_returns():
    np.testing.assert_allclose(metrics.total_return(REFERENCE), 0.0389310917, atol=1e-10)
    growth = metrics.annual_return(REFERENCE, periods_per_year=252)
    np.testing.assert_allclose(growth, 2.3302927973, atol=1e-10)


def test_figures_agree_with_pandas_on_a_random_path():
    returns = pd.Series(np.random.default_rng(0).normal(0.001, 0.02, 500))
    equity = pd.concat([pd.Series([1.0]), (1 + returns).cumprod()])
    sharpe = metrics.sharpe_ratio(returns, periods_per_year=365)
    np.testing.assert_allclose(sharpe, returns.mean() / returns.std() * math.sqrt(365))
    drawdown = (1 - equity / equity.cummax()).max()
    np.testing.assert_allclose(metrics.max_drawdown(returns), drawdown)
    growth = metrics.annual_return(returns, periods_per_year=365)
    np.testing.assert_allclose(growth, equity.iloc[-1] ** (365 / 500) - 1)
    calmar = metrics.calmar_ratio(returns, periods_per_year=365)
    np.testing.assert_allclose(calmar, growth / drawdown)


def test_ex_06_hourly_and_daily_sharpe_of_the_same_returns_differ_by_the_root_of_24():
    hourly = metrics.sharpe_ratio(REFERENCE, periods_per_year=8_760)
    daily = metrics.sharpe_ratio(REFERENCE, periods_per_year=365)
    np.testing.assert_allclose(hourly / daily, math.sqrt(24), rtol=1e-12)


def test_ex_07_sortino_divides_by_the_downside_of_all_bars():
    np.testing.assert_allclose(metrics.sortino_ratio(THREE), 0.408248, atol=1e-6)
    # A constant loss has a downside, though its losses have no spread.
    np.testing.assert_allclose(metrics.sortino_ratio(np.full(20, -0.01)), -1.0)


def test_ex_08_drawdown_counts_the_start_and_compounds():
    np.testing.assert_allclose(metrics.max_drawdown([-0.10, 0.02]), 0.10)
    equity = np.array([100.0, 120.0, 90.0, 130.0])
    np.testing.assert_allclose(metrics.max_drawdown(equity[1:] / equity[:-1] - 1), 0.25)


def test_ex_10_win_rate_is_of_trades_and_hit_rate_of_bars():
    bars = np.array([2, -1, 2, -1, 2, -1, 2, -1, 2, 2]) / 100.0  # one trade of ten bars
    assert metrics.win_rate([metrics.total_return(bars)]) == 1.0
    np.testing.assert_allclose(metrics.hit_rate(bars, np.ones(10)), 0.6)


def test_e335_23_profit_factor_is_of_sums_and_payoff_ratio_of_means():
    np.testing.assert_allclose(metrics.profit_factor(THREE), 1.5)
    np.testing.assert_allclose(metrics.payoff_ratio(THREE), 3.0)
    rate = metrics.win_rate(THREE)
    np.testing.assert_allclose(metrics.profit_factor(THREE), 3.0 * rate / (1 - rate))


def test_calmar_of_a_curve_of_three_points():
    # 1 -> 0.8 -> 1.44 in two bars, one bar a year: growth 20 %, drawdown 20 %.
    np.testing.assert_allclose(metrics.calmar_ratio([-0.2, 0.8], periods_per_year=1), 1.0)


def test_average_drawdown_and_duration_count_separate_falls_and_the_open_one():
    equity = np.array([100.0, 90.0, 95.0, 100.0, 110.0, 88.0, 99.0, 104.5])
    returns = equity[1:] / equity[:-1] - 1
    np.testing.assert_allclose(metrics.average_drawdown(returns), (0.1 + 0.2) / 2)
    assert metrics.drawdown_duration(returns) == 3
    assert metrics.average_drawdown([0.1, 0.2]) == 0.0
    assert metrics.drawdown_duration([]) == 0


def test_five_bar_averages():
    weights = [0.0, 1.0, 1.0, -0.5, 0.0]
    np.testing.assert_allclose(metrics.turnover(weights), (1 + 0 + 1.5 + 0.5) / 5)
    np.testing.assert_allclose(metrics.exposure(weights), 0.6)
    np.testing.assert_allclose(metrics.in_distribution_ratio([True, True, False, True, False]), 0.6)
    np.testing.assert_allclose(metrics.average_log_prob([-1.0, -2.0, -3.0, -4.0, 0.5]), -1.9)
    np.testing.assert_allclose(metrics.average_confidence([0.0, 1.0, 0.5, 0.25, 0.25]), 0.4)


def test_a_risk_free_rate_is_compounded_down_to_the_bar():
    per_bar = 1.05 ** (1 / 252) - 1
    expected = metrics.sharpe_ratio(REFERENCE - per_bar, periods_per_year=252)
    actual = metrics.sharpe_ratio(REFERENCE, periods_per_year=252, risk_free_rate=0.05)
    np.testing.assert_allclose(actual, expected, rtol=1e-12)
    expected = metrics.sortino_ratio(REFERENCE - per_bar, periods_per_year=252)
    actual = metrics.sortino_ratio(REFERENCE, periods_per_year=252, minimum_acceptable_return=0.05)
    np.testing.assert_allclose(actual, expected, rtol=1e-12)


def test_ruin_is_absorbing():
    path = [0.1, -1.0, 3.0]
    assert metrics.total_return(path) == -1.0
    assert metrics.annual_return(path, periods_per_year=252) == -1.0
    assert metrics.max_drawdown(path) == 1.0
    assert metrics.total_return([0.1, -1.2, -3.0]) == -1.0  # two negatives do not make a gain


def test_undefined_figures_are_nan_or_infinite_as_documented():
    flat, gains = np.full(5, 0.01), [0.01, 0.02]
    undefined = [
        metrics.sharpe_ratio(flat),
        metrics.sharpe_ratio(np.zeros(5)),
        metrics.sharpe_ratio([0.01]),
        metrics.annual_volatility([0.01], periods_per_year=252),
        metrics.annual_return([], periods_per_year=252),
        metrics.sortino_ratio(np.zeros(5)),
        metrics.sortino_ratio([]),
        metrics.downside_deviation([]),
        metrics.calmar_ratio(gains, periods_per_year=252),
        metrics.omega_ratio(gains),
        metrics.profit_factor([]),
        metrics.profit_factor([0.0]),
        metrics.payoff_ratio(gains),
        metrics.win_rate([]),
        metrics.hit_rate(gains, [0.0, 0.0]),
        metrics.exposure([]),
    ]
    assert np.isnan(undefined).all()
    assert metrics.sortino_ratio(gains) == np.inf
    assert metrics.profit_factor(gains) == np.inf
    assert metrics.max_drawdown(gains) == metrics.total_return([]) == 0.0


@pytest.mark.parametrize("figure", [metrics.total_return, metrics.win_rate, metrics.sharpe_ratio])
def test_nan_returns_raise_and_are_named(figure):
    with pytest.raises(ValueError, match=r"returns\[1\] is nan"):
        figure([0.01, np.nan, np.nan])
    with pytest.raises(ValueError, match=r"returns has shape \(2, 1\)"):
        figure([[0.01], [0.02]])
