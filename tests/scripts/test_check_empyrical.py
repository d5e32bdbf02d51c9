"""The check against empyrical's own tests: what it reads and what it takes for a pass."""

import importlib
import pathlib
import sys

import pytest

SCRIPTS = pathlib.Path(__file__).parents[2] / "scripts"


@pytest.fixture
def suite(monkeypatch):
    monkeypatch.syspath_prepend(str(SCRIPTS))
    yield importlib.import_module("check_empyrical")
    for name in [each for each in sys.modules if each.split(".")[0] == "peers"]:
        del sys.modules[name]
    del sys.modules["check_empyrical"]


CALLED = "alpha, sharpe_ratio, sortino_ratio, max_drawdown, annual_return, omega_ratio".split(", ")
WELL = (
    ", ".join(f"{name} called 3" for name in CALLED)
    + "\nSKIPPED [3] tests/test_stats.py:358: no spread\nSKIPPED [9] tests/x.py: whole bars"
    + "\nSKIPPED [2] tests/y.py:2: no spread\n415 passed, 14 skipped in 5.87s\n"
)


@pytest.mark.parametrize(
    ("text", "is_well"),
    [
        (WELL, True),
        (WELL.replace("415 passed", "399 passed"), False),
        (WELL.replace("415 passed", "1 failed, 415 passed"), False),
        (WELL.replace("415 passed", "415 passed, 2 errors"), False),
        (WELL.replace("alpha called 3", "alpha called 0"), False),
        ("no tests ran", False),
    ],
)
def test_a_pass_needs_enough_tests_no_failure_and_calls_of_ours(suite, text, is_well):
    assert suite.verdict(text)[0] is is_well


def test_every_kind_of_skip_is_named_once_with_its_number(suite):
    _, lines = suite.verdict(WELL)
    assert lines == [
        "415 passed, 0 failed, 14 skipped",
        "  skipped 5: no spread",
        "  skipped 9: whole bars",
    ]


def test_an_environment_that_cannot_be_made_ends_in_one_line_and_status_two(
    suite, monkeypatch, capsys, tmp_path
):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(suite.sys, "executable", str(tmp_path / "no_python"))
    assert suite.main([]) == 2
    assert "error:" in capsys.readouterr().err


def test_a_failure_is_the_exit_status(suite, monkeypatch, capsys, tmp_path):
    monkeypatch.setattr(suite, "ensure_environment", lambda home: tmp_path)
    monkeypatch.setattr(suite, "ensure_tests", lambda home, python: tmp_path)
    monkeypatch.setattr(suite, "run_suite", lambda *args: WELL)
    assert suite.main([]) == 0
    assert "415 passed" in capsys.readouterr().out
    monkeypatch.setattr(suite, "run_suite", lambda *args: WELL + "1 failed")
    assert suite.main([]) == 1
