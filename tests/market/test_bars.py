"""Reading, validating and writing bars."""

import gzip

import numpy as np
import pandas as pd
import pytest

from densityjax.market.bars import BarsError, read_bars, validate_bars, write_bars

T0 = pd.Timestamp("2024-01-01", tz="UTC")


def walk(num_bars=40, freq="1h", seed=0):
    rng = np.random.default_rng(seed)
    close = 100.0 * np.exp(np.cumsum(0.01 * rng.standard_normal(num_bars)))
    open_ = np.concatenate([[100.0], close[:-1]])
    spread = np.exp(0.004 * rng.random((2, num_bars)))
    index = pd.date_range(T0, periods=num_bars, freq=freq, name="timestamp")
    columns = {
        "open": open_,
        "high": np.maximum(open_, close) * spread[0],
        "low": np.minimum(open_, close) / spread[1],
        "close": close,
        "volume": rng.gamma(2.0, 10.0, num_bars),
    }
    return pd.DataFrame(columns, index=index)


def save(table, path):
    table.to_csv(path, index=False)
    return path


@pytest.mark.parametrize("suffix", [".csv", ".csv.gz", ".parquet"])
def test_bars_out_and_in_are_equal_bit_for_bit(tmp_path, suffix):
    bars = walk(500).assign(funding_rate=1e-4 / 3.0, is_filled=False)
    bars.iloc[7, bars.columns.get_loc("is_filled")] = True
    bars.index = bars.index + pd.to_timedelta(np.arange(500) * 7, unit="ns")
    bars.index.name = "timestamp"
    path = tmp_path / f"bars{suffix}"
    write_bars(bars, path)
    again = read_bars(path)
    pd.testing.assert_frame_equal(again, bars, check_exact=True, check_freq=False)
    assert list(tmp_path.iterdir()) == [path]


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch):
    path = tmp_path / "bars.csv"
    write_bars(walk(), path)
    before = path.read_bytes()

    def killed(self, file, **_):
        file.write_text("half")
        raise KeyboardInterrupt

    monkeypatch.setattr(pd.DataFrame, "to_csv", killed)
    with pytest.raises(KeyboardInterrupt):
        write_bars(walk(seed=1), path)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    "names",
    [
        ("Date", "Open", "High", "Low", "Close", "Volume"),
        ("open_time", "o", "h", "l", "c", "v"),
        ("Open Time", "OPEN", "HIGH", "LOW", "CLOSE", "Volume BTC"),
        ("datetime", " open", "high ", "low", "Close Price", "vol"),
        ("", "open", "high", "low", "close", "volume_btc"),
    ],
)
def test_usual_spellings_of_columns_are_understood(tmp_path, names):
    bars = walk()
    table = bars.reset_index()
    table.columns = list(names)
    pd.testing.assert_frame_equal(
        read_bars(save(table, tmp_path / "bars.csv")), bars, check_freq=False
    )


@pytest.mark.parametrize("unit", ["s", "ms", "us", "ns"])
@pytest.mark.parametrize("as_float", [False, True])
def test_epoch_numbers_are_told_apart_by_their_size(tmp_path, unit, as_float):
    bars = walk()
    numbers = bars.index.as_unit(unit).asi8
    table = bars.reset_index().assign(timestamp=numbers.astype(float) if as_float else numbers)
    assert (read_bars(save(table, tmp_path / "bars.csv")).index == bars.index).all()


@pytest.mark.parametrize(
    "text",
    ["%Y-%m-%d %H:%M:%S", "%Y-%m-%dT%H:%M:%SZ", "%Y-%m-%d %H:%M:%S+00:00", "%Y.%m.%d %H:%M"],
)
def test_iso_text_with_and_without_a_zone_is_utc(tmp_path, text):
    bars = walk()
    table = bars.reset_index().assign(timestamp=bars.index.strftime(text))
    assert (read_bars(save(table, tmp_path / "bars.csv")).index == bars.index).all()


def test_times_in_a_zone_are_converted(tmp_path):
    bars = walk()
    local = bars.tz_convert("Asia/Tokyo")
    write_path = tmp_path / "bars.parquet"
    local.to_parquet(write_path)
    assert (read_bars(write_path).index == bars.index).all()
    text = bars.reset_index().assign(timestamp=local.index.strftime("%Y-%m-%dT%H:%M:%S%z"))
    read = read_bars(save(text, tmp_path / "bars.csv"))
    assert (read.index == bars.index).all()
    assert str(read.index.tz) == "UTC"


def test_date_and_time_columns_and_date_numbers(tmp_path):
    bars = walk()
    split = bars.reset_index(drop=True)
    split.insert(0, "Date", bars.index.strftime("%Y.%m.%d"))
    split.insert(1, "Time", bars.index.strftime("%H:%M"))
    assert (read_bars(save(split, tmp_path / "a.csv")).index == bars.index).all()
    days = walk(freq="1D")
    numbers = days.reset_index().assign(timestamp=days.index.strftime("%Y%m%d").astype(int))
    assert (read_bars(save(numbers, tmp_path / "b.csv")).index == days.index).all()


