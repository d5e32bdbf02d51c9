"""Times training steps and chains of a score network against a loop of torch, on the CPU.

python scripts/compare_scores.py --out scores.json

Torch lives in the environment of a peer, made on first use. Both have the same network, whose
scores must agree before anything is timed, and run one after the other in rounds; ratios are those
of neighbouring runs, so that a busy minute of the machine falls on both. Then, of this library
alone: draws by Heun's method, exact log densities, and the memory of a sampler by its steps.
"""

import argparse
import contextlib
import functools
import json
import pathlib
import sys
import tempfile
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from peers import conductor, environments
from peers.command import num_threads
from timing.machine import setting

OURS, PEER = "densityjax", "torch"
ENVIRONMENT = "nflows"  # the peer whose environment has torch
WORKER = pathlib.Path(__file__).resolve().parent / "peers" / "score_peers.py"
DIM, WIDTH, NUM_HIDDEN, NUM_FEATURES = 10, 128, 3, 9
BATCH, NUM_CHAINS = 256, 2_000
NUM_STEPS = {"train_step": 100, "langevin": 100}  # of one timed run
AGREEMENT = 1e-3  # largest difference of scores, of their largest size: float32 in another order


def compare(kind: str, num_rounds: int, threads: int) -> dict[str, Any]:
    """Times one kind of job.

    Args:
      kind: 'train_step' or 'langevin'.
      num_rounds: rounds, each one run of ours and one of torch.
      threads: threads of each worker.

    Returns:
      Seconds of one step of both, torch's time over ours, and versions.

    Raises:
      WorkerFailure: if a worker fails, or torch's scores are not ours.
    """
    python = environments.ensure(ENVIRONMENT, environments.default_folder())
    commands = {OURS: sys.executable, PEER: str(python)}
    steps = NUM_STEPS[kind]
    with contextlib.ExitStack() as stack:
        folder = pathlib.Path(stack.enter_context(tempfile.TemporaryDirectory()))
        rows = BATCH * steps if kind == "train_step" else NUM_CHAINS
        conductor.write_arrays(folder / "data.npz", network_and_rows(rows))
        workers = {
            name: stack.enter_context(
                conductor.Worker(name, [command, str(WORKER), name], num_threads=threads)
            )
            for name, command in commands.items()
        }
        job = {"kind": kind, "num_steps": steps, "num_hidden": NUM_HIDDEN}
        for name, worker in workers.items():
            files = {"data": str(folder / "data.npz"), "answer": str(folder / f"{name}.npy")}
            worker.ask("prepare", {**job, **files})
        ours, theirs = (np.load(folder / f"{name}.npy") for name in (OURS, PEER))
        gap = np.abs(theirs - ours).max() / np.abs(ours).max()
        if not gap < AGREEMENT:
            raise conductor.WorkerFailure(f"{PEER}: scores differ by {gap} of their size")
        timings = conductor.time_rounds(workers[OURS], {PEER: workers[PEER]}, num_rounds)
        versions = {name: worker.ask("versions")["versions"] for name, worker in workers.items()}
    return {
        "kind": kind,
        "seconds_a_step": {
            name: conductor.spread([second / steps for second in seconds])
            for name, seconds in timings.seconds.items()
        },
        "over_ours": conductor.spread(timings.ratios[PEER]),
        "versions": versions,
    }


def network_and_rows(num_rows: int) -> dict[str, np.ndarray]:
    """Returns rows, and kernels and biases of a random network, by the names of its layers."""
    rng = np.random.default_rng(0)
    sizes = [DIM + NUM_FEATURES, *(WIDTH,) * NUM_HIDDEN, DIM]
    names = [*(f"hidden_{i}" for i in range(NUM_HIDDEN)), "output"]
    arrays = {"x": rng.standard_normal((num_rows, DIM)), "test": rng.standard_normal((64, DIM))}
    for name, num_in, num_out in zip(names, sizes[:-1], sizes[1:], strict=True):
        arrays[f"{name}_kernel"] = rng.standard_normal((num_in, num_out)) / np.sqrt(num_in)
        arrays[f"{name}_bias"] = 0.1 * rng.standard_normal(num_out)
    return arrays


