"""Every cost against sums done by hand, the sale at the end, and what must change nothing."""

import chex
import jax
import numpy as np
import pandas as pd
import pytest

from densityjax import backtest
from densityjax.backtest import Costs, MarketColumns, Prices, Stops, funding_due, run

FREE = Costs(fee_bps=0.0)
LEVEL = Prices(*[np.full(5, 100.0)] * 4)


def random_market(seed, num_bars=60):
    rng = np.random.default_rng(seed)
    legs = np.exp(0.03 * rng.standard_normal(2 * num_bars).cumsum()).reshape(num_bars, 2)
    prices = Prices(legs[:, 0], legs.max(1) * 1.01, legs.min(1) / 1.01, legs[:, 1])
    columns = MarketColumns(
        volatility=rng.uniform(0.0, 0.05, num_bars),
        funding_rate=rng.normal(0.0, 1e-3, num_bars),
        atr=0.02 * legs[:, 1],
    )
    return prices, rng.uniform(-1.0, 1.0, num_bars), columns


def everything(columns):
    return dict(
        costs=Costs(
            fee_bps=10.0,
            slippage_bps=1.0,
            cash_rate=1e-4,
            maker_fee_bps=1.0,
            maker_share=0.3,
            slippage_per_volatility=0.05,
            borrow_rate=1e-4,
            leverage_rate=2e-4,
        ),
        stops=Stops(stop_loss=0.04, take_profit=0.06, trailing=0.05, atr_stop=3.0, max_bars=7),
        columns=columns,
        max_leverage=2.0,
    )


@pytest.mark.parametrize("side", [1.0, -1.0])
def test_a_long_pays_positive_funding_on_the_mark_and_a_short_earns_it(x64, side):
    columns = MarketColumns(funding_rate=[9.0, 0.001, 0.0, -0.002, 0.0], mark=[100, 102, 1, 99, 1])
    result = run(np.full(5, side), LEVEL, costs=FREE, columns=columns)
    units = side / 100.0  # bought in bar 1 at 100: what is due in bar 0 falls on no one
    paid = np.array([0.0, 0.001 * 102, 0.0, -0.002 * 99, 0.0])
    first = -units * paid[1]
    # The weight is kept: before bar 2 units follow equity.
    np.testing.assert_allclose(
        result.funding, [0.0, first, 0.0, -units * (1.0 + first) * paid[3], 0.0], atol=1e-15
    )
    np.testing.assert_allclose(result.equity[-1], 1.0 + result.funding.sum())


def test_with_fills_at_the_close_funding_falls_on_the_position_carried_to_it(x64):
    columns = MarketColumns(funding_rate=[0.001, 0.002, 0.004, 0.0, 0.0])
    weights = [1.0, 0.0, 0.0, 0.0, 0.0]
    at_close = run(weights, LEVEL, costs=FREE, columns=columns, fill="same_close")
    np.testing.assert_allclose(at_close.funding, [0, -0.002, 0, 0, 0], atol=1e-16)
    next_close = run(weights, LEVEL, costs=FREE, columns=columns, fill="next_close")
    np.testing.assert_allclose(next_close.funding, [0, 0, -0.004, 0, 0], atol=1e-16)


def test_a_short_pays_borrowing_and_leverage_its_own_rate(x64):
    costs = Costs(0.0, borrow_rate=0.01, leverage_rate=0.02)
    weights = [-0.5, 2.0, -2.0, 0.5, 0.0]
    result = run(weights, LEVEL, costs=costs, max_leverage=2.0, band=0.0)
    share = np.asarray(result.borrow) / np.concatenate([[1.0], result.equity[:-1]])
    np.testing.assert_allclose(share, [0.0, 0.005, 0.02, 0.04, 0.0], atol=1e-15)
    none = run(weights, LEVEL, costs=FREE, max_leverage=2.0)
    assert none.equity[-1] == 1.0
    assert not np.asarray(none.borrow).any()


