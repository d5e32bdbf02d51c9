"""The score's rule: what its sign and size mean, every gate, one bar at a time, no look-ahead."""

import functools
import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from densityjax.regimes import anomalies
from densityjax.samplers import denoise
from densityjax.strategies import score as rule_of
from densityjax.strategies import score_reading as reading
from densityjax.strategies import score_vote as voting
from densityjax.strategies.score import Reason, ScoreRule, ScoreState

RULE = ScoreRule(lookback=3, num_stable=2, min_p_value=0.05, density_threshold=-20.0)
VALIDATION = np.random.default_rng(0).standard_normal(999)
decide = jax.jit(rule_of.step)


def random_bars(num_bars, seed=0):
    rng = np.random.default_rng(seed)
    # A slow sine below the noise, so that directions last and turn.
    drift = 0.8 * np.sin(np.arange(num_bars) / 9.0)
    bars = {
        "score": drift + 0.4 * rng.standard_normal(num_bars),
        "log_prob": rng.normal(-17, 2, num_bars),
        "p_value": rng.uniform(0.001, 1, num_bars),
    }
    bars["score"][5::40] = 0.0
    bars["confidence"] = np.asarray(reading.confidence(bars["score"], VALIDATION))
    return {name: column.astype(np.float32) for name, column in bars.items()}


def warm_state(**changes):
    state = ScoreState(*map(jnp.asarray, (9, 1.0, 9, 2.0, 1.0, 0.5)))
    return state._replace(**{name: jnp.asarray(value) for name, value in changes.items()})


# --- what the score means


def log_normal(r, mean, sd):
    return -0.5 * ((r - mean) / sd) ** 2


def log_student(r, mean, sd):
    return -2.5 * jnp.log1p(((r - mean) / sd) ** 2 / 4.0)


def log_logistic(r, mean, sd):
    return -2.0 * jnp.log(jnp.cosh((r - mean) / (2.0 * sd)))


@pytest.mark.parametrize("log_density", [log_normal, log_student, log_logistic])
@pytest.mark.parametrize("mean", [-0.03, -0.001, 0.0, 0.002, 0.05])
def test_the_score_at_zero_of_a_symmetric_law_has_the_sign_of_its_centre(log_density, mean):
    score_fn = jax.grad(lambda r: log_density(r[0], mean, 0.01))
    assert np.sign(reading.return_score(score_fn)) == np.sign(mean)
    # At another reference the sign tells the side of that reference.
    assert np.sign(reading.return_score(score_fn, 0.01)) == np.sign(mean - 0.01)


def test_of_a_normal_law_it_is_mean_over_sd_and_half_the_log_odds_of_small_moves_of_any():
    normal = jax.grad(lambda r: log_normal(r[0], 0.004, 0.01))
    assert float(reading.return_score(normal)) * 0.01 == pytest.approx(0.4, rel=1e-5)
    student = jax.grad(lambda r: log_student(r[0], 0.3, 1.0))
    logistic = jax.grad(lambda r: log_logistic(r[0], 0.3, 1.0))
    for score_fn, law in ((student, stats.t(4)), (logistic, stats.logistic)):
        odds = law.logpdf(0.05 - 0.3) - law.logpdf(-0.05 - 0.3)
        score = float(reading.return_score(score_fn))
        assert 2 * 0.05 * score == pytest.approx(odds, rel=5e-3)  # off by the third order


def test_the_score_of_a_skewed_law_points_to_its_mode_which_may_be_across_from_its_mean():
    law = stats.skewnorm(-4.0)
    mean, mode = law.mean(), -0.3
    assert law.logpdf(mode) > law.logpdf(mean)  # the mode is to the right of the mean
    centred = (law.logpdf(mean + 1e-5) - law.logpdf(mean - 1e-5)) / 2e-5
    assert centred > 0.1  # of the same law shifted to mean zero


