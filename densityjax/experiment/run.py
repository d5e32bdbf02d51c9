"""One run from arguments to a folder: data, fits, forecasts, tests, positions, report.

    runs/NAME/  config.json  metrics.json  forecast.parquet  density.parquet  signals.parquet
                grid.parquet  training.parquet  checkpoint/  report.html

Models learn on the first rows, every threshold and the rule are chosen on the next, and the last
rows are looked at once. The folder is written under a temporary name and renamed at the end.
"""

import dataclasses
import datetime
import hashlib
import importlib.metadata
import json
import math
import os
import pathlib
import shutil
import tempfile
import time
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
import pandas as pd

from densityjax import market, pipeline, report
from densityjax.estimators import FlowDensity, ReturnForecaster
from densityjax.experiment.judge import judge
from densityjax.market.datasets import SIMULATED_BARS
from densityjax.training import FitProgress, FitResult

Progress = Callable[[str, float], None]  # stage in words, share of it done

HORIZON = 1  # bars ahead that are forecast
ALARM_RATE = 0.01  # share of ordinary bars that are marked as anomalies
PACKAGES = ("densityjax", "jax", "jaxlib", "flax", "optax", "numpy", "pandas", "scipy", "arch")


@dataclasses.dataclass(frozen=True)
class Arguments:
    """Arguments of a run.

    Attributes:
      dataset: 'nasdaq', 'sp500' or 'simulated'; not read where `bars` is given.
      bars: file of bars, or None.
      symbol: symbol to take from a file that holds several.
      repair: whether to mend bars that strict reading refuses, with a report.
      out: folder of the run; it must not exist. None names one under `runs`.
      seed: of every random choice.
      quick: smaller models and fewer epochs, to look at the path and not at the numbers.
      fee_bps: fee of a trade, basis points of its notional.
      state_features: feature set of the density.
    """

    dataset: str = "nasdaq"
    bars: str | None = None
    symbol: str | None = None
    repair: bool = False
    out: str | None = None
    seed: int = 0
    quick: bool = False
    fee_bps: float = 5.0
    state_features: str = "flow"

    def __post_init__(self) -> None:
        """Checks what can be checked before any work."""
        if not 0 <= self.fee_bps < 10_000:
            raise ValueError(f"fee_bps is {self.fee_bps}: accepted is 0 to 10,000 basis points")
        if self.seed < 0:
            raise ValueError(f"seed is {self.seed}: accepted is an integer of at least 0")


def run(arguments: Arguments, progress: Progress | None = None) -> pathlib.Path:
    """Runs the whole path once and writes its folder.

    Args:
      arguments: what to run on and how.
      progress: told the stage and the share of it that is done, now and then.

    Returns:
      The folder.

    Raises:
      ValueError: for arguments or bars that are not accepted; nothing is left behind.
      FileExistsError: if the folder exists.
    """
    tell = progress or (lambda stage, share: None)
    clock = _Clock()
    tell("reading bars", 0.0)
    bars = _load(arguments)
    folder = _free_folder(arguments)
    staging = pathlib.Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    try:
        _write_run(arguments, bars, staging, tell, clock)
        tell("writing the report", 0.0)
        report.write_report(staging)
        os.replace(staging, folder)
        folder.chmod(0o755)  # mkdtemp's folders are for their owner alone
    except BaseException:
        shutil.rmtree(staging, ignore_errors=True)
        raise
    return folder


