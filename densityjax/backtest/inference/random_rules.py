"""What rules without skill earn on the same bars, with the same turnover, exposure and costs."""

from typing import Any, NamedTuple

import numpy as np

from densityjax._typing import NumpyArray
from densityjax.backtest.grid import product_grid, run_grid
from densityjax.backtest.grid_figures import GridMetrics
from densityjax.backtest.inputs import Costs, Prices
from densityjax.backtest.rules import RandomParams, RandomState, random_rule


class RandomRuleNull(NamedTuple):
    """A figure under random rules, and where the observed one lies among them.

    Attributes:
      values: [N] figure of each random rule, sorted upwards; those not defined are left out.
      p_value: share of random rules that do as well or better, the rule itself counted as one.
    """

    values: NumpyArray
    p_value: float


def random_rule_null(
    observed: float,
    prices: Prices,
    *,
    turnover: float,
    exposure: float = 1.0,
    max_weight: float = 1.0,
    metric: str = "sharpe_ratio",
    periods_per_year: float | None = None,
    costs: Costs = Costs(),  # noqa: B008  an immutable NamedTuple of numbers
    num_rules: int = 1_000,
    random_state: int = 0,
    **options: Any,
) -> RandomRuleNull:
    """Trades random rules of a rule's turnover and exposure on the same bars, at the same costs.

    Args:
      observed: the figure of the rule in question, from the same prices and costs, annual if
        `periods_per_year` is given.
      prices: `Prices` of [T] arrays.
      turnover: mean traded notional of the rule per bar, both sides, in equity; at most
        `max_weight exposure (2 - exposure)`.
      exposure: its share of closes with a position, in (0, 1].
      max_weight: its mean absolute weight where it has a position, in equity.
      metric: field of `GridMetrics`, one of which more is better.
      periods_per_year: bars in a year; None compares figures per bar.
      costs: `Costs`.
      num_rules: number of random rules N.
      random_state: seed of the first rule; the others follow it.
      **options: further arguments of `run_grid`: fill, drift, band, lag, columns, ...

    Returns:
      The `RandomRuleNull`.

    Raises:
      ValueError: if the metric is unknown, the turnover cannot be had, or as `run_grid`.
    """
    if metric not in GridMetrics._fields:
        raise ValueError(f"metric is {metric!r}: accepted are {GridMetrics._fields}")
    most = max_weight * exposure * (2.0 - exposure)
    if not (0.0 < exposure <= 1.0 and 0.0 <= turnover <= most):
        raise ValueError(
            f"turnover is {turnover} and exposure {exposure}: accepted are an exposure in (0, 1], "
            f"and a turnover of at most max_weight exposure (2 - exposure) = {most}"
        )
    params = product_grid(
        RandomParams,
        seed=random_state + np.arange(num_rules),
        turnover=turnover,
        max_weight=max_weight,
        exposure=exposure,
    )
    signals = np.zeros(np.asarray(prices.close).shape[0])
    options = {"max_leverage": max(1.0, max_weight)} | options
    result = run_grid(
        random_rule,
        params,
        signals,
        prices,
        periods_per_year=periods_per_year,
        costs=costs,
        init_state=RandomState(),
        **options,
    )
    values = np.asarray(getattr(result.metrics, metric), np.float64)
    values = np.sort(values[~np.isnan(values)])
    return RandomRuleNull(values, float((1.0 + np.sum(values >= observed)) / (1.0 + values.size)))
