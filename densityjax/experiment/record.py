"""What a run writes down about itself: numbers without NaN, its configuration, training curves."""

import dataclasses
import datetime
import hashlib
import importlib.metadata
import math
from typing import Any

import jax
import numpy as np
import pandas as pd

from densityjax import market, pipeline
from densityjax.experiment.arguments import Arguments
from densityjax.experiment.data import Data
from densityjax.experiment.frames import part, values
from densityjax.training import FitResult

PACKAGES = ("densityjax", "jax", "jaxlib", "flax", "optax", "numpy", "pandas", "scipy", "arch")
HARMLESS = "which is as it should be"  # in a sentence of `describe_bars` that warns of nothing


def with_reasons(metrics: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Replaces what is not finite by null, with a reason beside it.

    Args:
      metrics: section -> name -> number, or (number, reason).

    Returns:
      section -> name -> number or None, and name + "_reason" for each None.
    """
    clean: dict[str, dict[str, Any]] = {}
    for section, found in metrics.items():
        clean[section] = {}
        for name, value in found.items():
            number, reason = value if isinstance(value, tuple) else (value, "not defined here")
            if math.isfinite(number):
                is_whole = isinstance(number, int | np.integer)
                clean[section][name] = int(number) if is_whole else float(number)
            else:
                clean[section][name] = None
                clean[section][f"{name}_reason"] = reason
    return clean


def training_curves(fitted: pipeline.Pipeline) -> pd.DataFrame:
    """Returns the losses of all models, one row per model, member and epoch.

    Those of the flows are in nats per row; those of the scores are errors of denoising, which
    compare within a model alone.
    """
    histories = {"density": fitted.density.history_, "forecast": fitted.forecaster.history_}
    for family, density in fitted.companions.items():
        histories[f"density ({family})"] = density.history_
    if fitted.return_score is not None:
        histories["return (score)"] = fitted.return_score.history_
    frames = [_curves(history, model) for model, history in histories.items()]
    return pd.concat(frames, ignore_index=True)


def config(
    arguments: Arguments,
    data: Data,
    reading: pipeline.Reading,
    fitted: pipeline.Pipeline,
    purge: int,
) -> dict[str, Any]:
    """Returns what was run, on what, with which versions, as JSON holds it.

    Args:
      arguments: of the run.
      data: its bars and notes.
      reading: of all bars, its frame with the column `split`.
      fitted: the models.
      purge: bars dropped between the parts.

    Returns:
      Arguments, command, versions, backend, data, features, split, seed and time of creation.
    """
    return {
        "arguments": dataclasses.asdict(arguments),
        "command": arguments.command(),
        "versions": {name: importlib.metadata.version(name) for name in PACKAGES},
        "backend": jax.default_backend(),
        "data": _describe(arguments, data),
        "features": {
            "state": list(reading.state_columns),
            "context": list(fitted.forecaster.names_),
            "left_out": list(reading.left_out),
        },
        "split": {**_split_blocks(reading.frame), "purge": purge},
        "seed": arguments.seed,
        "created": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
    }


def _describe(arguments: Arguments, data: Data) -> dict[str, Any]:
    """Returns the data's description, with a hash of every time stamp and value."""
    description = market.describe_bars(data.bars)
    found = {name: _plain(value) for name, value in description._asdict().items()}
    found["warnings"] = [text for text in description.warnings if HARMLESS not in text]
    harmless = [text for text in description.warnings if HARMLESS in text]
    return {
        "name": arguments.name,
        "source": str(data.bars.attrs["source"]),
        "symbol": data.bars.attrs["symbol"],
        **found,
        "hash": data_hash(data.bars),
        "notes": [*data.notes, *harmless],
    }


def data_hash(bars: pd.DataFrame) -> str:
    """Returns the SHA-256 of every time (ns since 1970), column name and value of the bars."""
    digest = hashlib.sha256(pd.DatetimeIndex(bars.index).as_unit("ns").asi8.tobytes())
    for name in bars.columns:
        digest.update(str(name).encode())
        digest.update(values(bars, name).tobytes())
    return digest.hexdigest()


def _split_blocks(frame: pd.DataFrame) -> dict[str, dict[str, Any]]:
    """Returns first row, last row and number of rows of each part."""
    blocks = {}
    for name in ("train", "validation", "test"):
        index = part(frame, name).index
        blocks[name] = {"start": str(index[0]), "end": str(index[-1]), "rows": len(index)}
    return blocks


def _curves(result: FitResult, model: str) -> pd.DataFrame:
    """Returns the losses of a fit of one model or of an ensemble, a row per member and epoch."""
    train, validation = np.atleast_2d(result.train_loss), np.atleast_2d(result.validation_loss)
    frames = []
    for member, num_epochs in enumerate(np.atleast_1d(result.num_epochs)):
        epochs = np.arange(int(num_epochs))
        columns = {
            "model": model,
            "member": member,
            "epoch": epochs,
            "train_loss": train[member][epochs],
            "validation_loss": validation[member][epochs],
        }
        frames.append(pd.DataFrame(columns))
    return pd.concat(frames, ignore_index=True)


def _plain(value: Any) -> Any:
    """Brings a description's value to what JSON knows."""
    if isinstance(value, pd.Timestamp):
        return str(value)
    return value.item() if isinstance(value, np.generic) else value