@pytest.mark.parametrize("coefficient", [0.5, -0.5])
def test_e337_01_the_score_of_the_next_return_follows_the_coefficient_that_of_the_state_does_not(
    coefficient,
):
    rng = np.random.default_rng(1)
    returns = np.zeros(4001)
    for t, noise in enumerate(rng.standard_normal(4000)):
        returns[t + 1] = coefficient * returns[t] + noise
    now, following = returns[:-1], returns[1:]

    def next_score(r_t):
        return reading.return_score(jax.grad(lambda r: log_normal(r[0], coefficient * r_t, 1.0)))

    of_next = np.asarray(jax.vmap(next_score)(now))
    np.testing.assert_array_equal(np.sign(of_next), np.sign(coefficient * now))
    error = 5 / len(now) ** 0.5
    assert np.corrcoef(of_next, following)[0, 1] == pytest.approx(0.5, abs=error)
    of_state = -now * (1.0 - coefficient**2)  # of N(0, 1 / (1 - c^2)), the law of the state itself
    # It bets on reversal whatever the coefficient, and loses where returns go on.
    assert np.sign(np.corrcoef(of_state, following)[0, 1]) == -np.sign(coefficient)


def test_e337_02_denoising_moves_a_state_and_says_nothing_of_the_next_one():
    states = np.random.default_rng(2).standard_normal((20_001, 1)).astype(np.float32)

    def noised_score(x, sigma):
        return -x / (1.0 + sigma**2)

    clean = jax.vmap(lambda x: reading.denoised_state(noised_score, x, 0.5))(states)
    moved = np.asarray(clean - states)[:, 0]
    assert moved.std() > 0.1
    assert abs(np.corrcoef(moved[:-1], states[1:, 0])[0, 1]) < 5 / 20_000**0.5
    # And so no decision reads it.
    bars = random_bars(60)
    plain = rule_of.score_signals(RULE, **bars)
    shown = rule_of.score_signals(RULE, **bars, denoised_state=clean[:60])
    assert plain.denoised_state is None
    np.testing.assert_array_equal(shown.denoised_state, clean[:60])
    np.testing.assert_array_equal(plain.position_size, shown.position_size)


def test_sig_04_e337_12_denoising_is_tweedies_step_or_the_number_of_steps_asked_for():
    x = jnp.array([1.5, -2.0])

    def noised_score(x, sigma):
        return -x / (1.0 + sigma**2)

    tweedie = reading.denoised_state(noised_score, x, 0.5)
    np.testing.assert_allclose(tweedie, x / 1.25, atol=1e-6)
    steps = reading.denoised_state(noised_score, x, 0.5, num_steps=20)
    np.testing.assert_array_equal(steps, denoise.ascend(noised_score, x, 0.5, num_steps=20))
    assert np.all(np.abs(steps) > np.abs(tweedie))


# --- confidence, direction, scale


def test_e337_17_confidence_is_a_rank_that_no_other_row_of_the_batch_moves():
    scores = np.random.default_rng(3).standard_normal(5000)
    batch = np.asarray(reading.confidence(scores, VALIDATION))
    alone = [float(reading.confidence(value, VALIDATION)) for value in scores[:20]]
    np.testing.assert_allclose(batch[:20], alone, rtol=1e-6)  # the last digit of a quotient
    larger = np.append(scores, 1e6)
    np.testing.assert_array_equal(reading.confidence(larger, VALIDATION)[:-1], batch)
    # The threshold binds: among rows like those of validation it refuses the share it names.
    refused = 1.0 - np.mean(np.asarray(reading.should_trade(batch, 0.3)))
    assert refused == pytest.approx(0.3, abs=5 * (0.21 / 999) ** 0.5)
    # And a score as large as 1 / sigma does not saturate it, nor does its unit matter.
    np.testing.assert_allclose(reading.confidence(100 * scores, 100 * VALIDATION), batch, atol=2e-3)


def test_confidence_counts_the_strictly_smaller_and_knows_no_sign():
    known = [0.1, -0.2, 0.3, -0.4]
    np.testing.assert_allclose(
        reading.confidence([0.0, 0.1, -0.25, 0.3, 0.4, -9.0], known), [0, 0, 0.5, 0.5, 0.75, 1]
    )
    assert np.isnan(reading.confidence(np.nan, known))
    assert np.isnan(reading.confidence(0.2, [*known, np.nan]))


def test_a_confidence_among_no_rows_is_refused():
    with pytest.raises(ValueError, match="validation_scores has 0 rows"):
        reading.confidence(0.2, [])


