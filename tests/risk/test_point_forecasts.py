"""Point forecasts against closed forms, simulation and the rivals that know nothing."""

import numpy as np
import pytest
from scipy import stats

from densityjax.risk.point_forecasts import ar1_forecast, point_score, zero_forecast

TOLD = [0.01, -0.02, 0.0, 0.03, 0.01, -0.01, 0.02, -0.01, 0.02, 0.01]
CAME = [0.02, -0.01, 0.01, -0.01, 0.0, -0.03, 0.01, 0.02, 0.05, 0.01]


def test_scores_of_ten_rows_worked_by_hand():
    found = point_score(TOLD, CAME)
    errors = np.array(CAME) - np.array(TOLD)
    assert found.mean_squared_error == pytest.approx((errors @ errors) / 10)
    assert found.mean_absolute_error == pytest.approx(0.017)
    assert found.directional_accuracy == pytest.approx(6 / 8)  # two rows have a zero
    assert found.information_coefficient == pytest.approx(stats.pearsonr(TOLD, CAME).statistic)
    assert found.rank_information_coefficient == pytest.approx(
        stats.spearmanr(TOLD, CAME).statistic
    )


def test_the_t_of_the_ic_has_unit_variance_when_nothing_is_foretold_and_returns_have_volatility():
    """400 markets of 500 rows with clustered volatility and a persistent forecast."""
    rng = np.random.default_rng(3)
    values = []
    for _ in range(400):
        volatility = np.exp(np.cumsum(0.1 * rng.standard_normal(500)) / 4)
        signal = np.convolve(rng.standard_normal(509), np.ones(10) / 10, "valid")
        came = volatility * rng.standard_normal(500)
        values.append(point_score(signal, came).information_coefficient_t)
    # sd of a sample variance of 400 normals: sqrt(2 / 399) = .07; t is heavier than normal here
    assert 0.8 < np.var(values) < 1.35
    assert abs(np.mean(values)) < 3.5 / np.sqrt(400)


def test_of_an_autoregression_the_line_beats_zero_and_finds_its_own_slope():
    rng = np.random.default_rng(8)
    returns = np.zeros(6000)
    for t in range(1, 6000):
        returns[t] = 0.001 + 0.3 * returns[t - 1] + 0.01 * rng.standard_normal()
    forecast = ar1_forecast(returns, num_train=3000)
    slope = (forecast[10] - forecast[9]) / (returns[10] - returns[9])
    assert abs(slope - 0.3) < 4 * np.sqrt((1 - 0.09) / 3000)
    other = ar1_forecast(np.append(returns[:3000], returns[3000:] * 2), num_train=3000)
    assert np.array_equal(forecast[:3000], other[:3000])
    told, came = forecast[3000:-1], returns[3001:]
    ours, zero = point_score(told, came), point_score(zero_forecast(came), came)
    assert ours.mean_squared_error < zero.mean_squared_error
    assert ours.information_coefficient == pytest.approx(0.3, abs=4 * 0.91 / np.sqrt(2999))
    assert ours.information_coefficient_t > 10
    assert ours.directional_accuracy > 0.55
    assert np.isnan([zero.information_coefficient, zero.directional_accuracy]).all()


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: point_score(TOLD, CAME[:9]), r"must be \[N\] with N >= 10"),
        (lambda: point_score([*TOLD[:9], np.nan], CAME), "must be finite"),
        (lambda: point_score(TOLD, CAME, lag=10), r"lag must be in \[0, 9\], got 10"),
        (lambda: ar1_forecast(CAME, num_train=11), r"num_train must be in \[10, 10\], got 11"),
        (lambda: ar1_forecast([np.inf], num_train=11), "returns must be finite"),
    ],
)
def test_bad_input_is_named(call, words):
    with pytest.raises(ValueError, match=words):
        call()
