"""The command line: bad input in one line and status 2, odd input runs, signals leave nothing."""

import importlib.util
import json
import os
import pathlib
import shlex
import signal
import subprocess
import sys
import time

import numpy as np
import pandas as pd
import pytest

from densityjax import market
from densityjax.experiment import Arguments

SCRIPT = pathlib.Path(__file__).resolve().parents[2] / "scripts" / "run_experiment.py"
PRICES = ["open", "high", "low", "close"]
ROWS = 40


def load_script():
    spec = importlib.util.spec_from_file_location("run_experiment", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


script = load_script()


def table(rows=ROWS, freq="D"):
    """A table of good bars, as a file holds them."""
    rng = np.random.default_rng(11)
    close = 100.0 * np.exp(np.cumsum(0.01 * rng.standard_t(5, rows)))
    opened = np.append(100.0, close[:-1])
    wick = 1.0 + 0.003 * rng.uniform(size=(2, rows))
    frame = pd.DataFrame({"timestamp": pd.date_range("2019-01-01", periods=rows, freq=freq)})
    frame["timestamp"] = frame["timestamp"].dt.strftime("%Y-%m-%dT%H:%M:%SZ")
    frame["open"], frame["high"] = opened, np.maximum(opened, close) * wick[0]
    frame["low"], frame["close"] = np.minimum(opened, close) / wick[1], close
    frame["volume"] = rng.uniform(50.0, 150.0, rows)
    return frame


def refused(words, capsys):
    """Runs the script on words that it must refuse; returns the one line it says."""
    status = script.main(words)
    told = capsys.readouterr().err
    assert status == 2
    assert told.startswith("error: ")
    assert told.count("\n") == 1
    assert "Traceback" not in told
    return told


def put(column, row, value):
    """Returns a change of one cell."""

    def change(frame):
        frame[column] = frame[column].astype(object)
        frame.loc[row, column] = value
        return frame

    return change


def shuffled(frame):
    frame.loc[[7, 8]] = frame.loc[[8, 7]].to_numpy()
    return frame


def high_below_low(frame):
    frame.loc[9, "high"] = frame.loc[9, "low"] / 2
    return frame


def constant(frame):
    frame[PRICES] = 5.0
    return frame


BAD = {
    "no rows": (lambda frame: frame.iloc[:0], ["has no rows"]),
    "one row": (lambda frame: frame.iloc[:1], ["has 1 row", "at least 2"]),
    "column missing": (lambda frame: frame.drop(columns="low"), ["'low' is missing"]),
    "column misspelt": (
        lambda frame: frame.rename(columns={"close": "clsoe"}),
        ["'close' is missing", "did you mean the column 'clsoe'"],
    ),
    "no time": (lambda frame: frame.drop(columns="timestamp"), ["'timestamp' is missing"]),
    "text": (put("high", 5, "n/k"), ["'high'", "row 5", "'n/k'", "not a number"]),
    "NaN": (put("close", 6, "nan"), ["'close'", "row 6", "nan", "not finite"]),
    "infinite": (put("open", 6, "inf"), ["'open'", "row 6", "inf", "not finite"]),
    "zero": (put("low", 4, 0.0), ["'low'", "row 4", "0.0", "not positive"]),
    "negative": (put("close", 4, -3.5), ["'close'", "row 4", "-3.5", "not positive"]),
    "high below low": (high_below_low, ["'high'", "row 9", "is below the low"]),
    "negative volume": (put("volume", 3, -1.0), ["'volume'", "row 3", "-1.0", "negative"]),
    "duplicate time": (
        put("timestamp", 8, "2019-01-08T00:00:00Z"),
        ["row 8", "2019-01-08", "repeats that of row 7"],
    ),
    "unsorted": (shuffled, ["row 8", "2019-01-08", "is earlier than that of row 7"]),
    "mixed zones": (
        put("timestamp", 8, "2019-01-09T00:00:00+02:00"),
        ["mixed time zones", "row 8", "2019-01-09T00:00:00+02:00"],
    ),
    "no such time": (put("timestamp", 2, "soon"), ["row 2", "'soon'", "not an ISO 8601 time"]),
    "constant price": (constant, ["'close' is 5.0 in all 40 rows"]),
    "too few rows": (lambda frame: frame, ["40 rows are too few", "windows of 60", "at least"]),
}


@pytest.mark.parametrize("fault", BAD)
@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_bad_bars_are_refused_in_one_line(fault, suffix, tmp_path, capsys):
    change, words = BAD[fault]
    frame, path = change(table()), tmp_path / f"mine.{suffix}"
    if suffix == "csv":
        frame.to_csv(path, index=False)
    else:  # Parquet holds one type per column, so a cell of text makes a column of text
        for name in [name for name in frame if frame[name].dtype.kind == "O"]:
            numbers = pd.to_numeric(frame[name], errors="coerce")
            is_text = frame[name].map(lambda cell: isinstance(cell, str) and cell not in "naninf")
            frame[name] = frame[name].astype(str) if is_text.any() else numbers
        frame.to_parquet(path, index=False)
    told = refused(["--bars", str(path), "--out", str(tmp_path / "run")], capsys)
    for word in (path.name, *words):
        assert word in told
    assert [one.name for one in tmp_path.iterdir()] == [path.name]


@pytest.mark.parametrize(
    ("name", "content", "word"),
    [
        ("empty.csv", b"", "the file is empty"),
        ("empty.parquet", b"", "cannot be read as .parquet"),
        ("cut.csv.gz", b"\x1f\x8b\x08\x00", "cannot be opened"),
        ("binary.csv", bytes(range(256)), "cannot be"),
        ("bars.xlsx", b"x", "unknown suffix '.xlsx'; accepted: .csv, .csv.gz, .parquet"),
    ],
)
def test_files_that_are_no_bars_are_refused(name, content, word, tmp_path, capsys):
    (tmp_path / name).write_bytes(content)
    told = refused(["--bars", str(tmp_path / name), "--out", str(tmp_path / "run")], capsys)
    assert word in told
    assert name in told


def test_a_symbol_must_be_in_the_file_and_named_where_there_are_several(tmp_path, capsys):
    path = tmp_path / "panel.csv"
    frames = [table().assign(symbol=name) for name in ("ABC", "XYZ")]
    pd.concat(frames).to_csv(path, index=False)
    assert "holds 2 symbols ('ABC', 'XYZ')" in refused(["--bars", str(path)], capsys)
    told = refused(["--bars", str(path), "--symbol", "ABD"], capsys)
    assert "symbol 'ABD' is not in the file (it has 'ABC'" in told


def test_words_and_folders_that_are_not_accepted_are_refused(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    file = tmp_path / "file"
    file.touch()
    assert "unknown dataset 'moon'; accepted: nasdaq" in refused(["--dataset", "moon"], capsys)
    assert "models is 'gan': accepted are 'flow'" in refused(["--models", "gan"], capsys)
    assert "no such file: nowhere.csv" in refused(["--bars", "nowhere.csv"], capsys)
    assert "exists: accepted is a new folder" in refused(["--out", str(tmp_path)], capsys)
    told = refused(["--out", str(file / "run")], capsys)
    assert "which cannot be made: its parent is a file" in told
    with pytest.raises(SystemExit) as ended:
        script.main(["--seed", "many"])
    assert ended.value.code == 2
    told = capsys.readouterr().err
    assert told.startswith("error: argument --seed: invalid int value: 'many'")
    assert told.count("\n") == 1
    assert list(tmp_path.iterdir()) == [file]


def test_bad_bars_end_a_process_with_status_2_and_without_a_traceback(tmp_path):
    path = tmp_path / "mine.csv"
    put("close", 4, -3.5)(table()).to_csv(path, index=False)
    words = [sys.executable, str(SCRIPT), "--bars", str(path), "--out", str(tmp_path / "run")]
    ended = subprocess.run(words, capture_output=True, text=True, timeout=300, check=False)
    assert ended.returncode == 2
    (line,) = ended.stderr.splitlines()
    assert line.startswith("error: mine.csv: column 'close', row 4 (2019-01-05")


def odd_bars(kind):
    """Bars that are strange and still bars.

    The first two have no volume to learn from and are fitted by the same programs; the third, once
    mended, by those of the tests of whole runs, for it has as many bars of the same columns.
    """
    frame = table(2_400, "h") if kind == "dirty" else table(1_500)
    if kind == "zero volume":
        return frame.assign(volume=0.0)
    if kind == "a year's gap and no volume":
        times = pd.to_datetime(frame["timestamp"])
        later = times + pd.Timedelta(days=365)
        stamps = times.where(times.index < 900, later).dt.strftime("%Y-%m-%dT%H:%M:%SZ")
        return frame.assign(timestamp=stamps).drop(columns="volume")
    frame.loc[[30, 2_300], "close"] = [np.nan, -1.0]
    frame.loc[2_350, "high"] = 0.999 * frame.loc[2_350, "low"]
    return pd.concat([frame.iloc[:700], frame.iloc[699:]]).iloc[::-1]


@pytest.mark.parametrize(
    ("kind", "words", "warnings", "notes"),
    [
        ("zero volume", [], "There is no volume", "The volume is zero in all training rows"),
        ("a year's gap and no volume", [], "No bar for 366 days after 2021-06-18", "No volume"),
        ("dirty", ["--repair"], "", "Repaired: 2,401 rows became 2,400 (2,400 out of order, "),
    ],
)
def test_odd_bars_run_and_are_reported(kind, words, warnings, notes, tmp_path, capsys):
    path, folder = tmp_path / "odd.csv", tmp_path / "runs" / "odd"
    odd_bars(kind).to_csv(path, index=False)
    run = ["--bars", str(path), "--out", str(folder), "--quick", "--models", "flow"]
    status = script.main([*run, *words])
    told = capsys.readouterr()
    assert (status, told.err) == (0, "")
    assert f"report: {folder / 'report.html'}" in told.out
    config = json.loads((folder / "config.json").read_text())
    metrics = json.loads((folder / "metrics.json").read_text())
    assert warnings in " ".join(config["data"]["warnings"])
    assert notes in " ".join(config["data"]["notes"])
    assert metrics["forecast"]["log_score"] is not None
    assert metrics["forecast"]["log_score_gjr_skewt"] is not None
    left_out = " ".join(config["features"]["left_out"])
    assert ("volume" in left_out) == (kind != "dirty")
    page = (folder / "report.html").read_text()
    for text in (*config["data"]["warnings"], *config["data"]["notes"]):
        assert text[:20] in page
    if kind == "dirty":
        changes = pd.read_parquet(folder / "repairs.parquet")
        assert set(changes["rule"]) >= {"duplicate", "bad price", "widened"}


@pytest.mark.parametrize(
    ("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)], ids=["Ctrl-C", "kill"]
)
def test_a_signal_in_the_middle_leaves_nothing(number, status, tmp_path):
    path = tmp_path / "mine.csv"
    table(1_500).to_csv(path, index=False)
    words = ["--bars", str(path), "--out", str(tmp_path / "runs" / "one")]
    process = subprocess.Popen(
        [sys.executable, str(SCRIPT), *words],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
    )
    deadline = time.monotonic() + 240
    while not list(tmp_path.glob("runs/.one-*")) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert process.poll() is None
    time.sleep(1.0)  # into the fits
    process.send_signal(number)
    told = process.communicate(timeout=300)[1]
    assert process.returncode == status
    assert told == "stopped: no run was written\n"
    assert [one.name for one in tmp_path.iterdir()] == ["mine.csv"]


def test_the_recorded_command_repeats_the_arguments():
    arguments = Arguments(
        bars="my folder/it's.csv", symbol="A B", repair=True, seed=7, quick=True, fee_bps=2.5
    )
    python, file, *words = shlex.split(arguments.command())
    assert (python, file) == ("python", "scripts/run_experiment.py")
    assert Arguments(**vars(script.parse(words))) == arguments
    assert Arguments(**vars(script.parse([]))) == Arguments()
    assert Arguments().command() == "python scripts/run_experiment.py"


def test_help_is_quick_and_needs_no_accelerator_library():
    code = "import sys, runpy; sys.argv = ['x', '--help']\ntry:\n    runpy.run_path(%r, run_name="
    code = code % str(SCRIPT) + "'__main__')\nfinally:\n    assert 'jax' not in sys.modules"
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "--bars FILE" in ended.stdout


def test_the_file_that_a_run_reads_is_left_as_it_was(tmp_path, capsys):
    path = tmp_path / "mine.csv"
    table().to_csv(path, index=False)
    before = path.read_bytes()
    refused(["--bars", str(path), "--repair"], capsys)
    assert path.read_bytes() == before
    assert len(market.read_bars(path)) == ROWS


def test_a_stop_that_python_drops_inside_a_callback_is_raised_again(capsys):
    class Trap:
        def __del__(self):
            signal.raise_signal(signal.SIGTERM)
            sum(range(10))  # the handler runs before the next line

    def fall():
        with script.Listener():
            trap = Trap()
            del trap
            for _ in range(200):  # short sleeps: what comes from a thread wakes no sleeper
                time.sleep(0.05)

    with pytest.raises(script.Stop) as stop:
        fall()
    assert stop.value.args == (143,)
    assert capsys.readouterr().err == ""