def test_sig_05_ec_12_no_score_is_no_direction_and_the_threshold_itself_trades():
    bar = {"confidence": 0.3, "log_prob": -20.0, "p_value": 0.051}
    none = decide(RULE, warm_state(), score=0.0, **bar)[1]
    assert Reason(int(none.reason)) is Reason.NO_DIRECTION
    assert float(none.raw_signal) == float(none.signal) == 0.0
    assert bool(none.is_no_trade)
    at = decide(RULE, warm_state(), score=0.5, **bar)[1]
    assert Reason(int(at.reason)) is Reason.LONG
    below = decide(RULE, warm_state(), score=0.5, **(bar | {"confidence": 0.2999}))[1]
    assert Reason(int(below.reason)) is Reason.LOW_CONFIDENCE
    assert float(below.raw_signal) == 1.0
    np.testing.assert_array_equal(
        reading.should_trade(np.float32([0.5, 0.25, np.nan]), 0.5), [True, False, False]
    )


def test_siz_05_twice_the_variance_of_the_score_is_half_the_size():
    rule = RULE._replace(reference_variance=0.02, num_stable=1, min_confidence=0.0)
    bars = random_bars(200)
    bars["score"] += np.float32(1.0)
    calm = rule_of.score_signals(rule, **bars)
    wild = rule_of.score_signals(rule, **(bars | {"score": bars["score"] * np.float32(2**0.5)}))
    np.testing.assert_allclose(wild.score_variance, 2.0 * calm.score_variance, rtol=1e-4)
    binding = (calm.score_variance > 0.02) & (calm.position_size != 0)
    assert binding.sum() > 50
    np.testing.assert_allclose(
        wild.position_size[binding], 0.5 * calm.position_size[binding], rtol=1e-4
    )
    scale = reading.variance_scale([0.01, 0.02, 0.04, 0.0, np.nan], 0.02, 1.5)
    np.testing.assert_allclose(scale, [1.5, 1.0, 0.5, 1.5, np.nan])


def test_the_variance_is_that_of_exponential_weights_over_the_lookback():
    bars = random_bars(80)
    found = rule_of.score_signals(RULE._replace(lookback=20), **bars).score_variance
    x = bars["score"].astype(np.float64)
    for t in (0, 1, 30, 79):
        weights = (19 / 21) ** np.arange(t, -1, -1)
        mean = np.average(x[: t + 1], weights=weights)
        expected = np.average((x[: t + 1] - mean) ** 2, weights=weights)
        assert found[t] == pytest.approx(expected, rel=1e-4, abs=1e-9)


def test_siz_02_ec_10_the_size_is_signal_times_base_and_confidence_counts_once():
    bar = {"score": -0.8, "log_prob": -10.0, "p_value": 0.5}
    rule = RULE._replace(base_size=0.6, num_stable=1)
    sizes = [
        float(decide(rule, warm_state(), confidence=c, **bar)[1].position_size) for c in (0.4, 0.8)
    ]
    assert sizes == [pytest.approx(-0.24), pytest.approx(-0.48)]  # linear, so not its square
    capped = decide(rule._replace(max_position=0.3), warm_state(), confidence=0.8, **bar)[1]
    assert float(capped.position_size) == pytest.approx(-0.3)
    assert float(capped.signal) == pytest.approx(-0.8)


# --- the rule


@pytest.mark.parametrize(
    ("change", "state", "signal", "reason"),
    [
        ({}, {}, 0.7, Reason.LONG),
        ({"score": -0.5}, {"direction": -1.0}, -0.7, Reason.SHORT),
        ({}, {"num_bars": 2}, 0.7, Reason.LONG),  # the third bar of three
        ({}, {"num_bars": 1}, 0.0, Reason.TOO_SHORT),
        ({"log_prob": -20.1}, {}, 0.0, Reason.OUT_OF_DISTRIBUTION),
        ({"p_value": 0.05}, {}, 0.0, Reason.OUT_OF_DISTRIBUTION),  # at the alarm rate is outside
        ({"is_familiar": False}, {}, 0.0, Reason.OUT_OF_DISTRIBUTION),
        ({"score": 0.0}, {}, 0.0, Reason.NO_DIRECTION),
        ({"confidence": 0.29}, {}, 0.0, Reason.LOW_CONFIDENCE),
        ({}, {"direction": -1.0}, 0.0, Reason.UNSTABLE),
        ({"score": -0.5}, {}, 0.0, Reason.UNSTABLE),
        ({"direction": -1.0}, {"direction": -1.0}, -0.7, Reason.SHORT),  # a vote overrides
        ({"score": np.nan}, {}, np.nan, Reason.NON_FINITE),
        ({"confidence": np.inf}, {"num_bars": 0}, np.nan, Reason.NON_FINITE),
    ],
)
def test_sig_04_truth_table(change, state, signal, reason):
    bar = {"score": 0.5, "confidence": 0.7, "log_prob": -20.0, "p_value": 0.4} | change
    after, result = decide(RULE, warm_state(**state), **bar)
    assert Reason(int(result.reason)) is reason
    assert float(result.signal) == pytest.approx(signal, nan_ok=True)
    assert float(result.position_size) == pytest.approx(signal, nan_ok=True)
    flags = [bool(result.is_buy), bool(result.is_sell), bool(result.is_no_trade)]
    assert flags == [signal > 0, signal < 0, signal == 0]
    if reason is Reason.NON_FINITE:  # and the state remembers nothing of it
        assert all(jax.tree.map(np.array_equal, after, warm_state(**state)))


