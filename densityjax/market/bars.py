"""Bars in files: strict reading and lossless, atomic writing of CSV, CSV.gz and Parquet.

A bar is stamped with its OPEN time. Times with a zone become UTC, times without one are taken as
UTC. `Close` is the traded price; `Adj Close` is left aside. What was left out on the way in is
said in `bars.attrs["notes"]`.
"""

import gzip
import os
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow

from densityjax.market.spellings import (
    SPELLINGS,
    find_columns,
    present_symbols,
    take_numbers,
    take_symbol,
    take_times,
)
from densityjax.market.timestamps import parse_times
from densityjax.market.validation import BarsError, validate_bars

__all__ = ["BarsError", "list_symbols", "read_bars", "validate_bars", "write_bars"]

SUFFIXES = (".csv", ".csv.gz", ".parquet")
# Before pandas 3.1 the default reader of floats is off by a last bit; since then it is exact.
IS_OLD = tuple(int(part) for part in pd.__version__.split(".")[:2]) < (3, 1)
EXACT_FLOATS: dict[str, Any] = {"float_precision": "round_trip"} if IS_OLD else {}
NO_VOLUME = "No volume: features that need it are left out."


def read_bars(
    path: str | os.PathLike, *, symbol: str | None = None, validate: bool = True
) -> pd.DataFrame:
    """Reads bars from a CSV, CSV.gz or Parquet file, whatever its columns are called.

    Times may be numbers since 1970 (s, ms, us or ns), ISO 8601 text or datetimes. Text separated
    by commas, semicolons or tabs is read. Volume that is absent or unknown throughout is left out
    of the frame and said so in `attrs["notes"]`.

    Args:
      path: the file; its suffix tells the format.
      symbol: whose bars to take from a file with a `symbol` column; needed where it holds several.
      validate: False hands a dirty file over as it stands, for `repair_bars`;
        text among numbers is refused all the same.

    Returns:
      Frame of T bars: UTC index `timestamp` of open times; float64 columns open, high, low, close
      in quote currency, and where given volume (base asset), turnover, trades, funding_rate
      (fraction), open_interest. `attrs` holds source, symbol and notes.

    Raises:
      FileNotFoundError: there is no such file.
      BarsError: the file cannot be read as bars; one line names the column, row and value.
    """
    path = Path(path)
    table = _read_table(path)
    table, symbol = take_symbol(table, symbol, source=path.name)
    if table.empty:
        raise BarsError(f"{path.name}: has no rows")
    names = [str(name) for name in table.columns]
    found = find_columns(names, source=path.name)
    times = parse_times(take_times(table, source=path.name), source=path.name)
    bars, notes = take_numbers(table, found, times, path.name)
    has_volume = "volume" in bars and not np.isnan(bars["volume"].to_numpy()).all()
    kept = [name for name in SPELLINGS if name in bars and (has_volume or name != "volume")]
    bars, notes = bars.loc[:, kept], notes + ([] if has_volume else [NO_VOLUME])
    if validate:
        bars = validate_bars(bars, source=path.name)
    bars.attrs = {"source": path.name, "symbol": symbol, "notes": tuple(notes)}
    return bars


def list_symbols(path: str | os.PathLike) -> list[str]:
    """Returns the symbols whose bars a file holds, sorted; none where it does not say.

    Args:
      path: the file, as for `read_bars`.

    Returns:
      The names that `read_bars` accepts as `symbol`.

    Raises:
      FileNotFoundError: there is no such file.
      BarsError: the file cannot be read as a table.
    """
    return present_symbols(_read_table(Path(path)))


def write_bars(bars: pd.DataFrame, path: str | os.PathLike) -> None:
    """Writes bars so that `read_bars` returns every float and every time bit for bit.

    The file appears whole or not at all: it is written under a temporary name beside its place
    and renamed.

    Args:
      bars: frame of T bars with a UTC DatetimeIndex of open times.
      path: the file to write or replace; its suffix (.csv, .csv.gz, .parquet) tells the format.

    Raises:
      BarsError: the suffix is unknown, or the index is not one of times.
    """
    path = Path(path)
    suffix = _suffix(path)
    if not isinstance(bars.index, pd.DatetimeIndex):
        raise BarsError(f"bars must have a DatetimeIndex to be written, got {bars.index.dtype}")
    table = bars.rename_axis("timestamp").reset_index()
    table.attrs = {}
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        if suffix == ".parquet":
            table.to_parquet(partial, index=False)
        else:
            # Without a time stamp inside, equal bars give equal gzip files.
            gz = {"method": "gzip", "mtime": 0} if suffix == ".csv.gz" else None
            table.to_csv(partial, index=False, compression=gz)
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def _suffix(path: Path) -> str:
    """Returns the suffix that tells the format."""
    for suffix in SUFFIXES:
        if path.name.lower().endswith(suffix):
            return suffix
    raise BarsError(f"{path.name}: unknown suffix {path.suffix!r}; accepted: {', '.join(SUFFIXES)}")


def _read_table(path: Path) -> pd.DataFrame:
    """Reads the raw table, every way of failing brought to one line."""
    suffix = _suffix(path)
    if not path.exists():
        raise FileNotFoundError(f"no such file: {path}")
    try:
        if suffix == ".parquet":
            table = pd.read_parquet(path, engine="pyarrow")
            is_counter = isinstance(table.index, pd.RangeIndex) or table.index.dtype.kind in "iu"
            return table if is_counter and table.index.name is None else table.reset_index()
        options: dict[str, Any] = {
            "sep": _separator(path, suffix),
            "compression": "gzip" if suffix == ".csv.gz" else None,
            "skipinitialspace": True,
        }
        header = pd.read_csv(path, header=None, nrows=1, dtype=str, **options).iloc[0].dropna()
        if header.duplicated().any():
            twice = header[header.duplicated()].iloc[0]
            raise BarsError(f"{path.name}: two columns are called {twice!r}; keep one")
        return pd.read_csv(path, **options, **EXACT_FLOATS)
    except pd.errors.EmptyDataError:
        raise BarsError(f"{path.name}: the file is empty") from None
    except (pyarrow.ArrowException, UnicodeDecodeError, pd.errors.ParserError) as error:
        raise BarsError(f"{path.name}: cannot be read as {suffix}: {_line(error)}") from None
    except (OSError, EOFError, zlib.error) as error:
        raise BarsError(f"{path.name}: cannot be opened: {_line(error)}") from None


def _separator(path: Path, suffix: str) -> str:
    """Returns the separator that the header line has most of."""
    opener = gzip.open if suffix == ".csv.gz" else open
    with opener(path, "rt", encoding="utf-8") as file:
        header = file.readline()
    return max(",;\t", key=header.count)


def _line(error: BaseException) -> str:
    """Returns the first line of an error's message."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]
