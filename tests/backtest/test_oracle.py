"""The engine against a ledger of cash and units, with every option on, over random markets."""

import collections
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from densityjax.backtest import Costs, MarketColumns, Prices, Stops, oracle, run

NUM_BARS = 60
STATIC = [
    dict(fill="next_open", drift=True, trigger="intrabar", lag=0),
    dict(fill="next_open", drift=False, trigger="intrabar", lag=1),
    dict(fill="next_close", drift=True, trigger="intrabar", lag=0),
    dict(fill="same_close", drift=False, trigger="intrabar", lag=0),
    dict(fill="next_open", drift=True, trigger="close", lag=2),
    dict(fill="same_close", drift=True, trigger="close", lag=0),
]
ENDS = (dict(liquidate=True, warmup=7), dict(liquidate=False, warmup=0))
TOO_CLOSE = 1e-9  # relative distance of a decision at which two float64 roundings may differ


def random_case(seed):
    """A market, targets that stay for a while, and numbers for every option, most of them on."""
    rng = np.random.default_rng(seed)
    scale = rng.choice([0.003, 0.02, 0.1, 0.3])
    steps = scale * rng.standard_normal((NUM_BARS, 2)) * rng.choice([1.0, 0.3], size=(1, 2))
    legs = 100.0 * np.exp(steps.ravel().cumsum()).reshape(NUM_BARS, 2)
    reach = 1.0 + scale * np.abs(rng.standard_normal((NUM_BARS, 2)))
    high, low = legs.max(1) * reach[:, 0], legs.min(1) / reach[:, 1]
    prices = Prices(open=legs[:, 0], high=high, low=low, close=legs[:, 1])
    targets = rng.choice([-1.0, 0.0, 1.0, 0.4, 2.5], size=NUM_BARS) * rng.uniform(0.5, 1.0)
    stays = rng.uniform(size=NUM_BARS) < 0.8
    for bar in range(1, NUM_BARS):
        targets[bar] = targets[bar - 1] if stays[bar] else targets[bar]

    def some(value):
        return value if rng.uniform() < 0.6 else np.inf

    stops = Stops(
        stop_loss=some(scale * rng.uniform(0.5, 4.0)),
        take_profit=some(scale * rng.uniform(0.5, 6.0)),
        trailing=some(scale * rng.uniform(0.5, 4.0)),
        trailing_activation=scale * rng.choice([1e-3, 1.0]) * rng.uniform(0.1, 2.0),
        atr_stop=some(rng.uniform(0.5, 3.0)),
        atr_profit=some(rng.uniform(0.5, 4.0)),
        max_bars=some(rng.integers(1, 20)),
        reenter=float(rng.integers(2)),
    )
    columns = MarketColumns(
        volatility=rng.uniform(0.0, 2.0 * scale, NUM_BARS),
        funding_rate=rng.normal(0.0, 3e-4, NUM_BARS) * (rng.uniform(size=NUM_BARS) < 0.3),
        mark=legs[:, 1] * np.exp(1e-3 * rng.standard_normal(NUM_BARS)),
        atr=legs[:, 1] * scale * rng.uniform(0.5, 2.0, NUM_BARS),
        stop_scale=rng.uniform(0.5, 2.0, NUM_BARS),
    )
    costs = Costs(
        fee_bps=rng.uniform(0.0, 30.0),
        half_spread_bps=rng.uniform(0.0, 5.0),
        slippage_bps=rng.uniform(0.0, 5.0),
        cash_rate=rng.uniform(-1e-4, 2e-4),
        maker_fee_bps=rng.uniform(-2.0, 5.0),
        maker_share=rng.uniform(),
        slippage_per_volatility=rng.uniform(0.0, 0.3),
        borrow_rate=rng.uniform(0.0, 2e-4),
        leverage_rate=rng.uniform(0.0, 2e-4),
    )
    options = dict(
        costs=costs,
        stops=stops,
        columns=columns,
        band=rng.choice([0.0, 0.0371]),
        max_leverage=rng.choice([0.7, 1.0, 3.1]),
        allow_short=float(rng.integers(2)),
    )
    return targets, prices, options


@functools.cache
def compiled(index, dtype):
    """The engine with one set of static options; all else is traced, so it compiles once."""
    static = dict(STATIC[index])
    trigger = static.pop("trigger")

    def go(targets, prices, numbers):
        numbers = dict(numbers, stops=numbers["stops"]._replace(trigger=trigger))
        return run(targets, prices, **ENDS[index % 2], **numbers, **static)

    jitted = jax.jit(go)

    def call(targets, prices, options):
        numbers = dict(options, stops=options["stops"]._replace(trigger=None))
        as_array = jax.tree.map(lambda leaf: np.asarray(leaf, dtype), (targets, prices, numbers))
        return jax.device_get(jitted(*as_array))

    return call


