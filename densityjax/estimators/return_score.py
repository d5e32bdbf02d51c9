"""The score of the coming return: bars in, for every bar the slope of the log density at a return.

A conditional score model over the next return divided by its recent volatility, u = r / v_t, is
fitted by denoising to the rows of the `ReturnForecaster`. Read at r = 0 the score says on which
side of no change the coming return is likelier to fall, and how much so: see
`strategies.score_reading`. It is read with noise of level sigma, in standard deviations, which
smooths what a finite sample leaves rough; of a normal law it shrinks the score by 1 + sigma^2 and
keeps its sign. Little noise tells on which side the mode is, much noise the mean: of a skewed law
these differ, and one standard deviation, the default, is near the mean.
"""

import os
from collections.abc import Callable
from typing import NamedTuple

import jax
import numpy as np
import pandas as pd
from sklearn.base import BaseEstimator
from sklearn.utils.validation import check_is_fitted

from densityjax._typing import ArrayLike
from densityjax.estimators import _fitting, _return_readings, _saving
from densityjax.estimators.return_forecaster import ForecastRows, forecast_rows, training_rows
from densityjax.models import Levels, Score, ScoreLoss, map_rows, score_loss, score_model
from densityjax.training import FitProgress

MEAN_SIGMA = 3.0  # sd of noise that hides the shape of a law, so that its score tells the mean
VALIDATION_DRAWS = 4  # levels and noises of a validation row, the same in all epochs


class ReturnScores(NamedTuple):
    """Scores of the next return, one row per bar with enough history.

    Attributes:
      index: [N] timestamps of the bars at whose close the scores are known.
      score: [N] mean over members of `d/dr log p(r | x_t)` at the reference, per unit of r.
      standard_score: [N] the same times the volatility: per standard deviation, about.
      member_scores: [N, M] `standard_score` of each member.
      volatility: [N] recent volatility of a return over the horizon, a fraction.
      expected_return: [N] mean of the return as the score of much noise tells it, a log return.
    """

    index: pd.DatetimeIndex
    score: np.ndarray
    standard_score: np.ndarray
    member_scores: np.ndarray
    volatility: np.ndarray
    expected_return: np.ndarray


