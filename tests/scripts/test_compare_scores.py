"""The comparison of score networks: what both are given, what is refused, what memory is read."""

import functools
import importlib
import json
import pathlib

import jax
import numpy as np
import pytest

from densityjax import models

SCRIPTS = pathlib.Path(__file__).parents[2] / "scripts"


@pytest.fixture
def modules(monkeypatch):
    monkeypatch.syspath_prepend(str(SCRIPTS / "peers"))
    monkeypatch.syspath_prepend(str(SCRIPTS))
    return importlib.import_module("score_peers"), importlib.import_module("compare_scores")


def numpy_score(worker, data, y):
    """The network by hand, in float64."""
    level = 0.25 * np.log(worker.SIGMA)
    turns = 2.0 * np.pi * np.asarray(worker.FREQUENCIES) * level
    variance = 1.0 + worker.SIGMA**2
    features = np.tile(np.r_[level, np.sin(turns), np.cos(turns)], (len(y), 1))
    hidden = np.concatenate([y / np.sqrt(variance), features], axis=1)
    for name in ("hidden_0", "hidden_1", "hidden_2"):
        hidden = hidden @ data[f"{name}_kernel"] + data[f"{name}_bias"]
        hidden = hidden / (1.0 + np.exp(-hidden))
    output = hidden @ data["output_kernel"] + data["output_bias"]
    return -y / variance + output / (worker.SIGMA * np.sqrt(variance))


def test_our_worker_has_the_network_of_the_data_trains_it_and_moves_chains(modules):
    worker, script = modules
    exact = script.network_and_rows(16)
    data = {name: array.astype(np.float32) for name, array in exact.items()}
    expected = numpy_score(worker, exact, exact["test"])
    for kind, num_steps in (("train_step", 2), ("langevin", 3)):
        job = {"kind": kind, "num_steps": num_steps, "num_hidden": script.NUM_HIDDEN}
        call, score = worker.densityjax_call(job, data)
        gap = np.abs(np.asarray(score) - expected).max() / np.abs(expected).max()
        assert gap < script.AGREEMENT
        ends = call()
    assert ends.shape == (16, script.DIM)
    assert np.isfinite(ends).all()
    assert np.abs(ends - data["x"]).min() > 0.0


def test_a_peer_with_other_scores_is_refused_before_anything_is_timed(
    modules, monkeypatch, tmp_path, capsys
):
    script = modules[1]
    asked = []

    class Fake:
        def __init__(self, name, command, *, num_threads):
            self.name = name

        def __enter__(self):
            return self

        def __exit__(self, *error):
            pass

        def ask(self, op, job=None):
            asked.append((self.name, op))
            if op == "prepare":
                np.save(job["answer"], np.full((4, 2), 1.0 + 0.02 * (self.name == wrong)))
            return {"seconds": 3.0 if self.name == "torch" else 1.5, "versions": {"x": "1"}}

    monkeypatch.setattr(script.conductor, "Worker", Fake)
    monkeypatch.setattr(script.environments, "ensure", lambda name, folder: "python")
    monkeypatch.setattr(script, "alone", lambda draws, points: {"draws": float(draws)})
    wrong = "torch"
    assert script.main(["--rounds", "3"]) == 1
    assert "torch: scores differ by 0.02" in capsys.readouterr().err
    assert "go" not in {op for _, op in asked}
    wrong = None
    assert script.main(["--rounds", "3", "--out", str(tmp_path / "out.json")]) == 0
    found = json.loads((tmp_path / "out.json").read_text())
    assert [each["kind"] for each in found["compared"]] == ["train_step", "langevin"]
    assert found["compared"][0]["over_ours"]["median"] == 2.0
    assert found["compared"][0]["seconds_a_step"]["torch"]["median"] == pytest.approx(0.03)
    assert "train_step, torch over ours: 2.00 [2.00, 2.00]" in capsys.readouterr().out


def test_the_memory_of_a_sampler_does_not_grow_with_its_steps(modules):
    script = modules[1]
    model = models.score_model(3, network="mlp", width=8, num_hidden=1)
    params = model.init(jax.random.key(0), jax.random.normal(jax.random.key(1), (20, 3)))
    keys = jax.random.split(jax.random.key(2), 500)
    sizes = []
    for levels in (5, 50):
        sampler = jax.jit(jax.vmap(functools.partial(script.heun_draw, model, levels), (None, 0)))
        memory = sampler.lower(params, keys).compile().memory_analysis()
        sizes.append(memory.temp_size_in_bytes)
    path = 45 * 500 * 3 * 4  # bytes of the positions that further steps would keep
    assert sizes[0] > 0
    assert sizes[1] - sizes[0] < 0.05 * path
