"""The comparison with other flow libraries: protocol, turns, matching, tables, no library."""

import importlib
import importlib.util
import pathlib
import sys

import numpy as np
import pytest

SCRIPTS = pathlib.Path(__file__).parents[2] / "scripts"

FAKE = """
import json, sys
name, log, *seconds = sys.argv[1:]
seconds = iter(map(float, seconds))
for line in sys.stdin:
    op = json.loads(line)["op"]
    with open(log, "a") as file:
        file.write(f"{name} {op}\\n")
    print(json.dumps({"seconds": next(seconds)} if op == "go" else {"parameters": 3}), flush=True)
"""

LIBRARY = """
import sys
sys.path.insert(0, sys.argv[1])
import worker_loop

class Fake:
    packages = ("numpy",)
    def prepare(self, job, data):
        if job["kind"] == "die":
            print("out of memory", file=sys.stderr)
            raise SystemExit(3)
        return (lambda: print("noise of a library")), {"parameters": int(data["x"].sum())}
    def fit(self, job, data):
        return {"log_prob": float(data["x"].mean()), "dtype": str(data["x"].dtype)}

worker_loop.serve(Fake())
"""


@pytest.fixture
def peers(monkeypatch):
    """Imports modules of the package by name, as the script beside it does."""
    monkeypatch.syspath_prepend(str(SCRIPTS))
    yield lambda name: importlib.import_module(f"peers.{name}")
    tops = ("peers", "worker_loop", "densityjax_worker")
    for name in [each for each in sys.modules if each.split(".")[0] in tops]:
        del sys.modules[name]


def write(path, text):
    path.write_text(text)
    return str(path)


def test_ours_runs_before_every_peer_and_a_ratio_is_of_neighbours(peers, tmp_path):
    conductor = peers("conductor")
    fake, log = write(tmp_path / "fake.py", FAKE), str(tmp_path / "log")

    def start(name, *seconds):
        command = [sys.executable, fake, name, log, *map(str, seconds)]
        return conductor.Worker(name, command, num_threads=1)

    with start("ours", 1, 2, 4, 8) as ours, start("a", 3, 20) as a, start("b", 5, 16) as b:
        timings = conductor.time_rounds(ours, {"a": a, "b": b}, 2)
    order = "ours a ours b ours a ours b".split()
    assert pathlib.Path(log).read_text().split("\n")[:-1] == [f"{name} go" for name in order]
    assert timings.ratios == {"a": [3.0, 5.0], "b": [2.5, 2.0]}
    assert timings.seconds == {"ours": [1, 2, 4, 8], "a": [3, 20], "b": [5, 16]}


def test_a_worker_answers_through_noise_and_errors_and_its_death_is_told(peers, tmp_path):
    conductor = peers("conductor")
    data = tmp_path / "data.npz"
    conductor.write_arrays(data, {"x": np.arange(4.0)})
    command = [sys.executable, write(tmp_path / "w.py", LIBRARY), str(SCRIPTS / "peers")]
    job = {"kind": "run", "data": str(data)}
    with conductor.Worker("fake", command, num_threads=1) as worker:
        with pytest.raises(conductor.WorkerFailure, match=r"fake: .*after 'prepare'"):
            worker.ask("go")
        assert worker.ask("versions")["versions"] == {"numpy": np.__version__}
        assert worker.ask("prepare", job)["parameters"] == 6
        assert worker.ask("go")["seconds"] > 0
        answer = worker.ask("fit", job)
        assert (answer["log_prob"], answer["dtype"]) == (1.5, "float32")
        with pytest.raises(conductor.WorkerFailure, match="FileNotFoundError"):
            worker.ask("fit", {**job, "data": "nowhere.npz"})
        with pytest.raises(conductor.WorkerFailure, match="fake: the worker ended: out of memory"):
            worker.ask("prepare", {**job, "kind": "die"})


