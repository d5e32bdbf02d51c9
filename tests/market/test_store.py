"""A store that holds the exchange's truth after any interruption, and says when it does not."""

import importlib.util
import json
import os
import pathlib
import random
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest

from densityjax import market
from densityjax.market import fetch_client, fetch_retry, store, store_update
from densityjax.market.fetch_errors import GaveUpError

pytest.importorskip("ccxt")
pytest.importorskip("aiohttp")

SPEC = importlib.util.spec_from_file_location(
    "fake_exchange_of_store", pathlib.Path(__file__).with_name("fake_exchange.py")
)
fake = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(fake)

SYMBOL, HOUR = "BTC/USDT:USDT", fake.HOUR
END = fake.NOW // HOUR * HOUR
START = END - 400 * HOUR
# One process imports, then forks downloads that are killed after the given seconds, the last not.
KILLED = """
import os, signal, sys, time
from densityjax.market import fetch_client, fetch_replies, fetch_retry, store_update
url, folder, since, *delays = sys.argv[1:]
patience = fetch_retry.Patience(pause_s=0.0)

def download():
    with fetch_client.connect(base_url=url, patience=patience) as connection:
        store_update.update_bars(connection, "BTC/USDT:USDT", "1h", since=int(since),
                                 folder=folder, page_rows=40, flush_pages=1)

fetch_replies.import_ccxt()
for delay in [*map(float, delays), None]:
    child = os.fork()
    if child == 0:
        try:
            download()
        except BaseException as error:
            print("failed:", error, flush=True)
            os._exit(1)
        os._exit(0)
    if delay is not None:
        time.sleep(delay)
        os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    print("killed" if os.WIFSIGNALED(status) else os.WEXITSTATUS(status), flush=True)
"""


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
def connection(exchange):
    patience = fetch_retry.Patience(attempts=3, pause_s=0.0, sleep=lambda seconds: None)
    with fetch_client.connect(base_url=exchange.url, patience=patience) as opened:
        yield opened


def update(connection, folder, **options):
    options = {"page_rows": 50, "flush_pages": 2} | options
    return store_update.update_bars(connection, SYMBOL, "1h", folder=folder, **options)


def same(frame, truth):
    times, values = truth
    np.testing.assert_array_equal(frame.index.as_unit("ms").asi8, times)
    np.testing.assert_array_equal(frame.to_numpy(), values)


def test_what_is_stored_reads_back_bit_for_bit_and_read_bars_reads_it_too(
    exchange, connection, tmp_path
):
    exchange.holes = {START + 7 * HOUR, START + 8 * HOUR}
    done = []
    result = update(connection, tmp_path, since=START, on_progress=done.append)
    assert result.path == tmp_path / "bybit" / "BTC-USDT_USDT" / "1h.parquet"
    assert (result.added, result.revisions) == (398, ())
    assert (done[-1].done, done[-1].total) == (400, 400)
    bars = market.load_bars(SYMBOL, "1h", folder=tmp_path)
    same(bars, exchange.truth("1h", START))
    assert len(bars.attrs["gaps"]) == 1
    plain = market.read_bars(result.path)
    np.testing.assert_array_equal(plain.to_numpy(), bars.to_numpy())
    assert (plain.index == bars.index).all()
    manifest = json.loads(result.path.with_suffix(".json").read_text())
    assert manifest["rows"] == 398
    assert manifest["gaps"] == [[START + 7 * HOUR, START + 9 * HOUR]]
    assert manifest["updated_ms"] == fake.NOW
    assert manifest["sha256"] == store.digest_of(result.stored.rows)
    assert set(manifest["versions"]) == {"densityjax", "ccxt", "pyarrow", "numpy"}


def test_an_update_asks_for_two_stored_bars_again_and_records_what_changed(
    exchange, connection, tmp_path
):
    update(connection, tmp_path, since=START)
    exchange.revised = {END - HOUR, END - 5 * HOUR}  # the second is older than the overlap
    exchange.now += 30 * HOUR
    exchange.log.clear()
    result = update(connection, tmp_path)
    asked = [int(q["start"]) for path, q in exchange.log if path == "market/kline"]
    assert asked == [END - 2 * HOUR]
    assert result.added == 30
    # The close is half a unit higher, and the high may have moved with it.
    assert {revision.time_ms for revision in result.revisions} == {END - HOUR}
    (close,) = (revision for revision in result.revisions if revision.column == "close")
    assert close.new == pytest.approx(close.old + 0.5)
    exchange.revised = {END - HOUR}
    same(market.load_bars(SYMBOL, "1h", folder=tmp_path), exchange.truth("1h", START))
    recorded = tuple(revision._asdict() for revision in result.revisions)
    assert result.stored.manifest.revisions == recorded
    again = update(connection, tmp_path)
    assert (again.added, again.revisions) == (0, ())
    assert again.stored.manifest.revisions == recorded


def test_an_earlier_start_is_fetched_backwards_and_a_withdrawn_bar_is_kept_and_said(
    exchange, connection, tmp_path
):
    exchange.listed = START - 100 * HOUR
    update(connection, tmp_path, since=START)
    exchange.holes = {END - HOUR}
    result = update(connection, tmp_path, since=START - 5000 * HOUR)
    assert result.added == 100
    assert [(r.time_ms, r.new) for r in result.revisions] == [(END - HOUR, None)]
    exchange.holes = set()
    same(market.load_bars(SYMBOL, "1h", folder=tmp_path), exchange.truth("1h", 0))
    assert result.stored.manifest.since_ms == START - 5000 * HOUR
    assert exchange.counts["market/kline"] < 60


