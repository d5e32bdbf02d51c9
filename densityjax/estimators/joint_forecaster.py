"""The forecaster of several assets' coming returns together: one density over A returns a bar.

Each asset's return is divided by its own recent volatility; a conditional flow over the A quotients
reads the context columns of ALL assets, side by side. Rows are the times at which every asset has
its whole context, an inner join; a return is known where the assets' bars it leads to carry one
and the same stamp. Marginals, dependence and joint crashes are learnt at once.
"""

import functools
import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
import pandas as pd
from sklearn.base import BaseEstimator
from sklearn.utils.validation import check_is_fitted

from densityjax.estimators import _fitting, _saving
from densityjax.estimators.joint_distribution import JointDistribution
from densityjax.estimators.return_forecaster import ForecastRows, forecast_rows
from densityjax.models import Flow, neural_spline_flow

BASES = ("student_t", "normal", "auto")

Panel = Mapping[str, pd.DataFrame] | Sequence[pd.DataFrame]


class JointRows(NamedTuple):
    """What the joint forecaster reads off the bars of A assets, one row per common time.

    Attributes:
      index: [N] timestamps at which every asset has its whole context.
      names: [A] names of the assets.
      columns: [C] names of the context columns, `asset: column`.
      context: [N, C] what is known at the close, of all assets, without unit.
      log_scale: [N, A] log volatilities that standardise the returns.
      next_return: [N, A] log returns over the horizon; NaN in all of a row where one is not known.
      window: longest window of the features, bars.
      horizon: bars that the returns span.
    """

    index: pd.DatetimeIndex
    names: tuple[str, ...]
    columns: tuple[str, ...]
    context: np.ndarray
    log_scale: np.ndarray
    next_return: np.ndarray
    window: int
    horizon: int


def joint_rows(panel: Panel, *, horizon: int = 1) -> JointRows:
    """Computes the joint forecaster's inputs and its label.

    Args:
      panel: name -> frame of bars, of two assets at least, or a sequence of frames, which are
        named '0', '1', ... ; all of one spacing of bars.
      horizon: bars from a close to the close that the returns lead to, >= 1.

    Returns:
      The `JointRows`; row t of everything but `next_return` uses bars up to t alone.

    Raises:
      ValueError: if there are fewer than two assets, one is no frame of bars, their clocks differ,
        they have no time in common, or the horizon is no positive integer.
    """
    named = _named(panel)
    rows = {name: _rows_of(name, bars, horizon) for name, bars in named.items()}
    _check_clocks(named)
    common = functools.reduce(lambda a, b: a.intersection(b), (r.index for r in rows.values()))
    index = pd.DatetimeIndex(common)
    if not len(index):
        raise ValueError(
            f"panel has no time at which all of {list(rows)} have their context: accepted are bars "
            "whose timestamps agree"
        )
    at = {name: each.index.get_indexer(index) for name, each in rows.items()}
    returns = np.stack([each.next_return[at[name]] for name, each in rows.items()], 1)
    arrivals = np.stack([_arrivals(bars, index, horizon) for bars in named.values()], 1)
    is_known = np.isfinite(returns).all(1) & (arrivals == arrivals[:, :1]).all(1)
    first = next(iter(rows.values()))
    return JointRows(
        index=index,
        names=tuple(rows),
        columns=tuple(f"{name}: {column}" for name in rows for column in rows[name].names),
        context=np.concatenate([each.context[at[name]] for name, each in rows.items()], 1),
        log_scale=np.stack([each.log_scale[at[name]] for name, each in rows.items()], 1),
        next_return=np.where(is_known[:, None], returns, np.nan),
        window=first.window,
        horizon=first.horizon,
    )


