"""Repair by rule: each fault once, nothing silent, real tails left alone."""

import numpy as np
import pandas as pd
import pytest

from densityjax.market.bars import BarsError, read_bars, validate_bars
from densityjax.market.primitives import log_returns
from densityjax.market.repair import RepairReport, repair_bars

T0 = pd.Timestamp("2024-01-01", tz="UTC")


def bars_from_returns(returns, freq="1h"):
    close = 100.0 * np.exp(np.cumsum(returns))
    open_ = np.append(100.0, close[:-1])
    index = pd.date_range(T0, periods=len(close), freq=freq, name="timestamp")
    wick = 0.1 * np.median(np.abs(returns))
    columns = {
        "open": open_,
        "high": np.maximum(open_, close) * np.exp(wick),
        "low": np.minimum(open_, close) * np.exp(-wick),
        "close": close,
        "volume": np.arange(1.0, len(close) + 1.0),
    }
    return pd.DataFrame(columns, index=index)


def walk(num_bars=2_000, seed=0, freq="1h"):
    return bars_from_returns(0.005 * np.random.default_rng(seed).standard_normal(num_bars), freq)


def counts(report):
    return {k: v for k, v in report._asdict().items() if k not in ("changes",) and v}


def test_clean_bars_come_back_unchanged_with_an_empty_report():
    bars = walk()
    repaired, report = repair_bars(bars)
    pd.testing.assert_frame_equal(
        repaired.drop(columns="is_filled"), bars, check_freq=False, check_exact=True
    )
    assert not repaired["is_filled"].any()
    assert counts(report) == {"num_rows_in": 2_000, "num_rows_out": 2_000}
    assert isinstance(report, RepairReport)
    assert report.changes.empty
    assert list(report.changes.columns) == ["timestamp", "column", "rule", "before", "after"]


def test_ex_14_a_dropped_bar_becomes_a_flagged_flat_bar_without_volume_or_returns():
    bars = walk().assign(trades=5.0, funding_rate=1e-4)
    repaired, report = repair_bars(bars.drop(bars.index[[700, 701, 1_500]]))
    assert report.num_filled == 3
    assert (repaired.index == bars.index).all()
    assert np.flatnonzero(repaired["is_filled"]).tolist() == [700, 701, 1_500]
    for row, previous in ((700, 699), (701, 699), (1_500, 1_499)):
        flat = repaired.iloc[row]
        close = bars["close"].iloc[previous]
        assert (flat[["open", "high", "low", "close"]] == close).all()
        assert flat["volume"] == flat["trades"] == 0.0
        assert np.isnan(flat["funding_rate"])
    untouched = ~repaired["is_filled"].to_numpy()
    assert (repaired.loc[untouched, "volume"] == bars.loc[untouched, "volume"]).all()
    returns = log_returns(repaired)
    assert np.flatnonzero(returns.isna()).tolist() == [0, 700, 701, 702, 1_500, 1_501]
    assert (report.changes["rule"] == "missing bar").all()
    validate_bars(repaired)


def test_long_gaps_can_be_left_open_and_are_counted():
    bars = walk()
    holed = bars.drop(bars.index[100:300]).drop(bars.index[600])
    repaired, report = repair_bars(holed, max_gap="1D")
    assert (report.num_filled, report.num_gaps_left) == (1, 1)
    assert len(repaired) == len(holed) + 1
    full, report = repair_bars(holed)
    assert (report.num_filled, report.num_gaps_left) == (201, 0)
    assert (full.index == bars.index).all()


def test_rows_out_of_order_and_duplicates_are_sorted_out():
    bars = walk(50)
    conflict = bars.iloc[[20]].assign(close=bars["low"].iloc[20])
    dirty = pd.concat([bars.iloc[:10], bars.iloc[[30]], bars.iloc[10:31], bars.iloc[31:], conflict])
    repaired, report = repair_bars(dirty)
    # Row 30 stands twice and equal; 21 rows then follow row 30, and the conflict comes at the end.
    assert (report.num_duplicates, report.num_conflicts) == (1, 1)
    assert report.num_out_of_order == 21
    assert repaired["close"].iloc[20] == conflict["close"].iloc[0]
    others = np.arange(50) != 20
    pd.testing.assert_frame_equal(
        repaired[others].drop(columns="is_filled"), bars[others], check_freq=False
    )
    assert sorted(report.changes["rule"]) == ["conflicting duplicate", "duplicate"]