class ReturnScore(BaseEstimator):
    """Learns the score of the log return over the next bars, given the past of the bars.

    Each member leaves out another block of time and stops when its loss there stops falling; its
    scores there also set `validation_scores_`, the ruler of confidence.

    Args:
      horizon: bars from the close of the score to the close that the return leads to, >= 1.
      num_members: score models in the ensemble, >= 1.
      width: hidden width of the networks.
      num_hidden: residual blocks of the networks.
      dropout: share of hidden units dropped while training.
      sigma_min: smallest noise level, in standard deviations.
      sigma_max: largest noise level, in standard deviations; `log_prob` needs a wide one.
      num_levels: noise levels of the fit, geometric between the two; None draws them from the
        log-normal law of `Levels`.
      read_sigma: noise level at which scores are read, in standard deviations, within the range.
      num_epochs: most passes over the rows.
      batch_size: rows per step; None for about 64 steps an epoch.
      patience: epochs without a better loss on a member's block before it stops.
      learning_rate: peak rate of AdamW.
      weight_decay: decay of the networks' kernels.
      random_state: seed of the starting points, of noise and of shuffling.

    Attributes:
      model_: the fitted `Score`.
      params_: its parameters, each leaf with a leading axis of members.
      names_: names of the context columns.
      horizon_: bars that a return spans, as it was in the fit.
      validation_scores_: [K] sizes of members' standardised scores at 0 on their own blocks, which
        they did not learn from, in rising order; see `strategies.score_reading.confidence`.
      history_: the `FitResult`, after `fit` alone.
    """

    def __init__(
        self,
        *,
        horizon: int = 1,
        num_members: int = 8,
        width: int = 32,
        num_hidden: int = 1,
        dropout: float = 0.0,
        sigma_min: float = 0.02,
        sigma_max: float = 20.0,
        num_levels: int | None = None,
        read_sigma: float = 1.0,
        num_epochs: int = 100,
        batch_size: int | None = None,
        patience: int = 20,
        learning_rate: float = 1e-3,
        weight_decay: float = 1e-2,
        random_state: int = 0,
    ) -> None:
        self.horizon = horizon
        self.num_members = num_members
        self.width = width
        self.num_hidden = num_hidden
        self.dropout = dropout
        self.sigma_min = sigma_min
        self.sigma_max = sigma_max
        self.num_levels = num_levels
        self.read_sigma = read_sigma
        self.num_epochs = num_epochs
        self.batch_size = batch_size
        self.patience = patience
        self.learning_rate = learning_rate
        self.weight_decay = weight_decay
        self.random_state = random_state

    def build_model(self, num_context: int) -> Score:
        """Returns the score model of a member that reads `num_context` columns."""
        return score_model(
            1,
            context_dim=num_context,
            width=self.width,
            num_hidden=self.num_hidden,
            dropout=self.dropout,
            sigma_min=self.sigma_min,
            sigma_max=self.sigma_max,
        )

    def build_loss(self, model: Score) -> ScoreLoss:
        """Returns the loss that a member is fitted by."""
        levels = Levels()
        if self.num_levels is not None:
            levels = Levels("geometric", num_levels=self.num_levels)
        return score_loss(model, levels=levels, num_validation_draws=VALIDATION_DRAWS)

    def fit(
        self,
        bars: pd.DataFrame,
        y: None = None,
        *,
        callback: Callable[[FitProgress], None] | None = None,
        checkpoint_path: str | os.PathLike | None = None,
    ) -> "ReturnScore":
        """Fits to all returns inside `bars`.

        Args:
          bars: frame of bars, oldest first; nothing outside them is seen.
          y: ignored; there for scikit-learn.
          callback: told a `training.FitProgress` now and then.
          checkpoint_path: folder from which an interrupted fit goes on.

        Returns:
          The estimator itself.

        Raises:
          ValueError: if `bars` are no frame of bars or too few, or a parameter is not accepted.
          FloatingPointError: if a loss or gradient is not finite.
        """
        if not self.sigma_min <= self.read_sigma <= self.sigma_max:
            raise ValueError(
                f"read_sigma is {self.read_sigma}: accepted is a level from sigma_min, "
                f"{self.sigma_min}, to sigma_max, {self.sigma_max}"
            )
        rows = forecast_rows(bars, horizon=self.horizon)
        x, context = training_rows(rows)
        purge = rows.window + rows.horizon
        self.model_ = self.build_model(len(rows.names))
        self.history_ = _fitting.fit_members(
            jax.random.key(self.random_state),
            self.model_,
            x,
            context,
            num_members=self.num_members,
            purge=purge,
            num_epochs=self.num_epochs,
            batch_size=self.batch_size,
            patience=self.patience,
            learning_rate=self.learning_rate,
            weight_decay=self.weight_decay,
            loss=self.build_loss(self.model_),
            callback=callback,
            checkpoint_path=checkpoint_path,
        )
        self.params_, self.names_ = self.history_.params, rows.names
        self.horizon_ = rows.horizon
        _, is_validation = _fitting.folds(len(x), self.num_members, purge)
        sizes = np.abs(self._read(context, np.zeros(len(x), np.float32))[0])
        self.validation_scores_ = np.sort(sizes.T[is_validation > 0])
        return self

    def _read(self, context: np.ndarray, reference: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Returns the members' scores at u, [N, M] each: at `read_sigma`, and the mean of u."""
        sigmas = (np.float32(self.read_sigma), np.float32(min(MEAN_SIGMA, self.sigma_max)))
        return map_rows(
            _return_readings.readings(self.model_),
            context,
            reference,
            shared=(self.params_, *sigmas),
        )

    def _rows(self, bars: pd.DataFrame) -> ForecastRows:
        """Returns the rows of the bars; raises where they are not like those of the fit."""
        check_is_fitted(self, "params_")
        rows = forecast_rows(bars, horizon=self.horizon_)
        if rows.names != self.names_:
            differ = sorted(set(rows.names) ^ set(self.names_))
            raise ValueError(
                f"bars give other context columns than the bars of the fit: {differ} are on one "
                "side alone; accepted are bars with or without volume, intraday or daily, as then"
            )
        return rows

    def predict(self, bars: pd.DataFrame, *, reference: float = 0.0) -> ReturnScores:
        """Reads the score of the return after each bar that has enough history.

        Args:
          bars: frame of bars with the columns of the fit; row t of the answer uses bars up to t.
          reference: log return at which scores are read.

        Returns:
          The `ReturnScores`.

        Raises:
          NotFittedError: before `fit`: a model that is not trained has no signal.
          ValueError: if `bars` are no frame of bars or too few, or lack what the fit had, or the
            reference is not finite.
        """
        rows = self._rows(bars)
        if not np.isfinite(reference):
            raise ValueError(f"reference is {reference}: accepted is a finite log return")
        volatility = np.exp(rows.log_scale.astype(np.float64))
        members, means = self._read(rows.context, (reference / volatility).astype(np.float32))
        standard = members.mean(axis=1, dtype=np.float64)
        return ReturnScores(
            index=rows.index,
            score=standard / volatility,
            standard_score=standard,
            member_scores=members,
            volatility=volatility,
            expected_return=means.mean(axis=1, dtype=np.float64) * volatility,
        )

    def log_prob(self, bars: pd.DataFrame, r: ArrayLike) -> np.ndarray:
        """Computes the log density of the next return, by the probability flow of each member.

        Args:
          bars: as for `predict`.
          r: [] or [N] log return after each row of `predict`'s answer; NaN gives NaN.

        Returns:
          [N] log density of the equal mixture of members with noise of `sigma_min`, in nats per
          unit of log return.

        Raises:
          NotFittedError: before `fit`.
          ValueError: as in `predict`, and if `r` has another length.
        """
        rows = self._rows(bars)
        r = np.asarray(r, np.float64)
        if r.shape not in ((), (len(rows.index),)):
            raise ValueError(f"r is of shape {r.shape}: accepted is () or ({len(rows.index)},)")
        log_scale = rows.log_scale.astype(np.float64)
        standard = np.broadcast_to(r / np.exp(log_scale), log_scale.shape)
        standard = standard.astype(np.float32)[:, None]
        each = map_rows(
            _return_readings.log_prob(self.model_), standard, rows.context, shared=(self.params_,)
        )
        return each - log_scale

    def save(self, path: str | os.PathLike) -> None:
        """Writes the fitted estimator to a folder, which is replaced whole or not at all.

        Args:
          path: the folder: new, empty, or holding a saved estimator and nothing else.

        Raises:
          NotFittedError: before `fit`.
          ValueError: if something else is at `path`.
        """
        check_is_fitted(self, "params_")
        _saving.save(
            path,
            kind="ReturnScore",
            constructor=self.get_params(),
            model=self.model_,
            params=self.params_,
            fitted={"names": list(self.names_), "horizon": self.horizon_},
            arrays={"validation_scores": self.validation_scores_},
        )

    @classmethod
    def load(cls, path: str | os.PathLike) -> "ReturnScore":
        """Reads an estimator that `save` wrote; raises ValueError if there is none."""
        settings, model, params, arrays = _saving.load(path, kind="ReturnScore")
        loaded = cls(**settings["constructor"])
        loaded.model_, loaded.params_ = model, params
        loaded.names_ = tuple(settings["fitted"]["names"])
        loaded.horizon_ = settings["fitted"]["horizon"]
        loaded.validation_scores_ = np.asarray(arrays["validation_scores"])
        return loaded
