"""Figures of anomaly scores by hand, by counting pairs, and by scikit-learn."""

import itertools

import numpy as np
import pytest
from scipy import stats
from sklearn import metrics

from densityjax.evaluation import anomaly_baselines, anomaly_metrics

LABELS, SCORES = [0, 0, 1, 1], [0.1, 0.4, 0.35, 0.8]


def test_met_11_and_met_12_the_hand_example():
    found = anomaly_metrics.anomaly_score(LABELS, SCORES)
    assert found.auroc == 0.75
    assert found.precision_at_k == 0.5
    assert found.prevalence == 0.5
    assert found.fpr_at_95_tpr == 0.5
    assert found.average_precision == pytest.approx(0.5 * 1.0 + 0.5 * 2 / 3)


@pytest.fixture(scope="module")
def tied():
    rng = np.random.default_rng(0)
    labels = (rng.random(300) < 0.1).astype(int)
    return labels, np.round(rng.normal(size=300) + labels, 1)


def test_auroc_counts_pairs_and_half_of_ties(tied):
    labels, scores = tied
    pairs = itertools.product(scores[labels == 1], scores[labels == 0])
    wins = [1.0 if a > b else 0.5 if a == b else 0.0 for a, b in pairs]
    assert anomaly_metrics.auroc(labels, scores) == pytest.approx(np.mean(wins), abs=1e-12)
    assert anomaly_metrics.auroc(labels, np.zeros(300)) == 0.5


def test_average_precision_and_the_rate_at_95_are_those_of_the_curves(tied):
    labels, scores = tied
    precision, recall, _ = metrics.precision_recall_curve(labels, scores)
    area = -np.sum(np.diff(recall) * precision[:-1])
    assert anomaly_metrics.average_precision(labels, scores) == pytest.approx(area)
    fpr, tpr, _ = metrics.roc_curve(labels, scores, drop_intermediate=False)
    assert anomaly_metrics.false_positive_rate(labels, scores) == fpr[np.argmax(tpr >= 0.95)]


def test_rising_transforms_and_infinite_scores_change_no_figure(tied):
    labels, scores = tied
    plain = anomaly_metrics.anomaly_score(labels, scores)
    assert anomaly_metrics.anomaly_score(labels, np.exp(3 * scores)) == plain
    top = np.where(scores == scores.max(), np.inf, scores)
    assert anomaly_metrics.anomaly_score(labels, top) == plain


def test_precision_at_k_is_the_mean_over_random_orders_of_ties():
    labels, scores = np.array([1, 0, 0, 1]), np.array([2.0, 1.0, 1.0, 1.0])
    assert anomaly_metrics.precision_at_k(labels, scores, k=2) == pytest.approx((1 + 1 / 3) / 2)
    assert anomaly_metrics.precision_at_k(labels, scores, k=1) == 1.0


def test_random_scores_reach_the_prevalence():
    rng = np.random.default_rng(1)
    labels = np.arange(4000) < 200
    values = [anomaly_metrics.average_precision(labels, rng.random(4000)) for _ in range(40)]
    error = np.std(values) / np.sqrt(40)
    assert abs(np.mean(values) - 0.05) < 4 * error + 0.002  # a small bias of order 1 / K


@pytest.mark.parametrize(
    ("labels", "scores", "word"),
    [([0, 0], [1.0, 2.0], "occur"), ([0, 1], [np.nan, 1.0], "NaN"), ([0, 1], [1.0], r"\[N\]")],
)
def test_what_is_not_accepted_is_named(labels, scores, word):
    with pytest.raises(ValueError, match=word):
        anomaly_metrics.auroc(labels, scores)


def test_the_wrong_k_and_rate_are_named():
    with pytest.raises(ValueError, match="k is 5"):
        anomaly_metrics.precision_at_k(LABELS, SCORES, k=5)
    with pytest.raises(ValueError, match="true_positive_rate"):
        anomaly_metrics.false_positive_rate(LABELS, SCORES, true_positive_rate=0.0)


@pytest.mark.parametrize("name", anomaly_baselines.DETECTORS)
def test_every_detector_finds_far_rows_and_reads_no_scored_row(name):
    rng = np.random.default_rng(2)
    train, test = rng.normal(size=(300, 3)), rng.normal(size=(200, 3))
    test[:20] += 5.0
    score = anomaly_baselines.fit_detector(name, train, random_state=3)
    found = score(test)
    assert anomaly_metrics.auroc(np.arange(200) < 20, found) > 0.97
    np.testing.assert_allclose(score(test[:50]), found[:50], rtol=1e-9)


def test_detectors_are_what_they_are_called():
    rng = np.random.default_rng(4)
    train, x = rng.normal(size=(100, 2)), rng.normal(size=(9, 2))
    distance = np.sort(np.linalg.norm(x[:, None] - train, axis=2), axis=1)[:, 4]
    np.testing.assert_allclose(anomaly_baselines.fit_detector("knn", train)(x), distance)
    centred = x - train.mean(axis=0)
    squares = np.einsum("ni,ij,nj->n", centred, np.linalg.inv(np.cov(train.T, ddof=0)), centred)
    np.testing.assert_allclose(anomaly_baselines.fit_detector("mahalanobis", train)(x), squares)
    width = 100 ** (-1 / 6)
    logs = stats.norm.logpdf(x[:, None], train, width).sum(axis=2)
    density = -np.log(np.exp(logs).mean(axis=1))
    np.testing.assert_allclose(anomaly_baselines.fit_detector("kde", train)(x), density)


def test_a_wrong_detector_or_too_few_rows_are_named():
    with pytest.raises(ValueError, match="name is 'svm'"):
        anomaly_baselines.fit_detector("svm", np.ones((20, 2)))
    with pytest.raises(ValueError, match="train"):
        anomaly_baselines.fit_detector("knn", np.ones((5, 2)))
