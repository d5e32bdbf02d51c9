"""The forecaster beside everything a risk desk would use, on the same rows of the same bars.

All are fitted on the first part of the bars and judged on the rest, after a purge, with what was
fitted held: laws by their log density, and those that have none by quantiles as well. Losses are
better lower; a gain is positive where the forecaster is better.
"""

from collections.abc import Callable
from typing import Any, NamedTuple, cast

import numpy as np
import pandas as pd

from densityjax._typing import NumpyArray
from densityjax.estimators import ReturnForecaster, forecast_rows
from densityjax.estimators.return_forecaster import ForecastRows
from densityjax.market import log_returns
from densityjax.models import ReturnDistribution
from densityjax.risk import baselines, coverage, empirical, scoring

OURS = "forecaster"
LAWS = {
    "ewma_t": baselines.ewma_t,
    "garch_t": baselines.garch,
    "gjr_skewt": baselines.gjr_skewt,
    "egarch_skewt": baselines.egarch_skewt,
}
PINBALL = (0.01, 0.05, 0.95, 0.99)
TAILS = (0.001, 0.01, 0.05)  # probabilities of a violation, tested on both sides
CONFIDENCES = (0.99, 0.95)  # of the jointly scored value at risk and expected shortfall
NUM_QUANTILES = 199  # of the CRPS: its error is far below a difference of .1 %
LEVEL = 0.05  # a coverage test passes above it
MIN_TEST_ROWS = 250  # fewer violations than 2.5 at 1 % say nothing


class Forecast(NamedTuple):
    """One forecast of the test rows.

    Attributes:
      log_prob: [N] log density of the realised return in nats, or None without a density.
      quantile: probability -> [N] returns.
      expected_shortfall: confidence -> [N] losses of a long position, positive.
      crps: [N] continuous ranked probability score, in units of the return.
    """

    log_prob: NumpyArray | None
    quantile: Callable[[float], NumpyArray]
    expected_shortfall: Callable[[float], NumpyArray]
    crps: NumpyArray


class Scoreboard(NamedTuple):
    """What `score` hands over.

    Attributes:
      table: one row per forecast: log_score (mean log density, nats), gain and diebold_mariano
        (forecaster over it), crps, pinball_1 .. pinball_99, fz0_99, fz0_95, violation rates and
        p-values of the coverage tests, tests_passed and num_tests; NaN where not defined.
      num_train: bars that all were fitted on.
      num_test: rows that all were judged on.
      start: first row judged.
      end: last row judged.
    """

    table: pd.DataFrame
    num_train: int
    num_test: int
    start: pd.Timestamp
    end: pd.Timestamp


def score(
    bars: pd.DataFrame,
    *,
    train_share: float = 0.7,
    forecaster: ReturnForecaster | None = None,
    report: Callable[[str], None] = lambda name: None,
) -> Scoreboard:
    """Fits the forecaster and its rivals on the first bars and judges them on the others.

    Args:
      bars: frame of bars, oldest first.
      train_share: share of the bars to fit on, in (0, 1).
      forecaster: to fit; one with its defaults where None.
      report: told the name of each forecast before it is made.

    Returns:
      The `Scoreboard`, its rows in the order of fitting, the forecaster first.

    Raises:
      ValueError: if the share is not in (0, 1), the forecaster looks further than one bar ahead,
        or too few rows are left to judge.
    """
    if not 0.0 < train_share < 1.0:
        raise ValueError(f"train_share is {train_share}: accepted is a share in (0, 1)")
    forecaster = ReturnForecaster() if forecaster is None else forecaster
    if forecaster.horizon != 1:
        raise ValueError(
            f"forecaster has horizon {forecaster.horizon}: accepted is 1, as its rivals have"
        )
    num_train = int(train_share * len(bars))
    rows = forecast_rows(bars)
    first = num_train + rows.window + 1
    is_late = rows.index >= bars.index[min(first, len(bars) - 1)]
    is_test = is_late & np.isfinite(rows.next_return)
    if is_test.sum() < MIN_TEST_ROWS:
        raise ValueError(
            f"bars leave {is_test.sum()} rows to judge of {len(bars)} bars: accepted is at least "
            f"{MIN_TEST_ROWS} after the {num_train} bars fitted on and a purge"
        )
    realised = rows.next_return[is_test]
    makers = {
        OURS: lambda: _ours(forecaster, bars, num_train, realised, is_test),
        **{
            name: lambda fit=fit: _law(fit, bars, num_train, rows, is_test)
            for name, fit in LAWS.items()
        },
        "historical": lambda: _historical(bars, rows, is_test),
        "filtered_historical": lambda: _filtered(bars, num_train, rows, is_test),
        "quantile_boosting": lambda: _boosted(bars, num_train, rows, is_test),
    }
    found, ours = {}, None
    for name, make in makers.items():
        report(name)
        forecast = make()
        ours = forecast if ours is None else ours
        found[name] = _judge(forecast, ours, realised)
    table = pd.DataFrame.from_dict(found, orient="index")
    index = rows.index[is_test]
    start, end = cast(pd.Timestamp, index[0]), cast(pd.Timestamp, index[-1])
    return Scoreboard(table, num_train, len(index), start, end)


