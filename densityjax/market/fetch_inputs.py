"""What moves beside the bars: funding rates and open interest, and how to join them to bars.

Funding goes backwards in pages of 200, for its interval differs between symbols and changes over
time: only its own times are believed. A joined value is one that was known before the bar closed.
"""

from typing import Any

import numpy as np
import pandas as pd

from densityjax._typing import NumpyArray
from densityjax.market import fetch, fetch_pages, timeframes
from densityjax.market.fetch import Series, Time
from densityjax.market.fetch_client import Connection
from densityjax.market.fetch_pages import PageError, Rows

INTEREST_INTERVALS = {
    **{name: name.replace("m", "min") for name in ("5m", "15m", "30m")},
    **{name: name for name in ("1h", "4h", "1d")},
}
REPLY_ROWS = 200  # most funding rates, or values of open interest, in a reply of Bybit


def fetch_funding_rates(
    connection: Connection, symbol: str, *, since: Time, until: Time | None = None
) -> pd.Series:
    """Fetches every funding rate of a span of time.

    Args:
      connection: from `connect`.
      symbol: a linear or inverse contract, such as "BTC/USDT:USDT".
      since: first time wanted; ISO 8601 text, stamp or ms since 1970, UTC.
      until: end of the span, not in it; None for now.

    Returns:
      [T] `funding_rate`, the fraction of the position's value that longs pay to shorts, by the
      UTC time of payment.

    Raises:
      ValueError: the symbol or a time is not accepted.
      FetchError: the exchange did not answer, refused, or answered what cannot be true.
    """
    market = contract_of(connection, symbol)
    start = timeframes.to_ms(since, name="since")
    now = connection.server_ms()
    stop = now + 1 if until is None else min(now + 1, timeframes.to_ms(until, name="until"))
    if until is not None and timeframes.to_ms(until, name="until") <= start:
        raise ValueError(f"until is {until!r}: accepted is a time after since, {since!r}")
    rows = funding_rows(connection, market, start, stop)
    return pd.Series(rows.values[:, 0], fetch.to_index(rows), name="funding_rate")


def funding_rows(connection: Connection, market: dict[str, Any], start: int, stop: int) -> Rows:
    """Returns the funding of [start, stop), ms since 1970, holes asked for once more."""
    rows, end = fetch_pages.empty_rows(1), stop - 1
    while end >= start:
        page = _ask_funding(connection, market, None, end)
        if not page.times.size:
            page = _ask_funding(connection, market, None, end)
        if not page.times.size:
            break
        rows, end = fetch_pages.merge(rows, page), int(page.times[0]) - 1
    rows = _fill_holes(connection, market, rows, stop - 1)
    inside = rows.times >= start
    return Rows(rows.times[inside], rows.values[inside])


def fetch_open_interest(
    connection: Connection,
    symbol: str,
    timeframe: str = "1h",
    *,
    since: Time,
    until: Time | None = None,
) -> pd.Series:
    """Fetches the open interest at equal steps of time.

    Args:
      connection: from `connect`.
      symbol: a linear or inverse contract.
      timeframe: "5m", "15m", "30m", "1h", "4h" or "1d".
      since: first time wanted, UTC.
      until: end of the span, not in it; None for now.

    Returns:
      [T] `open_interest`, in base asset for linear contracts, by the UTC time when it stood so.

    Raises:
      ValueError: the symbol, timeframe or time is not accepted.
      FetchError: as for `fetch_funding_rates`.
    """
    if timeframe not in INTEREST_INTERVALS:
        accepted = ", ".join(INTEREST_INTERVALS)
        raise ValueError(f"timeframe is {timeframe!r}: accepted for open interest are {accepted}")
    market = contract_of(connection, symbol)
    opens = fetch.closed_opens(connection, timeframe, since, until)
    what = f"{symbol} open interest"

    def ask(first: int, last: int) -> Rows:
        window = opens[(opens >= first) & (opens <= last)]

        def read(result: dict[str, Any]) -> Rows:
            raw = _pairs(result, "timestamp", "openInterest")
            rows = fetch_pages.parse_rows(raw, columns=(1,), what=what)
            return fetch_pages.fit_window(rows, window, last_closed=int(opens[-1]), what=what)

        params = {**fetch.query_of(market), "intervalTime": INTEREST_INTERVALS[timeframe]}
        params |= {"startTime": first, "endTime": last, "limit": REPLY_ROWS}
        return connection.get("market/open-interest", params, read=read)

    probe = fetch.next_day(connection, market)
    rows = fetch.gather(Series(("open_interest",), ask, probe, REPLY_ROWS), opens)
    return pd.Series(rows.values[:, 0], fetch.to_index(rows), name="open_interest")


