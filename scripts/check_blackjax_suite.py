"""Runs blackjax's own tests of MALA and of univariate sampling against this package's samplers.

blackjax goes into an environment of its own under the user's cache; its tests, which only the
source archive holds, beside it. Then its modules are rebound to ours and its tests run:

- its unit tests of MALA and of the overdamped Langevin step;
- its sampling tests of MALA: N(1, 2^2) in all variants, and a regression on a pytree;
- its protocol and kernel-compatibility tests of MALA;
- its univariate test on our Langevin, MALA and HMC, and its diagnostics as a twin of ours.

    python scripts/check_blackjax_suite.py

Prints a line per group with what passed and failed. The exit status is 0 if all passed, 1 if one
failed or ours was never called, 2 if the environment or the archive cannot be had.
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

VERSION = "1.7.1"
WANTED = {"blackjax": VERSION, "jax": "0.10.2"}
UNPINNED = ("chex", "pytest")
HERE = pathlib.Path(__file__).resolve().parent
# name: (files, what to select, fewest that must pass, what must have been called)
GROUPS = {
    "unit tests of MALA and Langevin": (
        ["tests/mcmc/test_mala.py"],
        "",
        16,
        ("mala.step", "langevin.step"),
    ),
    "sampling tests of MALA": (["tests/mcmc/test_sampling.py"], "test_mala", 5, ("mala.step",)),
    "protocol tests of MALA": (
        ["tests/test_api_protocols.py", "tests/smc/test_kernel_compatibility.py"],
        "mala",
        5,
        ("mala.step",),
    ),
    "our chains and diagnostics": (
        [str(HERE / "peers" / "blackjax_cases.py")],
        "test_our",
        11,
        ("mala.step",),
    ),
}


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
    folder = home / f"blackjax-{VERSION}"
    if (folder / "tests" / "mcmc" / "test_mala.py").is_file():
        return folder
    print(f"downloading the source archive of blackjax {VERSION}", file=sys.stderr)
    with tempfile.TemporaryDirectory() as place:
        options = ["--quiet", "--no-deps", "--no-binary", "blackjax", "--dest", place]
        run_or_fail([str(python), "-m", "pip", "download", *options, f"blackjax=={VERSION}"])
        with tarfile.open(pathlib.Path(place, f"blackjax-{VERSION}.tar.gz")) as archive:
            # Its tests alone: beside them, its package would hide the installed one.
            wanted = (f"{folder.name}/tests/", f"{folder.name}/pytest.ini")
            members = [each for each in archive.getmembers() if each.name.startswith(wanted)]
            archive.extractall(home, members=members, filter="data")
    return folder


def run_or_fail(command: list[str]) -> None:
    """Runs a command; `EnvironmentFailure` with its last line where it fails."""
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        lines = (done.stderr or done.stdout).strip().splitlines() or ["no reason given"]
        reason = next((line for line in reversed(lines) if "ERROR" in line), lines[-1])
        raise environments.EnvironmentFailure(f"`{' '.join(command[:4])} ...` failed: {reason}")


def counts_of(text: str) -> dict[str, int]:
    """Reads pytest's last line: how many passed, failed, were skipped or broke."""
    found = re.findall(r"(\d+) (passed|failed|skipped|errors?)\b", text)
    return {word.removesuffix("s") if word == "errors" else word: int(n) for n, word in found}


def calls_of(text: str) -> dict[str, int]:
    """Reads the plugin's line: how often each of ours was called."""
    return {name: int(n) for name, n in re.findall(r"([\w.]+) called (\d+)", text)}


def verdict(text: str, least: int, called: tuple[str, ...]) -> tuple[bool, str]:
    """Says whether a run counts as passed, and a line about it.

    Args:
      text: what pytest printed.
      least: fewest tests that must have passed.
      called: functions of ours that must have been called.

    Returns:
      Whether all is well, and the line.
    """
    counts, calls = counts_of(text), calls_of(text)
    failed = counts.get("failed", 0) + counts.get("error", 0)
    is_ours = all(calls.get(name, 0) > 0 for name in called)
    passed = counts.get("passed", 0)
    line = f"{passed} passed, {failed} failed, {counts.get('skipped', 0)} skipped"
    if not is_ours:
        line += ", and ours was not called"
    return passed >= least and not failed and is_ours, line


def run_group(python: pathlib.Path, folder: pathlib.Path, files: list[str], select: str) -> str:
    """Runs one group of tests in the environment; returns what pytest printed."""
    paths = [str(HERE.parent), str(HERE / "peers"), str(folder)]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(paths), "JAX_PLATFORMS": "cpu"}
    environment.pop("PYTEST_ADDOPTS", None)
    command = [str(python), "-m", "pytest", "-q", "-p", "no:cacheprovider"]
    command += ["-p", "blackjax_rebind", "-c", str(folder / "pytest.ini"), f"--rootdir={folder}"]
    command += [*files, *(["-k", select] if select else [])]
    done = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    return done.stdout + done.stderr


def main(words: list[str] | None = None) -> int:
    """Runs all groups and prints what passed; returns the exit status."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--verbose", action="store_true", help="print what pytest says as well")
    arguments = parser.parse_args(words)
    home = environments.default_folder() / "blackjax"
    try:
        python = ensure_environment(home)
        folder = ensure_tests(home, python)
    except (environments.EnvironmentFailure, OSError, tarfile.TarError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    is_well, total = True, 0
    for name, (files, select, least, called) in GROUPS.items():
        text = run_group(python, folder, files, select)
        passes, line = verdict(text, least, called)
        print(f"{name}: {line}{'' if passes else '  FAIL'}")
        if arguments.verbose or not passes:
            print(text)
        is_well, total = is_well and passes, total + counts_of(text).get("passed", 0)
    print(f"blackjax {VERSION}: {total} passed in all, {'as wanted' if is_well else 'NOT all'}")
    return 0 if is_well else 1


if __name__ == "__main__":
    sys.exit(main())
