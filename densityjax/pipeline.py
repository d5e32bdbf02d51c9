"""From bars to decisions with fitted models: one object for experiment, live use and refits.

    bars -> state features -> density -> p-value  \
                                                   -> signals -> rule -> target weights
    bars -> context -> forecast -> mean, sd, ES   /

Every row of a `reading` uses bars up to that row alone; nothing here shifts time.
"""

import json
import os
from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy.special import ndtri

from densityjax import backtest
from densityjax.backtest import rules
from densityjax.estimators import FlowDensity, ReturnForecaster
from densityjax.market import compute_features, log_returns
from densityjax.market.features import longest_window
from densityjax.models import ReturnDistribution
from densityjax.strategies import flow as flow_strategy
from densityjax.training import checkpoint

TAIL_CONFIDENCE = 0.95  # of the expected shortfall that sizes positions
GAIN_RANGE = (1e-7, 1.0 - 1e-7)  # probability of a gain: nearer to 0 or 1 single precision ends
DECIDING = (
    "log_prob",
    "p_value",
    "expected_return",
    "return_std",
    "expected_shortfall",
    "short_expected_shortfall",
    "latent_return",
)
SETTINGS, DENSITY, FORECASTER = "pipeline.json", "density", "forecaster"  # in a saved folder
# What rules are told of a bar without a forecast: stranger than any gate lets pass.
QUIET = {
    "expected_z": 0.0,
    "p_value": -1.0,
    "expected_shortfall": 1.0,
    "short_expected_shortfall": 1.0,
    "return_std": 1.0,
    "expected_return": 0.0,
    "latent_return": 0.0,
    "log_prob": 0.0,
}


class Pipeline(NamedTuple):
    """Fitted models with the features they read.

    Attributes:
      state_features: name of the feature set of the density.
      density: density of the market's state.
      forecaster: forecaster of the next return.
    """

    state_features: str
    density: FlowDensity
    forecaster: ReturnForecaster


class Reading(NamedTuple):
    """What a pipeline says of bars, N rows with enough history for both models.

    Attributes:
      frame: close, return_next (log, NaN in the last row), log_prob (of the state, nats in units of
        the features), p_value, expected_return, return_std (log returns), expected_z,
        latent_return (the standard normal score of P(return > 0): z, were the law normal), and the
        mean losses in the worst 5 % of cases: expected_shortfall of a unit long position,
        short_expected_shortfall of a short one.
      forecast: the forecast densities of the same rows.
      state_columns: names of the features that the density read, in its order.
      left_out: names of the features that these bars do not give.
    """

    frame: pd.DataFrame
    forecast: ReturnDistribution
    state_columns: tuple[str, ...]
    left_out: tuple[str, ...]


def window(state_features: str = "flow") -> int:
    """Returns the bars before t that row t of a reading looks back on, without EWMA tails."""
    return max(longest_window(state_features), longest_window("context"))


def read(pipeline: Pipeline, bars: pd.DataFrame) -> Reading:
    """Runs fitted models over bars.

    Args:
      pipeline: the fitted models.
      bars: frame of bars, as far back as the models should remember.

    Returns:
      The `Reading` of all bars with enough history.

    Raises:
      ValueError: if there are too few bars, or a model answered with a value that is not finite.
    """
    if pipeline.forecaster.horizon_ != 1:
        raise ValueError(
            f"forecaster has horizon_ {pipeline.forecaster.horizon_}: accepted is 1, for decisions "
            "are made at every close"
        )
    state = compute_features(bars, pipeline.state_features)
    left_out = state.attrs["left_out"]
    forecast = pipeline.forecaster.predict(bars)
    both = state.index.intersection(pd.DatetimeIndex(forecast.index))
    state = state.loc[both]
    forecast = forecast[pd.DatetimeIndex(forecast.index).get_indexer(both)]
    log_prob = pipeline.density.score_samples(state)
    mean, std = forecast.moments()
    gain = np.asarray(forecast.prob_above(0.0), np.float64)
    frame = pd.DataFrame(
        {
            "close": bars["close"].reindex(both),
            "return_next": log_returns(bars).shift(-1).reindex(both),
            "log_prob": log_prob,
            "p_value": pipeline.density.p_value_of_log_prob(log_prob),
            "expected_return": mean,
            "return_std": std,
            "expected_z": mean / std,
            "latent_return": ndtri(np.clip(gain, *GAIN_RANGE)),
            "expected_shortfall": forecast.expected_shortfall(TAIL_CONFIDENCE),
            "short_expected_shortfall": forecast.expected_shortfall(TAIL_CONFIDENCE, side="short"),
        },
        index=both,
    )
    finite = np.isfinite(frame.drop(columns="return_next").to_numpy())
    if not finite.all():
        row, column = np.argwhere(~finite)[0]
        name = frame.drop(columns="return_next").columns[column]
        raise ValueError(f"the models answered {name} = {frame[name].iloc[row]} at {both[row]}")
    return Reading(frame, forecast, tuple(state.columns), tuple(left_out))


