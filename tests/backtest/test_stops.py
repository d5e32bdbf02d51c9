"""Stops against cases worked by hand: levels, order of events inside a bar, and re-entry."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from densityjax.backtest import REASONS, Costs, MarketColumns, Prices, Stops, run

FREE = Costs(fee_bps=0.0)


def market(*bars):
    """Prices whose bar 0 is flat at 100, followed by the given bars (open, high, low, close)."""
    rows = np.array([(100.0, 100.0, 100.0, 100.0), *bars])
    return Prices(*rows.T)


def mirrored(prices, about=100.0):
    """The market on which a short does what a long did: prices reflected at the entry."""
    flip = [2.0 * about - np.asarray(price) for price in prices]
    return Prices(open=flip[0], high=flip[2], low=flip[1], close=flip[3])


def exits_of(prices, stops, side=1.0, **options):
    """(bar, reason, price) of each exit of a position held from bar 1 on, free of costs."""
    # The band keeps the units: a short at constant weight would sell more as it gains.
    options = {"costs": FREE, "fill": "next_open", "band": 0.5, **options}
    weights = np.full(len(prices.close), side)
    result = run(weights, prices, stops=stops, **options)
    reasons = np.maximum(np.asarray(result.exits.reason), np.asarray(result.exits.order_reason))
    found = []
    for bar in np.flatnonzero(reasons):
        is_within = result.exits.reason[bar] > 0
        ratio = result.exits.ratio[bar] if is_within else result.fill_ratio[bar]
        found.append((int(bar), REASONS[reasons[bar]], float(ratio * prices.close[bar])))
    return found, result


FLAT = (100.0, 100.0, 100.0, 100.0)
HAND_CASES = [
    ((101, 104, 94, 100), "stop", 95.0),
    ((93, 96, 92, 95), "stop", 93.0),
    ((104, 112, 94, 108), "stop", 95.0),
    ((113, 114, 109, 110), "profit", 113.0),
    ((104, 112, 96, 108), "profit", 110.0),
]


@pytest.mark.parametrize(("bar", "reason", "price"), HAND_CASES)
@pytest.mark.parametrize("side", [1.0, -1.0])
@pytest.mark.parametrize("fill", ["next_open", "next_close"])
def test_an_entry_at_100_ends_by_the_worst_path(x64, bar, reason, price, side, fill):
    # Bar 1 is flat, so that both fills enter at 100 before the bar that decides.
    prices = market(FLAT, bar, FLAT)
    prices = prices if side > 0 else mirrored(prices)
    expected = price if side > 0 else 200.0 - price
    found, result = exits_of(prices, Stops(stop_loss=0.05, take_profit=0.1), side, fill=fill)
    assert [(row[0], row[1]) for row in found] == [(2, reason)]
    np.testing.assert_allclose(found[0][2], expected, rtol=1e-14)
    np.testing.assert_allclose(result.equity[-1], 1.0 + side * (expected / 100.0 - 1.0))
    assert result.weights[-1] == 0.0  # the target still asks for the side that was stopped


@pytest.mark.parametrize("side", [1.0, -1.0])
def test_a_trailing_stop_knows_the_best_price_of_earlier_bars_only(x64, side):
    prices = market((100, 110, 100, 109), (109, 120, 104, 118), FLAT)
    prices = prices if side > 0 else mirrored(prices)
    found, _ = exits_of(prices, Stops(trailing=0.05), side)
    # 5 % below 110, not below the 120 of the same bar; mirrored, 5 % above 90.
    np.testing.assert_allclose(found[0][2], 104.5 if side > 0 else 94.5, rtol=1e-14)
    assert found[0][:2] == (2, "trailing")
    assert len(found) == 1


def test_pos_02_ec_09_a_trailing_stop_activates_then_closes_exactly_once(x64):
    stops = Stops(stop_loss=0.02, take_profit=0.04, trailing=0.01, trailing_activation=0.02)
    prices = market(
        (100, 101.5, 99, 101), (101, 103, 100.4, 102.5), (102.5, 102.8, 101, 101.5), FLAT, FLAT
    )
    found, result = exits_of(prices, stops)
    # 101.5 is a gain below 2 %: no trailing stop yet, so 100.4 in bar 2 does not close.
    assert [row[:2] for row in found] == [(3, "trailing")]
    np.testing.assert_allclose(found[0][2], 101.97, rtol=1e-14)
    np.testing.assert_allclose(np.asarray(result.equity)[3:], 1.0197, rtol=1e-14)


@pytest.mark.parametrize("side", [1.0, -1.0])
def test_pos_03_stops_in_ranges_are_mirrored_and_keep_the_range_of_the_entry(x64, side):
    prices = market((100, 101, 99, 100), (100, 103, 98, 100), (100, 106.5, 95.5, 100), FLAT)
    prices = prices if side > 0 else mirrored(prices)
    columns = MarketColumns(atr=np.array([2.0, 9.0, 9.0, 9.0, 9.0]))  # known before bar 1: 2
    found, _ = exits_of(prices, Stops(atr_stop=2.0), side, columns=columns)
    assert found == [(3, "stop", pytest.approx(100.0 - side * 4.0))]
    found, _ = exits_of(prices, Stops(atr_profit=3.0, atr_stop=9.0), side, columns=columns)
    assert found == [(3, "profit", pytest.approx(100.0 + side * 6.0))]
    nearest, _ = exits_of(prices, Stops(stop_loss=0.015, atr_stop=2.0), side, columns=columns)
    assert nearest == [(2, "stop", pytest.approx(100.0 - side * 1.5))]


def test_pos_04_adding_averages_the_entry_and_a_partial_sale_keeps_it(x64):
    # Half at 100; at 110 to full weight; the average lies between by the units bought.
    prices = market(FLAT, (110, 110, 110, 110), (110, 110, 50, 60), FLAT)
    weights = np.array([0.5, 1.0, 1.0, 1.0, 1.0])
    added = run(weights, prices, costs=FREE, stops=Stops(stop_loss=0.2))
    units, equity = 0.005, 1.05  # half of 1 at 100; worth 0.55 of 1.05 at 110
    bought = equity / 110 - units
    average = (units * 100 + bought * 110) / (units + bought)
    np.testing.assert_allclose(added.exits.ratio[3] * 60.0, 0.8 * average, rtol=1e-14)
    reduced = run([1.0, 0.4, 0.4, 0.4, 0.4], prices, costs=FREE, stops=Stops(stop_loss=0.2))
    np.testing.assert_allclose(reduced.exits.ratio[3] * 60.0, 80.0, rtol=1e-14)
    flipped = run(
        [1.0, -1.0, -1.0, -1.0, 0.0],
        mirrored(prices, 110.0),
        costs=FREE,
        stops=Stops(stop_loss=0.2),
    )  # the short begins at 110 of its own
    assert flipped.exits.reason[3] == 1
    np.testing.assert_allclose(flipped.exits.ratio[3] * 160.0, 1.2 * 110.0, rtol=1e-14)


def test_pos_05_a_scale_known_before_the_bar_moves_the_stop_both_ways(x64):
    prices = market(FLAT, (100, 100, 94, 97), (97, 97, 88, 90), FLAT)

    def bar_of_exit(scale):
        columns = MarketColumns(stop_scale=np.array([1.0, scale, scale, 1.0, 1.0]))
        found, _ = exits_of(prices, Stops(stop_loss=0.05), columns=columns)
        return found[0][0], found[0][2]

    assert bar_of_exit(1.0) == (2, pytest.approx(95.0))
    assert bar_of_exit(2.0) == (3, pytest.approx(90.0))  # wider: outlives the first fall
    assert bar_of_exit(0.5) == (2, pytest.approx(97.5))  # tighter: leaves earlier
    # The scale of bar 2 itself is known only at its close.
    late = MarketColumns(stop_scale=np.array([1.0, 1.0, 0.5, 1.0, 1.0]))
    found, _ = exits_of(prices, Stops(stop_loss=0.05), columns=late)
    assert found[0][2] == pytest.approx(95.0)


def test_pos_06_a_stop_at_the_close_ignores_what_happens_inside_the_bar(x64):
    prices = market((100, 112, 90, 101), (101, 102, 93, 94), FLAT)
    stops = Stops(stop_loss=0.05, take_profit=0.1, trigger="close")
    found, _ = exits_of(prices, stops)
    assert found == [(2, "stop", pytest.approx(94.0))]
    no_range = Prices(open=prices.open, close=prices.close)
    assert exits_of(no_range, stops)[0] == found


@pytest.mark.parametrize(("fill", "last"), [("next_open", 3), ("next_close", 4)])
def test_a_limit_of_time_ends_at_the_close_of_its_last_bar(x64, fill, last):
    prices = market(*[FLAT] * 6)
    found, result = exits_of(prices, Stops(max_bars=3), fill=fill)
    assert found == [(last, "time", pytest.approx(100.0))]
    assert np.count_nonzero(result.held) == 3


def test_after_a_stop_the_rule_waits_for_its_own_target_unless_told_otherwise(x64):
    prices = market(FLAT, (100, 100, 94, 100), *[FLAT] * 6)
    weights = np.array([1.0, 1.0, 1.0, 0.7, 0.0, 0.5, 1.0, -1.0, -1.0])
    stops = Stops(stop_loss=0.05)
    waiting = run(weights, prices, costs=FREE, stops=stops)
    np.testing.assert_allclose(waiting.filled, [0, 1, 1, 0, 0, 0, 0.5, 1, -1], atol=1e-14)
    again = run(weights, prices, costs=FREE, stops=stops._replace(reenter=True))
    np.testing.assert_allclose(again.filled, [0, 1, 1, 1, 0.7, 0, 0.5, 1, -1], atol=1e-14)
    turned = np.where(np.arange(9) > 3, -1.0, weights)  # a new sign frees it as well
    np.testing.assert_allclose(
        run(turned, prices, costs=FREE, stops=stops).filled[3:], [0, 0, -1, -1, -1, -1]
    )


def test_a_stop_pays_the_taker_and_slippage_and_a_profit_the_maker(x64):
    costs = Costs(
        fee_bps=10.0,
        half_spread_bps=3.0,
        slippage_bps=2.0,
        maker_fee_bps=-1.0,
        slippage_per_volatility=0.1,
    )
    columns = MarketColumns(volatility=np.full(3, 0.02))
    down, up = market((100, 100, 90, 95), FLAT), market((100, 115, 99, 112), FLAT)
    stops = Stops(stop_loss=0.05, take_profit=0.1)
    for prices, price, bps in ((down, 95.0, 15.0), (up, 110.0, 4.0)):
        result = run(np.ones(3), prices, costs=costs, stops=stops, columns=columns)
        rate = bps * 1e-4 + 0.1 * 0.02
        np.testing.assert_allclose(result.exits.cost[1], rate * price / 100.0, rtol=1e-12)
        np.testing.assert_allclose(result.exits.turnover[1], price / 100.0, rtol=1e-12)
        entry = 15.0 * 1e-4 + 0.1 * 0.02
        np.testing.assert_allclose(result.cost[1], entry + rate * price / 100.0, rtol=1e-12)


def test_infinite_distances_are_no_stops(x64):
    rng = np.random.default_rng(0)
    legs = np.exp(0.05 * rng.standard_normal(80).cumsum()).reshape(40, 2)
    prices = Prices(legs[:, 0], legs.max(1), legs.min(1), legs[:, 1])
    weights = rng.uniform(-1, 1, 40)
    off = Stops(*[np.inf] * 3, 0.0, np.inf, np.inf, np.inf)
    columns = MarketColumns(atr=np.zeros(40))
    stopped = run(weights, prices, stops=off, columns=columns)
    np.testing.assert_allclose(stopped.equity, run(weights, prices).equity, rtol=1e-14)
    assert not np.asarray(stopped.exits.reason).any()


def test_swept_stops_equal_those_of_a_loop(x64):
    prices = market(*[(100 + i, 101.5 + i, 98.0 + i, 100.4 + i) for i in range(9)])
    distances = jnp.array([0.01, 0.02, 0.05, jnp.inf])

    def equity(distance):
        return run(np.ones(10), prices, stops=Stops(stop_loss=distance, trailing=0.03)).equity

    swept = jax.vmap(equity)(distances)
    for row, distance in zip(swept, distances, strict=True):
        np.testing.assert_allclose(row, equity(float(distance)), rtol=1e-13)
    assert len(np.unique(swept[:, -1])) > 2


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (dict(stops=Stops(stop_loss=0.0)), "stops.stop_loss is 0.0"),
        (dict(stops=Stops(trailing=-0.1)), "stops.trailing is -0.1"),
        (dict(stops=Stops(take_profit=np.nan)), "stops.take_profit is nan"),
        (dict(stops=Stops(0.1, trailing_activation=-1.0)), "trailing_activation is -1.0"),
        (dict(stops=Stops(0.1, trigger="tick")), "stops.trigger is 'tick'"),
        (dict(prices=Prices(open=[1.0, 1], close=[1.0, 1])), "prices.high is None; trigger"),
        (dict(prices=Prices([1, 1], [1, 1], None, [1, 1])), "prices.low is None; trigger"),
        (dict(prices=Prices([1, 1], [1, 1], [1, 2], [1, 1])), r"prices.high - prices.low\[1\]"),
        (dict(stops=Stops(atr_stop=2.0)), "columns.atr is None"),
        (
            dict(columns=MarketColumns(stop_scale=[1.0, 0.0])),
            r"columns.stop_scale\[1\] is 0.0; accepted are finite positive",
        ),
        (dict(columns=MarketColumns(atr=[1.0])), r"columns.atr has shape \(1,\)"),
    ],
)
def test_bad_stops_are_named(change, match):
    bars = Prices([1.0, 1], [1.0, 1], [1.0, 1], [1.0, 1])
    arguments = {"prices": bars, "stops": Stops(0.1), **change}
    with pytest.raises(ValueError, match=match):
        run(np.ones(2), arguments.pop("prices"), **arguments)


def test_half_the_equity_in_a_rising_price_and_a_stop_in_a_falling_one_by_hand(x64):
    rising = Prices(close=[1.0, 2.0, 3.0, 4.0, 5.0])
    half = run(np.full(5, 0.5), rising, costs=FREE, fill="same_close")
    np.testing.assert_allclose(100.0 * half.equity[-1], 246.09375)  # 1.5 * 1.25 * 7/6 * 1.125
    sizes = 100.0 * np.asarray(half.turnover) * np.asarray(half.equity) / rising.close
    np.testing.assert_allclose(sizes, [50.0, 12.5, 6.25, 3.90625, 2.734375])
    short = run(np.full(5, -0.5), rising, costs=FREE, fill="same_close")
    bought = 100.0 * np.asarray(short.turnover) * np.asarray(short.equity) / rising.close
    np.testing.assert_allclose(bought, [50.0, 37.5, 6.25, 2.34375, 1.171875])
    falling = Prices(close=[5.0, 4.0, 3.0, 2.0, 1.0])
    stops = Stops(stop_loss=0.1, trigger="close")
    found, result = exits_of(falling, stops, fill="same_close")
    assert found == [(1, "stop", pytest.approx(4.0))]
    np.testing.assert_allclose(result.equity[1:], 0.8)


@pytest.mark.parametrize("fill", ["next_open", "next_close", "same_close"])
def test_ranges_that_are_unknown_within_the_warmup_switch_no_stop_off(x64, fill):
    prices = market(FLAT, FLAT, FLAT, FLAT, (100, 100, 97, 99), FLAT)
    atr = np.array([np.nan, np.nan, 2.0, 9.0, 9.0, 9.0, 9.0])
    columns = MarketColumns(atr=atr)
    found, _ = exits_of(prices, Stops(atr_stop=1.0), columns=columns, fill=fill, warmup=2)
    assert found == [(5, "stop", pytest.approx(98.0))]  # decided at the close of bar 2
    with pytest.raises(ValueError, match=r"columns.atr\[1\] is nan"):
        exits_of(prices, Stops(atr_stop=1.0), columns=columns, fill=fill, warmup=1)
