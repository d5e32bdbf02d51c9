"""A folder of series fetched from exchanges: one Parquet file each, whole or not at all.

`FOLDER/EXCHANGE/SYMBOL/TIMEFRAME.parquet` holds the rows, and in its footer the manifest: what was
asked for, what lacks, and a digest of every bit. One rename replaces both, so a process killed at
any moment leaves the old file or the new one. The `.json` beside it is a copy for people to read.
"""

import contextlib
import hashlib
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from densityjax.market import fetch, timeframes
from densityjax.market.fetch_client import EXCHANGES
from densityjax.market.fetch_pages import Rows

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None

FOLDER = "data"
FORMAT = 1
KEY = b"densityjax"


class StoreError(ValueError):
    """Raised for a file that is not what was written, or that another process is writing."""


class Manifest(NamedTuple):
    """What a stored series is.

    Attributes:
      source: exchange, with the network where it is not the market itself.
      symbol: ccxt's spelling.
      series: a timeframe, with "-mark" for mark prices, or "funding".
      columns: names of the values.
      rows: number of rows.
      sha256: of the times (int64 ms) and then the values (float64, row by row), little endian.
      since_ms: start of what was asked for, ms since 1970.
      until_ms: end of what was asked for, not in it; all in between is here or does not exist.
      gaps: (start, stop) of holes after the first row, ms since 1970.
      revisions: records of values that the exchange changed afterwards.
      updated_ms: time of the last update by the exchange's clock, ms since 1970.
      versions: of the packages that wrote it.
    """

    source: str
    symbol: str
    series: str
    columns: tuple[str, ...]
    rows: int
    sha256: str
    since_ms: int
    until_ms: int
    gaps: tuple[tuple[int, int], ...]
    revisions: tuple[dict[str, Any], ...]
    updated_ms: int
    versions: dict[str, str]


class Stored(NamedTuple):
    """A series and its manifest."""

    manifest: Manifest
    rows: Rows


def series_path(folder: str | os.PathLike, source: str, symbol: str, series: str) -> Path:
    """Returns where a series lies: `FOLDER/bybit/BTC-USDT_USDT/1h.parquet`, for instance.

    Args:
      folder: root of the store.
      source: exchange and network, such as "bybit" or "bybit-testnet".
      symbol: ccxt's spelling.
      series: timeframe, or "funding".

    Returns:
      The path; nothing is made.

    Raises:
      ValueError: a part would leave the folder.
    """
    parts = (source, symbol.replace("/", "-").replace(":", "_"), series)
    for part in parts:
        if not part or part.startswith(".") or set(part) & set('/\\:*?"<>|'):
            raise ValueError(f"{part!r} cannot be part of a path in the store")
    return Path(folder, *parts[:2], f"{series}.parquet")


def load_bars(
    symbol: str, timeframe: str, *, exchange: str = EXCHANGES[0], folder: str | os.PathLike = FOLDER
) -> pd.DataFrame:
    """Reads bars from the store; nothing is asked of the exchange.

    Args:
      symbol: ccxt's spelling, such as "BTC/USDT:USDT".
      timeframe: such as "1h"; "1h-mark" for mark prices, "funding" for funding rates.
      exchange: exchange and network, such as "bybit" or "bybit-testnet".
      folder: root of the store.

    Returns:
      Frame of T rows as `fetch.fetch_bars` gives it, `attrs` with source, symbol, timeframe, gaps.

    Raises:
      FileNotFoundError: the series was not fetched yet.
      StoreError: the file is damaged.
    """
    path = series_path(folder, exchange, symbol, timeframe)
    stored = read_series(path)
    if stored is None:
        raise FileNotFoundError(f"no such file: {path}; fetch it with scripts/fetch_bars.py")
    return frame_of(stored)


def frame_of(stored: Stored) -> pd.DataFrame:
    """Returns a stored series as a frame with a UTC index `timestamp`."""
    rows, manifest = stored.rows, stored.manifest
    frame = fetch.to_frame(rows, manifest.columns)
    spans = tuple(tuple(timeframes.show_ms(time) for time in gap) for gap in manifest.gaps)
    names = {"source": manifest.source, "symbol": manifest.symbol, "timeframe": manifest.series}
    frame.attrs = {**names, "gaps": spans}
    return frame


