"""How well scores separate anomalies from ordinary rows, by ranks alone.

A score is higher for stranger rows; a label is 1 for an anomaly. No threshold is chosen on the
rows that are judged: the area under the ROC curve reads all of them, the average precision favours
the top, and stands beside the prevalence, which is what random scores reach. Give log scores: a
probability that saturates in single precision makes ties of what was ordered.
"""

from typing import NamedTuple

import numpy as np
from scipy import stats
from sklearn import metrics

from densityjax._typing import ArrayLike, NumpyArray


class AnomalyScore(NamedTuple):
    """Figures of one scoring of N rows, all shares in [0, 1].

    Attributes:
      auroc: area under the ROC curve; .5 for random scores.
      average_precision: area under precision over recall, by steps.
      prevalence: share of anomalies, the average precision of random scores.
      fpr_at_95_tpr: share of ordinary rows flagged where 95 % of the anomalies are.
      precision_at_k: share of anomalies among the K highest scores, K their number.
      num_anomalies: K.
    """

    auroc: float
    average_precision: float
    prevalence: float
    fpr_at_95_tpr: float
    precision_at_k: float
    num_anomalies: int


def anomaly_score(labels: ArrayLike, scores: ArrayLike) -> AnomalyScore:
    """Computes all figures of one scoring; arguments and errors as for `auroc`."""
    is_anomaly, values = _checked(labels, scores)
    count = int(is_anomaly.sum())
    return AnomalyScore(
        auroc(is_anomaly, values),
        average_precision(is_anomaly, values),
        count / is_anomaly.size,
        false_positive_rate(is_anomaly, values),
        precision_at_k(is_anomaly, values, k=count),
        count,
    )


def auroc(labels: ArrayLike, scores: ArrayLike) -> float:
    """Returns the probability that an anomaly scores above an ordinary row; ties count a half.

    Args:
      labels: [N] 1 or True for anomalies, 0 or False for ordinary rows; both must occur.
      scores: [N] scores, higher is stranger; no NaN, infinities are ranked.

    Returns:
      The area under the ROC curve, by mid-ranks.

    Raises:
      ValueError: if shapes disagree, a score is NaN, a label is another, or one does not occur.

    References:
      Hanley and McNeil, The meaning and use of the area under a ROC curve, 1982.
    """
    is_anomaly, values = _checked(labels, scores)
    ranks = stats.rankdata(values)
    count = int(is_anomaly.sum())
    above = ranks[is_anomaly].sum() - count * (count + 1) / 2
    return float(above / (count * (is_anomaly.size - count)))


def average_precision(labels: ArrayLike, scores: ArrayLike) -> float:
    """Returns the mean precision at the recalls reached; state the prevalence beside it.

    Args:
      labels: [N] as in `auroc`.
      scores: [N] as in `auroc`.

    Returns:
      `sum_k (R_k - R_{k-1}) P_k` over distinct thresholds, falling; no interpolation.

    Raises:
      ValueError: as `auroc`.
    """
    is_anomaly, values = _checked(labels, scores)
    # scikit-learn refuses infinite scores, which have a rank like others.
    ranks = stats.rankdata(values)
    return float(metrics.average_precision_score(is_anomaly, ranks))


def false_positive_rate(
    labels: ArrayLike, scores: ArrayLike, *, true_positive_rate: float = 0.95
) -> float:
    """Returns the share of ordinary rows flagged where enough anomalies are.

    Args:
      labels: [N] as in `auroc`.
      scores: [N] as in `auroc`.
      true_positive_rate: least share of anomalies to be flagged, in (0, 1].

    Returns:
      Share of ordinary rows at or above the highest threshold that flags so many.

    Raises:
      ValueError: as `auroc`, or if the rate is not accepted.
    """
    is_anomaly, values = _checked(labels, scores)
    if not 0.0 < true_positive_rate <= 1.0:
        raise ValueError(f"true_positive_rate is {true_positive_rate}: accepted is in (0, 1]")
    found = np.sort(values[is_anomaly])[::-1]
    needed = int(np.ceil(true_positive_rate * found.size - np.finfo(float).eps * found.size))
    return float(np.mean(values[~is_anomaly] >= found[needed - 1]))


def precision_at_k(labels: ArrayLike, scores: ArrayLike, *, k: int | None = None) -> float:
    """Returns the share of anomalies among the K highest scores.

    Args:
      labels: [N] as in `auroc`.
      scores: [N] as in `auroc`.
      k: number of alarms that can be looked at, in [1, N]; None for the number of anomalies.

    Returns:
      The precision; of rows tied at the edge the expected number under random order counts.

    Raises:
      ValueError: as `auroc`, or if `k` is not accepted.
    """
    is_anomaly, values = _checked(labels, scores)
    k = int(is_anomaly.sum()) if k is None else k
    if not 1 <= k <= values.size:
        raise ValueError(f"k is {k}: accepted is an integer in [1, {values.size}]")
    edge = np.sort(values)[-k]
    above, tied = values > edge, values == edge
    expected = (k - above.sum()) * is_anomaly[tied].mean()
    return float((is_anomaly[above].sum() + expected) / k)


def _checked(labels: ArrayLike, scores: ArrayLike) -> tuple[NumpyArray, NumpyArray]:
    """Returns labels as booleans and scores as float64, [N] each."""
    marks, values = np.asarray(labels), np.asarray(scores, np.float64)
    if marks.ndim != 1 or marks.shape != values.shape:
        raise ValueError(f"labels and scores must be [N], got {marks.shape} and {values.shape}")
    if np.isnan(values).any():
        raise ValueError(f"scores must not be NaN: {int(np.isnan(values).sum())} of them are")
    if not np.isin(marks, (0, 1)).all() or np.unique(marks).size != 2:
        raise ValueError(f"labels must be 0 and 1, and both occur, got {np.unique(marks)[:5]}")
    return marks.astype(bool), values
