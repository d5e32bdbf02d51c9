"""Delays, misses and false alarms of hand-made alarm series; thresholds at a stated rate."""

import numpy as np
import pytest

from densityjax.evaluation import detection


def test_met_13_delays_are_counted_from_the_onset_and_misses_as_misses():
    alarms = np.zeros(60, bool)
    alarms[[5, 12, 14, 30, 55]] = True
    found = detection.detection_latency(alarms, [10, 30, 40], [20, 35, 50])
    np.testing.assert_array_equal(found.delay, [2.0, 0.0, np.nan])
    assert found.num_missed == 1
    assert found.mean_found == 1.0
    assert found.median == 2.0  # of 0, 2 and a miss
    assert found.false_alarm_rate == pytest.approx(2 / (60 - 25))
    missed = detection.detection_latency(np.zeros(60, bool), [10, 30], [20, 35])
    assert missed.median == np.inf
    assert np.isnan(missed.mean_found)


def test_thresholds_keep_the_stated_rate_on_new_rows():
    rng = np.random.default_rng(0)
    threshold = detection.alarm_threshold(rng.normal(size=20_000), false_alarm_rate=0.02)
    rate = np.mean(rng.normal(size=20_000) > threshold)
    assert abs(rate - 0.02) < 4 * np.sqrt(2 * 0.02 / 20_000)
    assert detection.alarm_threshold(np.arange(9.0), false_alarm_rate=0.05) == np.inf


def test_the_run_length_of_independent_scores_is_one_over_their_rate():
    rng = np.random.default_rng(1)
    threshold = detection.run_length_threshold(rng.random((400, 300)), run_length=100.0)
    # 400 streams give about 380 alarms: the rate is known to a twentieth.
    assert 1.0 / (1.0 - threshold) == pytest.approx(100.0, rel=0.2)


def test_the_run_length_threshold_is_the_smallest_that_keeps_it():
    streams = np.tile([[1.0, 2.0, 3.0, 4.0]], (10, 1))
    # Above 3: the alarm comes at the fourth bar of every stream; above 2, at the third.
    assert detection.run_length_threshold(streams, run_length=3.5) == 3.0
    assert detection.run_length_threshold(streams, run_length=3.0) == 2.0


def test_alarms_are_matched_to_changes_one_to_one_and_never_before_them():
    score = detection.alarm_score([9, 12, 13, 41], [10, 40, 70], margin=5)
    assert score.precision == 2 / 4
    assert score.recall == 2 / 3
    assert score.f1 == pytest.approx(2 * 0.5 * (2 / 3) / (0.5 + 2 / 3))
    assert detection.alarm_score([], [10], margin=5) == (1.0, 0.0, 0.0)
    assert detection.alarm_score([10, 15], [10, 12], margin=5).recall == 1.0
    assert detection.alarm_score([16], [10], margin=5).recall == 0.0


def test_what_is_not_accepted_is_named():
    with pytest.raises(ValueError, match="onset < end"):
        detection.detection_latency(np.zeros(5, bool), [3], [9])
    with pytest.raises(ValueError, match="accepted are"):
        detection.detection_latency(np.zeros(5, bool), [], [])
    with pytest.raises(ValueError, match="margin"):
        detection.alarm_score([1], [1], margin=-1)
    with pytest.raises(ValueError, match="false_alarm_rate"):
        detection.alarm_threshold([1.0], false_alarm_rate=1.0)
    with pytest.raises(ValueError, match="scores"):
        detection.alarm_threshold([np.nan], false_alarm_rate=0.1)
    with pytest.raises(ValueError, match="run_length"):
        detection.run_length_threshold(np.ones((2, 5)), run_length=5.0)
    with pytest.raises(ValueError, match="streams"):
        detection.run_length_threshold(np.ones(5), run_length=1.0)
