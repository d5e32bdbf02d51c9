"""Repair of historical bars by rule, every change counted and listed.

What is repaired is what cannot be a price: a bar out of order, twice, missing, at zero, outside
its own high and low, or a bad tick. The tails of the returns are not touched: a large move is a
bad tick only if it is undone at once, see `market.ticks`. Repair looks one bar ahead, so it is for
files, before anything is learned from them; a live bar is refused instead.
"""

from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from densityjax._typing import NumpyArray
from densityjax.market.sessions import NANOSECONDS, find_holes
from densityjax.market.ticks import find_bad_ticks
from densityjax.market.validation import MIN_ROWS, PRICE_COLUMNS, BarsError, missing_column

FLOWS = ("volume", "turnover", "trades")  # nothing was traded in a bar that was filled in


class RepairReport(NamedTuple):
    """What a repair did; every count is a number of rows or of cells.

    Attributes:
      num_rows_in: rows before.
      num_rows_out: rows after.
      num_out_of_order: rows that came after a later one and were sorted in.
      num_duplicates: rows dropped because an equal row has the same time.
      num_conflicts: rows dropped because a later row of the file has the same time.
      num_leading_dropped: rows dropped because no good close came before them.
      num_bad_prices: prices replaced that were not finite or not positive.
      num_bad_ticks: prices replaced that jumped and came back at once.
      num_widened: highs raised and lows lowered to hold the open and the close.
      num_bad_volumes: volumes set to 0 that were negative or not finite.
      num_filled: rows put in where bars were missing.
      num_gaps_left: gaps left open because they are longer than `max_gap`.
      num_winsorised: returns clipped, only where that was asked for.
      changes: frame of one row per change: timestamp, column, rule, before, after.
    """

    num_rows_in: int
    num_rows_out: int
    num_out_of_order: int
    num_duplicates: int
    num_conflicts: int
    num_leading_dropped: int
    num_bad_prices: int
    num_bad_ticks: int
    num_widened: int
    num_bad_volumes: int
    num_filled: int
    num_gaps_left: int
    num_winsorised: int
    changes: pd.DataFrame


class _Log:
    """Collects the changes, one block of rows at a time."""

    def __init__(self) -> None:
        self.blocks: list[pd.DataFrame] = []

    def add(self, times: Any, column: str, rule: str, before: Any, after: Any) -> None:
        times = pd.DatetimeIndex(times)
        if len(times):
            size = len(times)
            self.blocks.append(
                pd.DataFrame(
                    {
                        "timestamp": times,
                        "column": [column] * size,
                        "rule": [rule] * size,
                        "before": np.broadcast_to(np.asarray(before, np.float64), size),
                        "after": np.broadcast_to(np.asarray(after, np.float64), size),
                    }
                )
            )

    def frame(self) -> pd.DataFrame:
        if not self.blocks:
            self.add(pd.DatetimeIndex(["1970-01-01"], tz="UTC").as_unit("ns"), "", "", 0.0, 0.0)
            return self.blocks.pop().iloc[:0]  # no rows, columns of the right types
        return pd.concat(self.blocks, ignore_index=True)

    def count(self, *rules: str) -> int:
        return sum(len(block) for block in self.blocks if block["rule"].iloc[0] in rules)


