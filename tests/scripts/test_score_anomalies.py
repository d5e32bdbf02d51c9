"""The protocol of labelled tables: its split, its figures, and a file that is gone on from."""

import importlib.util
import json
import pathlib
import sys

import numpy as np
import pytest

FOLDER = pathlib.Path(__file__).parents[2] / "scripts"


@pytest.fixture(scope="module")
def script():
    sys.path.insert(0, str(FOLDER))
    try:
        path = FOLDER / "score_anomalies.py"
        spec = importlib.util.spec_from_file_location("score_anomalies_script", path)
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
    finally:
        sys.path.remove(str(FOLDER))
    return module


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("sets")
    rng = np.random.default_rng(0)
    for name, num in (("1_small", 60), ("2_large", 1001)):
        y = (np.arange(num) % 10 == 0).astype(int)
        x = np.column_stack([rng.normal(size=(num, 2)) + 4.0 * y[:, None], np.where(y, 1.0, 0.0)])
        np.savez(path / f"{name}.npz", X=x, y=y)
    return path


def test_the_first_half_of_the_ordinary_rows_trains_and_sets_the_scale(script):
    x = np.arange(2200.0).reshape(1100, 2)
    y = (np.arange(1100) % 11 == 0).astype(int)
    table = script.split_table(x, y, seed=0)
    ordinary = x[y == 0]
    train = ordinary[:500]
    np.testing.assert_allclose(table.train, (train - train.mean(0)) / train.std(0))
    back = table.test * train.std(0) + train.mean(0)
    np.testing.assert_allclose(back, np.vstack([ordinary[500:], x[y == 1]]))
    assert table.labels.sum() == 100
    again = script.split_table(x, y, seed=1)
    np.testing.assert_array_equal(table.train, again.train)


def test_small_sets_are_drawn_up_to_a_thousand_rows_with_repeats(script):
    x, y = np.arange(100.0)[:, None], (np.arange(100) < 10).astype(int)
    table = script.split_table(x, y, seed=0)
    assert len(table.train) + len(table.test) == 1000
    assert len(np.unique(np.vstack([table.train, table.test]), axis=0)) <= 100


def test_a_column_that_is_constant_in_training_is_kept_by_neighbours_and_dropped_by_densities(
    script, folder
):
    with np.load(folder / "2_large.npz") as data:
        table = script.split_table(data["X"], data["y"], 0)
    assert table.train.shape[1] == 3
    assert script.varying(table).train.shape[1] == 2


def test_figures_are_written_gone_on_from_and_laid_out(script, folder, tmp_path, capsys):
    out = tmp_path / "found.json"
    words = [str(folder), "--out", str(out), "--seeds", "1", "--steps", "30"]
    assert script.main([*words, "--only", "baselines"]) == 0
    first = json.loads(out.read_text())
    assert script.main([*words, "--only", "baselines", "--only", "dual", "--set", "large"]) == 0
    printed = capsys.readouterr()
    second = json.loads(out.read_text())
    assert printed.err.count("baselines") == 2  # of two sets, once each
    assert [each["is_bootstrapped"] for each in second["sets"]] == [True, False]
    for before, after in zip(first["sets"], second["sets"], strict=True):
        found = after["results"]["0"]
        assert found["baselines"] == before["results"]["0"]["baselines"]
        assert found["baselines"]["knn"]["auroc"] > 0.99
    dual = second["sets"][1]["results"]["0"]["dual"]
    assert 0.5 < dual["dual max-z"]["auroc"] <= 1.0
    assert len(dual) == 8
    table = printed.out.split("AUROC less")[0]
    assert "| small* | 60 |" in table
    assert "dual sigma" not in table
    assert script.main([*words[:-1], "31", "--only", "dual"]) == 2


def test_a_paired_interval_covers_no_difference_and_a_plain_one(script):
    rng = np.random.default_rng(0)
    base = rng.normal(size=40)
    assert script.paired_difference(base, base) == (0.0, 0.0, 0.0)
    mean, low, high = script.paired_difference(base + 1.0 + 0.1 * rng.normal(size=40), base)
    assert low < mean < high
    assert abs(mean - 1.0) < 0.1
    assert high - low == pytest.approx(2 * 1.96 * 0.1 / np.sqrt(40), rel=0.35)


def test_what_is_not_accepted_ends_with_one_line(script, folder, tmp_path, capsys):
    assert script.main([str(tmp_path)]) == 2
    assert script.main([str(folder), "--set", "none"]) == 2
    assert script.main([str(folder), "--seeds", "0"]) == 2
    assert capsys.readouterr().err.count("error:") == 3
