"""Bringing a stored series up to date: forwards from its end, backwards from its start.

Everything between `since` and `until` of a manifest is stored or does not exist, at every commit;
so a download that is cut off goes on where it was. The last two bars are fetched again each time,
and what the exchange has changed in them is a revision: the new value counts, the old is recorded.
"""

import importlib.metadata
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from densityjax._typing import NumpyArray
from densityjax.market import fetch, fetch_inputs, fetch_pages, store, timeframes
from densityjax.market.fetch import Progress, Series, Time
from densityjax.market.fetch_client import Connection
from densityjax.market.fetch_pages import Page, Rows
from densityjax.market.store import Manifest, Stored
from densityjax.market.store_revisions import Revision, find_revisions, record

FUNDING = "funding"
OVERLAP_ROWS = 2  # stored rows that are fetched again
FLUSH_PAGES = 50  # between two writes: about five seconds of requests


class Update(NamedTuple):
    """What an update did.

    Attributes:
      path: the Parquet file.
      added: rows that were not there before.
      revisions: values that the exchange changed.
      stored: the series as it is now.
    """

    path: Path
    added: int
    revisions: tuple[Revision, ...]
    stored: Stored


def update_bars(
    connection: Connection,
    symbol: str,
    timeframe: str,
    *,
    since: Time | None = None,
    until: Time | None = None,
    folder: str | os.PathLike = store.FOLDER,
    price: str = "last",
    page_rows: int = fetch_pages.PAGE_ROWS,
    flush_pages: int = FLUSH_PAGES,
    on_progress: Callable[[Progress], None] | None = None,
) -> Update:
    """Makes the store hold every closed bar of a span that the exchange has.

    Args:
      connection: from `connect`.
      symbol: ccxt's spelling, such as "BTC/USDT:USDT".
      timeframe: such as "1h"; see `timeframes.TIMEFRAMES`.
      since: first open wanted, UTC; None for the start of what is stored.
      until: end of the span, not in it; None for all that is closed.
      folder: root of the store.
      price: "last" for trades, or "mark".
      page_rows: most bars of a request, at most 1000.
      flush_pages: windows between two writes.
      on_progress: called after every window.

    Returns:
      What was done, and the series.

    Raises:
      ValueError: an argument is not accepted, or nothing is stored and `since` is None.
      StoreError: the file is damaged, or another process writes it.
      FetchError: the exchange failed; what was fetched before is stored.
    """
    if flush_pages < 1:
        raise ValueError(f"flush_pages is {flush_pages}: accepted is at least 1")
    series = fetch.bar_series(connection, symbol, timeframe, price=price, page_rows=page_rows)
    name = timeframe if price == "last" else f"{timeframe}-{price}"
    path = store.series_path(folder, connection.source, symbol, name)
    with store.writer_lock(path):
        stored = _open(path, connection, symbol, name, series.columns, since)
        num_before = len(stored.rows.times)
        start = stored.manifest.since_ms if since is None else timeframes.to_ms(since, name="since")
        ahead = fetch.closed_opens(connection, timeframe, start, until)
        ahead = ahead[ahead >= _restart(stored)]
        behind = timeframes.opens_between(timeframe, start, stored.manifest.since_ms)
        report = _progress(len(ahead) + len(behind), on_progress)
        writer = _Writer(path, stored, timeframe, connection.server_ms())
        for page in _reported(fetch.walk(series, ahead), report):
            writer.take(page, flush_pages)
        writer.flush()
        for page in _reported(_walk_back(series, behind), report):
            writer.take(page, flush_pages)
        writer.flush(since_ms=min(start, writer.stored.manifest.since_ms))
    added = len(writer.stored.rows.times) - num_before
    return Update(path, added, tuple(writer.revisions), writer.stored)


def update_funding(
    connection: Connection,
    symbol: str,
    *,
    since: Time | None = None,
    folder: str | os.PathLike = store.FOLDER,
) -> Update:
    """Makes the store hold every funding rate since a time; see `update_bars`.

    Args:
      connection: from `connect`.
      symbol: a linear or inverse contract.
      since: first time wanted, UTC; None for the start of what is stored.
      folder: root of the store.

    Returns:
      What was done, and the series: column funding_rate, a fraction.

    Raises:
      ValueError: an argument is not accepted, or nothing is stored and `since` is None.
      StoreError: the file is damaged, or another process writes it.
      FetchError: the exchange failed; nothing is changed.
    """
    market = fetch_inputs.contract_of(connection, symbol)
    path = store.series_path(folder, connection.source, symbol, FUNDING)
    with store.writer_lock(path):
        stored = _open(path, connection, symbol, FUNDING, ("funding_rate",), since)
        now = connection.server_ms()
        old = stored.manifest.since_ms
        start = old if since is None else timeframes.to_ms(since, name="since")
        fresh = fetch_inputs.funding_rows(connection, market, _restart(stored), now + 1)
        if start < old:
            before = fetch_inputs.funding_rows(connection, market, start, old)
            fresh = fetch_pages.merge(fresh, before)
        found = find_revisions(stored, fresh, fresh.times)
        rows = fetch_pages.merge(stored.rows, fresh)
        manifest = stored.manifest._replace(
            since_ms=min(start, old), until_ms=now + 1, updated_ms=now
        )
        manifest = record(manifest, found)
        after = store.write_series(path, Stored(manifest, rows))
    return Update(path, len(rows.times) - len(stored.rows.times), tuple(found), after)


