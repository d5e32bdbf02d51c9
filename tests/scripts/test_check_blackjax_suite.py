"""The check against blackjax's own tests: what it reads and what it takes for a pass."""

import importlib
import pathlib
import sys

import pytest

SCRIPTS = pathlib.Path(__file__).parents[2] / "scripts"


@pytest.fixture
def suite(monkeypatch):
    monkeypatch.syspath_prepend(str(SCRIPTS))
    yield importlib.import_module("check_blackjax_suite")
    for name in [each for each in sys.modules if each.split(".")[0] in ("peers",)]:
        del sys.modules[name]
    del sys.modules["check_blackjax_suite"]


WELL = "mala.step called 12, langevin.step called 3\n17 passed, 2 skipped in 9.1s\n"


@pytest.mark.parametrize(
    ("text", "is_well"),
    [
        (WELL, True),
        (WELL.replace("17 passed", "15 passed"), False),
        (WELL.replace("17 passed", "1 failed, 17 passed"), False),
        (WELL.replace("17 passed", "17 passed, 1 error"), False),
        (WELL.replace("17 passed", "17 passed, 2 errors"), False),
        (WELL.replace("mala.step called 12", "mala.step called 0"), False),
        ("17 passed in 9.1s", False),
        ("no tests ran", False),
    ],
)
def test_a_pass_needs_enough_tests_no_failure_and_calls_of_ours(suite, text, is_well):
    assert suite.verdict(text, 16, ("mala.step", "langevin.step"))[0] is is_well


def test_the_line_says_what_passed_and_failed(suite):
    _, line = suite.verdict("mala.step called 1\n2 failed, 5 passed, 1 error", 5, ("mala.step",))
    assert line == "5 passed, 3 failed, 0 skipped"


def test_an_environment_that_cannot_be_made_ends_in_one_line_and_status_two(
    suite, monkeypatch, capsys, tmp_path
):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(suite.sys, "executable", str(tmp_path / "no_python"))
    assert suite.main([]) == 2
    assert "error:" in capsys.readouterr().err


def test_groups_run_to_the_end_and_their_failure_is_the_exit_status(
    suite, monkeypatch, capsys, tmp_path
):
    monkeypatch.setattr(suite, "ensure_environment", lambda home: tmp_path)
    monkeypatch.setattr(suite, "ensure_tests", lambda home, python: tmp_path)
    monkeypatch.setattr(suite, "run_group", lambda *args: WELL)
    assert suite.main([]) == 0
    monkeypatch.setattr(suite, "run_group", lambda *args: WELL.replace("17", "1 failed, 17"))
    assert suite.main([]) == 1
    assert capsys.readouterr().out.count("FAIL") == len(suite.GROUPS)
