"""Energy statistics against NumPy, one-sided alarms, and a threshold that never looks ahead."""

import numpy as np
import pytest

from densityjax.evaluation import energy_statistics as es

RNG = np.random.default_rng(0)
ENERGY = RNG.standard_normal(200) + 1e4


def test_statistics_are_those_of_numpy_and_energies_normalise_to_mean_zero_and_sd_one():
    found = es.energy_statistics(ENERGY)
    assert found == pytest.approx(
        (ENERGY.mean(), ENERGY.std(ddof=1), ENERGY.min(), ENERGY.max(), np.median(ENERGY), 200)
    )
    normal = es.normalise(ENERGY, found)
    assert normal.mean() == pytest.approx(0.0, abs=1e-8)
    assert normal.std(ddof=1) == pytest.approx(1.0)
    assert es.energy_statistics([1.0, 2.0, 4.0, 8.0]).median == 3.0  # not the upper one


def test_e338_05_a_constant_changes_no_reported_number():
    for shift in (0.0, 123.0):
        reference = es.energy_statistics(ENERGY[:100] + shift)
        answers = (
            es.normalise(ENERGY[100:] + shift, reference),
            es.is_anomalous(ENERGY[100:] + shift, ENERGY[:100] + shift),
        )
        if shift == 0.0:
            first = answers
    np.testing.assert_allclose(answers[0], first[0], atol=1e-9)
    np.testing.assert_array_equal(answers[1], first[1])
    assert 0 < first[1].sum() < 30


def test_alarms_are_one_sided_and_as_rare_as_promised():
    reference = np.arange(1.0, 100.0)  # 99: the rank of 5 percent is 5, the fifth largest
    energy = np.array([-1e9, 50.0, 95.0, 95.1, 1e9])
    assert es.is_anomalous(energy, reference).tolist() == [False, False, False, True, True]
    assert not es.is_anomalous(np.array([1e9]), reference[:10]).any()  # too few to promise it
    fresh = RNG.standard_normal(20_000)
    share = es.is_anomalous(fresh, RNG.standard_normal(999)).mean()
    assert share == pytest.approx(0.05, abs=5 * (0.05 * 0.95 / 999) ** 0.5)


def test_the_threshold_is_that_of_a_loop_over_strictly_earlier_energies():
    found = es.adaptive_threshold(ENERGY, base=2.0, rate=0.1)
    expected = [
        2.0 if t < 10 else 2.0 * (1.0 + 0.1 * ENERGY[:t].std(ddof=1)) for t in range(ENERGY.size)
    ]
    np.testing.assert_allclose(found, expected, rtol=1e-9)


def test_no_energy_moves_a_threshold_up_to_its_own():
    plain = es.adaptive_threshold(ENERGY, base=2.0, rate=0.1)
    for t in (9, 10, 150):
        changed = ENERGY.copy()
        changed[t] += 1e3
        moved = es.adaptive_threshold(changed, base=2.0, rate=0.1)
        np.testing.assert_allclose(moved[: t + 1], plain[: t + 1], rtol=1e-9)
        assert (moved[max(t + 1, 10) :] > plain[max(t + 1, 10) :]).all()


@pytest.mark.parametrize(
    ("call", "match"),
    [
        (lambda: es.energy_statistics([]), "energy has shape"),
        (lambda: es.energy_statistics([1.0, np.nan]), "finite"),
        (lambda: es.normalise([1.0], es.energy_statistics([2.0])), "reference has sd nan"),
        (lambda: es.is_anomalous([np.nan], ENERGY), "energy has a NaN"),
        (lambda: es.is_anomalous([1.0], ENERGY, false_alarm_rate=1.0), "false_alarm_rate is 1"),
        (lambda: es.adaptive_threshold(ENERGY, base=-1.0, rate=0.1), "base is -1"),
        (lambda: es.adaptive_threshold(ENERGY, base=1.0, rate=0.1, min_history=1), "min_history 1"),
    ],
)
def test_wrong_arguments_are_named(call, match):
    with pytest.raises(ValueError, match=match):
        call()
