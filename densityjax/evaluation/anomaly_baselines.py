"""Plain detectors to hold a learnt one against, on the same rows, in one harness.

Each is fitted to rows taken to be ordinary, standardised by the caller, and returns a function from
rows to scores that are higher for stranger rows. None sees a label or a scored row when fitted. The
distance to the fifth neighbour is the line to beat: most learnt detectors do not.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from sklearn.covariance import EmpiricalCovariance
from sklearn.ensemble import IsolationForest
from sklearn.mixture import GaussianMixture
from sklearn.neighbors import KernelDensity, LocalOutlierFactor, NearestNeighbors

from densityjax._typing import ArrayLike, NumpyArray

ScoreRows = Callable[[ArrayLike], NumpyArray]  # rows [N, D] -> [N] scores, higher is stranger

NUM_NEIGHBOURS = 5  # of 'knn'
NUM_LOCAL = 20  # neighbours that 'lof' compares a row with
NUM_COMPONENTS = 4  # of 'gmm'
RIDGE = 1e-3  # added to variances of standardised columns, against components on a single point


def fit_detector(name: str, train: ArrayLike, *, random_state: int = 0) -> ScoreRows:
    """Fits one of the plain detectors to ordinary rows.

    - `knn`: distance to the fifth nearest training row.
    - `lof`: local outlier factor of 20 neighbours.
    - `isolation_forest`: mean depth of isolation in 100 random trees.
    - `mahalanobis`: distance to the mean, in the metric of the covariance.
    - `kde`: minus the log density of normal kernels of Scott's width, n^(-1 / (D + 4)).
    - `gmm`: minus the log density of a mixture of four normals of full covariances.

    Args:
      name: one of `DETECTORS`.
      train: [N, D] rows taken to be ordinary, in units of their standard deviations; N at least 6.
      random_state: seed of the two that draw, 'isolation_forest' and 'gmm'.

    Returns:
      Function of rows [M, D] to [M] scores, higher is stranger.

    Raises:
      ValueError: if the name is another, or the rows are too few or not finite.

    References:
      Breunig et al., LOF, 2000; Liu, Ting and Zhou, Isolation Forest, 2008; Ramaswamy, Rastogi and
      Shim, Efficient algorithms for mining outliers, 2000 (the distance to the k-th neighbour).
    """
    rows = np.asarray(train, np.float64)
    if name not in DETECTORS:
        raise ValueError(f"name is {name!r}: accepted are {tuple(DETECTORS)}")
    if rows.ndim != 2 or len(rows) <= NUM_NEIGHBOURS or not np.isfinite(rows).all():
        raise ValueError(
            f"train has shape {rows.shape}: accepted are finite rows [N, D], N > {NUM_NEIGHBOURS}"
        )
    return DETECTORS[name](rows, random_state)


def _knn(rows: NumpyArray, random_state: int) -> ScoreRows:
    del random_state
    model = NearestNeighbors(n_neighbors=NUM_NEIGHBOURS).fit(rows)
    return lambda x: model.kneighbors(np.asarray(x, float))[0][:, -1]


def _lof(rows: NumpyArray, random_state: int) -> ScoreRows:
    del random_state
    model = LocalOutlierFactor(n_neighbors=min(NUM_LOCAL, len(rows) - 1), novelty=True).fit(rows)
    return lambda x: -model.score_samples(np.asarray(x, float))


def _isolation_forest(rows: NumpyArray, random_state: int) -> ScoreRows:
    model = IsolationForest(random_state=random_state).fit(rows)
    return lambda x: -model.score_samples(np.asarray(x, float))


def _mahalanobis(rows: NumpyArray, random_state: int) -> ScoreRows:
    del random_state
    model = EmpiricalCovariance().fit(rows)
    return lambda x: model.mahalanobis(np.asarray(x, float))


def _kde(rows: NumpyArray, random_state: int) -> ScoreRows:
    del random_state
    width: Any = float(len(rows) ** (-1.0 / (rows.shape[1] + 4)))  # Scott, 1992, eq. 6.42
    model = KernelDensity(bandwidth=width).fit(rows)
    return lambda x: -model.score_samples(np.asarray(x, float))


def _gmm(rows: NumpyArray, random_state: int) -> ScoreRows:
    number = min(NUM_COMPONENTS, len(rows) // 2)
    model = GaussianMixture(number, reg_covar=RIDGE, random_state=random_state).fit(rows)
    return lambda x: -model.score_samples(np.asarray(x, float))


DETECTORS: dict[str, Callable[[NumpyArray, int], ScoreRows]] = {
    "knn": _knn,
    "lof": _lof,
    "isolation_forest": _isolation_forest,
    "mahalanobis": _mahalanobis,
    "kde": _kde,
    "gmm": _gmm,
}
