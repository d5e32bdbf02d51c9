"""Detection of anomalies on tables with labels: densities of the library against plain detectors.

python scripts/score_anomalies.py FOLDER --out anomalies.json
python scripts/score_anomalies.py FOLDER --only baselines --only dual --seeds 2 --set thyroid

FOLDER holds .npz files with X [N, D] and y [N] (1 = anomaly), such as those of ADBench. The first
half of the ordinary rows in the order of the file trains; the rest and all anomalies are scored.
Columns are standardised by the training rows, and at most 50,000 rows are used. Sets of fewer than
1,000 rows are drawn with replacement up to 1,000 first, as the published tables do: then the same
rows train and are scored, and these sets are reported apart. Labels are read for the figures alone:
every model has one fixed configuration for all sets. Figures are means over seeds. Fits that the
file of --out has already are not made again, so that seeds and families can be added to it.
"""

import argparse
import json
import pathlib
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import numpy as np
from peers import tables
from sklearn.preprocessing import StandardScaler

from densityjax import training
from densityjax.estimators import EnergyDensity, FlowDensity, RBMDensity
from densityjax.evaluation import anomaly_baselines, anomaly_metrics
from densityjax.models import dual_score_loss, dual_score_model, map_rows
from densityjax.regimes import anomaly_scores

MOST_ROWS, LEAST_ROWS = 50_000, 1_000
BATCH = 256
DRAWS = 10_000  # bootstrap draws of sets
LINE = "knn"  # what every method is held against


class Table(NamedTuple):
    """One set, split and standardised.

    Attributes:
      train: [N, D] ordinary rows.
      test: [M, D] rows to score.
      labels: [M] 1 for anomalies.
    """

    train: np.ndarray
    test: np.ndarray
    labels: np.ndarray