def slow(index, targets, prices, options):
    static = dict(STATIC[index])
    stops = options["stops"]._replace(trigger=static.pop("trigger"))
    return oracle.run(targets, prices, **ENDS[index % 2], **dict(options, stops=stops), **static)


COUNTS = collections.Counter()


@settings(max_examples=1_000, deadline=None, derandomize=True)
@given(seed=st.integers(0, 2**31), index=st.integers(0, len(STATIC) - 1))
def compare(seed, index):
    targets, prices, options = random_case(seed)
    twin = slow(index, targets, prices, options)
    COUNTS["cases"] += 1
    if twin.margin < TOO_CLOSE:
        COUNTS["excluded"] += 1
        return
    fast = compiled(index, jnp.float64)(targets, prices, options)
    COUNTS["exits"] += int(np.count_nonzero(twin.exit_reason))
    COUNTS["ruined"] += twin.is_ruined
    COUNTS.update({f"reason {int(r)}": 1 for r in np.unique(twin.exit_reason)})
    last = int(np.argmax(twin.equity <= 0.0)) if twin.is_ruined else NUM_BARS
    for name in ("equity", "weights", "turnover", "cost", "interest", "funding", "borrow"):
        np.testing.assert_allclose(
            getattr(fast, name)[:last],
            getattr(twin, name)[:last],
            rtol=1e-10,
            atol=1e-10,
            err_msg=name,
        )
    np.testing.assert_array_equal(fast.equity[last:], 0.0)
    np.testing.assert_array_equal(fast.exits.reason[:last], twin.exit_reason[:last])
    is_exit = twin.exit_reason[:last] > 0
    price = (np.asarray(fast.exits.ratio) * prices.close)[:last][is_exit]
    np.testing.assert_allclose(price, twin.exit_price[:last][is_exit], rtol=1e-10)
    assert bool(fast.is_ruined) == twin.is_ruined


def test_the_engine_equals_the_oracle_with_every_option_on(x64):
    COUNTS.clear()
    compare()
    assert COUNTS["cases"] >= 900
    assert COUNTS["excluded"] <= 0.02 * COUNTS["cases"], COUNTS
    # The cases reach what they are to test: each reason, and ruin.
    assert all(COUNTS[f"reason {reason}"] > 20 for reason in range(1, 6)), COUNTS
    assert COUNTS["ruined"] > 0, COUNTS


def test_single_precision_keeps_log_equity_within_2e_4_where_the_same_triggers_fired():
    compared = 0
    for seed in range(80):
        index = seed % 3
        targets, prices, options = random_case(10_000 + seed)
        twin = slow(index, targets, prices, options)
        fast = compiled(index, jnp.float32)(targets, prices, options)
        assert fast.equity.dtype == jnp.float32
        if twin.is_ruined or not np.array_equal(fast.exits.reason, twin.exit_reason):
            continue
        compared += 1
        np.testing.assert_allclose(np.log(fast.equity), np.log(twin.equity), atol=2e-4)
    assert compared > 60


@pytest.mark.parametrize("fill", ["next_open", "next_close", "same_close"])
def test_without_stops_and_columns_the_oracle_is_the_engine_too(x64, fill):
    targets, prices, _ = random_case(5)
    prices = prices._replace(high=None, low=None)
    costs = Costs(12.0, 1.0, 2.0, 1e-4)
    plain = dict(costs=costs, fill=fill, band=0.0123, max_leverage=2.0)
    fast, twin = run(targets, prices, **plain), oracle.run(targets, prices, **plain)
    assert twin.margin > TOO_CLOSE
    np.testing.assert_allclose(fast.equity, twin.equity, rtol=1e-12)
    np.testing.assert_allclose(fast.turnover, twin.turnover, atol=1e-12)


def test_caps_hold_whatever_the_band_in_the_engine_and_in_the_ledger(x64):
    for sign, factor in ((1.0, 0.96), (-1.0, 1.04)):  # what loses grows in equity
        path = 100.0 * factor ** np.arange(12.0)
        prices = Prices(open=path, close=path)
        options = dict(costs=Costs(0.0), band=0.5, max_leverage=2.0)
        weights = np.full(12, 1.9 * sign)
        found = run(weights, prices, **options)
        ledger = oracle.run(weights, prices, **options)
        assert np.abs(found.filled).max() <= 2.0 * (1.0 + 1e-12)
        np.testing.assert_allclose(found.equity, ledger.equity, rtol=1e-12)
        np.testing.assert_allclose(found.turnover, ledger.turnover, atol=1e-12)
        assert np.count_nonzero(np.asarray(found.turnover)) > 1
