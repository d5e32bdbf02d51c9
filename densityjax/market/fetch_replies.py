"""What an exchange's reply means: the errors of ccxt and of Bybit as those of `fetch_errors`.

ccxt hands a body that is cut short or HTML on as if it held nothing, and calls Bybit's server
error 10016 a plain error; both pass, and are told apart from refusals here.
"""

from typing import Any

from densityjax.market.fetch_errors import (
    AccessError,
    FetchError,
    PageError,
    RequestError,
    TransientError,
)

LIMITED = ("10006", "10018")  # too many requests, of this account or of this address
OVERLOADED = ("10000", "10016")  # server time-out, server error
REFUSED = ("10009", "10024", "10029")  # banned address, compliance, not on the list of symbols
MOST_RESET_S = 60.0  # a reset further away than this is taken for a wrong clock
TELEGRAM = 160  # characters of a reply that a message quotes


def translate(error: Exception) -> Exception:
    """Returns ccxt's exception as one of `fetch_errors`, and any other as it is."""
    ccxt = import_ccxt()
    line = " ".join(str(error).split())[:TELEGRAM]
    if isinstance(error, FetchError) or not isinstance(error, ccxt.BaseError):
        return error
    if isinstance(error, ccxt.AuthenticationError):  # with permissions and suspended accounts
        return AccessError(f"access refused: {line}")
    if isinstance(error, ccxt.NetworkError):
        return TransientError(f"{type(error).__name__}: {line}")
    return RequestError(f"{type(error).__name__}: {line}")


def check_reply(status: int, headers: Any, body: str, reply: Any, *, ban_wait_s: float) -> None:
    """Raises for what a reply says beyond ccxt's reading of it.

    Args:
      status: of HTTP.
      headers: of HTTP, names in any case.
      body: text.
      reply: the JSON in it; None where there is none.
      ban_wait_s: wait after HTTP 403, seconds.

    Raises:
      AccessError: the place or the person is refused.
      TransientError: a failure that may pass, with the least wait where the reply tells it.
    """
    quoted = " ".join(str(body).split())[:TELEGRAM]
    code = str(reply.get("retCode")) if isinstance(reply, dict) else None
    if status == 451 or code in REFUSED:
        raise AccessError(f"access refused, HTTP {status}: {quoted}")
    if status == 403:
        raise TransientError(
            f"HTTP 403, too many requests from this address, or a region that is not served: "
            f"{quoted}",
            wait_s=ban_wait_s,
        )
    if status in (408, 429) or status >= 500:
        raise TransientError(f"HTTP {status}: {quoted}", wait_s=_reset_wait(headers, reply))
    if status < 400 and (code is None or code == "None"):
        raise PageError(f"the reply is cut short or is not JSON of the exchange: {quoted!r}")
    if code in LIMITED:
        raise TransientError(f"rate limit: {quoted}", wait_s=_reset_wait(headers, reply))
    if code in OVERLOADED:
        raise TransientError(f"server error: {quoted}")


def _reset_wait(headers: Any, reply: Any) -> float:
    """Returns the seconds until the limit is lifted, by the server's own clock; 0 if unsaid."""
    lower = {str(name).lower(): value for name, value in dict(headers or {}).items()}
    try:
        wait = (float(lower["x-bapi-limit-reset-timestamp"]) - float(reply["time"])) / 1000.0
    except (KeyError, TypeError, ValueError):
        return 0.0
    return wait if 0.0 < wait <= MOST_RESET_S else 0.0


def import_ccxt() -> Any:
    """Returns the module ccxt."""
    try:
        import ccxt
    except ImportError as error:
        raise ImportError(
            "ccxt is not installed: pip install 'densityjax[exchange]' brings it"
        ) from error
    return ccxt
