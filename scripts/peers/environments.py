"""One virtual environment per peer, made once and kept while its versions are the wanted ones."""

import json
import os
import pathlib
import subprocess
import sys

PEERS: dict[str, dict[str, str]] = {
    "nflows": {"nflows": "0.14", "torch": "2.13.0"},
    "zuko": {"zuko": "1.6.0", "torch": "2.13.0"},
    "flowjax": {"flowjax": "19.1.2", "jax": "0.10.2"},
}
BACKTESTERS: dict[str, dict[str, str]] = {"vectorbt": {"vectorbt": "1.2.0", "numba": "0.68.1"}}
UNPINNED = ("numpy",)  # torch does without it, the workers do not

_ASK = """
import importlib.metadata, json, sys
found = {}
for name in sys.argv[1:]:
    try:
        found[name] = importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        found[name] = None
print(json.dumps(found))
"""


class EnvironmentFailure(RuntimeError):
    """An environment could not be made; the text says in one line which and why."""


def default_folder() -> pathlib.Path:
    """Returns where environments are kept: in the user's cache folder."""
    cache = os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache"
    return pathlib.Path(cache) / "densityjax" / "peers"


def ensure(name: str, folder: pathlib.Path) -> pathlib.Path:
    """Returns the Python of a peer's environment, made or mended where it has to be.

    Args:
      name: a key of `PEERS` or of `BACKTESTERS`.
      folder: where the environments are.

    Returns:
      Path of the interpreter.

    Raises:
      EnvironmentFailure: if the environment or what belongs in it cannot be had.
    """
    wanted, home = {**PEERS, **BACKTESTERS}[name], folder / name
    python = home / ("Scripts" if os.name == "nt" else "bin") / "python"
    if matches(installed(python, [*wanted, *UNPINNED]), wanted):
        return python
    pins = [f"{package}=={version}" for package, version in wanted.items()]
    print(f"{name}: installing {', '.join(pins)} into {home}", file=sys.stderr)
    _run(name, [sys.executable, "-m", "venv", str(home)])
    _run(name, [str(python), "-m", "pip", "install", "--quiet", *pins, *UNPINNED])
    found = installed(python, [*wanted, *UNPINNED])
    if not matches(found, wanted):
        raise EnvironmentFailure(f"{name}: {home} has {found}: accepted is {wanted}")
    return python


def installed(python: pathlib.Path, names: list[str]) -> dict[str, str | None]:
    """Asks an interpreter for versions of packages; all None where there is no interpreter."""
    command = [str(python), "-c", _ASK, *names]
    try:
        answer = subprocess.run(command, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return dict.fromkeys(names)
    return json.loads(answer.stdout)


def matches(found: dict[str, str | None], wanted: dict[str, str]) -> bool:
    """Says whether all is there in the wanted versions; a build's mark, as in 2.1+cpu, is free."""
    bare = {name: (version or "").split("+")[0] for name, version in found.items()}
    return all(bare.values()) and all(bare.get(name) == wanted[name] for name in wanted)


def _run(name: str, command: list[str]) -> None:
    try:
        subprocess.run(command, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError) as error:
        text = getattr(error, "stderr", None) or str(error)
        lines = [line for line in text.splitlines() if line.startswith("ERROR")]
        reason = (lines or text.strip().splitlines() or ["no reason given"])[-1]
        what = " ".join(command[1:4])
        raise EnvironmentFailure(f"{name}: `python {what}` failed: {reason}") from error