@pytest.mark.parametrize("direction", ["forwards", "backwards"])
def test_a_download_that_fails_goes_on_where_it_was(exchange, connection, tmp_path, direction):
    if direction == "backwards":
        update(connection, tmp_path, since=END - 20 * HOUR)
    exchange.faults["market/kline"] = dict.fromkeys(range(7, 30), "500")
    with pytest.raises(GaveUpError):
        update(connection, tmp_path, since=START)
    middle = market.load_bars(SYMBOL, "1h", folder=tmp_path)
    assert 20 < len(middle) < 400
    assert middle.attrs["gaps"] == ()
    exchange.faults.clear()
    result = update(connection, tmp_path, since=START)
    assert result.added == 400 - len(middle)
    same(market.load_bars(SYMBOL, "1h", folder=tmp_path), exchange.truth("1h", START))


def test_a_series_survives_kills_at_random_points_byte_for_byte(exchange, tmp_path):
    exchange.delay_s = 0.01
    rng = random.Random(7)
    delays = [f"{rng.uniform(0.02, 0.25):.3f}" for _ in range(8)]
    start = END - 1200 * HOUR
    words = [exchange.url, str(tmp_path), str(start), *delays]
    done = subprocess.run(
        [sys.executable, "-c", KILLED, *words], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    *killed, last = done.stdout.split()
    assert killed.count("killed") >= 3, done.stdout
    assert "failed" not in done.stdout
    assert last == "0"
    stored = store.read_series(store.series_path(tmp_path, "bybit", SYMBOL, "1h"))
    times, values = exchange.truth("1h", start)
    assert stored.rows.times.tobytes() == times.tobytes()
    assert stored.rows.values.tobytes() == values.tobytes()
    assert stored.manifest.gaps == ()
    folder = tmp_path / "bybit" / "BTC-USDT_USDT"
    assert {f.name for f in folder.iterdir()} == {"1h.parquet", "1h.json", ".1h.lock"}


@pytest.mark.parametrize("fails_at", [1, 2, 3, 4])
def test_a_write_cut_short_at_any_rename_leaves_a_whole_series(
    exchange, connection, tmp_path, monkeypatch, fails_at
):
    update(connection, tmp_path, since=START, until=END - 200 * HOUR)
    count, replace = [0], os.replace

    def cut(source, target):
        count[0] += 1
        if count[0] == fails_at:
            raise KeyboardInterrupt
        replace(source, target)

    monkeypatch.setattr(store.os, "replace", cut)
    with pytest.raises(KeyboardInterrupt):
        update(connection, tmp_path)
    monkeypatch.undo()
    middle = market.load_bars(SYMBOL, "1h", folder=tmp_path)
    assert len(middle) in (200, 298, 300, 398)
    update(connection, tmp_path)
    same(market.load_bars(SYMBOL, "1h", folder=tmp_path), exchange.truth("1h", START))


def test_a_damaged_file_is_refused_and_not_extended(exchange, connection, tmp_path):
    path = update(connection, tmp_path, since=START).path
    stored = store.read_series(path)
    values = stored.rows.values.copy()
    values[5, 3] = np.nextafter(values[5, 3], 0.0)
    digest = store.digest_of
    try:
        store.digest_of = lambda rows: stored.manifest.sha256
        store.write_series(path, stored._replace(rows=stored.rows._replace(values=values)))
    finally:
        store.digest_of = digest
    with pytest.raises(store.StoreError, match="does not match its digest"):
        market.load_bars(SYMBOL, "1h", folder=tmp_path)
    with pytest.raises(store.StoreError, match="digest"):
        update(connection, tmp_path)
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(store.StoreError, match="cannot be read"):
        market.load_bars(SYMBOL, "1h", folder=tmp_path)
    frame = pd.DataFrame({"timestamp": [1], "close": [1.0]})
    frame.to_parquet(path, index=False)
    with pytest.raises(store.StoreError, match="cannot be read"):
        market.load_bars(SYMBOL, "1h", folder=tmp_path)


def test_one_writer_at_a_time(exchange, connection, tmp_path):
    path = store.series_path(tmp_path, "bybit", SYMBOL, "1h")
    with store.writer_lock(path), pytest.raises(store.StoreError, match="another process"):
        update(connection, tmp_path, since=START)
    update(connection, tmp_path, since=START)


def test_what_is_not_there_or_not_accepted_is_named(connection, tmp_path):
    with pytest.raises(FileNotFoundError, match="fetch_bars"):
        market.load_bars(SYMBOL, "1h", folder=tmp_path)
    with pytest.raises(ValueError, match="since is None"):
        update(connection, tmp_path)
    with pytest.raises(ValueError, match="flush_pages is 0"):
        update(connection, tmp_path, since=START, flush_pages=0)
    with pytest.raises(ValueError, match="cannot be part of a path"):
        store.series_path(tmp_path, "bybit", "../x", "1h")


def test_funding_is_stored_updated_and_extended_backwards(exchange, connection, tmp_path):
    whole = sorted(exchange.funding_times)
    exchange.now -= 100 * HOUR
    exchange.funding_times = [t for t in whole if t <= exchange.now]
    first = store_update.update_funding(connection, SYMBOL, since=whole[500], folder=tmp_path)
    exchange.now += 100 * HOUR
    exchange.funding_times = whole
    second = store_update.update_funding(connection, SYMBOL, since=whole[10], folder=tmp_path)
    times = second.stored.rows.times
    np.testing.assert_array_equal(times, whole[10:])
    expected = [float(exchange.funding_rate(t)) for t in whole[10:]]
    np.testing.assert_array_equal(second.stored.rows.values[:, 0], expected)
    assert first.added + second.added == len(times)
    rates = market.load_bars(SYMBOL, "funding", folder=tmp_path)
    assert list(rates.columns) == ["funding_rate"]
