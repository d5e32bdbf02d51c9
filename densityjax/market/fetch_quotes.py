"""A market as it is now: symbols, rules of its instruments, ticker and order book.

Numbers that the exchange does not give are NaN where that has a meaning, and an error elsewhere;
never zero. Amounts are in the base asset, prices in quote currency.
"""

from typing import Any, NamedTuple

import numpy as np

from densityjax._typing import NumpyArray
from densityjax.market import fetch
from densityjax.market.fetch_client import Connection
from densityjax.market.fetch_pages import PageError

MOST_LEVELS = {"linear": 500, "inverse": 500, "spot": 200}  # of Bybit's order books


class Instrument(NamedTuple):
    """Rules of trading a symbol.

    Attributes:
      symbol: ccxt's spelling.
      kind: "linear", "inverse" or "spot".
      tick: smallest step of the price, quote currency.
      lot: smallest step of an amount, base asset (quote currency where inverse).
      least_amount: smallest amount of an order, as `lot`.
      least_cost: smallest value of an order, quote currency; NaN where there is no such rule.
      funding_minutes: time between payments at present; None for spot.
      is_active: whether it can be traded now.
    """

    symbol: str
    kind: str
    tick: float
    lot: float
    least_amount: float
    least_cost: float
    funding_minutes: int | None
    is_active: bool


class Ticker(NamedTuple):
    """Last prices and the last 24 hours.

    Attributes:
      last: price of the last trade, quote currency.
      bid: best bid; NaN where there is none.
      ask: best offer; NaN where there is none.
      high: highest price of 24 hours.
      low: lowest price of 24 hours.
      volume: amount traded in 24 hours, as the exchange counts it.
      change: relative change of price over 24 hours, a fraction.
    """

    last: float
    bid: float
    ask: float
    high: float
    low: float
    volume: float
    change: float


class OrderBook(NamedTuple):
    """Open orders by price, best first.

    Attributes:
      bids: [N, 2] price and amount, prices falling.
      asks: [M, 2] price and amount, prices rising.
      time_ms: when it stood so, ms since 1970.
    """

    bids: NumpyArray
    asks: NumpyArray
    time_ms: int


def fetch_symbols(connection: Connection, kind: str = "linear") -> list[str]:
    """Returns the symbols of a kind of market ("linear", "inverse" or "spot"), sorted."""
    return connection.load_symbols(kind)


def fetch_instrument(connection: Connection, symbol: str) -> Instrument:
    """Fetches the rules that orders of a symbol must keep.

    Args:
      connection: from `connect`.
      symbol: ccxt's spelling, such as "BTC/USDT:USDT".

    Returns:
      The rules.

    Raises:
      ValueError: there is no such symbol.
      FetchError: the exchange did not answer, refused, or left out tick, lot or least amount.
    """
    market = connection.market(symbol)
    limits, info = market["limits"], market["info"]
    needed = {
        "tick": market["precision"]["price"],
        "lot": market["precision"]["amount"],
        "least_amount": limits["amount"]["min"],
    }
    for name, value in needed.items():
        if value is None or not value > 0.0:
            raise PageError(f"{symbol}: the exchange gives {value!r} as its {name}")
    cost = limits["cost"]["min"]
    minutes = info.get("fundingInterval")
    return Instrument(
        symbol=symbol,
        kind=market["kind"],
        **{name: float(value) for name, value in needed.items()},
        least_cost=float("nan") if cost is None else float(cost),
        funding_minutes=int(minutes) if minutes and market["kind"] != "spot" else None,
        is_active=bool(market["active"]),
    )


def fetch_ticker(connection: Connection, symbol: str) -> Ticker:
    """Fetches the last prices; arguments and errors are those of `fetch_instrument`."""
    market = connection.market(symbol)

    def read(result: dict[str, Any]) -> Ticker:
        found = [r for r in result.get("list") or [] if r.get("symbol") == market["id"]]
        if len(found) != 1:
            raise PageError(f"{symbol}: the reply has {len(found)} tickers of it")
        record = found[0]
        return Ticker(
            last=_number(record, "lastPrice"),
            bid=_number(record, "bid1Price", may_lack=True),
            ask=_number(record, "ask1Price", may_lack=True),
            high=_number(record, "highPrice24h"),
            low=_number(record, "lowPrice24h"),
            volume=_number(record, "volume24h"),
            change=_number(record, "price24hPcnt"),
        )

    return connection.get("market/tickers", fetch.query_of(market), read=read)


def fetch_order_book(connection: Connection, symbol: str, *, num_levels: int = 50) -> OrderBook:
    """Fetches the best open orders of both sides.

    Args:
      connection: from `connect`.
      symbol: ccxt's spelling, such as "BTC/USDT:USDT".
      num_levels: most prices of each side.

    Returns:
      The book; a side without orders has no rows.

    Raises:
      ValueError: there is no such symbol, or `num_levels` is out of range.
      FetchError: the exchange did not answer, refused, or gave a book that crosses itself.
    """
    market = connection.market(symbol)
    most = MOST_LEVELS[market["kind"]]
    if not 1 <= num_levels <= most:
        raise ValueError(f"num_levels is {num_levels}: accepted are 1 to {most}")

    def read(result: dict[str, Any]) -> OrderBook:
        try:
            bids, asks = (
                np.array(result[side], np.float64).reshape(len(result[side]), 2) for side in "ba"
            )
            book = OrderBook(bids, asks, int(result["ts"]))
        except (KeyError, TypeError, ValueError) as error:
            raise PageError(f"{symbol}: the order book cannot be read: {error}") from None
        prices = np.concatenate([bids[::-1, 0], asks[:, 0]])
        levels = np.concatenate([bids, asks])
        if (np.diff(prices) <= 0.0).any() or not (np.isfinite(levels) & (levels > 0.0)).all():
            raise PageError(f"{symbol}: the order book is out of order")
        return book

    params = {**fetch.query_of(market), "limit": num_levels}
    return connection.get("market/orderbook", params, read=read)


def _number(record: dict[str, Any], name: str, *, may_lack: bool = False) -> float:
    """Returns a field as a finite number, or raises; NaN where it may lack and does."""
    value = record.get(name)
    if may_lack and value in (None, ""):
        return float("nan")
    try:
        number = float(value)  # pyright: ignore[reportArgumentType]  None raises, as it should
    except (TypeError, ValueError):
        number = float("nan")
    if not np.isfinite(number):
        raise PageError(f"the field {name} is {value!r}, which is no number")
    return number
