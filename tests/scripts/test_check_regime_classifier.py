"""The printed comparison of regime classifiers, small."""

import importlib.util
import pathlib

import numpy as np
import pytest

SCRIPT = pathlib.Path(__file__).parents[2] / "scripts" / "check_regime_classifier.py"


@pytest.fixture(scope="module")
def script():
    spec = importlib.util.spec_from_file_location("check_regime_classifier_script", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_jem_04_the_table_has_a_line_per_classifier_with_numbers_that_were_measured(script, capsys):
    assert script.main(["--bars", "1500", "--seeds", "1", "--epochs", "2"]) == 0
    head, *lines = capsys.readouterr().out.strip().splitlines()
    assert head.split()[:2] == ["ECE", "Brier"]
    values = {line[:22].strip(): [float(each) for each in line[22:].split()] for line in lines}
    assert list(values) == [
        "base rates",
        "cross-entropy",
        "cross-entropy, scaled",
        "joint",
        "joint, scaled",
    ]
    for name, (error, brier, log_loss, accuracy, *density) in values.items():
        assert 0.0 <= error < 0.6, name
        assert 0.3 < brier < 1.0, name
        assert 0.5 < log_loss < 2.0, name
        assert 0.1 < accuracy < 0.9, name
        assert np.isnan(density).all() == (name == "base rates")
    # One temperature moves no predicted class.
    assert values["joint"][3] == values["joint, scaled"][3]


def test_features_of_a_part_meet_labels_that_end_before_the_next(script):
    features, labels, parts = script.rows_of(0, 1500)
    assert features.index.equals(labels.index)
    position = features.index.get_indexer
    last, first = features.index[parts.train.stop - 1], features.index[parts.validation.start]
    assert position([first])[0] - position([last])[0] > 20
    assert labels.iloc[-20:].isna().all()


def test_wrong_sizes_end_with_an_error(script, capsys):
    assert script.main(["--bars", "10"]) == 2
    assert "accepted are --bars" in capsys.readouterr().err