def _named(panel: Any) -> dict[str, pd.DataFrame]:
    """Returns name -> bars of at least two assets."""
    is_named = isinstance(panel, Mapping)
    if isinstance(panel, pd.DataFrame) or not (is_named or isinstance(panel, Sequence)):
        raise ValueError(
            f"panel is a {type(panel).__name__}: accepted is a mapping from names to frames of "
            "bars, or a sequence of frames"
        )
    items = panel.items() if is_named else enumerate(panel)
    named = {str(name): bars for name, bars in items}
    if len(named) < 2:
        raise ValueError(
            f"panel has {len(named)} assets, {list(named)}: accepted are at least 2; one alone is "
            "what ReturnForecaster is for"
        )
    return named


def _rows_of(name: str, bars: pd.DataFrame, horizon: int) -> ForecastRows:
    """Returns the rows of one asset; says which one where its bars are not accepted."""
    try:
        return forecast_rows(bars, horizon=horizon)
    except ValueError as error:
        raise ValueError(f"panel[{name!r}]: {error}") from error


def _check_clocks(named: Mapping[str, pd.DataFrame]) -> None:
    """Raises ValueError unless the usual step between bars is the same for all assets."""
    steps = {
        name: pd.Timedelta(np.median(np.diff(bars.index.to_numpy())))
        for name, bars in named.items()
    }
    if len(set(steps.values())) > 1:
        spelled = ", ".join(f"{name} {step}" for name, step in steps.items())
        raise ValueError(f"panel has bars of different clocks, {spelled}: accepted is one spacing")


def _arrivals(bars: pd.DataFrame, index: pd.DatetimeIndex, horizon: int) -> np.ndarray:
    """Returns [N] the stamps of the bars that are `horizon` on, in ns; -1 where there is none."""
    stamps = np.append(pd.DatetimeIndex(bars.index).as_unit("ns").asi8, np.full(horizon, -1))
    return stamps[bars.index.get_indexer(index) + horizon]


