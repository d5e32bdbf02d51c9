"""Talks to workers, one process a library, and times them in turns.

A round runs ours, then a peer, then ours again, then the next peer, and so on: a machine that
grows slow for a minute is slow for both numbers of a ratio.
"""

import contextlib
import json
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from peers import environments

FOLDER = pathlib.Path(__file__).resolve().parent
OURS = "densityjax"  # with the layers that the peers have too
DEFAULT = "densityjax, as by default"  # with its own: residual networks, LU, Lambert-W tails


class WorkerFailure(RuntimeError):
    """A worker answered with an error, or died."""


class Worker:
    """One worker process; a context manager that ends it."""

    def __init__(self, name: str, command: list[str], *, num_threads: int) -> None:
        self.name = name
        self._log = tempfile.TemporaryFile("w+")  # kept for the last words of one that dies
        # The comparison is on the CPU, where torch's environments have to run.
        env = {**os.environ, "JAX_PLATFORMS": "cpu", "DENSITYJAX_THREADS": str(num_threads)}
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            env=env,
            text=True,
        )

    def ask(self, op: str, job: dict[str, Any] | None = None) -> dict[str, Any]:
        """Sends a request and waits for its answer; raises `WorkerFailure` where it is an error."""
        stdin, stdout = self._process.stdin, self._process.stdout
        if stdin is None or stdout is None:
            raise WorkerFailure(f"{self.name}: the worker has no pipes")
        request = {"op": op} if job is None else {"op": op, "job": job}
        line = ""
        with contextlib.suppress(BrokenPipeError):
            stdin.write(json.dumps(request) + "\n")
            stdin.flush()
            line = stdout.readline()
        if not line:
            raise WorkerFailure(f"{self.name}: the worker ended: {self._last_words()}")
        answer = json.loads(line)
        if "error" in answer:
            raise WorkerFailure(f"{self.name}: {answer['error']}")
        return answer

    def __enter__(self) -> "Worker":
        return self

    def __exit__(self, *_: object) -> None:
        if self._process.stdin is not None:
            with contextlib.suppress(BrokenPipeError):
                self._process.stdin.close()
        try:
            self._process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        if self._process.stdout is not None:
            self._process.stdout.close()
        self._log.close()

    def _last_words(self) -> str:
        self._process.wait()
        self._log.seek(0)
        lines = self._log.read().strip().splitlines()
        return lines[-1] if lines else f"exit status {self._process.returncode}"


@contextlib.contextmanager
def workers(
    names: list[str], folder: pathlib.Path, *, num_threads: int
) -> Iterator[dict[str, Worker]]:
    """Starts two workers of ours and those of the peers, each in its environment.

    Args:
      names: peers, keys of `environments.PEERS`.
      folder: where their environments are.
      num_threads: threads of each worker.

    Yields:
      Name -> `Worker`, ours first: `OURS`, `DEFAULT`, then the peers.
    """
    ours = [sys.executable, str(FOLDER / "densityjax_worker.py")]
    commands = {OURS: ours, DEFAULT: ours}
    for name in names:
        python = environments.ensure(name, folder)
        commands[name] = [str(python), str(FOLDER / f"{name}_worker.py")]
    with contextlib.ExitStack() as stack:
        yield {
            name: stack.enter_context(Worker(name, command, num_threads=num_threads))
            for name, command in commands.items()
        }


class Timings(NamedTuple):
    """What rounds of one job gave.

    Attributes:
      seconds: name -> seconds of each run; ours ran once before every run of a peer.
      ratios: peer -> its seconds over those of our run just before it, one a round.
    """

    seconds: dict[str, list[float]]
    ratios: dict[str, list[float]]


def time_rounds(ours: Worker, peers: dict[str, Worker], num_rounds: int) -> Timings:
    """Times prepared workers in turns: ours, a peer, ours, the next peer, and so on.

    Args:
      ours: our worker.
      peers: name -> worker.
      num_rounds: rounds, each one run of every peer.

    Returns:
      The `Timings`.
    """
    seconds: dict[str, list[float]] = {name: [] for name in (ours.name, *peers)}
    ratios: dict[str, list[float]] = {name: [] for name in peers}
    for _ in range(num_rounds):
        for name, peer in peers.items():
            mine = ours.ask("go")["seconds"]
            theirs = peer.ask("go")["seconds"]
            seconds[ours.name].append(mine)
            seconds[name].append(theirs)
            ratios[name].append(theirs / mine)
    return Timings(seconds, ratios)


def write_arrays(path: pathlib.Path, arrays: dict[str, np.ndarray]) -> None:
    """Puts down the data of a job, in float32, for all workers to read the same."""
    single = {name: array.astype(np.float32) for name, array in arrays.items()}
    np.savez(path, allow_pickle=False, **single)


def spread(values: list[float]) -> dict[str, float]:
    """Returns the median and the quartiles of at least one number."""
    if len(values) == 1:
        return dict.fromkeys(("median", "lower_quartile", "upper_quartile"), values[0])
    lower, median, upper = statistics.quantiles(values, n=4, method="inclusive")
    return {"median": median, "lower_quartile": lower, "upper_quartile": upper}