def split_table(x: np.ndarray, y: np.ndarray, seed: int) -> Table:
    """Splits one set by the protocol above; the seed matters only where rows are drawn."""
    rng = np.random.default_rng(seed)
    if len(x) < LEAST_ROWS:
        rows = rng.choice(len(x), LEAST_ROWS, replace=True)
        x, y = x[rows], y[rows]
    elif len(x) > MOST_ROWS:
        rows = rng.choice(len(x), MOST_ROWS, replace=False)
        x, y = x[rows], y[rows]
    ordinary, strange = np.flatnonzero(y == 0), np.flatnonzero(y == 1)
    half = -(-len(ordinary) // 2)
    scored = np.concatenate([ordinary[half:], strange])
    scaler = StandardScaler().fit(x[ordinary[:half]])
    train, test = (np.asarray(scaler.transform(x[rows])) for rows in (ordinary[:half], scored))
    return Table(train, test, y[scored])


def varying(table: Table) -> Table:
    """Drops the columns that do not vary among the training rows: they have no density."""
    keep = np.ptp(table.train, axis=0) > 0
    return table._replace(train=table.train[:, keep], test=table.test[:, keep])


def score_baselines(table: Table, seed: int, options: argparse.Namespace) -> dict[str, np.ndarray]:
    """Scores the rows by every plain detector."""
    del options
    fitted = {
        name: anomaly_baselines.fit_detector(name, table.train, random_state=seed)
        for name in anomaly_baselines.DETECTORS
    }
    return {name: score(table.test) for name, score in fitted.items()}


def score_dual(table: Table, seed: int, options: argparse.Namespace) -> dict[str, np.ndarray]:
    """Fits a normalised energy at all noise levels; scores by its standardised energies.

    The net has three layers of 128, and takes all steps with a rate that falls to zero: no row is
    held out to stop on, and the last parameters count.
    """
    table = varying(table)
    rows, num_rows = table.train.astype(np.float32), len(table.train)
    model = dual_score_model(rows.shape[1], network="mlp", width=128, num_hidden=3)
    loss = dual_score_loss(model)
    init_key, fit_key = jax.random.split(jax.random.key(seed))
    epochs = max(1, round(options.steps / -(-num_rows // min(BATCH, num_rows))))
    result = training.fit(
        fit_key,
        loss.loss_fn,
        model.init(init_key, rows),
        rows,
        validation=rows[:1],  # unused: a fit wants some, and more would take time
        optimizer=training.adamw(
            num_steps=epochs * -(-num_rows // min(BATCH, num_rows)), learning_rate=2e-3
        ),
        num_epochs=epochs,
        batch_size=BATCH,
        patience=epochs,
        chunk_epochs=epochs,
    )
    levels = np.log(np.asarray(anomaly_scores.SIGMAS, np.float32))
    shared = (result.state.params, levels)
    energies = _energies(model)
    scale = anomaly_scores.fit_scale(map_rows(energies, rows, shared=shared))
    energy = map_rows(energies, table.test.astype(np.float32), shared=shared)
    found = {
        f"dual {how}-z": np.asarray(anomaly_scores.aggregate(energy, scale, how=how))
        for how in anomaly_scores.AGGREGATES
    }
    singles = zip(anomaly_scores.SIGMAS, energy.T, strict=True)
    return found | {f"dual sigma={sigma:g}": each for sigma, each in singles}


def _energies(model: Any) -> Callable:
    """Returns (params, log levels [S], x [D]) -> [S] energies."""

    def energies(params: Any, levels: jax.Array, x: jax.Array) -> jax.Array:
        return jax.vmap(lambda level: model.energy(params, x, level))(levels)

    return energies


def density_scores(build: Callable[[int], Any], name: str) -> Callable:
    """Returns a scorer by minus the log density of an estimator built from a seed.

    The rows learnt from calibrate p-values too: none is asked for, and no row is lost to them.
    """

    def score(table: Table, seed: int, options: argparse.Namespace) -> dict[str, np.ndarray]:
        del options
        table = varying(table)
        density = build(seed).fit(table.train, calibration=table.train)
        return {name: -density.score_samples(table.test)}

    return score


FAMILIES: dict[str, Callable] = {
    "baselines": score_baselines,
    "dual": score_dual,
    "flow": density_scores(lambda seed: FlowDensity(random_state=seed), "flow"),
    "energy": density_scores(lambda seed: EnergyDensity(random_state=seed), "energy"),
    "rbm": density_scores(lambda seed: RBMDensity(random_state=seed), "rbm"),
}


def score_family(
    family: str, table: Table, seed: int, options: argparse.Namespace
) -> dict[str, dict[str, Any]]:
    """Returns the figures of each method of a family; a failed fit says why."""
    start = time.perf_counter()
    try:
        scores = FAMILIES[family](table, seed, options)
    except (ValueError, FloatingPointError) as error:
        return {family: {"failed": str(error)}}
    seconds = time.perf_counter() - start
    found = {}
    for name, values in scores.items():
        num_bad = int(np.isnan(values).sum())  # a row without a density is the strangest of all
        figures = anomaly_metrics.anomaly_score(
            table.labels, np.where(np.isnan(values), np.inf, values)
        )
        found[name] = {**figures._asdict(), "num_nan": num_bad, "seconds": seconds}
    return found


def by_seed(record: dict[str, Any], figure: str) -> dict[str, dict[str, float]]:
    """Returns method -> seed -> a figure of one set; a fit that failed has none."""
    values: dict[str, dict[str, float]] = {}
    for seed, families in record["results"].items():
        for methods in families.values():
            for name, figures in methods.items():
                if figure in figures:
                    values.setdefault(name, {})[seed] = figures[figure]
    return values


def means(record: dict[str, Any], figure: str) -> dict[str, float]:
    """Returns the mean of a figure over the seeds of one set, for each method."""
    return {name: float(np.mean([*v.values()])) for name, v in by_seed(record, figure).items()}


def paired_difference(ours: np.ndarray, theirs: np.ndarray) -> tuple[float, float, float]:
    """Returns the mean difference over sets, and the ends of its 95 % bootstrap interval."""
    gaps = ours - theirs
    drawn = np.random.default_rng(0).integers(0, len(gaps), (DRAWS, len(gaps)))
    low, high = np.quantile(gaps[drawn].mean(axis=1), [0.025, 0.975])
    return float(gaps.mean()), float(low), float(high)


def summary(records: list[dict[str, Any]]) -> str:
    """Lays out both figures by set, their means, and each method's difference to the line."""
    parts = []
    for figure, title in (("auroc", "AUROC"), ("average_precision", "AUPRC")):
        by_set = {each["set"]: means(each, figure) for each in records}
        names = [n for n in dict.fromkeys(n for v in by_set.values() for n in v) if "=" not in n]
        lines = [[f"{title}, %", "rows", "columns", "prevalence", *names]]
        for each in records:
            star = "*" if each["is_bootstrapped"] else ""
            prevalence = next(iter(means(each, "prevalence").values()))
            cells = [_percent(by_set[each["set"]].get(name)) for name in names]
            sizes = [str(each["num_rows"]), str(each["num_columns"]), _percent(prevalence)]
            lines.append([each["set"] + star, *sizes, *cells])
        for label, chosen in _groups(records):
            cells = [_percent(_mean_over(by_set, chosen, name)) for name in names]
            lines.append([f"mean, {label}", "", "", "", *cells])
        parts += [tables.markdown(lines), _against_line(records, figure, title)]
    return "\n\n".join(parts)


def _groups(records: list[dict[str, Any]]) -> list[tuple[str, list[str]]]:
    """Returns labels and sets of the groups that are not empty: all, plain and drawn ones."""
    drawn = [each["set"] for each in records if each["is_bootstrapped"]]
    plain = [each["set"] for each in records if not each["is_bootstrapped"]]
    groups = [(f"all {len(records)}", [each["set"] for each in records])]
    if drawn and plain:
        groups += [(f"{len(plain)} plain", plain), (f"{len(drawn)} with repeated rows*", drawn)]
    return groups


def _mean_over(by_set: dict[str, dict], chosen: list[str], name: str) -> float | None:
    values = [by_set[each].get(name) for each in chosen]
    return None if None in values else float(np.mean(np.asarray(values, float)))


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{100 * value:.2f}"


def _against_line(records: list[dict[str, Any]], figure: str, title: str) -> str:
    """Lays out paired differences to the line, over sets and seeds that both have."""
    head = [f"{title} less that of {LINE}, points", "sets", "mean [95 % over sets]", "median"]
    lines = [[*head, "won", f"sets where {LINE} wins"]]
    values = {each["set"]: by_seed(each, figure) for each in records}
    names = dict.fromkeys(name for each in values.values() for name in each if "=" not in name)
    for name in names:
        for label, chosen in _groups(records):
            gaps = {s: _gap(values[s], name) for s in chosen if _shared(values[s], name)}
            if name == LINE or not gaps:
                continue
            gap = np.array([*gaps.values()])
            mean, low, high = paired_difference(gap, np.zeros_like(gap))
            lost = ", ".join(s for s, each in gaps.items() if each < 0) or "-"
            cells = [f"{mean:+.2f} [{low:+.2f}, {high:+.2f}]", f"{np.median(gap):+.2f}"]
            won = f"{int(np.sum(gap > 0))} of {len(gap)}"
            lines.append([f"{name}, {label}", str(len(gap)), *cells, won, lost])
    return tables.markdown(lines)


def _shared(values: dict[str, dict[str, float]], name: str) -> list[str]:
    """Returns the seeds that a method and the line both have: the same rows, drawn or not."""
    line = values.get(LINE, {})
    return [seed for seed in values.get(name, {}) if seed in line]


def _gap(values: dict[str, dict[str, float]], name: str) -> float:
    """Returns the mean difference of a method to the line over the seeds of both, in points."""
    shared = _shared(values, name)
    return 100.0 * float(np.mean([values[name][s] - values[LINE][s] for s in shared]))


def parsed(words: list[str]) -> argparse.Namespace:
    """Reads the arguments; what is not accepted ends the program with status 2."""
    parser = argparse.ArgumentParser(description="Scores detectors of anomalies on labelled sets.")
    parser.add_argument("folder", metavar="FOLDER", help="of .npz files: X, y (1 = anomaly)")
    parser.add_argument("--out", metavar="FILE.json", help="all figures, written after each fit")
    parser.add_argument("--set", action="append", metavar="NAME", help="a file's name; repeatable")
    only = "repeatable; all where it is left out"
    parser.add_argument("--only", action="append", choices=[*FAMILIES], help=only)
    parser.add_argument("--seeds", type=int, default=5, help="repeats, default 5")
    parser.add_argument("--steps", type=int, default=3000, help="of the dual score, default 3000")
    return parser.parse_args(words)


def files_of(options: argparse.Namespace) -> dict[str, pathlib.Path]:
    """Returns the files by name; raises ValueError where arguments are not accepted."""
    for name in ("seeds", "steps"):
        if getattr(options, name) < 1:
            raise ValueError(f"--{name} is {getattr(options, name)}: accepted is at least 1")
    paths = sorted(pathlib.Path(options.folder).glob("*.npz"))
    files = {path.stem.lstrip("0123456789_"): path for path in paths}
    if not files:
        raise ValueError(f"FOLDER is {options.folder!r}: accepted is a folder of .npz files")
    if unknown := [name for name in options.set or [] if name not in files]:
        raise ValueError(f"--set is {unknown[0]!r}: accepted are {', '.join(files)}")
    return {name: files[name] for name in options.set or files}


def earlier(options: argparse.Namespace) -> dict[str, dict[str, Any]]:
    """Returns the records of the file of --out by set, if there is one of the same steps."""
    if not options.out or not pathlib.Path(options.out).exists():
        return {}
    found = json.loads(pathlib.Path(options.out).read_text())
    if found["steps"] != options.steps:
        raise ValueError(f"--out holds fits of {found['steps']} steps: accepted is another file")
    return {each["set"]: each for each in found["sets"]}


def score_set(
    record: dict[str, Any], x: np.ndarray, y: np.ndarray, options: argparse.Namespace
) -> Iterator[None]:
    """Adds the fits that a record lacks, and hands control back after each."""
    for seed in range(options.seeds):
        table, done = None, record["results"].setdefault(str(seed), {})
        for family in options.only or FAMILIES:
            if family in done and "failed" not in done[family].get(family, {}):
                continue
            table = split_table(x, y, seed) if table is None else table
            print(f"fitting: {record['set']}, seed {seed}, {family}", file=sys.stderr, flush=True)
            done[family] = score_family(family, table, seed, options)
            yield


def main(words: list[str]) -> int:
    """Scores the sets; returns the exit status."""
    options = parsed(words)
    try:
        files, records = files_of(options), earlier(options)
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    for name, path in files.items():
        with np.load(path) as data:
            x, y = np.asarray(data["X"], np.float64), np.asarray(data["y"]).ravel()
        sizes = {"num_rows": len(x), "num_columns": x.shape[1]}
        fresh = {"set": name, **sizes, "is_bootstrapped": len(x) < LEAST_ROWS, "results": {}}
        record = records.setdefault(name, fresh)
        for _ in score_set(record, x, y, options):
            if options.out:
                found = {"steps": options.steps, "sets": list(records.values())}
                pathlib.Path(options.out).write_text(json.dumps(found, indent=2) + "\n")
    print(summary(list(records.values())))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
