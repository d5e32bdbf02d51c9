"""What bars cover: span, gaps against closed sessions, annualisation, warnings."""

import numpy as np
import pandas as pd
import pytest

from densityjax.market.bars import read_bars
from densityjax.market.describe import describe_bars, periods_per_year
from densityjax.market.sessions import find_holes


def walk(index, seed=0):
    rng = np.random.default_rng(seed)
    close = 100.0 * np.exp(np.cumsum(0.01 * rng.standard_normal(len(index))))
    open_ = np.append(100.0, close[:-1]) * np.exp(0.002 * rng.standard_normal(len(index)))
    high, low = np.maximum(open_, close) * 1.001, np.minimum(open_, close) / 1.001
    columns = {"open": open_, "high": high, "low": low, "close": close, "volume": 5.0}
    return pd.DataFrame(columns, index=index)


def hours(num_weeks, start="2023-01-02"):
    return pd.date_range(start, periods=168 * num_weeks, freq="1h", tz="UTC", name="timestamp")


def stock_hours(num_weeks, start="2023-01-02", zone="America/New_York"):
    """Hourly bars 10:00 to 16:00 in New York, so that UTC hours move with daylight saving."""
    local = hours(num_weeks, start).tz_convert(zone)
    return local[(local.day_of_week < 5) & (local.hour >= 10) & (local.hour < 16)].tz_convert("UTC")


def currency_hours(num_weeks, start="2023-01-02"):
    """Hourly bars from Sunday 17:00 to Friday 17:00 in New York."""
    local = hours(num_weeks, start).tz_convert("America/New_York")
    into_week = (local.day_of_week + 1) % 7 * 24 + local.hour
    return local[(into_week >= 17) & (into_week < 5 * 24 + 17)].tz_convert("UTC")


def test_hours_without_a_pause_are_8760_a_year():
    found = describe_bars(walk(hours(60)))
    assert found.periods_per_year == found.periods_per_year_by_interval == 8760.0
    assert (found.num_bars, found.num_gaps, found.num_missing_bars) == (10_080, 0, 0)
    assert found.span_days == 10_079 / 24
    assert found.interval_seconds == 3600.0
    assert found.has_volume
    assert found.warnings == ()
    assert (found.start, found.end) == (hours(60)[0], hours(60)[-1])


def test_holes_of_a_market_that_never_closes_are_gaps():
    index = hours(60)
    lost = [*range(500, 503), *range(2_000, 2_048), 9_000]  # hours, two days, one bar
    found = describe_bars(walk(index.delete(lost)))
    assert (found.num_gaps, found.num_missing_bars, found.num_holidays) == (3, 52, 0)
    assert found.largest_gap_seconds == 49 * 3600.0
    holes = find_holes(index.delete(lost))
    assert (holes.missing == index.as_unit("ns").asi8[lost]).all()


def test_a_gap_of_months_is_a_gap_in_all_its_slots():
    index = hours(60)
    lost = list(range(3_000, 5_500))
    found = describe_bars(walk(index.delete(lost)))
    assert (found.num_gaps, found.num_missing_bars) == (1, 2_500)
    assert any("No bar for 104 days after" in warning for warning in found.warnings)


@pytest.mark.parametrize("make", [stock_hours, currency_hours])
@pytest.mark.parametrize("num_weeks", [2, 30, 80])
def test_nights_weekends_and_daylight_saving_are_no_gaps(make, num_weeks):
    found = describe_bars(walk(make(num_weeks)))
    assert (found.num_gaps, found.num_holidays) == (0, 0)


@pytest.mark.parametrize("num_weeks", [2, 30])
def test_a_bar_lost_in_a_session_is_a_gap_and_a_lost_day_or_half_day_is_a_holiday(num_weeks):
    index = stock_hours(num_weeks)
    day = np.asarray(index.normalize() == index.normalize().unique()[7])
    first = int(np.flatnonzero(day)[0])
    one = find_holes(index.delete(first + 2))
    assert (one.is_gap.sum(), len(one.missing), one.is_holiday.sum()) == (1, 1, 0)
    whole = find_holes(index[~day])
    assert (whole.is_gap.sum(), whole.is_holiday.sum()) == (0, 1)
    half = find_holes(index.delete(np.arange(first + 3, first + 6)))
    assert (half.is_gap.sum(), half.is_holiday.sum()) == (0, 1)


