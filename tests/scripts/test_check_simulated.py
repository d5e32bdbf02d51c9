"""The check against simulated truth, on one small market."""

import importlib.util
import json
import pathlib
import re
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


def market(gap, p_value=0.5, true_p_value=0.5):
    names = ("pit", "kupiec", "christoffersen")
    return {
        "log_score_true": 3.0,
        "log_score": 3.0 - gap,
        "p_values": dict.fromkeys(names, p_value),
        "true_p_values": dict.fromkeys(names, true_p_value),
    }


def failed(script, rows):
    criteria = script.verdict(rows, max_gap=0.02, max_worst_gap=0.03)
    return {each.name.split(",")[0] for each in criteria if not each.passes}


@pytest.mark.parametrize(
    ("gaps", "expected"),
    [
        ([0.0, 0.02, 0.01], set()),
        ([-0.01] * 3, set()),  # by chance the forecast scores above the truth
        ([0.0, 0.0, 0.031], {"worst gap"}),
        ([0.025, 0.025, 0.03], {"mean gap"}),
        ([0.1] * 3, {"mean gap", "worst gap"}),
        ([float("nan"), 0.0, 0.0], {"mean gap", "worst gap"}),
    ],
)
def test_gaps_fail_above_their_limits_alone(script, gaps, expected):
    assert failed(script, [market(gap) for gap in gaps]) == expected


def test_rejections_fail_where_the_rate_does_not_explain_them(script):
    good, bad = market(0.0), market(0.0, p_value=0.01)
    names = {f"{name} rejects the forecast" for name in ("pit", "kupiec", "christoffersen")}
    pooled = {"rejections of the forecast"}
    assert failed(script, [bad] * 3 + [good] * 17) == set()  # three times nominal exactly
    assert failed(script, [bad] * 4 + [good] * 16) == pooled
    assert failed(script, [bad] * 12 + [good] * 8) == names | pooled
    # A truth that is rejected so often says that the tests or the simulator are wrong.
    wrong = market(0.0, true_p_value=0.01)
    names = {name.replace("forecast", "truth") for name in names}
    assert failed(script, [wrong] * 7 + [good] * 13) == names
    # So does one that is never rejected, once there are markets enough to tell.
    assert failed(script, [good] * 20) == set()
    assert failed(script, [good] * 400) == names
    missing = market(0.0, p_value=float("nan"))
    assert len(failed(script, [missing] * 20)) == 4  # no answer of a test is no pass


def test_limits_leave_out_no_more_than_their_chance(script):
    rng = np.random.default_rng(0)
    for num_markets, rate in ((5, 0.05), (20, 0.15), (300, 0.05)):
        least, most = script.rejection_limits(num_markets, rate, 0.02)
        counts = (rng.random((100_000, num_markets)) < rate).sum(1)
        outside = (counts < least).mean(), (counts > most).mean()
        assert max(outside) < 0.01 + 3 * (0.01 / 100_000) ** 0.5
        assert (counts >= most).mean() > 0.01  # one less would leave out too many


@pytest.mark.parametrize(
    ("words", "match"),
    [
        (["--markets", "0"], "--markets is 0: accepted is at least 1"),
        (["--bars", "100"], "--bars is 100: accepted is at least 2000"),
        (["--first-key", "-1"], "--first-key is -1"),
        (["--max-gap", "nan"], "--max-gap is nan"),
        (["--max-worst-gap", "-0.1"], "--max-worst-gap is -0.1"),
        (["--out", "no/such/folder/table.json"], "--out is no"),
        (["--markets", "many"], "invalid int value"),
    ],
)
def test_arguments_that_are_not_accepted_exit_with_2(script, words, match, capsys):
    with pytest.raises(SystemExit) as caught:
        script.parse(words)
    assert caught.value.code == 2
    assert match in capsys.readouterr().err


def test_one_market_is_checked_and_written_and_the_limits_decide_the_status(
    script, tmp_path, monkeypatch, capsys
):
    words = ["--markets", "1", "--bars", "2500", "--out", str(tmp_path / "table.json")]
    loose = ["--max-gap", "0.2", "--max-worst-gap", "0.2"]  # few bars, so a loose band
    monkeypatch.setattr(sys, "argv", ["check_simulated.py", *words, *loose])
    assert script.main() == 0
    row = json.loads((tmp_path / "table.json").read_text())[0]
    assert row["log_score"] < row["log_score_true"]
    assert row["log_score"] > row["log_score_true"] - 0.2
    lines = capsys.readouterr().out.splitlines()
    judged = [line for line in lines if line.startswith(("pass", "(cannot fail)"))]
    assert len(judged) == 13
    assert sum(line.startswith("pass") for line in judged) == 3  # of one market: gaps and pooled
    monkeypatch.setattr(script, "check", lambda seed, num_bars: row)
    monkeypatch.setattr(sys, "argv", ["check_simulated.py", *words, "--max-gap", "0"])
    assert script.main() == 1
    assert re.search("FAIL +mean gap", capsys.readouterr().out)
