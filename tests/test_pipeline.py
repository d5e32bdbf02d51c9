"""The pipeline: one path for training, backtest and live, causal, repeatable, never silent."""

import copy

import jax
import numpy as np
import pandas as pd
import pytest
from scipy.special import ndtr

from densityjax import pipeline
from densityjax.backtest import rules
from densityjax.estimators import FlowDensity, ReturnForecaster
from densityjax.market import compute_features, simulate_market
from densityjax.strategies.score import ScoreRule

NUM_TRAIN = 3000  # of the forecaster, with the options of its own tests: the programs are the same
BARS = simulate_market(jax.random.key(8), 3500).bars
TRAINING = {
    "num_members": 2,
    "num_bins": 4,
    "width": 8,
    "num_epochs": 12,
    "batch_size": 128,
    "learning_rate": 2e-3,
}
RULE = rules.ThresholdParams(entry_z=0.03, exit_z=0.01, min_p_value=0.04, risk_budget=0.02)


@pytest.fixture(scope="module")
def fitted():
    state = compute_features(BARS.iloc[:NUM_TRAIN], "flow")
    density = FlowDensity(num_layers=2, num_hidden=1, **TRAINING).fit(state)
    forecaster = ReturnForecaster(**TRAINING).fit(BARS.iloc[:NUM_TRAIN])
    return pipeline.Pipeline("flow", density, forecaster)


@pytest.fixture(scope="module")
def reading(fitted):
    return pipeline.read(fitted, BARS)


def test_a_reading_says_what_the_models_say_of_the_same_bars(fitted, reading):
    frame = reading.frame
    assert frame.index.equals(BARS.index[-len(frame) :])
    assert len(frame) == len(BARS) - pipeline.window("flow")
    state = compute_features(BARS, "flow").loc[frame.index]
    np.testing.assert_array_equal(frame["log_prob"], fitted.density.score_samples(state))
    np.testing.assert_array_equal(frame["p_value"], fitted.density.p_value(state))
    forecast = fitted.forecaster.predict(BARS)[-len(frame) :]
    np.testing.assert_array_equal(frame["expected_return"], forecast.mean())
    np.testing.assert_allclose(frame["expected_z"], forecast.mean() / forecast.std(), rtol=1e-6)
    np.testing.assert_array_equal(frame["close"], BARS["close"].loc[frame.index])
    expected = np.log(BARS["close"].shift(-1) / BARS["close"]).loc[frame.index]
    np.testing.assert_allclose(frame["return_next"], expected, rtol=1e-10)


def test_each_side_has_the_shortfall_of_its_own_tail_and_latent_return_its_odds(reading):
    rows, frame = reading.forecast[:40], reading.frame.iloc[:40]
    worst = np.sort(rows.sample(jax.random.key(0), 20_000), axis=1)
    np.testing.assert_allclose(-worst[:, :1000].mean(1), frame["expected_shortfall"], rtol=0.1)
    short = frame["short_expected_shortfall"]
    np.testing.assert_allclose(worst[:, -1000:].mean(1), short, rtol=0.1)
    odds = ndtr(frame["latent_return"])
    np.testing.assert_allclose((worst > 0.0).mean(1), odds, atol=4 * 0.5 / 20_000**0.5)


def test_pre_09_a_saved_pipeline_reads_bit_for_bit_alike(fitted, reading, tmp_path):
    pipeline.save(fitted, tmp_path / "pipeline")
    again = pipeline.read(pipeline.load(tmp_path / "pipeline"), BARS)
    for name in reading.frame:
        np.testing.assert_array_equal(again.frame[name], reading.frame[name])
    with pytest.raises(ValueError, match="nothing"):
        pipeline.load(tmp_path / "nothing")
    pipeline.save(fitted, tmp_path / "pipeline")  # replaces itself
    (tmp_path / "pipeline").rename(tmp_path / "pipeline.previous")  # killed between two renames
    assert pipeline.load(tmp_path / "pipeline").state_features == "flow"
    pipeline.save(fitted, tmp_path / "pipeline")
    note = tmp_path / "pipeline" / "notes.txt"
    note.write_text("mine")
    for path in (tmp_path / "pipeline", note):
        with pytest.raises(ValueError, match=r"holds .*(notes\.txt|a file)"):
            pipeline.save(fitted, path)
    assert note.read_text() == "mine"


def test_a_signal_without_a_position_says_why(reading):
    for params, reasons in (
        (RULE._replace(entry_z=0.0, risk_budget=0.0, allow_short=1.0), {"no risk budget"}),
        (RULE._replace(entry_z=0.0, allow_short=0.0), {"short not allowed"}),
        (RULE._replace(entry_z=0.0, max_weight=0.0), {"flat rule"}),
    ):
        decided = pipeline.decide(reading.frame, params)
        idle = decided[(decided["signal"] != 0) & (decided["position_size"] == 0)]
        assert set(idle["reason"]) == reasons


def test_reordered_features_are_refused(fitted):
    state = compute_features(BARS, "flow").iloc[:100]
    with pytest.raises(ValueError, match="same order"):
        fitted.density.score_samples(state[state.columns[::-1]])


def test_ex_02_a_row_read_live_equals_the_row_of_the_whole_history(fitted, reading):
    columns = reading.frame.columns.drop(["close", "return_next", "expected_return"])
    for last in (700, 1100):
        live = pipeline.read(fitted, BARS.iloc[: last + 1]).frame
        assert live.index[-1] == BARS.index[last]
        assert np.isnan(live["return_next"].iloc[-1])  # the next bar is not there yet
        whole = reading.frame.loc[live.index]
        np.testing.assert_allclose(live[columns], whole[columns], rtol=1e-5, atol=1e-5)
        error = (live["expected_return"] - whole["expected_return"]) / whole["return_std"]
        assert error.abs().max() < 1e-5


