"""The horizon: labels by hand, calibration out of sample, causality, saved folders."""

import json

import jax
import numpy as np
import pytest

from densityjax.estimators import ReturnForecaster, forecast_rows
from densityjax.market import simulate_market
from densityjax.risk import kupiec_test, scoring

NUM_TRAIN, HORIZON = 3000, 4  # as many bars, and options, as the tests of one bar have
OPTIONS = {
    "num_members": 2,
    "num_bins": 4,
    "width": 8,
    "num_epochs": 12,
    "batch_size": 128,
    "learning_rate": 2e-3,
}
BARS = simulate_market(jax.random.key(8), 6000).bars


@pytest.fixture(scope="module")
def fitted():
    return ReturnForecaster(horizon=HORIZON, **OPTIONS).fit(BARS.iloc[:NUM_TRAIN])


@pytest.fixture(scope="module")
def forecast(fitted):
    return fitted.predict(BARS)


@pytest.fixture(scope="module")
def held_out(forecast):
    """Forecasts made after the fit's last bar, and the four-bar returns that followed."""
    rows = forecast_rows(BARS, horizon=HORIZON)
    is_new = (rows.index >= BARS.index[NUM_TRAIN]) & np.isfinite(rows.next_return)
    return forecast[is_new], rows.next_return[is_new]


@pytest.mark.parametrize("horizon", [1, 4, 24])
def test_labels_are_log_ratios_of_closes_that_cross_no_gap(horizon):
    bars = BARS.iloc[:600].drop(BARS.index[300:310])  # ten hours without a bar
    rows = forecast_rows(bars, horizon=horizon)
    close = bars["close"]
    by_hand = np.log(close.shift(-horizon) / close)
    arrival = close.index.to_series().shift(-horizon)
    is_whole = arrival - close.index.to_series() == np.timedelta64(horizon, "h")
    by_hand = by_hand.where(is_whole)[rows.index]
    np.testing.assert_allclose(rows.next_return, by_hand, atol=1e-14)
    lost = np.isnan(rows.next_return)
    assert lost[-horizon:].all()
    assert lost[:-horizon].sum() == horizon  # the labels that would step over the gap
    assert rows.horizon == horizon


def test_labels_touch_no_filled_bar():
    bars = BARS.iloc[:400].assign(is_filled=False)
    bars.iloc[200, bars.columns.get_loc("is_filled")] = True
    rows = forecast_rows(bars, horizon=HORIZON)
    lost = rows.index[np.isnan(rows.next_return)][:-HORIZON]
    # From 196 on the return leads to or over the filled bar; at that bar no forecast is made.
    assert lost.equals(bars.index[196:200])
    assert bars.index[200] not in rows.index


def test_the_horizon_changes_the_label_and_the_scale_and_nothing_else():
    one, four = forecast_rows(BARS), forecast_rows(BARS, horizon=HORIZON)
    np.testing.assert_array_equal(one.context, four.context)
    np.testing.assert_allclose(four.log_scale - one.log_scale, np.log(2.0), rtol=1e-5)
    assert 0.7 < np.nanstd(four.next_return / np.exp(four.log_scale)) < 1.4
    assert one.window == four.window


def test_a_direct_forecast_of_four_bars_is_calibrated(held_out):
    forecast, following = held_out
    # Returns of four bars overlap: one row in four is independent, Kupiec's test asks for that.
    for start in range(HORIZON):
        some, returns = forecast[start::HORIZON], following[start::HORIZON]
        for tail in (0.05, 0.95):
            below = returns < some.quantile(tail)
            assert kupiec_test(below if tail < 0.5 else ~below, 0.05).p_value > 0.001
    pit = np.sort(forecast.cdf(following))
    distance = np.abs(pit - (np.arange(len(pit)) + 0.5) / len(pit)).max()
    # 0.1 % point of Kolmogorov's law at a quarter of the rows, for overlap.
    assert distance < 1.95 / (len(pit) / HORIZON) ** 0.5


def test_a_direct_forecast_is_not_worse_than_the_next_bars_forecast_scaled_by_the_root(held_out):
    forecast, following = held_out
    next_bar = ReturnForecaster(**OPTIONS).fit(BARS.iloc[:NUM_TRAIN]).predict(BARS)
    next_bar = next_bar[np.flatnonzero(next_bar.index.isin(forecast.index))]
    root = HORIZON**0.5
    scaled = next_bar.log_prob(following / root) - np.log(root)
    test = scoring.diebold_mariano(-forecast.log_prob(following), -scaled, horizon=HORIZON)
    assert test.statistic > -1.65  # one-sided 5 % point: below it the direct forecast is worse
    wrong = next_bar.log_prob(following)  # a forecast of one bar, not scaled: the test can fail
    assert scoring.diebold_mariano(-wrong, -scaled, horizon=HORIZON).statistic < -1.65


def test_rows_cut_off_leave_earlier_forecasts_bit_identical(fitted, forecast):
    cut = fitted.predict(BARS.iloc[:4000])
    past = forecast[: len(cut)]
    assert cut.index.equals(BARS.index[4000 - len(cut) : 4000])  # forecasts up to the last bar
    for leaf, same in zip(jax.tree.leaves(cut.members), jax.tree.leaves(past.members), strict=True):
        np.testing.assert_array_equal(leaf, same)


def test_a_saved_forecaster_keeps_its_horizon_and_an_old_folder_means_one_bar(
    fitted, forecast, tmp_path
):
    fitted.save(tmp_path / "four")
    loaded = ReturnForecaster.load(tmp_path / "four")
    assert loaded.horizon_ == loaded.horizon == HORIZON
    np.testing.assert_array_equal(loaded.predict(BARS).quantile(0.05), forecast.quantile(0.05))
    settings = tmp_path / "four" / "estimator.json"
    record = json.loads(settings.read_text())
    del record["constructor"]["horizon"], record["fitted"]["horizon"]
    settings.write_text(json.dumps(record))
    old = ReturnForecaster.load(tmp_path / "four")
    assert old.horizon_ == old.horizon == 1


@pytest.mark.parametrize("horizon", [0, -1, 1.5, True, "4", None])
def test_a_horizon_that_is_no_positive_integer_is_named(horizon):
    with pytest.raises(ValueError, match=r"horizon is .*: accepted is an integer >= 1"):
        ReturnForecaster(horizon=horizon).fit(BARS)
    with pytest.raises(ValueError, match="horizon is"):
        forecast_rows(BARS, horizon=horizon)


def test_a_horizon_longer_than_the_bars_is_named():
    with pytest.raises(ValueError, match="too few"):
        ReturnForecaster(horizon=3000).fit(BARS.iloc[:NUM_TRAIN])
