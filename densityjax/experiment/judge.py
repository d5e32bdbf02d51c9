"""What a run has learned, in numbers: forecast against baselines, density, rules, accounts.

Everything is computed from a `Reading` and the bars. Thresholds and the rule come from the
validation rows; the test rows are judged once, with what was chosen.
"""

from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from densityjax import backtest, pipeline
from densityjax.backtest import inference, metrics, rules
from densityjax.evaluation import calibration, density_scores
from densityjax.market import log_returns, periods_per_year
from densityjax.models import ReturnDistribution
from densityjax.risk import baselines, coverage, scoring

BASELINES = {"ewma_t": baselines.ewma_t, "gjr_skewt": baselines.gjr_skewt}
QUANTILES = (0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99)
TAILS = {"1pct": 0.99, "5pct": 0.95}  # name of the tail: confidence of its value at risk
TRADING_SHARES = (0.9, 0.7, 0.5, 0.4, 0.3, 0.2, 0.15, 0.1, 0.05)  # of validation bars that trade
EXIT_SHARES = (1.0, 0.7, 0.5)  # of validation bars above the exit threshold; 1 never leaves early
GATES = (0.0, 0.01, 0.05, 0.1)  # smallest p-value of a state that is traded
BUDGET_QUANTILES = (0.1, 0.5, 0.9)  # of validation shortfalls: what the risk budget is set to

Metrics = dict[str, dict[str, Any]]


class Verdict(NamedTuple):
    """What `judge` hands over.

    Attributes:
      tables: name of a Parquet file -> frame: forecast, density, signals, grid.
      metrics: section -> name -> number; not finite where a figure is not defined.
      rule: parameters of the chosen rule.
    """

    tables: dict[str, pd.DataFrame]
    metrics: Metrics
    rule: rules.ThresholdParams


def judge(
    bars: pd.DataFrame,
    reading: pipeline.Reading,
    *,
    num_train: int,
    dim: int,
    alarm_rate: float,
    fee_bps: float,
    truth: pd.Series | None = None,
) -> Verdict:
    """Judges a reading on its test rows.

    Args:
      bars: all bars.
      reading: of all bars, its frame with the column `split`.
      num_train: leading bars that the models were fitted on; the baselines see the same.
      dim: number of features of the density.
      alarm_rate: p-value at or below which a state is marked, a probability.
      fee_bps: fee of a trade, basis points of its notional.
      truth: true log density of each bar's next return, where the market is simulated.

    Returns:
      The `Verdict`.
    """
    forecast = forecast_table(bars, reading, num_train=num_train, truth=truth)
    density = reading.frame[["split", "close", "p_value"]].copy()
    density.insert(2, "log_prob", reading.frame["state_log_prob"])
    costs = backtest.Costs(fee_bps=fee_bps)
    grid, rule, grid_metrics = choose_rule(bars, reading.frame, costs)
    signals, account_metrics = account(bars, reading.frame, rule, costs, alarm_rate)
    return Verdict(
        {"forecast": forecast, "density": density, "grid": grid, "signals": signals},
        {
            "density": density_metrics(reading.frame, dim, alarm_rate),
            "forecast": forecast_metrics(forecast, reading.forecast),
            "grid": grid_metrics,
            **account_metrics,
        },
        rule,
    )


def forecast_table(
    bars: pd.DataFrame, reading: pipeline.Reading, *, num_train: int, truth: pd.Series | None = None
) -> pd.DataFrame:
    """Puts the forecasts, what happened, and the baselines' log densities side by side.

    Args:
      bars: all bars.
      reading: of all bars, its frame with the column `split`.
      num_train: leading bars that fit the baselines.
      truth: true log density of each bar's next return, or None.

    Returns:
      Frame with the rows of the reading.
    """
    frame, forecast = reading.frame, reading.forecast
    following = frame["return_next"].to_numpy()
    table = frame[["split", "close", "return_next"]].copy()
    table["log_prob"] = forecast.log_prob(following)
    for name, column in baseline_log_probs(bars, num_train).items():
        table[f"log_prob_{name}"] = column.reindex(table.index)
    if truth is not None:
        table["log_prob_true"] = truth.reindex(table.index)
    table["cdf"] = forecast.cdf(following)
    table["mean"], table["std"] = frame["expected_return"], frame["return_std"]
    for probability in QUANTILES:
        table[f"quantile_{probability}"] = forecast.quantile(probability)
    for percent in (95, 99):
        table[f"value_at_risk_{percent}"] = forecast.value_at_risk(percent / 100)
        table[f"expected_shortfall_{percent}"] = forecast.expected_shortfall(percent / 100)
    return table


def baseline_log_probs(bars: pd.DataFrame, num_train: int) -> dict[str, pd.Series]:
    """Returns each baseline's log density of the return after each bar, fitted on the first bars.

    Args:
      bars: all bars.
      num_train: leading bars whose returns the parameters see.

    Returns:
      Name of the baseline -> series over bars; NaN at bars without a return.
    """
    returns = log_returns(bars).dropna()
    seen = int((returns.index <= bars.index[num_train - 1]).sum())
    following = np.append(returns.to_numpy()[1:], np.nan)
    found = {}
    for name, fit in BASELINES.items():
        forecast = fit(returns.to_numpy(), num_train=seen)
        found[name] = pd.Series(forecast.log_prob(following), index=returns.index)
    return found