def _judge(forecast: Forecast, ours: Forecast, realised: NumpyArray) -> dict[str, Any]:
    """Returns every score and test of one forecast."""
    found: dict[str, Any] = {"log_score": np.nan, "gain": np.nan, "diebold_mariano": np.nan}
    if forecast.log_prob is not None and ours.log_prob is not None:
        found["log_score"] = forecast.log_prob.mean()
        if forecast is not ours:
            compared = scoring.diebold_mariano(-ours.log_prob, -forecast.log_prob)
            found["gain"] = compared.mean_gain
            found["diebold_mariano"] = compared.statistic
    found["crps"] = forecast.crps.mean()
    for probability in PINBALL:
        loss = scoring.pinball_loss(realised, forecast.quantile(probability), probability)
        found[f"pinball_{round(100 * probability)}"] = loss.mean()
    for confidence in CONFIDENCES:
        loss = scoring.fz0_loss(
            realised,
            -forecast.quantile(1.0 - confidence),
            forecast.expected_shortfall(confidence),
            1.0 - confidence,
        )
        found[f"fz0_{round(100 * confidence)}"] = loss.mean()
    return found | _coverage(forecast, realised)


def _coverage(forecast: Forecast, realised: NumpyArray) -> dict[str, Any]:
    """Returns violation rates and tests of both tails, and how many of the tests are passed."""
    found: dict[str, Any] = {}
    p_values = []
    for tail in TAILS:
        for side in ("lower", "upper"):
            if side == "lower":
                bound = forecast.quantile(tail)
                violations = realised < bound
            else:
                bound = forecast.quantile(1.0 - tail)
                violations = realised > bound
            tests = {
                "kupiec": coverage.kupiec_test(violations, tail),
                "christoffersen": coverage.christoffersen_test(violations, tail),
            }
            if tail * len(realised) >= 10:  # fewer violations do not carry six regressors
                tests["dynamic_quantile"] = coverage.dynamic_quantile_test(
                    violations, tail, np.abs(bound)
                )
            found[f"violation_rate_{100 * tail:g}_{side}"] = violations.mean()
            for name, test in tests.items():
                found[f"{name}_{100 * tail:g}_{side}"] = test.p_value
                p_values.append(test.p_value)
    found["tests_passed"] = int(np.sum(np.array(p_values) > LEVEL))
    found["num_tests"] = len(p_values)
    return found


def _ours(
    forecaster: ReturnForecaster,
    bars: pd.DataFrame,
    num_train: int,
    realised: NumpyArray,
    is_test: NumpyArray,
) -> Forecast:
    forecast: ReturnDistribution = forecaster.fit(bars.iloc[:num_train]).predict(bars)[is_test]
    return Forecast(
        forecast.log_prob(realised).astype(np.float64),
        lambda probability: forecast.quantile(probability).astype(np.float64),
        lambda confidence: forecast.expected_shortfall(confidence).astype(np.float64),
        forecast.crps(realised).astype(np.float64),
    )


class _Past(NamedTuple):
    """Returns that count, in order, and which of them each test row has as its newest."""

    returns: NumpyArray  # [R]
    num_train: int  # of them, those inside the bars fitted on
    newest: NumpyArray  # [N] positions


def _past(bars: pd.DataFrame, num_train: int, rows: ForecastRows, is_test: NumpyArray) -> _Past:
    returns = log_returns(bars).dropna()
    seen = int((returns.index <= bars.index[num_train - 1]).sum())
    newest = returns.index.searchsorted(rows.index[is_test], side="right") - 1
    return _Past(returns.to_numpy(), seen, newest)


def _law(
    fit: Callable[..., baselines.BaselineForecast],
    bars: pd.DataFrame,
    num_train: int,
    rows: ForecastRows,
    is_test: NumpyArray,
) -> Forecast:
    past = _past(bars, num_train, rows, is_test)
    whole = fit(past.returns, num_train=past.num_train)
    law = baselines.BaselineForecast(*(field[past.newest] for field in whole))
    return _from_quantiles(law, rows.next_return[is_test], law.log_prob)


def _historical(bars: pd.DataFrame, rows: ForecastRows, is_test: NumpyArray) -> Forecast:
    past = _past(bars, len(bars), rows, is_test)
    whole = empirical.historical_simulation(past.returns)
    return _from_quantiles(whole[past.newest], rows.next_return[is_test])


def _filtered(
    bars: pd.DataFrame, num_train: int, rows: ForecastRows, is_test: NumpyArray
) -> Forecast:
    past = _past(bars, num_train, rows, is_test)
    whole = empirical.filtered_historical_simulation(past.returns, num_train=past.num_train)
    return _from_quantiles(whole[past.newest], rows.next_return[is_test])


def _boosted(
    bars: pd.DataFrame, num_train: int, rows: ForecastRows, is_test: NumpyArray
) -> Forecast:
    seen = int((rows.index < bars.index[num_train - 1]).sum())  # their returns end inside
    whole = empirical.quantile_boosting(
        rows.context, np.exp(rows.log_scale), rows.next_return, num_train=seen
    )
    return _from_quantiles(whole[is_test], rows.next_return[is_test])


def _from_quantiles(
    forecast: baselines.BaselineForecast | empirical.QuantileForecast,
    realised: NumpyArray,
    log_prob: Callable[[NumpyArray], NumpyArray] | None = None,
) -> Forecast:
    """Returns a rival's forecast, its CRPS taken from its quantiles."""
    return Forecast(
        None if log_prob is None else log_prob(realised),
        forecast.quantile,
        forecast.expected_shortfall,
        scoring.crps(forecast.quantile, realised, num_quantiles=NUM_QUANTILES),
    )
