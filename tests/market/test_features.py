import numpy as np
import pandas as pd
import pytest

from densityjax.market import features
from densityjax.market.features import (
    FEATURE_SETS,
    check_full_rank,
    compute_features,
    compute_single,
    feature_stats,
    longest_window,
)

SETS = [*FEATURE_SETS, "context"]
NUM_FIT = {"flow": 12, "score": 9, "energy": 15, "flow_companion": 9, "energy_companion": 19}
NUM_PUBLISHED = {"flow": 14, "score": 10, "energy": 16, "flow_companion": 10}
NUM_PUBLISHED["energy_companion"] = 23


def random_bars(num_bars=400, *, step="1h", seed=0, volume=True):
    rng = np.random.default_rng(seed)
    close = 100 * np.exp(np.cumsum(0.01 * rng.standard_t(5, num_bars)))
    open_ = np.r_[100.0, close[:-1]] * np.exp(0.003 * rng.standard_normal(num_bars))
    columns = {
        "open": open_,
        "high": np.maximum(open_, close) * np.exp(0.005 * rng.exponential(size=num_bars)),
        "low": np.minimum(open_, close) * np.exp(-0.005 * rng.exponential(size=num_bars)),
        "close": close,
    }
    if volume:
        columns["volume"] = rng.lognormal(3.0, 0.8, num_bars)
    index = pd.date_range("2024-01-01", periods=num_bars, freq=step, tz="UTC", name="timestamp")
    return pd.DataFrame(columns, index=index)


def flat_bars(num_bars=200, price=0.3, volume=0.0):
    bars = random_bars(num_bars)
    bars[:] = price
    bars["volume"] = volume
    return bars


def twin(bars):
    """Every published feature by pandas alone, NaN where pandas divides by zero."""
    log = np.log(bars.close).diff()
    simple = bars.close.pct_change()
    width = (bars.high - bars.low) / bars.close
    found = pd.DataFrame(index=bars.index)
    for k in (1, 5, 10, 20):
        found[f"return_{k}"] = np.log(bars.close).diff(k)
    for k in (5, 10, 20, 50):
        found[f"momentum_{k}"] = bars.close.pct_change(k)
        found[f"volatility_{k}"] = log.rolling(k).std()
    found["return"], found["log_return"], found["return_abs"] = simple, log, simple.abs()
    found["volatility"] = found.volatility_20
    for name in ("vol_ratio", "volatility_ratio", "vol_ratio_5_20"):
        found[name] = found.volatility_5 / found.volatility_20
    found["vol_ratio_20_50"] = found.volatility_20 / found.volatility_50
    found["skewness"], found["kurtosis"] = log.rolling(20).skew(), log.rolling(20).kurt()
    mean = bars.volume.rolling(20).mean()
    found["volume_ratio"] = bars.volume / mean
    found["volume_trend"] = bars.volume.rolling(5).mean() / mean
    found["volume_zscore"] = (bars.volume - mean) / bars.volume.rolling(20).std()
    low, high = bars.low.rolling(20).min(), bars.high.rolling(20).max()
    found["price_position"] = (bars.close - low) / (high - low)
    found["close_position"] = (bars.close - bars.low) / (bars.high - bars.low)
    found["range"], found["range_ratio"] = width, width / width.rolling(20).mean()
    found["body_ratio"] = (bars.close - bars.open).abs() / (bars.high - bars.low)
    change = bars.close.diff()
    gain = change.clip(lower=0).rolling(14).mean()
    found["rsi"] = gain / (gain + (-change).clip(lower=0).rolling(14).mean())
    value = (bars.close * bars.volume).rolling(20).sum()
    found["vwap_ratio"] = bars.close / (value / bars.volume.rolling(20).sum())
    spread = 2 * bars.close.rolling(20).std(ddof=0)
    found["bollinger_position"] = (bars.close - bars.close.rolling(20).mean()) / spread
    before = bars.close.shift()
    ranges = [bars.high - bars.low, (bars.high - before).abs(), (bars.low - before).abs()]
    atr = pd.concat(ranges, axis=1).max(axis=1).ewm(span=20).mean()
    found["atr_ratio"] = atr / bars.close
    return found


