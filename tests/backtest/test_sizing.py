"""Volatility targets on a market of known volatility, caps, random rules of given turnover."""

import jax
import numpy as np
import pytest

from densityjax import backtest
from densityjax.backtest import (
    Costs,
    Prices,
    RandomParams,
    RandomState,
    Signals,
    VolatilityParams,
    apply_rule,
    run,
    sizing,
)


def garch(seed, num_bars=6_000):
    """Closes of a GARCH(1,1) market and the true volatility of the NEXT return at each close."""
    rng = np.random.default_rng(seed)
    variance, steps, next_std = 1e-4, np.zeros(num_bars), np.zeros(num_bars)
    for t in range(num_bars):
        steps[t] = variance**0.5 * rng.standard_normal()
        variance = 3e-6 + 0.12 * steps[t] ** 2 + 0.85 * variance
        next_std[t] = variance**0.5
    return Prices(close=100.0 * np.cumprod(1.0 + steps)), next_std


def test_siz_06_realised_volatility_is_the_target_on_a_garch_market(x64):
    prices, next_std = garch(0)
    target = 0.004
    weights = apply_rule(
        backtest.volatility_target, VolatilityParams(target, 9.0), Signals(return_std=next_std)
    )
    result = run(weights, prices, costs=Costs(0.0), fill="same_close", max_leverage=9.0)
    returns = np.asarray(result.returns)[1:]
    # The scaled returns are normal: the standard error of their deviation is sigma / sqrt(2 n).
    np.testing.assert_allclose(returns.std(), target, atol=5 * target / (2 * returns.size) ** 0.5)
    held = run(np.ones(6_000), prices, costs=Costs(0.0), fill="same_close").returns[1:]
    blocks, plain = (np.asarray(x)[:5_900].reshape(59, 100).std(1) for x in (returns, held))
    assert blocks.std() / blocks.mean() < 0.5 * plain.std() / plain.mean()
    # Stale by one bar it is no longer on target within bars of high volatility, but near it.
    late = run(weights, prices, costs=Costs(0.0), fill="next_close", max_leverage=9.0).returns
    assert abs(np.asarray(late).std() / target - 1.0) < 0.15


def test_annual_targets_scale_by_the_square_root_of_time():
    np.testing.assert_allclose(sizing.volatility_per_bar(0.2, 400.0), 0.01, rtol=1e-6)
    np.testing.assert_allclose(
        sizing.volatility_size(np.array([0.01, 0.04, 0.0]), 0.02, 1.5), [1.5, 0.5, 1.5]
    )


def test_siz_07_no_weight_leaves_its_caps_over_random_targets(x64):
    weights = np.random.default_rng(1).normal(0.0, 2.0, (2_000, 4))
    caps = dict(max_weight=np.array([0.5, 1.0, 1.0, 2.0]), max_gross=1.6, max_net=0.7)
    limited = np.asarray(sizing.limit_weights(weights, **caps))
    assert (np.abs(limited) <= caps["max_weight"] + 1e-12).all()
    assert np.abs(limited).sum(1).max() == pytest.approx(1.6)
    assert np.abs(limited.sum(1)).max() == pytest.approx(0.7)
    assert (np.sign(limited) == np.sign(weights)).all()
    small = 0.01 * weights
    np.testing.assert_array_equal(sizing.limit_weights(small, **caps), small)
    assert np.isnan(sizing.limit_weights(np.array([np.nan, 9.0]), max_gross=1.0)).any()


@pytest.mark.parametrize(("turnover", "exposure"), [(0.05, 1.0), (0.3, 0.5), (0.75, 0.5)])
def test_random_rules_have_the_turnover_and_exposure_asked_for(turnover, exposure):
    num_bars, seeds = 400, np.arange(50)
    signals = Signals(last_return=np.zeros(num_bars))

    def weights_of(seed):
        params = RandomParams(seed, turnover, 1.0, exposure)
        return apply_rule(backtest.random_rule, params, signals, init_state=RandomState())

    weights = np.asarray(jax.jit(jax.vmap(weights_of))(seeds))
    traded = np.abs(np.diff(weights, axis=1)).mean(1)
    held = (weights != 0.0).mean(1)
    for values, wanted in ((traded, turnover), (held, exposure)):
        assert abs(values.mean() - wanted) <= 5 * values.std(ddof=1) / len(seeds) ** 0.5
    mean = weights.mean(1)
    assert abs(mean.mean()) < 5 * mean.std(ddof=1) / len(seeds) ** 0.5
    assert set(np.unique(weights)) <= {-1.0, 0.0, 1.0}
    np.testing.assert_array_equal(weights[3], weights_of(3))  # the seed fixes the rule
    assert len(np.unique(weights, axis=0)) == len(seeds)


def test_a_grid_of_random_rules_sweeps_their_seed():
    rng = np.random.default_rng(2)
    prices = Prices(close=100.0 * np.exp(0.01 * rng.standard_normal(300).cumsum()))
    params = RandomParams(seed=np.arange(6), turnover=0.2)
    result = backtest.run_grid(
        backtest.random_rule,
        params,
        Signals(last_return=np.zeros(300)),
        prices,
        fill="same_close",
        init_state=RandomState(),
    )
    weights = apply_rule(
        backtest.random_rule,
        RandomParams(seed=4, turnover=0.2),
        Signals(last_return=np.zeros(300)),
        init_state=RandomState(),
    )
    one = run(weights, prices, fill="same_close")
    np.testing.assert_allclose(result.metrics.total_return[4], one.equity[-1] - 1.0, rtol=1e-4)
    assert len(np.unique(result.metrics.total_return)) == 6
