"""What can go wrong between an exchange and its bars, as types that say what to do about it.

`TransientError` and `PageError` are tried again with growing waits; `AccessError` and
`RequestError` stop at once, for another attempt could only do harm. A bad symbol, interval or
date is the caller's, and a plain `ValueError`.
"""


class FetchError(RuntimeError):
    """Raised where an exchange did not give what was asked for; the message is one line."""


class TransientError(FetchError):
    """Raised for a failure that may pass: a time-out, a rate limit, an overloaded server.

    Attributes:
      wait_s: least wait before the next attempt, seconds.
    """

    def __init__(self, message: str, *, wait_s: float = 0.0) -> None:
        super().__init__(message)
        self.wait_s = wait_s


class PageError(TransientError):
    """Raised for a reply that came whole but cannot be true: a price that is no number, say."""


class AccessError(FetchError):
    """Raised for a refusal of this person or place: keys, permissions, compliance, sanctions."""


class RequestError(FetchError):
    """Raised for a request that the exchange calls wrong; the same one again would be, too."""


class GaveUpError(FetchError):
    """Raised after the last attempt at something transient; the cause is its `__cause__`."""
