"""Replays of a grid's best rules, and what makes a replay refuse."""

import jax
import numpy as np
import pytest

from densityjax import backtest
from densityjax.backtest import Costs, MomentumParams, Prices, Signals, oracle

NUM_BARS = 300
OPTIONS = dict(
    stops=backtest.Stops(stop_loss=0.02), costs=Costs(np.arange(6.0)), max_leverage=2.0, band=0.05
)


@pytest.fixture(scope="module")
def grid():
    rng = np.random.default_rng(0)
    close = 100.0 * np.exp(np.cumsum(0.01 * rng.standard_normal(NUM_BARS)))
    open_ = np.append(100.0, close[:-1])
    ends = np.stack([open_, close])
    prices = Prices(open_, ends.max(0) * 1.004, ends.min(0) / 1.004, close)
    signals = Signals(last_return=np.append(0.0, np.diff(np.log(close))))
    params = backtest.product_grid(MomentumParams, decay=[0.0, 0.5, 0.9], max_weight=[0.7, 1.9])
    result = backtest.run_grid(backtest.momentum, params, signals, prices, **OPTIONS)
    return result, backtest.momentum, signals, prices


def test_a_replay_has_the_path_and_the_trades_of_each_of_the_best(grid):
    for trial in grid[0].top(3, by="total_return"):
        again = backtest.replay(grid[0], trial.index, *grid[1:], **OPTIONS)
        assert again.result.equity.dtype == np.float64
        gain = again.trades["pnl"].sum() / 10_000.0
        np.testing.assert_allclose(again.result.equity[-1] - 1.0, gain, rtol=1e-9)
        np.testing.assert_allclose(trial.metrics.total_return, gain, rtol=1e-3, atol=1e-4)
        assert len(again.trades) == trial.metrics.num_trades
        assert set(again.trades["reason"]) >= {"stop", "signal"}


def test_a_replay_with_other_costs_than_the_grid_raises(grid):
    index = grid[0].best("turnover").index
    with pytest.raises(ValueError, match=rf"trial {index}: total return is .* in the grid"):
        backtest.replay(grid[0], index, *grid[1:], **OPTIONS | {"costs": Costs(30.0)})


def test_a_replay_that_the_oracle_contradicts_raises(grid, monkeypatch):
    real = oracle.run

    def biased(*args, **kwargs):
        answer = real(*args, **kwargs)
        return answer._replace(equity=answer.equity * (1.0 + 1e-6))

    monkeypatch.setattr(oracle, "run", biased)
    with pytest.raises(ValueError, match="that of the oracle"):
        backtest.replay(grid[0], 0, *grid[1:], **OPTIONS)


def test_what_does_not_fit_the_grid_is_named(grid):
    with pytest.raises(ValueError, match="index is 6; accepted are 0 to 5"):
        backtest.replay(grid[0], 6, *grid[1:], **OPTIONS)
    with pytest.raises(ValueError, match=r"an option has shape \(4,\); accepted is \[6\]"):
        backtest.replay(grid[0], 0, *grid[1:], **OPTIONS | {"band": np.zeros(4)})


def test_top_orders_by_any_metric_and_leaves_out_nan(grid):
    result = grid[0]
    frame = result.to_frame()
    assert frame["costs.fee_bps"].tolist() == list(range(6))
    found = [trial.index for trial in result.top(4, by="max_drawdown")]
    assert found == frame["max_drawdown"].sort_values(kind="stable").index[:4].tolist()
    sharpe = result.metrics.sharpe_ratio.copy()
    sharpe[:4] = np.nan
    holed = result._replace(metrics=result.metrics._replace(sharpe_ratio=sharpe))
    assert {trial.index for trial in holed.top(5)} == {4, 5}
    with pytest.raises(ValueError, match="k is 0"):
        result.top(0)
    np.testing.assert_allclose(result.sharpe_mean, frame["sharpe_ratio"].mean())


def test_lags_and_costs_are_axes_like_any_other(grid):
    _, rule, signals, prices = grid
    axes = backtest.product_grid(decay=[0.5, 0.9], lag=[0, 3, 1], fee_bps=[0.0, 20.0])
    result = backtest.run_grid(
        rule,
        MomentumParams(axes["decay"]),
        signals,
        prices,
        lag=axes["lag"],
        costs=Costs(axes["fee_bps"]),
    )
    frame = result.to_frame()
    assert {"decay", "lag", "costs.fee_bps"} <= set(frame)
    for i in range(12):
        row = jax.tree.map(lambda leaf, i=i: float(leaf[i]), result.params)
        weights = backtest.apply_rule(rule, row, signals)
        one = backtest.run(
            weights, prices, lag=int(axes["lag"][i]), costs=Costs(float(axes["fee_bps"][i]))
        )
        np.testing.assert_allclose(
            frame["total_return"][i], np.asarray(one.equity)[-1] - 1.0, rtol=1e-3, atol=1e-5
        )
    assert frame["total_return"].nunique() == 12


def test_bkt_10_one_of_many_assets_equals_a_run_of_its_own(grid):
    _, rule, signals, prices = grid
    params = MomentumParams(np.array([0.0, 0.8]))
    two = jax.tree.map(lambda leaf: np.stack([leaf, leaf[::-1]], -1), (signals, prices))
    both = backtest.run_grid(rule, params, *two, num_blocks=5)
    alone = [backtest.run_grid(rule, params, signals, prices, num_blocks=5)]
    flipped = jax.tree.map(lambda leaf: leaf[::-1].copy(), (signals, prices))
    alone.append(backtest.run_grid(rule, params, *flipped, num_blocks=5))
    assert both.num_trials == 4
    assert both.to_frame()["asset"].tolist() == [0, 0, 1, 1]
    for name, values in both.metrics._asdict().items():
        expected = np.concatenate([getattr(one.metrics, name) for one in alone])
        np.testing.assert_array_equal(values, expected, err_msg=name)
    expected = np.concatenate([one.metrics.sharpe_ratio for one in alone])
    np.testing.assert_allclose(both.sharpe_variance, expected.var(ddof=1))
    with pytest.raises(ValueError, match="many assets"):
        backtest.replay(both, 0, rule, signals, prices)
    with pytest.raises(ValueError, match=r"prices\.open has shape \(300,\)"):
        backtest.run_grid(rule, params, two[0], two[1]._replace(open=prices.open))
