"""Reading the folder of a finished run, which is all that the report looks at.

`config.json` and `metrics.json` must be there; every Parquet file may be missing, and whatever
needs it is then left out of the report and said so. Nothing is fitted or simulated here.
"""

import json
import pathlib
from collections.abc import Iterable
from typing import Any, NamedTuple, cast

import pandas as pd

TIMED = ("forecast", "signals", "density")
UNTIMED = ("grid", "training", "samples")


class Record(NamedTuple):
    """What a run left behind.

    Attributes:
      folder: where it was read from.
      config: arguments, versions, data, features, split, seed and seconds of the run.
      metrics: section to name to value; a missing number is None with `name + "_reason"` beside it.
      forecast: one row per bar, the forecast of the next log return, or None.
      signals: one row per test bar, signal, position and equity, or None.
      density: one row per bar, log density and p-value of the state by each family, or None.
      grid: one row per rule tried on the validation rows, or None.
      training: one row per model, member and epoch, losses, or None.
      samples: one row per drawn state and per row of the data beside them, or None.
    """

    folder: pathlib.Path
    config: dict[str, Any]
    metrics: dict[str, dict[str, Any]]
    forecast: pd.DataFrame | None
    signals: pd.DataFrame | None
    density: pd.DataFrame | None
    grid: pd.DataFrame | None
    training: pd.DataFrame | None
    samples: pd.DataFrame | None


class MissingRecordError(ValueError):
    """A plot or table asked for a file or a column that the run did not write."""


def read_record(run_folder: str | pathlib.Path) -> Record:
    """Reads everything that a run wrote down.

    Args:
      run_folder: path of the folder, holding at least `config.json` and `metrics.json`.

    Returns:
      The `Record`; Parquet files that are absent are None.

    Raises:
      ValueError: if the folder or one of the two JSON files is missing or unreadable.
    """
    folder = pathlib.Path(run_folder)
    if not folder.is_dir():
        raise ValueError(f"run_folder must be the folder of a finished run, got {str(folder)!r}")
    config, metrics = (_read_object(folder / name) for name in ("config.json", "metrics.json"))
    wrong = [name for name, section in metrics.items() if not isinstance(section, dict)]
    if wrong:
        raise ValueError(f"metrics.json must map sections to objects, got others in {wrong}")
    frames = {name: _read_frame(folder / f"{name}.parquet") for name in (*TIMED, *UNTIMED)}
    return Record(folder, config, metrics, **frames)


def require(frame: pd.DataFrame | None, columns: Iterable[str], file: str) -> pd.DataFrame:
    """Returns the frame, or raises `MissingRecordError` saying what the run did not write."""
    if frame is None:
        raise MissingRecordError(f"{file}.parquet was not written by this run")
    absent = [column for column in columns if column not in frame.columns]
    if absent:
        raise MissingRecordError(f"{file}.parquet has no column {', '.join(absent)}")
    if frame.empty:
        raise MissingRecordError(f"{file}.parquet has no rows")
    return frame


def test_rows(forecast: pd.DataFrame) -> pd.DataFrame:
    """Returns the rows of the test split, or all of them where no split is named."""
    if "split" not in forecast.columns:
        return forecast
    return cast(pd.DataFrame, forecast[forecast["split"] == "test"])


def column(frame: pd.DataFrame, name: str) -> pd.Series:
    """Returns one column of a frame."""
    return cast(pd.Series, frame[name])


def _read_object(path: pathlib.Path) -> dict[str, Any]:
    """Reads a JSON object; NaN and infinities, which JSON does not hold, become None."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"), parse_constant=lambda _: None)
    except FileNotFoundError:
        raise ValueError(
            f"run_folder must hold {path.name}, and {str(path.parent)!r} does not"
        ) from None
    except ValueError as error:
        raise ValueError(f"{path.name} in {str(path.parent)!r} is not JSON: {error}") from error
    if not isinstance(value, dict):
        raise ValueError(f"{path.name} must hold a JSON object, got {type(value).__name__}")
    return value


def _read_frame(path: pathlib.Path) -> pd.DataFrame | None:
    """Reads a Parquet file, None where absent; timed files get a UTC index without a zone mark."""
    if not path.is_file():
        return None
    try:
        frame = pd.read_parquet(path)
    except (OSError, ValueError) as error:
        raise ValueError(f"{path.name} in {str(path.parent)!r} cannot be read: {error}") from error
    if path.stem not in TIMED:
        return frame
    if "timestamp" in frame.columns:
        frame = frame.set_index("timestamp")
    if not isinstance(frame.index, pd.DatetimeIndex):
        raise ValueError(f"{path.name} must have a time index, got {frame.index.dtype}")
    return frame if frame.index.tz is None else frame.tz_convert("UTC").tz_localize(None)
