"""Trades with their prices, reasons and excursions against hand-made ones and the account."""

import numpy as np
import pytest

from densityjax import backtest
from densityjax.backtest import Costs, MarketColumns, Prices, Stops, run

FLAT = (100.0, 100.0, 100.0, 100.0)


def random_run(seed, fill, drift, *, leverage=1.0, scale=0.02, liquidate=False):
    rng = np.random.default_rng(seed)
    legs = np.exp(scale * rng.standard_normal(160).cumsum()).reshape(80, 2)
    prices = Prices(legs[:, 0], legs.max(1) * 1.01, legs.min(1) / 1.01, legs[:, 1])
    weights = leverage * rng.choice([-1.0, 0.0, 0.6, 1.0], size=40).repeat(2)
    result = run(
        weights,
        prices,
        fill=fill,
        drift=drift,
        max_leverage=leverage,
        liquidate=liquidate,
        stops=Stops(stop_loss=0.02, take_profit=0.05, trailing=0.03, max_bars=2.0, reenter=True),
        columns=MarketColumns(funding_rate=rng.normal(0.0, 1e-3, 80)),
        costs=Costs(25.0, cash_rate=1e-4, borrow_rate=1e-4, leverage_rate=1e-4),
    )
    return result, prices


@pytest.mark.parametrize("fill", ["next_open", "same_close"])
@pytest.mark.parametrize("drift", [True, False])
def test_trades_and_interest_add_up_to_the_change_of_equity(x64, fill, drift):
    result, prices = random_run(1, fill, drift, liquidate=fill == "next_open")
    trades = backtest.trade_record(result, prices=prices, initial_capital=1.0)
    total = trades["pnl"].sum() + result.interest.sum()
    np.testing.assert_allclose(total, result.equity[-1] - 1.0, atol=1e-13)
    assert {"stop", "trailing", "time", "signal"} <= set(trades["reason"])
    assert not trades.isna().any(axis=None)
    if fill == "next_open":
        assert not trades["is_open"].any()
        assert (trades["reason"] == "end").sum() <= 1
        assert result.weights[-1] == 0.0


def test_profits_before_costs_are_size_times_the_difference_of_prices(x64):
    # A wide band keeps the units of each trade, so that profit is units times price difference.
    rng = np.random.default_rng(2)
    legs = 50.0 * np.exp(0.02 * rng.standard_normal(120).cumsum()).reshape(60, 2)
    prices = Prices(legs[:, 0], legs.max(1) * 1.01, legs.min(1) / 1.01, legs[:, 1])
    weights = rng.choice([-1.0, 1.0, 0.0], size=20).repeat(3)
    result = run(
        weights, prices, costs=Costs(0.0), band=0.6, stops=Stops(stop_loss=0.03, take_profit=0.04)
    )
    trades = backtest.trade_record(result, prices=prices)
    gained = trades["side"] * trades["size"] * (trades["exit_price"] - trades["entry_price"])
    np.testing.assert_allclose(gained, trades["pnl"], rtol=1e-10)
    assert len(trades) > 5
    np.testing.assert_allclose(trades["pnl"].sum(), 10_000 * (result.equity[-1] - 1.0))
    moves = trades["side"] * (trades["exit_price"] / trades["entry_price"] - 1.0)
    assert (trades["mae"] >= np.maximum(-moves, 0.0) - 1e-12).all()
    assert (trades["mfe"] >= np.maximum(moves, 0.0) - 1e-12).all()


def test_bkt_05_a_stopped_trade_has_its_prices_reason_and_excursions(x64):
    bars = [FLAT, FLAT, (100, 108, 97, 106), (106, 107, 94, 95), FLAT]
    prices = Prices(*np.array(bars).T)
    result = run(np.ones(5), prices, costs=Costs(0.0), stops=Stops(stop_loss=0.05))
    trades = backtest.trade_record(result, prices=prices)
    assert len(trades) == 1
    row = trades.iloc[0]
    assert (row["entry"], row["exit"], row["side"], row["reason"]) == (1, 3, 1, "stop")
    assert not row["is_open"]
    assert row["holding_bars"] == 2
    np.testing.assert_allclose([row["entry_price"], row["exit_price"]], [100.0, 95.0])
    np.testing.assert_allclose([row["size"], row["pnl"], row["return"]], [100.0, -500.0, -0.05])
    np.testing.assert_allclose([row["mae"], row["mfe"]], [0.05, 0.08], rtol=1e-12)


def test_ec_08_an_addition_averages_the_entry_and_a_flip_loses_no_profit(x64):
    prices = Prices(close=[100.0, 120.0, 90.0, 90.0])
    result = run([0.5, 1.0, -1.0, -1.0], prices, costs=Costs(0.0), fill="same_close")
    trades = backtest.trade_record(result, prices=prices, initial_capital=100.0)
    assert trades["side"].tolist() == [1, -1]
    assert trades["reason"].tolist() == ["signal", "end"]
    # 0.5 units at 100, then 110 / 120 - 0.5 more at 120.
    units = 110.0 / 120.0
    average = (0.5 * 100.0 + (units - 0.5) * 120.0) / units
    np.testing.assert_allclose(trades["entry_price"], [average, 90.0])
    np.testing.assert_allclose(trades["size"], [units, units])
    np.testing.assert_allclose(trades["pnl"], [units * (90.0 - average), 0.0], atol=1e-12)
    assert trades["is_open"].tolist() == [False, True]


@pytest.mark.parametrize("fill", ["next_open", "same_close"])
def test_ruin_is_the_reason_of_the_last_trade_and_takes_all_there_was(x64, fill):
    for seed in range(6):
        result, prices = random_run(seed, fill, True, leverage=6.0, scale=0.3)
        if not result.is_ruined:
            continue
        trades = backtest.trade_record(result, prices=prices, initial_capital=1.0)
        total = trades["pnl"].sum() + result.interest.sum()
        np.testing.assert_allclose(total, -1.0, atol=1e-12)
        assert trades["reason"].iloc[-1] == "ruin" or trades["exit"].iloc[-1] > 0
        break
    else:
        pytest.fail("no case was ruined")
