"""The benchmark's records are whole, and its arguments are checked."""

import importlib
import importlib.util
import json
import pathlib

import jax
import pytest

from densityjax.models import neural_spline_flow

FILE = pathlib.Path(__file__).resolve().parents[1] / "scripts" / "benchmark.py"


@pytest.fixture
def benchmark(monkeypatch):
    monkeypatch.syspath_prepend(FILE.parent)  # as if it were run: `timing` lies beside it
    spec = importlib.util.spec_from_file_location("benchmark", FILE)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    kept = jax.config.jax_enable_compilation_cache
    yield module
    jax.config.update("jax_enable_compilation_cache", kept)


def test_a_record_names_machine_versions_and_commit_and_its_numbers_agree(
    benchmark, tmp_path, capsys
):
    out = tmp_path / "benchmark.json"
    assert benchmark.main(["--quick", "--only", "grid", "--out", str(out)]) == 0
    record = json.loads(out.read_text())
    assert record["versions"]["jax"] == jax.__version__
    assert record["device"] == jax.devices()[0].device_kind
    assert record["commit"]
    (case,) = record["results"]
    seconds = case["call_seconds"]
    assert 0 < seconds["min"] <= seconds["median"] <= seconds["max"]
    assert case["work_per_call"] == 256 * 64
    assert case["units_per_second"] * case["seconds_per_unit"] == pytest.approx(1.0)
    assert case["name"] in capsys.readouterr().out


def test_training_cases_return_losses_that_are_finite(benchmark):
    flow = neural_spline_flow(
        1, context_dim=2, num_layers=1, num_bins=4, width=4, conditioner="mlp", tail="none"
    )
    case = importlib.import_module("timing.cases").train_step(
        "step", flow, num_members=2, batch_size=8
    )
    _, loss = case.call()
    assert loss.shape == (2, case.work)
    assert jax.numpy.isfinite(loss).all()


def test_an_unknown_group_is_refused_with_the_ones_there_are(benchmark, capsys):
    assert benchmark.main(["--only", "nothing"]) == 2
    assert "'nothing'" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("seconds", "text"), [(2.5, "2.5 s"), (0.0125, "12.5 ms"), (3e-6, "3 us"), (2e-9, "2 ns")]
)
def test_times_are_spelled_with_a_unit_that_suits_them(benchmark, seconds, text):
    assert benchmark._spell(seconds) == text
