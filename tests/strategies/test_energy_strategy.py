"""The energy strategy: signals, sizes, votes, and its overlay in a backtest."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from densityjax import backtest
from densityjax.regimes import energy_levels
from densityjax.strategies import energy, energy_signals, energy_sizing
from densityjax.strategies.energy import EnergyRule, Reason
from densityjax.strategies.energy_signals import Action
from densityjax.strategies.energy_sizing import OverlayParams, OverlaySignals


def signals(z, returns, **fields):
    return energy.energy_signals(EnergyRule(**fields), energy_z=z, last_return=returns)


def test_sig_08_e338_20_a_spike_that_passed_is_traded_once_against_its_move():
    z = [0.0, 0.1, 2.4, 1.2, 0.6, 0.4, 0.2, 0.1, 0.0, 0.0, 0.0]
    returns = [0.0, 0.0, -0.05, 0.01, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0]
    found = signals(z, returns)
    entries = [Action.LONG, Action.SHORT]
    assert np.flatnonzero(np.isin(found.action, entries)).tolist() == [4]
    assert found.action[4] == Action.LONG
    assert found.confidence[4] == pytest.approx(0.7)
    mirrored = signals(z, -np.asarray(returns))
    assert mirrored.action[4] == Action.SHORT
    np.testing.assert_array_equal(mirrored.position_size, -found.position_size)
    # Held for five bars, its own included, sized by z at each of them.
    held = [0, 0, 0, 0, 0.7, 0.8, 0.9, 0.95, 1.0, 0, 0]
    np.testing.assert_allclose(found.position_size, held, atol=1e-6)


@pytest.mark.parametrize(
    ("z", "moves"),
    [
        ([0, 2.4, 1.2, 1.1, 1.0, 1.0, 0.5, 0.5], -0.05),  # more than five bars ago
        ([0, 2.4, 1.2, 0.5, 0.5, 0.5, 0.5, 0.5], -0.019),  # too small a move
        ([0, 2.0, 1.2, 0.5, 0.5, 0.5, 0.5, 0.5], -0.05),  # not above the cut
    ],
)
def test_e338_20_no_entry_without_spike_window_or_move(z, moves):
    found = signals(z, [0.0, moves, 0, 0, 0, 0, 0, 0])
    assert not np.isin(found.action, [Action.LONG, Action.SHORT]).any()


@pytest.mark.parametrize(
    ("z", "action", "confidence"),
    [
        (np.nan, Action.EXIT, 0.95),
        (3.1, Action.EXIT, 0.95),
        (3.0, Action.REDUCE, 0.8),
        (1.6, Action.REDUCE, 0.8),
        (1.5, Action.HOLD, 0.5),
        (-9.0, Action.HOLD, 0.5),
    ],
)
def test_sig_07_actions_and_confidences_by_z(z, action, confidence):
    found = signals([0.0, z], [0.0, 0.0])
    assert found.action[1] == action
    assert found.confidence[1] == pytest.approx(confidence)
    assert found.is_anomalous[1] == (z > 2.0)


def test_sig_07_an_entry_below_the_minimum_confidence_becomes_a_hold_with_its_reason():
    z, returns = [0.0, 2.4, 0.5], [0.0, -0.05, 0.0]
    found = signals(z, returns, min_confidence=0.75)
    assert found.action[2] == Action.HOLD
    assert found.reason[2] == Reason.LOW_CONFIDENCE
    assert (found.position_size == 0.0).all()


def test_sig_07_cuts_must_rise_and_numbers_lie_in_their_ranges():
    for fields in ({"reduce_z": 2.5}, {"exit_z": 2.0}, {"resolved_z": 1.5}):
        with pytest.raises(ValueError, match="rising"):
            energy.check_rule(EnergyRule(**fields))
    with pytest.raises(ValueError, match="entry_confidence"):
        energy.check_rule(EnergyRule(entry_confidence=1.2))
    with pytest.raises(ValueError, match="cutoff_z"):
        energy.check_rule(EnergyRule(cutoff_z=0.0))
    with pytest.raises(ValueError, match="max_position"):
        energy.check_rule(EnergyRule(max_position=-1.0))
    with pytest.raises(ValueError, match="last_return"):
        signals([0.0], [np.nan])
    with pytest.raises(ValueError, match=r"\[T\]"):
        signals([0.0], [0.0, 0.0])


def test_an_exit_closes_a_position_and_it_stays_closed():
    z = [0.0, 2.4, 0.5, 3.5, 0.5, 0.5]
    found = signals(z, [0.0, -0.05, 0.0, 0.0, 0.0, 0.03])
    assert found.direction.tolist()[:4] == [0.0, 0.0, 1.0, 0.0]
    assert found.position_size[3] == 0.0
    assert found.reason[3] == Reason.EXTREME


def test_bars_one_by_one_equal_the_batch_and_later_bars_move_none():
    rng = np.random.default_rng(0)
    z, returns = 1.5 * rng.normal(size=80), 0.03 * rng.normal(size=80)
    z[:5] = np.nan
    batch, rule = signals(z, returns, is_piecewise=1.0), EnergyRule(is_piecewise=1.0)
    assert len(np.unique(batch.action)) == 5
    state, step = energy.start(), jax.jit(energy.step)
    for t in range(40):
        state, one = step(rule, state, energy_z=z[t], last_return=returns[t])
        for name in one._fields:
            np.testing.assert_array_equal(getattr(one, name), getattr(batch, name)[t])
    cut = signals(z[:50], returns[:50], is_piecewise=1.0)
    np.testing.assert_array_equal(cut.position_size, batch.position_size[:50])
    _, broken = step(rule, state, energy_z=0.0, last_return=np.nan)
    assert int(broken.reason) == Reason.NON_FINITE
    assert np.isnan(broken.position_size)


def test_records_have_the_same_keys_and_words_for_numbers():
    records = energy.signal_records(signals([np.nan, 2.4, 0.5], [0.0, -0.05, 0.0]))
    assert [record["action"] for record in records] == ["exit", "reduce", "long"]
    assert [record["reason"] for record in records] == ["warming_up", "strange", "after_fall"]
    assert len({tuple(record) for record in records}) == 1
    assert isinstance(records[0]["position_size"], float)


def test_siz_03_e338_18_the_linear_curve_lies_in_0_to_1_and_never_rises():
    z = np.linspace(-10.0, 10.0, 401)
    scale = np.asarray(energy_sizing.linear_scale(z))
    assert scale.min() == 0.0
    assert scale.max() == 1.0
    assert (np.diff(scale) <= 0.0).all()
    np.testing.assert_allclose(energy_sizing.linear_scale([0.5, 1.0, 2.0]), [0.75, 0.5, 0.0])
    assert energy_sizing.linear_scale(np.nan) == 0.0


def test_siz_04_the_piecewise_curve_is_continuous_with_its_knots_and_slopes():
    z = np.linspace(-1.0, 4.0, 5001)
    scale = np.asarray(energy_sizing.piecewise_scale(z))
    assert (np.diff(scale) <= 1e-7).all()
    assert np.abs(np.diff(scale)).max() < 5e-4  # no jump: .4 times the step of .001
    knots = energy_sizing.piecewise_scale(jnp.arange(4.0))
    np.testing.assert_allclose(knots, [1.0, 0.8, 0.5, 0.1], atol=1e-7)
    slope = jax.vmap(jax.grad(energy_sizing.piecewise_scale))(jnp.array([0.5, 1.5, 2.5, 3.5]))
    np.testing.assert_allclose(slope, [-0.2, -0.3, -0.4, 0.0], atol=1e-6)


def test_reg_02_multiples_of_regimes_are_capped_by_the_largest_position():
    found = energy_sizing.regime_position(0.9, np.array([-1, 0, 1, 2, 3]))
    np.testing.assert_allclose(found, [0.0, 1.0, 0.9, 0.45, 0.09], atol=1e-6)
    uncapped = energy_sizing.regime_position(-0.9, np.array([0]), max_position=2.0)
    np.testing.assert_allclose(uncapped, [-1.08], atol=1e-6)


def test_sig_12_reduce_and_exit_are_strictly_above_their_cuts_and_the_unknown_is_left():
    z = np.array([1.5, 1.51, 3.0, 3.01, np.nan])
    assert energy_signals.should_reduce(z).tolist() == [False, True, True, True, False]
    assert energy_signals.should_exit(z).tolist() == [False, False, False, True, True]


def test_sig_10_weights_change_the_vote_and_ties_go_to_the_cautious():
    actions = np.array([[Action.LONG, Action.EXIT]] * 3 + [[Action.SHORT, Action.LONG]])
    confidence = np.array([[0.7, 0.95], [0.7, 0.95], [0.7, 0.7], [0.7, 0.7]])
    equal = energy_signals.aggregate_actions(actions, confidence, [1.0, 1.0])
    assert equal.action.tolist() == [Action.EXIT] * 3 + [Action.SHORT]
    np.testing.assert_allclose(equal.confidence, [0.475, 0.475, 0.35, 0.35])
    np.testing.assert_allclose(equal.average_confidence, [0.475, 0.475, 1.3 / 3, 1.65 / 4])
    assert equal.dominant.tolist() == [Action.EXIT] * 4
    first = energy_signals.aggregate_actions(actions, confidence, [3.0, 1.0])
    assert first.action.tolist() == [Action.LONG] * 3 + [Action.SHORT]


def test_sig_10_means_reach_ten_bars_back_and_the_dominant_action_five():
    actions = np.array([[Action.LONG]] * 10 + [[Action.SHORT]] * 10)
    confidence = np.linspace(0.05, 1.0, 20)[:, None]
    found = energy_signals.aggregate_actions(actions, confidence, [2.0])
    expected = [confidence[max(0, t - 9) : t + 1].mean() for t in range(20)]
    np.testing.assert_allclose(found.average_confidence, expected, atol=1e-12)
    assert found.dominant.tolist() == [Action.LONG] * 12 + [Action.SHORT] * 8
    with pytest.raises(ValueError, match="weights"):
        energy_signals.aggregate_actions(actions, confidence, [0.0])
    with pytest.raises(ValueError, match="actions must be"):
        energy_signals.aggregate_actions(actions + 7, confidence, [1.0])


@pytest.fixture(scope="module")
def market():
    rng = np.random.default_rng(1)
    returns = 0.01 * rng.normal(size=120)
    close = 100.0 * np.exp(np.cumsum(returns))
    open_ = np.concatenate([[100.0], close[:-1]])
    prices = backtest.Prices(open=open_, close=close)
    return prices, OverlaySignals(
        weight=np.sign(rng.normal(size=120)), energy_z=rng.normal(size=120)
    )


def test_the_overlay_in_a_grid_equals_weights_made_by_hand(market):
    prices, overlay = market
    grid = backtest.product_grid(OverlayParams, cutoff_z=[1.0, 2.0], curve=[0, 1, 2, 3])
    found = backtest.run_grid(energy_sizing.energy_overlay, grid, overlay, prices, warmup=3)
    z = overlay.energy_z
    for row, (cutoff, curve) in enumerate(itertools.product([1.0, 2.0], range(4))):
        regime = np.searchsorted([-1.0, 1.0, 2.0], z, side="right")
        scale = [
            np.clip(1 - z / cutoff, 0, 1),
            np.interp(z, [0, 1, 2, 3], [1, 0.8, 0.5, 0.1]),
            np.array([1.2, 1.0, 0.5, 0.1])[regime],
            np.ones(120),
        ][curve] * ((z <= 3.0) | (curve == 3))
        weight = np.clip(overlay.weight * scale, -1, 1) * (np.arange(120) >= 3)
        alone = backtest.run(weight, prices)
        total = np.prod(1.0 + np.asarray(alone.returns)) - 1.0
        assert found.metrics.total_return[row] == pytest.approx(total, abs=2e-5)


def test_the_overlay_never_takes_the_other_side_nor_more_than_the_base(market):
    _, overlay = market
    for curve in range(3):
        weight = backtest.apply_rule(
            energy_sizing.energy_overlay, OverlayParams(curve=curve), overlay
        )
        assert (np.asarray(weight) * overlay.weight >= 0.0).all()
        assert (np.abs(weight) <= 1.0 + 1e-6).all()
    strange = overlay._replace(energy_z=np.full(120, 3.5))
    weight = backtest.apply_rule(energy_sizing.energy_overlay, OverlayParams(curve=1), strange)
    assert (np.asarray(weight) == 0.0).all()


def test_e338_17_no_position_is_held_before_enough_energies_are_there():
    energies = np.random.default_rng(2).gamma(3.0, size=30)
    z = energy_levels.energy_levels(energies).z
    found = signals(z, np.zeros(30))
    assert (found.scale[:5] == 0.0).all()
    assert (found.reason[:5] == Reason.WARMING_UP).all()
    assert (found.scale[5:] > 0.0).any()