def test_every_combination_of_conditions_equals_plain_python_bar_by_bar():
    bars = random_bars(400)
    result = rule_of.score_signals(RULE, **bars)
    run, last = 0, 0
    for t in range(400):
        x, confidence = bars["score"][t], bars["confidence"][t]
        direction = int(np.sign(x))
        run, last = (run + 1 if direction == last and direction else abs(direction)), direction
        ordinary = bars["log_prob"][t] >= -20 and bars["p_value"][t] > 0.05
        trades = t >= 2 and ordinary and direction and confidence >= np.float32(0.3) and run >= 2
        assert result.signal[t] == (direction * confidence if trades else 0.0)
        assert result.run_length[t] == run
    assert set(result.reason.tolist()) == set(range(1, 8))


def test_sig_11_turns_are_suppressed_and_a_constant_direction_passes():
    calm = {"confidence": np.ones(12)}
    rule = ScoreRule(lookback=1, num_stable=3)
    turning = rule_of.score_signals(rule, score=np.tile([1.0, -1.0], 6), **calm)
    assert not np.any(turning.signal)
    np.testing.assert_array_equal(turning.raw_signal, np.tile([1.0, -1.0], 6))
    lasting = rule_of.score_signals(rule, score=-np.ones(12), **calm)
    np.testing.assert_array_equal(lasting.signal, [0.0, 0.0] + [-1.0] * 10)
    zero_between = rule_of.score_signals(rule, score=[1.0, 1.0, 0.0] * 4, **calm)
    assert not np.any(zero_between.signal)


def test_one_bar_at_a_time_equals_the_batch_and_records_have_the_same_keys():
    bars = random_bars(60)
    batch = rule_of.score_signals(RULE, **bars)
    state = rule_of.start()
    for t in range(60):
        state, single = decide(RULE, state, **{name: column[t] for name, column in bars.items()})
        for whole, one in zip(batch[:-1], single[:-1], strict=True):
            np.testing.assert_array_equal(whole[t], one)
    records = rule_of.signal_records(batch)
    assert len({tuple(record) for record in records}) == 1
    reasons = {record["reason"] for record in records}
    assert {"too_short", "out_of_distribution", "low_confidence", "unstable", "long"} <= reasons
    for record in records:
        assert record["is_buy"] + record["is_sell"] + record["is_no_trade"] == 1
        assert record["is_buy"] == (record["reason"] == "long")


def test_ex_02_what_comes_later_changes_nothing_before():
    bars = random_bars(120)
    changed = {name: column.copy() for name, column in bars.items()}
    for column in changed.values():
        column[80:] = column[80:][::-1] * np.float32(0.5)
    before, after = (rule_of.score_signals(RULE, **b) for b in (bars, changed))
    for name, first, second in zip(before._fields[:-1], before, after, strict=False):
        np.testing.assert_array_equal(first[:80], second[:80], err_msg=name)
    assert np.any(before.signal[80:] != after.signal[80:])


