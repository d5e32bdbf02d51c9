"""The loop of a worker: one flow library, told over JSON lines what to build and when to run.

A request is a line on standard input, its answer a line on standard output. A worker lives through
a whole comparison, so that building and compiling are outside of what `go` times:

    {"op": "versions"}             -> {"versions": {package: version}}
    {"op": "prepare", "job": job}  -> {"parameters": n, ...}, after one run that warms all up
    {"op": "go"}                   -> {"seconds": s} of one more run
    {"op": "fit", "job": job}      -> {"parameters", "steps", "best_epoch", "log_prob", "seconds"}

An exception becomes {"error": text}. A job names its data by the path of an .npz file. This file
needs numpy alone.
"""

import importlib.metadata
import json
import os
import sys
import time
from collections.abc import Callable
from typing import Any, Protocol

import numpy as np

LEARNING_RATE = 1e-3  # at the start, where a job names none; fits lower it to zero on a cosine
WEIGHT_DECAY = 1e-5
CLIP_NORM = 1.0  # of the gradient, in fits; the train step that is timed is plain Adam
MATCH = 0.1  # largest share by which numbers of parameters that are called equal may differ
EVALUATION_ROWS = 8192  # rows per evaluation: bounds memory, not the result
MAX_WIDTH = 4096  # where the search for a width gives up

Arrays = dict[str, np.ndarray]


class Library(Protocol):
    """A flow library as a worker sees it; a job is the dict that came, its data read."""

    @property
    def packages(self) -> tuple[str, ...]:
        """Packages whose versions matter."""
        ...

    def prepare(
        self, job: dict[str, Any], data: Arrays
    ) -> tuple[Callable[[], Any], dict[str, int]]:
        """Returns what runs the job once, all of it done on return, and facts: `parameters`."""
        ...

    def fit(self, job: dict[str, Any], data: Arrays) -> dict[str, Any]:
        """Fits with early stopping; returns the mean `log_prob` of the test rows, and more."""
        ...


def serve(library: Library) -> None:
    """Answers requests until standard input ends."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # whatever else is printed must not pass for an answer
    call: Callable[[], Any] | None = None
    for line in sys.stdin:
        try:
            request = json.loads(line)
            answer: dict[str, Any]
            if request["op"] == "versions":
                found = {name: importlib.metadata.version(name) for name in library.packages}
                answer = {"versions": found}
            elif request["op"] == "go":
                if call is None:
                    raise ValueError("op is 'go': accepted after 'prepare' alone")
                answer = {"seconds": seconds(call)}
            elif request["op"] == "prepare":
                job = request["job"]
                call, facts = library.prepare(job, _read(job))
                call()
                answer = dict(facts)
            elif request["op"] == "fit":
                job = request["job"]
                begin = time.perf_counter()
                answer = library.fit(job, _read(job))
                answer["seconds"] = time.perf_counter() - begin
            else:
                raise ValueError(
                    f"op is {request['op']!r}: accepted are versions, prepare, go, fit"
                )
        except Exception as error:  # the other side decides what an error is worth
            answer = {"error": f"{type(error).__name__}: {error}"}
        answers.write(json.dumps(answer) + "\n")
        answers.flush()


def epoch_batches(rng: np.random.Generator, num_rows: int, batch_size: int) -> np.ndarray:
    """Returns the row numbers of one epoch's steps, [S, B]; first rows fill up the last batch."""
    size = min(batch_size, num_rows)
    return np.resize(rng.permutation(num_rows), (-(-num_rows // size), size))


def num_steps(job: dict[str, Any], num_rows: int) -> int:
    """Returns the gradient steps of all epochs of a fit."""
    size = min(job["batch_size"], num_rows)
    return job["num_epochs"] * -(-num_rows // size)


def learning_rate(job: dict[str, Any]) -> float:
    """Returns the rate that a fit starts at."""
    return job.get("learning_rate", LEARNING_RATE)


def matched_width(count: Callable[[int], int], target: int | None, width: int) -> int:
    """Finds the width whose number of parameters is nearest to the one wanted.

    Args:
      count: (width) -> number of parameters, rising.
      target: the number wanted; None keeps `width`.
      width: the width without a target.

    Returns:
      The width, at least 1.

    Raises:
      ValueError: if no width comes within a tenth of the target.
    """
    if target is None:
        return width
    low, high = 1, 2
    while count(high) < target and high < MAX_WIDTH:
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if count(middle) < target else (low, middle)
    best = min((low, high), key=lambda each: abs(count(each) - target))
    if abs(count(best) - target) > MATCH * target:
        raise ValueError(f"parameters is {target}: the nearest there is, {count(best)}, is too far")
    return best


def _read(job: dict[str, Any]) -> Arrays:
    with np.load(job["data"]) as file:
        return {name: np.asarray(file[name], np.float32) for name in file.files}


def seconds(call: Callable[[], Any]) -> float:
    """Returns the wall time of one call."""
    begin = time.perf_counter()
    call()
    return time.perf_counter() - begin
