"""The engine against a ledger of cash and units, hand-made anchors, and its own invariants."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from densityjax import backtest
from densityjax.backtest import Costs, Prices, run

ANCHOR = Prices(open=[100, 102, 101, 105, 103, 100], close=[101, 100, 104, 104, 99, 101])
TARGETS = [1.0, 1.0, -1.0, -0.5, 0.0, 0.0]
FILLS = ["next_open", "next_close", "same_close"]


def random_market(seed, num_bars=60, scale=0.05):
    rng = np.random.default_rng(seed)
    legs = np.exp(scale * rng.standard_normal((num_bars, 2))).cumprod().reshape(num_bars, 2)
    return Prices(open=legs[:, 0], close=legs[:, 1]), rng.uniform(-1.5, 1.5, num_bars)


@pytest.mark.parametrize(
    ("fill", "equity", "cost", "turnover"),
    [
        (
            "next_open",
            [1, 0.9793921569, 1.0185771402, 1.0361084285, 1.0657253928, 1.0601404769],
            0.0040512949,
            3.9442097439,
        ),
        (
            "next_close",
            [1, 0.9990000000, 1.0389990000, 1.0369210010, 1.0864272653, 1.0748943365],
            0.0040790246,
            3.9264764479,
        ),
        (
            "same_close",
            [0.9990000000, 0.9890980099, 1.0266046454, 1.0260892857, 1.0502786577, 1.0502786577],
            0.0040623089,
            3.9680326951,
        ),
    ],
)
def test_equity_reproduces_the_hand_ledger(x64, fill, equity, cost, turnover):
    result = run(TARGETS, ANCHOR, costs=Costs(fee_bps=10.0), fill=fill)
    np.testing.assert_allclose(result.equity, equity, atol=1e-10)
    np.testing.assert_allclose(result.cost.sum(), cost, atol=1e-10)
    np.testing.assert_allclose(result.turnover.sum(), turnover, atol=1e-10)


def test_the_band_reproduces_the_hand_ledger(x64):
    # The hand ledger has no cap, which the fee of a position of all the equity would exceed.
    result = run(TARGETS, ANCHOR, costs=Costs(fee_bps=10.0), band=0.05, max_leverage=2.0)
    np.testing.assert_allclose(result.equity[-1], 1.0601813217, atol=1e-10)
    np.testing.assert_allclose(result.cost.sum(), 0.0040514143, atol=1e-10)
    np.testing.assert_allclose(result.turnover.sum(), 3.9441711444, atol=1e-10)


def test_ex_09_costs_are_paid_on_each_position_change_and_compound(x64):
    # +1 at 100, flipped to -1 at 110, out at 99, 15 bp of each unit traded.
    prices, costs = Prices(close=[100.0, 110.0, 99.0]), Costs(fee_bps=10.0, slippage_bps=5.0)
    result = run([1.0, -1.0, 0.0], prices, costs=costs, fill="same_close", drift=False)
    np.testing.assert_allclose(10_000 * result.equity[-1], 12_027.536043, atol=1e-6)


# The fixture is a plain function, so that it need not be made anew for each example.
@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    seed=st.integers(0, 2**31),
    fill=st.sampled_from(FILLS),
    lag=st.integers(0, 2),
    scale=st.sampled_from([0.01, 0.1, 0.4]),
    fee_bps=st.floats(0.0, 100.0),
    cash_rate=st.floats(0.0, 1e-3),
    # An order of exactly the band is decided by rounding: no cap or difference of caps is a band.
    band=st.sampled_from([0.0, 0.0317, 0.1234567, 0.31415926]),
    max_leverage=st.sampled_from([0.5, 1.0, 1.7, 3.0]),
    allow_short=st.booleans(),
    warmup=st.integers(0, 20),
)
def test_the_engine_equals_cash_and_units(ledger, seed, fill, lag, scale, **options):
    with jax.enable_x64(True):
        prices, weights = random_market(seed, scale=scale)
        weights = 2.0 * weights
        fee_and_rate = {name: options.pop(name) for name in Costs._fields if name in options}
        result = run(weights, prices, costs=Costs(**fee_and_rate), fill=fill, lag=lag, **options)
    twin = ledger(weights, prices, fill=fill, lag=lag, **fee_and_rate, **options)
    np.testing.assert_allclose(result.equity, twin.equity, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(result.cost, twin.cost, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(result.turnover, twin.traded, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(result.weights, twin.weight, rtol=1e-9, atol=1e-12)
    assert bool(result.is_ruined) == twin.is_ruined


def test_without_drift_equity_is_the_textbook_product(x64):
    prices, weights = random_market(3)
    weights = np.clip(weights, -1, 1)
    result = run(weights, prices, costs=Costs(fee_bps=7.0), fill="next_close", drift=False)
    held = np.concatenate([[0.0], weights[:-1]])  # traded at C_t
    earning = np.concatenate([[0.0], held[:-1]])  # earns C_t -> C_{t+1}
    market = np.diff(prices.close, prepend=prices.close[0]) / np.roll(prices.close, 1)
    factors = (1 + earning * market) * (1 - 7e-4 * np.abs(np.diff(held, prepend=0.0)))
    np.testing.assert_allclose(result.equity, factors.cumprod(), rtol=1e-12)
    np.testing.assert_allclose(result.held, earning, atol=1e-15)


@pytest.mark.parametrize("fill", FILLS)
def test_profits_less_costs_plus_interest_are_the_change_of_equity(x64, fill):
    prices, weights = random_market(1)
    result = run(weights, prices, costs=Costs(20.0, 3.0, 2.0, 1e-4), fill=fill)
    change = np.diff(result.equity, prepend=1.0)
    parts = result.gap_pnl + result.body_pnl + result.interest - result.cost
    np.testing.assert_allclose(change, parts, atol=1e-14)
    np.testing.assert_allclose(np.cumprod(1 + result.returns), result.equity, rtol=1e-12)


def test_double_leverage_and_a_fall_of_60_percent_is_ruin_for_ever(x64):
    prices = Prices(close=[100.0, 40.0, 400.0, 40.0, 90.0])
    result = run([2.0, 1.0, -1.0, 1.0, 1.0], prices, fill="same_close", max_leverage=2.0)
    assert result.is_ruined
    np.testing.assert_array_equal(result.equity[1:], 0.0)
    np.testing.assert_array_equal(result.returns[1:], [-1.0, 0.0, 0.0, 0.0])
    np.testing.assert_array_equal(result.weights[1:], 0.0)
    chex.assert_tree_all_finite(result)
    with_half = run([1.0, 1.0, 1.0, 1.0, 1.0], prices, fill="same_close", max_leverage=2.0)
    assert not with_half.is_ruined


def test_vmapped_over_assets_and_costs_equals_looped_equals_the_twin(x64, ledger):
    markets = [random_market(seed) for seed in range(3)]
    weights = np.stack([w for _, w in markets])
    opens, closes = (np.stack([p[i] for p, _ in markets]) for i in (0, 3))

    def equity(w, o, c, fee):
        return run(w, Prices(open=o, close=c), costs=Costs(fee_bps=fee)).equity

    fees = np.array([0.0, 25.0])
    both = jax.vmap(jax.vmap(equity, (0, 0, 0, None)), (None, None, None, 0))(
        weights, opens, closes, fees
    )
    for i, fee in enumerate(fees):
        for j, (prices, w) in enumerate(markets):
            np.testing.assert_allclose(both[i, j], equity(w, *prices[::3], fee), rtol=1e-12)
            np.testing.assert_allclose(both[i, j], ledger(w, prices, fee_bps=fee).equity)


def test_float32_stays_close_to_float64_over_a_long_history():
    prices, weights = random_market(7, num_bars=4_000, scale=0.003)
    single = run(weights, prices)
    assert single.equity.dtype == jnp.float32
    with jax.enable_x64(True):
        double = run(weights, prices)
        assert double.equity.dtype == jnp.float64
    np.testing.assert_allclose(single.equity, double.equity, rtol=1e-4)


def test_cost_is_linear_in_the_fee_at_fixed_orders(x64):
    # Without drift orders do not depend on equity; its share of equity is then linear in the fee.
    prices, weights = random_market(2)
    of = [run(weights, prices, costs=Costs(fee_bps=f), drift=False) for f in (0.0, 5.0, 10.0)]
    share = [result.cost / np.roll(result.equity, 1) for result in of]
    gross = 1 + of[0].gap_pnl / np.roll(of[0].equity, 1)
    chex.assert_trees_all_close(of[1].turnover, of[2].turnover)
    np.testing.assert_allclose(share[2][1:], 2 * share[1][1:], rtol=1e-12)
    np.testing.assert_allclose(share[1][1:], (5e-4 * of[1].turnover * gross)[1:], atol=1e-15)


@pytest.mark.parametrize("name", ["fee_bps", "half_spread_bps", "slippage_bps"])
def test_each_cost_matters_as_much_as_the_others(x64, name):
    prices, weights = random_market(2)
    zero = Costs(fee_bps=0.0)
    some = run(weights, prices, costs=zero._replace(**{name: 10.0}))
    fee = run(weights, prices, costs=zero._replace(fee_bps=10.0))
    chex.assert_trees_all_close(some, fee, rtol=1e-14)
    assert some.equity[-1] < run(weights, prices, costs=zero).equity[-1]


def test_scaling_the_prices_changes_nothing(x64):
    prices, weights = random_market(4)
    scaled = Prices(open=1_024.0 * prices.open, close=1_024.0 * prices.close)
    chex.assert_trees_all_equal(run(weights, prices), run(weights, scaled))


@pytest.mark.parametrize("fill", FILLS)
@pytest.mark.parametrize("lag", [1, 3, 100])
def test_lag_equals_shifting_the_weights(x64, fill, lag):
    prices, weights = random_market(5)
    shifted = np.concatenate([np.zeros(lag), weights])[: len(weights)]
    chex.assert_trees_all_equal(
        run(weights, prices, fill=fill, lag=lag), run(shifted, prices, fill=fill)
    )


def test_leverage_cap_and_short_ban_hold_over_random_targets():
    prices, weights = random_market(6)
    result = run(50 * weights, prices, costs=Costs(0.0), max_leverage=1.5)
    np.testing.assert_allclose(np.abs(result.held).max(), 1.5, rtol=1e-6)
    long_only = run(50 * weights, prices, costs=Costs(0.0), max_leverage=1.5, allow_short=False)
    assert long_only.held.min() == 0.0
    np.testing.assert_allclose(long_only.held.max(), 1.5, rtol=1e-6)


def test_weights_within_the_warmup_may_be_nan_and_are_flat():
    prices, weights = random_market(8)
    weights[:20] = np.nan
    result = run(weights, prices, warmup=20)
    assert not result.held[:21].any()
    assert result.held[21] != 0.0
    assert result.is_finite
    with pytest.raises(ValueError, match=r"weights\[19\] is nan"):
        run(weights, prices, warmup=19)


def test_a_cash_rate_is_earned_by_an_idle_account_and_paid_by_a_levered_one(x64):
    prices = Prices(close=np.full(5, 100.0))
    idle = run(np.zeros(5), prices, costs=Costs(0.0, cash_rate=0.01), fill="same_close")
    np.testing.assert_allclose(idle.equity, 1.01 ** np.arange(1, 6))
    levered = run(
        np.full(5, 2.0), prices, costs=Costs(0.0, cash_rate=0.01), fill="same_close", max_leverage=2
    )
    np.testing.assert_allclose(levered.returns, [0.01, -0.01, -0.01, -0.01, -0.01])


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (dict(fill="tomorrow"), "fill is 'tomorrow'"),
        (dict(lag=-1), "lag is -1"),
        (dict(weights=np.ones(5)), r"weights has shape \(5,\)"),
        (dict(weights=[1, 1, np.nan, 1, 1, 1]), r"weights\[2\] is nan"),
        (dict(prices=ANCHOR._replace(open=None)), "prices.open is None"),
        (dict(prices=ANCHOR._replace(close=None)), "prices.close is None"),
        (dict(prices=ANCHOR._replace(open=[1.0, 2.0])), "prices.open has shape"),
        (dict(prices=ANCHOR._replace(close=[1, 2, 3, -4, 5, 6])), r"prices.close\[3\] is -4.0"),
        (dict(prices=ANCHOR._replace(high=[1, np.inf, 3, 4, 5, 6])), r"prices.high\[1\] is inf"),
    ],
)
def test_bad_arguments_are_named(change, match):
    arguments = {"weights": TARGETS, "prices": ANCHOR, **change}
    with pytest.raises(ValueError, match=match):
        run(arguments.pop("weights"), arguments.pop("prices"), **arguments)


def test_a_traced_nan_raises_the_flag_and_is_not_mapped_to_no_trade():
    compiled = jax.jit(lambda w, c: run(w, Prices(close=c), fill="next_close", band=0.1))
    good, close = jnp.ones(6), jnp.arange(1.0, 7.0)
    assert compiled(good, close).is_finite
    bad_weight = compiled(good.at[2].set(jnp.nan), close)
    assert not bad_weight.is_finite
    assert jnp.isnan(bad_weight.equity[-1])
    assert not compiled(good, close.at[3].set(jnp.nan)).is_finite


def test_one_bar_at_a_time_equals_the_scan(x64):
    prices, weights = random_market(9)
    weights = np.clip(weights, -1, 1)
    moves = backtest.market_moves(prices, "next_open")
    terms = backtest.make_terms(Costs(12.0), band=0.02)
    state, path = backtest.start(), []
    step = jax.jit(backtest.step)
    for t in range(len(weights)):
        bar = jax.tree.map(lambda leaf, t=t: leaf[t], moves)
        state, _ = step(state, bar, weights[t - 1] if t else 0.0, terms)
        path.append(state.equity)
    expected = run(weights, prices, costs=Costs(12.0), band=0.02).equity
    np.testing.assert_allclose(path, expected, rtol=1e-13)


def test_no_stops_are_the_default_and_other_things_are_refused():
    plain = run(TARGETS, ANCHOR)
    documented = run(TARGETS, ANCHOR, costs=Costs(), stops=None, fill="next_open", drift=True)
    chex.assert_trees_all_equal(plain, documented)
    chex.assert_trees_all_equal(plain, run(TARGETS, ANCHOR, stops=backtest.Stops()))
    with pytest.raises(ValueError, match=r"stops is 0\.05; accepted are None and a Stops"):
        run(TARGETS, ANCHOR, stops=0.05)  # type: ignore[arg-type]