@pytest.mark.parametrize("name", FEATURE_SETS)
def test_a_set_equals_its_pandas_twin(name):
    bars = random_bars()
    found = compute_features(bars, name, published=True)
    theirs = twin(bars).loc[found.index, found.columns]
    np.testing.assert_allclose(found, theirs, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("name", SETS)
def test_ex_03_the_first_row_is_the_first_with_full_history(name):
    window, bars = longest_window(name), random_bars()
    for published in (False, True):
        found = compute_features(bars, name, published=published)
        assert (found.index == bars.index[window:]).all()
        assert found.attrs["window"] == window
        assert len(compute_features(bars.iloc[: window + 1], name, published=published)) == 1
    with pytest.raises(ValueError, match=rf"at least {window + 1} bars, got {window}"):
        compute_features(bars.iloc[:window], name)


@pytest.mark.parametrize("name", FEATURE_SETS)
def test_a_set_has_the_columns_of_its_chapter_in_order(name):
    bars = random_bars()
    published = compute_features(bars, name, published=True).columns
    fit = compute_features(bars, name).columns
    assert (len(published), len(fit)) == (NUM_PUBLISHED[name], NUM_FIT[name])
    assert [column for column in published if column in fit] == list(fit)


@pytest.mark.parametrize("name", SETS)
@pytest.mark.parametrize("step", ["1D", "1h", "5min"])
def test_ex_11_fit_sets_have_full_rank(name, step):
    check_full_rank(compute_features(random_bars(3000, step=step), name), floor=3e-3)


def test_ex_11_a_duplicated_a_dependent_and_a_constant_column_are_refused_by_name():
    frame = compute_features(random_bars(1000), "energy", published=True)
    with pytest.raises(ValueError, match=r"\['return', 'log_return'\] are not"):
        check_full_rank(frame)
    frame = compute_features(random_bars(1000), "flow")
    with pytest.raises(ValueError, match=r"\['rsi', 'copy'\] are not"):
        check_full_rank(frame.assign(copy=frame.rsi))
    with pytest.raises(ValueError, match=r"\['dead'\] are constant"):
        check_full_rank(frame.assign(dead=0.01))


@pytest.mark.parametrize("name", SETS)
@pytest.mark.parametrize(
    "case", ["flat", "no volume traded", "flat stretch", "no range", "one huge jump", "stale open"]
)
def test_features_stay_finite_on_degenerate_bars(name, case):
    bars = random_bars(300)
    if case == "flat":
        bars = flat_bars(300)
    elif case == "no volume traded":
        bars["volume"] = 0.0
    elif case == "flat stretch":
        for column in ("open", "high", "low", "close"):
            bars.iloc[80:250, bars.columns.get_loc(column)] = 77.7
        bars.iloc[80:250, bars.columns.get_loc("volume")] = 0.0
    elif case == "no range":
        for column in ("open", "high", "low"):
            bars[column] = bars.close
    elif case == "one huge jump":
        bars.iloc[150:, :4] *= 1e6
    else:
        bars["open"] = bars.close.shift(fill_value=100.0)
    found = compute_features(bars, name, published=True)
    assert len(found) == 300 - longest_window(name)
    assert np.isfinite(found.to_numpy()).all()
    if name == "context":
        scaled = found.drop(columns="log_scale")
        assert scaled.abs().to_numpy().max() < 20


def test_e337_18_e338_22_flat_unsold_bars_have_the_neutral_values():
    found = compute_features(flat_bars(), "energy_companion", published=True).iloc[-1]
    ones = ("vol_ratio_5_20", "vol_ratio_20_50", "range_ratio", "volume_ratio", "vwap_ratio")
    halves = ("close_position", "rsi")
    for column, value in found.items():
        assert value == (1.0 if column in ones else 0.5 if column in halves else 0.0), column
    flow = compute_features(flat_bars(), "flow", published=True).iloc[-1]
    assert flow["price_position"] == flow["rsi"] == 0.5
    assert flow["vol_ratio"] == flow["volume_ratio"] == flow["volume_trend"] == 1.0


def test_e335_22_names_count_bars_on_a_geometric_series():
    bars = random_bars(80)
    for column in ("open", "high", "low", "close"):
        bars[column] = 5.0 * 1.01 ** np.arange(80)
    row = compute_features(bars, "flow", published=True).iloc[-1]
    assert row["momentum_20"] == pytest.approx(1.01**20 - 1, rel=1e-12)
    assert row["return_20"] == pytest.approx(20 * np.log(1.01), rel=1e-12)
    assert row["volatility_20"] == row["skewness"] == row["kurtosis"] == 0.0
    assert (row["vol_ratio"], row["rsi"]) == (1.0, 1.0)


def test_e338_21_the_place_in_the_bar_is_not_the_place_in_the_range():
    bars = random_bars(60)
    bars.iloc[-3:, :4] = [[10.0, 12.0, 8.0, 11.0], [11.0, 11.0, 11.0, 11.0], [9.0, 10.0, 6.0, 7.0]]
    found = compute_features(bars, ("close_position", "price_position_3", "range"))
    assert found.close_position.tolist()[-3:] == [0.75, 0.5, 0.25]
    assert found.price_position_3.iloc[-1] == pytest.approx((7 - 6) / (12 - 6))
    assert found.range.iloc[-1] == pytest.approx(4 / 7)


def test_a_gap_enters_the_mean_true_range():
    bars = flat_bars(60, price=10.0, volume=1.0)
    bars.iloc[-1, :4] = [12.0, 13.0, 12.0, 12.5]
    weights = (1 - 2 / 21) ** np.arange(60)
    row = compute_single(bars, "energy_companion")
    assert row.get("atr_ratio") == pytest.approx(3.0 / weights.sum() / 12.5, rel=1e-12)


@pytest.mark.parametrize("name", SETS)
@pytest.mark.parametrize("absent", ["column", "values"])
def test_features_that_need_volume_are_left_out_and_named(name, absent):
    with_volume, bars = compute_features(random_bars(), name), random_bars(volume=False)
    if absent == "values":
        bars["volume"] = np.nan
    found = compute_features(bars, name)
    left_out = found.attrs["left_out"]
    assert left_out
    assert all("volume" in column or "vwap" in column for column in left_out)
    pd.testing.assert_frame_equal(found, with_volume.drop(columns=left_out), check_exact=True)


@pytest.mark.parametrize("name", SETS)
def test_ex_14_no_row_reads_a_return_across_a_filled_bar(name):
    bars, filled = random_bars(300), 150
    bars.iloc[filled, :4] = bars.close.iloc[filled - 1]
    bars.iloc[filled, 4] = 0.0
    bars["is_filled"] = False
    whole = compute_features(bars, name)
    bars.iloc[filled, bars.columns.get_loc("is_filled")] = True
    found = compute_features(bars, name)
    lags = 3 if name == "context" else 1  # single returns that a row names
    gone = whole.index.difference(found.index)
    assert list(gone) == list(bars.index[filled : filled + lags + 1])
    before = found.index < bars.index[filled]
    assert np.array_equal(found[before], whole.loc[found.index[before]])
    with pytest.raises(ValueError, match="touches a gap"):
        compute_single(bars.iloc[: filled + 1], name)
    bars["is_filled"] = np.arange(300) % 3 == 0  # one return in three is left
    with pytest.raises(ValueError, match="gaps leave no bar"):
        compute_features(bars, name)


def test_windows_skip_what_a_filled_bar_hides_as_pandas_does():
    bars, filled = random_bars(120), 60
    bars["is_filled"] = np.arange(120) == filled
    found = compute_features(bars, "energy")
    log, volume = np.log(bars.close).diff(), bars.volume.copy()
    log.iloc[[filled, filled + 1]] = np.nan
    volume.iloc[filled] = np.nan
    few = {"min_periods": 10}
    expected = {
        "volatility_20": log.rolling(20, **few).std(),
        "volatility_50": log.rolling(50, min_periods=25).std(),
        "skewness": log.rolling(20, **few).skew(),
        "kurtosis": log.rolling(20, **few).kurt(),
        "momentum_20": np.expm1(log.rolling(20, **few).sum()),
        "volume_ratio": volume / volume.rolling(20, **few).mean(),
        "volume_zscore": (volume - volume.rolling(20, **few).mean())
        / volume.rolling(20, **few).std(),
    }
    for column, values in expected.items():
        np.testing.assert_allclose(found[column], values[found.index], rtol=1e-9, err_msg=column)


@pytest.mark.parametrize("name", SETS)
def test_one_row_equals_the_last_of_all_bit_for_bit(name):
    bars = random_bars(150)
    frame = compute_features(bars, name, published=True)
    row = compute_single(bars, name, published=True)
    assert row.name == bars.index[-1]
    assert np.array_equal(row, frame.iloc[-1])
    assert row.get(frame.columns[0]) == frame.iloc[-1, 0]


def test_stats_describe_every_column():
    frame = compute_features(random_bars(), "score")
    stats = feature_stats(frame)
    assert list(stats.index) == list(frame.columns)
    np.testing.assert_allclose(stats["mean"], frame.mean(), rtol=1e-10)
    np.testing.assert_allclose(stats["sd"], frame.std(), rtol=1e-10)
    assert (stats["min"] == frame.min()).all()
    assert (stats["max"] == frame.max()).all()


def test_a_list_of_features_has_the_windows_of_its_names():
    bars = random_bars()
    found = compute_features(bars, ("return_1", "volatility_30", "vol_ratio_10_30", "rsi_7"))
    assert found.attrs["window"] == 30
    log = np.log(bars.close).diff()
    ratio = (log.rolling(10).std() / log.rolling(30).std()).loc[found.index]
    np.testing.assert_allclose(found.vol_ratio_10_30, ratio, rtol=1e-10)


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (lambda bars: bars.drop(columns="low"), "low"),
        (lambda bars: bars.assign(close=-1.0), "close must be positive"),
        (lambda bars: bars.assign(open=np.nan), "open must be positive"),
        (lambda bars: bars.assign(volume=-1.0), "volume must be"),
        (lambda bars: bars.iloc[::-1], "increasing"),
    ],
)
def test_bars_that_are_not_valid_are_refused(change, match):
    with pytest.raises(ValueError, match=match):
        compute_features(change(random_bars()), "flow")


