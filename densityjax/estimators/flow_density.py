"""The density of a table of numbers, with p-values and alarms, as a scikit-learn estimator."""

import os
from collections.abc import Callable, Sequence

import jax
import numpy as np
from numpy.typing import ArrayLike
from sklearn.utils.validation import check_is_fitted

from densityjax.estimators import _columns, _ensemble, _fitting
from densityjax.estimators._tabular_density import TabularDensity
from densityjax.models import Flow, map_rows, neural_spline_flow
from densityjax.training import FitProgress

STEPS_PER_EPOCH = 192  # a joint density gains from many small steps, which cost no more on a CPU


class FlowDensity(TabularDensity):
    """Learns the joint density of the columns of a table with a neural spline flow.

    The last rows are held out in the order given: their log densities calibrate the p-values, so
    that `p_value` below a is raised on a share a of rows like them, whatever the units.

    Where `fit` was given a frame whose columns have names, every later frame must have the same
    columns in the same order, or ValueError is raised, as everywhere in scikit-learn. A plain array
    has no names to check: its columns are taken to be those of the fit, in that order, and unlike
    in scikit-learn this is no reason for a warning.

    Args:
      num_members: flows in the ensemble, each stopped on another block of rows; >= 1.
      num_layers: spline layers.
      num_bins: bins of each spline.
      width: hidden width of the conditioners.
      num_hidden: residual blocks of the conditioners.
      mixing: 'lu' or 'permutation'; see `FlowConfig`.
      tail: 'lambert_w' or 'none'; see `FlowConfig`.
      transforms: for each column 'identity', 'log' (positive values) or 'logit' (values in [0, 1]);
        the density stays that of X. Values at an end are moved inside and counted. None: identity.
      dropout: share of hidden units dropped while training.
      num_epochs: most passes over the rows; None for 200, and fewer, down to 20, above 1,500 rows.
      batch_size: rows per step; None for 256, and more, up to 2,048, above 70,000 rows.
      patience: epochs without a better loss on a member's block before it stops.
      learning_rate: peak rate of AdamW.
      weight_decay: decay of the networks' kernels.
      calibration_fraction: share of the last rows kept for the p-values, in (0, 1), unless `fit`
        is given calibration rows.
      purge: rows dropped between blocks, for rows that share their past; 0 for unrelated rows.
      false_alarm_rate: share of ordinary rows that `predict` may call outliers, in (0, 1).
      random_state: seed of the starting points and of shuffling.

    Attributes:
      flow_: the fitted `Flow`.
      params_: its parameters, each leaf with a leading axis of members.
      calibration_score_: [K] sorted anomaly scores, -log density, of the calibration rows.
      is_normalised_: True, the density integrates to one.
      n_features_in_: number of columns.
      feature_names_in_: their names, if `fit` was given a frame whose columns have names.
      squeezed_: how many training values of each column were moved inside from an end.
      history_: the `FitResult`, after `fit` alone.
    """

    is_normalised_ = True

    def __init__(
        self,
        *,
        num_members: int = 1,
        num_layers: int = 4,
        num_bins: int = 8,
        width: int = 64,
        num_hidden: int = 2,
        mixing: str = "lu",
        tail: str = "lambert_w",
        transforms: Sequence[str] | None = None,
        dropout: float = 0.0,
        num_epochs: int | None = None,
        batch_size: int | None = None,
        patience: int = 20,
        learning_rate: float = 1e-3,
        weight_decay: float = 1e-5,
        calibration_fraction: float = 0.2,
        purge: int = 0,
        false_alarm_rate: float = 0.05,
        random_state: int = 0,
    ) -> None:
        self.num_members = num_members
        self.num_layers = num_layers
        self.num_bins = num_bins
        self.width = width
        self.num_hidden = num_hidden
        self.mixing = mixing
        self.tail = tail
        self.transforms = transforms
        self.dropout = dropout
        self.num_epochs = num_epochs
        self.batch_size = batch_size
        self.patience = patience
        self.learning_rate = learning_rate
        self.weight_decay = weight_decay
        self.calibration_fraction = calibration_fraction
        self.purge = purge
        self.false_alarm_rate = false_alarm_rate
        self.random_state = random_state

    def _flow(self, dim: int) -> Flow:
        return neural_spline_flow(
            dim,
            num_layers=self.num_layers,
            num_bins=self.num_bins,
            width=self.width,
            num_hidden=self.num_hidden,
            mixing=self.mixing,
            tail=self.tail,
            dropout=self.dropout,
        )

    def fit(
        self,
        X: ArrayLike,
        y: None = None,
        *,
        calibration: ArrayLike | None = None,
        callback: Callable[[FitProgress], None] | None = None,
    ) -> "FlowDensity":
        """Fits the density to rows.

        Args:
          X: [N, D] rows, in order of time where they have one.
          y: ignored; there for scikit-learn.
          calibration: [K, D] rows for the p-values instead of the last of `X`.
          callback: told a `training.FitProgress` now and then.

        Returns:
          The estimator itself.

        Raises:
          ValueError: for rows that are not finite, too few, or constant in a column, calibration
            rows of other columns, or a parameter that is not accepted.
          FloatingPointError: if a loss or gradient is not finite.
        """
        rows, held_out = self._learn(X, calibration)
        self._fit_transforms(rows)
        self.flow_ = self._flow(self.n_features_in_)
        num_epochs, batch_size = self.num_epochs, self.batch_size
        num_rows = _fitting.padded_size(len(rows))
        if num_epochs is None:
            num_epochs = _fitting.default_num_epochs(num_rows)
        if batch_size is None:
            batch_size = _fitting.default_batch_size(num_rows, num_steps=STEPS_PER_EPOCH)
        self.history_ = _fitting.fit_members(
            jax.random.key(self.random_state),
            self.flow_,
            self._mapped(rows)[0],
            None,
            num_members=self.num_members,
            purge=self.purge,
            num_epochs=num_epochs,
            batch_size=batch_size,
            patience=self.patience,
            learning_rate=self.learning_rate,
            weight_decay=self.weight_decay,
            callback=callback,
        )
        self.params_ = self.history_.params
        self._calibrate(held_out)
        return self

    def score_samples(self, X: ArrayLike) -> np.ndarray:
        """Computes the log density of rows.

        Args:
          X: [N, D] rows, with the columns of the fit.

        Returns:
          [N] log densities, in nats per unit volume of X. A row with a NaN gets NaN, and so does
          one outside the range of a transform.

        Raises:
          NotFittedError: before `fit`.
          ValueError: for rows of other columns, or that are infinite.
        """
        check_is_fitted(self, "params_")
        mapped, log_det = self._mapped(_columns.check(self, X))
        return map_rows(_ensemble.log_prob(self.flow_), mapped, shared=(self.params_,)) + log_det

    def to_noise(self, X: ArrayLike) -> np.ndarray:
        """Maps rows to the latent space of the first flow, where they are close to normal.

        Args:
          X: [N, D] rows, with the columns of the fit.

        Returns:
          [N, D] codes, standard normal if the density is right; NaN for a row with a NaN.

        Raises:
          NotFittedError: before `fit`.
          ValueError: for rows of other columns, or that are infinite.
        """
        check_is_fitted(self, "params_")
        mapped, _ = self._mapped(_columns.check(self, X))
        first = jax.tree.map(lambda leaf: leaf[0], self.params_)
        return map_rows(_ensemble.to_noise(self.flow_), mapped, shared=(first,))

    def sample(self, n: int = 1, random_state: int | None = None) -> np.ndarray:
        """Draws rows from the density.

        Args:
          n: number of rows, >= 1.
          random_state: seed; None takes the estimator's.

        Returns:
          [n, D] rows in units of X.

        Raises:
          ValueError: if `n` is below 1.
          NotFittedError: before `fit`.
        """
        if n < 1:
            raise ValueError(f"n is {n}: accepted is an integer of at least 1")
        check_is_fitted(self, "params_")
        seed = self.random_state if random_state is None else random_state
        keys = jax.random.split(jax.random.key(seed), n)
        mapped = map_rows(_ensemble.sample(self.flow_), keys, shared=(self.params_,))
        return self._unmapped(mapped)

    def save(self, path: str | os.PathLike) -> None:
        """Writes the fitted density to a folder, which is replaced whole or not at all.

        Args:
          path: the folder: new, empty, or holding a saved estimator and nothing else.

        Raises:
          NotFittedError: before `fit`.
          ValueError: if something else is at `path`.
        """
        check_is_fitted(self, "params_")
        self._save(path, self.flow_, self.params_)

    @classmethod
    def load(cls, path: str | os.PathLike) -> "FlowDensity":
        """Reads a density that `save` wrote; raises ValueError if there is none."""
        loaded, flow, params, _ = cls._load(path)
        loaded.flow_, loaded.params_ = flow, params
        return loaded
