"""What a grid run hands over: figures of every configuration, and how many were tried."""

from typing import Any, NamedTuple

import jax
import numpy as np
import pandas as pd

from densityjax._typing import NumpyArray
from densityjax.backtest.grid_chunks import Path
from densityjax.backtest.grid_figures import FullMetrics, GridMetrics, figures

SMALLER_IS_BETTER = frozenset(
    {
        "annual_volatility",
        "max_drawdown",
        "turnover",
        "ulcer_index",
        "average_drawdown",
        "drawdown_duration",
    }
)
ROWS = 1 << 16  # configurations measured together: float64 copies of their sums stay small


class Trial(NamedTuple):
    """One configuration of a grid: its row, its parameters and its figures, scalars."""

    index: int
    params: Any
    metrics: GridMetrics | FullMetrics


class GridResult(NamedTuple):
    """Outcome of N configurations over T bars.

    Attributes:
      params: pytree of [N] parameters.
      metrics: `GridMetrics` of [N] figures, or `FullMetrics`.
      num_trials: N; what a deflated Sharpe ratio must know.
      sharpe_mean: mean over trials of the Sharpe ratios PER BAR that are defined; NaN without one.
      sharpe_variance: their variance (ddof 1), PER BAR; NaN for under two.
      block_bars: [S] number of bars in each block.
      block_returns: [S, N] sum of net returns in each block, fractions.
      block_squares: [S, N] sum of squared net returns in each block.
      block_cubes: [S, N] sum of their cubes; None for the core metrics.
      block_fourths: [S, N] sum of their fourth powers; None for the core metrics.
      swept: name -> [N] of what was swept beside the parameters, such as 'costs.fee_bps', 'lag' or
        'asset'.
    """

    params: Any
    metrics: GridMetrics | FullMetrics
    num_trials: int
    sharpe_mean: float
    sharpe_variance: float
    block_bars: NumpyArray
    block_returns: NumpyArray
    block_squares: NumpyArray
    block_cubes: NumpyArray | None
    block_fourths: NumpyArray | None
    swept: dict[str, NumpyArray]

    def best(self, metric: str = "sharpe_ratio") -> Trial:
        """Returns the trial with the best value of a metric; NaN never wins.

        Args:
          metric: field of the metrics; the smallest value wins for volatility, drawdowns and
            turnover, the largest otherwise.

        Returns:
          The `Trial`. Its figures are those of a winner picked among `num_trials`: biased upward.

        Raises:
          ValueError: if no such metric exists, or it is NaN for every trial.
        """
        return self.top(1, by=metric)[0]

    def top(self, k: int, *, by: str = "sharpe_ratio") -> list[Trial]:
        """Returns the best trials by a metric, the best one first.

        Args:
          k: how many, at least 1; fewer come where fewer have a value.
          by: field of the metrics, see `best`.

        Returns:
          The `Trial`s; of equal ones that with the smaller index comes first.

        Raises:
          ValueError: if `k` is below 1, no such metric exists, or it is NaN for every trial.
        """
        if k < 1:
            raise ValueError(f"k is {k}; accepted are integers >= 1")
        if by not in self.metrics._fields:
            raise ValueError(f"metric is {by!r}; accepted are {self.metrics._fields}")
        values = np.asarray(getattr(self.metrics, by), np.float64)
        if np.isnan(values).all():
            raise ValueError(f"metric {by!r} is NaN for all {self.num_trials} trials")
        order = np.argsort(values if by in SMALLER_IS_BETTER else -values, kind="stable")
        return [self.trial(int(row)) for row in order[:k] if not np.isnan(values[row])]

    def trial(self, index: int) -> Trial:
        """Returns one row of the grid, its parameters and figures as scalars."""
        params, metrics = jax.tree.map(lambda leaf: leaf[index], (self.params, self.metrics))
        return Trial(index, params, metrics)

    def to_frame(self) -> pd.DataFrame:
        """Returns [N] rows with columns for the parameters, what else was swept, and metrics."""
        if isinstance(self.params, dict):
            names = self.params
        elif hasattr(self.params, "_asdict"):
            names = self.params._asdict()
        else:
            leaves = jax.tree_util.tree_leaves_with_path(self.params)
            names = {jax.tree_util.keystr(path) or "param": leaf for path, leaf in leaves}
        return pd.DataFrame({**names, **self.swept, **self.metrics._asdict()})


def measure(
    path: Path,
    params: Any,
    num_bars: int,
    periods_per_year: float,
    eps: float,
    swept: dict[str, NumpyArray],
) -> GridResult:
    """Turns streamed sums into figures.

    Args:
      path: `Path` of host arrays.
      params: pytree of [N] parameters.
      num_bars: T, the bars of the market.
      periods_per_year: bars in a year.
      eps: relative rounding of the arithmetic that made the sums.
      swept: name -> [N] of what was swept beside the parameters.

    Returns:
      The `GridResult`.

    Raises:
      ValueError: if the sums of a configuration are not finite.
    """
    sums = path.returns.sum(0, dtype=np.float64)
    if not np.isfinite(sums).all():
        index = int(np.argmin(np.isfinite(sums)))
        row = jax.tree.map(lambda leaf: leaf[index], params)
        raise ValueError(f"returns of trial {index} are not finite; its parameters are {row}")
    parts = []
    for first in range(0, sums.size, ROWS):
        rows = slice(first, first + ROWS)
        part = jax.tree.map(lambda leaf, rows=rows: leaf[..., rows].astype(np.float64), path)
        parts.append(figures(part, num_bars, periods_per_year, eps))
    metrics = jax.tree.map(lambda *leaves: np.concatenate(leaves), *parts)
    sharpe_mean, sharpe_variance = sharpe_spread(metrics.sharpe_ratio, periods_per_year)
    return GridResult(
        params=params,
        metrics=metrics,
        num_trials=sums.size,
        sharpe_mean=sharpe_mean,
        sharpe_variance=sharpe_variance,
        block_bars=_block_bars(num_bars, path.returns.shape[0]),
        block_returns=path.returns,
        block_squares=path.squares,
        block_cubes=path.cubes,
        block_fourths=path.fourths,
        swept=swept,
    )


def sharpe_spread(sharpe_ratio: NumpyArray, periods_per_year: float) -> tuple[float, float]:
    """Returns mean and variance (ddof 1) PER BAR of [N] annual Sharpe ratios that are defined."""
    per_bar = sharpe_ratio[np.isfinite(sharpe_ratio)] / periods_per_year**0.5
    mean = float(per_bar.mean()) if per_bar.size else np.nan
    return mean, float(np.var(per_bar, ddof=1)) if per_bar.size > 1 else np.nan


def _block_bars(num_bars: int, num_blocks: int) -> NumpyArray:
    """Returns how many bars of the market each block holds; the first blocks are the short ones."""
    length = -(-num_bars // num_blocks)
    last = np.arange(1, num_blocks + 1) * length - (num_blocks * length - num_bars)
    return np.diff(np.maximum(last, 0), prepend=0)
