"""A classifier of rows that is a density of them too, under scikit-learn's protocol."""

import functools
import os
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import ArrayLike
from scipy import special
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, validate_data

from densityjax import training
from densityjax._typing import Array, Key, Params
from densityjax.densities import Normalisation, importance_check
from densityjax.estimators import _columns, _fitting, _saving
from densityjax.models import (
    JointEnergy,
    joint_energy_fit_loss,
    joint_energy_from_config,
    joint_energy_model,
    map_rows,
)
from densityjax.training.loop import check_sizes

ROWS_SEEN = 500_000  # in a fit: 2,000 steps of 256
NUM_PROPOSALS = 2**16  # draws that log Z is estimated from
WIDENING = 1.3  # sd of the proposal's normal laws, in those of the classes: weights stay bounded
BASE_SHARE = 0.2  # of the proposal's draws that come from the base law, whose tails are the model's
LARGEST_ERROR = 0.05  # nats: standard error of log Z up to which densities count as normalised
HEAVY_WEIGHTS = 0.7  # Pareto shape of the weights above which the estimate is not to be trusted


class JointEnergyClassifier(ClassifierMixin, BaseEstimator):
    """Learns p(y | x) and p(x) by one network: its logits, and their log-sum as a density.

    Fitted by cross-entropy plus `density_weight` times denoising score matching. With weight zero
    it is a plain classifier, whose `score_samples` mean nothing. Probabilities of rows far from all
    others are not to be believed, whatever they say: look at `score_samples` first.

    Args:
      widths: sizes of the hidden layers.
      tau: sd of the normal base law, in standard deviations of the columns.
      density_weight: factor of the density's loss beside the cross-entropy, >= 0.
      sigma: noise of denoising, in standard deviations of the columns: the density is that of
        rows with this noise.
      num_epochs: most passes over the rows; None for half a million rows seen, 20 to 200 passes.
      batch_size: rows per step.
      patience: epochs without a better loss on the held-out fifth before the fit stops.
      learning_rate: peak rate of AdamW.
      weight_decay: decay of the network's kernels.
      ordered: rows are in order of time, and the last fifth is held out; False shuffles them
        first, as rows sorted by their class need.
      purge: rows dropped between the blocks, for rows that share their past.
      random_state: seed of the starting point, of shuffling and noise.

    Attributes:
      classes_: [K] the classes, sorted.
      model_: the fitted `JointEnergy`.
      params_: its parameters.
      normalisation_: the `Normalisation` of log Z: estimate, standard error, effective sample size
        and shape of the weights.
      is_normalised_: whether that standard error is at most .05 nats and the weights are light.
        Where it is False log densities are off by one number for all rows; ranks stand.
      n_features_in_: number of columns.
      feature_names_in_: their names, if `fit` was given a frame whose columns have names.
      history_: the `FitResult`, after `fit` alone.
    """

    n_features_in_: int
    feature_names_in_: np.ndarray
    normalisation_: Normalisation

    def __init__(
        self,
        widths: Sequence[int] = (128, 64),
        *,
        tau: float = 3.0,
        density_weight: float = 0.1,
        sigma: float = 0.2,
        num_epochs: int | None = None,
        batch_size: int = 256,
        patience: int = 20,
        learning_rate: float = 2e-3,
        weight_decay: float = 1e-5,
        ordered: bool = True,
        purge: int = 0,
        random_state: int = 0,
    ) -> None:
        self.widths = widths
        self.tau = tau
        self.density_weight = density_weight
        self.sigma = sigma
        self.num_epochs = num_epochs
        self.batch_size = batch_size
        self.patience = patience
        self.learning_rate = learning_rate
        self.weight_decay = weight_decay
        self.ordered = ordered
        self.purge = purge
        self.random_state = random_state

    def fit(
        self,
        X: ArrayLike,
        y: ArrayLike,
        *,
        callback: Callable[[training.FitProgress], None] | None = None,
    ) -> "JointEnergyClassifier":
        """Fits the network to rows and their classes.

        Args:
          X: [N, D] rows, in order of time where they have one.
          y: [N] their classes, of any type that sorts.
          callback: told a `training.FitProgress` now and then.

        Returns:
          The estimator itself.

        Raises:
          ValueError: for rows that are not finite or too few, fewer than two classes, or a
            parameter that is not accepted.
          FloatingPointError: if a loss or gradient is not finite.
        """
        given: Any = (X, y)  # inferred as strings
        checked: Any = validate_data(self, *given, dtype="float64")
        rows, targets = checked
        check_classification_targets(targets)
        self.classes_, labels = np.unique(targets, return_inverse=True)
        if len(self.classes_) < 2:
            raise ValueError(f"y has 1 class, {self.classes_[0]!r}: accepted are at least two")
        self.model_ = joint_energy_model(
            rows.shape[1], num_classes=len(self.classes_), widths=tuple(self.widths), tau=self.tau
        )
        if not self.ordered:
            order = np.random.default_rng(self.random_state).permutation(len(rows))
            rows, labels = rows[order], labels[order]
        fit_rows = _fitting.fit_rows(rows, labels, num_members=1, purge=self.purge)
        init_key, fit_key, z_key = jax.random.split(jax.random.key(self.random_state), 3)
        self.history_ = self._descend(init_key, fit_key, fit_rows, callback)
        self.params_ = self.history_.params
        self.normalisation_ = _normalisation(z_key, self.model_, self.params_, rows, labels)
        self._judge_normalisation()
        return self

    def _descend(
        self,
        init_key: Key,
        fit_key: Key,
        rows: _fitting.FitRows,
        callback: Callable[[training.FitProgress], None] | None,
    ) -> training.FitResult:
        """Fits the parameters."""
        num_rows = rows.weights.shape[1]
        num_epochs = self.num_epochs
        if num_epochs is None:
            num_epochs = int(np.clip(round(ROWS_SEEN / num_rows), 20, 200))
        check_sizes(num_epochs=num_epochs, batch_size=self.batch_size, patience=self.patience)
        members = _fitting.init_members(self.model_)(init_key[None], rows.weights, rows.data[0])
        loss = joint_energy_fit_loss(
            self.model_, density_weight=self.density_weight, sigma=self.sigma
        )
        return training.fit(
            fit_key,
            loss.loss_fn,
            jax.tree.map(lambda leaf: leaf[0], members),
            rows.data,
            validation=rows.validation,
            weights=rows.weights[0],
            validation_weights=rows.validation_weights[0],
            validation_loss_fn=loss.validation_loss_fn,
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

    def _judge_normalisation(self) -> None:
        found = self.normalisation_
        is_light = not found.tail_shape > HEAVY_WEIGHTS
        self.is_normalised_ = bool(found.standard_error <= LARGEST_ERROR) and is_light

    def _answer(self, fn: Callable, X: ArrayLike) -> np.ndarray:
        """Applies a function of (params, x) of the model to rows."""
        rows = _columns.check(self, X, allow_nan=False).astype(np.float32)
        return map_rows(fn, rows, shared=(self.params_,))

    def decision_function(self, X: ArrayLike) -> np.ndarray:
        """Returns log odds [N, K] of the classes, each row summing to zero.

        Of two classes, [N]: the log odds of the second one.
        """
        check_is_fitted(self, "params_")
        logits = self._answer(self.model_.logits, X)
        if len(self.classes_) == 2:
            return logits[:, 1] - logits[:, 0]
        return logits - logits.mean(axis=1, keepdims=True)

    def predict_log_proba(self, X: ArrayLike) -> np.ndarray:
        """Returns the log class probabilities of rows, [N, K] nats, in the order of `classes_`."""
        check_is_fitted(self, "params_")
        logits = self._answer(self.model_.logits, X)
        return special.log_softmax(logits.astype(np.float64), axis=1)

    def predict_proba(self, X: ArrayLike) -> np.ndarray:
        """Returns the class probabilities of rows, [N, K], in the order of `classes_`."""
        return np.exp(self.predict_log_proba(X))

    def predict(self, X: ArrayLike) -> np.ndarray:
        """Returns the most probable class of rows, [N]."""
        check_is_fitted(self, "params_")
        return self.classes_[np.argmax(self.predict_log_proba(X), axis=1)]

    def energy(self, X: ArrayLike) -> np.ndarray:
        """Returns E(x) of rows, [N] nats, higher is stranger; of one fit alone they compare."""
        check_is_fitted(self, "params_")
        return self._answer(self.model_.energy, X)

    def score_samples(self, X: ArrayLike) -> np.ndarray:
        """Returns log p(x) of rows, [N] nats per unit volume of X; see `is_normalised_`."""
        return -self.energy(X) - float(self.normalisation_.log_z)

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
            self.model_ = joint_energy_from_config(state["model_"])

    def save(self, path: str | os.PathLike) -> None:
        """Writes the fitted classifier to a folder, which is replaced whole or not at all.

        Args:
          path: the folder: new, empty, or holding a saved estimator and nothing else.

        Raises:
          NotFittedError: before `fit`.
          ValueError: if something else is at `path`, or the classes are no strings or numbers.
        """
        check_is_fitted(self, "params_")
        constructor = self.get_params() | {"widths": list(self.widths)}
        _saving.save(
            path,
            kind=type(self).__name__,
            constructor=constructor,
            model=self.model_,
            params=jax.tree.map(lambda leaf: leaf[None], self.params_),
            fitted={
                "n_features_in": self.n_features_in_,
                "feature_names_in": list(getattr(self, "feature_names_in_", [])),
                "classes": self.classes_.tolist(),
            },
            arrays={"normalisation": np.array(self.normalisation_, np.float64)},
        )

    @classmethod
    def load(cls, path: str | os.PathLike) -> "JointEnergyClassifier":
        """Reads a classifier that `save` wrote; raises ValueError if there is none."""
        settings, model, members, arrays = _saving.load(path, kind=cls.__name__)
        constructor = settings["constructor"]
        loaded = cls(**constructor | {"widths": tuple(constructor["widths"])})
        loaded.n_features_in_ = settings["fitted"]["n_features_in"]
        if names := settings["fitted"].get("feature_names_in"):
            loaded.feature_names_in_ = np.asarray(names, dtype=object)
        loaded.classes_ = np.asarray(settings["fitted"]["classes"])
        loaded.model_, loaded.params_ = model, jax.tree.map(lambda leaf: leaf[0], members)
        loaded.normalisation_ = Normalisation(*arrays["normalisation"])
        loaded._judge_normalisation()
        return loaded


def _normalisation(
    key: Key, model: JointEnergy, params: Params, rows: np.ndarray, labels: np.ndarray
) -> Normalisation:
    """Estimates log Z from draws of normal laws fitted to the classes, and of the base law."""
    location, scale = (np.asarray(params["standardiser"][name]) for name in ("location", "scale"))
    y = (rows - location) / scale
    groups = [y[labels == label] for label in np.unique(labels)]
    # Of a class with few rows the covariance of all stands in.
    least, pooled = 2 * y.shape[1] + 2, np.cov(y.T).reshape(y.shape[1], y.shape[1])
    covariances = [np.cov(g.T).reshape(pooled.shape) if len(g) >= least else pooled for g in groups]
    floor = 0.05 * np.eye(y.shape[1])  # variance: narrow directions are widened by noise as well
    means = np.stack([group.mean(axis=0) for group in groups] + [np.zeros(y.shape[1])])
    factors = [np.linalg.cholesky(WIDENING**2 * each + floor) for each in covariances]
    factors.append(model.config.tau * np.eye(y.shape[1]))
    shares = (1.0 - BASE_SHARE) * np.array([len(group) / len(y) for group in groups])
    draw = _proposal(model)
    found = draw(
        key,
        params,
        jnp.asarray(np.log(np.append(shares, BASE_SHARE)), jnp.float32),
        jnp.asarray(means, jnp.float32),
        jnp.asarray(np.stack(factors), jnp.float32),
    )
    return jax.device_get(found)


@functools.lru_cache(maxsize=64)
def _proposal(model: JointEnergy) -> Callable[..., Normalisation]:
    """Returns the compiled importance estimate of log Z from a mixture of normal laws of y."""

    def estimate(
        key: Key, params: Params, log_share: Array, mean: Array, factor: Array
    ) -> Normalisation:
        which_key, noise_key = jax.random.split(key)
        which = jax.random.categorical(which_key, log_share, shape=(NUM_PROPOSALS,))
        noise = jax.random.normal(noise_key, (NUM_PROPOSALS, mean.shape[1]))
        y = mean[which] + jnp.einsum("nij,nj->ni", factor[which], noise)
        scale = params["standardiser"]["scale"]
        x = params["standardiser"]["location"] + scale * y

        def log_normal(mean: Array, factor: Array) -> Array:
            white = jax.scipy.linalg.solve_triangular(factor, (y - mean).T, lower=True)
            log_det = jnp.sum(jnp.log(jnp.diagonal(factor)))
            constant = 0.5 * mean.shape[0] * jnp.log(2.0 * jnp.pi)
            return -0.5 * jnp.sum(white**2, axis=0) - log_det - constant

        log_parts = jax.vmap(log_normal)(mean, factor) + log_share[:, None]
        log_q = jax.nn.logsumexp(log_parts, axis=0) - jnp.sum(jnp.log(scale))
        energies = jax.vmap(model.energy, in_axes=(None, 0))(params, x)
        return importance_check(-energies, log_q)

    return jax.jit(estimate)
