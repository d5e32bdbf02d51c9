"""The forecaster of the coming return: bars in, a density for every bar out.

With a horizon of h bars the return is `ln(C_{t+h} / C_t)`, forecast directly: the model never sees
the steps between. It is put on the scale `exp(log_scale_t) sqrt(h)`, which is exact for steps that
are uncorrelated and as volatile as the last ones; the model learns the rest.
"""

import os
from collections.abc import Callable
from typing import NamedTuple

import jax
import numpy as np
import pandas as pd
from sklearn.base import BaseEstimator
from sklearn.utils.validation import check_is_fitted

from densityjax.estimators import _fitting, _saving
from densityjax.market import (
    compute_features,
    log_returns,
    longest_window,
    return_from,
    validate_bars,
)
from densityjax.models import Flow, ReturnDistribution, map_rows, neural_spline_flow
from densityjax.models.forecaster import return_marginals
from densityjax.training import FitProgress

SCALE_COLUMN = "log_scale"


class ForecastRows(NamedTuple):
    """What the forecaster reads off bars, one row per bar with enough history.

    Attributes:
      index: [N] timestamps.
      names: [C] names of the context columns.
      context: [N, C] what is known at the close, without unit.
      log_scale: [N] log volatility that standardises the return over the horizon.
      next_return: [N] log return to the close `horizon` bars on; NaN in the last `horizon` rows,
        and where one of its steps is a gap or touches a filled bar.
      window: longest window of the features, bars.
      horizon: bars that the return spans.
    """

    index: pd.DatetimeIndex
    names: tuple[str, ...]
    context: np.ndarray
    log_scale: np.ndarray
    next_return: np.ndarray
    window: int
    horizon: int = 1


def forecast_rows(bars: pd.DataFrame, *, horizon: int = 1) -> ForecastRows:
    """Computes the forecaster's inputs and its label.

    Args:
      bars: frame of bars; see `market.read_bars`.
      horizon: bars h from a close to the close that the return leads to, >= 1.

    Returns:
      The `ForecastRows`; row t of everything but `next_return` uses bars up to t alone.

    Raises:
      ValueError: if `bars` are no frame of bars, or too few for the features, or the horizon is
        no positive integer.
    """
    _check_horizon(horizon)
    bars = _checked(bars)
    frame = compute_features(bars, "context")
    past = log_returns(bars) if horizon == 1 else return_from(bars, horizon).map(np.log1p)
    following = past.shift(-horizon).reindex(frame.index)
    context = frame.drop(columns=SCALE_COLUMN)
    return ForecastRows(
        index=pd.DatetimeIndex(frame.index),
        names=tuple(context.columns),
        context=context.to_numpy(np.float32),
        log_scale=frame[SCALE_COLUMN].to_numpy(np.float32) + np.float32(0.5 * np.log(horizon)),
        next_return=following.to_numpy(np.float64),
        window=int(frame.attrs["window"]),
        horizon=int(horizon),
    )


def _check_horizon(horizon: int) -> None:
    """Raises ValueError unless the horizon is a positive integer."""
    if isinstance(horizon, bool) or not isinstance(horizon, int | np.integer) or horizon < 1:
        raise ValueError(f"horizon is {horizon!r}: accepted is an integer >= 1, in bars")


def _checked(bars: pd.DataFrame) -> pd.DataFrame:
    """Returns the bars; raises ValueError for anything that the features cannot be read off."""
    if not isinstance(bars, pd.DataFrame):
        shape = f" of shape {np.shape(bars)}" if isinstance(bars, np.ndarray | pd.Series) else ""
        raise ValueError(
            f"bars is a {type(bars).__name__}{shape}: accepted is a pandas DataFrame with the "
            "columns open, high, low, close and perhaps volume, and a UTC DatetimeIndex; see "
            "market.read_bars"
        )
    bars, needed = validate_bars(bars), longest_window("context") + 1
    if len(bars) < needed:
        raise ValueError(f"bars has {len(bars)} rows: accepted are at least {needed}")
    return bars


def training_rows(rows: ForecastRows) -> tuple[np.ndarray, np.ndarray]:
    """Returns [K, 1] standardised returns and [K, C] contexts of the rows whose return is known."""
    is_known = np.isfinite(rows.next_return)
    standard = rows.next_return[is_known] / np.exp(rows.log_scale[is_known])
    return standard[:, None], rows.context[is_known]