def test_daily_bars_with_weekends_and_holidays_have_no_gap_until_one_is_long():
    days = pd.date_range("2020-01-01", "2023-12-31", freq="B", tz="UTC")
    holidays = days.delete([100, 101, 400, 650])
    found = describe_bars(walk(holidays))
    assert (found.num_gaps, found.num_holidays) == (0, 3)
    assert 258.0 < found.periods_per_year < 262.0
    assert found.periods_per_year_by_interval == 365.0
    assert any("the market closes, which is as it should be" in text for text in found.warnings)
    outage = describe_bars(walk(days.delete(np.arange(300, 340))))
    assert (outage.num_gaps, outage.num_missing_bars) == (1, 40)


def test_weekly_and_monthly_bars_and_bars_without_a_clock():
    weekly = pd.date_range("2020-01-06", periods=150, freq="7D", tz="UTC")
    assert describe_bars(walk(weekly.delete(70))).num_missing_bars == 1
    monthly = pd.date_range("2010-01-01", periods=120, freq="MS", tz="UTC")
    assert describe_bars(walk(monthly)).num_gaps == 0
    seconds = np.cumsum(np.random.default_rng(0).exponential(60.0, 5_000))
    trades = pd.to_datetime("2024-01-01", utc=True) + pd.to_timedelta(seconds, unit="s")
    found = describe_bars(walk(trades))
    assert found.num_gaps == 0
    assert any("irregular" in warning for warning in found.warnings)


def test_short_spans_are_warned_of():
    days = pd.date_range("2023-01-01", periods=366, freq="D", tz="UTC")
    assert describe_bars(walk(days)).warnings == ()
    short = describe_bars(walk(days[:-1])).warnings
    assert short == (
        "The bars span 364 days; daily bars need at least 365, and two years are better.",
    )
    assert any("need at least 182" in text for text in describe_bars(walk(hours(25))).warnings)
    assert describe_bars(walk(hours(27))).warnings == ()


@pytest.mark.parametrize(
    ("volume", "message"),
    [
        (None, "There is no volume"),
        (np.nan, "There is no volume"),
        (0.0, "volume is zero throughout"),
    ],
)
def test_volume_that_says_nothing_is_warned_of(volume, message):
    bars = walk(hours(60))
    bars = bars.drop(columns="volume") if volume is None else bars.assign(volume=volume)
    found = describe_bars(bars)
    assert not found.has_volume
    assert any(message in warning for warning in found.warnings)


def test_opens_that_repeat_the_close_before_are_warned_of_in_markets_that_close():
    days = pd.date_range("2020-01-01", "2023-12-31", freq="B", tz="UTC")
    bars = walk(days)
    stale = np.append(np.nan, bars["close"].to_numpy()[:-1])
    half = bars.assign(open=np.where(np.arange(len(bars)) < 500, stale, bars["open"]))
    half.iloc[0, 0] = 100.0
    (warning,) = [text for text in describe_bars(half).warnings if "exactly at the close" in text]
    assert warning.startswith(f"Between 2020-01-02 and {days[499]:%Y-%m-%d} most")
    assert not any("exactly" in text for text in describe_bars(bars).warnings)
    never_closes = walk(hours(60))
    joined = never_closes.assign(open=never_closes["close"].shift(1).bfill())
    assert describe_bars(joined).warnings == ()


def test_periods_per_year_by_hand_and_its_refusals():
    index = pd.DatetimeIndex(["2023-01-01", "2023-01-02", "2023-01-06"])
    assert periods_per_year(index) == 2.0 / (5.0 / 365.0)
    assert periods_per_year(index.as_unit("s")) == periods_per_year(index.as_unit("ns"))
    for bad in (index[::-1], index[[0, 0, 1]], index.insert(1, pd.NaT)):
        with pytest.raises(ValueError, match="must increase strictly"):
            periods_per_year(bad)
    with pytest.raises(ValueError, match="must be a DatetimeIndex, got RangeIndex"):
        periods_per_year(pd.RangeIndex(5))
    with pytest.raises(ValueError, match="at least 2 times, got 1"):
        periods_per_year(index[:1])


def test_real_markets_have_the_sessions_they_have(real_bars):
    expected = {  # gaps, holidays at most
        "SPY_1h": (0, 300),
        "SPY_1d": (0, 250),
        "BTCUSD_1h_2017_2019": (0, 0),
        "EURUSD_1h": (8, 30),
    }
    for name, (num_gaps, num_holidays) in expected.items():
        found = describe_bars(read_bars(real_bars / f"{name}.parquet"))
        assert found.num_gaps == num_gaps, name
        assert found.num_holidays <= num_holidays, name
