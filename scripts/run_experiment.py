"""Runs the whole path once: bars, fits, forecasts, tests, positions, and a page about them.

python scripts/run_experiment.py                       # NASDAQ, 1999-2018, ships with arch
python scripts/run_experiment.py --bars my_bars.csv    # your own
"""

import argparse
import os
import pathlib
import sys


def parse(words: list[str]) -> argparse.Namespace:
    """Reads the command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    source = parser.add_mutually_exclusive_group()
    source.add_argument("--dataset", default="nasdaq", help="nasdaq (default), sp500 or simulated")
    source.add_argument("--bars", metavar="FILE", help="CSV, CSV.gz or Parquet file of bars")
    parser.add_argument("--symbol", help="symbol to take from a file that holds several")
    parser.add_argument(
        "--repair", action="store_true", help="mend bars that are refused, and say how"
    )
    parser.add_argument("--models", default="flow", help="model families, comma separated: flow")
    parser.add_argument(
        "--out", metavar="FOLDER", help="new folder of the run (default: under runs/)"
    )
    parser.add_argument(
        "--seed", type=int, default=0, help="seed of every random choice (default 0)"
    )
    parser.add_argument(
        "--fee-bps", type=float, default=5.0, help="fee in basis points (default 5)"
    )
    parser.add_argument(
        "--quick", action="store_true", help="small and rough: looks at the path only"
    )
    return parser.parse_args(words)


def main() -> int:
    """Runs one experiment; returns the exit status."""
    options = vars(parse(sys.argv[1:]))
    families = options.pop("models")
    if families != "flow":
        print(f"error: --models is {families!r}: accepted is flow", file=sys.stderr)
        return 2
    cache = pathlib.Path(os.environ.get("XDG_CACHE_HOME", "~/.cache")).expanduser()
    os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(cache / "densityjax"))
    os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.2")
    # Imported late: the cache must be named before jax starts, and --help must be quick.
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    from densityjax import experiment, report

    bar = Progress(
        TextColumn("{task.description:<34}"), BarColumn(), TimeElapsedColumn(), transient=False
    )
    tasks: dict[str, int] = {}

    def tell(stage: str, share: float) -> None:
        if stage not in tasks:
            for done in tasks.values():
                bar.update(done, completed=1.0)
            tasks[stage] = bar.add_task(stage, total=1.0)
        bar.update(tasks[stage], completed=share)

    try:
        with bar:
            folder = experiment.run(experiment.Arguments(**options), tell)
            tell("done", 1.0)
    except (ValueError, OSError, FloatingPointError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("interrupted; nothing was written", file=sys.stderr)
        return 130
    print(report.summary_table(report.read_record(folder).metrics))
    print(f"\nreport: {folder / 'report.html'}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
