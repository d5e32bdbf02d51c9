"""Checkpoints: whole or absent, and never of another model."""

import os

import numpy as np
import pytest

from densityjax.training import checkpoint

TREE = {
    "a": np.arange(6.0, dtype=np.float32).reshape(2, 3),
    "b": (np.int32(7), np.array([True, False])),
}
OTHER = {"a": -TREE["a"], "b": (np.int32(8), ~TREE["b"][1])}


def check_equal(found, expected):
    np.testing.assert_array_equal(found["a"], expected["a"])
    assert found["b"][0] == expected["b"][0]
    np.testing.assert_array_equal(found["b"][1], expected["b"][1])
    assert found["b"][0].dtype == np.int32


def test_what_is_saved_comes_back_bit_for_bit_and_the_last_one_counts(tmp_path):
    path = tmp_path / "deep" / "folder"
    assert not checkpoint.exists(path)
    checkpoint.save(path, TREE)
    assert checkpoint.exists(path)
    check_equal(checkpoint.load(path, OTHER), TREE)
    checkpoint.save(path, OTHER)
    check_equal(checkpoint.load(path, TREE), OTHER)
    assert os.listdir(path.parent) == ["folder"]  # nothing is left lying beside it


@pytest.mark.parametrize("num_replaced", [0, 1])
def test_a_kill_between_any_two_renames_leaves_the_old_checkpoint(
    tmp_path, monkeypatch, num_replaced
):
    path = tmp_path / "state"
    checkpoint.save(path, TREE)
    calls, replace = [], os.replace

    def dies(source, target):
        if str(source).startswith(str(tmp_path)) and len(calls) >= num_replaced:
            raise KeyboardInterrupt
        calls.append(source)
        replace(source, target)

    monkeypatch.setattr(checkpoint.os, "replace", dies)
    with pytest.raises(KeyboardInterrupt):
        checkpoint.save(path, OTHER)
    monkeypatch.undo()
    assert path.is_dir() == (num_replaced == 0)  # the second kill finds the old one set aside
    check_equal(checkpoint.load(path, TREE), TREE)
    checkpoint.save(path, OTHER)
    check_equal(checkpoint.load(path, TREE), OTHER)
    assert os.listdir(tmp_path) == ["state"]


@pytest.mark.parametrize(
    "like",
    [
        {"a": np.zeros((2, 4), np.float32), "b": TREE["b"]},
        {"a": np.zeros((2, 3), np.float64), "b": TREE["b"]},
        {"a": TREE["a"]},
        {**TREE, "c": np.zeros(1)},
    ],
)
def test_arrays_of_another_model_are_refused_by_name(tmp_path, like):
    checkpoint.save(tmp_path / "state", TREE)
    with pytest.raises(ValueError, match=r"state.*do not fit.*leaf_000"):
        checkpoint.load(tmp_path / "state", like)


def test_a_folder_that_is_not_there_is_named(tmp_path):
    with pytest.raises(ValueError, match="nowhere"):
        checkpoint.load(tmp_path / "nowhere", TREE)


def test_a_failed_save_leaves_the_old_checkpoint_and_nothing_beside_it(tmp_path, monkeypatch):
    path = tmp_path / "state"
    checkpoint.save(path, TREE)

    def fail():
        with checkpoint.replacing(path) as staging:
            staging.mkdir()
            (staging / "half").write_text("written")
            (tmp_path / "state.writing.tmp-7").mkdir()  # as orbax begins its folders
            raise RuntimeError("the disk is full")

    with pytest.raises(RuntimeError, match="disk"):
        fail()
    assert os.listdir(tmp_path) == ["state"]
    check_equal(checkpoint.load(path, OTHER), TREE)
    replace = os.replace

    def fails(source, target):
        if str(source).endswith("state.writing"):
            raise OSError("no rename")
        replace(source, target)

    monkeypatch.setattr(checkpoint.os, "replace", fails)
    with pytest.raises(OSError, match="no rename"):
        checkpoint.save(path, OTHER)
    assert os.listdir(tmp_path) == ["state"]  # what was set aside is back in its place
    check_equal(checkpoint.load(path, OTHER), TREE)


# A read that orbax gave up may end after its event loop was closed, which tensorstore complains of.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_an_empty_folder_holds_no_checkpoint_and_a_broken_one_is_named(tmp_path):
    path = tmp_path / "state"
    path.mkdir()
    assert not checkpoint.exists(path)
    checkpoint.save(path, TREE)
    (path / "manifest.ocdbt").unlink()
    with pytest.raises(ValueError, match=r"state', which cannot be read: .*accepted is a folder"):
        checkpoint.load(path, TREE)
    other = tmp_path / "notes"
    other.mkdir()
    (other / "note").write_text("kept")
    with pytest.raises(ValueError, match="notes', which cannot be read"):
        checkpoint.load(other, TREE)


def test_of_a_link_the_folder_behind_it_is_replaced(tmp_path):
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    checkpoint.save(tmp_path / "link", TREE)
    assert (tmp_path / "link").is_symlink()
    check_equal(checkpoint.load(tmp_path / "real", OTHER), TREE)
