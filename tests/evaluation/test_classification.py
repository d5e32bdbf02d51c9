"""Scores of class probabilities: by hand, against scikit-learn, and under the truth."""

import numpy as np
import pytest
from scipy import special
from sklearn import metrics

from densityjax.evaluation import classification

RNG = np.random.default_rng(0)
LOGITS = RNG.normal(size=(20_000, 3)) * 1.5
TRUTH = special.softmax(LOGITS, axis=1)
LABELS = np.array((RNG.random((20_000, 1)) > TRUTH.cumsum(axis=1)).sum(axis=1))


def test_met_18_log_loss_is_that_of_scikit_learn_and_takes_logs_as_they_are():
    found = classification.log_loss(LABELS, np.log(TRUTH))
    assert found == pytest.approx(metrics.log_loss(LABELS, TRUTH), rel=1e-10)
    sure = np.array([[0.0, -np.inf]])
    assert classification.log_loss([0], sure) == 0.0
    assert classification.log_loss([1], sure) == np.inf
    far = special.log_softmax([[0.0, -900.0]], axis=1)  # exp underflows, the log does not
    assert classification.log_loss([1], far) == pytest.approx(900.0)


def test_the_brier_score_is_the_sum_over_classes():
    assert classification.brier_score([0, 1], [[0.8, 0.2], [0.4, 0.6]]) == pytest.approx(
        (0.04 + 0.04 + 0.16 + 0.16) / 2
    )
    binary = TRUTH[:, :2] / TRUTH[:, :2].sum(axis=1, keepdims=True)
    is_binary = LABELS < 2
    twice = 2 * metrics.brier_score_loss(LABELS[is_binary], binary[is_binary, 1])
    found = classification.brier_score(LABELS[is_binary], binary[is_binary])
    assert found == pytest.approx(twice, rel=1e-10)


def test_the_calibration_error_is_by_bins_of_equal_width():
    labels, p = [0, 0, 1, 1], np.array([[0.95, 0.05], [0.91, 0.09], [0.55, 0.45], [0.52, 0.48]])
    found = classification.expected_calibration_error(labels, p, num_bins=10)
    # .9-1.0: two rows, both right, confidence .93; .5-.6: two rows, none right, .535.
    assert found.error == pytest.approx(0.5 * (1 - 0.93) + 0.5 * 0.535)
    assert found.counts.tolist() == [0, 0, 0, 0, 0, 2, 0, 0, 0, 2]
    assert found.accuracy[9] == 1.0
    assert found.confidence[5] == pytest.approx(0.535)
    assert np.isnan(found.accuracy[0])
    edge = classification.expected_calibration_error([0], [[0.5, 0.5]], num_bins=2)
    assert edge.counts.tolist() == [1, 0]  # the upper edge belongs to its bin


def test_the_truth_is_calibrated_and_too_sure_logits_are_not():
    true = classification.expected_calibration_error(LABELS, TRUTH).error
    sure = special.softmax(3 * LOGITS, axis=1)
    assert true < 2 * (15 / 20_000) ** 0.5
    assert classification.expected_calibration_error(LABELS, sure).error > 0.1
    assert classification.brier_score(LABELS, TRUTH) < classification.brier_score(LABELS, sure)


@pytest.mark.parametrize("factor", [0.25, 1.0, 4.0])
def test_one_temperature_undoes_a_factor_on_the_logits(factor):
    found = classification.temperature_scaling(LABELS, factor * LOGITS)
    assert found.temperature == pytest.approx(factor, rel=0.05)
    assert found.log_loss_after <= found.log_loss_before
    log_p = found.log_probabilities(factor * LOGITS)
    np.testing.assert_array_equal(log_p.argmax(axis=1), LOGITS.argmax(axis=1))
    assert classification.log_loss(LABELS, log_p) == pytest.approx(found.log_loss_after)


@pytest.mark.parametrize(
    ("call", "match"),
    [
        (lambda: classification.log_loss([0, 1], np.log([[0.5, 0.5]])), "labels have shape"),
        (lambda: classification.log_loss([2], np.log([[0.5, 0.5]])), "integers from 0 to 1"),
        (lambda: classification.log_loss([0.0], np.log([[0.5, 0.5]])), "integers from 0 to 1"),
        (lambda: classification.brier_score([0], [[0.5, 0.6]]), r"sum to 1\.1: accepted is 1"),
        (lambda: classification.brier_score([0], [[-0.5, 1.5]]), "negative number or NaN"),
        (
            lambda: classification.expected_calibration_error([0], [[0.5, 0.5]], num_bins=0),
            "num_bins is 0",
        ),
        (lambda: classification.temperature_scaling([0], [[np.nan, 0.0]]), "finite"),
    ],
)
def test_wrong_arguments_are_named(call, match):
    with pytest.raises(ValueError, match=match):
        call()
