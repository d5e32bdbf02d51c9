"""Runs the whole path once: bars, fits, forecasts, tests, positions, and a page about them.

python scripts/run_experiment.py                       # NASDAQ, 1999-2018, ships with arch
python scripts/run_experiment.py --bars my_bars.csv    # your own
"""

import argparse
import os
import pathlib
import signal
import sys
import threading
import types
from collections.abc import Callable
from typing import Any, NoReturn

REFUSED, INTERRUPTED, TERMINATED = 2, 130, 143  # exit statuses, as shells have them


class Parser(argparse.ArgumentParser):
    """A parser that refuses in one line."""

    def error(self, message: str) -> NoReturn:
        """Says what is wrong and exits with status 2."""
        self.exit(REFUSED, f"error: {message} (--help lists what is accepted)\n")


class Stop(BaseException):
    """Raised where a run is told to stop; holds the exit status."""


def parse(words: list[str]) -> argparse.Namespace:
    """Reads the command line."""
    parser = Parser(description="Runs the whole path once, from bars to a page about them.")
    source = parser.add_mutually_exclusive_group()
    source.add_argument("--dataset", default="nasdaq", help="nasdaq (default), sp500 or simulated")
    source.add_argument("--bars", metavar="FILE", help="CSV, CSV.gz or Parquet file of bars")
    parser.add_argument("--symbol", help="symbol to take from a file that holds several")
    parser.add_argument(
        "--repair", action="store_true", help="mend bars that are refused, and say how"
    )
    parser.add_argument("--models", default="flow", help="family of models: flow")
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
        "--state-features",
        default="flow",
        help="features of the density: flow (default), score or energy",
    )
    parser.add_argument(
        "--quick", action="store_true", help="small and rough: looks at the path only"
    )
    return parser.parse_args(words)


def main(words: list[str] | None = None) -> int:
    """Runs one experiment.

    Args:
      words: arguments of the command line; those of the process where None.

    Returns:
      The exit status: 0, or 2 with one line on what was refused, or 130 and 143 where the run
      was told to stop; then nothing is left behind.
    """
    options = vars(parse(sys.argv[1:] if words is None else words))
    cache = pathlib.Path(os.environ.get("XDG_CACHE_HOME", "~/.cache")).expanduser()
    os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(cache / "densityjax"))
    os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.2")
    received, restore = _listen()
    try:
        return _run(options, received)
    except (ValueError, OSError, FloatingPointError) as error:
        print("error:", " ".join(str(error).split()), file=sys.stderr)
        return REFUSED
    except Stop as stop:
        print("stopped: no run was written", file=sys.stderr)
        return stop.args[0]
    finally:
        restore()


def _run(options: dict[str, Any], received: list[int]) -> int:
    """Runs with progress on the screen, and prints the short table."""
    # Imported late: the cache must be named before jax starts, and --help must be quick.
    from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

    from densityjax import experiment, report

    bar = Progress(TextColumn("{task.description:<34}"), BarColumn(), TimeElapsedColumn())
    tasks: dict[str, TaskID] = {}

    def tell(stage: str, share: float) -> None:
        if received:  # a signal that arrived inside a callback of a library is not lost
            raise Stop(received[0])
        if stage not in tasks:
            for done in tasks.values():
                bar.update(done, completed=1.0)
            tasks[stage] = bar.add_task(stage, total=1.0)
        bar.update(tasks[stage], completed=share)

    with bar:
        folder = experiment.run(experiment.Arguments(**options), tell)
    print(report.summary_table(report.read_record(folder).metrics))
    print(f"\nreport: {folder / 'report.html'}")
    return 0


def _listen() -> tuple[list[int], Callable[[], None]]:
    """Turns Ctrl-C and a polite kill into `Stop`; returns what came, and how to stop listening."""
    received: list[int] = []
    statuses = {signal.SIGINT: INTERRUPTED, signal.SIGTERM: TERMINATED}

    def stop(number: int, frame: types.FrameType | None) -> None:
        received.append(statuses[signal.Signals(number)])
        raise Stop(received[0])

    if threading.current_thread() is not threading.main_thread():
        return received, lambda: None  # signals are the main thread's
    before = {number: signal.signal(number, stop) for number in statuses}

    def restore() -> None:
        for number, handler in before.items():
            signal.signal(number, handler)

    return received, restore


if __name__ == "__main__":
    sys.exit(main())
