"""Runs empyrical-reloaded's own tests of its statistics against this package's metrics.

empyrical goes into an environment of its own under the user's cache; its tests, which only the
source archive holds, beside it. Then its functions are rebound to ours, through adapters that
translate signs and units, and its `tests/test_stats.py` runs.

    python scripts/check_empyrical.py

Prints what passed, failed and was skipped, with the reason of every kind of skip. The exit status
is 0 if all that applies passed, 1 if one failed or too few ran, 2 if the environment or the archive
cannot be had.
"""

import argparse
import os
import pathlib
import re
import subprocess
import sys
import tarfile
import tempfile

from peers import environments

VERSION = "0.7.1"
WANTED = {"empyrical-reloaded": VERSION, "jax": "0.10.2"}
UNPINNED = ("chex", "pandas", "packaging", "pytest", "scipy")
HERE = pathlib.Path(__file__).resolve().parent
FEWEST = 400  # tests that must have passed
NEEDED = ("sharpe_ratio", "sortino_ratio", "max_drawdown", "annual_return", "omega_ratio", "alpha")


def ensure_environment(home: pathlib.Path) -> pathlib.Path:
    """Returns the Python of the environment in `home`, made where it is not what is wanted.

    Raises:
      EnvironmentFailure: if it cannot be made.
    """
    python = home / "env" / ("Scripts" if os.name == "nt" else "bin") / "python"
    names = [*WANTED, *UNPINNED]
    if environments.matches(environments.installed(python, names), WANTED):
        return python
    pins = [f"{package}=={version}" for package, version in WANTED.items()]
    print(f"installing {', '.join(pins)} into {home}", file=sys.stderr)
    run_or_fail([sys.executable, "-m", "venv", str(home / "env")])
    run_or_fail([str(python), "-m", "pip", "install", "--quiet", *pins, *UNPINNED])
    return python


def ensure_tests(home: pathlib.Path, python: pathlib.Path) -> pathlib.Path:
    """Returns the folder that holds `tests` of the source archive, downloaded where it does not.

    Raises:
      EnvironmentFailure: if the archive cannot be had.
    """
    folder = home / f"empyrical_reloaded-{VERSION}"
    if (folder / "tests" / "test_stats.py").is_file():
        return folder
    print(f"downloading the source archive of empyrical-reloaded {VERSION}", file=sys.stderr)
    with tempfile.TemporaryDirectory() as place:
        options = ["--quiet", "--no-deps", "--no-binary", "empyrical-reloaded", "--dest", place]
        pin = f"empyrical-reloaded=={VERSION}"
        run_or_fail([str(python), "-m", "pip", "download", *options, pin])
        with tarfile.open(pathlib.Path(place, f"{folder.name}.tar.gz")) as archive:
            # Its tests alone: beside them, its package would hide the installed one.
            names = (
                f"{folder.name}/tests/{name}" for name in ("__init__", "conftest", "test_stats")
            )
            members = [archive.getmember(f"{name}.py") for name in names]
            archive.extractall(home, members=members, filter="data")
    return folder


def run_or_fail(command: list[str]) -> None:
    """Runs a command; `EnvironmentFailure` with its last line where it fails."""
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        reason = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
        raise environments.EnvironmentFailure(f"`{' '.join(command[:4])} ...` failed: {reason}")


def run_suite(python: pathlib.Path, folder: pathlib.Path) -> str:
    """Runs the tests in the environment; returns what pytest printed."""
    paths = [str(HERE.parent), str(HERE / "peers"), str(folder)]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(paths), "JAX_PLATFORMS": "cpu"}
    environment.pop("PYTEST_ADDOPTS", None)
    command = [str(python), "-m", "pytest", "-q", "-rs", "--tb=short", "-p", "no:cacheprovider"]
    command += ["-p", "empyrical_rebind", f"--rootdir={folder}", "tests/test_stats.py"]
    done = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    return done.stdout + done.stderr


def verdict(text: str) -> tuple[bool, list[str]]:
    """Says whether a run counts as passed, and the lines about it.

    Args:
      text: what pytest printed.

    Returns:
      Whether all is well, and the lines: counts first, then a reason for each kind of skip.
    """
    found = re.findall(r"(\d+) (passed|failed|skipped|errors?)\b", text)
    counts = {word.removesuffix("s") if word == "errors" else word: int(n) for n, word in found}
    calls = {name: int(n) for name, n in re.findall(r"(\w+) called (\d+)", text)}
    failed = counts.get("failed", 0) + counts.get("error", 0)
    passed = counts.get("passed", 0)
    lines = [f"{passed} passed, {failed} failed, {counts.get('skipped', 0)} skipped"]
    skips: dict[str, int] = {}
    for number, reason in re.findall(r"^SKIPPED \[(\d+)\] [^\s]+: (.+)$", text, re.M):
        skips[reason] = skips.get(reason, 0) + int(number)
    lines += [f"  skipped {number}: {reason}" for reason, number in skips.items()]
    idle = [name for name in NEEDED if not calls.get(name)]
    if idle:
        lines.append(f"  never called: {', '.join(idle)}")
    return passed >= FEWEST and not failed and not idle, lines


def main(words: list[str] | None = None) -> int:
    """Runs the suite and prints what passed; returns the exit status."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--verbose", action="store_true", help="print what pytest says as well")
    arguments = parser.parse_args(words)
    home = environments.default_folder() / "empyrical"
    try:
        python = ensure_environment(home)
        folder = ensure_tests(home, python)
    except (environments.EnvironmentFailure, OSError, KeyError, tarfile.TarError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    text = run_suite(python, folder)
    is_well, lines = verdict(text)
    if arguments.verbose or not is_well:
        print(text)
    print(f"empyrical-reloaded {VERSION}: " + "\n".join(lines))
    return 0 if is_well else 1


if __name__ == "__main__":
    sys.exit(main())
