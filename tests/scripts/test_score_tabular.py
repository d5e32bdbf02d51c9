"""The tabular scoreboard: dequantisation, its Jacobian, splits, budget and arguments."""

import importlib.util
import pathlib
import sys

import numpy as np
import pytest
from scipy.stats import norm

SCRIPTS = pathlib.Path(__file__).parents[2] / "scripts"


@pytest.fixture
def script(monkeypatch):
    monkeypatch.syspath_prepend(str(SCRIPTS))
    spec = importlib.util.spec_from_file_location("score_tabular", SCRIPTS / "score_tabular.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    yield module
    for name in [each for each in sys.modules if each.split(".")[0] == "peers"]:
        del sys.modules[name]


def test_the_resolution_is_the_smallest_step_that_is_no_rounding(script):
    assert script.resolution(np.array([3.0, 1.0, 1.5, 3.0])) == 0.5
    tenths = np.array([0.1 + 0.2, 0.3, 0.4, 0.7])  # the first two differ by one rounding
    assert script.resolution(tenths) == pytest.approx(0.1)
    with pytest.raises(ValueError, match="one value"):
        script.resolution(np.ones(4))


def test_noise_fills_one_resolution_about_each_value_and_is_uniform(script):
    y = np.random.default_rng(0).integers(5, size=20_000) * 0.25
    noise = script.dequantise(np.random.default_rng(1), y) - y
    assert np.abs(noise).max() <= 0.125
    # A uniform of width w has variance w^2 / 12 and fourth moment w^4 / 80.
    error = 5 * np.sqrt((0.25**4 / 80 - 0.25**4 / 144) / noise.size)
    assert abs(noise.var() - 0.25**2 / 12) < error
    assert abs(noise.mean()) < 5 * np.sqrt(0.25**2 / 12 / noise.size)


def example(script):
    rng = np.random.default_rng(2)
    x = np.column_stack([5.0 + 3.0 * rng.standard_normal(100), np.full(100, 7.0)])
    y = 40.0 + 9.0 * rng.standard_normal(100)
    is_test = np.arange(100) % 10 == 3
    return x, y, is_test, script.split_rows(x, y, is_test)


def test_a_split_standardises_by_training_rows_alone_and_loses_none(script):
    x, y, is_test, split = example(script)
    counts = {part: len(split.arrays[f"x_{part}"]) for part in ("train", "validation", "test")}
    assert counts == {"train": 81, "validation": 9, "test": 10}
    fitted = [
        np.concatenate([split.arrays[f"{kind}_{p}"] for p in ("train", "validation")])
        for kind in ("x", "context")
    ]
    for rows in (fitted[0], fitted[1][:, :1]):
        np.testing.assert_allclose([rows.mean(), rows.std()], [0.0, 1.0], atol=1e-12)
    assert (fitted[1][:, 1] == 0.0).all()  # a constant input stays finite
    restored = split.arrays["x_test"][:, 0] * y[~is_test].std() + y[~is_test].mean()
    np.testing.assert_allclose(restored, y[is_test])
    again = script.split_rows(x, y, is_test)  # every library sees the same rows
    np.testing.assert_array_equal(again.arrays["x_validation"], split.arrays["x_validation"])
    moved = script.split_rows(x, np.where(is_test, 1e6, y), is_test)
    np.testing.assert_array_equal(moved.arrays["x_train"], split.arrays["x_train"])


def test_a_score_less_the_log_scale_is_the_density_in_the_unit_of_y(script):
    _, y, is_test, split = example(script)
    standard = norm.logpdf(split.arrays["x_test"][:, 0]).mean() - split.log_scale
    direct = norm.logpdf(y[is_test], y[~is_test].mean(), y[~is_test].std()).mean()
    assert standard == pytest.approx(direct, rel=1e-12)


def test_every_library_is_given_the_same_budget_and_scores_come_back_in_the_unit_of_y(
    script, tmp_path
):
    jobs = {}

    class Fake:
        def __init__(self, name):
            self.name = name

        def ask(self, op, job):
            jobs[self.name] = job
            if self.name == "zuko":
                raise script.conductor.WorkerFailure("zuko: broke")
            return {"log_prob": 1.0, "parameters": 77}

    split = example(script)[3]
    words = ["--data", "x", "--steps", "90", "--batch", "30", "--learning-rate", "0.02"]
    options = script.parsed(words)
    names = (script.conductor.OURS, script.conductor.DEFAULT, "nflows", "zuko")
    workers = {name: Fake(name) for name in names}
    path = tmp_path / "split.npz"
    record = script.score_split(workers, split, path, seed=5, options=options)
    assert record["failed"] == {"zuko": "zuko: broke"}
    for answer in record["results"].values():
        assert answer["log_prob"] == pytest.approx(1.0 - split.log_scale)
    matched = {name: job.pop("parameters", None) for name, job in jobs.items()}
    assert matched == {**dict.fromkeys(names, 77), script.conductor.DEFAULT: None}
    for job in jobs.values():
        assert job.pop("flow")["context_dim"] == 2
    assert len({str(sorted(job.items())) for job in jobs.values()}) == 1
    assert jobs["nflows"]["learning_rate"] == 0.02
    assert jobs["nflows"]["num_epochs"] == 30  # 90 steps of 81 rows in batches of 30


def test_the_summary_counts_sets_where_ours_is_at_least_the_best_peer(script):
    default = script.conductor.DEFAULT

    def record(name, ours, nflows, zuko):
        splits = [
            {
                "results": {
                    default: {"log_prob": a},
                    "nflows": {"log_prob": b},
                    "zuko": {"log_prob": c},
                }
            }
            for a, b, c in zip(ours, nflows, zuko, strict=True)
        ]
        return {"set": name, "num_rows": 9, "num_inputs": 2, "resolution": 0.5, "splits": splits}

    won = record("won", [1.0, 3.0], [1.0, 2.0], [0.0, 9.0e-1])
    lost = record("lost", [1.0, 3.0], [1.0, 2.0], [2.0, 2.5])
    even = record("even", [1.0, 2.0], [1.0, 2.0], [0.0, 0.0])
    text, count = script.summary([won, lost, even])
    assert count == 2
    lines = text.splitlines()
    assert lines[2].endswith("0.5000 ± 0.5000 on nflows |")
    assert lines[3].endswith("-0.2500 ± 0.7500 on zuko |")
    assert "2.0000 ± 1.0000" in lines[2]


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["--data", "nowhere"], "--data is 'nowhere'"),
        (["--splits", "0"], "--splits is 0"),
        (["--epochs", "-1"], "--epochs is -1"),
        (["--set", "b"], "--set is 'b': accepted are a"),
    ],
)
def test_arguments_that_are_not_accepted_end_with_status_2_and_one_line(
    script, tmp_path, capsys, words, text
):
    np.savez(tmp_path / "a.npz", X=np.ones((2, 1)), y=np.arange(2.0), test_mask=np.eye(2) > 0)
    assert script.main(["--data", str(tmp_path), *words]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert error.count("\n") == 1
    assert text in error


@pytest.mark.parametrize("words", [[], ["--data", "x", "--peer", "nothing"]])
def test_missing_or_unknown_arguments_end_with_status_2(script, words):
    with pytest.raises(SystemExit) as caught:
        script.main(words)
    assert caught.value.code == 2