def read_series(path: Path) -> Stored | None:
    """Reads a series and checks it bit for bit.

    Args:
      path: from `series_path`.

    Returns:
      The series; None where there is none.

    Raises:
      StoreError: the file is damaged, of another format, or not of this store.
    """
    if not path.exists():
        return None
    try:
        table = pq.read_table(path)
        record = json.loads((table.schema.metadata or {})[KEY])
        if record.pop("format") != FORMAT:
            raise StoreError(f"{path}: written in another format; accepted is {FORMAT}")
        manifest = Manifest(**record)
        manifest = manifest._replace(
            columns=tuple(manifest.columns),
            gaps=tuple((int(a), int(b)) for a, b in manifest.gaps),
            revisions=tuple(manifest.revisions),
        )
        times = table["timestamp"].cast(pa.int64()).to_numpy()
        columns = [table[name].to_numpy() for name in manifest.columns]
        values = np.column_stack(columns) if columns else np.empty((len(times), 0))
    except (pa.ArrowException, OSError, KeyError, TypeError, json.JSONDecodeError) as error:
        raise StoreError(f"{path}: cannot be read: {' '.join(str(error).split())[:160]}") from None
    rows = Rows(times.astype(np.int64), values.astype(np.float64))
    if len(times) != manifest.rows or digest_of(rows) != manifest.sha256:
        raise StoreError(f"{path}: does not match its digest; delete it and fetch it again")
    return Stored(manifest, rows)


def write_series(path: Path, stored: Stored) -> Stored:
    """Replaces a series in one step, rows and manifest together.

    Args:
      path: from `series_path`; hold its `writer_lock`.
      stored: the rows, and a manifest whose rows and sha256 are filled in here.

    Returns:
      The series as it was written.
    """
    rows = stored.rows
    manifest = stored.manifest._replace(rows=len(rows.times), sha256=digest_of(rows))
    record = {"format": FORMAT, **manifest._asdict()}
    arrays = [pa.array(rows.times).cast(pa.timestamp("ms", tz="UTC"))]
    arrays += [pa.array(np.ascontiguousarray(column)) for column in rows.values.T]
    table = pa.table(dict(zip(("timestamp", *manifest.columns), arrays, strict=True)))
    table = table.replace_schema_metadata({KEY: json.dumps(record, allow_nan=False).encode()})
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    with partial.open("wb") as file:
        pq.write_table(table, file)
        _flush(file)
    os.replace(partial, path)
    copy = path.with_name(f".{path.stem}.json.{os.getpid()}.partial")
    copy.write_text(json.dumps(record, indent=1, allow_nan=False) + "\n", encoding="utf-8")
    os.replace(copy, path.with_suffix(".json"))
    return Stored(manifest, rows)


@contextlib.contextmanager
def writer_lock(path: Path) -> Iterator[None]:
    """Lets one process at a time write a series; what a killed one left half done is removed.

    Args:
      path: from `series_path`; its folder is made.

    Yields:
      Nothing.

    Raises:
      StoreError: another process holds the lock. It goes with its process, however that ends.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.with_name(f".{path.stem}.lock").open("w") as file:
        if fcntl is not None:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                raise StoreError(f"{path}: another process is writing it") from None
        for pattern in (f".{path.name}.*.partial", f".{path.stem}.json.*.partial"):
            for leftover in path.parent.glob(pattern):
                leftover.unlink()
        yield


def digest_of(rows: Rows) -> str:
    """Returns the SHA-256 of the times and the values, as `Manifest.sha256` says."""
    digest = hashlib.sha256(rows.times.astype("<i8").tobytes())
    digest.update(np.ascontiguousarray(rows.values, "<f8").tobytes())
    return digest.hexdigest()


def _flush(file: Any) -> None:
    """Makes sure that a file is on the disk before it is renamed."""
    file.flush()
    os.fsync(file.fileno())
