"""Held-out conditional log density, log p(y | x), on tabular sets: ours against other libraries.

python scripts/score_tabular.py --data FOLDER --out tabular.json
python scripts/score_tabular.py --data FOLDER --splits 2 --set energy --epochs 20    # a look

FOLDER holds .npz files with X [N, C], y [N] and test_mask [N, S], a column a split. For every
split: y gets uniform noise as wide as its own resolution, so that a density exists; X and y are
standardised by the training rows; a fixed tenth of these are validation rows for early stopping.
All libraries see the same rows, run at most the same gradient steps with the same batch, and have
numbers of parameters within a tenth of each other. Scores are in nats, of y in its own unit.
"""

import argparse
import json
import pathlib
import statistics
import sys
import tempfile
from typing import Any, NamedTuple

import numpy as np
from peers import command, comparison, conductor, environments, tables

VALIDATION_SHARE = 0.1  # of the training rows
ROUNDING = 1e-9  # of the range of y: differences below are rounding of the file's decimals
MIN_EPOCHS = 20  # so that big sets, too, can stop early


class Split(NamedTuple):
    """Arrays of one split as workers take them, and what brings scores back to the unit of y.

    Attributes:
      arrays: x_PART [n, 1] (the standardised y) and context_PART [n, C] of train, validation, test.
      log_scale: natural log of the standard deviation of y that it was divided by.
    """

    arrays: dict[str, np.ndarray]
    log_scale: float


def resolution(y: np.ndarray) -> float:
    """Returns the smallest step between different values of y [N], in its unit.

    Raises:
      ValueError: if y has fewer than two different values.
    """
    steps = np.diff(np.unique(y))
    steps = steps[steps > ROUNDING * np.ptp(y)]
    if not steps.size:
        raise ValueError("y has one value alone: accepted are at least two")
    return float(steps.min())


def dequantise(rng: np.random.Generator, y: np.ndarray) -> np.ndarray:
    """Adds noise to y [N], uniform from half a resolution below zero to half of one above."""
    width = resolution(y)
    return y + rng.uniform(-0.5 * width, 0.5 * width, y.shape)


def split_rows(x: np.ndarray, y: np.ndarray, is_test: np.ndarray) -> Split:
    """Splits and standardises one set.

    Args:
      x: [N, C] inputs.
      y: [N] what is predicted, dequantised.
      is_test: [N] True for the test rows.

    Returns:
      The `Split`; location and scale are those of the rows not of the test. Density of y is that
      of the standardised y over the scale, so its log is less by `log_scale`.
    """
    fitted = np.flatnonzero(~is_test)
    shuffled = np.random.default_rng(0).permutation(fitted)
    num_validation = max(1, round(VALIDATION_SHARE * len(fitted)))
    parts = {
        "train": shuffled[num_validation:],
        "validation": shuffled[:num_validation],
        "test": np.flatnonzero(is_test),
    }
    spread = x[fitted].std(0)
    standard = (x - x[fitted].mean(0)) / np.where(spread > 0, spread, 1.0)
    scale = y[fitted].std()
    target = ((y - y[fitted].mean()) / scale)[:, None]
    arrays = {f"x_{part}": target[rows] for part, rows in parts.items()}
    arrays |= {f"context_{part}": standard[rows] for part, rows in parts.items()}
    return Split(arrays, float(np.log(scale)))


