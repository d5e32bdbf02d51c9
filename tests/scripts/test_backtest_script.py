"""The command line of backtests: equal to the library, whole folders or none, one-line refusals."""

import importlib.util
import json
import pathlib

import numpy as np
import pandas as pd
import pytest

from densityjax import backtest, market

SCRIPT = pathlib.Path(__file__).parents[2] / "scripts" / "backtest.py"
NUM_BARS = 240


@pytest.fixture(scope="module")
def script():
    spec = importlib.util.spec_from_file_location("backtest_script", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def bars_file(tmp_path_factory):
    rng = np.random.default_rng(0)
    close = 100.0 * np.exp(np.cumsum(0.01 * rng.standard_normal(NUM_BARS)))
    open_ = np.append(100.0, close[:-1])
    ends = np.stack([open_, close])
    index = pd.date_range("2024-01-01", periods=NUM_BARS, freq="h", tz="UTC", name="timestamp")
    columns = dict(open=open_, high=ends.max(0) * 1.003, low=ends.min(0) / 1.003, close=close)
    path = tmp_path_factory.mktemp("bars") / "bars.csv"
    pd.DataFrame(columns, index=index).to_csv(path)
    return path


WORDS = ["--rule", "momentum", "--grid", "decay=0:0.9:4", "--stop-loss", "0.02", "--warmup", "10"]


def test_cli_04_the_folder_holds_what_the_library_call_gives(script, bars_file, tmp_path, capsys):
    out = tmp_path / "run"
    words = ["--bars", str(bars_file), *WORDS, "--fee-bps", "3", "--show-trades"]
    assert script.main([*words, "--out", str(out)]) == 0
    text = capsys.readouterr().out
    bars = market.read_bars(bars_file)
    options = dict(
        costs=backtest.Costs(3.0), stops=backtest.Stops(stop_loss=0.02), warmup=10, fill="next_open"
    )
    signals = script.plain_signals(bars)
    prices = backtest.Prices(*(bars[n].to_numpy() for n in ("open", "high", "low", "close")))
    grid = backtest.run_grid(
        backtest.momentum,
        backtest.product_grid(backtest.MomentumParams, decay=np.linspace(0.0, 0.9, 4)),
        signals,
        prices,
        periods_per_year=market.periods_per_year(bars.index),
        metrics="full",
        **options,
    )
    pd.testing.assert_frame_equal(pd.read_parquet(out / "grid.parquet"), grid.to_frame())
    best = grid.best()
    again = backtest.replay(
        grid, best.index, backtest.momentum, signals, prices, labels=bars.index, **options
    )
    equity = pd.read_parquet(out / "equity.parquet")
    np.testing.assert_array_equal(equity["equity"], 10_000.0 * again.result.equity)
    trades = pd.read_parquet(out / "trades.parquet")
    np.testing.assert_allclose(trades["pnl"].sum(), equity["equity"].iloc[-1] - 10_000.0)
    found = json.loads((out / "metrics.json").read_text())
    assert found["luck"]["num_trials"] == 4
    assert found["rules"]["best rule"]["num_trades"] == best.metrics.num_trades
    assert set(found["rules"]) == {"best rule", *script.BASELINES}
    assert json.loads((out / "config.json").read_text())["best"]["decay"] == best.params.decay
    assert "luck: 4 rules tried" in text
    assert "trades of the best rule" in text
    assert [path.name for path in tmp_path.iterdir()] == ["run"]


def test_baselines_pay_the_same_costs(script, bars_file, tmp_path):
    found = []
    for fee in ("0", "50"):
        words = ["--bars", str(bars_file), *WORDS, "--fee-bps", fee, "--out", str(tmp_path / fee)]
        assert script.main(words) == 0
        found.append(json.loads((tmp_path / fee / "metrics.json").read_text())["rules"])
    for name in script.BASELINES:
        assert found[1][name]["total_return"] < found[0][name]["total_return"]


def test_signals_of_a_file_are_read_by_time(script, bars_file, tmp_path):
    bars = market.read_bars(bars_file)
    frame = pd.DataFrame({"expected_z": np.arange(100.0), "p_value": 0.5}, bars.index[50:150])
    frame.to_parquet(tmp_path / "signals.parquet")
    words = ["--bars", str(bars_file), "--signals", str(tmp_path / "signals.parquet")]
    found, signals = script.read_market(script.parse(words))
    assert found.index.equals(frame.index)
    np.testing.assert_array_equal(signals.expected_z, np.arange(100.0))
    np.testing.assert_array_equal(signals.density_p_value, np.full(100, 0.5))
    assert np.isfinite(signals.return_std).all()
    frame.index = frame.index + pd.Timedelta("30min")
    frame.to_parquet(tmp_path / "late.parquet")
    with pytest.raises(ValueError, match="100 times without a bar"):
        script.read_market(script.parse([*words[:3], str(tmp_path / "late.parquet")]))


@pytest.mark.parametrize(
    ("words", "match"),
    [
        (["--grid", "speed=0:1:3"], "speed: no parameter of MomentumParams; accepted are decay"),
        (["--grid", "decay=0:1:0"], "--grid is 'decay=0:1:0'"),
        (["--grid", "decay=fast"], "--grid is 'decay=fast'"),
        (["--fee-bps", "-1"], "costs.fee_bps"),
        (["--out", "."], "--out . exists"),
    ],
)
def test_what_is_refused_is_named_in_one_line(script, bars_file, capsys, words, match):
    assert script.main(["--bars", str(bars_file), *WORDS, *words]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1
    assert match in lines[0]


def test_plain_signals_know_nothing_of_the_future(script, bars_file):
    def pipeline(bars):
        signals = script.plain_signals(bars)
        columns = {
            name: values for name, values in signals._asdict().items() if np.ndim(values) == 1
        }
        return pd.DataFrame(columns, index=bars.index)

    report = backtest.audit_lookahead(pipeline, market.read_bars(bars_file))
    found = {check.name: check.passed for check in report.checks}
    assert {name: found[name] for name in ("replaced", "truncated", "shuffled", "poisoned")} == (
        dict.fromkeys(("replaced", "truncated", "shuffled", "poisoned"), True)
    ), str(report)
    early = pipeline(market.read_bars(bars_file)).iloc[: script.MIN_HISTORY]
    assert (early["expected_z"] == 0.0).all()
    assert (early["return_std"] == script.QUIET_STD).all()