def test_the_width_found_matches_parameters_within_a_tenth_or_says_so(peers):
    worker_loop = peers("worker_loop")

    def count(width):
        return 10 * width + width**2

    found = worker_loop.matched_width(count, 5000, 64)
    best = min(range(1, 200), key=lambda width: abs(count(width) - 5000))
    assert found == best
    assert worker_loop.matched_width(count, None, 64) == 64
    with pytest.raises(ValueError, match="too far"):
        worker_loop.matched_width(lambda width: 1000 * width, 1500, 64)


def test_an_epoch_shows_every_row_and_fills_the_last_batch_from_its_first(peers):
    worker_loop = peers("worker_loop")
    batches = worker_loop.epoch_batches(np.random.default_rng(0), 10, 4)
    assert batches.shape == (3, 4)
    assert sorted(batches.ravel()[:10]) == list(range(10))
    assert batches[2, 2:].tolist() == batches[0, :2].tolist()
    assert worker_loop.num_steps({"batch_size": 4, "num_epochs": 5}, 10) == 15
    assert worker_loop.epoch_batches(np.random.default_rng(0), 3, 4).shape == (1, 3)


def test_toys_have_the_moments_of_their_definitions(peers):
    toys = peers("toys")
    rng, num_rows = np.random.default_rng(0), 40_000
    moons = toys.draw("two moons", rng, num_rows)
    ring = toys.draw("8 gaussians", rng, num_rows)
    board = toys.draw("checkerboard", rng, num_rows)
    # x of the moons is cos(a) or 1 - cos(a): mean 1/2, variance 1/2 + 1/4, and the noise's.
    expected = [(moons, (0.5, 0.25), (0.76, None)), (ring, (0, 0), (8.25, 8.25))]
    expected.append((board, (0, 0), (16 / 3, 16 / 3)))
    for rows, means, variances in expected:
        error = 5 * rows.std(0) / num_rows**0.5
        assert (np.abs(rows.mean(0) - means) < error).all()
        for column, variance in zip(rows.T, variances, strict=True):
            squares = (column - column.mean()) ** 2
            if variance is not None:
                assert abs(squares.mean() - variance) < 5 * squares.std() / num_rows**0.5
    field = np.floor((board + 4.0) / 2.0)
    assert (field.sum(1) % 2 == 0).all()
    assert len(np.unique(field, axis=0)) == 8
    with pytest.raises(ValueError, match="'rings'"):
        toys.draw("rings", rng, 1)


def test_versions_match_but_for_the_mark_of_a_build(peers):
    environments = peers("environments")
    wanted = {"torch": "2.1"}
    assert environments.matches({"torch": "2.1+cpu", "numpy": "2.4"}, wanted)
    assert not environments.matches({"torch": "2.10", "numpy": "2.4"}, wanted)
    assert not environments.matches({"torch": "2.1", "numpy": None}, wanted)
    nowhere = pathlib.Path("no") / "python"
    assert environments.installed(nowhere, ["torch"]) == {"torch": None}
    here = environments.installed(pathlib.Path(sys.executable), ["numpy", "no-such-package"])
    assert here == {"numpy": np.__version__, "no-such-package": None}


def test_an_environment_that_cannot_be_made_fails_with_one_line(peers, tmp_path, monkeypatch):
    environments = peers("environments")
    blocked = tmp_path / "file"
    blocked.write_text("not a folder")
    with pytest.raises(environments.EnvironmentFailure) as caught:
        environments.ensure("zuko", blocked)
    assert str(caught.value).startswith("zuko: `python -m venv")
    assert "\n" not in str(caught.value)


