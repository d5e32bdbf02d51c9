"""The printed table of score models on known laws, small."""

import importlib.util
import pathlib

import jax
import numpy as np
import pytest

SCRIPT = pathlib.Path(__file__).parents[2] / "scripts" / "check_score_models.py"


@pytest.fixture(scope="module")
def script():
    spec = importlib.util.spec_from_file_location("check_score_models_script", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_table_has_a_line_per_law_and_model_with_numbers_that_were_measured(script, capsys):
    sizes = ["--rows", "512", "--epochs", "2", "--integral-rows", "200"]
    script.main(["--laws", "mixture", "--models", "dual", *sizes])
    head, line = capsys.readouterr().out.strip().splitlines()
    assert head.split()[:5] == ["law", "model", "corr", "bias", "error"]
    law, model, *numbers = line.split()
    assert (law, model) == ("mixture", "dual")
    values = dict(
        zip(["corr", "bias", "error", "score", "log_z", "se", "fit", "run"], numbers, strict=True)
    )
    assert 0.3 < float(values["corr"]) < 1.0  # four steps: better than nothing, and no more
    assert float(values["error"]) > 0.1
    assert float(values["se"]) > 0.0


def test_noise_adds_to_the_covariances_of_a_law(script):
    law = script.far_modes()
    rows = np.asarray(script.draw(law, 0, 4_000), np.float64)
    square = np.array([4.0, 9.0])
    noisy = np.asarray(
        jax.vmap(law.noisy(square).sample)(jax.random.split(jax.random.key(1), 4_000)), np.float64
    )
    np.testing.assert_allclose(noisy.var(0), rows.var(0) + square, rtol=0.12)