def test_orders_pay_maker_and_taker_by_their_share_and_slippage_by_volatility(x64):
    costs = Costs(
        fee_bps=10.0, maker_fee_bps=2.0, maker_share=0.25, slippage_per_volatility=0.1
    )  # fmt: skip
    volatility = np.array([0.0, 0.01, 0.02, 0.03, 0.04])
    result = run(
        [1.0, 0.0, 1.0, 1.0, 1.0], LEVEL, costs=costs, columns=MarketColumns(volatility=volatility)
    )
    notional = np.asarray(result.turnover) * np.concatenate([[1.0], result.equity[:-1]])
    rate = np.asarray(result.cost)[1:4] / notional[1:4]
    np.testing.assert_allclose(rate, 8e-4 + 0.1 * volatility[1:4], rtol=1e-12)


@pytest.mark.parametrize("fill", ["next_open", "next_close", "same_close"])
def test_bkt_03_a_sale_at_the_end_pays_for_what_is_held(x64, fill):
    prices, weights, _ = random_market(0)
    weights[-3:] = 0.7
    held = run(weights, prices, costs=Costs(10.0), fill=fill, band=0.05)
    sold = run(weights, prices, costs=Costs(10.0), fill=fill, band=0.05, liquidate=True)
    assert sold.weights[-1] == 0.0
    np.testing.assert_array_equal(held.equity[:-1], sold.equity[:-1])
    if fill == "next_open":  # the order of the last open stands; the rest is sold at the close
        paid = 1e-3 * held.weights[-1] * held.equity[-1]
        np.testing.assert_allclose(sold.equity[-1], held.equity[-1] - paid, rtol=1e-14)
        assert backtest.REASONS[sold.exits.reason[-1]] == "end"
    else:
        assert backtest.REASONS[sold.exits.order_reason[-1]] == "end"


def test_bkt_03_ten_thousand_become_12027_with_a_constant_weight_sold_at_the_end(x64):
    # +1 at 100, flipped to -1 at 110, out at 99, 15 bp of each unit traded.
    close = [100.0, 110.0, 99.0]
    options = dict(costs=Costs(10.0, slippage_bps=5.0), drift=False, liquidate=True)
    targets = [1.0, -1.0, -1.0]
    for late, fill in enumerate(("same_close", "next_close")):
        prices = Prices(close=[90.0] * late + close)
        result = run(targets + [-1.0] * late, prices, fill=fill, **options)
        np.testing.assert_allclose(10_000 * result.equity[-1], 12_027.536043, atol=1e-6)
        trades = backtest.trade_record(result, prices=prices)
        assert trades["reason"].tolist() == ["signal", "end"]
        assert not trades["is_open"].any()


@pytest.mark.parametrize("fill", ["next_open", "same_close"])
def test_equity_changes_by_profits_interest_funding_less_costs_and_borrowing(x64, fill):
    prices, weights, columns = random_market(1)
    result = run(2.0 * weights, prices, fill=fill, **everything(columns))
    change = np.diff(result.equity, prepend=1.0)
    parts = (
        result.gap_pnl + result.body_pnl + result.interest + result.funding
        - result.borrow - result.cost
    )  # fmt: skip
    np.testing.assert_allclose(change, parts, atol=1e-14)
    assert np.count_nonzero(result.exits.reason) > 5
    for name in ("funding", "borrow", "interest", "cost"):
        assert np.count_nonzero(getattr(result, name)) > 5, name