class ReturnForecaster(BaseEstimator):
    """Forecasts the density of the log return over the next bars from the past of the bars.

    An ensemble of conditional one-dimensional spline flows over the return divided by its recent
    volatility. Each member leaves out another block of time and stops when its loss there stops
    falling; the forecast is their equal mixture.

    Args:
      horizon: bars from the close of the forecast to the close that the return leads to, >= 1;
        one estimator forecasts one horizon.
      num_members: flows in the ensemble, >= 1.
      num_bins: bins of each spline.
      width: hidden width of the networks.
      num_hidden: residual blocks of the networks.
      tail: 'lambert_w' or 'none'; see `FlowConfig`.
      dropout: share of hidden units dropped while training.
      num_epochs: most passes over the rows.
      batch_size: rows per step; None for about 64 steps an epoch.
      patience: epochs without a better loss on a member's block before it stops.
      learning_rate: peak rate of AdamW.
      weight_decay: decay of the networks' kernels.
      random_state: seed of the starting points and of shuffling.

    Attributes:
      flow_: the fitted `Flow`.
      params_: its parameters, each leaf with a leading axis of members.
      names_: names of the context columns.
      horizon_: bars that a forecast return spans, as it was in the fit.
      history_: the `FitResult`, after `fit` alone.
    """

    def __init__(
        self,
        *,
        horizon: int = 1,
        num_members: int = 8,
        num_bins: int = 8,
        width: int = 32,
        num_hidden: int = 1,
        tail: str = "lambert_w",
        dropout: float = 0.0,
        num_epochs: int = 100,
        batch_size: int | None = None,
        patience: int = 20,
        learning_rate: float = 3e-4,
        weight_decay: float = 1e-2,
        random_state: int = 0,
    ) -> None:
        self.horizon = horizon
        self.num_members = num_members
        self.num_bins = num_bins
        self.width = width
        self.num_hidden = num_hidden
        self.tail = tail
        self.dropout = dropout
        self.num_epochs = num_epochs
        self.batch_size = batch_size
        self.patience = patience
        self.learning_rate = learning_rate
        self.weight_decay = weight_decay
        self.random_state = random_state

    def build_flow(self, num_context: int) -> Flow:
        """Returns the flow of a member that reads `num_context` columns."""
        return neural_spline_flow(
            1,
            context_dim=num_context,
            num_layers=1,
            num_bins=self.num_bins,
            width=self.width,
            num_hidden=self.num_hidden,
            tail=self.tail,
            dropout=self.dropout,
            context_spread="mad",
        )

    def fit(
        self,
        bars: pd.DataFrame,
        y: None = None,
        *,
        callback: Callable[[FitProgress], None] | None = None,
        checkpoint_path: str | os.PathLike | None = None,
    ) -> "ReturnForecaster":
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
        rows = forecast_rows(bars, horizon=self.horizon)
        x, context = training_rows(rows)
        self.flow_ = self.build_flow(len(rows.names))
        result = _fitting.fit_members(
            jax.random.key(self.random_state),
            self.flow_,
            x,
            context,
            num_members=self.num_members,
            purge=rows.window + rows.horizon,
            num_epochs=self.num_epochs,
            batch_size=self.batch_size,
            patience=self.patience,
            learning_rate=self.learning_rate,
            weight_decay=self.weight_decay,
            callback=callback,
            checkpoint_path=checkpoint_path,
        )
        self.params_, self.names_, self.history_ = result.params, rows.names, result
        self.horizon_ = rows.horizon
        return self

    def predict(self, bars: pd.DataFrame) -> ReturnDistribution:
        """Forecasts the return over the horizon after each bar that has enough history.

        Args:
          bars: frame of bars with the columns of the fit; row t of the answer uses bars up to t.

        Returns:
          The `ReturnDistribution`; its `index` are the bars at whose close forecasts are made.

        Raises:
          NotFittedError: before `fit`.
          ValueError: if `bars` are no frame of bars or too few, or lack what the fit had (volume,
            time of day).
        """
        check_is_fitted(self, "params_")
        rows = forecast_rows(bars, horizon=self.horizon_)
        if rows.names != self.names_:
            differ = sorted(set(rows.names) ^ set(self.names_))
            raise ValueError(
                f"bars give other context columns than the bars of the fit: {differ} are on one "
                "side alone; accepted are bars with or without volume, intraday or daily, as then"
            )
        members = map_rows(
            return_marginals(self.flow_), rows.context, rows.log_scale, shared=(self.params_,)
        )
        return ReturnDistribution(rows.index, members)

    def save(self, path: str | os.PathLike) -> None:
        """Writes the fitted forecaster to a folder, which is replaced whole or not at all.

        Args:
          path: the folder: new, empty, or holding a saved estimator and nothing else.

        Raises:
          NotFittedError: before `fit`.
          ValueError: if something else is at `path`.
        """
        check_is_fitted(self, "params_")
        _saving.save(
            path,
            kind="ReturnForecaster",
            constructor=self.get_params(),
            model=self.flow_,
            params=self.params_,
            fitted={"names": list(self.names_), "horizon": self.horizon_},
            arrays={},
        )

    @classmethod
    def load(cls, path: str | os.PathLike) -> "ReturnForecaster":
        """Reads a forecaster that `save` wrote; raises ValueError if there is none."""
        settings, flow, params, _ = _saving.load(path, kind="ReturnForecaster")
        loaded = cls(**settings["constructor"])
        loaded.flow_, loaded.params_ = flow, params
        loaded.names_ = tuple(settings["fitted"]["names"])
        loaded.horizon_ = settings["fitted"].get("horizon", 1)  # older folders know of one bar only
        return loaded
