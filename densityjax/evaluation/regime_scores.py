"""How well regimes are found: accuracy, F1, and the agreement of partitions."""

from typing import Any, NamedTuple

import numpy as np
from scipy import optimize
from sklearn import metrics

from densityjax._typing import ArrayLike


class RegimeScore(NamedTuple):
    """Scores of N regime labels.

    Attributes:
      accuracy: share of right labels.
      macro_f1: mean F1 over the true regimes.
      adjusted_rand_index: agreement of the partitions, 0 in expectation for random labels; it
        does not see how labels are called.
    """

    accuracy: float
    macro_f1: float
    adjusted_rand_index: float


def regime_score(true: ArrayLike, found: ArrayLike, *, match: bool = False) -> RegimeScore:
    """Scores regime labels against the true ones.

    Args:
      true: [N] true regimes, integers.
      found: [N] found regimes, integers.
      match: True renames the found regimes, one to one, so that most rows agree: for clusters,
        whose numbers mean nothing.

    Returns:
      The `RegimeScore`.

    Raises:
      ValueError: if the arrays are not vectors of one length of at least 1.

    References:
      Hubert and Arabie, Comparing Partitions, 1985, eq. 5 (the adjusted Rand index).
    """
    truth, labels = np.asarray(true), np.asarray(found)
    if truth.ndim != 1 or truth.shape != labels.shape or not truth.size:
        raise ValueError(f"true and found must be [N], got {truth.shape} and {labels.shape}")
    index = float(metrics.adjusted_rand_score(truth, labels))
    if match:
        names = np.unique(truth), np.unique(labels)
        counts = np.array(
            [[np.sum((truth == t) & (labels == f)) for f in names[1]] for t in names[0]]
        )
        rows, columns = optimize.linear_sum_assignment(-counts)
        renamed = dict(zip(names[1][columns], names[0][rows], strict=True))
        outside = int(truth.max()) + 1  # found regimes beyond the true ones match none
        labels = np.array([renamed.get(label, outside) for label in labels])
    regimes = np.unique(truth)
    options: dict[str, Any] = {"average": "macro", "zero_division": 0.0}  # the stubs want text
    f1 = metrics.f1_score(truth, labels, labels=regimes, **options)
    return RegimeScore(float(np.mean(truth == labels)), float(f1), index)