def test_close_is_read_and_the_adjusted_close_left_aside(tmp_path):
    bars = walk()
    table = bars.reset_index().assign(**{"Adj Close": bars["close"].to_numpy() / 2.0})
    read = read_bars(save(table, tmp_path / "bars.csv"))
    assert (read["close"] == bars["close"]).all()
    assert list(read.columns) == ["open", "high", "low", "close", "volume"]


@pytest.mark.parametrize("separator", [";", "\t"])
def test_other_separators_are_understood(tmp_path, separator):
    bars = walk()
    bars.to_csv(tmp_path / "bars.csv", sep=separator)
    pd.testing.assert_frame_equal(read_bars(tmp_path / "bars.csv"), bars, check_freq=False)


@pytest.mark.parametrize("how", ["absent", "all_nan"])
def test_volume_that_is_not_there_is_left_out_and_said(tmp_path, how):
    bars = walk()
    table = bars.drop(columns="volume") if how == "absent" else bars.assign(volume=np.nan)
    read = read_bars(save(table.reset_index(), tmp_path / "bars.csv"))
    assert list(read.columns) == ["open", "high", "low", "close"]
    assert any("volume" in note for note in read.attrs["notes"])


def test_numeric_extras_are_kept_and_text_extras_are_said(tmp_path):
    table = walk().reset_index().assign(trades=7, turnover="a lot", comment="x")
    read = read_bars(save(table, tmp_path / "bars.csv"))
    assert (read["trades"] == 7.0).all()
    assert "turnover" not in read
    assert any("turnover" in note for note in read.attrs["notes"])


def test_a_panel_needs_a_symbol(tmp_path):
    panel = pd.concat([walk(seed=s).reset_index().assign(symbol=f"S{s}USD") for s in range(3)])
    path = save(panel, tmp_path / "panel.csv")
    with pytest.raises(BarsError, match=r"holds 3 symbols \('S0USD', 'S1USD', 'S2USD'\).*symbol="):
        read_bars(path)
    with pytest.raises(BarsError, match=r"'S1USDT' is not in the file .*'S1USD'"):
        read_bars(path, symbol="S1USDT")
    read = read_bars(path, symbol="S1USD")
    pd.testing.assert_frame_equal(read, walk(seed=1), check_freq=False)
    assert read.attrs["symbol"] == "S1USD"
    with pytest.raises(BarsError, match="no column names one"):
        read_bars(save(walk().reset_index(), tmp_path / "one.csv"), symbol="S1USD")


def spoil(column, value, row=3):
    def change(bars):
        bars = bars.astype({column: object}) if isinstance(value, str) else bars
        bars.iloc[row, bars.columns.get_loc(column)] = value
        return bars

    return change


ROW = r"row 3 \(2024-01-01 03:00:00\+00:00\)"
FAULTS = {
    "no_rows": (lambda b: b.iloc[:0], "no rows"),
    "one_row": (lambda b: b.iloc[:1], "1 row; at least 2"),
    "missing": (lambda b: b.drop(columns="low"), "column 'low' is missing"),
    "misspelt": (
        lambda b: b.rename(columns={"close": "clsoe"}),
        "'close' is missing; did you mean the column 'clsoe'",
    ),
    "text": (spoil("high", "n/k"), f"column 'high', {ROW}: 'n/k' is not a number"),
    "nan": (spoil("open", np.nan), f"column 'open', {ROW}: nan is not finite"),
    "inf": (spoil("high", np.inf), f"column 'high', {ROW}: inf is not finite"),
    "zero": (spoil("low", 0.0), f"column 'low', {ROW}: 0.0 is not positive"),
    "negative": (spoil("close", -5.0), f"column 'close', {ROW}: -5.0 is not positive"),
    "high_below": (spoil("high", 50.0), f"column 'high', {ROW}: 50.0 is below the low"),
    "close_above": (spoil("close", 500.0), f"column 'high', {ROW}: .* is below the close 500.0"),
    "low_above": (spoil("open", 50.0), f"column 'low', {ROW}: .* is above the open 50.0"),
    "volume": (spoil("volume", -1.0), f"column 'volume', {ROW}: -1.0 is negative"),
    "duplicate": (
        lambda b: b.iloc[[0, 1, 2, 2, 3]],
        r"row 3 \(2024-01-01 02:00:00\+00:00\) repeats that of row 2",
    ),
    "unsorted": (
        lambda b: b.iloc[[0, 1, 3, 2, 4]],
        r"row 3 \(2024-01-01 02:00:00\+00:00\) is earlier than that of row 2",
    ),
    "constant": (
        lambda b: b.assign(open=7.0, high=7.0, low=7.0, close=7.0),
        "'close' is 7.0 in all 40 rows",
    ),
}


