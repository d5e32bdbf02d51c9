"""The forecaster on bars of known law: causal, aligned, sharper than a constant law, repeatable."""

import jax
import numpy as np
import pandas as pd
import pytest
from scipy import stats
from sklearn.base import clone
from sklearn.exceptions import NotFittedError

from densityjax.estimators import ReturnForecaster, forecast_rows
from densityjax.market import simulate_market

NUM_TRAIN = 3000
# Fits with these options to as many hourly bars with volume share their programs with other tests.
OPTIONS = {
    "num_members": 2,
    "num_bins": 4,
    "width": 8,
    "num_epochs": 12,
    "batch_size": 128,
    "learning_rate": 2e-3,
}
BARS = simulate_market(jax.random.key(5), 4000).bars
RETURNS = np.diff(np.log(BARS["close"].to_numpy()), append=np.nan)  # to the next close


@pytest.fixture(scope="module")
def fitted():
    return ReturnForecaster(**OPTIONS).fit(BARS.iloc[:NUM_TRAIN])


@pytest.fixture(scope="module")
def forecast(fitted):
    return fitted.predict(BARS)


def held_out(forecast):
    """Forecasts of the bars after the fit, and the returns that followed them."""
    is_new = forecast.index >= BARS.index[NUM_TRAIN]
    rows = BARS.index.get_indexer(forecast.index)
    is_new &= rows < len(BARS) - 1  # the last bar has no next one yet
    return forecast[is_new], RETURNS[rows[is_new]]


def test_rows_are_the_bars_with_enough_history_and_labels_the_next_return():
    rows = forecast_rows(BARS)
    assert rows.index.equals(BARS.index[-len(rows.index) :])
    np.testing.assert_allclose(rows.next_return, RETURNS[-len(rows.index) :], atol=1e-14)
    assert np.isnan(rows.next_return).tolist() == [False] * (len(rows.index) - 1) + [True]
    assert rows.context.shape == (len(rows.index), len(rows.names))
    assert "log_scale" not in rows.names
    assert np.isfinite(rows.context).all()
    assert len(rows.index) == len(BARS) - rows.window
    # The scale is that of the next return: dividing by it leaves a spread of order one.
    assert 0.7 < np.nanstd(rows.next_return / np.exp(rows.log_scale)) < 1.4


def test_it_forecasts_every_bar_with_history_and_no_other(forecast):
    assert forecast.index.equals(forecast_rows(BARS).index)
    assert len(forecast) == len(forecast.index)
    for values in (forecast.mean(), forecast.std(), forecast.value_at_risk(0.99)):
        assert values.shape == (len(forecast),)
        assert np.isfinite(values).all()
    assert (forecast.expected_shortfall(0.99) > forecast.value_at_risk(0.99)).all()


def test_out_of_sample_it_beats_a_constant_student_t_and_is_calibrated(forecast):
    new, following = held_out(forecast)
    gain = new.log_prob(following) - stats.t(*stats.t.fit(RETURNS[: NUM_TRAIN - 1])).logpdf(
        following
    )
    assert gain.mean() > 3 * gain.std() / len(gain) ** 0.5
    assert stats.kstest(new.cdf(following), "uniform").statistic < 0.08
    violations = (following < -new.value_at_risk(0.95)).mean()
    assert violations == pytest.approx(0.05, abs=5 * (0.05 * 0.95 / len(following)) ** 0.5)


def test_row_t_is_of_the_return_after_t(forecast):
    new, following = held_out(forecast)
    aligned = new.log_prob(following).mean()
    for seed in range(3):
        shuffled = np.random.default_rng(seed).permutation(following)
        assert aligned > new.log_prob(shuffled).mean() + 0.02
    # Volatility clusters, so that a sharp forecast belongs to its own time and to no distant one.
    assert aligned > new.log_prob(np.roll(following, 300)).mean() + 0.02
    size = np.abs(following)
    assert stats.spearmanr(new.std(), size).statistic > 5 / len(size) ** 0.5


