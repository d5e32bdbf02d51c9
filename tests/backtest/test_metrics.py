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


def test_a_year_cannot_lose_more_than_all():
    with pytest.raises(ValueError, match="a rate per year is -10"):
        metrics.sharpe_ratio(REFERENCE, periods_per_year=252, risk_free_rate=-10.0)


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


TENTHS = np.arange(-5, 5) / 100.0  # -5, -4, ..., 4 %


@pytest.mark.parametrize(
    ("confidence", "expected"), [(0.90, 0.05), (0.85, 0.0466667), (0.75, 0.042), (0.70, 0.04)]
)
def test_expected_shortfall_takes_a_share_of_a_bar(confidence, expected):
    figure = metrics.expected_shortfall(TENTHS, confidence=confidence)
    np.testing.assert_allclose(figure, expected, atol=5e-8)
    # Rockafellar and Uryasev: the minimum over c of c + mean(max(loss - c, 0)) / tail.
    levels = -TENTHS
    objective = [c + np.mean(np.maximum(-TENTHS - c, 0.0)) / (1.0 - confidence) for c in levels]
    np.testing.assert_allclose(figure, min(objective), rtol=1e-12)


def test_value_at_risk_names_its_interpolation():
    assert metrics.value_at_risk(TENTHS, confidence=0.9) == pytest.approx(0.041)
    exact = metrics.value_at_risk(TENTHS, confidence=0.9, method="inverted_cdf")
    assert exact == pytest.approx(0.05)
    jump = np.array([1, 81, 82, 83, 84, 85.0])
    for tail, loss in ((0.2, 81.0), (0.3, 81.5)):
        found = metrics.value_at_risk(jump, confidence=1 - tail)
        assert found == pytest.approx(-loss)
    with pytest.raises(ValueError, match="method is 'nearest'"):
        metrics.value_at_risk(TENTHS, confidence=0.5, method="nearest")
    with pytest.raises(ValueError, match="confidence is 1"):
        metrics.expected_shortfall(TENTHS, confidence=1.0)
    with pytest.warns(UserWarning, match="10 bars hold less than one"):
        metrics.value_at_risk(TENTHS, confidence=0.99)


def test_tail_ratio_compares_far_gains_with_far_losses():
    skewed = np.concatenate([TENTHS, 3.0 * np.abs(TENTHS)])
    low, high = np.quantile(skewed, [0.05, 0.95])
    np.testing.assert_allclose(metrics.tail_ratio(skewed), high / -low)
    np.testing.assert_allclose(metrics.tail_ratio(np.arange(-20, 21) / 100.0), 1.0)


def test_ulcer_index_and_mean_duration_of_a_hand_made_curve():
    equity = np.array([100.0, 90.0, 95.0, 100.0, 110.0, 88.0])
    returns = equity[1:] / equity[:-1] - 1
    depths = [0.1, 0.05, 0.0, 0.0, 0.2]
    np.testing.assert_allclose(metrics.ulcer_index(returns), np.sqrt(np.mean(np.square(depths))))
    assert metrics.average_drawdown_duration(returns) == (2 + 1) / 2
    assert metrics.average_drawdown_duration([0.1]) == metrics.ulcer_index([0.1]) == 0.0


def test_the_adjusted_sharpe_ratio_is_that_of_the_sums_it_stands_for():
    # AR(1) of .3 over 10 bars a year: the ratio of yearly sums is estimated from the sums too.
    noise = np.random.default_rng(3).normal(size=200_000)
    path = np.empty_like(noise)
    path[0] = noise[0]
    for t in range(1, noise.size):
        path[t] = 0.3 * path[t - 1] + noise[t]
    path += 0.1
    adjusted = metrics.autocorrelation_adjusted_sharpe_ratio(path, periods_per_year=10, num_lags=9)
    sums = path.reshape(-1, 10).sum(1)
    error = 5 / np.sqrt(sums.size)  # five standard errors of the ratio of 20,000 sums
    assert adjusted == pytest.approx(sums.mean() / sums.std(ddof=1), abs=error)
    assert metrics.sharpe_ratio(path, periods_per_year=10) > adjusted + error
    plain = metrics.autocorrelation_adjusted_sharpe_ratio(path, periods_per_year=10, num_lags=0)
    assert plain == pytest.approx(metrics.sharpe_ratio(path, periods_per_year=10))
    one = metrics.autocorrelation_adjusted_sharpe_ratio(path, periods_per_year=1)
    assert one == pytest.approx(metrics.sharpe_ratio(path))  # no lag inside a year of one bar


