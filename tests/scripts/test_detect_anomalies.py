"""The command that lists strange bars: an injected spike is among them, fitted or online."""

import importlib.util
import pathlib

import jax
import numpy as np
import pytest

from densityjax import market

SCRIPT = pathlib.Path(__file__).parents[2] / "scripts" / "detect_anomalies.py"
SPIKE = 760


@pytest.fixture(scope="module")
def script():
    spec = importlib.util.spec_from_file_location("detect_anomalies_script", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def bars_file(tmp_path_factory):
    bars = market.simulate_market(jax.random.key(0), 800).bars
    close = bars["close"].to_numpy(copy=True)
    jump = np.exp(12.0 * np.std(np.diff(np.log(close))))
    close[SPIKE] *= jump
    bars = bars.assign(close=close, high=np.maximum(bars["high"], close))
    path = tmp_path_factory.mktemp("bars") / "spiked.csv"
    market.write_bars(bars, path)
    return path, bars.index[SPIKE].isoformat(), bars.index[SPIKE - 1].isoformat()


@pytest.mark.parametrize("mode", [[], ["--online"]])
def test_cli_03_an_injected_spike_is_listed(script, bars_file, capsys, mode):
    path, spike, before = bars_file
    words = ["--bars", str(path), "--limit", "100", "--anomalies-only", *mode]
    assert script.main(words) == 0
    head, *rows, last = capsys.readouterr().out.strip().splitlines()
    assert head.split()[:2] == ["time", "return"]
    flagged = [row.split()[0] for row in rows]
    assert spike in flagged
    assert before not in flagged
    z = next(float(row.split()[3]) for row in rows if row.startswith(spike))
    assert z > 5.0
    assert last.startswith(f"flagged: {len(rows)} of 100 bars")
    assert len(rows) < 40


def test_all_bars_are_listed_unless_told_otherwise_and_a_higher_threshold_flags_fewer(
    script, bars_file, capsys
):
    path, *_ = bars_file
    counts = []
    for threshold in ("2", "6"):
        assert script.main(["--bars", str(path), "--limit", "100", "--threshold", threshold]) == 0
        out = capsys.readouterr().out.strip().splitlines()
        assert len(out) == 102
        counts.append(int(out[-1].split()[1]))
    assert counts[0] > counts[1] >= 1


def test_what_is_not_accepted_ends_with_one_line(script, tmp_path, capsys):
    assert script.main(["--threshold", "0.5"]) == 2
    assert "rising" in capsys.readouterr().err
    assert script.main(["--bars", str(tmp_path / "none.csv")]) == 2
    assert script.main(["--limit", "0"]) == 2
    few = market.simulate_market(jax.random.key(0), 120).bars
    market.write_bars(few, tmp_path / "few.csv")
    assert script.main(["--bars", str(tmp_path / "few.csv")]) == 2
    assert "rows of features" in capsys.readouterr().err