def density_metrics(frame: pd.DataFrame, dim: int, alarm_rate: float) -> dict[str, Any]:
    """Returns log-likelihoods and realised alarm rates of the density of the state."""
    found: dict[str, Any] = {"alarm_rate_nominal": alarm_rate}
    for part, rows in frame.groupby("split"):
        if part in ("train", "validation", "test"):
            log_prob = rows["state_log_prob"].to_numpy(np.float64)
            found[f"log_likelihood_{part}"] = density_scores.mean_log_likelihood(log_prob)
    test = frame[frame["split"] == "test"]
    log_prob = test["state_log_prob"].to_numpy(np.float64)
    found["bits_per_dimension_test"] = density_scores.bits_per_dimension(log_prob, dim)
    found["alarm_rate_test"] = float((test["p_value"] <= alarm_rate).mean())
    return found


def forecast_metrics(table: pd.DataFrame, forecast: ReturnDistribution) -> dict[str, Any]:
    """Returns scores and calibration of the forecast on the test rows whose return is known."""
    is_scored = ((table["split"] == "test") & table["return_next"].notna()).to_numpy()
    test = table[is_scored]
    realised = test["return_next"].to_numpy()
    ours = test["log_prob"].to_numpy()
    found: dict[str, Any] = {"num_scored": len(test), "log_score": ours.mean()}
    for name in BASELINES:
        theirs = test[f"log_prob_{name}"].to_numpy()
        found[f"log_score_{name}"] = theirs.mean()
        found[f"diebold_mariano_{name}"] = scoring.diebold_mariano(-ours, -theirs).statistic
    if "log_prob_true" in test:
        found["log_score_true"] = test["log_prob_true"].mean()
        found["gap_to_truth"] = found["log_score_true"] - found["log_score"]
    found["crps"] = forecast[is_scored].crps(realised).mean()
    pit = np.clip(test["cdf"].to_numpy(np.float64), 1e-7, 1 - 1e-7)  # float32 rounds to 0 and 1
    found["pit_ks_p_value"] = calibration.pit_test(pit).p_value
    scores = calibration.normal_scores(pit)
    found["berkowitz_p_value"] = calibration.berkowitz_test(scores).p_value
    for name, confidence in TAILS.items():
        percent = round(100 * confidence)
        risk = test[f"value_at_risk_{percent}"].to_numpy()
        found |= tail_metrics(realised < -risk, name, 1.0 - confidence)
        found[f"mean_value_at_risk_{percent}"] = risk.mean()
        found[f"mean_expected_shortfall_{percent}"] = test[f"expected_shortfall_{percent}"].mean()
    return found


def tail_metrics(violations: np.ndarray, name: str, probability: float) -> dict[str, Any]:
    """Returns count, rate and coverage tests of value-at-risk violations, [T] booleans."""
    probability = round(probability, 10)
    return {
        f"violations_{name}": int(violations.sum()),
        f"violation_rate_{name}": violations.mean(),
        f"kupiec_p_value_{name}": coverage.kupiec_test(violations, probability).p_value,
        f"christoffersen_p_value_{name}": coverage.christoffersen_test(
            violations, probability
        ).p_value,
    }


def rule_grid(validation: pd.DataFrame) -> rules.ThresholdParams:
    """Lays out the rules to try, every threshold a quantile of the validation rows."""
    strength = validation["expected_z"].abs().to_numpy()
    shortfall = validation["expected_shortfall"].to_numpy()
    every = backtest.product_grid(
        rules.ThresholdParams,
        entry_z=np.quantile(strength, [1.0 - share for share in TRADING_SHARES]),
        exit_z=np.quantile(strength, [1.0 - share for share in EXIT_SHARES]),
        min_p_value=np.array(GATES),
        risk_budget=np.quantile(shortfall, BUDGET_QUANTILES),
        allow_short=np.array([0.0, 1.0]),
    )
    sensible = np.asarray(every.exit_z) <= np.asarray(every.entry_z)
    size = sensible.size
    return rules.ThresholdParams(
        *(np.broadcast_to(np.asarray(axis), size)[sensible] for axis in every)
    )