class _Clock:
    """Seconds spent in each stage."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._last = time.perf_counter()

    def lap(self, stage: str) -> None:
        now = time.perf_counter()
        self.seconds[stage] = round(now - self._last, 2)
        self._last = now


def _load(arguments: Arguments) -> pd.DataFrame:
    if arguments.bars is None:
        bars = market.load_dataset(arguments.dataset)
        bars.attrs.setdefault("source", arguments.dataset)
        return bars
    if arguments.repair:
        raw = market.read_bars(arguments.bars, symbol=arguments.symbol, validate=False)
        bars, repairs = market.repair_bars(raw)
        bars.attrs["notes"] = [*bars.attrs.get("notes", ()), repairs.summary()]
    else:
        bars = market.read_bars(arguments.bars, symbol=arguments.symbol)
    bars.attrs.setdefault("source", str(arguments.bars))
    return bars


def _name(arguments: Arguments) -> str:
    if arguments.bars is None:
        return arguments.dataset
    stem = pathlib.Path(arguments.bars).name.split(".")[0]
    return stem if arguments.symbol is None else f"{stem}-{arguments.symbol}"


def _free_folder(arguments: Arguments) -> pathlib.Path:
    """Returns a folder that does not exist yet, its parent made and writable."""
    if arguments.out is None:
        stamp = datetime.datetime.now().strftime("%Y%m%d-%H%M%S")
        folder = pathlib.Path("runs") / f"{_name(arguments)}-{stamp}"
    else:
        folder = pathlib.Path(arguments.out)
    if folder.exists():
        raise FileExistsError(f"out is {str(folder)!r}, which exists: accepted is a new folder")
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        writable = os.access(folder.parent, os.W_OK)
    except OSError as error:
        raise ValueError(f"out is {str(folder)!r}: {error.strerror or error}") from error
    if not writable:
        raise ValueError(f"out is {str(folder)!r}: its parent cannot be written to")
    return folder


def _write_run(
    arguments: Arguments,
    bars: pd.DataFrame,
    folder: pathlib.Path,
    tell: Progress,
    clock: _Clock,
) -> None:
    """Fits, judges and writes everything but the page."""
    description = market.describe_bars(bars)
    purge = pipeline.window(arguments.state_features) + HORIZON
    parts = market.split(bars, purge=purge)._asdict()
    clock.lap("read")
    fitted = _fit(arguments, bars, parts, tell)
    clock.lap("fit")
    tell("forecasting every bar", 0.0)
    reading = pipeline.read(fitted, bars)
    reading.frame["split"] = _split_names(reading.frame.index, bars.index, parts)
    clock.lap("forecast")
    tell("testing the forecast", 0.0)
    verdict = judge(
        bars,
        reading,
        num_train=parts["train"].stop,
        dim=fitted.density.n_features_in_,
        alarm_rate=ALARM_RATE,
        fee_bps=arguments.fee_bps,
        truth=_truth(arguments, bars),
    )
    tables = {
        **verdict.tables,
        "training": pd.concat(
            [
                _history(fitted.density.history_, "density"),
                _history(fitted.forecaster.history_, "forecast"),
            ],
            ignore_index=True,
        ),
    }
    clock.lap("judge")
    pipeline.save(fitted, folder / "checkpoint")
    for name, table in tables.items():
        table.to_parquet(folder / f"{name}.parquet")
    _write_json(folder / "metrics.json", with_reasons(verdict.metrics))
    config = _config(arguments, bars, description, parts, purge, reading, fitted)
    _write_json(folder / "config.json", {**config, "seconds": clock.seconds})


def _fit(
    arguments: Arguments, bars: pd.DataFrame, parts: dict[str, slice], tell: Progress
) -> pipeline.Pipeline:
    """Fits both models to the training rows; the validation rows calibrate the p-values."""

    def callback(stage: str) -> Callable[[FitProgress], None]:
        return lambda done: tell(stage, done.epoch / done.num_epochs)

    tell("fitting the forecaster", 0.0)
    quick = {"num_epochs": 10} if arguments.quick else {}
    forecaster = ReturnForecaster(
        random_state=arguments.seed, **({"num_members": 2} if arguments.quick else {}), **quick
    ).fit(bars.iloc[parts["train"]], callback=callback("fitting the forecaster"))
    tell("fitting the density of the state", 0.0)
    state = market.compute_features(bars, arguments.state_features)
    rows = [state.loc[state.index.isin(bars.index[parts[name]])] for name in parts]
    density = FlowDensity(
        random_state=arguments.seed,
        false_alarm_rate=ALARM_RATE,
        purge=pipeline.window(arguments.state_features) + HORIZON,
        **quick,
    ).fit(
        rows[0].to_numpy(),
        calibration=rows[1].to_numpy(),
        callback=callback("fitting the density of the state"),
    )
    return pipeline.Pipeline(arguments.state_features, density, forecaster)


def _truth(arguments: Arguments, bars: pd.DataFrame) -> pd.Series | None:
    """The true log density of each next return, where the market is our own."""
    if arguments.bars is not None or arguments.dataset != "simulated":
        return None
    simulated = market.simulate_market(jax.random.key(0), SIMULATED_BARS)
    return pd.Series(simulated.log_prob, index=simulated.bars.index).reindex(bars.index)


def _split_names(index: pd.Index, all_bars: pd.Index, parts: dict[str, slice]) -> np.ndarray:
    """Names the part of each row; rows in the gaps between parts belong to none."""
    names = np.full(len(all_bars), "purged", dtype=object)
    for name, rows in parts.items():
        names[rows] = name
    return names[all_bars.get_indexer(index)]


def _history(result: FitResult, model: str) -> pd.DataFrame:
    """Training curves, one row per member and epoch."""
    frames = []
    for member in range(result.train_loss.shape[0]):
        epochs = np.arange(int(result.num_epochs[member]))
        columns = {
            "model": model,
            "member": member,
            "epoch": epochs,
            "train_loss": result.train_loss[member][epochs],
            "validation_loss": result.validation_loss[member][epochs],
        }
        frames.append(pd.DataFrame(columns))
    return pd.concat(frames, ignore_index=True)


def with_reasons(metrics: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Replaces what is not finite by null, with a reason beside it.

    Args:
      metrics: section -> name -> number, or (number, reason).

    Returns:
      section -> name -> number or None, and name + "_reason" for each None.
    """
    clean: dict[str, dict[str, Any]] = {}
    for section, values in metrics.items():
        clean[section] = {}
        for name, value in values.items():
            number, reason = value if isinstance(value, tuple) else (value, "not defined here")
            if isinstance(number, str | bool) or number is None:
                clean[section][name] = number
            elif math.isfinite(number):
                is_whole = isinstance(number, int | np.integer)
                clean[section][name] = int(number) if is_whole else float(number)
            else:
                clean[section][name] = None
                clean[section][f"{name}_reason"] = reason
    return clean


