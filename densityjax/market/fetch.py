"""Bars and other histories of an exchange, whole: what is missing is missing there.

Windows go forward, each with a start and an end, up to the last bar that is closed by the
SERVER's clock. Times are opens in UTC. Nothing is filled: gaps come back as spans of time.
`store.update_bars` keeps what is fetched here.
"""

import functools
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from densityjax._typing import NumpyArray
from densityjax.market import fetch_pages, timeframes
from densityjax.market.fetch_client import Connection
from densityjax.market.fetch_pages import PAGE_ROWS, Page, Rows

Time = str | int | pd.Timestamp

PRICES = ("last", "mark")
BAR_COLUMNS = ("open", "high", "low", "close", "volume", "turnover")
MARK_COLUMNS = BAR_COLUMNS[:4]
INTERVALS = {"1d": "D", "1w": "W", "1M": "M"}  # the others are numbers of minutes


class Progress(NamedTuple):
    """How far a download is.

    Attributes:
      done: opens covered so far, gaps included.
      total: opens to cover.
      time_ms: open up to which all is covered, ms since 1970.
    """

    done: int
    total: int
    time_ms: int


class Series(NamedTuple):
    """What to fetch, ready to be asked for.

    Attributes:
      columns: names of the values.
      ask: returns the rows between two opens, both included.
      next_time: from when on there are bars at or after a time, ms since 1970; None for never.
      page_rows: most rows of a reply.
    """

    columns: tuple[str, ...]
    ask: fetch_pages.Ask
    next_time: Callable[[int], int | None] | None
    page_rows: int


def fetch_bars(
    connection: Connection,
    symbol: str,
    timeframe: str,
    *,
    since: Time,
    until: Time | None = None,
    price: str = "last",
    page_rows: int = PAGE_ROWS,
    on_progress: Callable[[Progress], None] | None = None,
) -> pd.DataFrame:
    """Fetches every closed bar of a span of time.

    Args:
      connection: from `connect`.
      symbol: ccxt's spelling, such as "BTC/USDT:USDT".
      timeframe: such as "1h"; see `timeframes.TIMEFRAMES`.
      since: first open wanted; ISO 8601 text, stamp or ms since 1970, UTC.
      until: end of the span, not in it; None for all that is closed.
      price: "last" for trades, or "mark" for the mark price, which has no volume.
      page_rows: most bars of a request, at most 1000.
      on_progress: called after every window.

    Returns:
      Frame of T bars: UTC index `timestamp` of opens; float64 columns open, high, low, close in
      quote currency, volume in units of the base asset, turnover in quote currency. `attrs` holds
      source, symbol, timeframe and gaps: tuples (start, stop) of ISO times of what the exchange
      lacks after the first bar, `stop` not in it.

    Raises:
      ValueError: the symbol, timeframe, time or price is not accepted.
      FetchError: the exchange did not answer, refused, or answered what cannot be true.
    """
    series = bar_series(connection, symbol, timeframe, price=price, page_rows=page_rows)
    opens = closed_opens(connection, timeframe, since, until)
    rows = gather(series, opens, on_progress)
    frame = to_frame(rows, series.columns)
    lacking = opens[opens >= rows.times[0]] if rows.times.size else opens
    spans = timeframes.missing_spans(timeframe, lacking, rows.times)
    frame.attrs = {
        "source": connection.client.id,
        "symbol": symbol,
        "timeframe": timeframe,
        "gaps": tuple((timeframes.show_ms(a), timeframes.show_ms(b)) for a, b in spans),
    }
    return frame


def bar_series(
    connection: Connection,
    symbol: str,
    timeframe: str,
    *,
    price: str = "last",
    page_rows: int = PAGE_ROWS,
) -> Series:
    """Returns how bars are asked for; arguments and errors are those of `fetch_bars`."""
    timeframes.check_timeframe(timeframe)
    if price not in PRICES:
        raise ValueError(f"price is {price!r}: accepted are {', '.join(PRICES)}")
    if not 1 <= page_rows <= PAGE_ROWS:
        raise ValueError(f"page_rows is {page_rows}: accepted are 1 to {PAGE_ROWS}")
    market = connection.market(symbol)
    if price == "mark" and market["kind"] == "spot":
        raise ValueError(f"symbol is {symbol!r}: a spot market has no mark price")
    server_ms = connection.server_ms()
    last_closed = timeframes.floor_open(timeframe, server_ms) - 1
    ask = functools.partial(
        _ask_bars, connection, market, timeframe, price=price, last_closed=last_closed
    )
    is_long = timeframe in ("1d", "1w", timeframes.MONTH)
    probe = None if is_long else next_day(connection, market, price=price)
    return Series(MARK_COLUMNS if price == "mark" else BAR_COLUMNS, ask, probe, page_rows)


