"""Grids that are killed and go on, and manifests of other grids."""

import json
import os
import pathlib
import signal
import subprocess
import sys
import textwrap

import jax
import numpy as np
import pytest

from densityjax import backtest
from densityjax.backtest import MomentumParams, Prices, Signals

NUM_BARS, NUM_TRIALS, CHUNK = 200, 40, 8


def market():
    rng = np.random.default_rng(0)
    close = 100.0 * np.exp(np.cumsum(0.01 * rng.standard_normal(NUM_BARS)))
    signals = Signals(last_return=np.append(0.0, np.diff(np.log(close))))
    return signals, Prices(open=np.append(100.0, close[:-1]), close=close)


def run(folder=None, *, rule=backtest.momentum, scale=1.0, **options):
    params = MomentumParams(decay=scale * np.linspace(0.0, 0.95, NUM_TRIALS))
    return backtest.run_grid(rule, params, *market(), chunk_size=CHUNK, manifest=folder, **options)


def assert_same(first, second):
    for one, other in zip(jax.tree.leaves(first), jax.tree.leaves(second), strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    folder = tmp_path_factory.mktemp("grid") / "manifest"
    return folder, run(folder)


def test_each_chunk_has_a_line_and_progress_ends_at_all(done, tmp_path):
    lines = [json.loads(line) for line in (done[0] / "manifest.jsonl").read_text().splitlines()]
    assert [line["index"] for line in lines] == list(range(5))
    assert {*lines[0]["key"]} >= {"params", "data", "rule", "code", "dtype", "backend"}
    told = []
    run(tmp_path / "m", progress=lambda *words: told.append(words))
    assert told == [(8, 40), (16, 40), (24, 40), (32, 40), (40, 40)]


def test_a_finished_grid_is_read_rather_than_run(done, monkeypatch):
    def refuse(mesh):
        raise AssertionError("a chunk was to be computed")

    plain = run()
    assert_same(done[1], plain)
    with monkeypatch.context() as patch:
        patch.setattr(backtest.grid_devices, "runner", lambda mesh: refuse)
        assert_same(run(done[0]), plain)


@pytest.mark.parametrize(
    ("change", "names"),
    [
        (dict(scale=0.5), "params differs"),
        (dict(costs=backtest.Costs(3.0)), "params differs"),
        (dict(warmup=3), "data differs"),
        (dict(metrics="full"), "options differs"),
        (
            dict(rule=lambda params, row, state: backtest.momentum(params, row, state)),
            "rule differs",
        ),
    ],
)
def test_a_manifest_of_another_grid_is_refused_and_says_what_differs(done, change, names):
    with pytest.raises(ValueError, match=f"is of another grid: {names}"):
        run(done[0], **change)


def test_a_chunk_that_is_not_what_was_written_is_refused(tmp_path):
    run(tmp_path)
    (tmp_path / "chunk-000003.npz").write_bytes(b"half of a fi")
    with pytest.raises(ValueError, match=r"chunk-000003\.npz is missing or not what"):
        run(tmp_path)


def test_a_line_that_a_kill_cut_off_is_computed_again(done, tmp_path):
    run(tmp_path)
    book = tmp_path / "manifest.jsonl"
    book.write_text(book.read_text()[:-20])
    told = []
    again = run(tmp_path, progress=lambda *words: told.append(words))
    assert_same(again, done[1])
    assert [json.loads(line)["index"] for line in book.read_text().splitlines()] == [0, 1, 2, 3, 4]


KILLED = """
    import os, signal, sys
    sys.path.insert(0, sys.argv[1])
    import test_grid_manifest as case

    def stop(done, whole):
        if done == 24:
            os.kill(os.getpid(), signal.SIGKILL)

    case.run(sys.argv[2], progress=stop)
"""


def test_a_killed_grid_goes_on_and_is_equal_bit_for_bit(done, tmp_path):
    here = pathlib.Path(__file__).parent
    words = [sys.executable, "-c", textwrap.dedent(KILLED), str(here), str(tmp_path)]
    env = {**os.environ, "JAX_PLATFORMS": jax.default_backend()}
    answer = subprocess.run(words, env=env, capture_output=True, text=True, timeout=100)
    assert answer.returncode == -signal.SIGKILL, answer.stderr
    lines = (tmp_path / "manifest.jsonl").read_text().splitlines()
    assert [json.loads(line)["index"] for line in lines] == [0, 1, 2]
    again = run(tmp_path)
    assert_same(again, done[1])
    assert again.num_trials == NUM_TRIALS
    lines = (tmp_path / "manifest.jsonl").read_text().splitlines()
    assert [json.loads(line)["index"] for line in lines] == [0, 1, 2, 3, 4]
    assert not list(tmp_path.glob(".*"))  # no temporary file is left