def repair_bars(
    bars: pd.DataFrame,
    *,
    interval: str | pd.Timedelta | None = None,
    max_gap: str | pd.Timedelta | None = None,
    expected: pd.DatetimeIndex | None = None,
    winsorise: float | None = None,
) -> tuple[pd.DataFrame, RepairReport]:
    """Repairs bars by rule, and reports every change.

    In this order: rows are sorted; equal rows with one time are dropped, and of unequal ones the
    last is kept; a price that is not finite or not positive, and a bad tick, is replaced (a close
    by the close before, an open by the close before, a high or low by the extreme of open and
    close); highs and lows are widened to hold the open and the close; a negative or unknown volume
    becomes 0; missing bars are filled with the close before and volume 0. The boolean column
    `is_filled` flags every row whose close is carried from the bar before, and `log_returns`
    counts no return across it. Nights, weekends and holidays are not filled.

    Args:
      bars: frame of T bars, dirty perhaps; DatetimeIndex (UTC, or naive taken as UTC), prices in
        quote currency.
      interval: step of the bars, "1h" for instance; the median step where None.
      max_gap: gaps with a longer time between their two bars are left open; None fills them all.
      expected: open times that an exchange's calendar expects; replaces the search for gaps.
      winsorise: clips log returns at this many standard deviations; None, the default, leaves the
        tails alone. Never use it for a risk model: it deletes what such a model must estimate.

    Returns:
      The repaired bars, and the `RepairReport`.

    Raises:
      BarsError: a price column or the times are missing, or fewer than two rows remain.
      ValueError: an interval, gap or clip that is not positive.
    """
    for name, value in (("interval", interval), ("max_gap", max_gap)):
        if value is not None and not pd.Timedelta(value) > pd.Timedelta(0):
            raise ValueError(f"{name} must be a positive time such as '1h', got {value!r}")
    if winsorise is not None and not winsorise > 0.0:
        raise ValueError(f"winsorise must be a positive number of sd, got {winsorise}")
    log = _Log()
    table = _as_numbers(bars)
    stamps = pd.DatetimeIndex(table.index).asi8
    num_out_of_order = int((stamps < np.maximum.accumulate(stamps)).sum())
    table = _drop_duplicates(table.sort_index(kind="stable"), log)
    table = _repair_prices(table, log)
    table = _repair_volume(table, log)
    if len(table) < MIN_ROWS:
        raise BarsError(f"bars: {len(table)} usable rows of {len(bars)}; {MIN_ROWS} are needed")
    times, num_gaps_left = _missing_times(
        pd.DatetimeIndex(table.index), interval, max_gap, expected
    )
    table = _fill(table, times, log)
    if winsorise is not None:
        table = _winsorise(table, winsorise, log)
    table.attrs = dict(bars.attrs)
    report = RepairReport(
        num_rows_in=len(bars),
        num_rows_out=len(table),
        num_out_of_order=num_out_of_order,
        num_duplicates=log.count("duplicate"),
        num_conflicts=log.count("conflicting duplicate"),
        num_leading_dropped=log.count("no close before"),
        num_bad_prices=log.count("bad price"),
        num_bad_ticks=log.count("bad tick"),
        num_widened=log.count("widened"),
        num_bad_volumes=log.count("bad volume"),
        num_filled=log.count("missing bar"),
        num_gaps_left=num_gaps_left,
        num_winsorised=log.count("winsorised"),
        changes=log.frame(),
    )
    return table, report


def _as_numbers(bars: pd.DataFrame) -> pd.DataFrame:
    """Returns a copy with UTC times, float64 columns and an `is_filled` column."""
    for name in PRICE_COLUMNS:
        if name not in bars.columns:
            raise missing_column(name, [str(column) for column in bars.columns], "bars")
    if not isinstance(bars.index, pd.DatetimeIndex) or bars.index.hasnans:
        raise BarsError("bars: the index must be a DatetimeIndex of open times, none missing")
    index = bars.index.tz_localize("UTC") if bars.index.tz is None else bars.index.tz_convert("UTC")
    filled = np.asarray(bars.get("is_filled", np.zeros(len(bars), bool)), bool)
    numeric = bars.drop(columns="is_filled", errors="ignore").select_dtypes("number")
    absent = [name for name in PRICE_COLUMNS if name not in numeric]
    if absent:
        raise BarsError(f"bars: column {absent[0]!r} must be numeric, got {bars[absent[0]].dtype}")
    table = numeric.astype(np.float64).set_axis(pd.DatetimeIndex(index, name="timestamp"))
    return table.assign(is_filled=filled)


def _drop_duplicates(table: pd.DataFrame, log: _Log) -> pd.DataFrame:
    """Drops equal rows of one time, then keeps the last of those that differ."""
    same = table.reset_index().duplicated(keep="last").to_numpy()
    log.add(table.index[same], "all", "duplicate", np.nan, np.nan)
    table = table.loc[~same]
    older = np.asarray(table.index.duplicated(keep="last"))
    kept = table["close"].to_numpy()[~older][
        np.searchsorted(table.index[~older], table.index[older])
    ]
    dropped = table["close"].to_numpy()[older]
    log.add(table.index[older], "close", "conflicting duplicate", dropped, kept)
    return table.loc[~older]


def _repair_prices(table: pd.DataFrame, log: _Log) -> pd.DataFrame:
    """Replaces impossible prices and bad ticks, then widens highs and lows."""
    prices = table[list(PRICE_COLUMNS)].to_numpy(copy=True)
    good_close = np.isfinite(prices[:, 3]) & (prices[:, 3] > 0.0)
    start = int(np.argmax(good_close)) if good_close.any() else len(table)
    log.add(table.index[:start], "close", "no close before", prices[:start, 3], np.nan)
    table, prices = table.iloc[start:].copy(), prices[start:]
    if not len(table):
        return table
    impossible = ~(np.isfinite(prices) & (prices > 0.0))
    filled = table["is_filled"].to_numpy(copy=True) | impossible[:, 3]
    _replace(prices, impossible, table.index, "bad price", log)
    is_bad = find_bad_ticks(prices)
    filled |= is_bad[:, 3]
    _replace(prices, is_bad, table.index, "bad tick", log)
    for column, extreme in ((1, np.maximum), (2, np.minimum)):
        wide = extreme(prices[:, column], extreme(prices[:, 0], prices[:, 3]))
        rows = np.flatnonzero(wide != prices[:, column])
        name = PRICE_COLUMNS[column]
        log.add(table.index[rows], name, "widened", prices[rows, column], wide[rows])
        prices[:, column] = wide
    table[list(PRICE_COLUMNS)] = prices
    return table.assign(is_filled=filled)


