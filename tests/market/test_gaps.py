"""Gaps told from the past alone: against sessions known by construction, and against the file."""

import numpy as np
import pandas as pd
import pytest

from densityjax.market import compute_features, log_returns, read_bars, return_from
from densityjax.market.gaps import find_gaps
from densityjax.market.sessions import find_holes


def hours(num_weeks, start="2023-01-02"):
    return pd.date_range(start, periods=168 * num_weeks, freq="1h", tz="UTC", name="timestamp")


def new_york(num_weeks, is_open):
    """Hourly bars in the hours of New York that `is_open(hour, weekday)` names."""
    local = hours(num_weeks).tz_convert("America/New_York")
    return local[is_open(local.hour, local.day_of_week)].tz_convert("UTC")


def stocks(num_weeks):
    return new_york(num_weeks, lambda hour, day: (day < 5) & (hour >= 10) & (hour < 16))


def currencies(num_weeks):
    return new_york(num_weeks, lambda hour, day: abs((day + 1) % 7 * 24 + hour - 16.5 - 60) <= 60)


def seconds(index):
    return index.as_unit("s").asi8


def gaps_of(index):
    """Rows after a gap."""
    return np.flatnonzero(find_gaps(seconds(index))[0]).tolist()


def closes(index, seed=0):
    steps = 0.01 * np.random.default_rng(seed).standard_normal(len(index))
    return pd.DataFrame({"close": 100.0 * np.exp(np.cumsum(steps))}, index=index)


@pytest.mark.parametrize("make", [stocks, currencies])
def test_nights_weekends_and_daylight_saving_are_no_gaps(make):
    assert gaps_of(make(60)) == []


def test_lost_bars_of_a_market_that_never_closes_are_gaps_from_the_second_hour_on():
    lost = [2, 40, *range(500, 503), *range(2_000, 2_048), *range(3_000, 6_000), 9_000]
    kept = np.delete(np.arange(168 * 60), lost)
    after = np.searchsorted(kept, [3, 41, 503, 2_048, 6_000, 9_001])
    assert gaps_of(hours(60)[kept]) == after.tolist()


def test_a_bar_lost_in_a_session_is_a_gap_a_lost_day_or_half_day_is_a_holiday():
    index = stocks(30)
    day = np.asarray(index.normalize() == index.normalize().unique()[70])
    first = int(np.flatnonzero(day)[0])
    assert gaps_of(index.delete(first + 2)) == [first + 2]
    assert gaps_of(index[~day]) == []
    assert gaps_of(index.delete(np.arange(first + 3, first + 6))) == []
    assert gaps_of(index.delete(np.arange(first + 2, first + 200))) == [first + 2]  # weeks


def test_daily_bars_know_weekends_and_holidays_but_no_lost_month():
    days = pd.date_range("2020-01-01", "2023-12-31", freq="B", tz="UTC")
    assert gaps_of(days.delete([3, 100, 101, 400, 650])) == []
    assert gaps_of(days.delete(np.arange(300, 320))) == [300]


def test_longer_bars_have_no_sessions_and_trade_bars_no_clock():
    weekly = pd.date_range("2020-01-06", periods=150, freq="7D", tz="UTC")
    assert gaps_of(weekly.delete(70)) == [70]
    monthly = pd.date_range("2010-01-01", periods=120, freq="MS", tz="UTC")
    assert gaps_of(monthly) == []
    steps = 1 + np.random.default_rng(0).exponential(60.0, 5_000).astype(int)
    assert not find_gaps(np.cumsum(steps))[0].any()


def test_one_bar_at_a_time_and_a_past_alone_say_the_same():
    rng = np.random.default_rng(1)
    stamps = seconds(stocks(12))
    stamps = np.delete(stamps, rng.choice(len(stamps), 25, replace=False))
    whole, _ = find_gaps(stamps)
    assert whole.sum() > 5
    state, one_by_one = None, []
    for stamp in stamps:
        flag, state = find_gaps(np.array([stamp]), state)
        one_by_one.extend(flag)
    assert np.array_equal(whole, one_by_one)
    for cut in (5, 40, 62, 63, 200):
        assert np.array_equal(whole[:cut], find_gaps(stamps[:cut])[0])


@pytest.mark.parametrize("name", ["EURUSD_1h", "SPY_1h", "BTCUSD_1h_2017_2019"])
def test_real_bars_with_lost_ones_agree_with_the_search_that_sees_the_whole_file(real_bars, name):
    index = read_bars(real_bars / f"{name}.parquet").index
    lost = np.random.default_rng(0).choice(len(index), 50, replace=False)
    holed = index.delete(lost)
    holes = find_holes(holed)
    theirs = set((holes.row[holes.is_gap] + 1).tolist())
    ours = set(gaps_of(holed))
    assert len(ours - theirs) <= 1  # edges of Christmas
    assert len(ours & theirs) >= 0.7 * len(theirs)  # a lost last bar may be daylight saving


def test_ex_14_no_return_is_counted_across_a_gap():
    index = hours(3).delete([30, *range(400, 410)])
    bars = closes(index)
    expected = np.log(bars["close"]).diff()
    expected.iloc[[30, 399]] = np.nan
    pd.testing.assert_series_equal(log_returns(bars), expected, check_names=False, rtol=1e-12)
    pd.testing.assert_series_equal(log_returns(bars["close"]), log_returns(bars))
    assert return_from(bars, 3).isna().to_numpy().nonzero()[0].tolist() == [
        *range(3),
        *range(30, 33),
        *range(399, 402),
    ]


@pytest.mark.parametrize("step", [1.0, 3.0])
def test_ex_14_the_jump_over_a_gap_changes_no_feature_that_reads_closes(step):
    """The price after a gap may be anything: features of returns do not see the move."""
    index = hours(3).delete(range(250, 290))
    bars = closes(index)
    bars.loc[index[250] :, "close"] *= step
    bars["open"] = bars["close"].shift().fillna(100.0)
    bars.iloc[250, bars.columns.get_loc("open")] = bars["close"].iloc[250]
    bars["high"] = bars[["open", "close"]].max(axis=1)
    bars["low"] = bars[["open", "close"]].min(axis=1)
    context = compute_features(bars, "context")
    assert list(bars.index[60:].difference(context.index)) == list(bars.index[250:253])
    names = ("return_1", "return_20", "volatility_20", "skewness", "rsi")
    chosen = compute_features(bars, names)
    assert list(bars.index[20:].difference(chosen.index)) == [bars.index[250]]
    if step != 1.0:
        same = closes(index)
        for column, values in bars.items():
            same[column] = np.where(index < index[250], values, values / step)
        again = compute_features(same, "context")
        np.testing.assert_allclose(context, again, rtol=1e-9, atol=1e-9)
        without_rsi = list(names[:-1])
        np.testing.assert_allclose(
            chosen[without_rsi], compute_features(same, without_rsi), rtol=1e-9, atol=1e-9
        )
