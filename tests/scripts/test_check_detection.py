"""Detectors at equal false alarms, and the overlay at equal exposure, small."""

import importlib.util
import pathlib

import jax
import numpy as np
import pytest

from densityjax import market

FOLDER = pathlib.Path(__file__).parents[2] / "scripts"


def load(name):
    spec = importlib.util.spec_from_file_location(f"{name}_script", FOLDER / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def detection_script():
    return load("check_detection")


@pytest.fixture(scope="module")
def overlay_script():
    return load("check_overlay")


def test_reg_03_every_detector_keeps_its_run_length_and_finds_large_switches_sooner(
    detection_script, monkeypatch
):
    monkeypatch.setattr(detection_script, "NUM_TRAIN", 400)
    monkeypatch.setattr(detection_script, "MAX_RUN", 60)
    found = detection_script.compare(0, 80, 100.0)
    assert list(found)[1] == "log density, CUSUM"
    for name, (realised, small, *_, large) in found.items():
        assert 60.0 < realised[0] < 170.0, name  # about 150 alarms set it, as many measured it
        if name not in ("energy level, 20 bars", "run length, Bayes"):  # these let a change go by
            assert large[0] < small[0], name
            assert large[2] <= 0.05, name
            assert 0.1 < large[4] < 0.9, name  # most streams end with a false alarm


def test_a_stream_counts_as_false_found_or_missed_by_its_first_alarm(detection_script):
    values = np.zeros((4, detection_script.NUM_BARS))
    onset = np.full(4, 200)
    values[0, [100, 210]] = 1.0
    values[1, 205] = 1.0
    values[2, 350] = 1.0
    mean, median, missed, false, f1 = detection_script.measure(values, onset, 0.5)
    assert (mean, median, false) == (5.0, np.inf, 0.25)
    assert missed == pytest.approx(2 / 3)
    assert f1 == pytest.approx(2 * (1 / 3) * (1 / 4) / (1 / 3 + 1 / 4))


def test_the_overlay_is_held_against_a_base_of_equal_mean_size(overlay_script):
    bars = market.simulate_market(jax.random.key(1), 700).bars
    found = overlay_script.compare(bars, "long", "linear", num_draws=40)
    assert 0.2 < found["mean size"][0] < 0.9
    for name in ("Sharpe", "Calmar", "ES %"):
        _, gap, low, high, p = found[name]
        assert low <= high, name
        assert np.isfinite(gap), name
        assert 0.0 <= p <= 1.0, name
    changed = bars.copy()
    changed.iloc[600:, :4] *= 1.5
    same = bars.index[400:600]
    for against in overlay_script.PASTS:
        z, later = (overlay_script.energy_z(each, against) for each in (bars, changed))
        np.testing.assert_array_equal(z[same], later[same])


def test_wrong_arguments_end_with_one_line(overlay_script, detection_script, tmp_path, capsys):
    assert overlay_script.main(["--bars", str(tmp_path / "none.csv")]) == 2
    assert capsys.readouterr().err.startswith("error:")
