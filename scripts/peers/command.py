"""`benchmark.py --peers`: the whole comparison, printed as tables and written as JSON."""

import json
import os
import pathlib
import sys
from typing import Any

from peers import comparison, conductor, environments, tables

NUM_ROUNDS = 11  # odd, so that medians are measured numbers


def run(setting: dict[str, Any], *, names: list[str] | None, quick: bool, out: str | None) -> int:
    """Compares with peers on the CPU.

    Args:
      setting: what a record of numbers begins with: machine, versions, commit, time.
      names: peers, keys of `environments.PEERS`; None for all.
      quick: small sizes and two rounds.
      out: file for the JSON record, or None.

    Returns:
      The exit status: 2 for a peer that there is not, 1 where an environment or ours fails.
    """
    names = names or list(environments.PEERS)
    if unknown := [name for name in names if name not in environments.PEERS]:
        accepted = ", ".join(environments.PEERS)
        print(f"error: --only is {unknown[0]!r}: accepted are {accepted}", file=sys.stderr)
        return 2
    try:
        record = comparison.compare(
            names,
            environments.default_folder(),
            quick=quick,
            num_rounds=2 if quick else NUM_ROUNDS,
            num_threads=num_threads(),
        )
    except (environments.EnvironmentFailure, conductor.WorkerFailure) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    record = {**setting, "compared_on": "cpu", "is_quick": quick, **record}
    print(f"CPU {record['cpu']}, {record['num_threads']} threads, commit {record['commit']}")
    for name, versions in record["versions_of"].items():
        print(f"- {name}: {', '.join(f'{key} {value}' for key, value in versions.items())}")
    print("\nMedians; in bold the peer's time over ours, in brackets its quartiles over rounds.\n")
    print(tables.timed_table(record["timed"]))
    print("\nMean held-out log density, nats, ± its standard error over seeds.\n")
    print(tables.toy_table(record["toys"]))
    print("\nWhat differs:\n" + "\n".join(f"- {each}" for each in record["differences"]))
    for each in [*record["timed"], *record["toys"]]:
        for failure in each["failed"].values():
            print(f"failed: {each.get('what') or each['toy']}: {failure}", file=sys.stderr)
    if out:
        pathlib.Path(out).write_text(json.dumps(record, indent=2) + "\n")
    return 0


def num_threads() -> int:
    """Returns the cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