def budget(num_rows: int, *, num_steps: int, batch_size: int) -> dict[str, int]:
    """Returns epochs, batch and patience of a fit of about so many steps on so many rows."""
    per_epoch = -(-num_rows // min(batch_size, num_rows))
    epochs = max(MIN_EPOCHS, -(-num_steps // per_epoch))
    return {"num_epochs": epochs, "batch_size": batch_size, "patience": max(5, epochs // 4)}


def score_split(
    workers: dict[str, conductor.Worker],
    split: Split,
    path: pathlib.Path,
    *,
    seed: int,
    options: argparse.Namespace,
) -> dict[str, Any]:
    """Fits every library to one split; returns answers, scores in the unit of y, and failures."""
    conductor.write_arrays(path, split.arrays)
    context = split.arrays["context_train"]
    flow = comparison.flow_of(
        1, context_dim=context.shape[1], num_layers=options.layers, width=options.width
    )
    size = budget(len(context), num_steps=options.steps, batch_size=options.batch)
    if options.epochs is not None:
        size |= {"num_epochs": options.epochs, "patience": options.epochs}
    job = {"flow": flow, "seed": seed, "data": str(path), **size}
    job |= {"learning_rate": options.learning_rate}
    results, failed = comparison.fit_all(workers, job, matched_to=conductor.DEFAULT)
    for answer in results.values():
        answer["log_prob"] -= split.log_scale
    return {**size, "results": results, "failed": failed}


def score_set(
    workers: dict[str, conductor.Worker],
    file: pathlib.Path,
    path: pathlib.Path,
    options: argparse.Namespace,
) -> dict[str, Any]:
    """Fits every library to the splits of one file; returns a record of all scores."""
    with np.load(file) as data:
        x, y, test_mask = data["X"], data["y"].ravel(), data["test_mask"]
    noisy = dequantise(np.random.default_rng(0), y)
    splits = []
    for index in range(min(options.splits, test_mask.shape[1])):
        print(f"fitting: {file.stem}, split {index}", file=sys.stderr)
        split = split_rows(x, noisy, test_mask[:, index])
        splits.append(score_split(workers, split, path, seed=index, options=options))
    num_rows, num_inputs = x.shape
    record = {"set": file.stem, "num_rows": num_rows, "num_inputs": num_inputs}
    return {**record, "resolution": resolution(y), "splits": splits}


def summary(records: list[dict[str, Any]]) -> tuple[str, int]:
    """Lays the scores out and counts the sets where ours is at least as good as the best peer.

    Args:
      records: what `score_set` returned.

    Returns:
      A table as Markdown, and the count; ours there is the one as by default.
    """
    names = list(
        dict.fromkeys(name for each in records for s in each["splits"] for name in s["results"])
    )
    lines, count = [["set", "rows", "inputs", "resolution of y", *names, "ours less the best"]], 0
    for record in records:
        scores = {name: _scores(record, name) for name in names}
        wanted = len(record["splits"])
        cells = [tables.score_cell([*scores[name].values()], wanted) for name in names]
        rivals = [name for name in names if name in environments.PEERS and scores[name]]
        best = max(rivals, key=lambda name: statistics.fmean(scores[name].values()), default=None)
        difference = "-"
        if best is not None:
            ours = scores[conductor.DEFAULT]
            gaps = [ours[index] - score for index, score in scores[best].items()]
            count += statistics.fmean(gaps) >= 0.0
            difference = f"{tables.score_cell(gaps, wanted)} on {best}"
        sizes = [record["num_rows"], record["num_inputs"]]
        step = f"{record['resolution']:.6g}"
        lines.append([record["set"], *map(str, sizes), step, *cells, difference])
    return tables.markdown(lines), count


def _scores(record: dict[str, Any], name: str) -> dict[int, float]:
    """Returns split -> score, of the splits that did not fail."""
    results = enumerate(each["results"] for each in record["splits"])
    return {index: each[name]["log_prob"] for index, each in results if name in each}


def parsed(words: list[str]) -> argparse.Namespace:
    """Reads the arguments; what is not accepted ends the program with status 2."""
    parser = argparse.ArgumentParser(description="Scores log p(y | x) on tabular sets.")
    parser.add_argument("--data", metavar="FOLDER", required=True, help="of .npz: X, y, test_mask")
    parser.add_argument("--out", metavar="FILE.json", help="all scores, written after each set")
    parser.add_argument("--set", action="append", metavar="NAME", help="a file's name; repeatable")
    parser.add_argument("--peer", action="append", choices=[*environments.PEERS], help="repeatable")
    sizes = {"splits": 10, "steps": 1000, "batch": 256, "layers": 4, "width": 64}
    for name, default in sizes.items():
        parser.add_argument(f"--{name}", type=int, default=default, help=f"default {default}")
    rate = "at the start of every library's fits; default 0.003"
    parser.add_argument("--learning-rate", type=float, default=3e-3, metavar="RATE", help=rate)
    parser.add_argument("--epochs", type=int, help="in place of --steps, without early stopping")
    return parser.parse_args(words)


def _files(options: argparse.Namespace) -> list[pathlib.Path]:
    """Returns the files to score; raises ValueError where arguments are not accepted."""
    for name in ("splits", "steps", "batch", "layers", "width", "epochs"):
        value = getattr(options, name)
        if value is not None and value < 1:
            raise ValueError(f"--{name} is {value}: accepted is an integer of at least 1")
    if not options.learning_rate > 0.0:
        raise ValueError(f"--learning-rate is {options.learning_rate}: accepted is above 0")
    files = {file.stem: file for file in sorted(pathlib.Path(options.data).glob("*.npz"))}
    if not files:
        raise ValueError(f"--data is {options.data!r}: accepted is a folder of .npz files")
    names = options.set or list(files)
    if unknown := [name for name in names if name not in files]:
        raise ValueError(f"--set is {unknown[0]!r}: accepted are {', '.join(files)}")
    return [files[name] for name in names]


def main(words: list[str]) -> int:
    """Scores the sets; returns the exit status."""
    options = parsed(words)
    try:
        files = _files(options)
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    peers = options.peer or list(environments.PEERS)
    threads, records = command.num_threads(), []
    try:
        with (
            conductor.workers(peers, environments.default_folder(), num_threads=threads) as workers,
            tempfile.TemporaryDirectory() as scratch,
        ):
            versions = {name: each.ask("versions")["versions"] for name, each in workers.items()}
            head = {"arguments": vars(options), "versions_of": versions}
            for file in files:
                path = pathlib.Path(scratch) / "split.npz"
                records.append(score_set(workers, file, path, options))
                if options.out:
                    text = json.dumps({**head, "sets": records}, indent=2) + "\n"
                    pathlib.Path(options.out).write_text(text)
    except (environments.EnvironmentFailure, conductor.WorkerFailure) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    text, count = summary(records)
    print(f"{text}\n\nat least as good as the best peer: {count} of {len(records)} sets")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
