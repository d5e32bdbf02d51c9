"""A connection to an exchange: ccxt carries the requests, and what it lets pass is checked.

ccxt reads a truncated or an HTML body as no data at all, and calls some failures that pass plain
errors; the client here is its own with three methods replaced: pacing, and both looks at a reply.
ccxt is the extra `exchange` and imported on connecting only.
"""

import difflib
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Any, Self, TypeVar

from densityjax.market import fetch_replies, fetch_retry
from densityjax.market.fetch_errors import PageError
from densityjax.market.fetch_retry import Patience

T = TypeVar("T")
EXCHANGES = ("bybit",)  # whose rules of windows and order are known and tested
KINDS = ("linear", "inverse", "spot")


class Connection:
    """An open connection; a context manager that closes it.

    Attributes:
      source: exchange and network, such as "bybit" or "bybit-testnet".
      client: the ccxt client, its market list loaded kind by kind as symbols ask for it.
      patience: attempts, waits and pauses.
    """

    def __init__(self, client: Any, patience: Patience, source: str) -> None:
        self.client = client
        self.source = source
        self.patience = patience
        self._kinds: list[str] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Closes the sockets."""
        self.client.session.close()

    def get(
        self, path: str, params: Mapping[str, Any], *, read: Callable[[dict[str, Any]], T]
    ) -> T:
        """Asks a public address, again and again while the failure may pass.

        Args:
          path: below the version, such as "market/kline".
          params: the query; what is None is left out.
          read: turns the `result` of a reply into a value; may raise `PageError`.

        Returns:
          What `read` returned.

        Raises:
          FetchError: access is refused, the request is wrong, or the attempts are used up.
        """
        sent = {name: value for name, value in params.items() if value is not None}
        words = path.replace("-", "/").split("/")
        method = "publicGetV5" + "".join(word.capitalize() for word in words)  # ccxt's name

        def ask() -> T:
            reply = getattr(self.client, method)(dict(sent))
            result = reply.get("result") if isinstance(reply, dict) else None
            if not isinstance(result, dict):
                raise PageError(
                    f"{path}: the reply has no result: {str(reply)[: fetch_replies.TELEGRAM]}"
                )
            return read(result)

        return self.retried(ask)

    def retried(self, call: Callable[[], T]) -> T:
        """Calls with the connection's patience; see `fetch_retry.attempt_until_done`."""
        return fetch_retry.attempt_until_done(
            call, patience=self.patience, translate=fetch_replies.translate
        )

    def server_ms(self) -> int:
        """Returns the exchange's own time, ms since 1970."""

        def read(result: dict[str, Any]) -> int:
            try:
                return int(result["timeNano"]) // 10**6
            except (KeyError, TypeError, ValueError):
                raise PageError(
                    f"market/time: no time in {str(result)[: fetch_replies.TELEGRAM]}"
                ) from None

        return self.get("market/time", {}, read=read)

    def load_symbols(self, kind: str) -> list[str]:
        """Returns the symbols of a kind of market, sorted; "linear", "inverse" or "spot"."""
        if kind not in KINDS:
            raise ValueError(f"kind is {kind!r}: accepted are {', '.join(KINDS)}")
        if kind not in self._kinds:
            kinds = [*self._kinds, kind]
            self.client.options["fetchMarkets"] = {"types": kinds, "options": []}
            self.retried(lambda: self.client.load_markets(True))
            self._kinds = kinds
        return sorted(s for s, market in self.client.markets.items() if market.get(kind))

    def market(self, symbol: str) -> dict[str, Any]:
        """Returns ccxt's record of a symbol.

        Args:
          symbol: ccxt's spelling: "BTC/USDT:USDT" is the linear perpetual swap, "BTC/USD:BTC" the
            inverse one, "BTC/USDT" spot.

        Returns:
          The record, `kind` added: "linear", "inverse" or "spot".

        Raises:
          ValueError: the exchange has no such symbol; the message names the nearest.
        """
        kind = kind_of(symbol)
        symbols = self.load_symbols(kind)
        if symbol not in symbols:
            near = difflib.get_close_matches(symbol, symbols, n=3)
            hint = f"; near it: {', '.join(near)}" if near else ""
            raise ValueError(
                f"symbol is {symbol!r}: {self.client.id} has no such {kind} market among its "
                f"{len(symbols)}{hint}"
            )
        return {**self.client.markets[symbol], "kind": kind}


def connect(
    exchange: str = "bybit",
    *,
    testnet: bool = False,
    base_url: str | None = None,
    patience: Patience | None = None,
) -> Connection:
    """Prepares a connection; no request is made yet. No key is needed, asked for or kept.

    Args:
      exchange: "bybit".
      testnet: talk to the exchange's test network instead of its market.
      base_url: another address, for tests and proxies, such as "http://127.0.0.1:8000".
      patience: attempts, waits, pauses; None is the default of each.

    Returns:
      The connection.

    Raises:
      ValueError: the exchange is not supported, or an option is out of range.
      ImportError: ccxt is absent; the message says how to install it.
    """
    if exchange not in EXCHANGES:
        raise ValueError(f"exchange is {exchange!r}: accepted are {', '.join(EXCHANGES)}")
    if base_url is not None and not base_url.startswith(("http://", "https://")):
        raise ValueError(f"base_url is {base_url!r}: accepted is an http or https address")
    if base_url is not None and testnet:
        raise ValueError("testnet is True and base_url is given: accepted is one of them")
    patience = fetch_retry.check_patience(patience or Patience())
    client = _strict_class(fetch_replies.import_ccxt(), exchange, patience)(
        {"enableRateLimit": True, "timeout": round(1000 * patience.timeout_s)}
    )
    if testnet:
        client.set_sandbox_mode(True)
    if base_url is not None:
        client.urls["api"] = dict.fromkeys(client.urls["api"], base_url.rstrip("/"))
    return Connection(client, patience, f"{exchange}-testnet" if testnet else exchange)


def kind_of(symbol: str) -> str:
    """Returns the kind of market that a symbol's spelling names."""
    base, slash, rest = symbol.partition("/")
    quote, colon, settle = rest.partition(":")
    if not (base and slash and quote) or (colon and not settle):
        raise ValueError(
            f"symbol is {symbol!r}: accepted is a spelling such as BTC/USDT:USDT (linear), "
            "BTC/USD:BTC (inverse) or BTC/USDT (spot)"
        )
    if not colon:
        return "spot"
    return "inverse" if settle.partition("-")[0] == base else "linear"


def _strict_class(ccxt: Any, exchange: str, patience: Patience) -> type:
    """Returns the exchange's class of ccxt with our pacing, and our look at each reply first."""
    base: Any = getattr(ccxt, exchange)
    pace = fetch_retry.make_pacer(patience)

    def throttle(self: Any, cost: Any = None) -> None:
        del self, cost
        pace()

    def handle_errors(
        self: Any, status: int, reason: str, url: str, method: str, headers: Any, body: str,
        reply: Any, *sent: Any,
    ) -> Any:  # fmt: skip
        fetch_replies.check_reply(int(status), headers, body, reply, ban_wait_s=patience.ban_wait_s)
        return base.handle_errors(self, status, reason, url, method, headers, body, reply, *sent)

    return type(exchange, (base,), {"throttle": throttle, "handle_errors": handle_errors})