def test_e335_16_equal_states_get_equal_answers_and_other_states_others(fitted, forecast):
    again = fitted.predict(BARS)
    np.testing.assert_array_equal(again.mean(), forecast.mean())
    np.testing.assert_array_equal(again.mean(), again.mean())
    assert len(np.unique(forecast.mean())) > 0.9 * len(forecast)


def test_a_replaced_future_leaves_earlier_forecasts_bit_identical(fitted, forecast):
    changed, last = BARS.copy(), 3500
    noise = np.random.default_rng(0).uniform(0.5, 2.0, (len(BARS) - last - 1, 1))
    prices = ["open", "high", "low", "close"]
    changed.iloc[last + 1 :, [BARS.columns.get_loc(name) for name in prices]] *= noise
    changed.iloc[last + 1 :, BARS.columns.get_loc("volume")] *= 3.0
    other = fitted.predict(changed)
    is_past = other.index <= BARS.index[last]
    for leaf, same in zip(
        jax.tree.leaves(other[is_past].members),
        jax.tree.leaves(forecast[is_past].members),
        strict=True,
    ):
        np.testing.assert_array_equal(leaf, same)
    assert (other[~is_past].std() != forecast[~is_past].std()).all()


def numbers(forecast):
    """What decisions are made from, in units of the standard deviation or as they are."""
    return {
        "mean": forecast.mean() / forecast.std(),
        "std": forecast.std(),
        "quantile": forecast.quantile(0.05),
        "shortfall": forecast.expected_shortfall(0.95),
        "log_prob": forecast.log_prob(np.full(len(forecast), 1e-3)),
    }


def test_ex_02_cut_off_bars_leave_earlier_forecasts_bit_identical(fitted, forecast):
    for last in (3500, 700):
        cut = fitted.predict(BARS.iloc[:last])
        past = numbers(forecast[: len(cut)])
        for name, values in numbers(cut).items():
            np.testing.assert_array_equal(values, past[name], err_msg=name)


def test_ex_02_a_row_read_alone_equals_that_of_the_whole_to_the_last_digits(fitted, forecast):
    # Few rows run in another compiled size, whose sums are rounded in another order.
    few = fitted.predict(BARS.iloc[:100])
    past = numbers(forecast[: len(few)])
    for name, values in numbers(few).items():
        np.testing.assert_allclose(values, past[name], rtol=1e-5, atol=1e-5 * (name == "mean"))


def test_ex_02_old_bars_are_forgotten_to_1e_5_once_enough_newer_ones_are_kept():
    bars = simulate_market(jax.random.key(6), 9000).bars
    days = pd.date_range("1990-01-01", periods=9000, freq="D", tz="UTC", name="timestamp")

    def errors(frame, kept):
        """Largest change of each input of the last forecast when older bars are cut off."""
        whole, cut = forecast_rows(frame), forecast_rows(frame.iloc[-kept:])
        assert cut.names == whole.names
        change = np.abs(cut.context[-1] - whole.context[-1])
        scale = np.abs(cut.log_scale[-1] - whole.log_scale[-1])
        return dict(zip((*cut.names, "log_scale"), (*change, scale), strict=True))

    # Inputs are of order one. Their longest mean has a half-life of 250 bars, so that 6,000 bars
    # leave 2^-24 of what came before, and 1,000 bars leave more: the claim needs its history.
    assert max(errors(bars.set_axis(days), 6000).values()) < 1e-5
    assert max(errors(bars.set_axis(days), 1000).values()) > 1e-3
    # Within the day there is the profile of the week besides, whose memory is of many weeks.
    intraday = errors(bars, 6000)
    assert {name for name, error in intraday.items() if error > 2e-5} == {"week_slot_log_ratio"}


def test_trn_06_a_saved_forecaster_answers_bit_for_bit_alike(fitted, forecast, tmp_path):
    fitted.save(tmp_path / "forecaster")
    loaded = ReturnForecaster.load(tmp_path / "forecaster")
    again = loaded.predict(BARS)
    assert again.index.equals(forecast.index)
    for probability in (0.01, 0.5):
        np.testing.assert_array_equal(again.quantile(probability), forecast.quantile(probability))
    assert loaded.get_params() == fitted.get_params() == clone(fitted).get_params()
    with pytest.raises(ValueError, match="nothing"):
        ReturnForecaster.load(tmp_path / "nothing")


