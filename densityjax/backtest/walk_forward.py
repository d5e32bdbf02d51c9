"""Walk-forward: models and rules are chosen on the past again and again, and traded once after it.

Fold k tests `test_bars` bars; a gap before them keeps what was learned apart from them, and what
was learned ends before the gap. Test blocks touch, so that they stitch into one account: positions
and the states of rules are carried from fold to fold, and a switch of rule pays for its trades.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd

from densityjax._typing import Array, NumpyArray
from densityjax.backtest import rules
from densityjax.backtest.account import BacktestResult
from densityjax.backtest.engine import run
from densityjax.backtest.grid import run_grid
from densityjax.backtest.inputs import Costs, Prices

PredictFn = Callable[[slice], Any]  # rows -> pytree of signals, one row for each
FitFn = Callable[[slice], PredictFn]  # rows to fit on -> the fitted model's signals


class Fold(NamedTuple):
    """Rows of one fold, in order of time, with a gap between neighbours.

    Attributes:
      train: rows to fit models on.
      selection: rows to choose the rule's parameters on; empty where none were asked for.
      test: rows to trade.
    """

    train: slice
    selection: slice
    test: slice


class WalkForward(NamedTuple):
    """Outcome of a walk-forward over F folds; out-of-sample rows number K.

    Attributes:
      folds: the F `Fold`s.
      rows: [K] rows of the market that were traded.
      weights: [K] target weights.
      result: `BacktestResult` of the stitched account, from flat.
      chosen: [F] row of the grid that each fold chose, -1 where no rule was ever defined.
      selection_metric: [F] the figure it was chosen by, on the selection rows; biased upward.
      num_trials: N rules times F folds: what a deflated Sharpe ratio must know.
      sharpe_variance: variance over all trials (ddof 1) of their Sharpe ratios PER BAR.
    """

    folds: tuple[Fold, ...]
    rows: NumpyArray
    weights: NumpyArray
    result: BacktestResult
    chosen: NumpyArray
    selection_metric: NumpyArray
    num_trials: int
    sharpe_variance: float

    def to_frame(self) -> pd.DataFrame:
        """Returns one row for each fold: its rows, its choice and what it was chosen by."""
        return pd.DataFrame(
            {
                "train_start": [fold.train.start for fold in self.folds],
                "train_end": [fold.train.stop for fold in self.folds],
                "test_start": [fold.test.start for fold in self.folds],
                "test_end": [fold.test.stop for fold in self.folds],
                "chosen": self.chosen,
                "selection_metric": self.selection_metric,
            }
        )


def walk_forward_folds(
    num_bars: int,
    *,
    train_bars: int,
    test_bars: int,
    selection_bars: int = 0,
    purge: int = 0,
    embargo: int = 0,
    anchored: bool = False,
) -> tuple[Fold, ...]:
    """Lays out the folds of a walk-forward.

    Args:
      num_bars: number of rows T.
      train_bars: rows to fit on in the first fold, and in each where windows roll.
      test_bars: rows to trade before the next fit; the last fold may have fewer.
      selection_bars: rows after those to fit on, for choosing among rules.
      purge: rows dropped before selection and test; at least the horizon of the labels.
      embargo: further rows dropped there; with the longest window of the features no bar is an
        input on both sides.
      anchored: whether all windows start at row 0 instead of rolling.

    Returns:
      The `Fold`s; their test rows are all rows after the first window, none twice.

    Raises:
      ValueError: if a number is out of range, or no row is left to test.
    """
    for name, value, least in (
        ("train_bars", train_bars, 1),
        ("test_bars", test_bars, 1),
        ("selection_bars", selection_bars, 0),
        ("purge", purge, 0),
        ("embargo", embargo, 0),
    ):
        if value < least:
            raise ValueError(f"{name} is {value}: accepted are integers >= {least}")
    gap = purge + embargo
    before_test = train_bars + gap + (selection_bars + gap if selection_bars else 0)
    if before_test >= num_bars:
        raise ValueError(
            f"{num_bars} rows leave none to test: {before_test} come before the first test row"
        )
    folds = []
    for start in range(before_test, num_bars, test_bars):
        choose = slice(start - gap - selection_bars, start - gap)
        stop = choose.start - gap if selection_bars else choose.start
        fit = slice(0 if anchored else stop - train_bars, stop)
        folds.append(Fold(fit, choose, slice(start, min(start + test_bars, num_bars))))
    return tuple(folds)


def walk_forward(
    fit_fn: FitFn,
    rule: rules.Rule,
    rule_params: Any,
    prices: Prices,
    *,
    train_bars: int,
    test_bars: int,
    selection_bars: int = 0,
    purge: int = 0,
    embargo: int = 0,
    anchored: bool = False,
    metric: str = "sharpe_ratio",
    init_state: Any = 0.0,
    periods_per_year: float | None = None,
    costs: Costs = Costs(),  # noqa: B008  an immutable NamedTuple of numbers
    **options: Any,
) -> WalkForward:
    """Refits, chooses and trades, fold by fold; nothing of a test block is seen before it.

    In each fold `fit_fn` is given the training rows, the fitted model's signals on the selection
    rows choose a row of the grid (after costs), and its signals on the test rows are traded under
    that row. Scalers, thresholds and quantiles that `fit_fn` learns belong to the fold.

    Args:
      fit_fn: rows to fit on -> (rows -> pytree of signals, one row for each). Signals of row t may
        use bars up to t, also those before the rows asked for.
      rule: `(params, signal_t, state) -> (weight, state)`, see `densityjax.backtest.rules`.
      rule_params: pytree of [N] arrays, the grid, such as `product_grid` makes.
      prices: `Prices` of [T] arrays.
      train_bars: rows to fit on, see `walk_forward_folds`.
      test_bars: rows to trade before the next fit.
      selection_bars: rows to choose on; needed where the grid has more than one row.
      purge: rows dropped before selection and test.
      embargo: further rows dropped there.
      anchored: whether all windows start at row 0.
      metric: field of `GridMetrics` to choose by.
      init_state: the rule's state before the first test row; then it is carried.
      periods_per_year: bars in a year, for the figures of selection; None leaves them per bar.
      costs: `Costs`, in selection and test alike.
      **options: of both `run` and `run_grid`: fill, drift, band, lag, max_leverage, allow_short.

    Returns:
      The `WalkForward`.

    Raises:
      ValueError: if there is something to choose and nothing to choose on, signals have a wrong
        length, or as `walk_forward_folds`, `run_grid` and `run`.
    """
    num_bars = np.asarray(prices.close).shape[0]
    leaves = [np.shape(leaf) for leaf in jax.tree.leaves(rule_params)]
    num_rules = max((shape[0] for shape in leaves if shape), default=1)
    if num_rules > 1 and selection_bars < 2:
        raise ValueError(
            f"selection_bars is {selection_bars}: {num_rules} rules need 2 and more to choose on"
        )
    folds = walk_forward_folds(
        num_bars,
        train_bars=train_bars,
        test_bars=test_bars,
        selection_bars=selection_bars,
        purge=purge,
        embargo=embargo,
        anchored=anchored,
    )
    grid_options = {"periods_per_year": periods_per_year, "costs": costs, "init_state": init_state}
    state, weights, choices, sharpes = jax.tree.map(jnp.asarray, init_state), [], [], []
    for fold in folds:
        signals_of = fit_fn(fold.train)
        choice = (0, np.nan)
        if selection_bars:
            signals = _checked(signals_of(fold.selection), fold.selection)
            window = _rows_of(prices, fold.selection)
            grid = run_grid(rule, rule_params, signals, window, **grid_options, **options)
            choice = _best(grid, metric)
            sharpes.append(grid.metrics.sharpe_ratio / (periods_per_year or 1.0) ** 0.5)
        signals = _checked(signals_of(fold.test), fold.test)
        target, state = _continue(rule, _row_of(rule_params, choice[0]), signals, state)
        weights.append(np.asarray(target, np.float64) * (choice[0] >= 0))
        choices.append(choice)
    rows = slice(folds[0].test.start, num_bars)
    weights = np.concatenate(weights)
    result = run(weights, _rows_of(prices, rows), costs=costs, **options)
    tried = np.concatenate(sharpes) if sharpes else np.zeros(0)
    tried = tried[np.isfinite(tried)]
    return WalkForward(
        folds=folds,
        rows=np.arange(rows.start, rows.stop),
        weights=weights,
        result=result,
        chosen=np.array([row for row, _ in choices]),
        selection_metric=np.array([figure for _, figure in choices]),
        num_trials=num_rules * len(folds),
        sharpe_variance=float(np.var(tried, ddof=1)) if tried.size > 1 else np.nan,
    )


def _best(grid: Any, metric: str) -> tuple[int, float]:
    """Returns the chosen row and its figure; -1 where the figure is defined for none."""
    values = np.asarray(getattr(grid.metrics, metric, np.nan), np.float64)
    if hasattr(grid.metrics, metric) and np.isnan(values).all():
        return -1, np.nan
    trial = grid.best(metric)
    return trial.index, float(getattr(trial.metrics, metric))


def _row_of(rule_params: Any, row: int) -> Any:
    """Returns one row of the grid, the first where none was chosen; scalars are shared."""
    row = max(row, 0)
    return jax.tree.map(lambda leaf: leaf[row] if np.ndim(leaf) else leaf, rule_params)


def _rows_of(tree: Any, rows: slice) -> Any:
    """Cuts the rows out of every leaf of a pytree."""
    return jax.tree.map(lambda leaf: np.asarray(leaf)[rows], tree)


def _checked(signals: Any, rows: slice) -> Any:
    """Returns signals whose leaves are finite and have one row for each that was asked for."""
    num = rows.stop - rows.start
    for path, leaf in jax.tree_util.tree_leaves_with_path(signals):
        if np.shape(leaf)[:1] != (num,):
            name = f"signals{jax.tree_util.keystr(path)}"
            raise ValueError(
                f"{name} of rows {rows.start} to {rows.stop} has shape "
                f"{np.shape(leaf)}: accepted is [{num}]"
            )
    rules.check_signals(signals, 0)
    return signals


@functools.partial(jax.jit, static_argnames="rule")
def _continue(rule: rules.Rule, params: Any, signals: Any, state: Any) -> tuple[Array, Any]:
    """Runs a rule on from the state that the last fold left; returns [K] weights and the state."""
    signals, params, state = jax.tree.map(jnp.asarray, (signals, params, state))

    def one_bar(state: Any, signal_t: Any) -> tuple[Any, Array]:
        weight, new_state = rule(params, signal_t, state)
        same = jax.tree.map(lambda new, old: new.astype(old.dtype), new_state, state)
        return same, weight

    state, weights = jax.lax.scan(one_bar, state, signals)
    return weights, state
