"""A whole run on a small simulated market: its folder, its numbers, its causality, its ends."""

import html
import importlib
import json
import re

import jax
import numpy as np
import pandas as pd
import pytest

from densityjax import backtest, market, pipeline, report
from densityjax.backtest import rules
from densityjax.experiment import Arguments, accounts, judge, run
from densityjax.experiment.data import load, min_bars, split_bars
from densityjax.experiment.folders import new_folder
from densityjax.experiment.judge import forecast_metrics, forecast_table
from densityjax.experiment.record import data_hash, with_reasons
from densityjax.report.plots import PLOTS
from densityjax.report.tables import metric_names, metric_row

run_module = importlib.import_module("densityjax.experiment.run")

NUM_BARS = 2_400
FILES = (
    "checkpoint config.json density.parquet forecast.parquet grid.parquet metrics.json "
    "report.html samples.parquet signals.parquet training.parquet"
)
STAGES = (
    "reading bars",
    "fitting the forecaster",
    "forecasting every bar",
    "testing the forecast",
    "writing the run",
    "writing the report",
)
FITS = (
    "fitting the flow's density of the state",
    "fitting the score's density of the state",
    "fitting the energy's density of the state",
    "fitting the score of the return",
)
REALISED = ("return_next", "log_prob", "log_prob_ewma_t", "log_prob_gjr_skewt", "cdf")


@pytest.fixture(scope="module")
def simulated():
    """Bars of a known law, and the truth about them."""
    return market.simulate_market(jax.random.key(5), NUM_BARS)


@pytest.fixture(scope="module")
def bars_file(simulated, tmp_path_factory):
    """The same bars in a file whose name a shell would split."""
    path = tmp_path_factory.mktemp("bars") / "my bars.parquet"
    market.write_bars(simulated.bars, path)
    return path


@pytest.fixture(scope="module")
def finished(bars_file, tmp_path_factory):
    """The folder of a quick run, and the models it fitted."""
    kept, original = {}, run_module.fit

    def fit(*arguments):
        kept["fitted"] = original(*arguments)
        return kept["fitted"]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(run_module, "fit", fit)
        folder = run(arguments_of(bars_file, tmp_path_factory.mktemp("runs") / "one"))
    return folder, kept["fitted"]


def arguments_of(bars_file, folder):
    return Arguments(bars=str(bars_file), out=str(folder), quick=True, seed=3)


def read_json(path):
    def refuse(word):
        raise AssertionError(f"{path.name} holds {word}")

    return json.loads(path.read_text(), parse_constant=refuse)


def parts_of(bars):
    return split_bars(bars, Arguments())._asdict()


def reading_of(fitted, bars):
    reading = pipeline.read(fitted, bars)
    reading.frame["split"] = run_module.split_names(reading.frame.index, bars.index, parts_of(bars))
    return reading


def verdict_of(fitted, bars, truth=None):
    return judge(
        bars,
        reading_of(fitted, bars),
        num_train=parts_of(bars)["train"].stop,
        states=market.compute_features(bars, fitted.state_features),
        fitted=fitted,
        alarm_rate=run_module.ALARM_RATE,
        fee_bps=5.0,
        truth=truth,
    )


def assert_same(table, other):
    pd.testing.assert_frame_equal(
        table, other, check_exact=True, check_freq=False, check_dtype=False
    )


def test_the_folder_is_complete_and_nothing_lies_beside_it(finished):
    folder, _ = finished
    assert {path.name for path in folder.iterdir()} == set(FILES.split())
    assert [path.name for path in folder.parent.iterdir()] == ["one"]
    assert folder.stat().st_mode & 0o777 == 0o755


def test_every_number_is_finite_or_null_with_its_reason(finished):
    metrics = read_json(finished[0] / "metrics.json")
    assert set(metrics) == {
        "density", "families", "samples", "forecast", "grid", "strategy", "score_strategy",
        "energy_strategy", "buy_and_hold", "volatility_target",
    }  # fmt: skip
    for section in metrics.values():
        for name, value in section.items():
            if name.endswith("_reason"):
                assert value
                assert section[name.removesuffix("_reason")] is None
            elif value is None:
                assert f"{name}_reason" in section
            else:
                assert np.isfinite(value)


