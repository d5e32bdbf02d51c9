"""Tolerances live in numerics.py with a reason; no file names a registry or a machine's folder."""

import io
import pathlib
import re
import subprocess
import tokenize

import pytest

import densityjax
from densityjax import numerics

PACKAGE = pathlib.Path(densityjax.__file__).parent
ROOT = PACKAGE.parent
SMALL = 1e-3  # numbers at or below it are tolerances, floors or units: each needs a reason
SETTINGS = r"\s*(learning_rate|weight_decay): float = "  # of an optimiser, described under Args


def bare_small_numbers(text):
    """Returns the numbers of the lines with a small positive number and no comment."""
    tokens = list(tokenize.generate_tokens(io.StringIO(text).readline))
    commented = {token.start[0] for token in tokens if token.type == tokenize.COMMENT}
    found = []
    for token in tokens:
        if re.match(SETTINGS, token.line):
            continue
        if token.type != tokenize.NUMBER or not re.fullmatch(r"[\d._]+(e-?\d+)?", token.string):
            continue
        if 0 < float(token.string) <= SMALL and token.start[0] not in commented:
            found.append(token.start[0])
    return found


def package_files():
    return [path for path in sorted(PACKAGE.rglob("*.py")) if path.name != "numerics.py"]


def test_no_small_number_stands_in_the_package_without_a_reason():
    found = [
        f"{path.relative_to(ROOT)}:{line}"
        for path in package_files()
        for line in bare_small_numbers(path.read_text())
    ]
    assert not found


def constant_lines():
    lines = (PACKAGE / "numerics.py").read_text().splitlines()
    return [line for line in lines if re.match(r"[A-Z][A-Z0-9_]* *(:.*)?=", line)]


def test_every_constant_says_what_it_is_for():
    lines = constant_lines()
    assert len(lines) > 20
    silent = [line for line in lines if len(line.partition("#")[2].split()) < 3]
    assert not silent


def test_every_constant_is_a_number_that_someone_uses():
    names = [line.split("=")[0].split(":")[0].strip() for line in constant_lines()]
    assert all(isinstance(getattr(numerics, name), int | float) for name in names)
    used = " ".join(path.read_text() for path in package_files())
    unused = [name for name in names if not re.search(rf"\b{name}\b", used)]
    assert not unused


# In two pieces each, so that this file does not name them itself.
UNWANTED = [
    re.escape(one)
    for one in ("py" + "pi.org", "python" + "hosted.org", "ana" + "conda.org", "conda" + "-forge")
] + [rf"(?<![\w.:/-])/{one}/" for one in ("wo" + "rk", "tm" + "p", "ro" + "ot", "ho" + "me")]


def unwanted_lines(text):
    """Returns the numbers of the lines that name a package registry or somebody's folder."""
    pattern = re.compile("|".join(UNWANTED))
    return [number for number, line in enumerate(text.splitlines(), 1) if pattern.search(line)]


def tracked_texts():
    """Yields (path, text) of the text files of the checkout, by git where it is one."""
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True)
    if listed.returncode == 0 and listed.stdout:
        paths = [ROOT / name for name in listed.stdout.splitlines()]
    else:
        paths = [*PACKAGE.rglob("*.py"), *ROOT.glob("*.md"), *(ROOT / "tests").rglob("*.py")]
    for path in paths:
        if path.is_file() and path.suffix not in (".gz", ".parquet", ".png"):
            yield path, path.read_text(encoding="utf-8")


def test_no_line_names_a_package_registry_or_a_folder_of_one_machine():
    found = [
        f"{path.relative_to(ROOT)}:{line}"
        for path, text in tracked_texts()
        for line in unwanted_lines(text)
    ]
    assert not found


@pytest.mark.parametrize(
    "text", ["x = y + 1e-8", "x = max(y, 1e-12)", "f(eps=0.0001)", "SMALL = 1_0e-9"]
)
def test_a_planted_tolerance_is_caught(text):
    assert bare_small_numbers(text) == [1]


@pytest.mark.parametrize(
    "text", ["x = 1e-8  # of the mean: rounding", "x = 0.5", '"1e-8"', "x = 0"]
)
def test_a_number_with_a_reason_or_of_ordinary_size_passes(text):
    assert bare_small_numbers(text) == []


@pytest.mark.parametrize("text", ["from https://py" + "pi.org/simple", "open('/wo" + "rk/x')"])
def test_a_planted_host_or_folder_is_caught(text):
    assert unwanted_lines(text) == [1]