def closed_opens(
    connection: Connection, timeframe: str, since: Time, until: Time | None
) -> NumpyArray:
    """Returns the opens of a span whose bars are closed by the server's clock, [T] ms."""
    start = timeframes.to_ms(since, name="since")
    now = timeframes.floor_open(timeframe, connection.server_ms())
    stop = now if until is None else min(now, timeframes.to_ms(until, name="until"))
    if until is not None and timeframes.to_ms(until, name="until") <= start:
        raise ValueError(f"until is {until!r}: accepted is a time after since, {since!r}")
    return timeframes.opens_between(timeframe, start, stop)


def to_frame(rows: Rows, columns: tuple[str, ...]) -> pd.DataFrame:
    """Returns rows as a frame with a UTC index `timestamp`."""
    return pd.DataFrame(rows.values, to_index(rows), list(columns))


def to_index(rows: Rows) -> pd.DatetimeIndex:
    """Returns the times of rows as a UTC index `timestamp`, in the unit of other readers."""
    usual = pd.date_range("2000-01-01", periods=1).unit
    index = pd.DatetimeIndex(rows.times.astype("datetime64[ms]"), tz="UTC", name="timestamp")
    return index.as_unit(usual)


def gather(
    series: Series, opens: NumpyArray, on_progress: Callable[[Progress], None] | None = None
) -> Rows:
    """Returns the rows of all pages."""
    pieces: list[Rows] = [fetch_pages.empty_rows(len(series.columns))]
    done = 0
    for page in walk(series, opens):
        pieces.append(page.rows)
        done += len(page.opens)
        if on_progress:
            on_progress(Progress(done, len(opens), int(page.opens[-1])))
    return Rows(*(np.concatenate([getattr(p, name) for p in pieces]) for name in Rows._fields))


def walk(series: Series, opens: NumpyArray, *, backwards: bool = False) -> Iterator[Page]:
    """Returns the pages of a series over a grid; see `fetch_pages.iter_pages`."""
    return fetch_pages.iter_pages(
        series.ask,
        opens,
        page_rows=series.page_rows,
        next_time=series.next_time,
        backwards=backwards,
    )


def _ask_bars(
    connection: Connection,
    market: dict[str, Any],
    timeframe: str,
    first: int,
    last: int,
    *,
    price: str,
    last_closed: int,
) -> Rows:
    """Asks for the bars from one open to another, both included."""
    what = f"{market['symbol']} {timeframe}"
    # An inverse contract counts its volume in quote currency, and its turnover in the base asset.
    amounts = () if price == "mark" else (6, 5) if market["kind"] == "inverse" else (5, 6)
    interval = INTERVALS.get(timeframe) or timeframes.STEPS_MS[timeframe] // timeframes.MINUTE_MS
    path = "market/mark-price-kline" if price == "mark" else "market/kline"
    stop = timeframes.next_open(timeframe, last)
    window = timeframes.opens_between(timeframe, first, stop)

    def read(result: dict[str, Any]) -> Rows:
        if result.get("symbol", market["id"]) != market["id"]:
            raise fetch_pages.PageError(f"{what}: the reply is of {result['symbol']!r}")
        rows = fetch_pages.parse_rows(result.get("list"), columns=(1, 2, 3, 4, *amounts), what=what)
        rows = fetch_pages.fit_window(rows, window, last_closed=last_closed, what=what)
        return fetch_pages.check_prices(rows, what=what)

    params = {**query_of(market), "interval": str(interval), "limit": PAGE_ROWS}
    return connection.get(path, {**params, "start": first, "end": stop - 1}, read=read)


def next_day(
    connection: Connection, market: dict[str, Any], *, price: str = "last"
) -> Callable[[int], int | None]:
    """Returns a function that finds the first day with bars, the day of a given time included."""

    def next_time(time_ms: int) -> int | None:
        stop = connection.server_ms()
        days = timeframes.opens_between("1d", timeframes.floor_open("1d", time_ms), stop)
        ask = functools.partial(_ask_bars, connection, market, "1d", price=price, last_closed=stop)
        for row in range(0, len(days), PAGE_ROWS):
            window = days[row : row + PAGE_ROWS]
            for _ in range(2):  # an empty reply is believed when it is given twice
                found = ask(int(window[0]), int(window[-1])).times
                if found.size:
                    return int(found[0])
        return None

    return next_time


def query_of(market: dict[str, Any]) -> dict[str, str]:
    """Returns the part of a query that names the symbol."""
    return {"category": market["kind"], "symbol": market["id"]}