@pytest.mark.parametrize("name", ["unknown", ("nothing",), ("vol_ratio_5",), ("return_0",)])
def test_unknown_names_are_refused(name):
    with pytest.raises(ValueError, match=r"feature|windows"):
        compute_features(random_bars(), name)


def test_the_base_scale_and_the_ratios_are_exponentially_weighted_volatilities():
    bars = random_bars()
    found, log = compute_features(bars, "context"), np.log(bars.close).diff()
    assert found.columns[0] == "log_scale"
    volatility = {h: np.sqrt((log**2).ewm(halflife=h).mean()) for h in (2, 5, 10, 20, 60, 250)}
    scale = volatility[10].loc[found.index]
    np.testing.assert_allclose(found.log_scale, np.log(scale), rtol=1e-10)
    for h in (2, 5, 20, 60, 250):
        ratio = np.log(volatility[h].loc[found.index] / scale)
        np.testing.assert_allclose(found[f"log_vol_{h}"], ratio, rtol=1e-10, atol=1e-12)
    for k in (5, 20, 60):
        momentum = np.log(bars.close).diff(k) / (volatility[k] * np.sqrt(k))
        np.testing.assert_allclose(found[f"momentum_{k}"], momentum.loc[found.index], rtol=1e-10)
    for h in (5, 20):
        falls = (log.clip(upper=0) ** 2).where(log.notna()).ewm(halflife=h).mean()
        share = (falls / (log**2).ewm(halflife=h).mean()).loc[found.index]
        np.testing.assert_allclose(found[f"downside_{h}"], share, atol=2e-2)  # shrunk a little
    gap = np.log(bars.open / bars.close.shift())
    size = np.sqrt(gap**2 + np.log(bars.high / bars.low) ** 2 / (4 * np.log(2)))
    for h in (3, 15):
        ratio = np.log(size.ewm(halflife=h).mean().loc[found.index] / scale)
        np.testing.assert_allclose(found[f"log_range_vol_{h}"], ratio, rtol=1e-10, atol=1e-12)
    for j in range(3):
        np.testing.assert_allclose(
            found[f"return_lag_{j}"], log.shift(j).loc[found.index] / scale, rtol=1e-10
        )
    np.testing.assert_allclose(
        found.abs_return, np.log1p(log.abs().loc[found.index] / scale), rtol=1e-10
    )
    tail = np.log(log.abs().ewm(halflife=20).mean() * np.sqrt(np.pi / 2) / volatility[20])
    np.testing.assert_allclose(found.tail_20, tail.loc[found.index], atol=2e-2)  # the same
    mean = {h: bars.volume.ewm(halflife=h).mean() for h in (5, 20, 60)}
    relative = np.log((bars.volume / mean[20] + 0.05) / 1.05).loc[found.index]
    trend = np.log((mean[5] / mean[60] + 0.05) / 1.05).loc[found.index]
    np.testing.assert_allclose(found.log_volume, relative, rtol=1e-10, atol=1e-12)
    np.testing.assert_allclose(found.log_volume_trend, trend, rtol=1e-10, atol=1e-12)