def test_the_configuration_says_what_was_run_on_what(finished, bars_file, simulated):
    config = read_json(finished[0] / "config.json")
    bars = simulated.bars
    assert config["arguments"]["bars"] == str(bars_file)
    assert config["seed"] == 3
    assert config["data"]["num_bars"] == NUM_BARS
    assert config["data"]["hash"] == data_hash(bars)
    assert config["versions"]["jax"] == jax.__version__
    assert f"--bars '{bars_file}'" in config["command"]
    assert set(config["seconds"]) == {"read", "fit", "forecast", "judge", "write"}
    parts, forecast = parts_of(bars), pd.read_parquet(finished[0] / "forecast.parquet")
    for name, rows in parts.items():
        block = config["split"][name]
        inside = forecast.index.intersection(bars.index[rows])
        assert block["rows"] == len(inside) == (forecast["split"] == name).sum()
        assert (block["start"], block["end"]) == (str(inside[0]), str(inside[-1]))


def test_the_page_draws_every_plot_and_shows_every_number_of_the_metrics(finished):
    record = report.read_record(finished[0])
    page = (finished[0] / "report.html").read_text()
    assert page.count("<figure>") == len(PLOTS)
    assert "left out:" not in page
    words = html.unescape(re.sub(r"<[^>]*>", "\n", page)).replace("\u00a0", " ")
    for section, content in record.metrics.items():
        for name in metric_names(content):
            row = metric_row(record.metrics, section, name, record.config)
            assert row.value in words
            assert row.sentence in words
            assert row.rows in words
            assert "no entry" not in row.sentence


def test_the_saved_models_give_the_forecasts_back_bit_for_bit(finished, simulated):
    folder, _ = finished
    bars = simulated.bars
    reading = reading_of(pipeline.load(folder / "checkpoint"), bars)
    again = forecast_table(bars, reading, num_train=parts_of(bars)["train"].stop)
    assert_same(again, pd.read_parquet(folder / "forecast.parquet"))
    density = pd.read_parquet(folder / "density.parquet")
    np.testing.assert_array_equal(reading.frame["log_prob"], density["log_prob"])
    np.testing.assert_array_equal(reading.frame["p_value"], density["p_value"])


def test_the_same_seed_gives_the_same_numbers(finished, bars_file, tmp_path):
    stages = []
    folder = run(arguments_of(bars_file, tmp_path / "two"), lambda *told: stages.append(told))
    assert read_json(folder / "metrics.json") == read_json(finished[0] / "metrics.json")
    assert {*STAGES, *FITS} <= {stage for stage, _ in stages}
    assert all(0.0 <= share <= 1.0 for _, share in stages)
    first, second = (read_json(one / "config.json") for one in (finished[0], folder))
    for config in (first, second):
        del config["created"], config["seconds"], config["arguments"]["out"]
    assert first == second


def test_bkt_04_a_plain_loop_over_orders_gives_the_recorded_equity(finished, simulated):
    signals = pd.read_parquet(finished[0] / "signals.parquet")
    metrics = read_json(finished[0] / "metrics.json")["strategy"]
    bars = simulated.bars.loc[signals.index]
    opens, closes = bars["open"].to_numpy(), bars["close"].to_numpy()
    target = signals["position_size"].to_numpy()
    equity, position, paid, path = 1.0, 0.0, 0.0, []
    for t in range(len(bars)):
        if t:  # decided at the close before, filled at this open
            drifted = position * opens[t] / closes[t - 1]
            equity += drifted - position
            cost = 5e-4 * abs(target[t - 1] * equity - drifted)
            position = target[t - 1] * equity
            body = position * (closes[t] / opens[t] - 1.0)
            equity, position, paid = equity + body - cost, position + body, paid + cost
        path.append(equity)
    assert signals["position"].abs().max() > 0
    np.testing.assert_allclose(signals["equity"], path, rtol=1e-4)
    np.testing.assert_allclose(signals["pnl"].sum(), path[-1] - 1.0, atol=1e-4)
    np.testing.assert_allclose(metrics["total_return"], path[-1] - 1.0, atol=1e-4)
    np.testing.assert_allclose(metrics["total_cost"], paid, rtol=1e-3)
    peak = np.maximum.accumulate([1.0, *path])[1:]
    np.testing.assert_allclose(signals["drawdown"], 1.0 - path / peak, atol=1e-4)


