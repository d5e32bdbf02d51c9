"""Sweeps over delay and cost: where an oracle's edge is, and what breaks it even."""

import numpy as np
import pytest

from densityjax.backtest import Costs, Prices, metrics, run
from densityjax.backtest.sweeps import cost_sweep, lead_lag_sweep


@pytest.fixture(scope="module")
def market():
    rng = np.random.default_rng(0)
    returns = 0.01 * rng.normal(size=600)
    close = np.exp(np.cumsum(returns))
    knows = np.sign(np.append(np.diff(close), 0.0))  # of the next bar
    return Prices(close=close), knows


def test_an_oracle_of_one_bar_falls_off_a_cliff_after_lag_zero(market):
    prices, knows = market
    frame = lead_lag_sweep(knows, prices, periods_per_year=365, fill="same_close", costs=Costs(0.0))
    assert list(frame.index) == list(range(-5, 11))
    assert frame.index.name == "lag"
    noise = 5 * np.sqrt(365 / 600)
    assert frame.loc[0, "sharpe_ratio"] > 3 * noise
    assert (frame["sharpe_ratio"].drop(0).abs() < noise).all()
    assert (frame["num_bars"] == 600 - 15).all()


def test_a_lag_is_a_shift_of_the_weights_on_the_common_bars(market):
    prices, knows = market
    options = {"fill": "same_close", "costs": Costs(3.0)}
    frame = lead_lag_sweep(knows, prices, periods_per_year=365, lags=[-1, 0, 2], **options)
    close = np.asarray(prices.close)[2:599]
    for lag in (-1, 0, 2):
        result = run(knows[2 - lag : 599 - lag], Prices(close=close), **options)
        returns = np.asarray(result.returns, float)
        assert frame.loc[lag, "total_return"] == pytest.approx(metrics.total_return(returns))
    with pytest.raises(ValueError, match=r"prices.open is None"):
        lead_lag_sweep(knows, prices, periods_per_year=365)


def test_lags_may_not_reach_over_the_bars(market):
    prices, knows = market
    with pytest.raises(ValueError, match="shorter than 8 bars"):
        lead_lag_sweep(knows[:8], Prices(close=np.asarray(prices.close)[:8]), periods_per_year=365)


def test_cost_breaks_even_where_the_sweep_says(market):
    prices, knows = market
    weights = np.where(np.random.default_rng(1).uniform(size=600) < 0.6, knows, -knows)
    options = {"fill": "same_close", "drift": False}
    frame = cost_sweep(weights, prices, periods_per_year=365, **options)
    assert frame.index.name == "fee_bps"
    assert frame["sharpe_ratio"].is_monotonic_decreasing
    assert frame["total_return"].is_monotonic_decreasing
    np.testing.assert_allclose(frame["turnover"], frame["turnover"].iloc[0])
    even = frame.attrs["break_even_bps"]
    at_even = run(weights, prices, costs=Costs(even), **options)
    returns = np.asarray(at_even.returns, float)
    # Costs are paid out of what the bar starts with: equal to second order.
    assert returns.sum() == pytest.approx(0.0, abs=1e-3 * np.abs(returns).sum())
    ten = run(weights, prices, costs=Costs(10.0), **options)
    expected = metrics.sharpe_ratio(np.asarray(ten.returns, float), periods_per_year=365)
    assert frame.loc[10.0, "sharpe_ratio"] == pytest.approx(expected)
    half = cost_sweep(weights, prices, periods_per_year=365, fees_bps=[1.0, 2.0], **options)
    assert list(half.index) == [1.0, 2.0]


def test_without_a_trade_there_is_no_break_even(market):
    prices, _ = market
    frame = cost_sweep(
        np.zeros(600), prices, periods_per_year=365, fees_bps=[0.0, 5.0], fill="same_close"
    )
    assert np.isnan(frame.attrs["break_even_bps"])
    assert frame["sharpe_ratio"].isna().all()
