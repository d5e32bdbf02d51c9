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
    sizes = ["--rows", "512", "--epochs", "2", "--integral-rows", "200", "--levels", "4"]
    script.main(["--laws", "mixture", "--models", "dual", "--chains", "4000", *sizes])
    head, line, langevin, *steps = capsys.readouterr().out.strip().splitlines()
    assert head.split()[:5] == ["law", "model", "corr", "bias", "error"]
    law, model, *numbers = line.split()
    assert (law, model) == ("mixture", "dual")
    names = ["corr", "bias", "error", "score", "log_z", "se", "energy", "chance"]
    values = dict(zip([*names, "fit", "run", "draw"], numbers, strict=True))
    assert 0.3 < float(values["corr"]) < 1.0  # four steps: better than nothing, and no more
    assert float(values["error"]) > 0.1
    assert float(values["se"]) > 0.0
    assert float(values["energy"]) > 3.0 * float(values["chance"]) > 0.0
    *_, variance, _, error, _, expected = langevin.replace(",", "").split()
    assert float(variance) == pytest.approx(float(expected), abs=4.0 * float(error))
    assert float(expected) == pytest.approx(1.0, abs=0.02)
    assert len(steps) == len(script.PUBLISHED)
    for step in steps:
        found, published = step.split(": ")[1].split(", published ")
        assert float(found) == pytest.approx(float(published), rel=0.02)


def test_noise_adds_to_the_covariances_of_a_law(script):
    law = script.far_modes()
    rows = np.asarray(law.draw(0, 4_000), np.float64)
    square = np.array([4.0, 9.0])
    noisy = np.asarray(
        jax.vmap(law.noisy(square).sample)(jax.random.split(jax.random.key(1), 4_000)), np.float64
    )
    np.testing.assert_allclose(noisy.var(0), rows.var(0) + square, rtol=0.12)


def test_rows_of_the_law_are_at_the_distance_of_chance_and_a_shift_is_seen(script):
    law = script.far_modes()
    rows = np.asarray(law.draw(3, 600))
    near, chance = script.sample_distances(law, rows, np.ones(2))
    assert abs(near) < 5.0 * chance
    assert script.sample_distances(law, rows + 1.0, np.ones(2))[0] > 10.0 * chance


def test_market_states_are_finite_rows_of_a_market_of_their_own(script):
    first, second = (np.asarray(script.market_states().draw(seed, 150)) for seed in (0, 1))
    assert first.shape == second.shape == (150, 9)  # momentum_20 repeats return_20
    assert np.isfinite(first).all()
    assert not np.array_equal(first, second)
