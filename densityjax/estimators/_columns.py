"""The columns of a table, learnt at the fit and held to afterwards, as scikit-learn does."""

from typing import Any

import numpy as np
from sklearn.base import BaseEstimator
from sklearn.utils.validation import check_array, validate_data


def learn(estimator: BaseEstimator, X: Any) -> np.ndarray:
    """Returns rows [N, D] of float64 and notes their columns on the estimator.

    Raises:
      ValueError: for rows that are not a table of finite numbers.
    """
    rows: Any = validate_data(estimator, X, dtype="float64")  # inferred as a string
    return rows


def check(estimator: Any, X: Any, *, allow_nan: bool = True) -> np.ndarray:
    """Returns rows [N, D] of float64 with the columns of the fit.

    Args:
      estimator: a fitted one.
      X: a frame with the names and order of the fit, or a plain array with as many columns.
      allow_nan: whether a NaN may be among the numbers.

    Raises:
      ValueError: for other columns, or numbers that are not finite.
    """
    finite: Any = "allow-nan" if allow_nan else True  # a bool in the stub, one more in the docs
    if hasattr(X, "columns"):
        rows: Any = validate_data(
            estimator, X, reset=False, dtype="float64", ensure_all_finite=finite
        )
        return rows
    rows = check_array(X, dtype="float64", ensure_all_finite=finite)
    if rows.shape[1] != estimator.n_features_in_:
        raise ValueError(
            f"X has {rows.shape[1]} columns: accepted are the {estimator.n_features_in_} of the fit"
        )
    return rows
