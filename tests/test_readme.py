"""The README's Python runs as it stands, block after block, and its links and commands exist."""

import pathlib
import re
import shlex

import numpy as np

ROOT = pathlib.Path(__file__).resolve().parents[1]
README = ROOT / "README.md"


def blocks(language):
    return re.findall(rf"^```{language}\n(.*?)^```$", README.read_text(), re.M | re.S)


def test_the_python_of_the_readme_runs_and_its_results_are_what_it_says(monkeypatch):
    """One test, so that the blocks run once: each goes on from the ones above it."""
    monkeypatch.chdir(ROOT)
    names = {"__name__": "readme"}
    for number, block in enumerate(blocks("python")):
        exec(compile(block, f"README.md, Python block {number}", "exec"), names)
    forecast, loss = names["forecast"], names["loss"]
    assert len(forecast) == len(loss) > 1000
    assert (loss > 0).all()
    assert (names["worst"] > loss).all()
    assert np.isfinite(forecast.log_prob(names["realised"])[:-1]).all()
    p_value = names["p_value"]
    assert p_value.shape == (len(names["now"]),)
    assert ((p_value > 0) & (p_value <= 1)).all()
    assert names["log_prob"].shape == (512,)
    assert names["score"].shape == names["draws"].shape == (512, 2)
    assert np.isfinite(names["score"]).all()
    result, best = names["result"], names["best"]
    assert result.num_trials == 400
    assert best.metrics.sharpe_ratio == np.nanmax(result.metrics.sharpe_ratio)
    assert names["luck"] > 0


def test_links_and_scripts_of_the_readme_exist():
    text = README.read_text()
    links = [link for link in re.findall(r"\]\(([^)]+)\)", text) if "://" not in link]
    scripts = re.findall(r"scripts/\w+\.py", text)
    assert links
    assert scripts
    missing = [name for name in {*links, *scripts} if not (ROOT / name).is_file()]
    assert not missing


def test_the_options_of_the_readme_are_those_of_the_scripts():
    """Every `python scripts/X.py --option` names an option that the script's parser defines."""
    lines = re.findall(r"python (scripts/\w+\.py)([^`\n#|]*)", README.read_text())
    assert lines
    for script, rest in lines:
        source = (ROOT / script).read_text()
        for word in shlex.split(rest):
            if word.startswith("--"):
                assert f'"{word}"' in source, f"{script} has no {word}"