def test_daily_returns_compound_within_utc_days():
    index = pd.date_range("2024-01-01 22:00", periods=5, freq="h", tz="UTC")
    daily = metrics.daily_returns([0.1, 0.1, -0.5, 0.0, 1.0], index)
    np.testing.assert_allclose(daily, [0.21, 0.0], atol=1e-15)
    assert list(daily.index.day) == [1, 2]


def test_break_even_cost_makes_the_sum_of_net_returns_zero():
    gross, traded = np.array([0.01, -0.002, 0.004]), np.array([1.0, 0.5, 2.0])
    cost = metrics.break_even_cost_bps(gross, traded)
    np.testing.assert_allclose(np.sum(gross - 1e-4 * cost * traded), 0.0, atol=1e-17)
    assert np.isnan(metrics.break_even_cost_bps(gross, np.zeros(3)))


def test_capacity_is_where_the_mean_square_root_impact_is_reached():
    rng = np.random.default_rng(0)
    traded, spread, value = rng.uniform(0, 1, 50), rng.uniform(0.01, 0.02, 50), np.full(50, 1e6)
    traded[::5] = 0.0
    equity = metrics.capacity(traded, spread, value, impact_bps=5.0, impact_coefficient=0.8)
    impact = 0.8 * spread * np.sqrt(equity * traded / value)
    np.testing.assert_allclose(np.sum(impact * traded) / traded.sum(), 5e-4)
    four = metrics.capacity(traded, spread, value, impact_bps=10.0, impact_coefficient=0.8)
    np.testing.assert_allclose(four, 4 * equity)
    assert metrics.capacity([0.0], [0.1], [1.0], impact_bps=1.0) == np.inf
    with pytest.raises(ValueError, match="traded_value is zero"):
        metrics.capacity([1.0], [0.1], [0.0], impact_bps=1.0)


def test_gross_and_net_exposure_differ_where_there_are_shorts():
    weights = [1.0, -0.5, 0.0, 0.5]
    assert metrics.gross_exposure(weights) == 0.5
    assert metrics.net_exposure(weights) == 0.25


GAPPY = [np.nan, *REFERENCE]


@pytest.mark.parametrize(
    ("figure", "kwargs"),
    [
        (metrics.annual_return, {"periods_per_year": 252}),
        (metrics.annual_volatility, {"periods_per_year": 252}),
        (metrics.sharpe_ratio, {}),
        (metrics.sortino_ratio, {}),
        (metrics.downside_deviation, {}),
        (metrics.calmar_ratio, {"periods_per_year": 252}),
        (metrics.value_at_risk, {"confidence": 0.8}),
        (metrics.expected_shortfall, {"confidence": 0.8}),
        (metrics.tail_ratio, {"confidence": 0.8}),
        (metrics.ulcer_index, {}),
    ],
)
def test_each_policy_on_missing_returns_gives_its_own_figure(figure, kwargs):
    with pytest.raises(ValueError, match=r"returns\[0\] is nan"):
        figure(GAPPY, **kwargs)
    omitted = figure(GAPPY, nan_policy="omit", **kwargs)
    as_zero = figure(GAPPY, nan_policy="zero", **kwargs)
    assert omitted == figure(REFERENCE, **kwargs)
    assert as_zero == figure([0.0, *REFERENCE], **kwargs)
    assert omitted != as_zero


def test_a_missing_bar_that_counts_lowers_growth_to_its_known_value():
    growth = metrics.annual_return(GAPPY, periods_per_year=252, nan_policy="zero")
    np.testing.assert_allclose(growth, 1.9135925373194231, rtol=1e-12)
    with pytest.raises(ValueError, match="nan_policy is 'keep'"):
        metrics.total_return(GAPPY, nan_policy="keep")


@pytest.mark.parametrize("figure", [metrics.total_return, metrics.win_rate, metrics.sharpe_ratio])
def test_nan_returns_raise_and_are_named(figure):
    with pytest.raises(ValueError, match=r"returns\[1\] is nan"):
        figure([0.01, np.nan, np.nan])
    with pytest.raises(ValueError, match=r"returns has shape \(2, 1\)"):
        figure([[0.01], [0.02]])