def _config(
    arguments: Arguments,
    bars: pd.DataFrame,
    description: market.BarsDescription,
    parts: dict[str, slice],
    purge: int,
    reading: pipeline.Reading,
    fitted: pipeline.Pipeline,
) -> dict[str, Any]:
    data = {
        "name": _name(arguments),
        "source": str(bars.attrs.get("source", "")),
        **{name: _plain(value) for name, value in description._asdict().items()},
        "hash": hashlib.sha256(pd.util.hash_pandas_object(bars).to_numpy().tobytes()).hexdigest(),
        "notes": [str(note) for note in bars.attrs.get("notes", ())],
    }
    state = market.compute_features(bars.iloc[-200:], arguments.state_features)
    split = {}
    for name in parts:
        index = reading.frame.index[reading.frame["split"] == name]
        split[name] = {"start": str(index[0]), "end": str(index[-1]), "rows": len(index)}
    return {
        "arguments": dataclasses.asdict(arguments),
        "command": _command(arguments),
        "versions": {name: importlib.metadata.version(name) for name in PACKAGES},
        "backend": jax.default_backend(),
        "data": data,
        "features": {
            "state": list(state.columns),
            "context": list(fitted.forecaster.names_),
            "left_out": list(state.attrs["left_out"]),
        },
        "split": {**split, "purge": purge},
        "seed": arguments.seed,
        "created": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
    }


def _command(arguments: Arguments) -> str:
    """The line that repeats the run."""
    words = ["python scripts/run_experiment.py"]
    for field in dataclasses.fields(arguments):
        value = getattr(arguments, field.name)
        if value == field.default or field.name == "out":
            continue
        flag = f"--{field.name.replace('_', '-')}"
        words.append(flag if value is True else f"{flag} {value}")
    return " ".join(words)


def _plain(value: Any) -> Any:
    """Brings a description's value to what JSON knows."""
    if isinstance(value, pd.Timestamp):
        return str(value)
    if isinstance(value, tuple):
        return [str(one) for one in value]
    return value.item() if isinstance(value, np.generic) else value


def _write_json(path: pathlib.Path, content: dict[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=2, allow_nan=False) + "\n")
