"""The comparison of grids: the loop of numba does the arithmetic of ours, and what is refused."""

import importlib
import json
import pathlib
import sys
import types

import numpy as np
import pytest

SCRIPTS = pathlib.Path(__file__).parents[2] / "scripts"


@pytest.fixture
def modules(monkeypatch):
    """The worker and the script, with a numba that compiles nothing."""
    plain = types.ModuleType("numba")
    plain.njit = lambda **options: lambda function: function
    plain.prange = range
    monkeypatch.setitem(sys.modules, "numba", plain)
    monkeypatch.syspath_prepend(str(SCRIPTS / "peers"))
    monkeypatch.syspath_prepend(str(SCRIPTS))
    return importlib.import_module("grid_peers"), importlib.import_module("compare_grids")


def test_the_loop_of_numba_and_our_grid_agree_on_every_rule(modules):
    worker, script = modules
    data = {name: array.astype(np.float32) for name, array in script._market(120, 9).items()}
    loop, ours = worker.numba_call(data)(), worker.densityjax_call(data)()
    assert np.ptp(ours) > 0.01
    np.testing.assert_allclose(loop, ours, rtol=1e-3, atol=1e-5)


def test_a_peer_with_other_returns_is_refused_before_anything_is_timed(
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
                np.save(job["answer"], np.full(4, 0.1 + 0.02 * (self.name == wrong)))
            return {"seconds": 2.0 if self.name == "vectorbt" else 1.0, "versions": {"x": "1"}}

    monkeypatch.setattr(script.conductor, "Worker", Fake)
    monkeypatch.setattr(script.environments, "ensure", lambda name, folder: "python")
    words = ["--bars", "8", "--rules", "4", "--rounds", "3"]
    wrong = "numba"
    assert script.main(words) == 1
    assert "numba: total returns differ by 0.018" in capsys.readouterr().err
    assert "go" not in {op for _, op in asked}
    wrong = None
    assert script.main([*words, "--out", str(tmp_path / "out.json")]) == 0
    found = json.loads((tmp_path / "out.json").read_text())["grids"][0]
    assert found["over_ours"]["vectorbt"]["median"] == 2.0
    assert found["nanoseconds"]["densityjax"]["median"] == pytest.approx(1e9 / 32)
