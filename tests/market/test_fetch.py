"""A downloader that loses no candle: whatever fails, the series is the exchange's, or an error."""

import importlib.util
import pathlib
import random
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest

from densityjax.market import fetch, fetch_client, fetch_inputs, fetch_quotes, fetch_retry
from densityjax.market.fetch_errors import AccessError, FetchError, GaveUpError, RequestError

pytest.importorskip("ccxt")
pytest.importorskip("aiohttp")

SPEC = importlib.util.spec_from_file_location(
    "fake_exchange", pathlib.Path(__file__).with_name("fake_exchange.py")
)
fake = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(fake)

SYMBOL, HOUR = "BTC/USDT:USDT", fake.HOUR
END = fake.NOW // HOUR * HOUR  # open of the candle that is not closed
START = END - 250 * HOUR
COLUMNS = ["open", "high", "low", "close", "volume", "turnover"]


@pytest.fixture(scope="module")
def server():
    exchange = fake.FakeExchange()
    stop = fake.serve(exchange)
    yield exchange
    stop()


@pytest.fixture
def exchange(server):
    url = server.url
    server.__init__()
    server.url = url
    return server


@pytest.fixture
def waits():
    return []


@pytest.fixture
def connection(exchange, waits):
    now = [0.0]

    def sleep(seconds):
        waits.append(seconds)
        now[0] += seconds

    patience = fetch_retry.Patience(
        attempts=4,
        timeout_s=0.3,
        sleep=sleep,
        clock=lambda: now[0],
        uniform=random.Random(0).random,
    )
    with fetch_client.connect(base_url=exchange.url, patience=patience) as opened:
        yield opened


def same(frame, truth):
    times, values = truth
    np.testing.assert_array_equal(frame.index.as_unit("ms").asi8, times)
    np.testing.assert_array_equal(frame.to_numpy(), values)


def test_exc_02_2500_bars_come_without_gap_or_duplicate_and_every_request_has_both_ends(
    exchange, connection, waits
):
    done = []
    start = END - 2500 * HOUR
    bars = fetch.fetch_bars(connection, SYMBOL, "1h", since=start, on_progress=done.append)
    same(bars, exchange.truth("1h", start))
    assert len(bars) == 2500
    assert list(bars.columns) == COLUMNS
    assert bars.attrs["gaps"] == ()
    queries = [query for path, query in exchange.log if path == "market/kline"]
    assert len(queries) == 3
    assert all({"start", "end", "limit"} <= set(query) for query in queries)
    assert [d.done for d in done] == [1000, 2000, 2500]
    assert done[-1].total == 2500
    # Requests are paced: every pause but the first is a tenth of a second.
    assert waits == pytest.approx([0.1] * (sum(exchange.counts.values()) - 1))


@pytest.mark.parametrize(
    "fault",
    "10006 403 500 10016 10002 timeout reset truncated html duplicate conflict missing shuffled "
    "open short empty zero text nan crossed shifted".split(),
)
def test_exc_04_a_fault_that_passes_leaves_no_trace_in_the_series(exchange, connection, fault):
    exchange.faults["market/kline"] = {2: fault, 4: fault}
    bars = fetch.fetch_bars(connection, SYMBOL, "1h", since=START, page_rows=100)
    same(bars, exchange.truth("1h", START))
    assert bars.attrs["gaps"] == ()


@pytest.mark.parametrize(
    "fault", ["zero", "text", "nan", "crossed", "shifted", "conflict", "html", "truncated"]
)
def test_ec_11_a_reply_that_stays_wrong_is_an_error_and_never_a_number(exchange, connection, fault):
    exchange.faults["market/kline"] = {"always": fault}
    with pytest.raises(GaveUpError, match="4 attempts"):
        fetch.fetch_bars(connection, SYMBOL, "1h", since=START)
    assert exchange.counts["market/kline"] == 4


@pytest.mark.parametrize("fault", ["10003", "10004", "10005", "10009", "10024", "451"])
def test_refusals_stop_at_once(exchange, connection, fault):
    exchange.faults["market/kline"] = {"always": fault}
    with pytest.raises(AccessError):
        fetch.fetch_bars(connection, SYMBOL, "1h", since=START)
    assert exchange.counts["market/kline"] == 1


def test_a_wrong_request_stops_at_once(exchange, connection):
    exchange.faults["market/kline"] = {"always": "10001"}
    with pytest.raises(RequestError, match="10001"):
        fetch.fetch_bars(connection, SYMBOL, "1h", since=START)
    assert exchange.counts["market/kline"] == 1


def test_waits_double_up_to_a_cap_last_ten_minutes_after_403_and_obey_the_reset_header(
    exchange, connection, waits
):
    exchange.faults["market/time"] = {1: "10016", 2: "10016", 3: "10016"}
    connection.server_ms()
    long = [wait for wait in waits if wait != pytest.approx(0.1)]
    for wait, cap in zip(long, (0.5, 1.0, 2.0), strict=True):
        assert 0.5 * cap <= wait < cap
    exchange.faults["market/time"] = {5: "403", 6: "10006"}
    connection.server_ms()
    assert 600.0 in waits
    assert 7.0 in waits
    patience = connection.patience._replace(uniform=lambda: 1.0)
    assert fetch_retry.wait_of(patience, 40) == patience.most_wait_s


