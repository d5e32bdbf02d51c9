"""The tours of the score: they run offline, refuse what is not trained, and say what they found."""

import importlib.util
import math
import pathlib

import jax
import numpy as np
import pytest
from sklearn.exceptions import NotFittedError

from densityjax.estimators import ReturnScore, ScoreDensity
from densityjax.market import simulate_market
from densityjax.strategies.score_reading import ScoreSettings

SMALL = ["--width", "8", "--num-layers", "1", "--epochs", "3"]
SCRIPT = pathlib.Path(__file__).parents[2] / "scripts" / "demo_score.py"


@pytest.fixture(scope="module")
def script():
    spec = importlib.util.spec_from_file_location("demo_score", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def saved(script, tmp_path_factory):
    """The folder and the figures of one backtest: its models serve the other tests."""
    folder = tmp_path_factory.mktemp("models")
    words = ["backtest", *SMALL, "--save", str(folder)]
    return folder, script.backtest(script.parse(words))


def test_cli_07_the_basic_tour_finds_the_score_and_e337_10_the_weights_of_far_modes(script, capsys):
    words = ["basic", "--width", "32", "--num-layers", "1", "--epochs", "60"]
    figures = script.basic(script.parse([*words, "--learning-rate", "0.005"]))
    assert figures["correlation of score and truth"] > 0.9
    assert figures["mean cosine of score and truth"] > 0.9
    # The largest level that was asked for, 1, would not hide how far apart the modes are.
    assert figures["largest noise level, sd"] > 3.0
    for mode, weight in enumerate(script.WEIGHTS):
        share = figures[f"share of draws at mode {mode} (law {weight:g})"]
        assert share == pytest.approx(weight, abs=0.1)
    assert "correlation" in capsys.readouterr().out


def test_cli_07_the_backtest_trades_after_the_fit_and_says_how_holding_did(script, saved, capsys):
    _, figures = saved
    assert figures["bars"] == 240  # 30 % of 1,000 less the purge of 60
    assert all(math.isfinite(value) for value in figures.values())
    assert 0.0 < figures["share of bars with a signal"] <= 1.0
    for what in ("total return", "Sharpe ratio", "maximum drawdown"):
        assert figures[f"{what}, score"] != figures[f"{what}, holding"]


def test_cli_07_live_reads_200_bars_with_the_trained_model_and_gives_its_reason(
    script, saved, capsys
):
    figures = script.live(script.parse(["live", *SMALL, "--model", str(saved[0])]))
    assert all(math.isfinite(value) for value in figures.values())
    assert np.sign(figures["score at zero, per sd"]) == figures["raw signal"]
    assert 0.0 <= figures["confidence"] <= 1.0
    assert abs(figures["position"]) <= 1.0
    out = capsys.readouterr().out
    assert "denoised" in out
    assert "Reason: " in out
    # Twenty steps of ascent move a state less than Tweedie's one, and the signal not at all.
    words = ["live", *SMALL, "--model", str(saved[0]), "--num-denoise-steps", "20"]
    assert script.live(script.parse(words)) == figures
    assert capsys.readouterr().out != out


def test_cli_07_a_model_that_is_not_trained_is_refused(script, tmp_path, capsys, monkeypatch):
    bars = simulate_market(jax.random.key(1), 200).bars
    with pytest.raises(NotFittedError):
        script.read(script.Models(ReturnScore(), ScoreDensity()), bars, ScoreSettings())
    monkeypatch.setattr("sys.argv", ["demo_score.py", "live", "--model", str(tmp_path)])
    assert script.main() == 2
    assert "ReturnScore.save" in capsys.readouterr().err
    with pytest.raises(SystemExit) as refused:
        script.parse(["live", "--epochs", "0"])
    assert refused.value.code == 2
    assert "not trained" in capsys.readouterr().err


def test_ec_10_min_confidence_and_lookback_change_what_is_decided(script, saved):
    models = script.load(str(saved[0]))
    bars = simulate_market(jax.random.key(0), 1000).bars.iloc[-200:]
    _, _, plain = script.read(models, bars, ScoreSettings())
    for change in ({"min_confidence": 0.9}, {"lookback": 40}):
        _, _, other = script.read(models, bars, ScoreSettings()._replace(**change))
        assert np.any(other.position_size != plain.position_size), change


def test_cli_08_help_prints_the_constants_and_each_can_be_given(script, capsys):
    with pytest.raises(SystemExit) as asked:
        script.parse(["--help"])
    assert asked.value.code == 0
    text = capsys.readouterr().out
    usual = ("10", "0.01", "1.0", "0.001", "128", "4", "0.3", "20")
    for name, value in zip(ScoreSettings._fields, usual, strict=False):
        described = text.split(f"  --{name.replace('_', '-')} ")[1]  # not in the usage line
        assert f"(default {value})" in described[:120]
    words = [f"--{name.replace('_', '-')}=2" for name in ScoreSettings._fields]
    assert set(script.parse(["basic", *words]).settings) == {2}


def test_bad_words_are_refused(script, capsys, monkeypatch, tmp_path):
    for words in (["fly"], ["basic", "--bars", "my.csv"], ["backtest", "--model", "here"]):
        with pytest.raises(SystemExit) as refused:
            script.parse(words)
        assert refused.value.code == 2
    monkeypatch.setattr("sys.argv", ["demo_score.py", "live", "--bars", str(tmp_path / "no.csv")])
    assert script.main() == 2
    assert "no such file" in capsys.readouterr().err
