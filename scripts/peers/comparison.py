"""What is measured of all libraries, and the table of it.

Every library builds the same flow, of rational-quadratic splines with identity tails and the same
bound: half couplings with perceptrons of ReLU, no linear mixing but a permutation, in one
dimension splines read off the context. `DIFFERENCES` lists what is left. Ours takes part a second
time as it is by default, which is more work a row.
"""

import pathlib
import sys
import tempfile
from typing import Any, NamedTuple

import numpy as np

from densityjax import numerics
from peers import conductor, toys

SAME = {"conditioner": "mlp", "activation": "relu", "mixing": "permutation", "tail": "none"}
DIFFERENCES = (
    "between layers: ours and nflows reverse the dimensions, zuko changes between even and odd "
    "ones, flowjax permutes at random",
    "in one dimension nflows has residual blocks of two matrices in place of hidden layers, and "
    "ours a second network for location and scale",
    "flowjax learns the slopes at the ends of the interval too, where the others fix them to one",
    "zuko bounds logits softly in place of least bin sizes",
    "train step: plain Adam; ours scans its steps in one compiled program, as its `fit` does, "
    "flowjax calls its own compiled step, torch runs eagerly",
    "threads: torch has one or all, whichever ran the job faster when it was warmed up",
    "fits: AdamW (1e-3, cosine to zero, decay 1e-5), gradient norm clipped at 1, for all; ours "
    "sets its standardisers (by default its tails too) from the rows, within the time of the fit",
    "ensemble: ours is vmapped in one program, the peers fit all members one after another; "
    "flowjax's members are built before the clock starts",
)


class TimedJob(NamedTuple):
    """One row of the table.

    Attributes:
      what: what is timed.
      size: its sizes in words.
      job: what the workers are told, but for the flow's options.
      data: arrays for them.
      work: units in one run.
      unit: what one unit is: 'step', 'row' or 'fit'.
      num_rounds: rounds of this job.
    """

    what: str
    size: str
    job: dict[str, Any]
    data: dict[str, np.ndarray]
    work: int
    unit: str
    num_rounds: int


def timed_jobs(*, quick: bool, num_rounds: int) -> list[TimedJob]:
    """Lists what is timed: train steps, densities, samples, the fit of an ensemble."""
    rng = np.random.default_rng(7)
    wide = flow_of(14, width=8 if quick else 128)
    num_rows = 200 if quick else 10_000
    words = f"dim 14, 4 layers, 8 bins, width {wide['width']}"
    jobs = []
    for batch_size, steps in ((32, 2),) if quick else ((256, 16), (2048, 4)):
        rows = rng.standard_normal((steps, batch_size, 14))
        job = {"kind": "train_step", "flow": wide}
        size = f"{words}, batch {batch_size}"
        jobs.append(TimedJob("train step", size, job, {"x": rows}, steps, "step", num_rounds))
    for kind in ("log_prob", "sample"):
        job = {"kind": kind, "flow": wide, "num_rows": num_rows}
        data = {"x": rng.standard_normal((num_rows, 14))}
        size = f"{words}, {num_rows:,} rows"
        jobs.append(TimedJob(kind, size, job, data, num_rows, "row", num_rounds))
    return [*jobs, _ensemble_job(rng, quick=quick, num_rounds=num_rounds)]