class JointForecaster(BaseEstimator):
    """Forecasts the joint density of several assets' log returns from the past of their bars.

    An ensemble of conditional spline flows over the A returns, each divided by its asset's recent
    volatility. Each member leaves out another block of time and stops when its loss there stops
    falling; the forecast is their equal mixture.

    Args:
      horizon: bars from the close of the forecast to the close that the returns lead to, >= 1.
      base: law of the noise: 'student_t' shares one mixing variable between the assets, so that
        crashes come together; 'normal'; 'auto' fits both and keeps the one whose members have the
        lower mean loss on the blocks that they did not learn from.
      num_members: flows in the ensemble, >= 1.
      num_layers: spline layers, >= 2.
      num_bins: bins of each spline.
      width: hidden width of the networks.
      num_hidden: residual blocks of the networks.
      tail: 'lambert_w', 'gpd' or 'none'; see `FlowConfig`.
      dropout: share of hidden units dropped while training.
      num_epochs: most passes over the rows.
      batch_size: rows per step; None for about 64 steps an epoch.
      patience: epochs without a better loss on a member's block before it stops.
      learning_rate: peak rate of AdamW.
      weight_decay: decay of the networks' kernels.
      random_state: seed of the starting points and of shuffling.

    Attributes:
      flow_: the fitted `Flow`; its base is the one that was kept.
      params_: its parameters, each leaf with a leading axis of members.
      names_: names of the assets.
      columns_: names of the context columns.
      horizon_: bars that a forecast return spans, as it was in the fit.
      history_: the `FitResult` of the base that was kept, after `fit` alone.
    """

    def __init__(
        self,
        *,
        horizon: int = 1,
        base: str = "student_t",
        num_members: int = 8,
        num_layers: int = 2,
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
        self.base = base
        self.num_members = num_members
        self.num_layers = num_layers
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

    def _flow(self, num_assets: int, num_context: int, base: str) -> Flow:
        return neural_spline_flow(
            num_assets,
            context_dim=num_context,
            base=base,
            num_layers=self.num_layers,
            num_bins=self.num_bins,
            width=self.width,
            num_hidden=self.num_hidden,
            tail=self.tail,
            dropout=self.dropout,
            whiten=True,
            context_spread="mad",
        )

    def fit(
        self, panel: Panel, y: None = None, *, callback: Callable | None = None
    ) -> "JointForecaster":
        """Fits to all returns inside the bars.

        Args:
          panel: name -> frame of bars, or a sequence of frames; see `joint_rows`.
          y: ignored; there for scikit-learn.
          callback: told a `training.FitProgress` now and then.

        Returns:
          The estimator itself.

        Raises:
          ValueError: if the bars are not accepted (see `joint_rows`), their common rows are too
            few, or a parameter is not accepted.
          FloatingPointError: if a loss or gradient is not finite.
        """
        if self.base not in BASES:
            raise ValueError(f"base is {self.base!r}: accepted are {', '.join(BASES)}")
        rows = joint_rows(panel, horizon=self.horizon)
        is_known = np.isfinite(rows.next_return[:, 0])
        x = rows.next_return[is_known] / np.exp(rows.log_scale[is_known])
        fits = []
        for base in BASES[:2] if self.base == "auto" else (self.base,):
            flow = self._flow(x.shape[1], len(rows.columns), base)
            result = _fitting.fit_members(
                jax.random.key(self.random_state),
                flow,
                x,
                rows.context[is_known],
                num_members=self.num_members,
                purge=rows.window + rows.horizon,
                num_epochs=self.num_epochs,
                batch_size=self.batch_size,
                patience=self.patience,
                learning_rate=self.learning_rate,
                weight_decay=self.weight_decay,
                callback=callback,
            )
            fits.append((float(np.mean(result.best_loss)), flow, result))
        _, self.flow_, self.history_ = min(fits, key=lambda fit: fit[0])
        self.params_ = self.history_.params
        self.names_, self.columns_, self.horizon_ = rows.names, rows.columns, rows.horizon
        return self

    def predict(self, panel: Panel) -> JointDistribution:
        """Forecasts the returns after each time at which all assets have enough history.

        Args:
          panel: bars of the assets of the fit, in any order if they are named; row t of the
            answer uses bars up to t.

        Returns:
          The `JointDistribution`; its `index` are the bars at whose close forecasts are made.

        Raises:
          NotFittedError: before `fit`.
          ValueError: if the bars are not accepted (see `joint_rows`), or are of other assets or
            columns than those of the fit.
        """
        check_is_fitted(self, "params_")
        named = _named(panel)
        if set(named) != set(self.names_):
            raise ValueError(
                f"panel has the assets {list(named)}: accepted are those of the fit, "
                f"{list(self.names_)}"
            )
        rows = joint_rows({name: named[name] for name in self.names_}, horizon=self.horizon_)
        if rows.columns != self.columns_:
            differ = sorted(set(rows.columns) ^ set(self.columns_))
            raise ValueError(
                f"panel gives other context columns than that of the fit: {differ} are on one side "
                "alone; accepted are bars with or without volume, intraday or daily, as then"
            )
        return JointDistribution(
            rows.index, rows.names, self.flow_, self.params_, rows.context, rows.log_scale
        )

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
            kind="JointForecaster",
            constructor=self.get_params(),
            model=self.flow_,
            params=self.params_,
            fitted={
                "names": list(self.names_),
                "columns": list(self.columns_),
                "horizon": self.horizon_,
            },
            arrays={},
        )

    @classmethod
    def load(cls, path: str | os.PathLike) -> "JointForecaster":
        """Reads a forecaster that `save` wrote; raises ValueError if there is none."""
        settings, flow, params, _ = _saving.load(path, kind="JointForecaster")
        loaded = cls(**settings["constructor"])
        loaded.flow_, loaded.params_ = flow, params
        fitted = settings["fitted"]
        loaded.names_, loaded.columns_ = tuple(fitted["names"]), tuple(fitted["columns"])
        loaded.horizon_ = fitted["horizon"]
        return loaded
