"""Gaps told from the past alone: against sessions known by construction, and against the file."""

import numpy as np
import pandas as pd
import pytest

from densityjax.market import compute_features, log_returns, read_bars, return_from
from densityjax.market.features import FEATURE_SETS
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


def candles(index, seed=0):
    """Bars with wicks and volume around random closes."""
    rng = np.random.default_rng(seed)
    bars = closes(index, seed)
    bars["open"] = bars["close"].shift().fillna(100.0) * np.exp(
        0.002 * rng.standard_normal(len(index))
    )
    wicks = np.exp(0.004 * rng.exponential(size=(2, len(index))))
    bars["high"] = bars[["open", "close"]].max(axis=1) * wicks[0]
    bars["low"] = bars[["open", "close"]].min(axis=1) / wicks[1]
    bars["volume"] = rng.lognormal(3.0, 0.7, len(index))
    return bars


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


@pytest.mark.parametrize("name", [*FEATURE_SETS, "context"])
@pytest.mark.parametrize("num_lost", [40, 8760])
def test_ex_14_the_jump_over_a_gap_changes_no_feature(name, num_lost):
    """The price after a gap may be anything: no feature sees the move."""
    index = hours(60)
    index = index.delete(np.arange(350, 350 + num_lost))[:700]
    bars = candles(index)
    whole = compute_features(bars, name, published=True)
    lags = 3 if name == "context" else 1
    window = whole.attrs["window"]
    assert list(index[window:].difference(whole.index)) == list(index[350 : 350 + lags])
    jumped = bars.copy()
    jumped.loc[index[350] :, ["open", "high", "low", "close"]] *= 3.0
    again = compute_features(jumped, name, published=True)
    np.testing.assert_allclose(again, whole, rtol=1e-9, atol=1e-9)


def test_a_gap_of_a_year_is_one_in_the_first_week_too():
    index = hours(3)[:400]
    late = index[:100].append(index[100:] + pd.Timedelta("365D"))
    assert gaps_of(late) == [100]
    assert int(log_returns(closes(late)).isna().sum()) == 2


def test_a_minute_market_with_many_lost_bars_has_each_of_its_holes_judged():
    minutes = pd.date_range("2024-01-01", periods=30 * 1440, freq="1min", tz="UTC")
    lost = np.random.default_rng(3).uniform(size=len(minutes)) < 0.05
    lost[[0, 1]] = False
    kept = np.flatnonzero(~lost)
    expected = np.flatnonzero(np.diff(kept) > 1) + 1
    found = np.array(gaps_of(minutes[kept]))
    assert np.isin(found, expected).all()
    # a slot that was lost a week before too is not expected: 5 % of them
    assert len(found) > 0.9 * len(expected)