def put(bars, row, **values):
    for name, value in values.items():
        bars.iloc[row, bars.columns.get_loc(name)] = value
    return bars


@pytest.mark.parametrize("bad", [np.nan, np.inf, 0.0, -3.0])
def test_impossible_prices_are_replaced_and_listed(bad):
    bars = walk()
    repaired, report = repair_bars(put(put(bars.copy(), 500, high=bad), 900, close=bad))
    assert report.num_bad_prices == 2
    body = bars[["open", "close"]].iloc[500]
    assert repaired["high"].iloc[500] == body.max()
    assert repaired["close"].iloc[900] == bars["close"].iloc[899]
    assert np.flatnonzero(repaired["is_filled"]).tolist() == [900]
    assert repaired["volume"].iloc[900] == bars["volume"].iloc[900]  # it was traded
    change = report.changes.set_index("timestamp").loc[bars.index[900]]
    assert change["column"] == "close"
    assert change["before"] == bad or np.isnan(change["before"])
    assert change["after"] == bars["close"].iloc[899]
    validate_bars(repaired)


def test_leading_rows_without_a_close_are_dropped():
    bars = walk(50)
    repaired, report = repair_bars(put(put(bars.copy(), 0, close=np.nan), 1, close=0.0))
    assert report.num_leading_dropped == 2
    assert repaired.index[0] == bars.index[2]


@pytest.mark.parametrize("factor", [10.0, 1.2, 0.5, 0.01])
def test_a_one_bar_spike_that_reverts_is_a_bad_tick(factor):
    bars = walk()
    spike = bars["close"].iloc[800] * factor
    extreme = "high" if factor > 1.0 else "low"
    repaired, report = repair_bars(put(bars.copy(), 800, close=spike, **{extreme: spike}))
    assert report.num_bad_ticks == 2
    assert repaired["close"].iloc[800] == bars["close"].iloc[799]
    assert np.flatnonzero(repaired["is_filled"]).tolist() == [800]
    assert (np.abs(log_returns(repaired).dropna()) < 0.03).all()
    validate_bars(repaired)


def test_a_crash_that_stays_and_one_that_takes_two_bars_to_come_back_are_kept():
    returns = 0.005 * np.random.default_rng(1).standard_normal(2_000)
    returns[500] = -0.5  # stays
    returns[1_000], returns[1_001], returns[1_002] = -0.3, 0.15, 0.15  # comes back in two bars
    bars = bars_from_returns(returns)
    repaired, report = repair_bars(bars)
    assert report.num_bad_ticks == 0
    assert (repaired["close"] == bars["close"]).all()


def test_highs_and_lows_are_widened_to_hold_the_body():
    bars = walk()
    dirty = put(put(bars.copy(), 300, high=bars["low"].iloc[300]), 400, low=bars["high"].iloc[400])
    repaired, report = repair_bars(dirty)
    assert report.num_widened == 2
    assert repaired["high"].iloc[300] == bars[["open", "close"]].iloc[300].max()
    assert repaired["low"].iloc[400] == bars[["open", "close"]].iloc[400].min()
    validate_bars(repaired)


def test_impossible_volume_becomes_zero_and_an_unknown_one_is_left_out():
    bars = walk()
    repaired, report = repair_bars(put(put(bars.copy(), 5, volume=-1.0), 6, volume=np.nan))
    assert report.num_bad_volumes == 2
    assert repaired["volume"].iloc[[5, 6]].tolist() == [0.0, 0.0]
    assert "volume" not in repair_bars(bars.assign(volume=np.nan))[0]


def hill(returns, num_extremes):
    """Tail index from the largest |returns|: Hill, Annals of Statistics 1975."""
    largest = np.sort(np.abs(returns))[-num_extremes - 1 :]
    return 1.0 / np.mean(np.log(largest[1:] / largest[0]))


