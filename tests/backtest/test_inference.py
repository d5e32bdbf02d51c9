"""Luck: published values of the expected maximum, and the coverage of the Sharpe interval."""

import numpy as np
import pytest

from densityjax.backtest import inference


@pytest.mark.parametrize(
    ("num_trials", "expected"),
    [(1, 0.0), (10, 1.57459830), (45, 2.23564018), (100, 2.5306028932016846), (10**6, 4.86786004)],
)
def test_expected_maximum_equals_its_known_values(num_trials, expected):
    assert inference.expected_max_sharpe(num_trials, 1.0) == pytest.approx(expected, abs=1e-8)
    doubled = inference.expected_max_sharpe(num_trials, 2.0)
    assert doubled == pytest.approx(2 * expected, abs=2e-8)


def test_the_sharpe_interval_covers_the_truth_as_often_as_it_says():
    rng = np.random.default_rng(0)
    skewed = rng.gamma(4.0, size=(2000, 500)) / 2.0 - 2.0 + 0.05  # mean .05, sd 1, skewness 1
    intervals = [inference.sharpe_interval(row, periods_per_year=1.0) for row in skewed]
    covered = np.mean([low < 0.05 < high for low, high in intervals])
    # Five standard errors of a share over 2,000 draws, and the error of the asymptotic formula.
    assert covered == pytest.approx(0.95, abs=5 * (0.95 * 0.05 / 2000) ** 0.5 + 0.005)


def test_the_interval_is_annual_and_refuses_what_it_cannot_know():
    values = np.random.default_rng(1).normal(size=100)
    daily = inference.sharpe_interval(values, periods_per_year=1.0)
    hourly = inference.sharpe_interval(values, periods_per_year=24.0)
    np.testing.assert_allclose(hourly, np.multiply(daily, 24**0.5))
    assert np.isnan(inference.sharpe_interval(np.ones(9), periods_per_year=1.0)).all()
    with pytest.raises(ValueError, match="confidence is 1"):
        inference.sharpe_interval(values, periods_per_year=1.0, confidence=1.0)
    with pytest.raises(ValueError, match="num_trials is 0"):
        inference.expected_max_sharpe(0, 1.0)
