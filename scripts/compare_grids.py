"""Times grids of rules against vectorbt and a parallel loop of numba, on the CPU.

python scripts/compare_grids.py --out grids.json

The peers live in an environment of their own, made on first use. All run the same rule with the
same costs and figures, one after the other in rounds; ratios are those of neighbouring runs, so
that a busy minute of the machine falls on both. Total returns must agree before anything is timed.
"""

import argparse
import contextlib
import json
import pathlib
import sys
import tempfile
from typing import Any

import numpy as np
from peers import conductor, environments
from peers.command import num_threads
from timing.machine import setting

OURS, PEERS = "densityjax", ("numba", "vectorbt")
WORKER = pathlib.Path(__file__).resolve().parent / "peers" / "grid_peers.py"
AGREEMENT = 5e-3  # relative difference of final equities: float32 against float64, 1e4 bars
MOST_CELLS = 20_000_000  # bars times rules that vectorbt is given: it keeps arrays of them all


def compare(num_bars: int, num_rules: int, num_rounds: int, threads: int) -> dict[str, Any]:
    """Runs one size.

    Args:
      num_bars: bars of the market.
      num_rules: rules of the grid.
      num_rounds: rounds, each one run of every peer and one of ours before it.
      threads: threads of each worker.

    Returns:
      Sizes, nanoseconds per bar and rule, and the peers' times over ours.

    Raises:
      WorkerFailure: if a worker fails, or its total returns are not ours.
    """
    python = environments.ensure("vectorbt", environments.default_folder())
    peers = [name for name in PEERS if name == "numba" or num_bars * num_rules <= MOST_CELLS]
    commands = {OURS: [sys.executable, str(WORKER), OURS]}
    commands |= {name: [str(python), str(WORKER), name] for name in peers}
    with contextlib.ExitStack() as stack:
        folder = pathlib.Path(stack.enter_context(tempfile.TemporaryDirectory()))
        conductor.write_arrays(folder / "data.npz", _market(num_bars, num_rules))
        workers = {
            name: stack.enter_context(conductor.Worker(name, command, num_threads=threads))
            for name, command in commands.items()
        }
        for name, worker in workers.items():
            answer = str(folder / f"{name}.npy")
            worker.ask("prepare", {"data": str(folder / "data.npz"), "answer": answer})
        ours = np.load(folder / f"{OURS}.npy")
        for name in peers:
            gap = np.abs(np.load(folder / f"{name}.npy") - ours) / (1.0 + ours)
            if not gap.max() < AGREEMENT:
                raise conductor.WorkerFailure(f"{name}: total returns differ by {gap.max()}")
        timings = conductor.time_rounds(
            workers[OURS], {name: workers[name] for name in peers}, num_rounds
        )
        versions = {name: worker.ask("versions")["versions"] for name, worker in workers.items()}
    cells = num_bars * num_rules * 1e-9  # nanoseconds
    return {
        "num_bars": num_bars,
        "num_rules": num_rules,
        "threads": threads,
        "versions": versions,
        "nanoseconds": {
            name: conductor.spread([second / cells for second in seconds])
            for name, seconds in timings.seconds.items()
        },
        "over_ours": {name: conductor.spread(each) for name, each in timings.ratios.items()},
    }


def _market(num_bars: int, num_rules: int) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    close = 100.0 * np.exp(np.cumsum(0.005 * rng.standard_normal(num_bars)))
    thresholds = np.linspace(0.5, 3.0, num_rules)
    return {"close": close, "z": rng.standard_normal(num_bars), "thresholds": thresholds}


def main(words: list[str] | None = None) -> int:
    """Runs the comparison; returns the exit status."""
    parser = argparse.ArgumentParser(description="Times grids against vectorbt and numba.")
    parser.add_argument("--bars", type=int, default=8_760)
    parser.add_argument("--rules", type=int, action="append", help="default 1000 and 16384")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--out", metavar="FILE.json", help="write all numbers to this file")
    options = parser.parse_args(words)
    record: dict[str, Any] = {**setting(), "grids": []}
    try:
        for num_rules in options.rules or (1_000, 16_384):
            found = compare(options.bars, num_rules, options.rounds, num_threads())
            record["grids"].append(found)
            for name, each in found["nanoseconds"].items():
                ratio = found["over_ours"].get(name)
                text = "" if ratio is None else f", {ratio['median']:.2f} times ours"
                print(f"{num_rules} rules, {name}: {each['median']:.2f} ns a bar and rule{text}")
    except (environments.EnvironmentFailure, conductor.WorkerFailure) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    if options.out:
        pathlib.Path(options.out).write_text(json.dumps(record, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