def test_the_slot_ratios_equal_a_plain_loop():
    bars = random_bars(24 * 21)
    found, log = compute_features(bars, "context"), np.log(bars.close).diff().to_numpy()
    scale = np.sqrt(pd.Series(log**2).ewm(halflife=10).mean().to_numpy())
    moves = np.minimum(np.abs(log[1:]) / scale[:-1], 10.0)  # of bar t + 1, at the slot of bar t
    average = pd.Series(np.r_[np.nan, moves]).ewm(halflife=500).mean().to_numpy()
    for name, halflife, slot in (
        ("day", 20, bars.index.hour),
        ("week", 12, bars.index.day_of_week * 24 + bars.index.hour),
    ):
        decay, expected = 0.5 ** (1 / halflife), []
        prior = 5 * (1 - decay)
        for t in range(60, len(bars)):
            seen = [moves[s] for s in range(t) if slot[s] == slot[t] and np.isfinite(moves[s])]
            weights = (1 - decay) * decay ** np.arange(len(seen))[::-1]
            top = (weights * seen).sum() + prior * average[t] + 0.01
            expected.append(np.log(top / ((weights.sum() + prior) * average[t] + 0.01)))
        np.testing.assert_allclose(found[f"{name}_slot_log_ratio"], expected, rtol=1e-9, atol=1e-11)