def join_as_of(bars: pd.DataFrame, values: pd.Series, timeframe: str) -> pd.DataFrame:
    """Adds to each bar the last value that was known before the bar closed.

    Args:
      bars: frame of T bars, UTC index of opens.
      values: [N] values by the UTC time from which they are known; its name names the column.
      timeframe: clock of the bars, such as "1h".

    Returns:
      The bars with one column more; NaN where nothing was known yet.

    Raises:
      ValueError: the values have no name, or a time occurs twice or out of order.
    """
    timeframes.check_timeframe(timeframe)
    if values.name is None:
        raise ValueError("values has no name: accepted is a named Series, such as funding_rate")
    known, opens = (timeframes.stamps_ms(index) for index in (values.index, bars.index))
    if (np.diff(known) <= 0).any():
        raise ValueError("values has times that do not increase strictly")
    closes = np.array([timeframes.next_open(timeframe, int(time)) for time in opens], np.int64)
    place = np.searchsorted(known, closes, side="left") - 1  # strictly before the close
    padded = np.concatenate([[np.nan], values.to_numpy(np.float64)])
    return bars.assign(**{str(values.name): padded[place + 1]})


def contract_of(connection: Connection, symbol: str) -> dict[str, Any]:
    """Returns the record of a symbol that is not spot."""
    market = connection.market(symbol)
    if market["kind"] == "spot":
        raise ValueError(f"symbol is {symbol!r}: accepted is a linear or inverse contract")
    return market


def _ask_funding(
    connection: Connection, market: dict[str, Any], start: int | None, end: int
) -> Rows:
    """Asks for the last funding rates up to a time; Bybit refuses a start without an end."""
    what = f"{market['symbol']} funding"

    def read(result: dict[str, Any]) -> Rows:
        raw = _pairs(result, "fundingRateTimestamp", "fundingRate")
        rows = fetch_pages.parse_rows(raw, columns=(1,), what=what)
        is_outside = (rows.times > end) | (rows.times < (start or 0))
        if is_outside.any():
            stranger = timeframes.show_ms(rows.times[is_outside][0])
            raise PageError(f"{what}: the payment of {stranger} was not asked for")
        return rows

    params = {**fetch.query_of(market), "startTime": start, "endTime": end, "limit": REPLY_ROWS}
    return connection.get("market/funding/history", params, read=read)


def _fill_holes(connection: Connection, market: dict[str, Any], rows: Rows, end: int) -> Rows:
    """Asks again wherever a step is longer than one of those beside it."""
    asked: set[tuple[int, int]] = set()
    while True:
        spans = [span for span in _long_steps(rows.times, end) if span not in asked]
        if not spans:
            return rows
        asked.update(spans)
        for start, stop in spans:
            rows = fetch_pages.merge(rows, _ask_funding(connection, market, start, stop))


def _long_steps(times: NumpyArray, end: int) -> list[tuple[int, int]]:
    """Returns the insides of steps that are longer than the shorter neighbour, both ends in."""
    if len(times) < 3:
        return []
    steps = np.diff(np.append(times, end + 1))
    left = np.concatenate([steps[1:2], steps[:-1]])
    right = np.concatenate([steps[1:-1], steps[-2:-1], steps[-2:-1]])
    places = np.flatnonzero(steps > np.minimum(left, right))
    return [(int(times[p]) + 1, int(times[p] + steps[p]) - 1) for p in places]


def _pairs(result: dict[str, Any], time: str, value: str) -> list[list[Any]]:
    """Returns a list of records as rows of time and value."""
    try:
        return [[record[time], record[value]] for record in result["list"]]
    except (KeyError, TypeError) as error:
        raise PageError(f"a record cannot be read: {error}") from None
