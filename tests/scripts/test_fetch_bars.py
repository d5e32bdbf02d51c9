"""The command that fetches bars: into the store, into a file, and not at all when it must not."""

import functools
import importlib.util
import pathlib

import numpy as np
import pytest

from densityjax import market

pytest.importorskip("ccxt")
pytest.importorskip("aiohttp")

ROOT = pathlib.Path(__file__).parents[2]


def load(name, path):
    spec = importlib.util.spec_from_file_location(name, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


script = load("fetch_bars_script", ROOT / "scripts" / "fetch_bars.py")
fake = load("fake_exchange_of_script", ROOT / "tests" / "market" / "fake_exchange.py")
HOUR = fake.HOUR
END = fake.NOW // HOUR * HOUR
SINCE, START = "2023-11-10T00:00", 1_699_574_400_000


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
def run(exchange, tmp_path, capsys, monkeypatch):
    hasty = functools.partial(market.connect, patience=market.Patience(pause_s=0.0))
    monkeypatch.setattr(script.market, "connect", hasty)

    def call(*words, symbol="BTC/USDT:USDT"):
        common = ["--symbol", symbol, "--data", str(tmp_path), "--base-url", exchange.url]
        status = script.main([*common, *words])
        return status, *capsys.readouterr()

    return call


def test_cli_01_bars_go_to_the_store_and_to_a_csv_that_reads_back(exchange, run, tmp_path):
    exchange.holes = {START + 5 * HOUR, START + 6 * HOUR}
    out = tmp_path / "out.csv"
    status, text, progress = run("--since", SINCE, "--output", str(out), "--funding")
    assert status == 0, progress
    times, values = exchange.truth("1h", START)
    for bars in (market.read_bars(out), market.load_bars("BTC/USDT:USDT", "1h", folder=tmp_path)):
        np.testing.assert_array_equal(bars.index.as_unit("ms").asi8, times)
        np.testing.assert_array_equal(bars.to_numpy(), values)
    shown = text.splitlines()
    assert shown[0] == (
        f"BTC/USDT:USDT 1h: {len(times)} rows, {len(times)} new, "
        "2023-11-10 00:00 to 2023-11-14 21:00 UTC"
    )
    assert shown[2:5] == [
        "gaps: 1",
        "  no bars from 2023-11-10 05:00 to before 2023-11-10 07:00",
        "revisions: 0",
    ]
    rates = market.load_bars("BTC/USDT:USDT", "funding", folder=tmp_path)
    assert len(rates) == sum(t >= START for t in exchange.funding_times)


def test_a_second_run_needs_no_since_fetches_the_rest_and_prints_revisions(exchange, run):
    run("--since", SINCE)
    exchange.revised = {END - HOUR}
    exchange.now += 3 * HOUR
    status, text, _ = run()
    assert status == 0
    assert ", 3 new, " in text
    changed = [line for line in text.splitlines() if " close: " in line]
    assert len(changed) == 1
    assert "->" in changed[0]


@pytest.mark.parametrize(
    ("words", "first", "count"),
    [
        (["--limit", "30"], END - 30 * HOUR, 30),
        (["--limit", "30", "--since", SINCE], START, 30),
        (["--limit", "5", "--until", SINCE], START - 5 * HOUR, 5),
        (["--since", SINCE, "--until", "2023-11-11"], START, 24),
    ],
)
def test_a_limit_counts_bars_from_the_start_or_from_the_end(run, tmp_path, words, first, count):
    assert run(*words)[0] == 0
    bars = market.load_bars("BTC/USDT:USDT", "1h", folder=tmp_path)
    assert len(bars) == count
    assert bars.index.as_unit("ms").asi8[0] == first


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["--since", SINCE, "--timeframe", "60"], "timeframe is '60'"),
        (["--since", "soon"], "since is 'soon'"),
        (["--limit", "0"], "--limit is 0"),
        (["--limit", "9", "--since", SINCE, "--until", "2023-11-11"], "accepted are two of them"),
        ([], "since is None"),
        (["--since", SINCE, "--exchange", "kraken"], "exchange is 'kraken'"),
        (["--since", SINCE, "--testnet"], "testnet is True and base_url is given"),
    ],
)
def test_what_is_not_accepted_is_named_in_one_line(run, words, text):
    status, out, err = run(*words)
    assert (status, out) == (2, "")
    assert text in err.strip().splitlines()[-1]


def test_an_unknown_symbol_is_named_with_its_neighbours(run):
    status, _, err = run("--since", SINCE, symbol="BTC/USDC:USDC")
    assert status == 2
    assert "symbol is 'BTC/USDC:USDC'" in err
    assert "near it" in err


def test_a_refusal_of_the_exchange_is_an_error_not_a_traceback(exchange, run):
    exchange.faults["market/kline"] = {"always": "10024"}
    status, out, err = run("--since", SINCE)
    assert (status, out) == (2, "")
    assert "access refused" in err
