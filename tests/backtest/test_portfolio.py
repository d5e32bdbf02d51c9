"""Many assets in one account against single runs, a ledger of cash and units, and its caps."""

import jax
import numpy as np
import pytest

from densityjax import backtest
from densityjax.backtest import Costs, MarketColumns, Prices, Stops, run_portfolio

NUM_BARS, NUM_ASSETS = 50, 3


def market(seed, num_assets=NUM_ASSETS, scale=0.03):
    rng = np.random.default_rng(seed)
    steps = scale * rng.standard_normal((NUM_BARS, 2, num_assets))
    legs = 20.0 * np.exp(steps.reshape(-1, num_assets).cumsum(0))
    legs = legs.reshape(NUM_BARS, 2, num_assets)
    prices = Prices(legs[:, 0], legs.max(1) * 1.01, legs.min(1) / 1.01, legs[:, 1])
    return prices, rng.uniform(-1.0, 1.0, (NUM_BARS // 5, num_assets)).repeat(5, 0)


@pytest.mark.parametrize("fill", ["next_open", "same_close"])
@pytest.mark.parametrize("drift", [True, False])
def test_one_asset_equals_the_single_run(x64, fill, drift):
    prices, weights = market(0, 1)
    rng = np.random.default_rng(1)
    columns = MarketColumns(
        volatility=rng.uniform(0.0, 0.02, (NUM_BARS, 1)),
        funding_rate=rng.normal(0.0, 1e-4, (NUM_BARS, 1)),
        atr=0.05 * prices.close,
    )
    options = dict(
        costs=Costs(
            12.0, 1.0, 1.0, 1e-4, 2.0, 0.5, slippage_per_volatility=0.1, borrow_rate=1e-4,
            leverage_rate=1e-4,
        ),
        stops=Stops(stop_loss=0.04, take_profit=0.08, trailing=0.05, atr_stop=1.0, max_bars=9),
        fill=fill, drift=drift, band=0.02, max_leverage=0.8, liquidate=True,
    )  # fmt: skip
    many = run_portfolio(weights, prices, columns=columns, **options)
    flat = jax.tree.map(lambda leaf: leaf[:, 0], (prices, columns))
    one = backtest.run(weights[:, 0], flat[0], columns=flat[1], **options)
    np.testing.assert_allclose(many.equity, one.equity, rtol=1e-12)
    for name in ("weights", "filled", "turnover", "cost", "funding", "borrow"):
        np.testing.assert_allclose(
            getattr(many, name)[:, 0], getattr(one, name), atol=1e-13, err_msg=name
        )
    np.testing.assert_array_equal(many.exits.reason[:, 0], one.exits.reason)


def cash_and_units(weights, prices, fees_bps, max_gross, max_net):
    """Plain ledger of many assets, filled at the open; NaN prices freeze their asset."""
    opens, closes = (np.asarray(price) for price in (prices.open, prices.close))
    cash, units, marks, path = 1.0, np.zeros(opens.shape[1]), np.zeros(opens.shape[1]), []
    for bar in range(len(opens)):
        is_open = np.isfinite(opens[bar])
        marks = np.where(is_open, opens[bar], marks)
        worth = cash + units @ marks
        target = np.clip(weights[bar - 1], -1, 1) if bar else np.zeros(len(units))
        gross = np.abs(target).sum()
        target = target * min(1.0, max_gross / gross) if gross else target
        net = abs(target.sum())
        target = target * min(1.0, max_net / net) if net else target
        for asset in np.flatnonzero(is_open):
            buy = target[asset] * worth / marks[asset] - units[asset]
            fee = abs(buy) * marks[asset] * fees_bps[asset] / 1e4
            cash -= buy * marks[asset] + fee
            units[asset] += buy
        marks = np.where(is_open, closes[bar], marks)
        path.append(cash + units @ marks)
    return np.array(path)


def test_one_equity_with_fees_per_asset_missing_bars_and_caps_is_the_ledger(x64):
    prices, weights = market(2)
    is_missing = np.random.default_rng(3).uniform(size=weights.shape) < 0.2
    is_missing[:4, 1] = True  # listed later
    gaps = Prices(*(np.where(is_missing, np.nan, price) for price in prices))
    fees = np.array([2.0, 10.0, 30.0])
    result = run_portfolio(weights, gaps, costs=Costs(fees), max_gross=1.2, max_net=0.5)
    expected = cash_and_units(weights, gaps, fees, 1.2, 0.5)
    np.testing.assert_allclose(result.equity, expected, rtol=1e-12)
    assert result.is_finite
    assert not np.asarray(result.turnover)[is_missing].any()
    assert not np.asarray(result.pnl)[is_missing].any()
    change = np.diff(result.equity, prepend=1.0)
    parts = (result.pnl + result.funding - result.borrow - result.cost).sum(1) + result.interest
    np.testing.assert_allclose(change, parts, atol=1e-14)


def test_siz_07_the_caps_on_gross_and_net_are_never_exceeded(x64):
    prices, weights = market(4)
    free = run_portfolio(3.0 * weights, prices, costs=Costs(0.0))
    assert np.abs(free.filled).sum(1).max() > 2.0
    assert np.abs(free.filled.sum(1)).max() > 1.0
    capped = run_portfolio(3.0 * weights, prices, costs=Costs(0.0), max_gross=1.5, max_net=0.4)
    np.testing.assert_array_less(np.abs(capped.filled).sum(1), 1.5 + 1e-12)
    np.testing.assert_array_less(np.abs(capped.filled.sum(1)), 0.4 + 1e-12)
    np.testing.assert_allclose(np.abs(capped.filled.sum(1)).max(), 0.4, rtol=1e-12)
    np.testing.assert_array_less(np.abs(free.filled), 1.0 + 1e-12)


def test_a_frozen_asset_is_marked_at_its_last_close_and_not_stopped(x64):
    close = np.array([[10.0, 10], [10, 10], [10, np.nan], [10, np.nan], [10, 8], [10, 8]])
    prices = Prices(close=close)
    weights = np.tile([0.0, 0.5], (6, 1))
    weights[2:] = 0.0  # wants out while there is no price
    result = run_portfolio(
        weights, prices, costs=Costs(0.0), fill="same_close",
        stops=Stops(max_bars=1.0, trigger="close"),
    )  # fmt: skip
    # Bought at the close of bar 0; time is over at bar 1. The same with a target that stays:
    assert result.exits.reason[1, 1] > 0
    frozen = run_portfolio(weights, prices, costs=Costs(0.0), fill="same_close")
    np.testing.assert_allclose(frozen.weights[:, 1], [0.5, 0.5, 0.5, 0.5, 0, 0])
    np.testing.assert_allclose(frozen.equity, [1, 1, 1, 1, 0.9, 0.9])


def test_ruin_of_one_asset_is_the_ruin_of_all(x64):
    close = np.array([[10.0, 10], [10, 2], [20, 2], [30, 2]])
    weights = np.tile([0.5, 2.0], (4, 1))
    result = run_portfolio(weights, Prices(close=close), fill="same_close", max_leverage=2.0)
    assert result.is_ruined
    np.testing.assert_array_equal(result.equity[1:], 0.0)
    np.testing.assert_array_equal(result.weights[1:], 0.0)


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (dict(weights=np.ones((NUM_BARS, 2))), r"weights has shape \(50, 2\)"),
        (dict(max_gross=-1.0), "max_gross is -1.0"),
        (dict(lag=-1), "lag is -1"),
        (dict(fill="later"), "fill is 'later'"),
        (dict(costs=Costs(cash_rate=np.zeros(3))), r"costs.cash_rate has shape \(3,\)"),
        (dict(prices=Prices(close=np.ones((NUM_BARS, 3)))), "prices.open is None"),
        (
            dict(prices=Prices(open=np.zeros((50, 3)), close=np.ones((50, 3)))),
            r"prices.open\[0, 0\] is 0.0",
        ),
        (dict(prices=Prices(open=np.ones(50), close=np.ones(50))), r"accepted is \[T, A\]"),
    ],
)
def test_bad_arguments_are_named(change, match):
    prices, weights = market(5)
    arguments = {"weights": weights, "prices": prices, **change}
    with pytest.raises(ValueError, match=match):
        run_portfolio(arguments.pop("weights"), arguments.pop("prices"), **arguments)


@pytest.mark.parametrize("cap", [dict(max_gross=1.5), dict(max_net=1.5)])
def test_gross_and_net_caps_hold_whatever_the_band(x64, cap):
    path = 100.0 * 0.97 ** np.arange(10.0)[:, None] * np.ones(2)
    result = run_portfolio(
        np.full((10, 2), 0.74), Prices(open=path, close=path), costs=Costs(0.0), band=0.5, **cap
    )
    assert np.asarray(result.filled).sum(1).max() <= 1.5 * (1.0 + 1e-12)
    assert np.count_nonzero(np.asarray(result.turnover).sum(1)) > 1
