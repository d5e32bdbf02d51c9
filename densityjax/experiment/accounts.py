"""The rule and its accounts: chosen on the validation rows, traded once on the test rows."""

from typing import Any

import jax.numpy as jnp
import numpy as np
import pandas as pd

from densityjax import backtest, pipeline
from densityjax._typing import NumpyArray
from densityjax.backtest import inference, metrics, rules
from densityjax.experiment.frames import part, values
from densityjax.market import log_returns, periods_per_year
from densityjax.strategies.score import ScoreRule

TRADING_SHARES = (0.9, 0.7, 0.5, 0.4, 0.3, 0.2, 0.15, 0.1, 0.05)  # of validation bars that trade
EXIT_SHARES = (1.0, 0.7, 0.5)  # of validation bars above the exit threshold; 1 never leaves early
GATES = (0.0, 0.01, 0.05, 0.1)  # smallest p-value of a state that is traded
BUDGET_QUANTILES = (0.1, 0.5, 0.9)  # of validation shortfalls: what the risk budget is set to
SHORTFALLS = ("expected_shortfall", "short_expected_shortfall")
HALF_LIFE = 10.0  # bars, of the benchmark's volatility: near RiskMetrics' decay of .94
MIN_VOLATILITY = 1e-6  # of a flat stretch, log return per bar: the weight is capped anyway
NEVER_MOVED = "the account never moved"

Metrics = dict[str, dict[str, Any]]


def rule_grid(validation: pd.DataFrame) -> rules.ThresholdParams:
    """Lays out the rules to try, every threshold a quantile of the validation rows.

    Args:
      validation: rows of a reading's frame.

    Returns:
      Parameters of K rules, each field [K].
    """
    strength = np.abs(values(validation, "expected_z"))
    shortfalls = np.concatenate([values(validation, name) for name in SHORTFALLS])
    axes = {
        "entry_z": np.quantile(strength, [1.0 - share for share in TRADING_SHARES]),
        "exit_z": np.quantile(strength, [1.0 - share for share in EXIT_SHARES]),
        "min_p_value": np.array(GATES),
        "risk_budget": np.quantile(shortfalls, BUDGET_QUANTILES),
        "allow_short": np.array([0.0, 1.0]),
    }
    every = backtest.product_grid(rules.ThresholdParams, **axes)
    sensible = np.asarray(every.exit_z) <= np.asarray(every.entry_z)
    chosen = (np.broadcast_to(np.asarray(axis), sensible.size)[sensible] for axis in every)
    return rules.ThresholdParams(*map(jnp.asarray, chosen))


def choose_rule(
    bars: pd.DataFrame, frame: pd.DataFrame, costs: backtest.Costs
) -> tuple[pd.DataFrame, rules.ThresholdParams, dict[str, Any]]:
    """Runs the grid on the validation rows and takes the rule with the best Sharpe ratio.

    Holding nothing is a rule as well, of Sharpe ratio zero: where none of the grid is above it,
    the choice is the flat rule, whose largest weight is zero.

    Args:
      bars: all bars.
      frame: of a reading, with the column `split`.
      costs: costs of trading.

    Returns:
      The grid as a frame, the parameters of the chosen rule, and the section `grid`.
    """
    validation = part(frame, "validation")
    every = pipeline.on_every_bar(validation, bars)
    result = backtest.run_grid(
        rules.threshold_rule,
        rule_grid(validation),
        pipeline.signals(every),
        pipeline.prices(bars, every.index),
        periods_per_year=periods_per_year(every.index),
        costs=costs,
    )
    table = result.to_frame()
    sharpes = values(table, "sharpe_ratio")
    best = result.trial(int(np.argmax(np.nan_to_num(sharpes, nan=-np.inf))))
    params = rules.ThresholdParams(*(float(value) for value in best.params))
    is_flat = not best.metrics.sharpe_ratio > 0.0
    if is_flat:
        params = params._replace(max_weight=0.0)
    defined = sharpes[np.isfinite(sharpes)]
    spread = float(np.std(defined, ddof=1)) if defined.size > 1 else np.nan
    found = {
        "is_flat": int(is_flat),
        "num_trials": len(table),
        "trial_sharpe_std": spread,
        "expected_max_sharpe": inference.expected_max_sharpe(len(table), spread),
        "validation_sharpe_ratio": (float(best.metrics.sharpe_ratio), "no rule ever traded"),
        **{f"best_{name}": value for name, value in params._asdict().items()},
    }
    return table, params, found


