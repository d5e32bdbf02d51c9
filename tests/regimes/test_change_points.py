"""Run lengths by enumeration, cumulative sums by their integral equation and by simulation."""

import itertools

import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from densityjax.regimes import change_points as cp

X = np.array([0.2, -0.1, 0.3, 3.1, 2.9, 3.3])
PRIOR = cp.NormalPrior(0.0, 4.0, 1.0)


def log_marginal(values, prior):
    """Log density of the values of one run, in one piece."""
    num = len(values)
    if isinstance(prior, cp.NormalPrior):
        cov = prior.noise_variance * np.eye(num) + prior.variance
        return stats.multivariate_normal(np.full(num, prior.mean), cov).logpdf(values)
    shape = prior.rate / prior.shape * (np.eye(num) + 1.0 / prior.strength)
    return stats.multivariate_t(np.full(num, prior.mean), shape, 2 * prior.shape).logpdf(values)


def enumerated(x, prior, hazard):
    """P(run length after the last value) by the sum over all partitions into runs."""
    num = len(x)
    joint = np.zeros(num + 1)
    for ends in itertools.product([0, 1], repeat=num):
        edges = [0, *[t + 1 for t in range(num) if ends[t]]]
        edges = edges if edges[-1] == num else [*edges, num]
        p = np.prod(np.where(ends, hazard, 1 - hazard))
        p *= np.exp(sum(log_marginal(x[a:b], prior) for a, b in itertools.pairwise(edges)))
        joint[0 if ends[-1] else num - edges[-2]] += p
    return joint / joint.sum(), np.log(joint.sum())


def test_run_lengths_are_the_known_ones(x64):
    found = cp.run_lengths(PRIOR, X, hazard=0.1, max_run=12)
    known = [0.1, 0.02579397, 0.04627961, 0.71624904, 0.05950071, 0.00720828, 0.04496839]
    np.testing.assert_allclose(np.exp(found.log_probability[-1][:7]), known, atol=1e-8)
    assert found.log_evidence.sum() == pytest.approx(-11.651236627912706, abs=1e-10)
    np.testing.assert_allclose(np.exp(found.log_probability[:, 0]), 0.1, atol=1e-12)
    assert found.likeliest[-1] == 3


@pytest.mark.parametrize("prior", [PRIOR, cp.NormalGammaPrior(0.1, 0.5, 2.5, 1.5)])
def test_run_lengths_equal_the_sum_over_all_partitions(prior, x64):
    probability, log_evidence = enumerated(X, prior, 0.1)
    found = cp.run_lengths(prior, X, hazard=0.1, max_run=12)
    np.testing.assert_allclose(np.exp(found.log_probability[-1][:7]), probability, rtol=1e-9)
    assert found.log_evidence.sum() == pytest.approx(log_evidence, rel=1e-10)


def test_a_cap_keeps_the_law_normalised_and_short_runs_nearly_as_they_were():
    rng = np.random.default_rng(0)
    x = np.concatenate([rng.normal(size=80), 4.0 + rng.normal(size=20)])
    wide, capped = (cp.run_lengths(PRIOR, x, hazard=0.02, max_run=r) for r in (120, 50))
    np.testing.assert_allclose(np.exp(capped.log_probability).sum(axis=1), 1.0, atol=1e-5)
    np.testing.assert_allclose(
        np.exp(capped.log_probability[-1][:30]), np.exp(wide.log_probability[-1][:30]), atol=5e-3
    )
    assert abs(int(capped.likeliest[-1]) - 20) <= 1
    assert capped.likeliest[70] == 50
    assert capped.recent[82] > 0.9 > capped.recent[70]


@pytest.mark.parametrize(
    ("threshold", "shift", "known"),
    [
        (4.0, 0.0, 335.3676),
        (4.0, 0.5, 26.679),
        (4.0, 1.0, 8.3832),
        (4.0, 2.0, 3.3428),
        (5.0, 0.0, 930.887),
        (5.0, 1.0, 10.376),
        (8.0, 0.0, 18965.7),
    ],
)
def test_average_run_lengths_are_the_published_ones(threshold, shift, known):
    assert cp.average_run_length(threshold, shift=shift) == pytest.approx(known, rel=1e-4)


def test_the_threshold_for_a_run_length_is_its_inverse():
    assert cp.threshold_for(335.3676) == pytest.approx(4.0, abs=1e-5)


@pytest.mark.parametrize(("shift", "length"), [(0.0, 400), (1.0, 60)])
def test_simulated_run_lengths_agree_within_their_error(shift, length):
    rng = np.random.default_rng(3)
    threshold = 2.0
    runs = []
    values = rng.normal(shift, size=400_000 if shift == 0.0 else 60_000)
    times = np.flatnonzero(np.asarray(cp.alarms(values, threshold)))
    runs = np.diff(times, prepend=-1)
    error = runs.std() / np.sqrt(runs.size)
    assert runs.size > length
    assert abs(runs.mean() - cp.average_run_length(threshold, shift=shift)) < 4 * error


def test_the_cumulative_sum_is_its_recursion_and_its_first_alarm_that_of_the_restarted_one():
    x = np.random.default_rng(4).normal(0.3, size=200)
    total, by_hand = 0.0, []
    for value in x:
        total = max(0.0, total + value - 0.5)
        by_hand.append(total)
    np.testing.assert_allclose(cp.cumulative_sum(x), by_hand, atol=1e-4)
    first = int(np.argmax(np.array(by_hand) > 3.0))
    assert int(np.argmax(np.asarray(cp.alarms(x, 3.0)))) == first
    assert bool(jnp.any(cp.alarms(x, 3.0)))


def test_a_missing_value_neither_raises_an_alarm_nor_ends_them():
    x = np.array([2.0, np.nan, 2.0, np.nan, 9.0])
    np.testing.assert_allclose(cp.cumulative_sum(x), [1.5, 1.5, 3.0, 3.0, 11.5])
    np.testing.assert_array_equal(cp.alarms(x, 2.5), [False, False, True, False, True])


def test_standardised_values_read_the_training_rows_alone():
    np.testing.assert_allclose(cp.standardised([5.0, 8.0], [1.0, 2.0, 3.0]), [3.0, 6.0])


def test_what_is_not_accepted_is_named():
    with pytest.raises(ValueError, match="hazard"):
        cp.run_lengths(PRIOR, X, hazard=0.0)
    with pytest.raises(ValueError, match="finite"):
        cp.run_lengths(PRIOR, np.array([0.0, np.nan]))
    with pytest.raises(ValueError, match="threshold"):
        cp.average_run_length(0.0)
    with pytest.raises(ValueError, match="run_length"):
        cp.threshold_for(2.0)
    with pytest.raises(ValueError, match="max_run"):
        cp.start_runs(max_run=0)
    with pytest.raises(ValueError, match="sd"):
        cp.standardised([1.0], [2.0, 2.0])