def test_every_peer_has_a_worker_and_no_other_file_imports_its_packages(peers):
    names = set(peers("environments").PEERS)
    folder = SCRIPTS / "peers"
    workers = {file.name.removesuffix("_worker.py") for file in folder.glob("*_worker.py")}
    assert workers == names | {"densityjax"}
    packages = {*names, "torch", "equinox", "paramax"}
    package_files = [*(SCRIPTS.parent / "densityjax").rglob("*.py"), *SCRIPTS.glob("*.py")]
    for file in [*package_files, folder / "comparison.py", folder / "conductor.py"]:
        for line in file.read_text().splitlines():
            words = line.split()
            if words[:1] in (["import"], ["from"]):
                assert words[1].split(".")[0] not in packages, file


def test_timed_jobs_have_the_sizes_that_are_claimed(peers):
    jobs = {each.size: each for each in peers("comparison").timed_jobs(quick=False, num_rounds=11)}
    for batch, steps in ((256, 16), (2048, 4)):
        job = jobs[f"dim 14, 4 layers, 8 bins, width 128, batch {batch}"]
        assert job.data["x"].shape == (steps, batch, 14)
        assert (job.work, job.unit) == (steps, "step")
        sizes = {"num_layers": 4, "num_bins": 8, "width": 128, "num_hidden": 2}
        assert sizes.items() <= job.job["flow"].items()
    (ensemble,) = [each for each in jobs.values() if each.unit == "fit"]
    assert ensemble.job["num_members"] == 8
    assert len(ensemble.data["x_train"]) + len(ensemble.data["x_validation"]) == 20_000


def test_a_table_shows_the_ratio_with_its_quartiles_and_what_failed(peers):
    conductor, tables = peers("conductor"), peers("tables")
    spread = conductor.spread([3.0, 1.0, 2.0, 5.0, 4.0])
    assert spread == {"median": 3.0, "lower_quartile": 2.0, "upper_quartile": 4.0}
    result = {"seconds_per_unit": conductor.spread([0.25])}
    results = {"ours": result, "a": {**result, "ratio": spread}}
    record = {"what": "sample", "size": "2 rows", "unit": "row"}
    text = tables.timed_table([{**record, "results": results, "failed": {"b": "no"}}])
    assert text.splitlines() == [
        "| what | sizes | ours | a | b |",
        "|---|---|---|---|---|",
        "| sample | 2 rows | 4 rows/s | 4 rows/s, **3.00** (2.00 to 4.00) | failed |",
    ]
    assert tables.score_cell([1.0, 3.0], 3) == "2.0000 ± 1.0000, 1 failed"


def test_our_worker_trains_and_counts_parameters_and_matches_them(peers, tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(SCRIPTS / "peers"))
    own = importlib.import_module("densityjax_worker")
    comparison = peers("comparison")
    sizes = {"num_layers": 2, "num_bins": 3, "num_hidden": 1, "width": 4}
    flow = {**comparison.flow_of(2, **sizes), "options": comparison.SAME}
    rows = np.random.default_rng(0).standard_normal((2, 8, 2)).astype(np.float32)
    job = {"kind": "train_step", "flow": flow, "seed": 0}
    step, facts = own.Densityjax().prepare(job, {"x": rows})
    step()
    # Two layers, each a perceptron 1 -> 4 -> 3 * 3 - 1.
    assert facts == {"parameters": 2 * (1 * 4 + 4 + 4 * 8 + 8)}
    matched = own.build({"flow": flow, "parameters": 300}).config.width
    # At width w: 1 -> w -> 8.
    assert matched == min(range(1, 40), key=lambda w: abs(2 * (2 * w + 8 * w + 8) - 300))


def test_an_unknown_peer_ends_the_program_with_status_2_and_one_line(monkeypatch, capsys):
    monkeypatch.syspath_prepend(str(SCRIPTS))
    spec = importlib.util.spec_from_file_location("benchmark", SCRIPTS / "benchmark.py")
    benchmark = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(benchmark)
    assert benchmark.main(["--peers", "--only", "nothing"]) == 2
    error = capsys.readouterr().err
    assert error == "error: --only is 'nothing': accepted are nflows, zuko, flowjax\n"
