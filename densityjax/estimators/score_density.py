"""The score family on a table of numbers: its density, gradients, samples and missing values."""

import os
import warnings
from collections.abc import Callable, Sequence

import jax
import numpy as np
from numpy.typing import ArrayLike
from sklearn.utils.validation import check_is_fitted

from densityjax.estimators import _columns, _fitting
from densityjax.estimators import _score_functions as functions
from densityjax.estimators._tabular_density import TabularDensity
from densityjax.models import DualScore, Score, dual_score_model, map_rows, score_model
from densityjax.training import FitProgress

MODELS = ("edm", "conservative", "dual")
ROWS_SEEN = 1_000_000  # in a fit, noise being new each time: 4,000 steps of 256


class ScoreDensity(TabularDensity):
    """Learns the score of the columns of a table at all levels of noise, and their density by it.

    The network is fitted by denoising score matching. Log densities follow the probability flow,
    with the exact trace up to 32 columns, and above with the mean of `num_probes` estimates by
    Hutchinson, whose noise is the same for all rows; a 'dual' model has them by one forward pass.
    They are those of rows with noise of `sigma_min` standard deviations (of .05 or more for 'dual')
    in the transformed columns: close to that of the rows where the least eigenvalue of their
    correlation is above ten times its square. Where it is not, as for columns that are functions
    of others or sum to one, `fit` warns: such a density is that of the noise.

    Rows are held out, and frames held to their columns, as `FlowDensity` does.

    Args:
      model: 'edm' (a free score), 'conservative' (the gradient of an energy) or 'dual' (an energy
        whose normaliser is learnt too, to some tenths of a nat on thousands of rows).
      width: hidden width of the network.
      num_hidden: residual blocks of the network.
      sigma_min: least noise, in standard deviations of the transformed columns.
      sigma_max: largest noise, likewise.
      transforms: for each column 'identity', 'log' (positive values) or 'logit' (values in [0, 1]);
        the density stays that of X. Values at an end are moved inside and counted. None: identity.
      tail: 'lambert_w' takes power tails off each transformed column first, by a Lambert-W layer
        fitted to it, or 'none': a network alone gives far rows thin tails.
      dropout: share of hidden units dropped while training.
      num_epochs: most passes over the rows; None for a million rows seen, 20 to 400 passes.
      batch_size: rows per step; None for 256, and more, up to 2,048, above 70,000 rows.
      patience: epochs without a better loss on the last fifth of the rows before the fit stops.
      learning_rate: peak rate of AdamW.
      weight_decay: decay of the network's kernels.
      num_steps: steps of the probability flow, even.
      num_probes: estimates of the trace above 32 columns.
      num_levels: levels of noise that `sample` steps through; 18 for a quick look.
      calibration_fraction: share of the last rows kept for the p-values, in (0, 1), unless `fit`
        is given calibration rows.
      purge: rows dropped between blocks, for rows that share their past; 0 for unrelated rows.
      false_alarm_rate: share of ordinary rows that `predict` may call outliers, in (0, 1).
      random_state: seed of the starting point, of shuffling, noise and probes.

    Attributes:
      model_: the fitted `Score` or `DualScore`, of transformed columns.
      params_: its parameters.
      correlation_: [D, D] correlation of the transformed columns of the rows learnt from.
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
        model: str = "edm",
        *,
        width: int = 128,
        num_hidden: int = 1,
        sigma_min: float = 0.02,
        sigma_max: float = 20.0,
        transforms: Sequence[str] | None = None,
        tail: str = "lambert_w",
        dropout: float = 0.0,
        num_epochs: int | None = None,
        batch_size: int | None = None,
        patience: int = 50,
        learning_rate: float = 2e-3,
        weight_decay: float = 1e-5,
        num_steps: int = 40,
        num_probes: int = 16,
        num_levels: int = 36,
        calibration_fraction: float = 0.2,
        purge: int = 0,
        false_alarm_rate: float = 0.05,
        random_state: int = 0,
    ) -> None:
        self.model = model
        self.width = width
        self.num_hidden = num_hidden
        self.sigma_min = sigma_min
        self.sigma_max = sigma_max
        self.transforms = transforms
        self.tail = tail
        self.dropout = dropout
        self.num_epochs = num_epochs
        self.batch_size = batch_size
        self.patience = patience
        self.learning_rate = learning_rate
        self.weight_decay = weight_decay
        self.num_steps = num_steps
        self.num_probes = num_probes
        self.num_levels = num_levels
        self.calibration_fraction = calibration_fraction
        self.purge = purge
        self.false_alarm_rate = false_alarm_rate
        self.random_state = random_state

    def _build(self, dim: int) -> Score | DualScore:
        """Builds the model; raises ValueError for an option that is not accepted."""
        if self.model not in MODELS:
            raise ValueError(f"model is {self.model!r}: accepted are {MODELS}")
        if self.num_steps < 2 or self.num_steps % 2:
            raise ValueError(f"num_steps is {self.num_steps}: accepted is an even integer >= 2")
        for name, least in (("num_probes", 1), ("num_levels", 2)):
            if getattr(self, name) < least:
                raise ValueError(f"{name} is {getattr(self, name)}: accepted is >= {least}")
        names = ("width", "num_hidden", "sigma_min", "sigma_max", "dropout")
        options = {name: getattr(self, name) for name in names}
        if self.model == "dual":
            model = dual_score_model(dim, **options)
            functions.check_noise(model)
            return model
        return score_model(dim, parametrisation=self.model, **options)

    def fit(
        self,
        X: ArrayLike,
        y: None = None,
        *,
        calibration: ArrayLike | None = None,
        callback: Callable[[FitProgress], None] | None = None,
    ) -> "ScoreDensity":
        """Fits the score to rows.

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

        Warns:
          UserWarning: if the columns are so nearly dependent that noise hides their law, or a row
            is farther from the mean than `sigma_max`, so that the largest noise does not hide it.
        """
        rows, held_out = self._learn(X, calibration)
        self.model_ = self._build(self.n_features_in_)
        self._fit_transforms(rows, self.tail)
        mapped = self._mapped(rows)[0]
        self._fit_correlation(mapped)
        num_epochs, num_rows = self.num_epochs, _fitting.padded_size(len(rows))
        if num_epochs is None:
            num_epochs = int(np.clip(round(ROWS_SEEN / num_rows), 20, 400))
        self.history_ = _fitting.fit_members(
            jax.random.key(self.random_state),
            self.model_,
            mapped,
            None,
            num_members=1,
            purge=self.purge,
            num_epochs=num_epochs,
            batch_size=self.batch_size,
            patience=self.patience,
            learning_rate=self.learning_rate,
            weight_decay=self.weight_decay,
            callback=callback,
        )
        self.params_ = jax.tree.map(lambda leaf: leaf[0], self.history_.params)
        self._calibrate(held_out)
        return self

    def _fit_correlation(self, mapped: np.ndarray) -> None:
        """Sets the correlation of the rows that are learnt from, and warns where it is singular."""
        weights, _ = _fitting.folds(len(mapped), 1, self.purge)
        learnt = mapped[weights[0] > 0]
        self.correlation_ = functions.correlation(learnt)
        functions.warn_of_far_rows(self.model_, learnt)
        least, sigma = np.linalg.eigvalsh(self.correlation_)[0], functions.least_sigma(self.model_)
        if least < 10.0 * sigma**2:
            warnings.warn(
                f"the columns of X are nearly dependent: the least eigenvalue of their correlation "
                f"is {least:.2g}, below 10 sigma^2 = {10.0 * sigma**2:.2g}, so that the density is "
                "widened by the noise; drop columns that follow from others or lower sigma_min",
                stacklevel=3,
            )

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
        log_prob = functions.log_prob(self.model_, self.num_steps, self.num_probes)
        probes = jax.random.key(self.random_state)
        return map_rows(log_prob, mapped, shared=(self.params_, probes)) + log_det

    def score_function(self, X: ArrayLike, sigma: float = 0.1) -> np.ndarray:
        """Computes the gradient of the log density of rows with noise.

        Args:
          X: [N, D] rows, with the columns of the fit.
          sigma: noise of the transformed columns, in standard deviations, from `sigma_min` to
            `sigma_max`; the least ones are learnt the least well.

        Returns:
          [N, D] gradients in X, each column per its own unit; NaN for a row without a density.

        Raises:
          NotFittedError: before `fit`.
          ValueError: for rows of other columns, or that are infinite, or another sigma.
        """
        self._check_sigma(sigma)
        rows = self._squeezed(_columns.check(self, X))
        shared = (self.params_, self.transform_, np.float32(sigma))
        return map_rows(functions.gradient(self.model_), rows, shared=shared)

    def denoise(self, X: ArrayLike, sigma: float) -> np.ndarray:
        """Takes noise out of rows: the mean of the clean row given the noisy one, by Tweedie.

        Args:
          X: [N, D] noisy rows, with the columns of the fit.
          sigma: the noise that is in the transformed columns, in standard deviations of them.

        Returns:
          [N, D] rows in units of X; of a transformed column, what the mean maps back to.

        Raises:
          NotFittedError, ValueError: as `score_function`.
        """
        self._check_sigma(sigma)
        mapped, _ = self._mapped(_columns.check(self, X))
        shared = (self.params_, np.float32(sigma))
        return self._unmapped(map_rows(functions.denoise(self.model_), mapped, shared=shared))

    def _check_sigma(self, sigma: float) -> None:
        check_is_fitted(self, "params_")
        if not self.sigma_min <= sigma <= self.sigma_max:
            raise ValueError(
                f"sigma is {sigma}: accepted is sigma_min={self.sigma_min} <= sigma <= "
                f"sigma_max={self.sigma_max}"
            )

    def sample(self, n: int = 1, random_state: int | None = None) -> np.ndarray:
        """Draws rows by Heun's method along the probability flow, of `num_levels` levels.

        Args:
          n: number of rows, >= 1.
          random_state: seed; None takes the estimator's.

        Returns:
          [n, D] rows in units of X.

        Raises:
          ValueError: if `n` is below 1.
          NotFittedError: before `fit`.
          FloatingPointError: if a draw was not finite on its way.
        """
        keys = self._keys(n, random_state)
        sample = functions.sample(self.model_, self.num_levels)
        draws = map_rows(sample, keys, shared=(self.params_,))
        return self._unmapped(functions.finished(self.params_, draws))

    def sample_given(
        self, known: ArrayLike, n: int = 1, random_state: int | None = None
    ) -> np.ndarray:
        """Draws the unknown numbers of a row given the known ones: imputation and scenarios.

        By annealed Langevin steps on the joint score that hold the known fast, ended along the
        probability flow. Approximate: spreads of correlated normal columns come out within about a
        quarter of a variance, means within a quarter of a standard deviation, on thousands of rows.

        Args:
          known: [D] a row in units of X, NaN where a number is asked for.
          n: number of rows, >= 1.
          random_state: seed; None takes the estimator's.

        Returns:
          [n, D] rows in units of X, the known numbers as they were given.

        Raises:
          ValueError: if `n` is below 1, or `known` has another shape, no NaN, a number that is not
            finite or one outside the range of its column's transform.
          NotFittedError, FloatingPointError: as `sample`.
        """
        keys = self._keys(n, random_state)
        row = np.asarray(known, np.float64)
        if row.shape != (self.n_features_in_,) or np.isinf(row).any() or not np.isnan(row).any():
            raise ValueError(
                f"known is {row}: accepted are {self.n_features_in_} numbers, finite or NaN, with "
                "at least one NaN to ask for"
            )
        is_known = ~np.isnan(row)
        if not is_known.any():
            return self.sample(n, random_state)
        mapped = self._mapped(row[None])[0][0]
        if np.isnan(mapped[is_known]).any():
            raise ValueError(f"known is {row}: accepted are numbers inside the transforms' ranges")
        evidence = functions.standard_evidence(self.params_, mapped, is_known)
        shared = (self.params_, evidence)
        draws = map_rows(functions.sample_given(self.model_), keys, shared=shared)
        return np.where(is_known, row, self._unmapped(functions.finished(self.params_, draws)))

    def _keys(self, n: int, random_state: int | None) -> jax.Array:
        check_is_fitted(self, "params_")
        if n < 1:
            raise ValueError(f"n is {n}: accepted is an integer of at least 1")
        seed = self.random_state if random_state is None else random_state
        return jax.random.split(jax.random.key(seed), n)

    def save(self, path: str | os.PathLike) -> None:
        """Writes the fitted density to a folder, which is replaced whole or not at all.

        Args:
          path: the folder: new, empty, or holding a saved estimator and nothing else.

        Raises:
          NotFittedError: before `fit`.
          ValueError: if something else is at `path`.
        """
        check_is_fitted(self, "params_")
        members = jax.tree.map(lambda leaf: leaf[None], self.params_)
        self._save(path, self.model_, members, correlation=self.correlation_)

    @classmethod
    def load(cls, path: str | os.PathLike) -> "ScoreDensity":
        """Reads a density that `save` wrote; raises ValueError if there is none."""
        loaded, model, members, arrays = cls._load(path)
        loaded.model_, loaded.correlation_ = model, arrays["correlation"]
        loaded.params_ = jax.tree.map(lambda leaf: leaf[0], members)
        return loaded
