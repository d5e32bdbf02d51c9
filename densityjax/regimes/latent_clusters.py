"""Regimes without labels: clusters of states in the latent space of a flow.

A flow maps states to codes whose coordinates are nearly independent and on one scale, where plain
clustering has a meaning that it lacks in the units of the features. The codes of single rows are
one normal cloud without clusters; but regimes last, so codes are first averaged over their past,
`s_t = sum_j d^j z_{t-j} / sum_j d^j` with a half-life, which leaves what lasts. Clusters are
numbered by a column of the caller, volatility for instance, so that regime 0 is calm in every fit.
"""

from typing import NamedTuple

import numpy as np
from scipy import signal
from sklearn.mixture import GaussianMixture

from densityjax._typing import ArrayLike, NumpyArray

NUM_STARTS = 4  # of the expectation maximisation; the best one is kept


class LatentClusters(NamedTuple):
    """A fitted mixture of K normals over averaged codes.

    Attributes:
      mixture: the scikit-learn mixture.
      halflife: of the average over past codes, rows; 0 takes each row alone.
      order: [K] its components, by rising mean of the column that orders them.
    """

    mixture: GaussianMixture
    halflife: float
    order: NumpyArray


def fit_latent_clusters(
    codes: ArrayLike,
    order_by: ArrayLike,
    *,
    num_regimes: int = 3,
    halflife: float = 20.0,
    random_state: int = 0,
) -> LatentClusters:
    """Fits a mixture of normals to averaged codes of training rows.

    Args:
      codes: [N, D] latent codes in order of time, as `FlowDensity.to_noise` gives, finite.
      order_by: [N] a number of each row whose mean numbers the regimes, such as a volatility.
      num_regimes: number K of clusters, at least 2.
      halflife: of the average over past codes, rows; 0 takes each row alone.
      random_state: seed of the starting points.

    Returns:
      The `LatentClusters`.

    Raises:
      ValueError: if shapes disagree, values are not finite, or K is out of range.

    References:
      McLachlan and Peel, Finite Mixture Models, 2000, chapter 3.
    """
    if not halflife >= 0.0:
        raise ValueError(f"halflife must be at least 0 rows, got {halflife}")
    rows, column = _average(codes, halflife), np.asarray(order_by, float)
    if column.shape != (len(rows),) or not np.all(np.isfinite(column)):
        raise ValueError(f"order_by must be [{len(rows)}] and finite, got shape {column.shape}")
    if not 2 <= num_regimes <= len(rows):
        raise ValueError(f"num_regimes must be in [2, {len(rows)}], got {num_regimes}")
    mixture = GaussianMixture(num_regimes, n_init=NUM_STARTS, random_state=random_state).fit(rows)
    share = mixture.predict_proba(rows)
    means = column @ share / share.sum(axis=0)
    return LatentClusters(mixture, halflife, np.argsort(means))


def regime_probabilities(clusters: LatentClusters, codes: ArrayLike) -> NumpyArray:
    """Returns the probability of each regime given the codes up to each row.

    Args:
      clusters: a fitted mixture.
      codes: [N, D] latent codes in order of time, finite; start some half-lives early.

    Returns:
      [N, K] probabilities, the regime with the lowest ordering mean first. Row t reads rows up to
      t, so that nothing looks ahead.

    Raises:
      ValueError: if the codes are not finite or not [N, D].
    """
    return clusters.mixture.predict_proba(_average(codes, clusters.halflife))[:, clusters.order]


def regimes(clusters: LatentClusters, codes: ArrayLike) -> NumpyArray:
    """Returns the most probable regime of each row, [N] integers, 0 the calmest."""
    return np.argmax(regime_probabilities(clusters, codes), axis=1)


def _average(codes: ArrayLike, halflife: float) -> NumpyArray:
    """Returns the bias-corrected exponentially weighted means of codes, [N, D]."""
    rows = np.asarray(codes, float)
    if rows.ndim != 2 or not np.all(np.isfinite(rows)):
        raise ValueError(f"codes must be [N, D] and finite, got shape {rows.shape}")
    if halflife == 0.0:
        return rows
    recursion = [1.0, -(0.5 ** (1.0 / halflife))]
    weights = signal.lfilter([1.0], recursion, np.ones(len(rows)))
    sums = np.asarray(signal.lfilter([1.0], recursion, rows, axis=0))
    return sums / np.asarray(weights)[:, None]