def test_ex_13_the_tail_index_of_t3_returns_survives_repair():
    sd = 0.002
    returns = sd * np.random.default_rng(3).standard_t(3, 200_000)
    bars = bars_from_returns(returns - returns.mean())
    repaired, report = repair_bars(bars)
    assert counts(report) == {"num_rows_in": 200_000, "num_rows_out": 200_000}
    before, after = log_returns(bars).dropna(), log_returns(repaired).dropna()
    np.testing.assert_array_equal(before, after)
    # Hill's estimate has a standard error of index / sqrt(k), and a small bias at k = 500.
    assert abs(hill(after, 500) - 3.0) < 5 * 3.0 / np.sqrt(500)
    clipped, report = repair_bars(bars, winsorise=5.0)
    assert report.num_winsorised > 200  # 0.2-0.3 % of t3 data lie beyond 5 sd
    assert hill(log_returns(clipped).dropna(), 500) > 2 * hill(after, 500)


def test_winsorising_clips_returns_and_keeps_bars_whole():
    bars = bars_from_returns(0.005 * np.random.default_rng(5).standard_t(3, 5_000))
    repaired, report = repair_bars(bars, winsorise=4.0)
    validate_bars(repaired)
    returns = np.diff(np.log(bars["close"]))
    expected = np.clip(returns, -4.0 * returns.std(), 4.0 * returns.std())
    np.testing.assert_allclose(np.diff(np.log(repaired["close"])), expected, rtol=0, atol=1e-12)
    assert report.num_winsorised == (returns != expected).sum() > 0
    # Opens still join the close before, as they did.
    np.testing.assert_allclose(repaired["open"].iloc[1:], repaired["close"].iloc[:-1], rtol=1e-12)


def weekdays(num_days):
    return walk(2 * num_days, freq="1D").loc[lambda b: b.index.day_of_week < 5].iloc[:num_days]


def test_weekends_and_holidays_are_not_filled():
    bars = weekdays(400)
    repaired, report = repair_bars(bars.drop(bars.index[[77, 200]]))
    assert report.num_filled == 0
    assert len(repaired) == 398


def test_an_exchange_calendar_overrides_the_search_for_gaps():
    bars = weekdays(400)
    holed = bars.drop(bars.index[[77, 200, 201]])
    repaired, report = repair_bars(holed, expected=bars.index.delete(200))
    assert report.num_filled == 2
    assert (repaired.index == bars.index.delete(200)).all()


def test_nights_are_not_filled_but_a_bar_lost_in_a_session_is():
    bars = walk(24 * 7 * 10)
    in_session = (bars.index.day_of_week < 5) & (bars.index.hour >= 14) & (bars.index.hour < 21)
    bars = bars[in_session]
    lost = bars.index[(bars.index.hour == 17)][20]
    repaired, report = repair_bars(bars.drop(lost))
    assert report.num_filled == 1
    assert repaired.index[repaired["is_filled"]].tolist() == [lost]


def test_naive_times_are_taken_as_utc_and_attrs_are_carried():
    bars = walk(100)
    naive = bars.tz_localize(None)
    naive.attrs["notes"] = ("kept",)
    repaired, _ = repair_bars(naive)
    assert (repaired.index == bars.index).all()
    assert repaired.attrs["notes"] == ("kept",)


def test_bad_arguments_and_hopeless_bars_are_refused():
    bars = walk(50)
    with pytest.raises(ValueError, match=r"interval must be a positive time .* got '-1h'"):
        repair_bars(bars, interval="-1h")
    with pytest.raises(ValueError, match=r"winsorise must be a positive number of sd, got 0\.0"):
        repair_bars(bars, winsorise=0.0)
    with pytest.raises(BarsError, match="'close' is missing"):
        repair_bars(bars.drop(columns="close"))
    with pytest.raises(BarsError, match="0 usable rows of 50; 2 are needed"):
        repair_bars(bars.assign(close=np.nan))
    with pytest.raises(BarsError, match="must be numeric"):
        repair_bars(bars.assign(open="x"))


def test_real_bars_keep_their_crashes(real_bars):
    spy = read_bars(real_bars / "SPY_1h.parquet")
    repaired, report = repair_bars(spy)
    assert report.num_filled == 0
    assert 0 < report.num_bad_ticks < 100  # misprints of the years before 2008
    assert report.changes["timestamp"].dt.year.max() < 2008
    crash = slice("2010-05-06", "2010-05-07")
    pd.testing.assert_frame_equal(repaired.loc[crash, "open":"close"], spy.loc[crash, :"close"])
    bitcoin = read_bars(real_bars / "BTCUSDT_5m_2024.parquet")
    assert repair_bars(bitcoin)[1].changes.empty
