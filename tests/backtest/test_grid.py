"""Grids against one run at a time, sums against the metrics, and one compilation per rule."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from densityjax import backtest
from densityjax.backtest import (
    ConstantParams,
    Costs,
    GridMetrics,
    Prices,
    Signals,
    ThresholdParams,
    apply_rule,
    metrics,
    product_grid,
    run_grid,
)

NUM_BARS, YEAR = 400, 8_760.0


def market(seed, num_bars=NUM_BARS, scale=0.01):
    rng = np.random.default_rng(seed)
    legs = np.exp(scale * rng.standard_normal((num_bars, 2))).cumprod().reshape(num_bars, 2)
    signals = Signals(
        expected_z=rng.standard_normal(num_bars),
        density_p_value=rng.uniform(size=num_bars),
        expected_shortfall=rng.uniform(0.01, 0.05, num_bars),
    )
    return signals, Prices(open=legs[:, 0], close=legs[:, 1])


def one_by_one(rule, params, signals, prices, *, costs=None, warmup=0, **options):
    """Figures of each configuration from `apply_rule`, `run` and `metrics`."""
    rows, costs = [], costs or Costs()
    for i in range(len(jax.tree.leaves(params)[0])):
        row = jax.tree.map(lambda leaf, i=i: float(np.asarray(leaf)[i]), params)
        own = jax.tree.map(lambda leaf, i=i: leaf[i] if np.ndim(leaf) else leaf, (costs, options))
        weights = apply_rule(rule, row, signals, warmup=warmup)
        result = backtest.run(weights, prices, costs=own[0], warmup=warmup, **own[1])
        sign = np.sign(np.concatenate([[0.0], result.weights]))
        returns = np.asarray(result.returns, np.float64)
        rows.append(
            GridMetrics(
                total_return=metrics.total_return(returns),
                annual_return=metrics.annual_return(returns, periods_per_year=YEAR),
                annual_volatility=metrics.annual_volatility(returns, periods_per_year=YEAR),
                sharpe_ratio=metrics.sharpe_ratio(returns, periods_per_year=YEAR),
                sortino_ratio=metrics.sortino_ratio(returns, periods_per_year=YEAR),
                max_drawdown=metrics.max_drawdown(returns),
                calmar_ratio=metrics.calmar_ratio(returns, periods_per_year=YEAR),
                turnover=np.mean(result.turnover),
                exposure=metrics.exposure(result.weights),
                num_trades=np.count_nonzero((np.diff(sign) != 0) & (sign[1:] != 0)),
                is_ruined=bool(result.is_ruined),
            )
        )
    return GridMetrics(*(np.array(column) for column in zip(*rows, strict=True)))


def grid_of_twelve():
    return product_grid(
        ThresholdParams,
        entry_z=[0.5, 1.0, 9.0],  # the last one never trades
        min_p_value=[0.0, 0.2],
        risk_budget=[0.01, np.inf],
    )


@pytest.mark.parametrize(
    "options",
    [
        dict(),
        dict(fill="same_close", drift=False, lag=0),
        dict(fill="next_close", lag=2, band=0.1, allow_short=False, warmup=37),
        dict(costs=Costs(fee_bps=np.arange(12.0), cash_rate=1e-5), num_blocks=7, chunk_size=5),
    ],
    ids=str,
)
def test_each_figure_equals_that_of_a_run_of_its_own(x64, options):
    (signals, prices), params = market(0), grid_of_twelve()
    options = dict(options)
    chunks = {name: options.pop(name) for name in ("num_blocks", "chunk_size") if name in options}
    result = run_grid(
        backtest.threshold_rule,
        params,
        signals,
        prices,
        periods_per_year=YEAR,
        **chunks,
        **options,
    )
    expected = one_by_one(backtest.threshold_rule, params, signals, prices, **options)
    for name, values in result.metrics._asdict().items():
        np.testing.assert_allclose(
            values, getattr(expected, name), rtol=1e-10, atol=1e-12, err_msg=name
        )


def test_single_precision_figures_stay_within_1e_4():
    (signals, prices), params = market(1, num_bars=3_000, scale=0.002), grid_of_twelve()
    result = run_grid(backtest.threshold_rule, params, signals, prices, periods_per_year=YEAR)
    with jax.enable_x64(True):
        exact = run_grid(backtest.threshold_rule, params, signals, prices, periods_per_year=YEAR)
    for name, values in result.metrics._asdict().items():
        np.testing.assert_allclose(
            values, getattr(exact.metrics, name), rtol=1e-4, atol=1e-5, err_msg=name
        )


def test_ruin_is_latched_and_no_figure_becomes_nan(x64):
    close = np.array([100.0, 90.0, 30.0, 60.0, 90.0, 45.0])
    signals = Signals(last_return=np.zeros(6))
    result = run_grid(
        backtest.buy_and_hold,
        ConstantParams(np.array([1.0, 3.0])),
        signals,
        Prices(close=close),
        periods_per_year=365,
        fill="same_close",
        max_leverage=3.0,
        costs=Costs(0.0),
        num_blocks=3,
    )
    np.testing.assert_array_equal(result.metrics.is_ruined, [False, True])
    np.testing.assert_allclose(result.metrics.total_return, [-0.55, -1.0])
    np.testing.assert_allclose(result.metrics.max_drawdown, [0.7, 1.0])
    assert all(np.isfinite(values).all() for values in result.metrics)


def test_an_idle_account_with_interest_has_no_sharpe_ratio():
    signals, prices = market(2)
    result = run_grid(
        backtest.threshold_rule,
        ThresholdParams(entry_z=np.array([9.0, 1.0])),
        signals,
        prices,
        costs=Costs(cash_rate=1e-5),
        periods_per_year=YEAR,
    )
    assert np.isnan(result.metrics.sharpe_ratio[0])
    assert result.best().index == 1


def test_block_sums_rebuild_the_sharpe_ratio_of_any_part(x64):
    (signals, prices), params = market(3, num_bars=403), grid_of_twelve()
    result = run_grid(backtest.threshold_rule, params, signals, prices, periods_per_year=YEAR)
    assert result.block_bars.sum() == 403
    row = jax.tree.map(lambda leaf: float(leaf[0]), params)
    account = backtest.run(apply_rule(backtest.threshold_rule, row, signals), prices)
    ends = result.block_bars.cumsum()
    parts = np.split(np.asarray(account.returns), ends[:-1])
    np.testing.assert_allclose(result.block_returns[:, 0], [p.sum() for p in parts], atol=1e-14)
    np.testing.assert_allclose(result.block_squares[:, 0], [(p**2).sum() for p in parts])


def test_a_second_call_with_other_numbers_does_not_compile_again():
    traces = []

    def counted(params, signal_t, state):
        traces.append(1)
        return backtest.threshold_rule(params, signal_t, state)

    def go(seed, fee, scale):
        signals, prices = market(seed)
        params = jax.tree.map(lambda leaf: scale * leaf, grid_of_twelve())
        return run_grid(
            counted,
            params,
            signals,
            prices,
            costs=Costs(fee_bps=fee),
            periods_per_year=YEAR * scale,
            warmup=seed,
            band=0.01 * seed,
            chunk_size=5,
        )

    first = go(1, 10.0, 1.0)
    num_traces = len(traces)
    second = go(2, 3.0, 0.7)
    assert num_traces > 0
    assert len(traces) == num_traces
    assert not np.array_equal(first.metrics.total_return, second.metrics.total_return)


def test_product_grid_crosses_its_axes_with_the_last_fastest():
    grid = product_grid(a=[1, 2], b=3.0, c=[4, 5, 6])
    assert {name: column.tolist() for name, column in grid.items()} == {
        "a": [1, 1, 1, 2, 2, 2],
        "b": [3.0] * 6,
        "c": [4, 5, 6, 4, 5, 6],
    }
    np.testing.assert_array_equal(product_grid(ThresholdParams, entry_z=[1, 2]).exit_z, [0, 0])
    with pytest.raises(ValueError, match=r"b has shape \(0,\)"):
        product_grid(a=[1], b=[])


def test_best_picks_the_largest_or_the_least_and_a_frame_holds_all():
    (signals, prices), params = market(4), grid_of_twelve()
    result = run_grid(backtest.threshold_rule, params, signals, prices, periods_per_year=YEAR)
    frame = result.to_frame()
    assert result.num_trials == len(frame) == 12
    assert result.best().index == frame["sharpe_ratio"].idxmax()
    assert result.best("max_drawdown").index == frame["max_drawdown"].idxmin()
    best = result.best("total_return")
    assert best.params.entry_z == frame["entry_z"][best.index]
    per_bar = frame["sharpe_ratio"].dropna() / YEAR**0.5
    np.testing.assert_allclose(result.sharpe_variance, per_bar.var(), rtol=1e-10)
    with pytest.raises(ValueError, match="metric is 'luck'"):
        result.best("luck")


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (dict(lag=-1), "lag is -1"),
        (dict(chunk_size=0), "chunk_size is 0"),
        (dict(periods_per_year=0.0), "periods_per_year is 0.0"),
        (dict(costs=Costs(fee_bps=np.ones(3))), r"shapes \[\(3,\), \(12,\)\]"),
        (dict(signals=Signals(expected_z=np.ones(5))), r"signals\.expected_z has shape \(5,\)"),
    ],
)
def test_bad_arguments_are_named(change, match):
    signals, prices = market(5)
    arguments = {"signals": signals, "prices": prices, "periods_per_year": YEAR, **change}
    with pytest.raises(ValueError, match=match):
        run_grid(backtest.threshold_rule, grid_of_twelve(), **arguments)


def test_ex_04_nan_signals_and_nan_weights_raise():
    signals, prices = market(6)
    signals.expected_z[7] = np.nan
    with pytest.raises(ValueError, match=r"signals\.expected_z\[7\] is nan"):
        run_grid(backtest.threshold_rule, grid_of_twelve(), signals, prices, periods_per_year=YEAR)

    def broken(params, signal_t, state):
        return jnp.log(params.weight) + 0 * signal_t.last_return, state

    with pytest.raises(ValueError, match="returns of trial 1 are not finite"):
        run_grid(
            broken,
            ConstantParams(np.array([2.0, -1.0])),
            Signals(last_return=np.zeros(NUM_BARS)),
            prices,
            periods_per_year=YEAR,
        )


@pytest.mark.parametrize("weight", [np.inf, -np.inf])
def test_an_infinite_weight_raises_rather_than_trading_at_the_cap(weight):
    def broken(params, signal_t, state):
        return jnp.where(params.weight > 0.5, weight, params.weight), state

    params = ConstantParams(weight=np.array([0.2, 0.9]))
    with pytest.raises(ValueError, match="returns of trial 1 are not finite"):
        run_grid(broken, params, *market(0), periods_per_year=YEAR)


def test_without_periods_per_year_every_rate_is_per_bar():
    (signals, prices), params = market(4), grid_of_twelve()
    yearly = run_grid(backtest.threshold_rule, params, signals, prices, periods_per_year=YEAR)
    per_bar = run_grid(backtest.threshold_rule, params, signals, prices, costs=Costs())
    for name in ("sharpe_ratio", "sortino_ratio", "annual_volatility"):
        scaled = getattr(per_bar.metrics, name) * YEAR**0.5
        np.testing.assert_allclose(scaled, getattr(yearly.metrics, name), rtol=1e-10)
    np.testing.assert_array_equal(per_bar.metrics.total_return, yearly.metrics.total_return)
    growth = np.log1p(per_bar.metrics.annual_return) * len(prices.close)
    np.testing.assert_allclose(np.expm1(growth), per_bar.metrics.total_return, atol=1e-10)


def test_swept_stops_funding_and_a_sale_at_the_end_equal_runs_of_their_own(x64):
    (signals, prices), params = market(8), grid_of_twelve()
    ends = np.stack([prices.open, prices.close])
    prices = prices._replace(high=ends.max(0) * 1.004, low=ends.min(0) / 1.004)
    rng = np.random.default_rng(0)
    columns = backtest.MarketColumns(
        funding_rate=rng.normal(0.0, 1e-4, NUM_BARS), atr=0.01 * prices.close
    )
    stops = backtest.Stops(
        stop_loss=np.linspace(0.005, 0.05, 12), trailing=np.inf, atr_profit=1.7, max_bars=9
    )
    options = dict(costs=Costs(borrow_rate=1e-5), columns=columns, liquidate=True)
    result = run_grid(
        backtest.threshold_rule,
        params,
        signals,
        prices,
        periods_per_year=YEAR,
        stops=stops,
        chunk_size=5,
        **options,
    )
    for i in (0, 2, 5, 7):
        row = jax.tree.map(lambda leaf, i=i: float(np.asarray(leaf)[i]), params)
        weights = apply_rule(backtest.threshold_rule, row, signals)
        own = stops._replace(stop_loss=stops.stop_loss[i])
        one = backtest.run(weights, prices, stops=own, **options)
        total = metrics.total_return(np.asarray(one.returns, np.float64))
        np.testing.assert_allclose(result.metrics.total_return[i], total, rtol=1e-10)
        np.testing.assert_allclose(result.metrics.turnover[i], np.mean(one.turnover), rtol=1e-10)
        assert np.count_nonzero(one.exits.reason) > 10
        assert result.metrics.num_trades[i] == len(backtest.trade_record(one))
