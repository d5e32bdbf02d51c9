"""Rules against decisions written by hand, plain Python twins, and what they promise."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from densityjax import backtest
from densityjax.backtest import (
    ConstantParams,
    Costs,
    MomentumParams,
    Prices,
    Signals,
    ThresholdParams,
    VolatilityParams,
    apply_rule,
)


def signals_of(z, p_value=1.0, shortfall=0.02):
    z = np.asarray(z, float)
    return Signals(z, np.broadcast_to(p_value, z.shape), np.broadcast_to(shortfall, z.shape))


def threshold_weights(params, signals, **options):
    return np.asarray(apply_rule(backtest.threshold_rule, params, signals, **options))


def test_hysteresis_stays_until_the_forecast_fades_or_turns():
    z = [0.5, 1.1, 0.6, 0.4, 0.6, -1.2, -0.6, 0.2, -0.9, 1.5, -0.3]
    weights = threshold_weights(ThresholdParams(entry_z=1.0, exit_z=0.5), signals_of(z))
    np.testing.assert_array_equal(weights, [0, 1, 1, 0, 0, -1, -1, 0, 0, 1, 0])


def test_a_strange_state_is_flat_and_forgets_its_direction():
    p_value = [1.0, 1.0, 0.04, 1.0, 0.05]
    params = ThresholdParams(entry_z=1.0, exit_z=0.2, min_p_value=0.05)
    weights = threshold_weights(params, signals_of([2.0, 0.5, 3.0, 0.5, 2.0], p_value))
    np.testing.assert_array_equal(weights, [1, 1, 0, 0, 0])  # at the limit is strange, as alarms


def test_e335_20_the_size_is_the_risk_budget_over_expected_shortfall_and_binds():
    shortfall = [0.01, 0.02, 0.04, 0.08, 0.0]
    params = ThresholdParams(entry_z=0.5, risk_budget=0.02, max_weight=0.8)
    weights = threshold_weights(params, signals_of([1, 1, -1, 1, 1], 1.0, shortfall))
    np.testing.assert_allclose(weights, [0.8, 0.8, -0.5, 0.25, 0.8], rtol=1e-6)


def test_each_side_is_sized_by_its_own_shortfall():
    signals = signals_of([1.0, -1.0, 1.0], 1.0, 0.04)
    skewed = signals._replace(short_expected_shortfall=np.array([0.08, 0.08, 0.01]))
    params = ThresholdParams(entry_z=0.5, risk_budget=0.02)
    np.testing.assert_allclose(threshold_weights(params, skewed), [0.5, -0.25, 0.5])
    np.testing.assert_allclose(threshold_weights(params, signals), [0.5, -0.5, 0.5])


def test_without_shorts_a_bad_forecast_is_flat():
    params = ThresholdParams(entry_z=1.0, allow_short=0)
    weights = threshold_weights(params, signals_of([2.0, -2.0, -2.0, 2.0]))
    np.testing.assert_array_equal(weights, [1, 0, 0, 1])


@pytest.mark.parametrize("field", ["expected_z", "density_p_value", "expected_shortfall"])
def test_ex_04_a_nan_signal_is_no_silent_decision_to_stay_out(field):
    good = signals_of([0.0, 0.0, 0.0])  # every decision is flat
    bad = good._replace(**{field: np.array([0.1, np.nan, 0.1])})
    with pytest.raises(ValueError, match=rf"signals\.{field}\[1\] is nan"):
        threshold_weights(ThresholdParams(1.0), bad)
    traced = jax.jit(lambda s: apply_rule(backtest.threshold_rule, ThresholdParams(1.0), s))
    assert jnp.isnan(traced(bad)[1])
    assert not jnp.isnan(traced(good)).any()


def test_rules_learn_nothing_within_the_warmup():
    z = np.array([np.nan, 2.0, 0.5, 2.0, 0.5])
    params = ThresholdParams(entry_z=1.0, exit_z=0.2)
    np.testing.assert_array_equal(
        threshold_weights(params, signals_of(z), warmup=2), [0, 0, 0, 1, 1]
    )
    with pytest.raises(ValueError, match=r"expected_z\[0\] is nan"):
        threshold_weights(params, signals_of(z))


def test_momentum_follows_the_exponential_mean(x64):
    returns = np.random.default_rng(0).normal(0, 0.01, 200)
    params = MomentumParams(decay=0.9, max_weight=0.7)
    weights = apply_rule(backtest.momentum, params, Signals(last_return=returns))
    mean, expected = 0.0, []
    for value in returns:
        mean = 0.9 * mean + 0.1 * value
        expected.append(0.7 if mean > 0 else -0.7)
    np.testing.assert_allclose(weights, expected)
    long_only = params._replace(allow_short=0)
    weights = apply_rule(backtest.momentum, long_only, Signals(last_return=returns))
    np.testing.assert_allclose(weights, np.maximum(expected, 0.0))


def test_buy_and_hold_earns_the_asset(x64):
    close = np.exp(np.random.default_rng(1).normal(0, 0.02, 100).cumsum())
    weights = apply_rule(backtest.buy_and_hold, ConstantParams(), Signals(last_return=close))
    result = backtest.run(weights, Prices(close=close), costs=Costs(0.0), fill="same_close")
    np.testing.assert_allclose(result.equity, close / close[0], rtol=1e-12)
    assert np.count_nonzero(np.asarray(result.turnover) > 1e-12) == 1


def test_volatility_target_realises_its_target_on_garch_returns():
    rng = np.random.default_rng(2)
    num_bars, target = 20_000, 0.008
    returns, std = np.zeros(num_bars), np.zeros(num_bars)  # std[t] is that of return t + 1
    variance = 1e-4
    for t in range(num_bars):
        returns[t] = np.sqrt(variance) * rng.standard_normal()
        variance = 1e-6 + 0.08 * returns[t] ** 2 + 0.91 * variance
        std[t] = np.sqrt(variance)
    params = VolatilityParams(target_volatility=target, max_weight=5.0)
    weights = apply_rule(backtest.volatility_target, params, Signals(return_std=std))
    assert weights.max() < 5.0  # the cap does not bind here
    prices = Prices(close=np.cumprod(1 + returns))
    account = backtest.run(weights, prices, costs=Costs(0.0), fill="same_close", max_leverage=5.0)
    scaled = np.asarray(account.returns[1:]) / target  # standard normal at the target
    error = 5 * np.sqrt(2 / num_bars)
    np.testing.assert_allclose(np.mean(scaled**2), 1.0, atol=error)
    # The unmanaged asset is not standard normal at any scale: its squares are correlated.
    blocks = np.mean(scaled[:19_900].reshape(199, 100) ** 2, axis=1)
    assert np.var(blocks) < 2 * (2 / 100)
    assert np.var((np.asarray(returns[1:19_901]) / returns.std()).reshape(199, 100).var(1)) > 0.05
    capped = params._replace(max_weight=0.5)
    weights = apply_rule(backtest.volatility_target, capped, Signals(return_std=std))
    assert weights.max() == 0.5