def alone(num_draws: int, num_points: int) -> dict[str, float]:
    """Times what torch has no counterpart of, and reads the memory of compiled samplers.

    Args:
      num_draws: draws by Heun's method, D = 10, 18 levels.
      num_points: points whose exact log density is taken, D = 20, a free score.

    Returns:
      Seconds of both, compilation apart, and bytes of temporary memory of samplers of 2,000 chains.
    """
    import jax

    from densityjax import models

    small, large = (
        models.score_model(dim, network="mlp", num_hidden=NUM_HIDDEN) for dim in (DIM, 20)
    )
    params = {}
    for model in (small, large):
        key = jax.random.key(model.config.dim)
        rows = jax.random.normal(key, (100, model.config.dim))
        params[model] = model.init(key, rows)
    keys = jax.random.split(jax.random.key(0), num_draws)
    draw = jax.jit(jax.vmap(functools.partial(heun_draw, small, 18), (None, 0)))
    points = jax.random.normal(jax.random.key(1), (num_points, 20))
    density = jax.jit(jax.vmap(functools.partial(models.flow_log_prob, large), (None, 0)))
    found = {
        "heun_seconds": best(lambda: draw(params[small], keys)),
        "log_prob_seconds": best(lambda: density(params[large], points)),
    }
    for levels in (18, 180):
        sampler = jax.jit(jax.vmap(functools.partial(heun_draw, small, levels), (None, 0)))
        memory = sampler.lower(params[small], keys[:NUM_CHAINS]).compile().memory_analysis()
        size = float("nan") if memory is None else float(memory.temp_size_in_bytes)
        found[f"temporary_bytes_{levels}_levels"] = size
    return found


def heun_draw(model: Any, num_levels: int, params: Any, key: Any) -> Any:
    """Draws one standardised example."""
    import jax

    from densityjax.samplers import reverse_diffusion, schedules

    sigmas = schedules.edm_levels(sigma_min=0.02, sigma_max=20.0, num_levels=num_levels)
    start_key, key = jax.random.split(key)
    start = reverse_diffusion.start(start_key, model.config.dim, 20.0)
    score_fn = functools.partial(model.standard_score, params)
    return reverse_diffusion.sample(key, score_fn, start, sigmas=sigmas).position


def best(call: Callable[[], Any], num_runs: int = 3) -> float:
    """Returns the least seconds of some runs, after one that compiles."""
    import jax

    taken = []
    for _ in range(num_runs + 1):
        begin = time.perf_counter()
        jax.block_until_ready(call())
        taken.append(time.perf_counter() - begin)
    return min(taken[1:])


def main(words: list[str] | None = None) -> int:
    """Runs the comparison; returns the exit status."""
    parser = argparse.ArgumentParser(description="Times score networks against torch.")
    parser.add_argument("--rounds", type=int, default=11)
    parser.add_argument("--draws", type=int, default=10_000)
    parser.add_argument("--points", type=int, default=1_000)
    parser.add_argument("--out", metavar="FILE.json", help="write all numbers to this file")
    options = parser.parse_args(words)
    record: dict[str, Any] = {**setting(), "compared": []}
    try:
        for kind in NUM_STEPS:
            found = compare(kind, options.rounds, num_threads())
            record["compared"].append(found)
            ratio = found["over_ours"]
            for name, each in found["seconds_a_step"].items():
                print(f"{kind}, {name}: {1e3 * each['median']:.3f} ms a step")
            quartiles = f"[{ratio['lower_quartile']:.2f}, {ratio['upper_quartile']:.2f}]"
            print(f"{kind}, {PEER} over ours: {ratio['median']:.2f} {quartiles}", flush=True)
    except (environments.EnvironmentFailure, conductor.WorkerFailure) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    record["alone"] = alone(options.draws, options.points)
    for name, value in record["alone"].items():
        print(f"{name}: {value:.4g}")
    if options.out:
        pathlib.Path(options.out).write_text(json.dumps(record, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