def test_no_look_ahead_from_bars_to_equity(finished, simulated):
    folder, fitted = finished
    bars = simulated.bars
    test = bars.index[parts_of(bars)["test"]]
    last = test[len(test) // 2]
    changed = bars.copy()
    after = changed.index > last
    prices = ["open", "high", "low", "close"]
    changed.loc[after, prices] = changed.loc[after, prices].to_numpy()[::-1] * 1.7
    changed.loc[after, "volume"] *= 3.0
    tables = verdict_of(fitted, changed).tables
    for name in ("forecast", "density", "signals", "grid"):
        before = pd.read_parquet(folder / f"{name}.parquet")
        table = tables[name]
        if name == "grid":  # of validation rows alone
            assert_same(table, before)
            continue
        known = [column for column in before if column not in REALISED]
        assert_same(table.loc[:last, known], before.loc[:last, known])
        rows = slice(None, bars.index[bars.index.get_loc(last) - 1])
        assert_same(table.loc[rows], before.loc[rows])
    equity = pd.read_parquet(folder / "signals.parquet")["equity"]
    assert not np.array_equal(tables["signals"]["equity"], equity)


def test_the_truth_is_scored_on_the_bars_it_speaks_of(finished, simulated):
    fitted, bars = finished[1], simulated.bars
    truth = pd.Series(simulated.log_prob, bars.index)
    found = verdict_of(fitted, bars, truth).metrics["forecast"]
    test = truth[bars.index[parts_of(bars)["test"]]].to_numpy()[:-1]  # the last is not known yet
    assert found["num_scored"] == len(test)
    np.testing.assert_allclose(found["log_score_true"], test.mean())
    assert found["gap_to_truth"] == found["log_score_true"] - found["log_score"]
    reading = reading_of(fitted, bars)
    table = forecast_table(bars, reading, num_train=parts_of(bars)["train"].stop, truth=truth)
    # The last return under the law of the bar before it is drawn from that law; under its own
    # label it would be one bar off.
    misplaced = table.assign(log_prob=table["log_prob_true"].shift(1))
    assert forecast_metrics(misplaced, reading.forecast)["log_score"] != found["log_score_true"]
    perfect = forecast_metrics(table.assign(log_prob=table["log_prob_true"]), reading.forecast)
    assert perfect["gap_to_truth"] == 0.0
    assert perfect["log_score"] == found["log_score_true"]


def test_thresholds_of_the_rules_are_quantiles_of_the_validation_rows(finished):
    frame = reading_of(finished[1], load(arguments_of_finished(finished)).bars).frame
    validation = frame[frame["split"] == "validation"]
    grid = accounts.rule_grid(validation)
    strength = validation["expected_z"].abs()
    for share in accounts.TRADING_SHARES:
        entry = np.quantile(strength, 1.0 - share)
        assert np.isclose(np.asarray(grid.entry_z), entry, rtol=1e-6).any()
        np.testing.assert_allclose((strength > entry).mean(), share, atol=2 / len(validation))
    assert (np.asarray(grid.exit_z) <= np.asarray(grid.entry_z)).all()
    assert isinstance(grid, rules.ThresholdParams)


def test_where_every_rule_loses_the_flat_rule_is_chosen_and_nothing_is_held(finished, simulated):
    frame, bars = reading_of(finished[1], simulated.bars).frame, simulated.bars
    ruinous = backtest.Costs(fee_bps=500.0)  # of every trade: no rule earns that
    _, rule, found = accounts.choose_rule(bars, frame, ruinous)
    assert found["is_flat"] == 1
    assert rule.max_weight == found["best_max_weight"] == 0.0
    assert not found["validation_sharpe_ratio"][0] > 0.0
    record, sections = accounts.trade(bars, frame, rule, costs=ruinous, alarm_rate=0.01)
    assert (record["position_size"] == 0.0).all()
    assert (record["equity"] == 1.0).all()
    assert sections["strategy"]["total_return"] == 0.0
    assert set(record["reason"]) <= {"flat rule", "weak forecast", "out of distribution"}


def test_the_score_family_reads_the_same_bars_and_trades_by_its_own_rule(finished, simulated):
    folder, fitted = finished
    density = pd.read_parquet(folder / "density.parquet")
    state = market.compute_features(simulated.bars, "flow").loc[density.index]
    score = fitted.companions["score"]
    np.testing.assert_array_equal(density["log_prob_score"], score.score_samples(state))
    np.testing.assert_array_equal(density["p_value_score"], score.p_value(state))
    record = pd.read_parquet(folder / "signals.parquet")
    scores = fitted.return_score.predict(simulated.bars)
    chosen = scores.index.get_indexer(record.index)
    side = np.sign(scores.member_scores[chosen].mean(axis=1))
    traded = record["score_reason"].isin(["long", "short"]).to_numpy()
    assert traded.any()
    np.testing.assert_array_equal(np.sign(record["score_signal"])[traded], side[traded])
    assert (record["score_position_size"][~traded] == 0.0).all()
    p_values = density.loc[record.index, ["p_value", "p_value_score", "p_value_energy"]]
    is_own = p_values["p_value_score"] <= run_module.ALARM_RATE
    is_strange = (is_own | ((p_values <= run_module.ALARM_RATE).sum(axis=1) >= 2)).to_numpy()
    is_refused = (record["score_reason"] == "out of distribution").to_numpy()
    np.testing.assert_array_equal(is_refused, is_strange)
    is_turn = traded & (np.append(0.0, side[:-1]) != side)  # a direction has to last two bars
    assert not is_turn[1:].any()
    confidence = record["score_signal"].abs()
    assert (record["score_position_size"].abs() <= confidence + 1e-6).all()
    assert (record["score_position_size"].abs() < 0.99 * confidence)[traded].any()  # by variance
    found = read_json(folder / "metrics.json")
    total = record["equity_score_strategy"].iloc[-1] - 1.0
    assert found["score_strategy"]["total_return"] == pytest.approx(total, abs=1e-6)


def test_the_energy_family_cuts_what_is_held_in_strange_states_by_the_past_alone(finished):
    folder, _ = finished
    density = pd.read_parquet(folder / "density.parquet")
    record = pd.read_parquet(folder / "signals.parquet")
    energy = -density["log_prob_energy"]
    past = energy.rolling(20).median().shift(1)
    spread = (energy.rolling(21).apply(
        lambda rows: np.median(np.abs(rows[:-1] - np.median(rows[:-1]))), raw=True
    ) * 1.482602).to_numpy()  # fmt: skip
    z = ((energy - past) / spread).loc[record.index].to_numpy()
    np.testing.assert_allclose(record["energy_signal"], z, rtol=1e-2, atol=1e-3)
    size = np.where(z > 3.0, 0.0, np.clip(1.0 - z / 2.0, 0.0, 1.0))
    np.testing.assert_allclose(record["energy_position_size"], size, atol=1e-2)
    assert (record["energy_reason"][z >= 2.1] == "crisis").all()


def test_sig_03_the_run_writes_the_whole_signal_record(finished):
    record = pd.read_parquet(finished[0] / "signals.parquet")
    names = (
        "signal confidence log_prob in_distribution expected_return return_std latent_return "
        "position_size reason price position pnl cumulative_pnl equity"
    ).split()
    assert set(names) <= set(record.columns)
    config = read_json(finished[0] / "config.json")
    assert len(config["features"]["state"]) > 5
    density = pd.read_parquet(finished[0] / "density.parquet")
    np.testing.assert_array_equal(record["log_prob"], density["log_prob"].loc[record.index])


def arguments_of_finished(finished):
    return Arguments(**read_json(finished[0] / "config.json")["arguments"])


@pytest.mark.parametrize("stage", STAGES)
def test_an_interrupt_at_any_stage_leaves_nothing(
    stage, finished, bars_file, tmp_path, monkeypatch
):
    def fit(arguments, bars, parts, tell):
        tell("fitting the forecaster", 0.5)
        return finished[1]

    def interrupt(told, share):
        if told == stage:
            raise KeyboardInterrupt

    monkeypatch.setattr(run_module, "fit", fit)
    with pytest.raises(KeyboardInterrupt):
        run(arguments_of(bars_file, tmp_path / "parent" / "run"), interrupt)
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_leaves_nothing(finished, bars_file, tmp_path, monkeypatch):
    def refuse(path, content):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(run_module, "fit", lambda *arguments: finished[1])
    monkeypatch.setattr(run_module, "write_json", refuse)
    with pytest.raises(OSError, match="No space left"):
        run(arguments_of(bars_file, tmp_path / "run"))
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_exists_is_never_touched(bars_file, tmp_path):
    (tmp_path / "run").mkdir()
    with pytest.raises(FileExistsError, match="exists: accepted is a new folder"):
        run(arguments_of(bars_file, tmp_path / "run"))
    late = new_folder(tmp_path / "late")
    (late.__enter__() / "mine").touch()
    (tmp_path / "late").mkdir()  # by another run, meanwhile
    with pytest.raises(FileExistsError):
        late.__exit__(None, None, None)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["late", "run"]
    assert not any((tmp_path / "late").iterdir())


def test_a_new_folder_takes_only_its_own_parents_with_it(tmp_path):
    folder = new_folder(tmp_path / "a" / "b")
    assert folder.__enter__().parent == tmp_path / "a"
    (tmp_path / "a" / "other").mkdir()
    error = ZeroDivisionError()
    assert not folder.__exit__(ZeroDivisionError, error, None)
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["other"]


def test_too_few_bars_are_refused_with_the_number_that_is_needed(simulated, tmp_path):
    path = tmp_path / "short.csv"
    needed = min_bars(Arguments())
    market.write_bars(simulated.bars.iloc[: needed - 1], path)
    text = rf"short\.csv: {needed - 1} rows are too few: windows of 60 bars .* at least {needed}"
    with pytest.raises(ValueError, match=text):
        run(arguments_of(path, tmp_path / "run"))


def test_metrics_without_a_value_carry_their_reason():
    section = {"a": (np.nan, "no trade"), "b": np.float32(0.5), "c": np.inf, "d": 3}
    assert with_reasons({"s": section}) == {
        "s": {
            "a": None,
            "a_reason": "no trade",
            "b": 0.5,
            "c": None,
            "c_reason": "not defined here",
            "d": 3,
        }
    }


def test_the_hash_sees_every_value_time_and_name(simulated):
    bars = simulated.bars.iloc[:50]
    nudged, moved = bars.copy(), bars.copy()
    nudged.iloc[20, 2] = np.nextafter(nudged.iloc[20, 2], 0.0)
    moved.index = moved.index + pd.Timedelta("1us")
    others = (nudged, moved, bars.rename(columns={"volume": "turnover"}), bars.iloc[:-1])
    assert len({data_hash(one) for one in (bars, *others)}) == 5
    assert data_hash(bars) == data_hash(bars.copy())


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"fee_bps": float("nan")}, "fee_bps is nan"),
        ({"seed": -1}, "seed is -1"),
        ({"seed": 2**32}, "seed is 4294967296"),
        (
            {"models": "gan"},
            "models is 'gan': accepted are 'flow' and, after commas, any of score, ",
        ),
        ({"models": "score"}, "models is 'score': accepted are 'flow'"),
        ({"models": "flow,flow"}, "models is 'flow,flow'"),
        ({"state_features": "moon"}, "state_features is 'moon': accepted are flow, score, energy"),
        ({"symbol": "BTC"}, "symbol is given without bars"),
    ],
)
def test_arguments_are_checked_before_any_work(wrong, message):
    with pytest.raises(ValueError, match=message):
        Arguments(**wrong)
