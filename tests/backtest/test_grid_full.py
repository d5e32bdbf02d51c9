"""The full metrics of a grid against the metrics and the trade list of one run at a time."""

import jax
import numpy as np
import pytest
from scipy import stats as scipy_stats

from densityjax import backtest
from densityjax.backtest import Costs, FullMetrics, Prices, Signals, ThresholdParams, metrics

NUM_BARS, YEAR = 400, 8_760.0


def market(seed, scale=0.01):
    rng = np.random.default_rng(seed)
    close = 100.0 * np.exp(np.cumsum(scale * rng.standard_normal(NUM_BARS)))
    open_ = np.append(100.0, close[:-1]) * np.exp(0.3 * scale * rng.standard_normal(NUM_BARS))
    high, low = np.maximum(open_, close), np.minimum(open_, close)
    signals = Signals(
        expected_z=rng.standard_normal(NUM_BARS),
        density_p_value=rng.uniform(size=NUM_BARS),
        expected_shortfall=rng.uniform(0.01, 0.05, NUM_BARS),
    )
    return signals, Prices(open_, high * (1.0 + 0.2 * scale), low * (1.0 - 0.2 * scale), close)


def grid_of_six():
    return backtest.product_grid(
        ThresholdParams, entry_z=[0.3, 1.0, 9.0], risk_budget=[0.01, 0.2], max_weight=8.0
    )


def figures_of_one(rule_params, signals, prices, options):
    weights = backtest.apply_rule(backtest.threshold_rule, rule_params, signals)
    result = backtest.run(weights, prices, **options)
    r = np.asarray(result.returns, np.float64)
    trades = backtest.trade_record(result)
    closed = trades[~trades["is_open"].astype(bool)]
    returns = closed["return"].to_numpy(np.float64)
    measured = backtest.measure_trades(trades)
    year = {"periods_per_year": YEAR}
    return FullMetrics(
        total_return=metrics.total_return(r),
        annual_return=metrics.annual_return(r, **year),
        annual_volatility=metrics.annual_volatility(r, **year),
        sharpe_ratio=metrics.sharpe_ratio(r, **year),
        sortino_ratio=metrics.sortino_ratio(r, **year),
        max_drawdown=metrics.max_drawdown(r),
        calmar_ratio=metrics.calmar_ratio(r, **year),
        turnover=np.mean(result.turnover),
        exposure=metrics.exposure(result.weights),
        num_trades=len(trades),
        is_ruined=bool(result.is_ruined),
        skewness=scipy_stats.skew(r) if np.ptp(r) else np.nan,
        kurtosis=scipy_stats.kurtosis(r, fisher=False) if np.ptp(r) else np.nan,
        omega_ratio=metrics.omega_ratio(r),
        hit_rate=metrics.hit_rate(r, result.held),
        worst_bar=r.min(),
        best_bar=r.max(),
        ulcer_index=metrics.ulcer_index(r),
        average_drawdown=metrics.average_drawdown(r),
        drawdown_duration=metrics.drawdown_duration(r),
        num_closed_trades=measured.num_trades,
        win_rate=measured.win_rate,
        profit_factor=metrics.profit_factor(returns),
        payoff_ratio=metrics.payoff_ratio(returns),
        expectancy=measured.expectancy,
        average_win=measured.average_win,
        average_loss=measured.average_loss,
        average_holding_bars=measured.average_holding_bars,
    )


STOPS = backtest.Stops(stop_loss=0.01, take_profit=0.02, max_bars=9.0)
CASES = {
    "open": dict(max_leverage=8.0),
    "open, stops": dict(max_leverage=3.0, stops=STOPS, liquidate=True),
    "close, stops": dict(max_leverage=3.0, stops=STOPS, fill="next_close", allow_short=False),
    "close, band": dict(fill="same_close", band=0.1, lag=1, drift=False),
    "carry": dict(
        costs=Costs(20.0, 3.0, cash_rate=1e-5, borrow_rate=1e-4), stops=STOPS, fill="next_close"
    ),
}


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("scale", [0.01, 0.08])
def test_every_full_figure_equals_that_of_metrics_and_trades(x64, name, scale):
    (signals, prices), options = market(3, scale), CASES[name]
    params = grid_of_six()
    result = backtest.run_grid(
        backtest.threshold_rule,
        params,
        signals,
        prices,
        periods_per_year=YEAR,
        metrics="full",
        num_blocks=7,
        **options,
    )
    for i in range(6):
        row = jax.tree.map(lambda leaf, i=i: float(leaf[i]), params)
        expected = figures_of_one(row, signals, prices, options)
        for field, values in result.metrics._asdict().items():
            np.testing.assert_allclose(
                values[i],
                getattr(expected, field),
                rtol=1e-8,
                atol=1e-12,
                err_msg=f"{field} of {row}",
            )
    assert np.isnan(result.metrics.win_rate[-1])  # the rule that never trades
    assert (result.metrics.num_closed_trades[:4] > 10).all() or result.metrics.is_ruined.any()


def test_ruin_ends_a_trade_with_the_whole_of_its_loss(x64):
    signals, prices = market(3, 0.08)
    options = dict(max_leverage=8.0, costs=Costs(0.0))
    params = grid_of_six()
    result = backtest.run_grid(
        backtest.threshold_rule, params, signals, prices, metrics="full", **options
    )
    ruined = np.flatnonzero(result.metrics.is_ruined)
    assert ruined.size > 0
    for i in ruined:
        row = jax.tree.map(lambda leaf, i=i: float(leaf[i]), params)
        weights = backtest.apply_rule(backtest.threshold_rule, row, signals)
        trades = backtest.trade_record(backtest.run(weights, prices, **options))
        assert trades["reason"].iloc[-1] == "ruin"
        mean = trades["return"].mean()
        np.testing.assert_allclose(result.metrics.expectancy[i], mean, rtol=1e-10)


def test_single_precision_full_figures_stay_near_those_of_double():
    signals, prices = market(4)
    run = lambda: backtest.run_grid(  # noqa: E731
        backtest.threshold_rule,
        grid_of_six(),
        signals,
        prices,
        periods_per_year=YEAR,
        metrics="full",
        stops=STOPS,
    )
    single = run()
    assert single.block_fourths.dtype == np.float32
    with jax.enable_x64(True):
        double = run()
    for field, values in single.metrics._asdict().items():
        np.testing.assert_allclose(
            values, getattr(double.metrics, field), rtol=2e-3, atol=1e-5, err_msg=field
        )