@pytest.mark.parametrize("dim", [1, 10])
def test_e337_16_the_gate_refuses_the_stated_share_at_any_dimension(dim):
    rng = np.random.default_rng(dim)
    held_out, new = (-0.5 * (rng.standard_normal((4000, dim)) ** 2).sum(1) for _ in range(2))
    bars = {"score": np.ones(4000), "confidence": np.ones(4000)}
    by_rank = rule_of.score_signals(
        ScoreRule(lookback=1, min_p_value=0.05),
        p_value=anomalies.conformal_p_value(-new, -held_out),
        **bars,
    )
    by_quantile = rule_of.score_signals(
        ScoreRule(lookback=1, density_threshold=anomalies.density_threshold(held_out, 0.05)),
        log_prob=new,
        **bars,
    )
    for result in (by_rank, by_quantile):
        refused = np.mean(result.reason == Reason.OUT_OF_DISTRIBUTION)
        assert refused == pytest.approx(0.05, abs=5 * (2 * 0.05 * 0.95 / 4000) ** 0.5)
    # Five nats below the centre refuse almost none of one dimension and 44 % of ten.
    fixed = np.mean(new < -5.0)
    assert fixed == pytest.approx(stats.chi2.sf(10, dim), abs=0.04)


def test_ec_10_every_number_of_the_rule_changes_the_answer():
    changes = {
        "min_confidence": 0.9,
        "lookback": 50,
        "num_stable": 4,
        "density_threshold": -16.0,
        "min_p_value": 0.5,
        "base_size": 0.5,
        "reference_variance": 0.1,
        "max_scale": 0.5,
        "max_position": 0.2,
    }
    assert set(changes) == set(ScoreRule._fields)
    bars = random_bars(200)
    plain = rule_of.score_signals(RULE, **bars).position_size
    for name, value in changes.items():
        other = rule_of.score_signals(RULE._replace(**{name: value}), **bars).position_size
        assert np.any(other != plain), name


def test_cli_08_the_settings_have_the_usual_constants():
    settings = reading.ScoreSettings()
    assert settings[:6] == (10, 0.01, 1.0, 1e-3, 128, 4)
    rule = ScoreRule()
    assert (rule.min_confidence, rule.lookback) == (settings.min_confidence, settings.lookback)
    assert (rule.min_confidence, rule.lookback) == (0.3, 20)


def test_a_grid_of_rules_is_a_vmap():
    axes = ScoreRule(*(None,) * len(ScoreRule._fields))._replace(min_confidence=0)
    rules = RULE._replace(min_confidence=jnp.array([0.2, 0.4, 0.6]))
    one = functools.partial(rule_of.step, score=0.5, confidence=0.5)
    result = jax.vmap(lambda rule: one(rule, warm_state())[1].signal, (axes,))(rules)
    np.testing.assert_array_equal(result, [0.5, 0.5, 0.0])


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("name", ["score", "log_prob", "p_value", "confidence"])
def test_ex_04_a_value_that_is_not_finite_raises_and_is_never_a_quiet_no_trade(name, value):
    bars = random_bars(5)
    bars[name][3] = value
    with pytest.raises(ValueError, match=rf"{name} must be .* at bar 3 \(1 bad"):
        rule_of.score_signals(RULE, **bars)


def test_other_bad_input_raises_and_names_the_argument():
    bars = random_bars(5)
    with pytest.raises(ValueError, match=r"confidence must be in \[0, 1\]"):
        rule_of.score_signals(RULE, **(bars | {"confidence": np.full(5, 1.5)}))
    with pytest.raises(ValueError, match="p_value must have 5 bars"):
        rule_of.score_signals(RULE, **(bars | {"p_value": np.ones(4)}))
    with pytest.raises(ValueError, match="lookback"):
        rule_of.score_signals(RULE._replace(lookback=math.nan), **bars)
    with pytest.raises(ValueError, match="score must have 0 bars"):
        rule_of.score_signals(RULE, score=0.5, confidence=0.5)


@pytest.mark.parametrize(
    ("name", "value", "accepted"),
    [
        ("lookback", 0, "from 1 to"),
        ("lookback", 2.5, "a whole number >= 1"),
        ("lookback", math.inf, "a whole number >= 1"),
        ("num_stable", 0, "from 1 to"),
        ("num_stable", 1.5, "a whole number >= 1"),
        ("min_confidence", -0.1, "from 0 to 1"),
        ("min_confidence", 1.1, "from 0 to 1"),
        ("min_p_value", 1.1, "from 0 to 1"),
        ("base_size", -1.0, "from 0 to"),
        ("base_size", math.inf, "from 0 to"),
        ("max_scale", -0.5, "from 0 to"),
        ("max_position", -1.0, "from 0 to inf"),
        ("reference_variance", 0.0, "from 1.17549e-38 to inf"),
        ("reference_variance", -1.0, "from 1.17549e-38 to inf"),
    ],
)
def test_a_number_of_the_rule_out_of_its_range_is_refused_by_name(name, value, accepted):
    with pytest.raises(ValueError, match=rf"rule\.{name} must be {accepted}.*, got {value}"):
        rule_of.score_signals(RULE._replace(**{name: value}), **random_bars(5))