def test_decisions_follow_the_rule_and_give_their_reasons(reading):
    frame = reading.frame
    decisions = pipeline.decide(frame, RULE)
    assert decisions.index.equals(frame.index)
    positions = rules.apply_rule(rules.threshold_rule, RULE, pipeline.signals(frame))
    np.testing.assert_array_equal(decisions["position_size"], positions)
    strange = frame["p_value"] <= RULE.min_p_value
    strong = np.sign(frame["expected_z"]) * (frame["expected_z"].abs() > RULE.entry_z)
    np.testing.assert_array_equal(decisions["in_distribution"], ~strange)
    np.testing.assert_array_equal(decisions["signal"], strong.where(~strange, 0))
    np.testing.assert_array_equal(
        decisions["signal"].abs() == 1, decisions["reason"].isin(["long", "short"])
    )
    assert set(decisions["reason"]) > {"long", "out of distribution", "weak forecast"}
    assert np.abs(decisions["position_size"]).max() <= RULE.max_weight


@pytest.mark.parametrize(
    ("z", "p_value", "allow_short", "signal", "position", "reason"),
    [
        (0.5, 0.5, 1.0, 1, 1, "long"),
        (-0.5, 0.5, 1.0, -1, -1, "short"),
        (-0.5, 0.5, 0.0, -1, 0, "short not allowed"),
        (0.02, 0.5, 1.0, 0, 0, "weak forecast"),
        (0.5, 0.01, 1.0, 0, 0, "out of distribution"),
        (0.5, 0.04, 1.0, 0, 0, "out of distribution"),  # at the limit: to signal and position
        (0.5, 0.0401, 1.0, 1, 1, "long"),
    ],
)
def test_truth_table_of_a_first_row(reading, z, p_value, allow_short, signal, position, reason):
    frame = reading.frame.iloc[:2].copy()
    frame["expected_return"] = z * frame["return_std"]
    frame["expected_z"], frame["p_value"] = z, p_value
    frame["expected_shortfall"] = frame["short_expected_shortfall"] = 0.01
    decision = pipeline.decide(frame, RULE._replace(allow_short=allow_short)).iloc[0]
    assert decision["signal"] == signal
    assert decision["position_size"] == position
    assert decision["reason"] == reason


def test_a_position_is_held_between_entry_and_exit(reading):
    frame = reading.frame.iloc[:3].copy()
    frame["expected_z"] = [0.5, 0.02, 0.005]
    frame["expected_return"] = frame["expected_z"] * frame["return_std"]
    frame["p_value"], frame["expected_shortfall"] = 0.5, 0.04
    decisions = pipeline.decide(frame, RULE)
    np.testing.assert_allclose(decisions["position_size"], [0.5, 0.5, 0.0])
    assert decisions["reason"].tolist() == ["long", "held", "weak forecast"]
    assert decisions["signal"].tolist() == [1, 0, 0]


@pytest.mark.parametrize("column", ["p_value", "expected_shortfall", "short_expected_shortfall"])
def test_ex_04_a_nan_is_an_error_and_never_no_trade(reading, column):
    frame = reading.frame.iloc[:5].copy()
    frame.loc[frame.index[2], column] = np.nan
    with pytest.raises(ValueError, match="finite"):
        pipeline.decide(frame, RULE)


def test_ex_04_a_broken_model_is_named_with_the_bar(fitted):
    broken = copy.copy(fitted.forecaster)
    broken.params_ = jax.tree.map(
        lambda leaf: np.full_like(leaf, np.nan), fitted.forecaster.params_
    )
    with pytest.raises(ValueError, match=r"the models answered \w+ = nan at 2018"):
        pipeline.read(fitted._replace(forecaster=broken), BARS)


def test_a_forecaster_of_another_horizon_is_refused(fitted):
    far = copy.copy(fitted.forecaster)
    far.horizon_ = 4
    with pytest.raises(ValueError, match="horizon_ 4: accepted is 1"):
        pipeline.read(fitted._replace(forecaster=far), BARS)


def test_prices_are_those_of_the_bars_asked_for(reading):
    index = reading.frame.index[5:9]
    prices = pipeline.prices(BARS, index)
    for name in ("open", "high", "low", "close"):
        np.testing.assert_array_equal(getattr(prices, name), BARS.loc[index, name])


def test_a_state_that_most_families_find_strange_is_not_traded_on_by_its_score():
    num = 30
    frame = pd.DataFrame(
        {
            "score_of_return": 1.0,
            "score_direction": 1.0,
            "score_confidence": 0.8,
            "log_prob_score": 0.0,
            "p_value": 0.5,
            "p_value_score": 0.5,
            "p_value_energy": 0.5,
        },
        index=BARS.index[:num],
    )
    frame.iloc[22, frame.columns.get_loc("p_value")] = 0.005  # one of three
    frame.iloc[24, [4, 6]] = 0.005  # two of three, and not the score's own
    frame.iloc[26, frame.columns.get_loc("p_value_score")] = 0.005  # its own
    decided = pipeline.decide_by_score(frame, ScoreRule(min_p_value=0.01))
    assert (decided["reason"].iloc[:19] == "too short").all()
    is_refused = (decided["reason"] == "out of distribution").to_numpy()
    assert np.flatnonzero(is_refused).tolist() == [24, 26]
    assert (decided["position_size"][is_refused] == 0.0).all()
    np.testing.assert_allclose(decided["position_size"].iloc[[20, 22]], 0.8, rtol=1e-6)