def test_what_never_was_is_a_gap_and_not_filled(exchange, connection):
    exchange.holes = {START + k * HOUR for k in (30, 31, 32, 140)}
    bars = fetch.fetch_bars(connection, SYMBOL, "1h", since=START, page_rows=100)
    same(bars, exchange.truth("1h", START))
    text = [
        tuple(pd.Timestamp(START + k * HOUR, unit="ms").strftime("%Y-%m-%d %H:%M") for k in span)
        for span in ((30, 33), (140, 141))
    ]
    assert list(bars.attrs["gaps"]) == text


def test_a_server_that_gives_a_few_rows_at_a_time_loses_none(exchange, connection, monkeypatch):
    whole = exchange.kline

    def stingy(query, path):
        result = whole(query, path)
        rows = result["list"] if query["interval"] == "D" else result["list"][-7:]
        return {**result, "list": rows}

    monkeypatch.setattr(exchange, "kline", stingy)
    bars = fetch.fetch_bars(connection, SYMBOL, "1h", since=END - 60 * HOUR)
    same(bars, exchange.truth("1h", END - 60 * HOUR))


def test_years_before_a_listing_and_after_a_delisting_cost_few_requests(exchange, connection):
    exchange.listed, exchange.delisted = END - 1500 * HOUR, END - 1200 * HOUR
    start = END - 40_000 * HOUR
    bars = fetch.fetch_bars(connection, "OLD/USDT:USDT", "1h", since=start)
    same(bars, exchange.truth("1h", start, symbol="OLDUSDT"))
    assert len(bars) == 300
    assert len(bars.attrs["gaps"]) == 1  # from the delisting to the present
    assert exchange.counts["market/kline"] < 25


def test_the_open_candle_of_any_clock_is_left_out(exchange, connection):
    for timeframe, since in (("1d", "2023-01-01"), ("1w", "2022-01-01"), ("1M", "2021-05-05")):
        bars = fetch.fetch_bars(connection, SYMBOL, timeframe, since=since)
        same(bars, exchange.truth(timeframe, int(pd.Timestamp(since).timestamp() * 1000)))
        assert bars.index[-1] < pd.Timestamp("2023-11-14", tz="UTC")
    assert (
        fetch.fetch_bars(connection, SYMBOL, "1w", since="2022-01-01").index.day_of_week == 0
    ).all()
    until = pd.Timestamp(END - 10 * HOUR, unit="ms")
    bars = fetch.fetch_bars(connection, SYMBOL, "1h", since=START, until=until)
    same(bars, exchange.truth("1h", START, END - 10 * HOUR))


@pytest.mark.parametrize("fault", ["truncated", "html", "500"])
def test_a_spoilt_list_of_markets_is_asked_for_again(exchange, connection, fault):
    exchange.faults["market/instruments-info"] = {1: fault, 3: fault}
    assert fetch_quotes.fetch_symbols(connection) == [SYMBOL, "OLD/USDT:USDT"]


def test_a_bar_that_closes_during_the_download_is_no_gap(exchange, connection, monkeypatch):
    times = exchange.result

    def ticking(path, query):
        exchange.now += HOUR if path == "market/time" else 0
        return times(path, query)

    monkeypatch.setattr(exchange, "result", ticking)
    bars = fetch.fetch_bars(connection, SYMBOL, "1h", since=START)
    same(bars, exchange.truth("1h", START))
    assert bars.attrs["gaps"] == ()


def test_an_inverse_contract_counts_volume_in_the_base_asset_and_mark_prices_have_none(
    exchange, connection
):
    times, values = exchange.truth("1h", START, symbol="BTCUSD")
    bars = fetch.fetch_bars(connection, "BTC/USD:BTC", "1h", since=START)
    same(bars, (times, values[:, [0, 1, 2, 3, 5, 4]]))
    mark = fetch.fetch_bars(connection, SYMBOL, "1h", since=START, price="mark")
    same(mark, exchange.truth("1h", START, columns=4))
    spot = fetch.fetch_bars(connection, "BTC/USDT", "1h", since=START)
    assert len(spot) == 250


@pytest.mark.parametrize(
    "fault", [None, "missing", "short", "truncated", "empty", "10006", "duplicate"]
)
def test_exc_05_funding_is_whole_though_its_interval_changes(exchange, connection, fault):
    change = END // (8 * HOUR) * 8 * HOUR - 300 * 8 * HOUR
    quick = list(range(change, END, 4 * HOUR))
    slow = list(range(change - 8 * HOUR, change - 2000 * HOUR, -8 * HOUR))
    exchange.funding_times = sorted(quick + slow)
    exchange.faults["market/funding/history"] = {1: fault, 3: fault}
    since = exchange.funding_times[3]
    rates = fetch_inputs.fetch_funding_rates(connection, SYMBOL, since=since)
    times = [t for t in exchange.funding_times if t >= since]
    np.testing.assert_array_equal(rates.index.as_unit("ms").asi8, times)
    expected = [float(exchange.funding_rate(t)) for t in times]
    np.testing.assert_array_equal(rates.to_numpy(), expected)
    assert rates.name == "funding_rate"


