"""The printed table of energy losses on known laws, small."""

import importlib.util
import pathlib

import numpy as np
import pytest

SCRIPT = pathlib.Path(__file__).parents[2] / "scripts" / "check_energy_models.py"


@pytest.fixture(scope="module")
def script():
    spec = importlib.util.spec_from_file_location("check_energy_models_script", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_table_has_a_line_per_law_and_method_with_numbers_that_were_measured(script, capsys):
    sizes = ["--rows", "1024", "--evaluations", "5e4", "--pool", "2000", "--proposals", "2000"]
    script.main(["--laws", "banana", "--methods", "nce", *sizes, "--repeats", "2"])
    head, line = capsys.readouterr().out.strip().splitlines()
    assert head.split()[:4] == ["law", "method", "corr", "+-"]
    law, method, *numbers = line.split()
    assert (law, method) == ("banana", "nce")
    names = ["corr", "corr_reach", "kl", "kl_reach", "error", "auroc", "rays", "ess", "seconds"]
    values = {name: float(number) for name, number in zip(names, numbers, strict=True)}
    assert 0.2 < values["corr"] < 1.0  # forty steps: better than nothing, and no more
    assert 0.05 < values["kl"] < 3.0
    assert 0.7 < values["auroc"] <= 1.0
    assert values["rays"] == 1.0
    assert 0.0 < values["ess"] <= 1.0


def test_every_method_has_its_cost(script):
    assert set(script.COST) == set(script.METHODS)


def test_the_area_is_the_share_of_pairs_in_order(script):
    rng = np.random.default_rng(0)
    score, is_positive = rng.standard_normal(60), rng.random(60) < 0.4
    pairs = score[is_positive][:, None] > score[~is_positive][None, :]
    assert script.auroc(score, is_positive) == pytest.approx(pairs.mean())
