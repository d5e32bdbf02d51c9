"""One run from arguments to a folder: data, fits, forecasts, tests, positions, report.

    runs/NAME/  config.json  metrics.json  forecast.parquet  density.parquet  signals.parquet
                grid.parquet  samples.parquet  training.parquet  checkpoint/  report.html

Models learn on the first rows, every threshold and the rule are chosen on the next, and the last
rows are looked at once. The folder is written under a temporary name and renamed at the end.
"""

import datetime
import pathlib
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd

from densityjax import market, pipeline, report
from densityjax.estimators import FlowDensity, ReturnForecaster, ReturnScore, forecast_rows
from densityjax.experiment import record
from densityjax.experiment.arguments import Arguments
from densityjax.experiment.data import Data, check_usable, load, purge, split_bars
from densityjax.experiment.families import densities
from densityjax.experiment.folders import check_new, new_folder, write_json
from densityjax.experiment.judge import judge
from densityjax.market.features import feature_support
from densityjax.training import FitProgress

Progress = Callable[[str, float], None]  # stage in words, share of it done

ALARM_RATE = 0.01  # share of ordinary bars that are marked as anomalies
TRANSFORMS = {"real": "identity", "positive": "log", "unit_interval": "logit"}
QUICK_EPOCHS = 10  # of all models
QUICK_MEMBERS = 2  # of each ensemble of forecasts


def run(arguments: Arguments, progress: Progress | None = None) -> pathlib.Path:
    """Runs the whole path once and writes its folder.

    Args:
      arguments: what to run on and how.
      progress: told the stage and the share of it that is done, now and then; what it raises
        ends the run.

    Returns:
      The folder.

    Raises:
      ValueError: for arguments or bars that are not accepted.
      OSError: if the bars cannot be read or the run not be written. However a run ends early, it
        leaves nothing behind.
    """
    tell = progress or (lambda stage, share: None)
    clock = _Clock()
    tell("reading bars", 0.0)
    folder = _folder(arguments)
    check_new(folder)
    data = load(arguments)
    clock.lap("read")
    with new_folder(folder) as staging:
        _write_run(arguments, data, staging, tell, clock)
        tell("writing the report", 0.0)
        report.write_report(staging)
        tell("writing the report", 1.0)
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


def _folder(arguments: Arguments) -> pathlib.Path:
    """Returns the folder that was asked for, or one named by data and time."""
    if arguments.out is not None:
        return pathlib.Path(arguments.out)
    stamp = datetime.datetime.now().strftime("%Y%m%d-%H%M%S")
    return pathlib.Path("runs") / f"{arguments.name}-{stamp}"


def _write_run(
    arguments: Arguments, data: Data, folder: pathlib.Path, tell: Progress, clock: _Clock
) -> None:
    """Fits, judges and writes everything but the page."""
    bars, gap = data.bars, purge(arguments)
    parts = split_bars(bars, arguments)._asdict()
    fitted = fit(arguments, bars, parts, tell)
    clock.lap("fit")
    tell("forecasting every bar", 0.0)
    reading = pipeline.read(fitted, bars)
    reading.frame["split"] = split_names(reading.frame.index, bars.index, parts)
    clock.lap("forecast")
    tell("testing the forecast", 0.0)
    verdict = judge(
        bars,
        reading,
        num_train=parts["train"].stop,
        states=market.compute_features(bars, arguments.state_features),
        fitted=fitted,
        alarm_rate=ALARM_RATE,
        fee_bps=arguments.fee_bps,
        seed=arguments.seed,
        truth=data.truth,
    )
    clock.lap("judge")
    tell("writing the run", 0.0)
    tables = {**verdict.tables, "training": record.training_curves(fitted)}
    if data.repairs is not None:
        tables["repairs"] = data.repairs
    pipeline.save(fitted, folder / "checkpoint")
    for name, table in tables.items():
        table.to_parquet(folder / f"{name}.parquet")
    write_json(folder / "metrics.json", record.with_reasons(verdict.metrics))
    config = record.config(arguments, data, reading, fitted, gap)
    clock.lap("write")
    write_json(folder / "config.json", {**config, "seconds": clock.seconds})


def fit(
    arguments: Arguments, bars: pd.DataFrame, parts: dict[str, slice], tell: Progress
) -> pipeline.Pipeline:
    """Fits all models to the training rows; the validation rows calibrate the p-values.

    Args:
      arguments: of the run.
      bars: all bars.
      parts: part ('train', 'validation', 'test') -> rows of `bars`.
      tell: told the stage and the share of it that is done.

    Returns:
      The fitted `Pipeline`.
    """

    def callback(stage: str) -> Callable[[FitProgress], None]:
        tell(stage, 0.0)
        return lambda done: tell(stage, done.epoch / done.num_epochs)

    blank = _models(arguments)
    state = market.compute_features(bars, arguments.state_features)
    check_usable(bars, state.index.intersection(forecast_rows(bars).index), parts)
    past = bars.iloc[parts["train"]]
    blank.forecaster.fit(past, callback=callback("fitting the forecaster"))
    train, validation = (
        state.loc[state.index.isin(bars.index[parts[name]])] for name in ("train", "validation")
    )
    transforms = [TRANSFORMS[feature_support(name)] for name in state.columns]
    for family, density in densities(blank).items():
        density.set_params(transforms=transforms)
        told = callback(f"fitting the {family}'s density of the state")
        shared: dict[str, Any] = {"proposal": blank.density} if family == "energy" else {}
        density.fit(train, calibration=validation, callback=told, **shared)
    if blank.return_score is not None:
        told = callback("fitting the score of the return")
        blank.return_score.fit(past, callback=told)
    return blank


def _models(arguments: Arguments) -> pipeline.Pipeline:
    """Returns the models, not fitted yet."""
    options = {
        "random_state": arguments.seed,
        "false_alarm_rate": ALARM_RATE,
        "purge": purge(arguments),
    }
    models = pipeline.Pipeline(
        arguments.state_features,
        FlowDensity(**options),
        ReturnForecaster(random_state=arguments.seed),
        {family: pipeline.COMPANIONS[family](**options) for family in arguments.companions},
        ReturnScore(random_state=arguments.seed) if "score" in arguments.companions else None,
    )
    if arguments.quick:
        for density in densities(models).values():
            density.set_params(num_epochs=QUICK_EPOCHS)
        for ensemble in (models.forecaster, models.return_score):
            if ensemble is not None:
                ensemble.set_params(num_epochs=QUICK_EPOCHS, num_members=QUICK_MEMBERS)
    return models


def split_names(index: pd.Index, all_bars: pd.Index, parts: dict[str, slice]) -> np.ndarray:
    """Names the part of each row; rows in the gaps between parts are 'purged'.

    Args:
      index: [N] times of the rows.
      all_bars: [T] times of the bars that were split.
      parts: part -> rows of the bars.

    Returns:
      [N] names.
    """
    names = np.full(len(all_bars), "purged", dtype=object)
    for name, rows in parts.items():
        names[rows] = name
    return names[all_bars.get_indexer(index)]