class _Writer:
    """Takes pages, and commits them some at a time."""

    def __init__(self, path: Path, stored: Stored, timeframe: str, now_ms: int) -> None:
        self.path, self.stored, self.timeframe, self.now_ms = path, stored, timeframe, now_ms
        self.revisions: list[Revision] = []
        self.pages: list[Page] = []

    def take(self, page: Page, flush_pages: int) -> None:
        """Takes one page, and writes when enough are at hand."""
        self.pages.append(page)
        if len(self.pages) >= flush_pages:
            self.flush()

    def flush(self, since_ms: int | None = None) -> None:
        """Writes what is at hand; the span that the manifest vouches for grows with it."""
        manifest, rows = self.stored
        since = manifest.since_ms if since_ms is None else since_ms
        until = manifest.until_ms
        for page in self.pages:
            found = find_revisions(self.stored, page.rows, page.opens)
            self.revisions += found
            manifest = record(manifest, found)
            since = min(since, int(page.opens[0]))
            until = max(until, timeframes.next_open(self.timeframe, int(page.opens[-1])))
        for new in [_join([page.rows for page in self.pages])] if self.pages else []:
            rows = fetch_pages.merge(rows, new)
        self.pages = []
        lacking = timeframes.opens_between(
            self.timeframe, int(rows.times[0]) if rows.times.size else until, until
        )
        gaps = timeframes.missing_spans(self.timeframe, lacking, rows.times)
        manifest = manifest._replace(
            since_ms=since, until_ms=until, gaps=tuple(gaps), updated_ms=self.now_ms
        )
        self.stored = store.write_series(self.path, Stored(manifest, rows))


def _open(
    path: Path,
    connection: Connection,
    symbol: str,
    name: str,
    columns: tuple[str, ...],
    since: Time | None,
) -> Stored:
    """Reads what is stored, or begins a series of no rows."""
    stored = store.read_series(path)
    if stored is not None:
        return stored
    if since is None:
        raise ValueError(f"since is None and {path} does not exist: accepted is a time to start at")
    start = timeframes.to_ms(since, name="since")
    packages = ("densityjax", "ccxt", "pyarrow", "numpy")
    versions = {package: importlib.metadata.version(package) for package in packages}
    manifest = Manifest(
        connection.source, symbol, name, columns, 0, "", start, start, (), (), 0, versions
    )
    return Stored(manifest, fetch_pages.empty_rows(len(columns)))


def _restart(stored: Stored) -> int:
    """Returns where to go on, ms since 1970: the last rows but one, or the start."""
    times = stored.rows.times
    return int(times[-OVERLAP_ROWS:][0]) if times.size else stored.manifest.since_ms


def _walk_back(series: Series, opens: NumpyArray) -> Iterator[Page]:
    """Walks a grid backwards, down to the first day with bars."""
    if opens.size and series.next_time is not None:
        first = series.next_time(int(opens[0]))
        opens = opens[opens >= first] if first is not None else opens[:0]
    yield from fetch.walk(series, opens, backwards=True)


def _join(pieces: list[Rows]) -> Rows:
    """Returns pieces that do not overlap as one, sorted."""
    times = np.concatenate([piece.times for piece in pieces])
    order = np.argsort(times)
    return Rows(times[order], np.concatenate([piece.values for piece in pieces])[order])


def _progress(total: int, on_progress: Callable[[Progress], None] | None) -> Callable[[Page], None]:
    """Returns a function that counts pages and reports them."""
    done = 0

    def report(page: Page) -> None:
        nonlocal done
        done += len(page.opens)
        if on_progress:
            on_progress(Progress(done, total, int(page.opens[-1])))

    return report


def _reported(pages: Iterator[Page], report: Callable[[Page], None]) -> Iterator[Page]:
    """Yields pages, reporting each."""
    for page in pages:
        report(page)
        yield page