@pytest.mark.parametrize("name", FAULTS)
def test_each_fault_is_one_line_with_column_row_and_value(tmp_path, name):
    change, message = FAULTS[name]
    path = save(change(walk()).reset_index(), tmp_path / "my.csv")
    with pytest.raises(BarsError, match=message) as caught:
        read_bars(path)
    assert str(caught.value).startswith("my.csv: ")
    assert "\n" not in str(caught.value)
    if name != "text":  # a column of text is another type of column in memory
        with pytest.raises(BarsError, match=message):
            validate_bars(change(walk()))


@pytest.mark.parametrize(
    ("times", "message"),
    [
        (["2024-01-01T00:00:00Z", "2024-01-01T01:00:00"], "mixed time zones: row 0"),
        (["2024-01-01T00:00:00+01:00", "2024-01-01T01:00:00+02:00"], "mixed time zones"),
        (["2024-01-01", "someday"], "row 1, 'someday', is not an ISO 8601"),
        (["2024-01-01", ""], "row 1 is missing"),
        (["12", "13"], "not all seconds"),
        (["1700000000", "1700000000000"], "not all seconds"),
    ],
)
def test_times_that_cannot_be_trusted_are_refused(tmp_path, times, message):
    table = walk(2).reset_index().assign(timestamp=times)
    with pytest.raises(BarsError, match=message):
        read_bars(save(table, tmp_path / "bars.csv"))


def test_files_that_are_not_bars_give_one_line(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no such file: .*absent\.csv"):
        read_bars(tmp_path / "absent.csv")
    with pytest.raises(BarsError, match=r"unknown suffix '\.xlsx'; accepted: \.csv"):
        read_bars(tmp_path / "bars.xlsx")
    contents = {
        "empty.csv": b"",
        "header.csv": b"timestamp,open,high,low,close\n",
        "ragged.csv": b"a,b\n1,2\n1,2,3,4\n",
        "bytes.csv": b"\xff\xfe\x00\x01\n\xff\xff",
        "bad.csv.gz": b"not gzip",
        "cut.csv.gz": gzip.compress(walk(300).to_csv().encode())[:2000],
        "bad.parquet": b"not parquet",
        "empty.parquet": b"",
    }
    for name, content in contents.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(BarsError) as caught:
            read_bars(tmp_path / name)
        assert str(caught.value).startswith(f"{name}: "), name
        assert "\n" not in str(caught.value), name
    (tmp_path / "folder.csv").mkdir()
    with pytest.raises(BarsError, match="cannot be opened"):
        read_bars(tmp_path / "folder.csv")


def test_two_columns_of_one_name_are_refused_and_not_renamed(tmp_path):
    text = "timestamp,open,high,low,close,close\n2024-01-01,1,1,1,1,7\n2024-01-02,1,1,1,1,7\n"
    (tmp_path / "twice.csv").write_text(text)
    with pytest.raises(BarsError, match=r"twice\.csv: two columns are called 'close'; keep one"):
        read_bars(tmp_path / "twice.csv")


def test_two_columns_of_one_name_are_refused(tmp_path):
    table = walk().reset_index().assign(Close=1.0)
    with pytest.raises(BarsError, match="'close', 'Close' all spell 'close'"):
        read_bars(save(table, tmp_path / "bars.csv"))


def test_a_frame_without_utc_times_is_refused():
    bars = walk()
    with pytest.raises(BarsError, match="no time zone"):
        validate_bars(bars.tz_localize(None))
    with pytest.raises(BarsError, match="is in Asia/Tokyo"):
        validate_bars(bars.tz_convert("Asia/Tokyo"))
    with pytest.raises(BarsError, match="DatetimeIndex"):
        validate_bars(bars.reset_index(drop=True))
    assert validate_bars(bars) is bars
    whole = validate_bars((bars * 100).round().astype(int))
    assert (whole.dtypes == np.float64).all()


def test_a_dirty_file_can_be_read_for_repair(tmp_path):
    path = save(spoil("close", -5.0)(walk()).reset_index(), tmp_path / "dirty.csv")
    assert read_bars(path, validate=False)["close"].iloc[3] == -5.0


def test_real_files_are_read(real_bars):
    euro = read_bars(real_bars / "EURUSD_1h.parquet")
    assert list(euro.columns) == ["open", "high", "low", "close"]
    with pytest.raises(BarsError, match="holds 60 symbols"):
        read_bars(real_bars / "crypto_panel_1h_2024.parquet")
    apt = read_bars(real_bars / "crypto_panel_1h_2024.parquet", symbol="APTUSDT")
    assert len(apt) == 6002