def test_ex_17_the_seed_decides_the_fit_and_an_interrupted_fit_goes_on(fitted, forecast, tmp_path):
    def interrupt(progress):
        raise InterruptedError

    options = {"checkpoint_path": tmp_path / "fit"}
    resumed = ReturnForecaster(**OPTIONS)
    with pytest.raises(InterruptedError):
        resumed.fit(BARS.iloc[:NUM_TRAIN], callback=interrupt, **options)
    resumed.fit(BARS.iloc[:NUM_TRAIN], **options)
    np.testing.assert_array_equal(resumed.predict(BARS).mean(), forecast.mean())
    other = ReturnForecaster(**OPTIONS, random_state=1).fit(BARS.iloc[:NUM_TRAIN])
    assert (other.predict(BARS).mean() != forecast.mean()).mean() > 0.9
    assert (np.asarray(fitted.history_.num_epochs) >= 1).all()


def test_bars_without_volume_have_their_own_columns_and_another_fits_do_not_fit_them(fitted):
    plain = BARS.drop(columns="volume")
    rows = forecast_rows(plain)
    missing = set(forecast_rows(BARS).names) - set(rows.names)
    assert missing == {"log_volume", "log_volume_trend"}
    with pytest.raises(ValueError, match=r"other context columns.*log_volume"):
        fitted.predict(plain)
    quick = ReturnForecaster(**OPTIONS, tail="none").fit(plain.iloc[:NUM_TRAIN])
    assert np.isfinite(quick.predict(plain).mean()).all()


def test_too_few_bars_or_a_call_before_the_fit_are_named(fitted, tmp_path):
    with pytest.raises(ValueError, match="bars"):
        fitted.predict(BARS.iloc[:50])
    with pytest.raises(ValueError, match="too few"):
        ReturnForecaster(**OPTIONS).fit(BARS.iloc[:200])
    with pytest.raises(ValueError, match="num_members is 0"):
        ReturnForecaster(num_members=0).fit(BARS.iloc[:NUM_TRAIN])
    with pytest.raises(NotFittedError):
        ReturnForecaster().predict(BARS)
    with pytest.raises(NotFittedError):
        ReturnForecaster().save(tmp_path / "x")


@pytest.mark.parametrize(
    ("bars", "match"),
    [
        (
            BARS.to_numpy(),
            r"bars is a ndarray of shape \(4000, 5\): accepted is a pandas",
        ),
        (BARS.to_numpy().tolist(), "bars is a list: accepted .*open, high, low, close"),
        (dict(BARS), "bars is a dict: accepted .* UTC DatetimeIndex"),
        (BARS["close"], r"bars is a Series of shape \(4000,\): accepted"),
        ("bars.csv", r"bars is a str: .* see market.read_bars"),
        (None, "bars is a NoneType"),
        (BARS.drop(columns="close"), "bars: column 'close' is missing"),
        (BARS.rename(columns=str.title), "'open' is missing; did you mean"),
        (BARS.iloc[:0], "bars: has no rows"),
        (BARS.iloc[:60], "bars has 60 rows: accepted are at least 61"),
        (BARS.reset_index(drop=True), "bars: the index must be a DatetimeIndex"),
        (BARS.tz_localize(None), "bars: the index has no time zone"),
        (BARS.iloc[::-1], "bars: .*(increas|sort|order|after|earlier|before)"),
        (BARS.assign(close="dear"), "bars: column 'close'"),
        (pd.concat([BARS, BARS[["close"]]], axis=1), "bars: column 'close' occurs 2x"),
        (
            BARS.assign(close=BARS["close"].mask(BARS.index == BARS.index[7])),
            "bars: .*close.*row 7 ",
        ),
    ],
)
def test_what_is_no_frame_of_bars_is_named_by_fit_and_predict(fitted, bars, match):
    for method in (ReturnForecaster(**OPTIONS).fit, fitted.predict, forecast_rows):
        with pytest.raises(ValueError, match=match):
            method(bars)
