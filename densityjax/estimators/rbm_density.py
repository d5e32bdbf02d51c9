"""A Gaussian-Bernoulli restricted Boltzmann machine on a table of numbers."""

import functools
import os
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np
from numpy.typing import ArrayLike
from sklearn.utils.validation import check_is_fitted

from densityjax import training
from densityjax._typing import Array, Key, Params
from densityjax.estimators import _columns, _fitting
from densityjax.estimators._tabular_density import TabularDensity
from densityjax.models import (
    GaussianBernoulliRBM,
    annealed_log_z,
    contrastive_divergence_loss,
    gaussian_bernoulli_rbm,
    gaussian_rbm_from_config,
    gibbs_chain,
    init_particles,
    map_rows,
    persistent_divergence_loss,
)
from densityjax.models.boltzmann_losses import exact_log_z
from densityjax.models.boltzmann_partition import check_enumerable
from densityjax.training.loop import check_sizes

METHODS = ("cd", "pcd", "likelihood")
INITIAL_SD = 0.1  # of the weights, columns standardised: with .01 the start takes most of a fit
ROWS_SEEN = 2_000_000  # in a fit: 16,000 steps of 128
CHAIN_STEPS = 1_000  # Gibbs steps of a sample of a machine too large for exact ones


class RBMDensity(TabularDensity):
    """Learns the density of the columns of a table as a mixture of 2^H normal laws of one shape.

    Contrastive divergence has a value that is no likelihood: the epoch is chosen by the log
    density of the last fifth of the rows. With up to 16 hidden units that density, and samples, are
    exact; larger machines have log Z by annealed importance sampling, with its interval, and
    samples at the end of Gibbs chains. Tails are normal: `transforms` can take heavy ones first.

    Rows are held out, and frames held to their columns, as `FlowDensity` does.

    Args:
      num_hidden: hidden units H.
      method: 'cd' (chains start at the rows), 'pcd' (chains go on from step to step) or
        'likelihood' (its exact gradient, for up to 16 hidden units and best below 12).
      num_gibbs: Gibbs steps k of a chain in each step of the fit.
      transforms: for each column 'identity', 'log' (positive values) or 'logit' (values in [0, 1]);
        the density stays that of X. Values at an end are moved inside and counted. None: identity.
      num_epochs: most passes over the rows; None for two million rows seen, 20 to 400 passes.
      batch_size: rows per step.
      patience: epochs without a better density of the last fifth of the rows before the fit stops.
      learning_rate: peak rate of AdamW.
      weight_decay: decay of the weights.
      num_chains: annealed chains of log Z above 16 hidden units.
      num_temperatures: inverse temperatures they go through.
      calibration_fraction: share of the last rows kept for the p-values, in (0, 1), unless `fit`
        is given calibration rows.
      purge: rows dropped between blocks, for rows that share their past; 0 for unrelated rows.
      false_alarm_rate: share of ordinary rows that `predict` may call outliers, in (0, 1).
      random_state: seed of the starting point, of shuffling and of chains.

    Attributes:
      model_: the fitted `GaussianBernoulliRBM`, of transformed columns.
      params_: its parameters.
      log_z_: log of its partition function, nats, over transformed columns.
      log_z_interval_: its lower and upper end at two standard errors; equal where it is exact.
      is_normalised_: whether log Z is exact. Where it is not, log densities are off by one number
        for all rows, which the interval bounds.
      calibration_score_: [K] sorted anomaly scores, -log density, of the calibration rows.
      n_features_in_: number of columns.
      feature_names_in_: their names, if `fit` was given a frame whose columns have names.
      squeezed_: how many training values of each column were moved inside from an end.
      history_: the `FitResult`, after `fit` alone.
    """

    def __init__(
        self,
        num_hidden: int = 16,
        *,
        method: str = "cd",
        num_gibbs: int = 5,
        transforms: Sequence[str] | None = None,
        num_epochs: int | None = None,
        batch_size: int = 128,
        patience: int = 30,
        learning_rate: float = 2e-2,
        weight_decay: float = 1e-4,
        num_chains: int = 512,
        num_temperatures: int = 1000,
        calibration_fraction: float = 0.2,
        purge: int = 0,
        false_alarm_rate: float = 0.05,
        random_state: int = 0,
    ) -> None:
        self.num_hidden = num_hidden
        self.method = method
        self.num_gibbs = num_gibbs
        self.transforms = transforms
        self.num_epochs = num_epochs
        self.batch_size = batch_size
        self.patience = patience
        self.learning_rate = learning_rate
        self.weight_decay = weight_decay
        self.num_chains = num_chains
        self.num_temperatures = num_temperatures
        self.calibration_fraction = calibration_fraction
        self.purge = purge
        self.false_alarm_rate = false_alarm_rate
        self.random_state = random_state

    def fit(
        self,
        X: ArrayLike,
        y: None = None,
        *,
        calibration: ArrayLike | None = None,
        callback: Callable[[training.FitProgress], None] | None = None,
    ) -> "RBMDensity":
        """Fits the machine to rows.

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
        if self.method not in METHODS:
            raise ValueError(f"method is {self.method!r}: accepted are {METHODS}")
        self.model_ = gaussian_bernoulli_rbm(
            self.n_features_in_, num_hidden=self.num_hidden, initial_sd=INITIAL_SD
        )
        self._fit_transforms(rows)
        fit_rows = _fitting.fit_rows(self._mapped(rows)[0], num_members=1, purge=self.purge)
        init_key, fit_key, z_key = jax.random.split(jax.random.key(self.random_state), 3)
        self.history_ = self._descend(init_key, fit_key, fit_rows, callback)
        self.params_ = self.history_.params
        self._normalise(z_key)
        self._calibrate(held_out)
        return self

    def _descend(
        self,
        init_key: Key,
        fit_key: Key,
        rows: _fitting.FitRows,
        callback: Callable[[training.FitProgress], None] | None,
    ) -> training.FitResult:
        """Fits the parameters by (persistent) contrastive divergence."""
        num_rows = rows.weights.shape[1]
        num_epochs = self.num_epochs
        if num_epochs is None:
            num_epochs = int(np.clip(round(ROWS_SEEN / num_rows), 20, 400))
        check_sizes(num_epochs=num_epochs, batch_size=self.batch_size, patience=self.patience)
        start_key, particle_key = jax.random.split(init_key)
        members = _fitting.init_members(self.model_)(start_key[None], rows.weights, *rows.data)
        params = jax.tree.map(lambda leaf: leaf[0], members)
        loss = contrastive_divergence_loss(self.model_, num_steps=self.num_gibbs)
        loss_state = ()
        if self.method == "pcd":
            loss = persistent_divergence_loss(self.model_, num_steps=self.num_gibbs)
            loss_state = init_particles(particle_key, self.model_, params, self.batch_size)
        elif self.method == "likelihood":
            check_enumerable(self.num_hidden)
            loss = loss._replace(loss_fn=loss.validation_loss_fn)
        return training.fit(
            fit_key,
            loss.loss_fn,
            params,
            rows.data,
            validation=rows.validation,
            weights=rows.weights[0],
            validation_weights=rows.validation_weights[0],
            validation_loss_fn=loss.validation_loss_fn,
            loss_state=loss_state,
            optimizer=training.adamw(
                num_steps=num_epochs * -(-num_rows // self.batch_size),
                learning_rate=self.learning_rate,
                weight_decay=self.weight_decay,
            ),
            num_epochs=num_epochs,
            batch_size=self.batch_size,
            patience=self.patience,
            callback=callback,
        )

    def _normalise(self, key: Key) -> None:
        """Sets log Z, exact or annealed."""
        self.is_normalised_ = exact_log_z(self.model_)
        if self.is_normalised_:
            self.log_z_ = float(_exact(self.model_)(self.params_))
            self.log_z_interval_ = (self.log_z_, self.log_z_)
        else:
            anneal = _annealed(self.model_, self.num_chains, self.num_temperatures)
            estimate = anneal(key, self.params_)
            self.log_z_ = float(estimate.log_z)
            self.log_z_interval_ = estimate.interval()

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
        energies = map_rows(self.model_.free_energy, mapped, shared=(self.params_,))
        return -energies - np.float32(self.log_z_) + log_det

    def reconstruct(self, X: ArrayLike) -> np.ndarray:
        """Returns rows [N, D] as the mean hidden units give them back, in units of X."""
        check_is_fitted(self, "params_")
        mapped, _ = self._mapped(_columns.check(self, X))
        return self._unmapped(map_rows(self.model_.reconstruct, mapped, shared=(self.params_,)))

    def reconstruction_error(self, X: ArrayLike) -> np.ndarray:
        """Returns [N] mean squares of what `reconstruct` misses, in variances of the columns.

        No density: a machine of many units gives strange rows back as well. Anomalies are told by
        `score_samples`.
        """
        check_is_fitted(self, "params_")
        mapped, _ = self._mapped(_columns.check(self, X))
        return map_rows(self.model_.reconstruction_error, mapped, shared=(self.params_,))

    def sample(self, n: int = 1, random_state: int | None = None) -> np.ndarray:
        """Draws rows: exact with up to 16 hidden units, else each the end of a Gibbs chain.

        Args:
          n: number of rows, >= 1.
          random_state: seed; None takes the estimator's.

        Returns:
          [n, D] rows in units of X.

        Raises:
          ValueError: if `n` is below 1.
          NotFittedError: before `fit`.
        """
        check_is_fitted(self, "params_")
        if n < 1:
            raise ValueError(f"n is {n}: accepted is an integer of at least 1")
        seed = self.random_state if random_state is None else random_state
        keys = jax.random.split(jax.random.key(seed), n)
        return self._unmapped(map_rows(_sample(self.model_), keys, shared=(self.params_,)))

    def __getstate__(self) -> dict[str, Any]:
        """Pickles the config in place of the model, whose functions are closures."""
        inherited: Any = super().__getstate__()  # bytes in the stub
        state = dict(inherited)
        if "model_" in state:
            state["model_"] = state["model_"].config
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Builds the model again."""
        super().__setstate__(state)
        if "model_" in state:
            self.model_ = gaussian_rbm_from_config(state["model_"])

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
        log_z = np.array([self.log_z_, *self.log_z_interval_])
        self._save(path, self.model_, members, log_z=log_z)

    @classmethod
    def load(cls, path: str | os.PathLike) -> "RBMDensity":
        """Reads a density that `save` wrote; raises ValueError if there is none."""
        loaded, model, members, arrays = cls._load(path)
        loaded.model_ = model
        loaded.params_ = jax.tree.map(lambda leaf: leaf[0], members)
        loaded.log_z_, *interval = arrays["log_z"].tolist()
        loaded.log_z_interval_ = tuple(interval)
        loaded.is_normalised_ = exact_log_z(model)
        return loaded


@functools.lru_cache(maxsize=64)
def _exact(model: GaussianBernoulliRBM) -> Callable[[Params], Array]:
    return jax.jit(model.log_z)


@functools.lru_cache(maxsize=64)
def _annealed(model: GaussianBernoulliRBM, num_chains: int, num_steps: int) -> Callable:
    """Returns the compiled (key, params) -> `AnnealedLogZ`."""
    return jax.jit(
        lambda key, params: annealed_log_z(
            key, model, params, num_chains=num_chains, num_steps=num_steps
        )
    )


@functools.lru_cache(maxsize=64)
def _sample(model: GaussianBernoulliRBM) -> Callable[[Params, Key], Array]:
    """Returns the (params, key) -> [D] draw of transformed columns."""

    def one(params: Params, key: Key) -> Array:
        if exact_log_z(model):
            return model.sample(key, params)
        start_key, chain_key = jax.random.split(key)
        start = init_particles(start_key, model, params, 1)[0]
        return gibbs_chain(chain_key, model, params, start, CHAIN_STEPS)

    return one