@pytest.mark.parametrize(
    ("name", "value", "accepted"),
    [
        ("direction", 2.0, "-1, 0 or 1"),
        ("direction", 0.5, "-1, 0 or 1"),
        ("direction", np.nan, "-1, 0 or 1"),
        ("p_value", -0.5, r"in \[0, 1\]"),
        ("p_value", 1.5, r"in \[0, 1\]"),
        ("confidence", -0.5, r"in \[0, 1\]"),
    ],
)
def test_an_input_out_of_its_range_is_refused_by_name_and_bar(name, value, accepted):
    bars = random_bars(5) | {"direction": np.ones(5, np.float32)}
    bars[name][3] = value
    with pytest.raises(ValueError, match=rf"{name} must be {accepted}, got {value} at bar 3 \(1"):
        rule_of.score_signals(RULE, **bars)


def test_no_bars_give_no_signals():
    empty = rule_of.score_signals(RULE, score=[], confidence=[], denoised_state=np.ones((0, 2)))
    assert empty.signal.shape == empty.reason.shape == (0,)
    assert empty.denoised_state.shape == (0, 2)
    assert rule_of.signal_records(empty) == []


# --- several members


COMBINES = [voting.mean, voting.median, voting.confidence_weighted, voting.majority]


@pytest.mark.parametrize("combine", COMBINES)
@pytest.mark.parametrize("score", [-0.4, 0.0, 2.0])
def test_sig_06_of_a_single_member_the_vote_is_that_member(combine, score):
    for confidence, familiar in itertools.product((0.0, 0.35, 1.0), (True, False)):
        found = voting.vote(
            combine, jnp.array([score]), jnp.array([confidence]), jnp.array([familiar])
        )
        trusted = confidence > 0.0 and score != 0.0
        assert float(found.direction) == (np.sign(score) if trusted else 0.0)
        assert float(found.confidence) == pytest.approx(confidence if trusted else 0.0)
        assert bool(found.in_distribution) == familiar


def test_sig_06_ec_12_the_four_ways_by_hand():
    score = jnp.array([0.5, -0.1, 2.0, -3.0])
    confidence = jnp.array([0.2, 0.1, 0.8, 0.9])  # signals .2, -.1, .8, -.9
    ordinary = jnp.ones(4, bool)
    signal = {
        combine: float(found.direction * found.confidence)
        for combine in COMBINES
        for found in [voting.vote(combine, score, confidence, ordinary)]
    }
    assert signal[voting.mean] == pytest.approx(0.0, abs=1e-7)
    assert signal[voting.median] == pytest.approx(0.05)  # of the two middle ones, not the upper
    weighted = (0.04 - 0.01 + 0.64 - 0.81) / 2.0
    assert signal[voting.confidence_weighted] == pytest.approx(weighted)
    assert signal[voting.majority] == 0.0  # two against two
    three = voting.vote(voting.majority, score[:3], confidence[:3], ordinary[:3])
    assert (float(three.direction), float(three.confidence)) == (1.0, pytest.approx(0.5))
    assert np.isnan(voting.vote(voting.mean, score.at[0].set(jnp.nan), confidence, ordinary)[0])


@pytest.mark.parametrize(
    ("ordinary", "quorum", "expected"),
    [
        ([True, False, False], 0.5, False),  # most say no: one alone does not carry it
        ([True, True, False], 0.5, True),
        ([True, False], 0.5, True),  # half is not most
        ([True, True, False], 1.0, False),
        ([True, False, False], 0.3, True),
    ],
)
def test_sig_06_ec_12_a_quorum_decides_what_is_in_distribution(ordinary, quorum, expected):
    ones = jnp.ones(len(ordinary))
    found = voting.vote(voting.mean, ones, ones, jnp.array(ordinary), quorum=quorum)
    assert bool(found.in_distribution) is expected
    bar = {"score": 1.0, "confidence": 1.0, "is_familiar": found.in_distribution}
    assert (float(decide(RULE, warm_state(), **bar)[1].signal) != 0) is expected
