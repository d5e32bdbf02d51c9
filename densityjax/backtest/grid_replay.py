"""Exact re-runs of a grid's chosen rules: whole paths, lists of trades, and a second opinion.

A grid keeps sums, not paths. `replay` runs single rules again, and has each of them traded by the
ledger of `backtest.oracle` too, which shares no arithmetic with the engine.
"""

from typing import Any, NamedTuple

import jax
import numpy as np
import pandas as pd
from jax import experimental

from densityjax import numerics
from densityjax._typing import NumpyArray
from densityjax.backtest import engine, oracle, rules
from densityjax.backtest.account import BacktestResult
from densityjax.backtest.columns import MarketColumns
from densityjax.backtest.grid_result import GridResult, Trial
from densityjax.backtest.inputs import Costs, Prices
from densityjax.backtest.stops import Stops
from densityjax.backtest.trades import trade_record


class Replay(NamedTuple):
    """One rule of a grid, run on its own.

    Attributes:
      trial: the `Trial` of the grid.
      weights: [T] target weights that the rule asked for, in equity.
      result: its `BacktestResult` in double precision.
      trades: its `trade_record`.
      margin: smallest relative distance at which a stop or the band was decided.
    """

    trial: Trial
    weights: NumpyArray
    result: BacktestResult
    trades: pd.DataFrame
    margin: float


def replay(
    grid: GridResult,
    index: int,
    rule: rules.Rule,
    signals: Any,
    prices: Prices,
    *,
    costs: Costs = Costs(),  # noqa: B008  an immutable NamedTuple of numbers
    stops: Stops | None = None,
    columns: MarketColumns | None = None,
    init_state: Any = 0.0,
    warmup: int = 0,
    labels: pd.Index | None = None,
    initial_capital: float = 10_000.0,
    **options: Any,
) -> Replay:
    """Runs one trial of a grid again, with its whole path, and compares three accounts of it.

    Args:
      grid: the `GridResult`, of one asset.
      index: the trial, such as `grid.top(5)[0].index`.
      rule: the rule of the grid.
      signals: its signals.
      prices: its `Prices` of [T] arrays.
      costs: its `Costs`, with the arrays that were swept; the trial's row is taken.
      stops: its `Stops`, likewise.
      columns: its `MarketColumns`.
      init_state: its initial state of the rule.
      warmup: its warm-up.
      labels: [T] labels of the bars, for the trades; their numbers where None.
      initial_capital: equity before the first bar, for the trades.
      **options: its other options: fill, drift, band, lag, max_leverage, allow_short, liquidate.

    Returns:
      The `Replay`.

    Raises:
      ValueError: if there is no such trial, the arguments do not fit the grid, or the engine and
        the oracle, or the replay and the grid's own figure, disagree on the equity at the end.
    """
    if not 0 <= index < grid.num_trials:
        raise ValueError(f"index is {index}; accepted are 0 to {grid.num_trials - 1}")
    if "asset" in grid.swept:
        raise ValueError("grid holds many assets; accepted is the grid of one of them")
    trial = grid.trial(index)
    costs, stops, options = _row((costs, stops, options), index, grid.num_trials)
    weights = rules.apply_rule(rule, trial.params, signals, init_state=init_state, warmup=warmup)
    weights = np.asarray(weights, np.float64)
    shared = {"costs": costs, "stops": stops, "columns": columns, "warmup": warmup, **options}
    with _enable_x64():
        result = jax.tree.map(np.asarray, engine.run(weights, prices, **shared))
    ledger = oracle.run(weights, prices, **shared)
    _compare(index, result, ledger, float(trial.metrics.total_return), grid)
    trades = trade_record(result, labels, prices=prices, initial_capital=initial_capital)
    return Replay(trial, weights, result, trades, ledger.margin)


def _row(tree: Any, index: int, num_trials: int) -> Any:
    """Returns one row of the [N] leaves as Python numbers; scalars and words stay."""

    def take(leaf: Any) -> Any:
        if np.ndim(leaf) == 0:
            return leaf
        if np.shape(leaf) != (num_trials,):
            raise ValueError(f"an option has shape {np.shape(leaf)}; accepted is [{num_trials}]")
        return np.asarray(leaf)[index].item()

    return jax.tree.map(take, tree)


def _enable_x64() -> Any:
    """Returns the context of double precision; at the top of jax since 0.8."""
    name = "enable_x64"
    return getattr(jax if hasattr(jax, name) else experimental, name)(True)


def _compare(
    index: int,
    result: BacktestResult,
    ledger: oracle.OracleResult,
    total_return: float,
    grid: GridResult,
) -> None:
    """Raises a ValueError where two of the three accounts disagree.

    A stop or a band that is decided within the rounding of one of them may go either way there:
    such a path is no evidence against either.
    """
    ours, theirs = np.asarray(result.equity), ledger.equity
    gap = np.abs(ours - theirs) / np.maximum(np.abs(theirs), numerics.REPLAY_FLOOR)
    if ledger.margin > numerics.REPLAY_ERROR and gap.max() > numerics.REPLAY_ERROR:
        bar = int(gap.argmax())
        raise ValueError(
            f"trial {index}: the equity of the engine at bar {bar} is {ours[bar]}, that of the "
            f"oracle {theirs[bar]}; accepted is a relative difference of {numerics.REPLAY_ERROR}"
        )
    is_single = np.asarray(grid.block_returns).dtype == np.float32
    accepted, rounding = numerics.REPLAY_ERROR, numerics.REPLAY_ERROR
    if is_single:
        accepted, rounding = numerics.GRID_ERROR, numerics.DECISION_ERROR
    difference = abs(1.0 + total_return - ours[-1]) / max(ours[-1], numerics.REPLAY_FLOOR)
    if ledger.margin > rounding and difference > accepted:
        raise ValueError(
            f"trial {index}: total return is {total_return} in the grid and {ours[-1] - 1.0} in "
            f"its replay; accepted is a relative difference of {accepted} of the equity. Are rule, "
            "signals, prices and options those of the grid?"
        )