def _ensemble_job(rng: np.random.Generator, *, quick: bool, num_rounds: int) -> TimedJob:
    num_rows, members, epochs = (200, 2, 1) if quick else (20_000, 8, 2)
    context = rng.standard_normal((num_rows, 20))
    scale = np.exp(0.3 * context[:, :1])
    x = scale * rng.standard_t(5.0, (num_rows, 1))
    num_train = num_rows * 9 // 10
    data = {"x_train": x[:num_train], "context_train": context[:num_train]}
    data |= {"x_validation": x[num_train:], "context_validation": context[num_train:]}
    flow = flow_of(1, context_dim=20, num_layers=1, width=32, num_hidden=1)
    job = {"kind": "ensemble", "flow": flow, "num_members": members}
    job |= {"num_epochs": epochs, "batch_size": 256, "patience": epochs}
    size = f"{members} members, {num_rows:,} rows, context 20, {epochs} epochs, batch 256"
    rounds = max(1, num_rounds // 2)
    return TimedJob("fit of an ensemble", size, job, data, 1, "fit", rounds)


def flow_of(dim: int, **sizes: int) -> dict[str, Any]:
    """Describes a flow to the workers; sizes not named are those of the train step's."""
    flow = {"dim": dim, "context_dim": 0, "num_layers": 4, "num_bins": 8, "num_hidden": 2}
    return {**flow, "bound": numerics.SPLINE_BOUND, **sizes}


def time_job(
    timed: TimedJob, workers: dict[str, conductor.Worker], folder: pathlib.Path
) -> dict[str, Any]:
    """Prepares a job in all workers and times it in rounds; a peer that fails is left out."""
    path = folder / "data.npz"
    conductor.write_arrays(path, timed.data)
    facts, failed = {}, {}
    for name, worker in workers.items():
        print(f"preparing: {timed.what} ({timed.size}), {name}", file=sys.stderr)
        job = {**timed.job, "seed": 0, "data": str(path)}
        try:
            facts[name] = worker.ask("prepare", for_worker(name, job))
        except conductor.WorkerFailure as error:
            if name == conductor.OURS:
                raise
            failed[name] = str(error)
    peers = {name: workers[name] for name in facts if name != conductor.OURS}
    timings = conductor.time_rounds(workers[conductor.OURS], peers, timed.num_rounds)
    results = {}
    for name, seconds in timings.seconds.items():
        per_unit = conductor.spread([each / timed.work for each in seconds])
        results[name] = {**facts[name], "seconds_per_unit": per_unit}
        if name in timings.ratios:
            results[name]["ratio"] = conductor.spread(timings.ratios[name])
    record = {"what": timed.what, "size": timed.size, "unit": timed.unit}
    return {**record, "num_rounds": timed.num_rounds, "results": results, "failed": failed}


def for_worker(name: str, job: dict[str, Any]) -> dict[str, Any]:
    """Adds what ours is told beside the sizes; the peers read none of it."""
    options = SAME if name == conductor.OURS else {}
    return {**job, "flow": {**job["flow"], "options": options}}


def fit_toys(
    workers: dict[str, conductor.Worker], folder: pathlib.Path, *, quick: bool, num_seeds: int
) -> list[dict[str, Any]]:
    """Fits all libraries to the same rows of each toy; held-out log density in nats of the data.

    Args:
      workers: ours first, whose number of parameters the others come within a tenth of.
      folder: where data are put down.
      quick: few rows and epochs.
      num_seeds: draws of data and starts.

    Returns:
      One record per toy and seed.
    """
    train, validation, test, epochs = (200, 50, 200, 2) if quick else (5000, 1000, 20_000, 100)
    flow = flow_of(2, width=8 if quick else 64)
    budget = {"num_epochs": epochs, "batch_size": 256, "patience": max(epochs // 4, 1)}
    records = []
    for toy in toys.TOYS:
        for seed in range(num_seeds):
            print(f"fitting: {toy}, seed {seed}", file=sys.stderr)
            rows = toys.draw(toy, np.random.default_rng(seed), train + validation + test)
            centre, scale = rows[:train].mean(0), rows[:train].std(0)
            parts = np.split((rows - centre) / scale, [train, train + validation])
            names = ("x_train", "x_validation", "x_test")
            path = folder / "toy.npz"
            conductor.write_arrays(path, dict(zip(names, parts, strict=True)))
            job = {"flow": flow, "seed": seed, "data": str(path), **budget}
            results, failed = fit_all(workers, job, matched_to=conductor.OURS)
            for answer in results.values():
                answer["log_prob"] -= float(np.log(scale).sum())
            records.append({"toy": toy, "seed": seed, "results": results, "failed": failed})
    return records


def fit_all(
    workers: dict[str, conductor.Worker], job: dict[str, Any], *, matched_to: str
) -> tuple[dict[str, dict[str, Any]], dict[str, str]]:
    """Runs one fit in every worker; returns answers and failures by name.

    The one that parameters are matched to goes first, and its failure is raised.
    """
    results, failed = {}, {}
    for name in [matched_to, *(name for name in workers if name != matched_to)]:
        if results:
            job = {**job, "parameters": results[matched_to]["parameters"]}
        try:
            results[name] = workers[name].ask("fit", for_worker(name, job))
        except conductor.WorkerFailure as error:
            if name == matched_to:
                raise
            failed[name] = str(error)
    return results, failed


def compare(
    peers: list[str], folder: pathlib.Path, *, quick: bool, num_rounds: int, num_threads: int
) -> dict[str, Any]:
    """Runs the whole comparison.

    Args:
      peers: keys of `environments.PEERS`.
      folder: where their environments are, or are made.
      quick: small sizes.
      num_rounds: rounds of each timed job.
      num_threads: threads of each worker, as far as its library lets one say.

    Returns:
      A record for JSON: versions, what differs, timed rows, toys.
    """
    with (
        conductor.workers(peers, folder, num_threads=num_threads) as workers,
        tempfile.TemporaryDirectory() as scratch,
    ):
        place = pathlib.Path(scratch)
        versions = {name: each.ask("versions")["versions"] for name, each in workers.items()}
        jobs = timed_jobs(quick=quick, num_rounds=num_rounds)
        return {
            "versions_of": versions,
            "differences": DIFFERENCES,
            "num_threads": num_threads,
            "timed": [time_job(job, workers, place) for job in jobs],
            "toys": fit_toys(workers, place, quick=quick, num_seeds=1 if quick else 3),
        }