def trade(
    bars: pd.DataFrame,
    frame: pd.DataFrame,
    rule: rules.ThresholdParams,
    *,
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
    judged = part(frame, "test")
    test = pipeline.on_every_bar(judged, bars)
    decisions = pipeline.decide(test, rule)
    prices, per_year = pipeline.prices(bars, test.index), periods_per_year(test.index)
    target = float(np.nanstd(values(part(frame, "train"), "return_next"), ddof=1))
    weights = {
        "strategy": decisions["position_size"].to_numpy(),
        "buy_and_hold": np.ones(len(test), np.float32),
        "volatility_target": rules.apply_rule(
            rules.volatility_target,
            rules.VolatilityParams(target),
            rules.Signals(return_std=recent_volatility(bars)[bars.index.get_indexer(test.index)]),
        ),
    }
    others = _other_decisions(frame, test.index, alarm_rate)
    weights |= {name: values(each, "position_size") for name, each in others.items()}
    results = {name: backtest.run(held, prices, costs=costs) for name, held in weights.items()}
    sections = {name: account_metrics(result, per_year) for name, result in results.items()}
    for name in ("strategy", *others):
        low, high = inference.sharpe_interval(
            np.asarray(results[name].returns), periods_per_year=per_year
        )
        sections[name] |= {
            "sharpe_ratio_low": (low, NEVER_MOVED),
            "sharpe_ratio_high": (high, NEVER_MOVED),
        }
    seen = decisions.loc[judged.index]
    sections["strategy"] |= {
        "in_distribution_ratio": metrics.in_distribution_ratio(values(seen, "in_distribution")),
        "average_log_prob": metrics.average_log_prob(values(judged, "log_prob")),
        "average_confidence": metrics.average_confidence(values(seen, "confidence")),
        "num_without_forecast": len(test) - len(judged),
    }
    record = _record(test, decisions, results, alarm_rate)
    for name, each in others.items():
        columns = ["signal", "position_size", "reason"]
        record = record.join(each[columns].add_prefix(f"{name.removesuffix('_strategy')}_"))
    return record, sections


def _other_decisions(
    frame: pd.DataFrame, index: pd.Index, alarm_rate: float
) -> dict[str, pd.DataFrame]:
    """Decides by the other families, whose rules carry what came before the test rows.

    Args:
      frame: of a reading, with the column `split`.
      index: bars of the test part, those without a forecast too.
      alarm_rate: p-value at or below which a state is marked.

    Returns:
      Name of the strategy -> its decisions on `index`; flat where there is no forecast.
    """
    found = {}
    if "score_of_return" in frame:
        # A score that never moved has no spread to be measured by: sizes then ignore it.
        spread = float(np.var(values(part(frame, "validation"), "score_of_return"))) or np.inf
        rule = ScoreRule(min_p_value=alarm_rate, num_stable=2, reference_variance=spread)
        found["score_strategy"] = pipeline.decide_by_score(frame, rule)
    if "log_prob_energy" in frame:
        found["energy_strategy"] = pipeline.decide_by_energy(frame)
    quiet = {"position_size": 0.0, "reason": "no forecast"}
    return {name: each.reindex(index).fillna(quiet) for name, each in found.items()}


def recent_volatility(bars: pd.DataFrame) -> NumpyArray:
    """Returns the EWMA volatility of log returns up to each bar, [T], which no model touched."""
    square = log_returns(bars).pow(2.0)
    mean = square.ewm(halflife=HALF_LIFE, min_periods=2).mean().to_numpy(np.float64)
    return np.maximum(np.sqrt(mean), MIN_VOLATILITY)


def _record(
    test: pd.DataFrame,
    decisions: pd.DataFrame,
    results: dict[str, backtest.BacktestResult],
    alarm_rate: float,
) -> pd.DataFrame:
    """Puts state, decision and accounts of every test bar side by side; money starts at 1."""
    given = ("log_prob", "expected_return", "return_std")
    record = backtest.bar_record(
        results["strategy"],
        values(test, "close"),
        pd.DatetimeIndex(test.index),
        **{name: values(test, name) for name in given},
        **{str(name): decisions[name].to_numpy() for name in decisions},
        initial_capital=1.0,
    )
    returns = np.asarray(results["strategy"].returns, np.float64)
    return record.assign(
        p_value=test["p_value"],
        is_anomaly=test["p_value"] <= alarm_rate,
        drawdown=metrics.drawdowns(returns)[1:],  # the first is the start
        **{
            f"equity_{name}": np.asarray(result.equity, np.float64)
            for name, result in results.items()
            if name != "strategy"
        },
    )


def account_metrics(result: backtest.BacktestResult, per_year: float) -> dict[str, Any]:
    """Returns the figures of one account; (number, reason) where one may not be defined.

    Args:
      result: of the engine.
      per_year: bars in a year.

    Returns:
      Name -> number, or (number, reason for its absence).
    """
    returns, held = np.asarray(result.returns, np.float64), np.asarray(result.held)
    sharpe = metrics.sharpe_ratio(returns, periods_per_year=per_year)
    sortino = metrics.sortino_ratio(returns, periods_per_year=per_year)
    calmar = metrics.calmar_ratio(returns, periods_per_year=per_year)
    return {
        "total_return": metrics.total_return(returns),
        "annual_return": metrics.annual_return(returns, periods_per_year=per_year),
        "annual_volatility": metrics.annual_volatility(returns, periods_per_year=per_year),
        "sharpe_ratio": (sharpe, NEVER_MOVED),
        "sortino_ratio": (sortino, "no bar lost money"),
        "max_drawdown": metrics.max_drawdown(returns),
        "calmar_ratio": (calmar, "there was no drawdown"),
        "hit_rate": (metrics.hit_rate(returns, held), "no position was held"),
        "turnover": float(np.mean(np.asarray(result.turnover, np.float64))),
        "exposure": metrics.exposure(held),
        "total_cost": float(np.sum(np.asarray(result.cost, np.float64))),
    }
