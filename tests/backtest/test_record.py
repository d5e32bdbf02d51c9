"""Frames of bars and trades against hand-made ledgers and the account they come from."""

import numpy as np
import pandas as pd
import pytest

from densityjax import backtest
from densityjax.backtest import Costs, Prices, metrics, run


def random_backtest(seed, fill="next_open", **options):
    rng = np.random.default_rng(seed)
    legs = np.exp(0.03 * rng.standard_normal((80, 2))).cumprod().reshape(80, 2)
    weights = np.where(rng.uniform(size=80) < 0.3, 0.0, rng.uniform(-1, 1, 80)).repeat(2)[:80]
    prices = Prices(open=legs[:, 0], close=legs[:, 1])
    return run(weights, prices, fill=fill, **options), prices


def test_the_bar_record_adds_up_to_the_change_of_equity(x64):
    result, prices = random_backtest(0)
    index = pd.date_range("2024-01-01", periods=80, freq="h", tz="UTC")
    frame = backtest.bar_record(result, prices.close, index, confidence=np.full(80, 0.5))
    assert list(frame.columns) == [
        "price",
        "signal",
        "confidence",
        "log_prob",
        "in_distribution",
        "expected_return",
        "return_std",
        "latent_return",
        "position_size",
        "reason",
        "position",
        "pnl",
        "cumulative_pnl",
        "equity",
    ]
    assert frame.index.name == "timestamp"
    np.testing.assert_allclose(frame["pnl"].sum(), frame["equity"].iloc[-1] - 10_000.0)
    np.testing.assert_allclose(frame["cumulative_pnl"], frame["pnl"].cumsum(), atol=1e-9)
    np.testing.assert_allclose(frame["equity"], 10_000.0 * result.equity)
    assert frame["signal"].isna().all()
    assert (frame["confidence"] == 0.5).all()
    with pytest.raises(ValueError, match=r"log_prob has shape \(3,\)"):
        backtest.bar_record(result, prices.close, index, log_prob=np.zeros(3))


def test_ex_09_a_flip_is_two_trades_and_no_profit_is_lost(x64):
    prices = Prices(close=[100.0, 110.0, 99.0])
    result = run([1.0, -1.0, 0.0], prices, costs=Costs(15.0), fill="same_close")
    trades = backtest.trade_record(result, initial_capital=1.0)
    assert trades[["entry", "exit", "side"]].to_numpy().tolist() == [[0, 1, 1], [1, 2, -1]]
    # Bought 1 at 100 for 0.0015, worth 1.1 at the flip, whose closing half costs 0.00165.
    long_pnl = -0.0015 + 0.1 - 0.0015 * 1.1
    equity = 1 - 0.0015 + 0.1  # at the flip, before costs, is also the size of the short
    short_pnl = -0.0015 * equity + 0.1 * equity - 0.0015 * 0.9 * equity
    np.testing.assert_allclose(trades["pnl"], [long_pnl, short_pnl], rtol=1e-12)
    np.testing.assert_allclose(trades["return"], [long_pnl, short_pnl / (1 - 0.0015)])
    np.testing.assert_allclose(trades["pnl"].sum(), result.equity[-1] - 1.0)


@pytest.mark.parametrize("fill", ["next_open", "next_close", "same_close"])
@pytest.mark.parametrize("band", [0.0, 0.3])
def test_profits_of_trades_plus_interest_are_the_change_of_equity(x64, fill, band):
    result, _ = random_backtest(1, fill, band=band, costs=Costs(25.0, cash_rate=1e-4))
    trades = backtest.trade_record(result, initial_capital=1.0)
    total = trades["pnl"].sum() + result.interest.sum()
    np.testing.assert_allclose(total, result.equity[-1] - 1.0, atol=1e-13)
    sign = np.sign(np.concatenate([[0.0], result.weights]))
    assert len(trades) == np.count_nonzero((np.diff(sign) != 0) & (sign[1:] != 0)) > 10
    assert (trades["is_open"].to_numpy()[:-1] == False).all()  # noqa: E712


def test_ruin_leaves_no_profit_unaccounted(x64):
    prices = Prices(open=[100.0, 100.0, 100.0], close=[100.0, 40.0, 50.0])  # down 60 % at once
    result = run([2.0, 2.0, 0.0], prices, max_leverage=2.0)
    trades = backtest.trade_record(result, initial_capital=1.0)
    assert result.is_ruined
    assert trades["side"].tolist() == [1]
    np.testing.assert_allclose(trades["pnl"], [-1.0])


def test_ex_10_one_winning_trade_of_ten_bars_four_of_them_down(x64):
    steps = np.array([0, 2, -1, 2, -1, 2, -1, 2, -1, 2, 2, 0]) / 100.0
    prices = Prices(close=100 * np.cumprod(1 + steps))
    weights = np.array([1.0] * 10 + [0.0, 0.0])
    result = run(weights, prices, costs=Costs(0.0), fill="same_close")
    trades = backtest.trade_record(result)
    assert trades["holding_bars"].tolist() == [10]
    assert metrics.win_rate(trades["return"]) == 1.0
    np.testing.assert_allclose(metrics.hit_rate(result.returns, result.held), 0.6)
    assert metrics.profit_factor(trades["return"]) == np.inf


def test_an_account_that_never_trades_has_an_empty_record():
    result = run(np.zeros(5), Prices(close=np.arange(1.0, 6.0)), fill="same_close")
    trades = backtest.trade_record(result)
    assert trades.empty
    assert np.isnan(metrics.win_rate(trades["return"]))