def _replace(prices: NumpyArray, bad: NumpyArray, index: pd.Index, rule: str, log: _Log) -> None:
    """Replaces bad prices in place: closes first, for the others lean on them."""
    before = prices.copy()
    last_good = np.maximum.accumulate(np.where(bad[:, 3], 0, np.arange(len(prices))))
    prices[:, 3] = prices[last_good, 3]
    previous = np.append(prices[:1, 3], prices[:-1, 3])  # close before
    prices[:, 0] = np.where(bad[:, 0], previous, prices[:, 0])
    ends = prices[:, [0, 3]]
    prices[:, 1] = np.where(bad[:, 1], ends.max(axis=1), prices[:, 1])
    prices[:, 2] = np.where(bad[:, 2], ends.min(axis=1), prices[:, 2])
    for column, name in enumerate(PRICE_COLUMNS):
        rows = np.flatnonzero(bad[:, column])
        log.add(index[rows], name, rule, before[rows, column], prices[rows, column])


def _repair_volume(table: pd.DataFrame, log: _Log) -> pd.DataFrame:
    """Sets a negative or unknown volume to 0; a volume that is never known is dropped."""
    if "volume" not in table:
        return table
    volume = table["volume"].to_numpy()
    if np.isnan(volume).all():
        return table.drop(columns="volume")
    bad = ~(np.isfinite(volume) & (volume >= 0.0))
    log.add(table.index[bad], "volume", "bad volume", volume[bad], 0.0)
    return table.assign(volume=np.where(bad, 0.0, volume))


def _missing_times(
    index: pd.DatetimeIndex,
    interval: str | pd.Timedelta | None,
    max_gap: str | pd.Timedelta | None,
    expected: pd.DatetimeIndex | None,
) -> tuple[pd.DatetimeIndex, int]:
    """Returns the open times to fill, and the number of gaps left open."""
    step = None if interval is None else pd.Timedelta(interval).total_seconds()
    holes = find_holes(index, interval_seconds=step)
    limit = np.inf if max_gap is None else pd.Timedelta(max_gap).total_seconds()
    if expected is None:
        stamps = holes.missing[holes.seconds[holes.missing_hole] <= limit]
        num_left = int((holes.is_gap & (holes.seconds > limit)).sum())
        return pd.to_datetime(stamps, unit="ns", utc=True), num_left
    present = index.as_unit("ns").asi8
    utc = expected.tz_localize("UTC") if expected.tz is None else expected
    wanted = np.setdiff1d(pd.DatetimeIndex(utc).as_unit("ns").asi8, present)
    wanted = wanted[(wanted > present[0]) & (wanted < present[-1])]
    hole = np.searchsorted(present, wanted) - 1  # row of the bar before
    seconds = np.diff(present)[hole] / NANOSECONDS
    num_left = len(np.unique(hole[seconds > limit]))
    return pd.to_datetime(wanted[seconds <= limit], unit="ns", utc=True), num_left


def _fill(table: pd.DataFrame, times: pd.DatetimeIndex, log: _Log) -> pd.DataFrame:
    """Puts in flat bars at the close before, with volume 0 and `is_filled`."""
    present = pd.DatetimeIndex(table.index)
    index = present.union(times.as_unit(present.unit)).rename("timestamp")
    is_new = np.asarray(~index.isin(present))
    full = table.reindex(index)
    close = full["close"].ffill()
    for name in PRICE_COLUMNS:
        full[name] = full[name].where(~is_new, close)
    for name in FLOWS:
        if name in full:
            full[name] = full[name].where(~is_new, 0.0)
    log.add(index[is_new], "all", "missing bar", np.nan, close.to_numpy()[is_new])
    return full.assign(is_filled=np.asarray(full["is_filled"].fillna(True), bool))


def _winsorise(table: pd.DataFrame, num_sd: float, log: _Log) -> pd.DataFrame:
    """Clips log returns at `num_sd` standard deviations and chains the closes anew."""
    close = table["close"].to_numpy()
    returns = np.diff(np.log(close), prepend=np.log(close[0]))
    bound = num_sd * returns[1:].std()
    clipped = np.clip(returns, -bound, bound)
    scale = np.exp(np.cumsum(clipped - returns))
    hit = clipped != returns
    log.add(table.index[hit], "close", "winsorised", returns[hit], clipped[hit])
    # An open moves with the close before it, so that the bar stays where it joins the last.
    table = table.assign(close=close * scale, open=table["open"] * np.append(1.0, scale[:-1]))
    ends = table[["open", "close"]].to_numpy()
    return table.assign(
        high=np.maximum(table["high"] * scale, ends.max(axis=1)),
        low=np.minimum(table["low"] * scale, ends.min(axis=1)),
    )
