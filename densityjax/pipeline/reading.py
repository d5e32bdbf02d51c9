"""Fitted models, what they say of bars, and the folder that they are kept in."""

import json
import os
import types
from collections.abc import Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
from scipy.special import ndtri

from densityjax._typing import Array
from densityjax.estimators import (
    EnergyDensity,
    FlowDensity,
    ReturnForecaster,
    ReturnScore,
    ScoreDensity,
    TabularDensity,
)
from densityjax.market import compute_features, log_returns
from densityjax.market.features import longest_window
from densityjax.models import ReturnDistribution
from densityjax.strategies import score_reading, score_vote
from densityjax.training import checkpoint

TAIL_CONFIDENCE = 0.95  # of the expected shortfall that sizes positions
GAIN_RANGE = (1e-7, 1.0 - 1e-7)  # probability of a gain: nearer to 0 or 1 single precision ends
SETTINGS, DENSITY, FORECASTER = "pipeline.json", "density", "forecaster"  # in a saved folder
RETURN_SCORE = "return_score"
COMPANIONS: dict[str, type[TabularDensity]] = {  # family -> its density
    "score": ScoreDensity,
    "energy": EnergyDensity,
}


class Pipeline(NamedTuple):
    """Fitted models with the features they read.

    Attributes:
      state_features: name of the feature set of the density.
      density: density of the market's state.
      forecaster: forecaster of the next return.
      companions: family -> its density of the same state.
      return_score: score of the next return, or None.
    """

    state_features: str
    density: FlowDensity
    forecaster: ReturnForecaster
    companions: Mapping[str, TabularDensity] = types.MappingProxyType({})
    return_score: ReturnScore | None = None


class Reading(NamedTuple):
    """What a pipeline says of bars, N rows with enough history for both models.

    Attributes:
      frame: close, return_next (log, NaN in the last row), log_prob (of the state, nats in units of
        the features), p_value, expected_return, return_std (log returns), expected_z,
        latent_return (the standard normal score of P(return > 0): z, were the law normal), and the
        mean losses in the worst 5 % of cases: expected_shortfall of a unit long position,
        short_expected_shortfall of a short one. For each companion log_prob_FAMILY and
        p_value_FAMILY. With a score of the next return also score_of_return (mean over members, per
        standard deviation), score_direction and score_confidence, as the members vote.
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
    for family, density in pipeline.companions.items():
        frame[f"log_prob_{family}"] = density.score_samples(state)
        frame[f"p_value_{family}"] = density.p_value_of_log_prob(frame[f"log_prob_{family}"])
    if pipeline.return_score is not None:
        frame = frame.join(vote_of_scores(pipeline.return_score, bars))
    finite = np.isfinite(frame.drop(columns="return_next").to_numpy())
    if not finite.all():
        row, column = np.argwhere(~finite)[0]
        name = frame.drop(columns="return_next").columns[column]
        raise ValueError(f"the models answered {name} = {frame[name].iloc[row]} at {both[row]}")
    return Reading(frame, forecast, tuple(state.columns), tuple(left_out))


def vote_of_scores(return_score: ReturnScore, bars: pd.DataFrame) -> pd.DataFrame:
    """Reads the score of the return after each bar, and lets its members vote on a direction.

    Args:
      return_score: fitted.
      bars: frame of bars.

    Returns:
      Frame with a row per bar with enough history: score_of_return, score_direction (1, 0, -1) and
      score_confidence, a share of validation rows, in [0, 1].
    """
    scores = return_score.predict(bars)
    ruler = return_score.validation_scores_
    votes = _vote(scores.member_scores, score_reading.confidence(scores.member_scores, ruler))
    return pd.DataFrame(
        {
            "score_of_return": scores.standard_score,
            "score_direction": np.asarray(votes.direction),
            "score_confidence": np.minimum(np.asarray(votes.confidence), 1.0),
        },
        index=scores.index,
    )


@jax.jit
def _vote(member_scores: Array, confidence: Array) -> score_vote.Vote:
    """Votes by the mean of the members, [N, M], row by row."""

    def one(scores: Array, confidence: Array) -> score_vote.Vote:
        return score_vote.vote(score_vote.mean, scores, confidence, jnp.ones(scores.shape, bool))

    return jax.vmap(one)(member_scores, confidence)


def save(pipeline: Pipeline, path: str | os.PathLike) -> None:
    """Writes a pipeline to a folder, all of it or nothing; `load` gives identical answers.

    Args:
      pipeline: fitted models.
      path: the folder, made if absent; one that holds a saved pipeline is replaced.

    Raises:
      ValueError: if the folder holds anything else.
    """
    companions = {f"{DENSITY}_{family}": each for family, each in pipeline.companions.items()}
    known = [f"{DENSITY}_{family}" for family in COMPANIONS]
    names = (SETTINGS, DENSITY, FORECASTER, RETURN_SCORE, *known)
    checkpoint.check_replaceable(path, names, "a saved pipeline")
    with checkpoint.replacing(path) as staging:
        pipeline.density.save(staging / DENSITY)
        pipeline.forecaster.save(staging / FORECASTER)
        for name, density in companions.items():
            density.save(staging / name)
        if pipeline.return_score is not None:
            pipeline.return_score.save(staging / RETURN_SCORE)
        settings = {
            "state_features": pipeline.state_features,
            "companions": list(pipeline.companions),
            "has_return_score": pipeline.return_score is not None,
        }
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
    companions = {
        family: COMPANIONS[family].load(folder / f"{DENSITY}_{family}")
        for family in settings.get("companions", ())
    }
    has_score = settings.get("has_return_score", False)
    return_score = ReturnScore.load(folder / RETURN_SCORE) if has_score else None
    return Pipeline(settings["state_features"], density, forecaster, companions, return_score)