def test_exc_05_open_interest_is_whole(exchange, connection):
    exchange.faults["market/open-interest"] = {1: "short", 3: "html"}
    since = END - 450 * HOUR
    interest = fetch_inputs.fetch_open_interest(connection, SYMBOL, since=since)
    times = range(since, END, HOUR)
    np.testing.assert_array_equal(interest.index.as_unit("ms").asi8, list(times))
    expected = [float(f"{1000 * fake.uniform('interest', t):.3f}") for t in times]
    np.testing.assert_array_equal(interest.to_numpy(), expected)


def test_exc_05_joined_values_were_known_before_the_bar_closed():
    opens = pd.date_range("2024-01-01", periods=4, freq="1h", tz="UTC")
    bars = pd.DataFrame({"close": [1.0, 2.0, 3.0, 4.0]}, opens)
    known = opens[0] + pd.to_timedelta([59, 60, 150], unit="min")
    joined = fetch_inputs.join_as_of(bars, pd.Series([10.0, 20.0, 30.0], known, name="rate"), "1h")
    # A value from the very instant of the close is not known before it.
    assert joined["rate"].tolist() == [10.0, 20.0, 30.0, 30.0]
    late = pd.Series([5.0], opens[2:3] + pd.Timedelta("1h"), name="rate")
    assert fetch_inputs.join_as_of(bars, late, "1h")["rate"].isna().tolist() == [True] * 3 + [False]


def test_exc_03_quotes_are_numbers_or_errors(exchange, connection):
    assert fetch_quotes.fetch_symbols(connection) == [SYMBOL, "OLD/USDT:USDT"]
    ticker = fetch_quotes.fetch_ticker(connection, SYMBOL)
    assert ticker._replace(ask=0.0) == (101.5, 101.4, 0.0, 110.0, 99.5, 1234.5, -0.0125)
    assert np.isnan(ticker.ask)
    rules = fetch_quotes.fetch_instrument(connection, SYMBOL)
    assert (rules.tick, rules.lot, rules.least_amount, rules.least_cost) == (0.1, 0.001, 0.001, 5.0)
    assert (rules.kind, rules.funding_minutes, rules.is_active) == ("linear", 480, True)
    assert not fetch_quotes.fetch_instrument(connection, "OLD/USDT:USDT").is_active
    book = fetch_quotes.fetch_order_book(connection, SYMBOL, num_levels=5)
    assert book.bids.shape == book.asks.shape == (5, 2)
    assert book.bids[0].tolist() == [100.0, 1.5]
    assert book.asks[0].tolist() == [100.1, 2.5]
    assert book.time_ms == fake.NOW
    exchange.ticker = lambda query, path: {"list": [{"symbol": "BTCUSDT", "lastPrice": "x"}]}
    with pytest.raises(FetchError, match="lastPrice is 'x'"):
        fetch_quotes.fetch_ticker(connection, SYMBOL)
    exchange.book = lambda query, path: {"b": [["101", "1"]], "a": [["100", "1"]], "ts": 1}
    with pytest.raises(FetchError, match="out of order"):
        fetch_quotes.fetch_order_book(connection, SYMBOL)


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"timeframe": "60"}, "timeframe is '60'"),
        ({"timeframe": "1hour"}, "did you mean '1h'"),
        ({"symbol": "BTC/USDT:USDC"}, "near it: BTC/USDT:USDT"),
        ({"symbol": "BTCUSDT"}, "symbol is 'BTCUSDT'"),
        ({"since": "soon"}, "since is 'soon'"),
        ({"until": "2000-01-01"}, "until is '2000-01-01'"),
        ({"price": "index"}, "price is 'index'"),
        ({"page_rows": 1001}, "page_rows is 1001"),
    ],
)
def test_exc_01_what_is_not_accepted_is_named(connection, change, text):
    given = {"symbol": SYMBOL, "timeframe": "1h", "since": START} | change
    with pytest.raises(ValueError, match=text):
        fetch.fetch_bars(connection, given.pop("symbol"), given.pop("timeframe"), **given)


def test_a_connection_refuses_what_it_does_not_know_and_the_test_network_is_another_place():
    with pytest.raises(ValueError, match="exchange is 'kraken'"):
        fetch_client.connect("kraken")
    with pytest.raises(ValueError, match="base_url is 'localhost'"):
        fetch_client.connect(base_url="localhost")
    with pytest.raises(ValueError, match="attempts is 0"):
        fetch_client.connect(patience=fetch_retry.Patience(attempts=0))
    with fetch_client.connect(testnet=True) as connection:
        assert connection.source == "bybit-testnet"
        assert "testnet" in connection.client.urls["api"]["public"]
        assert connection.client.timeout == 30_000


def test_importing_the_library_imports_neither_ccxt_nor_aiohttp():
    code = "import densityjax.market, sys; print({'ccxt', 'aiohttp'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
