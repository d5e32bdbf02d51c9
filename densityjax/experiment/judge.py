"""What a run has learned, in numbers: forecast against baselines, density, rules, accounts.

Everything is computed from a `Reading` and the bars. Thresholds and the rule come from the
validation rows; the test rows are judged once, with what was chosen.
"""

from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from densityjax import backtest, pipeline
from densityjax._typing import NumpyArray
from densityjax.backtest import rules
from densityjax.evaluation import calibration, density_baselines, density_scores
from densityjax.experiment import families
from densityjax.experiment.accounts import Metrics, choose_rule, trade
from densityjax.experiment.frames import part, values
from densityjax.market import log_returns
from densityjax.models import ReturnDistribution
from densityjax.risk import baselines, coverage, scoring

DENSITY_BASELINES = {
    "gaussian_mixture": density_baselines.gaussian_mixture,
    "kernels": density_baselines.kernel_density,
}
BASELINES = {"ewma_t": baselines.ewma_t, "gjr_skewt": baselines.gjr_skewt}
SPLITS = ("train", "validation", "test")
QUANTILES = (0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99)
TAILS = {"1pct": 99, "5pct": 95}  # name of the tail: confidence of its value at risk, percent
PIT_MARGIN = 1e-7  # probability: float32 rounds a distribution function to 0 or 1 this close to it


