"""Times what the library spends its time on: fits, densities, forecasts, grids, simulation.

python scripts/benchmark.py --out benchmark.json       # everything, at full size
python scripts/benchmark.py --quick --only grid        # one part, small, to look at the path
python scripts/benchmark.py --peers --out peers.json   # against other flow libraries, on the CPU

Compile time is the first call less the median one, with no compiled program kept from before. Run
times are taken in rounds, each round timing every case once, so that a busy minute of the machine
falls on all of them alike.
"""

import argparse
import json
import pathlib
import statistics
import sys
import time
from collections.abc import Callable
from typing import Any

import jax
import pandas as pd
from timing.cases import Case, cases
from timing.machine import load_average, setting


def measure(chosen: list[Case], repetitions: int) -> list[dict[str, Any]]:
    """Times all cases in rounds.

    Args:
      chosen: the cases.
      repetitions: rounds; the first call of each case, which compiles, is not one of them.

    Returns:
      One record per case, in seconds.
    """
    first = []
    for case in chosen:
        print(f"compiling: {case.name} ({case.size})", file=sys.stderr)
        first.append(_seconds(case.call))
    rounds = [[_seconds(case.call) for case in chosen] for _ in range(repetitions)]
    records = []
    for case, first_call, seconds in zip(chosen, first, zip(*rounds, strict=True), strict=True):
        median = statistics.median(seconds)
        records.append(
            {
                "name": case.name,
                "size": case.size,
                "compile_seconds": max(first_call - median, 0.0),
                "call_seconds": {"median": median, "min": min(seconds), "max": max(seconds)},
                "work_per_call": case.work,
                "unit": case.unit,
                "seconds_per_unit": median / case.work,
                "units_per_second": case.work / median,
            }
        )
    return records


def _seconds(call: Callable[[], Any]) -> float:
    begin = time.perf_counter()
    jax.block_until_ready(call())
    return time.perf_counter() - begin


def table(records: list[dict[str, Any]]) -> str:
    """Lays the records out as text, one line a case."""
    rows: list[tuple[str, ...]] = [
        ("case", "size", "compile", "call: median", "min", "max", "per unit", "units/s")
    ]
    for record in records:
        seconds = record["call_seconds"]
        times = (record["compile_seconds"], seconds["median"], seconds["min"], seconds["max"])
        per_unit = f"{_spell(record['seconds_per_unit'])}/{record['unit']}"
        rate = f"{record['units_per_second']:,.0f}"
        rows.append((record["name"], record["size"], *map(_spell, times), per_unit, rate))
    frame = pd.DataFrame(rows[1:], columns=list(rows[0]))
    return frame.to_string(index=False)


def _spell(seconds: float) -> str:
    """Writes a time with a unit that suits it."""
    for factor, unit in ((1.0, "s"), (1e3, "ms"), (1e6, "us")):
        if seconds * factor >= 1.0:
            return f"{seconds * factor:.3g} {unit}"
    return f"{seconds * 1e9:.3g} ns"


def main(words: list[str]) -> int:
    """Runs the benchmark; returns the exit status."""
    parser = argparse.ArgumentParser(description="Times fits, densities, forecasts and grids.")
    parser.add_argument("--out", metavar="FILE.json", help="write all numbers to this file")
    parser.add_argument("--quick", action="store_true", help="small sizes, three rounds")
    parser.add_argument(
        "--only", action="append", metavar="GROUP", help="or a peer; may be repeated"
    )
    parser.add_argument("--peers", action="store_true", help="instead against flow libraries")
    options = parser.parse_args(words)
    if options.peers:
        from peers import command  # beside this file, of use for this alone

        return command.run(setting(), names=options.only, quick=options.quick, out=options.out)
    jax.config.update("jax_enable_compilation_cache", False)  # else there is nothing to time
    on_accelerator = jax.default_backend() != "cpu"
    groups = cases(quick=options.quick, on_accelerator=on_accelerator)
    names = options.only or list(groups)
    if unknown := [name for name in names if name not in groups]:
        print(f"error: --only is {unknown[0]!r}: accepted are {', '.join(groups)}", file=sys.stderr)
        return 2
    record = setting()
    chosen = [case for name in names for case in groups[name]()]
    record["repetitions"] = 3 if options.quick else 11
    record["is_quick"] = options.quick
    record["results"] = measure(chosen, record["repetitions"])
    record["load_average_after"] = load_average()
    where = f"{record['device']} ({record['backend']}), host {record['cpu']}"
    print(f"{where}, jax {record['versions']['jax']}, commit {record['commit']}")
    print(table(record["results"]))
    if options.out:
        pathlib.Path(options.out).write_text(json.dumps(record, indent=2, allow_nan=False) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