def on_every_bar(frame: pd.DataFrame, bars: pd.DataFrame) -> pd.DataFrame:
    """Lays the rows of a reading out on every bar from the first of them to the last.

    Money knows no gaps: an account lives through bars without a forecast (those whose features
    reach into a repaired gap), and is flat in them.

    Args:
      frame: rows of a reading.
      bars: all bars.

    Returns:
      Frame of contiguous bars: the columns of `frame`, NaN where there is no forecast but for
      close, and has_forecast.
    """
    every = bars.loc[frame.index[0] : frame.index[-1]]
    full = frame.reindex(every.index)
    full["has_forecast"] = every.index.isin(frame.index)
    full["close"] = every["close"]
    return full


def _quiet(frame: pd.DataFrame) -> pd.DataFrame:
    """Fills bars without a forecast with values on which every rule is flat; no other NaN."""
    if "has_forecast" not in frame:
        return frame
    is_missing = ~frame["has_forecast"].to_numpy(bool)
    filled = frame.copy()
    for name, value in QUIET.items():
        filled.loc[is_missing, name] = value
    return filled


def signals(frame: pd.DataFrame) -> rules.Signals:
    """Returns the columns of a reading that trading rules read, float32."""
    frame = _quiet(frame)
    return rules.Signals(
        expected_z=frame["expected_z"].to_numpy(np.float32),
        density_p_value=frame["p_value"].to_numpy(np.float32),
        expected_shortfall=frame["expected_shortfall"].to_numpy(np.float32),
        return_std=frame["return_std"].to_numpy(np.float32),
        short_expected_shortfall=frame["short_expected_shortfall"].to_numpy(np.float32),
    )


def decide(frame: pd.DataFrame, params: rules.ThresholdParams) -> pd.DataFrame:
    """Turns a reading into signals and target weights.

    Args:
      frame: the frame of a `Reading`.
      params: of the threshold rule; the rule starts flat at the first row.

    Returns:
      Frame with the rows of `frame`: signal (1, 0, -1), confidence, in_distribution, latent_return,
      position_size (target weight decided at the close, in equity) and reason in words.
    """
    frame = _quiet(frame)
    rule = flow_strategy.FlowRule(
        entry_z=float(params.entry_z),
        risk_budget=float(params.risk_budget),
        min_p_value=float(params.min_p_value),
        max_position=float(params.max_weight),
    )
    record = flow_strategy.flow_signals(
        rule,
        **{name: frame[name].to_numpy(np.float32) for name in DECIDING},
    )
    position = np.asarray(rules.apply_rule(rules.threshold_rule, params, signals(frame)))
    reason = np.array([flow_strategy.Reason(code).name.lower() for code in record.reason])
    reason = np.char.replace(reason, "_", " ").astype(object)
    reason[(position != 0) & (record.signal == 0)] = "held"
    is_signal = record.signal != 0
    reason[is_signal & (position == 0)] = "no risk budget"
    if not float(params.allow_short):
        reason[(position == 0) & (record.signal < 0)] = "short not allowed"
    if not float(params.max_weight):
        reason[is_signal] = "flat rule"
    if "has_forecast" in frame:
        reason[~frame["has_forecast"].to_numpy(bool)] = "no forecast"
    return pd.DataFrame(
        {
            "signal": record.signal.astype(int),
            "confidence": record.confidence,
            "in_distribution": record.in_distribution,
            "latent_return": record.latent_return,
            "position_size": position,
            "reason": reason,
        },
        index=frame.index,
    )


def prices(bars: pd.DataFrame, index: pd.Index) -> backtest.Prices:
    """Returns the prices of some bars as the engine takes them."""
    chosen = bars.loc[index]
    return backtest.Prices(
        *(chosen[name].to_numpy(np.float64) for name in ("open", "high", "low", "close"))
    )


def save(pipeline: Pipeline, path: str | os.PathLike) -> None:
    """Writes a pipeline to a folder, all of it or nothing; `load` gives identical answers.

    Args:
      pipeline: fitted models.
      path: the folder, made if absent; one that holds a saved pipeline is replaced.

    Raises:
      ValueError: if the folder holds anything else.
    """
    checkpoint.check_replaceable(path, (SETTINGS, DENSITY, FORECASTER), "a saved pipeline")
    with checkpoint.replacing(path) as staging:
        pipeline.density.save(staging / DENSITY)
        pipeline.forecaster.save(staging / FORECASTER)
        settings = {"state_features": pipeline.state_features}
        (staging / SETTINGS).write_text(json.dumps(settings))


def load(path: str | os.PathLike) -> Pipeline:
    """Reads a pipeline that `save` wrote.

    Args:
      path: the folder.

    Returns:
      The `Pipeline`.

    Raises:
      ValueError: if the folder holds none.
    """
    folder = checkpoint.present(path)
    if folder is None or not (folder / SETTINGS).is_file():
        raise ValueError(f"path is {str(path)!r}: accepted is a folder that pipeline.save wrote")
    settings = json.loads((folder / SETTINGS).read_text())
    density = FlowDensity.load(folder / DENSITY)
    forecaster = ReturnForecaster.load(folder / FORECASTER)
    return Pipeline(settings["state_features"], density, forecaster)