class Verdict(NamedTuple):
    """What `judge` hands over.

    Attributes:
      tables: name of a Parquet file -> frame: forecast, density, signals, grid, samples.
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
    states: pd.DataFrame,
    fitted: pipeline.Pipeline,
    alarm_rate: float,
    fee_bps: float,
    seed: int = 0,
    truth: pd.Series | None = None,
) -> Verdict:
    """Judges a reading on its test rows.

    Args:
      bars: all bars.
      reading: of all bars, its frame with the column `split`.
      num_train: leading bars that the models were fitted on; the baselines see the same.
      states: features that the density was fitted to, of all rows of the reading at least.
      fitted: the models that the reading is of.
      alarm_rate: p-value at or below which a state is marked, a probability.
      fee_bps: fee of a trade, basis points of its notional.
      seed: of draws from the densities.
      truth: true log density of each bar's next return, where the market is simulated.

    Returns:
      The `Verdict`.
    """
    forecast = forecast_table(bars, reading, num_train=num_train, truth=truth)
    frame, states = reading.frame, states.loc[reading.frame.index]
    columns = [name for name in frame if str(name).startswith(("log_prob", "p_value"))]
    density = frame.loc[:, ["split", "close", *columns]]
    costs = backtest.Costs(fee_bps=fee_bps)
    grid, rule, grid_metrics = choose_rule(bars, frame, costs)
    signals, account_metrics = trade(bars, frame, rule, costs=costs, alarm_rate=alarm_rate)
    split = frame["split"].to_numpy()
    samples, sample_metrics = families.sample_metrics(fitted, states, split, seed)
    found = {"density": density_metrics(frame, states, alarm_rate), "samples": sample_metrics}
    if fitted.companions:
        companions = fitted.companions
        found["families"] = families.agreement_metrics(frame, companions, alarm_rate)
    found |= {"forecast": forecast_metrics(forecast, reading.forecast), "grid": grid_metrics}
    tables = {"forecast": forecast, "density": density, "grid": grid, "signals": signals}
    return Verdict({**tables, "samples": samples}, {**found, **account_metrics}, rule)


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
    following = values(frame, "return_next")
    table = frame.loc[:, ["split", "close", "return_next"]].copy()
    table["log_prob"] = forecast.log_prob(following)
    for name, column in baseline_log_probs(bars, num_train).items():
        table[f"log_prob_{name}"] = column.reindex(table.index)
    if truth is not None:
        table["log_prob_true"] = truth.reindex(table.index)
    table["cdf"] = forecast.cdf(following)
    table["mean"], table["std"] = frame["expected_return"], frame["return_std"]
    for probability in QUANTILES:
        table[f"quantile_{probability}"] = forecast.quantile(probability)
    for percent in TAILS.values():
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


def density_metrics(frame: pd.DataFrame, states: pd.DataFrame, alarm_rate: float) -> dict[str, Any]:
    """Returns log-likelihoods, also of plain densities, and alarm rates of the state's density.

    Args:
      frame: of the reading, with the columns `split`, `log_prob` and `p_value`.
      states: the features of the same rows.
      alarm_rate: p-value at or below which a state is marked, a probability.

    Returns:
      The section `density`: name -> number.
    """
    found: dict[str, Any] = {"alarm_rate_nominal": alarm_rate}
    rows = {name: states[np.asarray(frame["split"] == name)] for name in SPLITS}
    for name in SPLITS:
        log_prob = values(part(frame, name), "log_prob")
        found[f"log_likelihood_{name}"] = density_scores.mean_log_likelihood(log_prob)
    for name, fit in DENSITY_BASELINES.items():
        log_prob = fit(rows["train"], rows["validation"]).log_prob(rows["test"])
        found[f"log_likelihood_test_{name}"] = float(log_prob.mean())
    test = part(frame, "test")
    found["bits_per_dimension_test"] = density_scores.bits_per_dimension(
        values(test, "log_prob"), states.shape[1]
    )
    found["alarm_rate_test"] = float((values(test, "p_value") <= alarm_rate).mean())
    return found


def forecast_metrics(table: pd.DataFrame, forecast: ReturnDistribution) -> dict[str, Any]:
    """Scores the forecast on the test rows whose return is known.

    Args:
      table: of `forecast_table`.
      forecast: the densities of the same rows.

    Returns:
      The section `forecast`: name -> number.
    """
    is_known = np.isfinite(values(table, "return_next"))
    is_scored = np.asarray(table["split"] == "test") & is_known
    test = table.loc[is_scored]
    realised = values(test, "return_next")
    return {
        "num_scored": len(test),
        **_score_metrics(test),
        "crps": float(forecast[is_scored].crps(realised).mean(dtype=np.float64)),
        **_calibration_metrics(values(test, "cdf")),
        **_risk_metrics(test, realised),
    }


def _score_metrics(test: pd.DataFrame) -> dict[str, Any]:
    """Returns mean log scores, and the differences against each baseline in standard errors."""
    ours = values(test, "log_prob")
    found = {"log_score": ours.mean()}
    for name in BASELINES:
        theirs = values(test, f"log_prob_{name}")
        found[f"log_score_{name}"] = theirs.mean()
        found[f"diebold_mariano_{name}"] = scoring.diebold_mariano(-ours, -theirs).statistic
    if "log_prob_true" in test:
        found["log_score_true"] = values(test, "log_prob_true").mean()
        found["gap_to_truth"] = found["log_score_true"] - found["log_score"]
    return found


def _calibration_metrics(cdf: NumpyArray) -> dict[str, Any]:
    """Returns the p-values of two tests of the probability integral transform."""
    pit = np.clip(cdf, PIT_MARGIN, 1.0 - PIT_MARGIN)
    scores = calibration.normal_scores(pit)
    return {
        "pit_ks_p_value": calibration.pit_test(pit).p_value,
        "berkowitz_p_value": calibration.berkowitz_test(scores).p_value,
    }


def _risk_metrics(test: pd.DataFrame, realised: NumpyArray) -> dict[str, Any]:
    """Returns violations and mean sizes of value at risk and expected shortfall, both tails."""
    found: dict[str, Any] = {}
    for name, percent in TAILS.items():
        risk = values(test, f"value_at_risk_{percent}")
        found |= tail_metrics(realised < -risk, name, (100 - percent) / 100)
        found[f"mean_value_at_risk_{percent}"] = risk.mean()
        shortfall = values(test, f"expected_shortfall_{percent}")
        found[f"mean_expected_shortfall_{percent}"] = shortfall.mean()
    return found


def tail_metrics(violations: NumpyArray, name: str, probability: float) -> dict[str, Any]:
    """Returns count, rate and coverage tests of violations.

    Args:
      violations: [T] booleans, whether the loss went beyond the value at risk.
      name: of the tail, the end of every metric's name.
      probability: that a right value at risk is exceeded with.

    Returns:
      Name -> number.
    """
    return {
        f"violations_{name}": int(violations.sum()),
        f"violation_rate_{name}": violations.mean(),
        f"kupiec_p_value_{name}": coverage.kupiec_test(violations, probability).p_value,
        f"christoffersen_p_value_{name}": coverage.christoffersen_test(
            violations, probability
        ).p_value,
    }