def choose_rule(
    bars: pd.DataFrame, frame: pd.DataFrame, costs: backtest.Costs
) -> tuple[pd.DataFrame, rules.ThresholdParams, dict[str, Any]]:
    """Runs the grid on the validation rows and takes the rule with the best Sharpe ratio.

    Args:
      bars: all bars.
      frame: of a reading, with the column `split`.
      costs: costs of trading.

    Returns:
      The grid as a frame, the parameters of the best rule, and the section `grid`.
    """
    validation = frame[frame["split"] == "validation"]
    per_year = periods_per_year(validation.index)
    result = backtest.run_grid(
        rules.threshold_rule,
        rule_grid(validation),
        pipeline.signals(validation),
        pipeline.prices(bars, validation.index),
        periods_per_year=per_year,
        costs=costs,
    )
    best = result.best("sharpe_ratio")
    params = rules.ThresholdParams(*(float(value) for value in best.params))
    table = result.to_frame()
    sharpes = table["sharpe_ratio"].to_numpy(np.float64)
    spread = float(np.nanstd(sharpes, ddof=1))
    chosen = {f"best_{name}": value for name, value in params._asdict().items()}
    return (
        table,
        params,
        {
            "num_trials": len(table),
            "trial_sharpe_std": spread,
            "expected_max_sharpe": inference.expected_max_sharpe(len(table), spread),
            "validation_sharpe_ratio": float(best.metrics.sharpe_ratio),
            **chosen,
        },
    )


def account(
    bars: pd.DataFrame,
    frame: pd.DataFrame,
    rule: rules.ThresholdParams,
    costs: backtest.Costs,
    alarm_rate: float,
) -> tuple[pd.DataFrame, Metrics]:
    """Trades the chosen rule and the benchmarks over the test rows, once.

    Args:
      bars: all bars.
      frame: of a reading, with the column `split`.
      rule: parameters of the threshold rule.
      costs: costs of trading, the same for all.
      alarm_rate: p-value at or below which a state is marked.

    Returns:
      The record of the test bars, and the sections of the strategy and the benchmarks.
    """
    test = frame[frame["split"] == "test"]
    decisions = pipeline.decide(test, rule)
    prices = pipeline.prices(bars, test.index)
    target = float(frame.loc[frame["split"] == "train", "return_next"].std())
    signals = pipeline.signals(test)
    weights = {
        "strategy": decisions["position"].to_numpy(),
        "buy_and_hold": np.ones(len(test), np.float32),
        "volatility_target": rules.apply_rule(
            rules.volatility_target, rules.VolatilityParams(target), signals
        ),
    }
    results = {name: backtest.run(held, prices, costs=costs) for name, held in weights.items()}
    equity = {name: np.asarray(result.equity, np.float64) for name, result in results.items()}
    record = pd.DataFrame(
        {
            "price": test["close"],
            "state_log_prob": test["state_log_prob"],
            "log_prob": test["state_log_prob"],
            "p_value": test["p_value"],
            "is_anomaly": test["p_value"] <= alarm_rate,
            "expected_return": test["expected_return"],
            "return_std": test["return_std"],
            **{name: decisions[name] for name in decisions},
            "pnl": np.diff(equity["strategy"], prepend=1.0),
            "cumulative_pnl": equity["strategy"] - 1.0,
            "equity": equity["strategy"],
            "drawdown": metrics.drawdowns(
                np.asarray(results["strategy"].returns, np.float64)
            )[1:],  # the first is the start
            "equity_buy_and_hold": equity["buy_and_hold"],
            "equity_volatility_target": equity["volatility_target"],
        },
        index=test.index,
    ).drop(columns="log_prob")
    per_year = periods_per_year(test.index)
    sections = {name: account_metrics(result, per_year) for name, result in results.items()}
    low, high = inference.sharpe_interval(
        np.asarray(results["strategy"].returns), periods_per_year=per_year
    )
    sections["strategy"] |= {
        "in_distribution_ratio": metrics.in_distribution_ratio(decisions["in_distribution"]),
        "average_log_prob": metrics.average_log_prob(test["state_log_prob"]),
        "average_confidence": metrics.average_confidence(decisions["confidence"]),
        "sharpe_ratio_low": (low, "the account never moved"),
        "sharpe_ratio_high": (high, "the account never moved"),
    }
    return record, sections


def account_metrics(result: backtest.BacktestResult, per_year: float) -> dict[str, Any]:
    """Returns the figures of one account; (number, reason) where one may not be defined."""
    returns = np.asarray(result.returns, np.float64)
    still = "the account never moved"
    return {
        "total_return": metrics.total_return(returns),
        "annual_return": metrics.annual_return(returns, periods_per_year=per_year),
        "annual_volatility": metrics.annual_volatility(returns, periods_per_year=per_year),
        "sharpe_ratio": (metrics.sharpe_ratio(returns, periods_per_year=per_year), still),
        "sortino_ratio": (
            metrics.sortino_ratio(returns, periods_per_year=per_year),
            "no bar lost money",
        ),
        "max_drawdown": metrics.max_drawdown(returns),
        "calmar_ratio": (
            metrics.calmar_ratio(returns, periods_per_year=per_year),
            "there was no drawdown",
        ),
        "hit_rate": (metrics.hit_rate(returns, np.asarray(result.held)), "no position was held"),
        "turnover": float(np.mean(np.asarray(result.turnover, np.float64))),
        "exposure": metrics.exposure(np.asarray(result.held)),
        "total_cost": float(np.sum(np.asarray(result.cost, np.float64))),
    }
