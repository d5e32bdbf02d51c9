"""Runs the whole path once: bars, fits, forecasts, tests, positions, and a page about them.

python scripts/run_experiment.py                       # NASDAQ, 1999-2018, ships with arch
python scripts/run_experiment.py --bars my_bars.csv    # your own
"""

import _thread
import argparse
import os
import pathlib
import signal
import sys
import threading
import types
from typing import Any, NoReturn

REFUSED = 2  # exit statuses, as shells have them
STATUSES: dict[int, int] = {signal.SIGINT: 130, signal.SIGTERM: 143}
RETRY_SECONDS = 0.02  # long enough to be out of the callback that dropped a `Stop`


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
    parser.add_argument(
        "--models",
        default="flow,score,energy",
        help="families of models, the flow first (default flow,score,energy)",
    )
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
    try:
        with Listener() as listener:
            return _run(options, listener)
    except (ValueError, OSError, FloatingPointError) as error:
        print("error:", " ".join(str(error).split()), file=sys.stderr)
        return REFUSED
    except Stop as stop:
        print("stopped: no run was written", file=sys.stderr)
        return stop.args[0]


def _run(options: dict[str, Any], listener: "Listener") -> int:
    """Runs with progress on the screen, and prints the short table."""
    # Imported late: the cache must be named before jax starts, and --help must be quick.
    from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

    from densityjax import experiment, report

    bar = Progress(TextColumn("{task.description:<34}"), BarColumn(), TimeElapsedColumn())
    tasks: dict[str, TaskID] = {}

    def tell(stage: str, share: float) -> None:
        listener.check()
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


class Listener:
    """Turns Ctrl-C and a polite kill into one `Stop`, wherever they arrive.

    Python drops what is raised inside some callbacks (of the garbage collector, say), so `Stop` is
    raised again until it arrives. Further signals are ignored, for it is being tidied up by then.
    """

    def __init__(self) -> None:
        self.status = 0
        self.is_dropped = False
        self._before: dict[int, Any] = {}

    def __enter__(self) -> "Listener":
        """Starts to listen, in the main thread alone, for signals are the main thread's."""
        if threading.current_thread() is threading.main_thread():
            self._before = {number: signal.signal(number, self._receive) for number in STATUSES}
            sys.unraisablehook, self._hook = self._dropped, sys.unraisablehook
        return self

    def __exit__(self, *error: object) -> None:
        """Stops listening."""
        if self._before:
            sys.unraisablehook = self._hook
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def check(self) -> None:
        """Raises `Stop` if it was dropped."""
        if self.is_dropped:
            self.is_dropped = False
            raise Stop(self.status)

    def _receive(self, number: int, frame: types.FrameType | None) -> None:
        if not self.status:
            self.status = STATUSES[number]
            raise Stop(self.status)
        self.check()

    def _dropped(self, unraisable: Any) -> None:
        if unraisable.exc_type is not Stop:
            return self._hook(unraisable)
        self.is_dropped = True
        threading.Timer(RETRY_SECONDS, _thread.interrupt_main).start()


if __name__ == "__main__":
    sys.exit(main())
