"""The spellings of columns in other people's files, brought to our names.

A name is compared in lower case without spaces and punctuation, so `Open Time`, `open_time` and
`openTime` are one. The price is the traded one: `Close` is read and `Adj Close` is left aside,
because adjusted closes do not fit the open, high and low beside them.
"""

import difflib
import re
from typing import Any, cast

import numpy as np
import pandas as pd

from densityjax.market.validation import (
    EXTRA_COLUMNS,
    PRICE_COLUMNS,
    BarsError,
    missing_column,
    to_numbers,
)

TIMES = ("timestamp", "opentime", "datetime", "date", "time", "unix", "ts", "t", "index")
SPELLINGS = {
    "open": ("open", "o", "openprice", "priceopen", "1open"),
    "high": ("high", "h", "highprice", "pricehigh", "2high"),
    "low": ("low", "l", "lowprice", "pricelow", "3low"),
    "close": ("close", "c", "closeprice", "priceclose", "4close"),
    "volume": ("volume", "vol", "v", "basevolume", "volumebase", "5volume"),
    "turnover": ("turnover", "quotevolume", "quoteassetvolume", "amount"),
    "trades": ("trades", "tradecount", "tradescount", "numberoftrades", "numtrades", "count"),
    "funding_rate": ("fundingrate", "funding"),
    "open_interest": ("openinterest", "oi"),
    "is_filled": ("isfilled",),
}


def plain_name(name: object) -> str:
    """Returns the name in lower case, letters and digits alone."""
    return re.sub(r"[^a-z0-9]", "", str(name).lower())


def find_columns(names: list[str], *, source: str = "bars") -> dict[str, str]:
    """Finds which column of a file is which of ours.

    Args:
      names: the file's column names.
      source: what the messages call the file.

    Returns:
      Our names (open, high, low, close, and of the optional ones those present) to the file's.

    Raises:
      BarsError: two columns spell the same name, or a price column is missing.
    """
    found: dict[str, str] = {}
    for ours, spellings in SPELLINGS.items():
        matches = [name for name in names if plain_name(name) in spellings]
        exact = [name for name in matches if plain_name(name) == plain_name(ours)]
        if len(exact or matches) > 1:
            listed = ", ".join(map(repr, exact or matches))
            raise BarsError(f"{source}: the columns {listed} all spell {ours!r}; keep one")
        if matches:
            found[ours] = (exact or matches)[0]
    if "volume" not in found:  # `volume_btc`: the first is the base asset's by custom
        prefixed = [name for name in names if plain_name(name).startswith("volume")]
        found |= {"volume": prefixed[0]} if prefixed else {}
    for ours in PRICE_COLUMNS:
        if ours not in found:
            raise missing_column(ours, names, source)
    return found


def take_times(table: pd.DataFrame, *, source: str = "bars") -> pd.Series:
    """Returns the column of open times, `date` and `time` joined where both are given.

    Args:
      table: the file's table; an index of datetimes has been made a column.
      source: what the messages call the file.

    Returns:
      [T] the times as the file writes them.

    Raises:
      BarsError: no column is spelt like a time.
    """
    by_name = {plain_name(name): name for name in reversed(list(table.columns))}
    first = table.columns[0]
    if "date" in by_name and "time" in by_name:
        date, time = (_column(table, by_name[name]).astype(str) for name in ("date", "time"))
        if time.str.contains(":").all() and not date.str.contains(":").any():
            return cast(pd.Series, date + " " + time)
    for spelling in TIMES:
        if spelling in by_name:
            return _column(table, by_name[spelling])
    if str(first).startswith("Unnamed"):
        return _column(table, first)  # an index that was written without a name
    raise missing_column("timestamp", [str(name) for name in table.columns], source)


def _symbols(table: pd.DataFrame) -> pd.Series | None:
    """Returns the column that says whose bars the rows are, or None."""
    columns = [name for name in table.columns if plain_name(name) in ("symbol", "ticker", "pair")]
    return _column(table, columns[0]).astype(str) if columns else None


def present_symbols(table: pd.DataFrame) -> list[str]:
    """Returns the symbols of a file's table, sorted; none where no column names them."""
    values = _symbols(table)
    return [] if values is None else sorted(values.unique())


def take_symbol(
    table: pd.DataFrame, symbol: str | None, *, source: str = "bars"
) -> tuple[pd.DataFrame, str | None]:
    """Keeps the rows of one symbol, where a file says whose bars they are.

    Args:
      table: the file's table.
      symbol: the symbol to keep; None where the file holds one symbol, or does not say.
      source: what the messages call the file.

    Returns:
      The rows of that symbol, and its name or None.

    Raises:
      BarsError: the symbol is not in the file, or the file holds several and none was named.
    """
    values = _symbols(table)
    if values is None:
        if symbol is not None:
            raise BarsError(f"{source}: symbol={symbol!r} was asked for, but no column names one")
        return table, None
    present = sorted(values.unique())
    if symbol is None:
        if len(present) == 1:
            return table, present[0]
        few = ", ".join(map(repr, present[:5])) + (", ..." if len(present) > 5 else "")
        raise BarsError(
            f"{source}: holds {len(present)} symbols ({few}); name one with symbol="
            if present
            else f"{source}: has no rows"
        )
    if symbol not in present:
        near = difflib.get_close_matches(symbol, present, n=3) or present[:3]
        few = ", ".join(map(repr, near))
        raise BarsError(f"{source}: symbol {symbol!r} is not in the file (it has {few}, ...)")
    return table.loc[np.asarray(values == symbol)], symbol


def take_numbers(
    table: pd.DataFrame, found: dict[str, str], times: pd.DatetimeIndex, source: str
) -> tuple[pd.DataFrame, list[str]]:
    """Returns (bars, notes): the columns found, as float64 on the index of times."""
    bars, notes = pd.DataFrame(index=times), []
    for ours, theirs in found.items():
        column = _column(table, theirs)
        numbers = to_numbers(column)
        is_text = np.isnan(numbers) & np.asarray(column.notna())
        if ours == "is_filled":
            bars[ours] = column.astype(str).str.lower().isin(["true", "1"]).to_numpy()
        elif ours in EXTRA_COLUMNS and is_text.any():
            notes.append(f"The column {theirs!r} is not numeric and was left out.")
        elif is_text.any():
            row = int(is_text.argmax())
            raise BarsError(
                f"{source}: column {theirs!r}, row {row} ({times[row]}): "
                f"{str(column.iloc[row])!r} is not a number"
            )
        else:
            bars[ours] = numbers
    return bars, notes


def _column(table: pd.DataFrame, name: Any) -> pd.Series:
    """Returns one column; `table[name]` alone is a Series or a frame to a type checker."""
    return cast(pd.Series, table[name])
