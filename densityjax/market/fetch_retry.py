"""Patience with an exchange: paced requests, and capped exponential waits with jitter.

Attempt n = 0, 1, ... that fails waits `min(most, first 2^n) (1 + u) / 2` seconds with u uniform in
[0, 1), or longer where the exchange says so. Time and chance come in as functions, so that a test
of hours of waiting takes none.
"""

import logging
import random
import time
from collections.abc import Callable
from typing import NamedTuple, TypeVar

from densityjax.market.fetch_errors import FetchError, GaveUpError, TransientError

T = TypeVar("T")
LOG = logging.getLogger(__name__)
LONG_WAIT_S = 5.0  # from which on a wait is told to the user, for it looks like a hang


class Patience(NamedTuple):
    """How long to wait and how often to try.

    Attributes:
      attempts: most attempts at one request.
      first_wait_s: cap of the first wait, seconds; each further one doubles.
      most_wait_s: cap of all of them, seconds.
      ban_wait_s: wait after HTTP 403, seconds. Bybit refuses an address that asked too much until
        it has been silent for ten minutes.
      pause_s: least time between the starts of two requests, seconds.
      timeout_s: seconds until a silent connection counts as lost.
      sleep: waits a number of seconds.
      clock: seconds of a monotonic clock.
      uniform: draws from [0, 1).
    """

    attempts: int = 8
    first_wait_s: float = 0.5
    most_wait_s: float = 30.0
    ban_wait_s: float = 600.0
    pause_s: float = 0.1
    timeout_s: float = 30.0
    sleep: Callable[[float], None] = time.sleep
    clock: Callable[[], float] = time.monotonic
    uniform: Callable[[], float] = random.random


def check_patience(patience: Patience) -> Patience:
    """Returns the settings, or raises `ValueError` naming the one that is out of range."""
    if patience.attempts < 1:
        raise ValueError(f"attempts is {patience.attempts}: accepted is at least 1")
    for name in ("first_wait_s", "most_wait_s", "ban_wait_s", "pause_s"):
        if not 0.0 <= getattr(patience, name) < float("inf"):
            raise ValueError(f"{name} is {getattr(patience, name)}: accepted is 0 or more, finite")
    if not 0.0 < patience.timeout_s < float("inf"):
        raise ValueError(f"timeout_s is {patience.timeout_s}: accepted is above 0, finite")
    return patience


def wait_of(patience: Patience, attempt: int) -> float:
    """Returns the wait after the failed attempt number `attempt` from 0, in seconds."""
    cap = min(patience.most_wait_s, patience.first_wait_s * 2.0 ** min(attempt, 60))
    return cap * 0.5 * (1.0 + patience.uniform())


def attempt_until_done(
    call: Callable[[], T], *, patience: Patience, translate: Callable[[Exception], Exception]
) -> T:
    """Calls until it succeeds, fails for good, or the attempts are used up.

    Args:
      call: the request, with the reading of its reply inside: a reply that cannot be read is
        asked for again.
      patience: attempts and waits.
      translate: turns any exception into a `FetchError`, or hands it back.

    Returns:
      What the call returned.

    Raises:
      FetchError: one that is not transient, at once.
      GaveUpError: after the last attempt.
    """
    last: FetchError | None = None
    for attempt in range(patience.attempts):
        try:
            return call()
        except Exception as error:
            found = translate(error)
            if found is error and not isinstance(found, TransientError):
                raise
            if not isinstance(found, TransientError):
                raise found from error
            last = found
        if attempt + 1 < patience.attempts:
            wait = max(last.wait_s, wait_of(patience, attempt))
            level = logging.WARNING if wait >= LONG_WAIT_S else logging.INFO
            LOG.log(level, "waiting %.0f s: %s", wait, last)
            patience.sleep(wait)
    raise GaveUpError(f"gave up after {patience.attempts} attempts: {last}") from last


def make_pacer(patience: Patience) -> Callable[[], None]:
    """Returns a function that waits until `pause_s` has passed since it was last left."""
    left_at = -float("inf")

    def pace() -> None:
        nonlocal left_at
        remaining = patience.pause_s - (patience.clock() - left_at)
        if remaining > 0.0:
            patience.sleep(remaining)
        left_at = patience.clock()

    return pace
