"""Folders of estimators: whole or as they were, and nothing else is ever deleted."""

import os
import pathlib

import numpy as np
import pytest

from densityjax.estimators import FlowDensity, _saving

# Options, columns and rows of the tests of the density: the programs are the same.
OPTIONS = {
    "num_layers": 2,
    "num_bins": 5,
    "width": 16,
    "num_hidden": 1,
    "num_epochs": 40,
    "batch_size": 128,
    "learning_rate": 5e-3,
}
ROWS = np.random.default_rng(0).standard_normal((2500, 2))


@pytest.fixture(scope="module")
def pair():
    return [FlowDensity(**OPTIONS, random_state=seed).fit(ROWS) for seed in (0, 1)]


def answers(path):
    return FlowDensity.load(path).score_samples(ROWS)


def test_the_last_save_counts_and_leaves_nothing_beside_it(pair, tmp_path):
    path = tmp_path / "deep" / "density"
    for model in (*pair, pair[0]):
        model.save(path)
        np.testing.assert_array_equal(answers(path), model.score_samples(ROWS))
    assert os.listdir(path.parent) == ["density"]
    assert sorted(os.listdir(path)) == ["arrays", "estimator.json"]


@pytest.mark.parametrize("stage", ["arrays", "settings"])
def test_a_failure_while_writing_leaves_the_old_one_whole(pair, tmp_path, monkeypatch, stage):
    path = tmp_path / "density"
    pair[0].save(path)

    def fails(*args, **kwargs):
        raise OSError("no space left")

    with monkeypatch.context() as patch:
        if stage == "arrays":
            patch.setattr(_saving.checkpoint, "save", fails)
        else:
            patch.setattr(pathlib.Path, "write_text", fails)
        with pytest.raises(OSError, match="no space left"):
            pair[1].save(path)
    assert os.listdir(tmp_path) == ["density"]
    np.testing.assert_array_equal(answers(path), pair[0].score_samples(ROWS))


def test_a_kill_between_two_renames_leaves_the_old_one_readable(pair, tmp_path):
    path = tmp_path / "density"
    pair[0].save(path)
    os.replace(path, tmp_path / "density.previous")  # what a kill at the worst moment leaves
    np.testing.assert_array_equal(answers(path), pair[0].score_samples(ROWS))
    pair[1].save(path)
    np.testing.assert_array_equal(answers(path), pair[1].score_samples(ROWS))
    assert os.listdir(tmp_path) == ["density"]


def test_a_folder_of_other_things_is_refused_and_kept(pair, tmp_path):
    (tmp_path / "letters").mkdir()
    (tmp_path / "letters" / "first.txt").write_text("dear")
    (tmp_path / "file").write_text("mine")
    for name, held in (("letters", r"first\.txt"), ("file", "a file")):
        with pytest.raises(ValueError, match=rf"{name}', which is or holds \['{held}'\]: accepted"):
            pair[0].save(tmp_path / name)
    assert (tmp_path / "letters" / "first.txt").read_text() == "dear"
    assert (tmp_path / "file").read_text() == "mine"
    (tmp_path / "empty").mkdir()
    pair[0].save(tmp_path / "empty")
    np.testing.assert_array_equal(answers(tmp_path / "empty"), pair[0].score_samples(ROWS))


def test_settings_that_json_does_not_hold_are_refused_before_anything_is_written(pair, tmp_path):
    broken = FlowDensity.__new__(FlowDensity)
    broken.__dict__.update(pair[0].__dict__, learning_rate=float("nan"))
    with pytest.raises(ValueError, match="JSON compliant"):
        broken.save(tmp_path / "density")
    assert os.listdir(tmp_path) == []
