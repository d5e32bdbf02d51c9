"""Figures of trades: by hand, from the engine's own trades, and apart from those of bars."""

import numpy as np
import pandas as pd
import pytest

from densityjax.backtest import Costs, Prices, measure_trades, metrics, run, trade_record


def trades_of(pnl, is_open=None):
    pnl = np.asarray(pnl, float)
    return pd.DataFrame(
        {
            "side": np.where(np.arange(pnl.size) % 2, -1, 1),
            "pnl": pnl,
            "return": pnl / 1_000.0,
            "holding_bars": np.arange(1, pnl.size + 1),
            "is_open": np.zeros(pnl.size, bool) if is_open is None else is_open,
        }
    )


def test_figures_of_five_trades_by_hand():
    found = measure_trades(trades_of([30.0, -10.0, 0.0, 50.0, -20.0]))
    assert (found.num_trades, found.num_winners, found.num_losers) == (5, 2, 2)
    assert (found.num_long, found.num_short, found.num_open) == (3, 2, 0)
    assert found.win_rate == 0.4
    assert found.profit_factor == pytest.approx(80 / 30)
    assert found.payoff_ratio == pytest.approx(40 / 15)
    assert found.expectancy == pytest.approx(0.01)
    assert found.average_pnl == pytest.approx(10.0)
    assert (found.average_win, found.average_loss) == pytest.approx((0.04, -0.015))
    assert (found.best_trade, found.worst_trade) == pytest.approx((0.05, -0.02))
    assert (found.average_holding_bars, found.longest_holding_bars) == (3.0, 5.0)


def test_an_open_trade_is_counted_apart_and_left_out():
    found = measure_trades(trades_of([10.0, -5.0, 99.0], [False, False, True]))
    assert (found.num_trades, found.num_open) == (2, 1)
    assert found.best_trade == pytest.approx(0.01)


def test_without_a_trade_every_rate_is_nan():
    found = measure_trades(trades_of([]))
    assert found.num_trades == 0
    assert np.isnan(found[6:]).all()
    with pytest.raises(ValueError, match=r"lack the columns \['pnl'\]"):
        measure_trades(trades_of([1.0]).drop(columns="pnl"))


def test_ex_10_one_trade_of_ten_bars_wins_always_and_its_bars_do_not():
    moves = np.array([2, -1, 2, -1, 2, -1, 2, -1, 2, 2]) / 100.0
    close = 100 * np.cumprod(np.concatenate([[1.0], 1 + moves, [1.0]]))
    weights = np.array([1.0] * 10 + [0.0, 0.0])
    result = run(weights, Prices(close=close), costs=Costs(0.0), fill="same_close")
    found = measure_trades(trade_record(result))
    assert (found.num_trades, found.win_rate) == (1, 1.0)
    held = np.asarray(result.held, float)
    assert metrics.hit_rate(np.asarray(result.returns, float), held) == pytest.approx(0.6)