def test_with_every_option_scaling_shifting_and_vmapping_change_nothing(x64):
    prices, weights, columns = random_market(2)
    plain = run(weights, prices, **everything(columns))
    scaled = everything(columns._replace(atr=1_024.0 * columns.atr))
    times = Prices(*(1_024.0 * np.asarray(price) for price in prices))
    chex.assert_trees_all_equal(plain, run(weights, times, **scaled))
    shifted = np.concatenate([np.zeros(3), weights])[:60]
    chex.assert_trees_all_equal(
        run(weights, prices, lag=3, **everything(columns)),
        run(shifted, prices, **everything(columns)),
    )
    both = np.stack([weights, -weights])
    mapped = jax.vmap(lambda w: run(w, prices, **everything(columns)).equity)(both)
    for row, w in zip(mapped, both, strict=True):
        np.testing.assert_allclose(row, run(w, prices, **everything(columns)).equity, rtol=1e-13)


def test_with_every_option_no_bar_depends_on_the_bars_after_it(x64):
    prices, weights, columns = random_market(3)
    others, other_weights, other_columns = random_market(4)
    is_past = np.arange(60) < 40
    first, second = (prices, columns, weights), (others, other_columns, other_weights)
    mixed = jax.tree.map(lambda a, b: np.where(is_past, a, b), first, second)
    for fill in ("next_open", "next_close", "same_close"):
        before = run(weights, prices, fill=fill, **everything(columns))
        after = run(mixed[2], mixed[0], fill=fill, **everything(mixed[1]))
        np.testing.assert_array_equal(before.equity[:40], after.equity[:40])
        np.testing.assert_array_equal(before.exits.reason[:40], after.exits.reason[:40])
        assert not np.array_equal(before.equity[40:], after.equity[40:])


def test_funding_at_the_end_of_a_bar_belongs_to_that_bar():
    index = pd.date_range("2024-01-01", periods=4, freq="4h", tz="UTC")
    times = index[0] + pd.to_timedelta([0, 1, 4, 8, 9, 16], unit="h")
    due = funding_due(index, times, [1.0, 2.0, 4.0, 8.0, 16.0, 32.0])
    np.testing.assert_array_equal(due, [6.0, 8.0, 16.0, 32.0])


@pytest.mark.parametrize(
    ("hours", "rates", "match"),
    [
        ([-1.0, 2.0], [0.0, 0.0], r"times\[0\] is 2023-12-31 23:00.*before the first bar"),
        ([1.0, 17.0], [0.0, 0.0], r"times\[1\] is .* after the end"),
        ([1.0], [0.0, 0.0], r"rates has shape \(2,\)"),
        ([1.0], [np.nan], r"rates\[0\] is not finite"),
    ],
)
def test_payments_outside_of_the_bars_are_refused(hours, rates, match):
    index = pd.date_range("2024-01-01", periods=4, freq="4h", tz="UTC")
    with pytest.raises(ValueError, match=match):
        funding_due(index, index[0] + pd.to_timedelta(hours, unit="h"), rates)


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (dict(costs=Costs(fee_bps=-1.0)), "costs.fee_bps is -1.0"),
        (dict(costs=Costs(slippage_bps=np.nan)), "costs.slippage_bps is nan"),
        (dict(costs=Costs(borrow_rate=-1e-4)), "costs.borrow_rate is -0.0001"),
        (dict(costs=Costs(maker_share=1.5)), "costs.maker_share is 1.5"),
        (dict(costs=Costs(slippage_per_volatility=0.1)), "columns.volatility is None"),
        (dict(columns=MarketColumns(funding_rate=np.zeros(4))), r"columns.funding_rate has shape"),
        (
            dict(columns=MarketColumns(funding_rate=[0, 0, np.nan, 0, 0])),
            r"columns.funding_rate\[2\] is nan",
        ),
        (dict(columns=MarketColumns(mark=np.zeros(5))), r"columns.mark\[0\] is 0.0"),
        (dict(band=-0.1), "band is -0.1"),
        (dict(max_leverage=-1.0), "max_leverage is -1.0"),
    ],
)
def test_bad_costs_and_columns_are_named(change, match):
    with pytest.raises(ValueError, match=match):
        run(np.ones(5), LEVEL, **change)
    assert run(np.ones(5), LEVEL, costs=Costs(maker_fee_bps=-1.0)).is_finite  # a rebate is none
