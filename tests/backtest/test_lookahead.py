"""No bar earns on a decision made after it: by derivative, by replacement and by an oracle."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from densityjax import backtest
from densityjax.backtest import Costs, Prices, Signals, ThresholdParams, apply_rule, metrics, run

FILLS = {"next_open": 1, "next_close": 2, "same_close": 1}  # bars from a decision to its return


def market(seed, num_bars):
    rng = np.random.default_rng(seed)
    legs = np.exp(0.02 * rng.standard_normal((num_bars, 2))).cumprod().reshape(num_bars, 2)
    return Prices(open=legs[:, 0], close=legs[:, 1]), rng.uniform(-1, 1, num_bars)


@pytest.mark.parametrize("fill", FILLS)
def test_no_return_depends_on_a_weight_of_its_own_bar_or_a_later_one(fill):
    prices, weights = market(0, 20)

    def returns(w):
        return run(w, prices, costs=Costs(0.0), fill=fill, max_leverage=9.0).returns

    jacobian = np.asarray(jax.jacfwd(returns)(jnp.asarray(weights)))
    assert not np.triu(jacobian, 1 - FILLS[fill]).any()
    earns_first = np.diagonal(jacobian, -FILLS[fill])
    assert (earns_first != 0.0).all()  # the test can fail: the next diagonal is full


@pytest.mark.parametrize("fill", FILLS)
def test_costs_are_paid_at_the_fill_and_not_before(fill):
    prices, weights = market(1, 20)

    def cost(w):
        return run(w, prices, fill=fill, max_leverage=9.0).cost

    jacobian = np.asarray(jax.jacfwd(cost)(jnp.asarray(weights)))
    delay = 0 if fill == "same_close" else 1
    assert not np.triu(jacobian, 1 - delay).any()
    assert (np.diagonal(jacobian, -delay) != 0.0).all()


@pytest.mark.parametrize("fill", FILLS)
def test_replacing_the_future_leaves_the_past_equal_bit_for_bit(fill):
    (prices, weights), (others, other_weights), cut = market(2, 60), market(3, 60), 35
    is_past = np.arange(60) < cut
    mixed = Prices(
        open=np.where(is_past, prices.open, others.open),
        close=np.where(is_past, prices.close, others.close),
    )
    mixed_weights = np.where(is_past, weights, other_weights)
    before = run(weights, prices, fill=fill, band=0.05)
    changed = run(mixed_weights, mixed, fill=fill, band=0.05)
    np.testing.assert_array_equal(before.equity[:cut], changed.equity[:cut])
    np.testing.assert_array_equal(before.weights[:cut], changed.weights[:cut])
    assert not np.array_equal(before.equity[cut:], changed.equity[cut:])


def test_replacing_future_signals_leaves_past_decisions_equal_bit_for_bit():
    rng = np.random.default_rng(4)
    both = [Signals(rng.normal(size=80), rng.uniform(size=80), np.full(80, 0.02)) for _ in "ab"]
    mixed = jax.tree.map(lambda a, b: np.where(np.arange(80) < 50, a, b), *both)
    params = ThresholdParams(entry_z=0.5, exit_z=0.1, min_p_value=0.1)
    first, second = (apply_rule(backtest.threshold_rule, params, s) for s in (both[0], mixed))
    np.testing.assert_array_equal(first[:50], second[:50])
    assert not np.array_equal(first[50:], second[50:])


def sharpe_of_oracle(fill, lag, seed=5, num_bars=2_000):
    """Per-bar Sharpe ratio of the signal that knows the sign of the NEXT close-to-close return."""
    prices, _ = market(seed, num_bars)
    next_return = np.append(np.diff(np.log(prices.close)), 0.0)
    result = run(np.sign(next_return), prices, costs=Costs(0.0), fill=fill, lag=lag)
    return metrics.sharpe_ratio(np.asarray(result.returns, np.float64))


def test_ex_05_an_oracle_pays_only_without_a_further_delay():
    # Returns are independent, so a stale oracle knows nothing: its Sharpe ratio is noise.
    noise = 5 / np.sqrt(2_000)
    assert sharpe_of_oracle("same_close", 0) > 1.0
    assert abs(sharpe_of_oracle("same_close", 1)) < noise
    assert abs(sharpe_of_oracle("next_close", 0)) < noise
    # Half of the move is left at the next open, of which the sign of the whole tells a part.
    assert sharpe_of_oracle("next_open", 0) > 0.4
    assert abs(sharpe_of_oracle("next_open", 1)) < noise


def test_a_signal_of_the_same_bar_earns_nothing_of_that_bar():
    prices, _ = market(6, 2_000)
    this_return = np.diff(np.log(prices.close), prepend=0.0)
    for fill in FILLS:
        result = run(np.sign(this_return), prices, costs=Costs(0.0), fill=fill)
        ratio = metrics.sharpe_ratio(np.asarray(result.returns, np.float64))
        assert abs(ratio) < 5 / np.sqrt(2_000)


def test_random_signals_lose_the_costs_on_average():
    rng = np.random.default_rng(7)
    steps = 0.01 * rng.choice([-1.0, 1.0], size=500)
    close = np.cumprod(1 + np.concatenate([[0.0], steps]))
    weights = rng.choice([-1.0, 1.0], size=(400, 501))

    def log_growth(w):
        account = run(w, Prices(close=close), costs=Costs(10.0), fill="same_close", drift=False)
        return jnp.log1p(account.returns).sum(), jnp.log1p(-1e-3 * account.turnover).sum()

    growth, paid = (np.asarray(x) for x in jax.jit(jax.vmap(log_growth))(weights))
    # A coin against +-1 % grows by (log 1.01 + log 0.99) / 2 a bar, less what trading costs.
    gap = growth - paid - 250 * np.log(1.01 * 0.99)
    assert abs(gap.mean()) < 5 * gap.std() / 20
    assert paid.mean() < -0.4
