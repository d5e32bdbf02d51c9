import importlib.util
import os
import pathlib
import re
import subprocess
import sys

import pytest

HERE = pathlib.Path(__file__).parent
SPEC = importlib.util.find_spec("distrax")
pytestmark = pytest.mark.skipif(SPEC is None, reason="distrax is not installed")


def run_suite(name, *plugins):
    """Runs one test file of the installed distrax in its own process; returns (rc, counts, log)."""
    path = pathlib.Path(SPEC.submodule_search_locations[0], "_src", "bijectors", name)
    environment = os.environ | {
        "JAX_DISABLE_MOST_OPTIMIZATIONS": "True",
        "PYTHONPATH": os.pathsep.join([str(HERE), os.environ.get("PYTHONPATH", "")]),
    }
    environment.pop("PYTEST_ADDOPTS", None)
    # No configuration file: this project's options and warning filters are not distrax's.
    options = ["-c", os.devnull, f"--rootdir={path.parent}", "-q", "-p", "no:cacheprovider"]
    options += [part for plugin in plugins for part in ("-p", plugin)]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *options, str(path)],
        capture_output=True,
        text=True,
        env=environment,
        timeout=1800,
        check=False,
    )
    counts = {
        word: int(n) for n, word in re.findall(r"(\d+) (passed|failed|skipped|error)", done.stdout)
    }
    return done.returncode, counts, done.stdout[-3000:] + done.stderr[-3000:]


@pytest.mark.parametrize(
    ("name", "least_passed"),
    [("rational_quadratic_spline_test.py", 80), ("rational_quadratic_spline_float64_test.py", 80)],
)
def test_the_adapter_passes_the_suite_that_distrax_ships(name, least_passed):
    returncode, counts, log = run_suite(name, "rebind_distrax_spline")
    print(name, counts)
    assert returncode == 0, log
    assert counts["passed"] >= least_passed, log
    assert int(re.search(r"(\d+) adapters built", log)[1]) >= 80, log
    assert "failed" not in counts
    assert "error" not in counts
