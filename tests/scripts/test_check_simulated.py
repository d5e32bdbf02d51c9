"""The check against simulated truth, on one small market."""

import importlib.util
import json
import pathlib
import sys

import numpy as np
import pytest

SCRIPT = pathlib.Path(__file__).parents[2] / "scripts" / "check_simulated.py"


@pytest.fixture
def script():
    spec = importlib.util.spec_from_file_location("check_simulated", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_p_values_keep_the_truth_and_refuse_a_wrong_scale(script):
    normal = np.random.default_rng(0).normal(size=4000)
    from scipy.stats import norm

    # Five tests: one of them falls below .001 once in two hundred seeds.
    assert min(script.p_values(norm.cdf(normal)).values()) > 0.001
    assert max(script.p_values(norm.cdf(2.0 * normal)).values()) < 1e-6


def test_one_market_is_checked_and_written(script, tmp_path, monkeypatch, capsys):
    words = ["--markets", "1", "--bars", "2500", "--out", str(tmp_path / "table.json")]
    monkeypatch.setattr(sys, "argv", ["check_simulated.py", *words])
    assert script.main() == 0
    row = json.loads((tmp_path / "table.json").read_text())[0]
    assert row["log_score"] < row["log_score_true"]
    assert row["log_score"] > row["log_score_true"] - 0.2  # few bars, so a loose band
    assert "mean gap" in capsys.readouterr().out
