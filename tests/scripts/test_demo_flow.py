"""The tours of the flow: they run offline, and say what they found."""

import importlib.util
import math
import pathlib

import pytest

from densityjax import estimators

BACKTEST = ["backtest", "--epochs", "12"]
# Bars and sizes of the tests of the pipeline: the programs of the fits are the same.
NUM_BARS = 4286
SMALL = {
    "num_members": 2,
    "num_hidden": 1,
    "num_bins": 4,
    "width": 8,
    "batch_size": 128,
    "learning_rate": 2e-3,
}
SCRIPT = pathlib.Path(__file__).parents[2] / "scripts" / "demo_flow.py"


@pytest.fixture(scope="module")
def script():
    spec = importlib.util.spec_from_file_location("demo_flow", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_flo_21_the_basic_tour_fits_the_law_and_finds_the_outlier(script, capsys):
    figures = script.basic(seed=0, num_epochs=25)
    truth, found = (figures[f"log density of the {who}, nats a row"] for who in ("law", "flow"))
    assert abs(truth - found) < 0.05
    assert figures["log density at (10, ..., 10)"] < figures["its 0.1 % quantile over test rows"]
    assert figures["mean |correlation| of the codes"] < 0.06  # of 2,000 rows: .02 by chance
    assert figures["correlation of draws (law .6)"] == pytest.approx(0.6, abs=0.1)
    assert "is an outlier" in capsys.readouterr().out


def test_cli_06_live_and_backtest_run_on_data_of_their_own(script, capsys, monkeypatch):
    assert script.NUM_BARS == {"live": 500, "backtest": 1000}
    monkeypatch.setitem(script.NUM_BARS, "backtest", NUM_BARS)
    for name in ("FlowDensity", "ReturnForecaster"):
        made = getattr(estimators, name)
        small = lambda made=made, **options: made(**options).set_params(**SMALL)  # noqa: E731
        monkeypatch.setattr(estimators, name, small)
    both = script.fit_and_read(script.parse(BACKTEST))  # one fit, which takes time, for both tours
    monkeypatch.setattr(script, "fit_and_read", lambda arguments: both)
    live = script.live(script.parse(["live", "--epochs", "12"]))
    assert 0.0 < live["P(return > 0)"] < 1.0
    assert 0.0 < live["value at risk, 95 %"] < live["expected shortfall, 95 %"]
    assert abs(live["position"]) <= 1.0
    assert "Reason: " in capsys.readouterr().out
    traded = script.backtest(script.parse(BACKTEST))
    assert traded["bars"] == 1226  # 30 % of 4,286 less the purge of 60
    assert all(math.isfinite(value) for value in traded.values())


def test_bad_words_are_refused(script, capsys, monkeypatch, tmp_path):
    with pytest.raises(SystemExit) as refused:
        script.parse(["fly"])
    assert refused.value.code == 2
    with pytest.raises(SystemExit) as refused:
        script.parse(["basic", "--bars", "my.csv"])
    assert refused.value.code == 2
    monkeypatch.setattr("sys.argv", ["demo_flow.py", "live", "--bars", str(tmp_path / "no.csv")])
    assert script.main() == 2
    assert "no such file" in capsys.readouterr().err
