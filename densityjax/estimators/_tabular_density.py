"""What densities of tables share: held-out rows, transforms of columns, p-values and alarms."""

import abc
import os
from collections.abc import Callable, Sequence
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike
from sklearn.base import BaseEstimator, DensityMixin, OutlierMixin
from sklearn.utils.validation import check_is_fitted

from densityjax.bijectors import feature_transforms, lambert_w
from densityjax.estimators import _columns, _fitting, _saving
from densityjax.models import map_rows
from densityjax.regimes.anomalies import conformal_p_value, density_threshold
from densityjax.training import FitProgress, FitResult

TAILS = ("lambert_w", "none")  # what takes power tails off the columns before a model sees them


class TabularDensity(OutlierMixin, DensityMixin, BaseEstimator, abc.ABC):
    """The protocol of a density of rows: what every family of them can do.

    A subclass sets the constructor's arguments that are named here, and, when fitted, `params_` and
    `history_`.
    """

    calibration_fraction: float
    false_alarm_rate: float
    purge: int
    transforms: Sequence[str] | None
    params_: Any
    n_features_in_: int
    feature_names_in_: np.ndarray
    calibration_score_: np.ndarray
    history_: FitResult

    @abc.abstractmethod
    def fit(
        self,
        X: ArrayLike,
        y: None = None,
        *,
        calibration: ArrayLike | None = None,
        callback: Callable[[FitProgress], None] | None = None,
    ) -> Self:
        """Fits the density to rows [N, D]; p-values are calibrated on the last, or on others."""

    @abc.abstractmethod
    def sample(self, n: int = 1, random_state: int | None = None) -> np.ndarray:
        """Draws [n, D] rows in units of X."""

    @abc.abstractmethod
    def save(self, path: str | os.PathLike) -> None:
        """Writes the fitted density to a folder, which is replaced whole or not at all."""

    @classmethod
    @abc.abstractmethod
    def load(cls, path: str | os.PathLike) -> Self:
        """Reads a density that `save` wrote; raises ValueError if there is none."""

    @abc.abstractmethod
    def score_samples(self, X: ArrayLike) -> np.ndarray:
        """Computes [N] log densities of rows [N, D], in nats per unit volume of X."""

    def _learn(self, X: ArrayLike, calibration: ArrayLike | None) -> tuple[np.ndarray, np.ndarray]:
        """Notes the columns of `X`; returns rows to learn from and rows to calibrate on."""
        rows = _columns.learn(self, X)
        for name in ("calibration_fraction", "false_alarm_rate"):
            if not 0 < getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}: accepted is 0 < {name} < 1")
        if calibration is None:
            first = round(len(rows) * (1.0 - self.calibration_fraction))
            rows, held_out = rows[: max(first - self.purge, 0)], rows[first:]
        else:
            held_out = _columns.check(self, calibration, allow_nan=False)
        if not len(rows) or not len(held_out):
            raise ValueError(
                f"X has {len(rows)} rows to learn from and {len(held_out)} to calibrate on: "
                "accepted is at least 1 of each"
            )
        constant = np.flatnonzero(np.ptp(rows, axis=0) == 0)
        if constant.size:
            raise ValueError(f"X is constant in column {constant[0]}: it has no density")
        return rows, held_out

    def _calibrate(self, held_out: np.ndarray) -> None:
        self.calibration_score_ = np.sort(-self.score_samples(held_out))

    def _kinds(self, num_columns: int) -> list[Any]:
        """Returns the names of the columns' transforms; `feature_transform` checks them."""
        return ["identity"] * num_columns if self.transforms is None else list(self.transforms)

    def _fit_transforms(self, rows: np.ndarray, tail: str = "none") -> None:
        """Fits the maps of the columns; with 'lambert_w' also their tails."""
        if tail not in TAILS:
            raise ValueError(f"tail is {tail!r}: accepted are {TAILS}")
        kinds = self._kinds(rows.shape[1])
        if len(kinds) != rows.shape[1]:
            raise ValueError(f"transforms has {len(kinds)} names: accepted are {rows.shape[1]}")
        self.transform_ = feature_transforms.feature_transform(kinds)
        self.ends_ = feature_transforms.fit_ends(self.transform_, rows)
        rows, self.squeezed_ = feature_transforms.squeeze(self.transform_, self.ends_, rows)
        if tail == "lambert_w":
            num_more = _fitting.padded_size(len(rows)) - len(rows)
            padded = np.pad(rows, [(0, num_more), (0, 0)], mode="edge")
            is_row = (np.arange(len(padded)) < len(rows)).astype(np.float32)
            self.transform_ = feature_transforms.fit_tails(self.transform_, padded, is_row)

    def _squeezed(self, rows: np.ndarray) -> np.ndarray:
        """Moves values at an end of a transform's range inside, in single precision."""
        rows, _ = feature_transforms.squeeze(self.transform_, self.ends_, rows)
        return rows.astype(np.float32)

    def _mapped(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Maps rows to where the model lives; returns them and the log-determinants."""
        squeezed = self._squeezed(rows)
        return map_rows(feature_transforms.forward, squeezed, shared=(self.transform_,))

    def _unmapped(self, mapped: np.ndarray) -> np.ndarray:
        """Maps rows of the model back to units of X."""
        return map_rows(feature_transforms.inverse, mapped, shared=(self.transform_,))[0]

    def score(self, X: ArrayLike, y: None = None) -> float:
        """Returns the mean log density of the rows [N, D], in nats; `y` is ignored."""
        return float(np.mean(self.score_samples(X), dtype=np.float64))

    def p_value(self, X: ArrayLike) -> np.ndarray:
        """Returns [N] conformal p-values: how rare a density as low as the row's is."""
        return self.p_value_of_log_prob(self.score_samples(X))

    def p_value_of_log_prob(self, log_prob: ArrayLike) -> np.ndarray:
        """As `p_value`, of rows whose log densities [N] are at hand."""
        return np.asarray(conformal_p_value(-np.asarray(log_prob), self.calibration_score_))

    def predict(self, X: ArrayLike) -> np.ndarray:
        """Returns [N] labels: -1 where the density is below `threshold`, else +1.

        These are the rows with a p-value of at most `false_alarm_rate`. A row without a density
        raises ValueError: it is neither ordinary nor strange.
        """
        margin = self.decision_function(X)
        if np.isnan(margin).any():
            row = np.flatnonzero(np.isnan(margin))[0]
            raise ValueError(
                f"X has no density in row {row}: accepted are numbers inside the transforms' ranges"
            )
        return np.where(margin < 0, -1, 1)

    def decision_function(self, X: ArrayLike) -> np.ndarray:
        """Returns [N] log densities above the alarm's threshold, in nats: negative is strange."""
        return self.score_samples(X) - self.threshold()

    def threshold(self) -> float:
        """Returns the log density below which `predict` raises the alarm, in nats.

        Minus infinity where the calibration rows are too few for so rare an alarm.
        """
        check_is_fitted(self, "params_")
        return float(density_threshold(-self.calibration_score_, self.false_alarm_rate))

    @property
    def offset_(self) -> float:
        """The threshold under scikit-learn's name: `decision_function` is the rest above it."""
        return self.threshold()

    def _save(self, path: str | os.PathLike, model: Any, params: Any, **arrays: np.ndarray) -> None:
        """Writes model, parameters (with a leading axis of members) and what is shared here."""
        _saving.save(
            path,
            kind=type(self).__name__,
            constructor=self.get_params(),
            model=model,
            params=params,
            fitted={
                "n_features_in": self.n_features_in_,
                "feature_names_in": list(getattr(self, "feature_names_in_", [])),
            },
            arrays={
                "calibration_score": self.calibration_score_,
                "lower": self.ends_.lower,
                "upper": self.ends_.upper,
                "num_at_lower": self.squeezed_.num_at_lower,
                "num_at_upper": self.squeezed_.num_at_upper,
                **(
                    {} if self.transform_.tail is None else {"tail": np.stack(self.transform_.tail)}
                ),
                **arrays,
            },
        )

    @classmethod
    def _load(cls, path: str | os.PathLike) -> tuple[Any, Any, Any, dict[str, np.ndarray]]:
        """Reads what `_save` wrote: the estimator, its model, the parameters and the arrays."""
        settings, model, params, arrays = _saving.load(path, kind=cls.__name__)
        loaded = cls(**settings["constructor"])
        loaded.n_features_in_ = settings["fitted"]["n_features_in"]
        if names := settings["fitted"].get("feature_names_in"):
            loaded.feature_names_in_ = np.asarray(names, dtype=object)
        loaded.calibration_score_ = arrays["calibration_score"]
        kinds = loaded._kinds(loaded.n_features_in_)
        tail = lambert_w.Tail(*arrays["tail"]) if "tail" in arrays else None
        loaded.transform_ = feature_transforms.feature_transform(kinds)._replace(tail=tail)
        loaded.ends_ = feature_transforms.Ends(arrays["lower"], arrays["upper"])
        loaded.squeezed_ = feature_transforms.SqueezeReport(
            arrays["num_at_lower"], arrays["num_at_upper"]
        )
        return loaded, model, params, arrays