def test_the_slot_ratio_learns_which_bar_comes_before_a_loud_one():
    bars = random_bars(24 * 120)
    rng = np.random.default_rng(2)
    loud = bars.index.hour == 14
    moves = 0.002 * np.where(loud, 4.0, 1.0) * rng.standard_normal(len(bars))
    close = 50 * np.exp(np.cumsum(moves))
    bars = pd.DataFrame(dict.fromkeys(("open", "high", "low", "close"), close), bars.index)
    found = compute_features(bars, "context").iloc[-24 * 20 :]
    by_hour = found.groupby(found.index.hour)[["day_slot_log_ratio", "week_slot_log_ratio"]].mean()
    assert (by_hour.idxmax() == 13).all()  # known at the close of 13:00, for the bar of 14:00
    # About ln 4 above the others, less the share of the loud bar in the scale that follows it.
    excess = by_hour.loc[13] - by_hour.drop(index=13).mean()
    assert (excess > 0.9).all()
    assert (excess < 2.0).all()


def test_daily_bars_have_no_clock_and_hourly_ones_do():
    daily = compute_features(random_bars(step="1D"), "context")
    hourly = compute_features(random_bars(step="1h"), "context")
    assert list(hourly.columns[: daily.shape[1]]) == list(daily.columns)
    assert tuple(hourly.columns[daily.shape[1] :]) == features.seasonality.NAMES
    six = hourly.index.hour == 6
    np.testing.assert_allclose(hourly.sin_day[six], 1.0, rtol=1e-12)
    monday = hourly.index.day_of_week == 0
    midnight = hourly.index.hour == 0
    np.testing.assert_allclose(hourly.cos_week[monday & midnight], 1.0, rtol=1e-12)


@pytest.mark.parametrize("file", ["SPY_1d", "SPY_1h", "XAUUSD_1d", "EURUSD_1h"])
def test_sets_of_real_bars_are_finite_and_of_full_rank(real_bars, file):
    bars = pd.read_parquet(real_bars / f"{file}.parquet").set_index("timestamp")
    for name in SETS:
        found = compute_features(bars, name)
        assert np.isfinite(found.to_numpy()).all()
        check_full_rank(found, floor=3e-3)
