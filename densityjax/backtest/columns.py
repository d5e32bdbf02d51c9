"""What the market gives beside prices, one row per bar: volatility, funding, ranges, stop widths.

Notation: bar t is stamped with its opening time, and ends when bar t + 1 opens.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd

from densityjax._typing import Array, ArrayLike, NumpyArray
from densityjax.backtest.checks import check_finite


class MarketColumns(NamedTuple):
    """Columns of one market, [T] each; None where a cost or a stop does not need it.

    Attributes:
      volatility: standard deviation of the return of the bar, a fraction; slippage grows with it.
        Row t prices the fills of bar t, so it should be a forecast made before them.
      funding_rate: funding rate due in the bar, a fraction of the position at its mark price; longs
        pay when it is positive. `funding_due` makes it from a list of payments.
      mark: mark price at the close, in quote currency; the close where None.
      atr: average true range, in quote currency, known at the close of its row.
      stop_scale: factor on the distances of the stops (not of the profits), known at the close of
        its row; a regime's caution enters here.
    """

    volatility: ArrayLike | None = None
    funding_rate: ArrayLike | None = None
    mark: ArrayLike | None = None
    atr: ArrayLike | None = None
    stop_scale: ArrayLike | None = None


def funding_due(index: pd.DatetimeIndex, times: pd.DatetimeIndex, rates: ArrayLike) -> NumpyArray:
    """Adds up the funding rates that fall due in each bar.

    A payment at the moment at which bar t ends and the next one opens belongs to bar t: it is owed
    by whoever holds the position before the fills of that open.

    Args:
      index: [T] opening times of the bars, increasing.
      times: [K] times of the payments.
      rates: [K] rates, fractions of the position; longs pay when positive.

    Returns:
      [T] rate due in each bar, 0 where there is none; a payment at the first open falls on no one.

    Raises:
      ValueError: if a payment lies before the first bar or after the last, rates and times differ
        in length, or a rate is not finite. The last bar is as long as the median of the others.
    """
    rates = np.asarray(rates, np.float64)
    if rates.shape != (len(times),):
        raise ValueError(f"rates has shape {rates.shape}; accepted is [{len(times)}] as the times")
    if not np.isfinite(rates).all():
        raise ValueError(f"rates[{int(np.argmin(np.isfinite(rates)))}] is not finite")
    if len(index) < 2 or not index.is_monotonic_increasing:
        raise ValueError(f"index has {len(index)} bars; accepted are 2 or more, increasing")
    opens = index.to_numpy("datetime64[ns]")
    due = pd.DatetimeIndex(times).to_numpy("datetime64[ns]")
    end = opens[-1] + np.median(np.diff(opens))
    for name, is_outside in (
        ("before the first bar", due < opens[0]),
        ("after the end", due > end),
    ):
        if is_outside.any():
            raise ValueError(
                f"times[{int(is_outside.argmax())}] is {times[int(is_outside.argmax())]}, {name}; "
                f"accepted are times from {index[0]} to the end of the last bar"
            )
    bar = np.searchsorted(opens, due, side="left") - 1
    return np.bincount(bar[bar >= 0], rates[bar >= 0], minlength=len(index))


def read_columns(
    columns: MarketColumns,
    close: Array | NumpyArray,
    *,
    has_impact: bool,
    has_stops: bool,
    has_ranges: bool,
    delay: int = 1,
    warmup: int = 0,
) -> dict[str, Any]:
    """Checks the columns and puts them into the form of `Bar`.

    Args:
      columns: `MarketColumns`, [T] or [T, A].
      close: [T] or [T, A] closing prices, in quote currency.
      has_impact: whether slippage grows with volatility.
      has_stops: whether there are stops.
      has_ranges: whether a stop is given in average true ranges.
      delay: bars from a decision to its fill; a range is read at the decision.
      warmup: number of first bars whose ranges and scales may be NaN.

    Returns:
      Those of volatility, funding, atr and stop_scale that are read, shaped as the closes; atr as
      known `delay` bars before, stop_scale as known one bar before.

    Raises:
      ValueError: if a column that is needed is missing, of another shape or not as it should be.
    """
    shape = np.shape(close)
    for name, is_needed, reason in (
        ("volatility", has_impact, "costs.slippage_per_volatility"),
        ("atr", has_ranges, "a stop in average true ranges"),
    ):
        if is_needed and getattr(columns, name) is None:
            raise ValueError(f"columns.{name} is None; {reason} needs it, an array of shape [T]")
    for name, column in columns._asdict().items():
        if column is None:
            continue
        if np.shape(column) != shape:
            raise ValueError(f"columns.{name} has shape {np.shape(column)}; accepted is {shape}")
        is_known = name in ("atr", "stop_scale")
        lowest = -np.inf if name == "funding_rate" else 0.0
        first, positive = warmup if is_known else 0, name in ("mark", "stop_scale")
        check_finite(f"columns.{name}", column, first=first, positive=positive, lowest=lowest)
    given = {
        name: column * 1.0 if isinstance(column, jax.Array) else np.asarray(column, np.float64)
        for name, column in columns._asdict().items()
        if column is not None
    }
    extra = {"volatility": given["volatility"]} if has_impact else {}
    if "funding_rate" in given:
        share = given["mark"] / close if "mark" in given else 1.0
        extra["funding"] = given["funding_rate"] * share
    for name, is_read, late in (("atr", has_ranges, delay), ("stop_scale", has_stops, 1)):
        if is_read and name in given:
            xp, column = jnp if isinstance(given[name], jax.Array) else np, given[name]
            extra[name] = xp.concatenate([column[:1], column[:-1]]) if late else column
    return extra
