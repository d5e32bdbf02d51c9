"""The text of a backtest, months by hand, and alpha against statsmodels."""

import numpy as np
import pandas as pd
import pytest
import statsmodels.api as sm

from densityjax.backtest import Costs, Prices, bar_record, metrics, run, trade_record
from densityjax.backtest.regression import regression_alpha
from densityjax.backtest.summary import monthly_pnl, summarise


def backtest(drift, seed=0, num_bars=1500):
    rng = np.random.default_rng(seed)
    close = 100 * np.exp(np.cumsum(0.005 * rng.normal(size=num_bars) + drift))
    index = pd.date_range("2024-01-20", periods=num_bars, freq="h", tz="UTC", name="timestamp")
    weights = np.repeat(rng.choice([-1.0, 0.0, 1.0], num_bars // 20), 20)
    weights = np.where(drift > 0.001, np.abs(weights), weights)
    prices = Prices(close=close)
    result = run(weights, prices, costs=Costs(5.0), fill="same_close")
    known = rng.uniform(size=num_bars) < 0.9
    record = bar_record(result, close, index, signal=weights, in_distribution=known)
    held = run(np.ones(num_bars), prices, costs=Costs(5.0), fill="same_close")
    return record, trade_record(result, index), np.asarray(held.returns, float), result


@pytest.fixture(scope="module")
def noise():
    return backtest(0.0)


OPTIONS = {"periods_per_year": 8760.0, "num_draws": 100}


def test_months_add_up_to_the_profit_of_the_account(noise):
    record = noise[0]
    calendar = monthly_pnl(record)
    assert list(calendar.index) == ["2024-01", "2024-02", "2024-03"]
    first = record.loc[record.index < "2024-02-01", "pnl"].sum()
    assert calendar.iloc[0] == pytest.approx(first)
    equal = monthly_pnl(record, bars_per_month=720)
    assert list(equal.index) == list(record.index[[0, 720, 1440]])
    assert equal.iloc[1] == pytest.approx(record["pnl"].iloc[720:1440].sum())
    for months in (calendar, equal):
        assert months.sum() == pytest.approx(record["equity"].iloc[-1] - 10_000)
    with pytest.raises(ValueError, match="bars_per_month is 0"):
        monthly_pnl(record, bars_per_month=0)


def test_the_summary_says_what_a_reader_looks_for(noise):
    record, trades, held, result = noise
    text = summarise(record, trades, benchmark_returns=held, title="Coin", **OPTIONS)
    lines = text.splitlines()
    assert lines[:2] == ["Coin", "===="]
    assert max(map(len, lines)) <= 100
    for part in ("a year", "lowest", "maximum drawdown", "in the market", "closed trades"):
        assert part in text
    returns = np.asarray(result.returns, float)
    sharpe = metrics.sharpe_ratio(returns, periods_per_year=8760)
    assert f"{sharpe:+.2f} [" in text
    assert f"{record['equity'].min():.2f}" in text
    closed = trades[~trades["is_open"]]
    assert f"{100 * closed['return'].max():+.2f} %, {100 * closed['return'].min():+.2f} %" in text
    share = 100 * np.mean(record["signal"] > 0)
    assert f"long {share:.1f} %" in text
    assert "2024-02 " in text
    assert "More than 80 % of the bars were known" in text
    assert "alpha against benchmark" in text


def test_bkt_07_noise_is_never_called_a_gain(noise):
    record, trades, _, _ = noise
    text = summarise(record, trades, num_trials=50, sharpe_variance=0.001, **OPTIONS)
    assert "no gain is told from luck" in text
    assert "not told from luck" in text
    assert "profitable" not in text.lower()
    assert "it lies above zero" not in text


def test_bkt_07_a_real_edge_is_shown_with_its_intervals():
    record, trades, _, _ = backtest(0.002)
    text = summarise(record, trades, **OPTIONS)
    assert "it lies above zero" in text
    assert "Sharpe ratio above 1, interval [" in text
    assert "Win rate above 50 %, standard error" in text
    assert "profitable" not in text.lower()


def test_a_record_without_trades_or_signals_has_a_summary_too(noise):
    record = noise[0].drop(columns=["signal", "in_distribution"])
    record = record.assign(position=0.0, pnl=0.0, equity=10_000.0)
    text = summarise(record, noise[1].iloc[:0], bars_per_month=720, **OPTIONS)
    assert "none, 0 open" in text
    assert "signals" not in text
    assert "nan [+nan, +nan]" in text
    with pytest.raises(ValueError, match=r"lacks \['pnl'\]"):
        summarise(record.drop(columns="pnl"), noise[1], **OPTIONS)


@pytest.mark.parametrize("lag", [0, 4])
def test_bkt_08_alpha_and_its_errors_are_those_of_statsmodels(lag):
    rng = np.random.default_rng(1)
    market = rng.normal(0.001, 0.02, 400)
    noise = rng.normal(size=401) * 0.01
    returns = 0.0005 + 0.4 * market + noise[1:] + 0.7 * noise[:-1]
    found = regression_alpha(returns, market, periods_per_year=365, lag=lag)
    fit = sm.OLS(returns, sm.add_constant(market)).fit(
        cov_type="HAC", cov_kwds={"maxlags": lag, "use_correction": False}
    )
    assert found.alpha == pytest.approx(365 * fit.params[0], rel=1e-9)
    assert found.beta == pytest.approx(fit.params[1], rel=1e-9)
    assert (found.alpha_t, found.beta_t) == pytest.approx(tuple(fit.tvalues), rel=1e-9)
    assert found.p_value == pytest.approx(fit.pvalues[0], rel=1e-9)
    assert (found.low, found.high) == pytest.approx(tuple(365 * fit.conf_int()[0]), rel=1e-9)
    assert found.r_squared == pytest.approx(fit.rsquared)


def test_alpha_is_zero_for_the_benchmark_itself_and_nan_where_it_does_not_move():
    market = np.random.default_rng(2).normal(size=50)
    half = regression_alpha(0.5 * market, market, periods_per_year=1)
    assert (half.alpha, half.beta) == pytest.approx((0.0, 0.5), abs=1e-12)
    assert np.isnan(regression_alpha(market, np.zeros(50), periods_per_year=1)).all()
    with pytest.raises(ValueError, match="benchmark_returns has 3 rows"):
        regression_alpha(market, market[:3], periods_per_year=1)
    with pytest.raises(ValueError, match="lag is -1"):
        regression_alpha(market, market, periods_per_year=1, lag=-1)
