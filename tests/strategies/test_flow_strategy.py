"""The flow's rule: a truth table of all branches, sizes that bind, and no silent NaN."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from densityjax.regimes import anomalies
from densityjax.strategies import flow
from densityjax.strategies.flow import FlowRule, Reason

RULE = FlowRule(
    entry_z=0.5, risk_budget=0.01, density_threshold=-20.0, min_p_value=0.05, min_confidence=0.3
)
CALM = {
    "log_prob": -10.0,
    "p_value": 0.4,
    "expected_return": 0.012,
    "return_std": 0.01,
    "expected_shortfall": 0.02,
}
decide = jax.jit(flow.flow_signal)


@pytest.mark.parametrize(
    ("change", "signal", "reason", "in_distribution"),
    [
        ({}, 1, Reason.LONG, True),
        ({"expected_return": -0.012}, -1, Reason.SHORT, True),
        ({"log_prob": -20.0}, 1, Reason.LONG, True),  # at the threshold is inside
        ({"log_prob": -20.1}, 0, Reason.OUT_OF_DISTRIBUTION, False),
        ({"p_value": 0.05}, 0, Reason.OUT_OF_DISTRIBUTION, False),  # at the alarm rate is outside
        ({"p_value": 0.051}, 1, Reason.LONG, True),
        ({"log_prob": -21.0, "expected_return": -0.012}, 0, Reason.OUT_OF_DISTRIBUTION, False),
        ({"expected_return": 0.0}, 0, Reason.WEAK_FORECAST, True),
        ({"expected_return": 0.005}, 0, Reason.WEAK_FORECAST, True),  # z at the threshold: no
        ({"expected_return": -0.0049}, 0, Reason.WEAK_FORECAST, True),
        ({"expected_return": 0.0055}, 0, Reason.LOW_CONFIDENCE, True),
        ({"expected_return": -0.0055}, 0, Reason.LOW_CONFIDENCE, True),
        ({"expected_return": 0.0061}, 1, Reason.LONG, True),
    ],
)
def test_sig_02_truth_table(change, signal, reason, in_distribution):
    bar = CALM | change
    result = decide(RULE, **bar)
    z = bar["expected_return"] / bar["return_std"]
    assert float(result.signal) == signal
    assert Reason(int(result.reason)) is reason
    assert bool(result.in_distribution) is in_distribution
    assert float(result.confidence) == pytest.approx(min(abs(z) / 2, 1), rel=1e-6)
    assert float(result.position_size) == pytest.approx(0.5 * signal)
    flags = [bool(result.is_buy), bool(result.is_sell), bool(result.is_no_trade)]
    assert flags == [signal == 1, signal == -1, signal == 0]


def test_every_combination_of_conditions_equals_plain_python():
    means = (-0.012, -0.0055, -0.001, 0.0, 0.001, 0.0055, 0.012, 0.05)
    cases = list(itertools.product((-25.0, -10.0), (0.01, 0.5), means, (0.004, 0.02)))
    log_prob, p_value, mean, shortfall = np.array(cases, np.float32).T
    result = flow.flow_signals(
        RULE,
        log_prob=log_prob,
        p_value=p_value,
        expected_return=mean,
        return_std=np.full(len(cases), 0.01, np.float32),
        expected_shortfall=shortfall,
    )
    for row, (density, p, m, es) in enumerate(cases):
        trusted, strong = density >= -20 and p > 0.05, abs(m) / 0.01 > 0.5
        trades = trusted and strong and min(abs(m) / 0.02, 1) >= 0.3
        expected = (1 if m > 0 else -1) if trades else 0
        assert result.signal[row] == expected
        assert result.position_size[row] == pytest.approx(expected * min(1.0, 0.01 / es))
    assert result.confidence.max() == 1.0
    assert set(result.reason.tolist()) == set(range(1, 6))


def random_bars(num_bars):
    rng = np.random.default_rng(0)
    bars = {
        "log_prob": rng.normal(-18, 3, num_bars),
        "p_value": rng.uniform(0.001, 1, num_bars),
        "expected_return": rng.normal(0, 0.01, num_bars),
        "return_std": rng.uniform(0.005, 0.02, num_bars),
        "expected_shortfall": rng.uniform(0.005, 0.05, num_bars),
        "latent_return": rng.normal(size=num_bars),
    }
    return {name: column.astype(np.float32) for name, column in bars.items()}


def test_sig_03_batch_equals_the_loop_and_records_have_the_same_keys_on_every_branch():
    bars = random_bars(60)
    batch = flow.flow_signals(RULE, **bars)
    for t in range(60):
        single = decide(RULE, **{name: column[t] for name, column in bars.items()})
        for whole, one in zip(batch, single, strict=True):
            np.testing.assert_array_equal(whole[t], one)
    records = flow.signal_records(batch)
    assert len({tuple(record) for record in records}) == 1
    assert set(records[0]) >= set(flow.FlowSignal._fields) | {"is_buy", "is_sell", "is_no_trade"}
    reasons = {record["reason"] for record in records}
    assert reasons == {
        "out_of_distribution",
        "weak_forecast",
        "low_confidence",
        "long",
        "short",
    }
    for record in records:
        assert record["is_buy"] + record["is_sell"] + record["is_no_trade"] == 1
        assert record["is_buy"] == (record["reason"] == "long")


def test_e335_11_direction_is_not_read_from_the_latent_coordinate():
    bars = random_bars(60)
    shown = flow.flow_signals(RULE, **bars)
    flipped = flow.flow_signals(RULE, **(bars | {"latent_return": -bars["latent_return"]}))
    for name, before, after in zip(shown._fields, shown, flipped, strict=True):
        if name == "latent_return":
            np.testing.assert_array_equal(before, -after)
        else:
            np.testing.assert_array_equal(before, after)
    bars.pop("latent_return")
    z = bars["expected_return"] / bars["return_std"]
    np.testing.assert_allclose(flow.flow_signals(RULE, **bars).latent_return, z, rtol=1e-6)


def test_e335_20_doubling_the_shortfall_halves_the_size_and_a_sweep_is_not_constant():
    size = functools.partial(flow.tail_risk_size, risk_budget=0.01, max_position=1.0)
    assert float(size(1, 0.04)) == pytest.approx(0.5 * float(size(1, 0.02)))
    assert float(size(-1, 0.02)) == pytest.approx(-0.5)
    sweep = np.asarray(size(1, jnp.linspace(0.002, 0.24, 50)))
    assert sweep[0] == 1.0  # the cap
    assert np.all(np.diff(sweep[sweep < 1.0]) < 0.0)
    assert np.count_nonzero(sweep < 1.0) > 40
    np.testing.assert_allclose(sweep * np.linspace(0.002, 0.24, 50) <= 0.01 + 1e-8, True)


def test_a_tail_that_does_not_lose_is_held_at_the_cap_and_keeps_its_direction():
    size = flow.tail_risk_size(jnp.array([1.0, -1.0, 1.0]), jnp.array([-0.01, 0.0, jnp.nan]), 0.01)
    np.testing.assert_array_equal(size, [1.0, -1.0, np.nan])


def test_a_short_position_is_sized_by_its_own_tail():
    sides = {"expected_shortfall": 0.02, "short_expected_shortfall": 0.05}
    long = decide(RULE, **(CALM | sides))
    short = decide(RULE, **(CALM | sides | {"expected_return": -0.012}))
    assert float(long.position_size) == pytest.approx(0.5)
    assert float(short.position_size) == pytest.approx(-0.2)
    broken = decide(RULE, **(CALM | {"short_expected_shortfall": np.nan}))
    assert Reason(int(broken.reason)) is Reason.NON_FINITE


def test_entry_threshold_lets_the_stated_share_of_validation_bars_trade():
    z = np.random.default_rng(1).standard_normal((2, 20_000)).astype(np.float32)
    threshold = float(flow.entry_threshold(z[0], 0.2))
    assert np.mean(np.abs(z[0]) > threshold) == pytest.approx(0.2, abs=1e-4)
    assert np.mean(np.abs(z[1]) > threshold) == pytest.approx(0.2, abs=5 * (0.32 / 20_000) ** 0.5)
    assert np.isnan(flow.entry_threshold(np.array([0.1, np.nan]), 0.2))


def test_e335_17_the_signal_tracks_a_known_conditional_mean_and_earns_nothing_without_one():
    rng = np.random.default_rng(2)
    state, noise = rng.standard_normal((2, 8000))
    ones = np.ones(8000)

    def earned(slope):
        mean = 0.01 * slope * state
        next_return = mean + 0.01 * noise
        result = flow.flow_signals(
            FlowRule(entry_z=flow.entry_threshold(0.1 * state[:2000], 0.3), risk_budget=0.02),
            log_prob=-ones,
            p_value=ones,
            expected_return=0.001 * state,  # what the model says, right in sign where slope > 0
            return_std=0.01 * ones,
            expected_shortfall=0.02 * ones,
        )
        traded = result.signal != 0
        assert np.mean(traded) == pytest.approx(0.3, abs=0.04)
        np.testing.assert_array_equal(result.signal[traded], np.sign(state[traded]))
        gains = result.position_size * next_return
        return gains.mean() / gains.std() * np.sqrt(8000)

    assert earned(0.1) > 4.0
    assert abs(earned(0.0)) < 4.0


def test_ex_16_a_change_of_the_states_units_leaves_every_decision_unchanged():
    bars = random_bars(300)
    validation = np.random.default_rng(3).normal(-18, 3, 500).astype(np.float32)
    decisions = []
    for shift in (np.float32(0.0), np.float32(64.0)):  # d log(scale) of another unit
        rule = RULE._replace(
            density_threshold=float(anomalies.density_threshold(validation + shift, 0.05))
        )
        moved = bars | {"log_prob": bars["log_prob"] + shift}
        decisions.append(flow.flow_signals(rule, **moved).signal)
    np.testing.assert_array_equal(*decisions)
    assert np.any(decisions[0] != 0)


@pytest.mark.parametrize("name", list(CALM))
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_ex_04_a_value_that_is_not_finite_raises_and_is_never_a_quiet_no_trade(name, value):
    bars = {key: np.full(5, number, np.float32) for key, number in CALM.items()}
    bars[name][3] = value
    with pytest.raises(ValueError, match=rf"{name} must be finite.* at bar 3 \(1 bad"):
        flow.flow_signals(RULE, **bars)
    single = decide(RULE, **(CALM | {name: value}))
    assert np.isnan(single.signal)
    assert np.isnan(single.position_size)
    assert not single.is_no_trade
    assert Reason(int(single.reason)) is Reason.NON_FINITE


def test_other_bad_input_raises_and_names_the_argument():
    bars = {key: np.full(5, number) for key, number in CALM.items()}
    with pytest.raises(ValueError, match="return_std must be finite and positive"):
        flow.flow_signals(RULE, **(bars | {"return_std": np.zeros(5)}))
    with pytest.raises(ValueError, match="p_value must be"):
        flow.flow_signals(RULE, **(bars | {"p_value": np.ones(4)}))
    with pytest.raises(ValueError, match="entry_z"):
        flow.flow_signals(RULE._replace(entry_z=np.nan), **bars)
    with pytest.raises(ValueError, match="share"):
        flow.entry_threshold(np.ones(3), 20.0)


def test_a_grid_of_rules_is_a_vmap():
    rules = FlowRule(jnp.array([0.5, 1.0, 1.5]), 0.01, -20.0, 0.05, 0.3)
    axes = FlowRule(0, None, None, None, None, None)
    result = jax.vmap(lambda rule: flow.flow_signal(rule, **CALM), (axes,))(rules)
    np.testing.assert_array_equal(result.signal, [1.0, 1.0, 0.0])
