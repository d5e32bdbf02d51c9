"""Pages of a series on a grid of opens: asked for, checked, completed, and never repaired.

A window is asked for as a whole. What is missing from it is asked for again: the window once more,
then each hole by itself, then the halves of each hole. Only what none of these holds counts as a
gap. Whatever cannot be true (a price of zero, a high below a low, a bar off the grid or outside
the window, one time with two values) raises `PageError`, and the request is made again.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from densityjax._typing import NumpyArray
from densityjax.market.fetch_errors import PageError
from densityjax.market.timeframes import show_ms

PAGE_ROWS = 1000  # most bars in a reply of Bybit


class Rows(NamedTuple):
    """A piece of a series.

    Attributes:
      times: [N] int64 increasing times, ms since 1970.
      values: [N, C] float64 values, one column each.
    """

    times: NumpyArray
    values: NumpyArray


class Page(NamedTuple):
    """One window and what it held.

    Attributes:
      opens: [T] int64 opens that were asked for, ms since 1970.
      rows: those that the exchange has.
    """

    opens: NumpyArray
    rows: Rows


Ask = Callable[[int, int], Rows]  # first and last open of a window, both in it


def empty_rows(num_columns: int) -> Rows:
    """Returns rows of no length."""
    return Rows(np.empty(0, np.int64), np.empty((0, num_columns)))


def parse_rows(raw: Any, *, columns: Sequence[int], what: str) -> Rows:
    """Reads a reply's rows: every number must be one, and every time occur with one value.

    Args:
      raw: list of rows, each a list of texts or numbers with the time in ms at its head.
      columns: places of the values in a row.
      what: what the messages call the reply.

    Returns:
      The rows, sorted by time; repeated rows that agree are kept once.

    Raises:
      PageError: a row is short, a number is none, or one time has two values.
    """
    if not isinstance(raw, list):
        raise PageError(f"{what}: expected a list of rows, got {str(raw)[:80]}")
    try:
        times = np.array([int(row[0]) for row in raw], np.int64)
        values = np.array([[float(row[c]) for c in columns] for row in raw], np.float64)
    except (TypeError, ValueError, IndexError, KeyError, OverflowError) as error:
        raise PageError(f"{what}: a row cannot be read: {error}") from None
    values = values.reshape(len(times), len(columns))
    if not np.isfinite(values).all():
        row = int(np.flatnonzero(~np.isfinite(values).all(axis=1))[0])
        raise PageError(f"{what}: the row {raw[row]} holds a value that is not finite")
    order = np.argsort(times, kind="stable")
    times, values = times[order], values[order]
    repeats = np.flatnonzero(np.diff(times) == 0)
    for row in repeats:
        if not np.array_equal(values[row], values[row + 1]):
            raise PageError(f"{what}: two different rows of {show_ms(times[row])}")
    keep = np.ones(len(times), bool)
    keep[repeats + 1] = False
    return Rows(times[keep], values[keep])


def check_prices(rows: Rows, *, what: str) -> Rows:
    """Returns the rows if their prices could be those of bars.

    Args:
      rows: values [N, 4 or more]: open, high, low, close, then amounts.
      what: what the messages call the reply.

    Returns:
      The same rows.

    Raises:
      PageError: a price is not positive, high or low is not the outermost, or an amount is
        negative; the message names the bar.
    """
    prices, amounts = rows.values[:, :4], rows.values[:, 4:]
    opening, high, low, close = prices.T
    faults = {
        "has a price that is not positive": (prices <= 0.0).any(axis=1),
        "has a high below another price": high < np.maximum(np.maximum(opening, close), low),
        "has a low above another price": low > np.minimum(opening, close),
        "has a negative amount": (amounts < 0.0).any(axis=1),
    }
    for fault, is_bad in faults.items():
        if is_bad.any():
            row = int(np.flatnonzero(is_bad)[0])
            raise PageError(
                f"{what}: the bar of {show_ms(rows.times[row])} {fault}: "
                f"{', '.join(f'{value:g}' for value in rows.values[row])}"
            )
    return rows


def fit_window(rows: Rows, opens: NumpyArray, *, last_closed: int, what: str) -> Rows:
    """Returns the rows of a window, without the candle that is still open.

    Args:
      rows: as read.
      opens: [T] opens of the window, ms since 1970.
      last_closed: end of what is closed, ms since 1970; rows after it and the window are dropped.
      what: what the messages call the reply.

    Returns:
      The rows that are closed.

    Raises:
      PageError: a closed row is not one of the opens.
    """
    # The clock may have moved on since: a window holds closed bars only, whatever it said.
    closed = rows.times <= max(last_closed, int(opens[-1]))
    rows = Rows(rows.times[closed], rows.values[closed])
    is_strange = ~np.isin(rows.times, opens)
    if is_strange.any():
        stranger = int(rows.times[np.flatnonzero(is_strange)[0]])
        raise PageError(
            f"{what}: a bar of {show_ms(stranger)} is off the grid or outside the window "
            f"{show_ms(opens[0])} to {show_ms(opens[-1])}"
        )
    return rows


def merge(old: Rows, new: Rows) -> Rows:
    """Returns the union of two pieces; where both have a time, the new values count."""
    kept = ~np.isin(old.times, new.times)
    times = np.concatenate([old.times[kept], new.times])
    order = np.argsort(times)
    return Rows(times[order], np.concatenate([old.values[kept], new.values])[order])


def complete_window(ask: Ask, opens: NumpyArray) -> Rows:
    """Asks for a window, and for what is missing until it is certain that it does not exist.

    Args:
      ask: returns the rows between two opens, both included.
      opens: [T] increasing opens of the window, ms since 1970.

    Returns:
      All rows that the exchange has of the window.
    """
    rows = ask(int(opens[0]), int(opens[-1]))
    if len(rows.times) < len(opens):
        rows = merge(rows, ask(int(opens[0]), int(opens[-1])))
    if rows.times.size:  # an empty window is confirmed by its repetition
        for hole in _holes(opens, rows.times):
            rows = merge(rows, _fill_hole(ask, hole))
    return rows


def iter_pages(
    ask: Ask,
    opens: NumpyArray,
    *,
    page_rows: int = PAGE_ROWS,
    next_time: Callable[[int], int | None] | None = None,
    backwards: bool = False,
) -> Iterator[Page]:
    """Walks a grid in windows; together the pages cover every open once.

    Args:
      ask: returns the rows between two opens, both included.
      opens: [T] increasing opens to cover, ms since 1970.
      page_rows: most opens in a window.
      next_time: says from when on there are bars at or after a time, or None where there are none
        any more; called after an empty window, so that years before a listing cost no requests.
        Not used backwards.
      backwards: newest window first.

    Yields:
      The pages, in the order walked.
    """
    if backwards:
        for stop in range(len(opens), 0, -page_rows):
            window = opens[max(0, stop - page_rows) : stop]
            yield Page(window, complete_window(ask, window))
        return
    row = 0
    while row < len(opens):
        stop = min(row + page_rows, len(opens))
        rows = complete_window(ask, opens[row:stop])
        if not rows.times.size and next_time is not None and stop < len(opens):
            found = next_time(int(opens[stop]))
            skipped = len(opens) if found is None else int(np.searchsorted(opens, found))
            stop = max(stop, skipped)
        yield Page(opens[row:stop], rows)
        row = stop


def _holes(opens: NumpyArray, times: NumpyArray) -> list[NumpyArray]:
    """Returns the runs of opens that are not among the times."""
    missing = np.flatnonzero(~np.isin(opens, times))
    runs = np.split(missing, np.flatnonzero(np.diff(missing) > 1) + 1)
    return [opens[run] for run in runs if run.size]


def _fill_hole(ask: Ask, hole: NumpyArray) -> Rows:
    """Asks for a hole by itself, then for halves, as long as anything comes to light."""
    rows = ask(int(hole[0]), int(hole[-1]))
    if len(rows.times) == len(hole):
        return rows
    if rows.times.size == 0:
        middle = len(hole) // 2
        for half in (hole[:middle], hole[middle:]) if middle else ():
            rows = merge(rows, ask(int(half[0]), int(half[-1])))
        if rows.times.size == 0:
            return rows
    for rest in _holes(hole, rows.times):
        rows = merge(rows, _fill_hole(ask, rest))
    return rows
