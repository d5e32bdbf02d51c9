"""What a grid run hands over: figures of every configuration, computed on the host in float64.

The definitions are those of `densityjax.backtest.metrics`, evaluated from streamed sums.
"""

from typing import Any, NamedTuple

import jax
import numpy as np
import pandas as pd

from densityjax import numerics
from densityjax._typing import NumpyArray

SMALLER_IS_BETTER = frozenset({"annual_volatility", "max_drawdown", "turnover"})


class Path(NamedTuple):
    """Streamed sums over T bars of N configurations, in S blocks.

    Attributes:
      returns: [S, N] sum of the net simple returns in each block, fractions.
      squares: [S, N] sum of their squares in each block.
      log_growth: [N] sum of `log(1 + r)`, minus infinity at ruin.
      downside_squares: [N] sum of `min(r, 0)^2`.
      turnover: [N] sum of the traded notional over equity.
      bars_held: [N] number of closes with a position.
      num_trades: [N] number of times that a position of a new sign began.
      max_drawdown: [N] largest fall from a peak, a fraction.
      is_ruined: [N] whether equity was ever at or below zero.
    """

    returns: Any
    squares: Any
    log_growth: Any
    downside_squares: Any
    turnover: Any
    bars_held: Any
    num_trades: Any
    max_drawdown: Any
    is_ruined: Any


class GridMetrics(NamedTuple):
    """Figures of N configurations, [N] each; definitions as in `densityjax.backtest.metrics`.

    Attributes:
      total_return: equity at the end over that at the start, less 1, a fraction.
      annual_return: compound growth per year, a fraction.
      annual_volatility: standard deviation of returns, per root of a year, a fraction.
      sharpe_ratio: annual, over zero; NaN without spread.
      sortino_ratio: annual, over zero.
      max_drawdown: largest fall from a peak, a positive fraction.
      calmar_ratio: annual return over maximum drawdown.
      turnover: mean traded notional per bar, both sides, in equity.
      exposure: share of closes with a position.
      num_trades: number of position runs of one sign, the open one included.
      is_ruined: whether equity was ever at or below zero.
    """

    total_return: NumpyArray
    annual_return: NumpyArray
    annual_volatility: NumpyArray
    sharpe_ratio: NumpyArray
    sortino_ratio: NumpyArray
    max_drawdown: NumpyArray
    calmar_ratio: NumpyArray
    turnover: NumpyArray
    exposure: NumpyArray
    num_trades: NumpyArray
    is_ruined: NumpyArray


class Trial(NamedTuple):
    """One configuration of a grid: its row, its parameters and its figures, scalars."""

    index: int
    params: Any
    metrics: GridMetrics


class GridResult(NamedTuple):
    """Outcome of N configurations over T bars.

    Attributes:
      params: pytree of [N] parameters.
      metrics: `GridMetrics` of [N] figures.
      num_trials: N; what a deflated Sharpe ratio must know.
      sharpe_variance: variance over trials (ddof 1) of the Sharpe ratios PER BAR, those that are
        defined; NaN for under two.
      block_bars: [S] number of bars in each block.
      block_returns: [S, N] sum of net returns in each block, fractions.
      block_squares: [S, N] sum of squared net returns in each block.
    """

    params: Any
    metrics: GridMetrics
    num_trials: int
    sharpe_variance: float
    block_bars: NumpyArray
    block_returns: NumpyArray
    block_squares: NumpyArray

    def best(self, metric: str = "sharpe_ratio") -> Trial:
        """Returns the trial with the best value of a metric; NaN never wins.

        Args:
          metric: field of `GridMetrics`; the smallest value wins for volatility, drawdown and
            turnover, the largest otherwise.

        Returns:
          The `Trial`. Its figures are those of a winner picked among `num_trials`: biased upward.

        Raises:
          ValueError: if no such metric exists, or it is NaN for every trial.
        """
        if metric not in GridMetrics._fields:
            raise ValueError(f"metric is {metric!r}; accepted are {GridMetrics._fields}")
        values = np.asarray(getattr(self.metrics, metric), np.float64)
        if np.isnan(values).all():
            raise ValueError(f"metric {metric!r} is NaN for all {self.num_trials} trials")
        index = int(np.nanargmin(values) if metric in SMALLER_IS_BETTER else np.nanargmax(values))
        return self.trial(index)

    def trial(self, index: int) -> Trial:
        """Returns one row of the grid, its parameters and figures as scalars."""
        params, figures = jax.tree.map(lambda leaf: leaf[index], (self.params, self.metrics))
        return Trial(index, params, figures)

    def to_frame(self) -> pd.DataFrame:
        """Returns [N] rows with a column for each parameter, then one for each metric."""
        if isinstance(self.params, dict):
            names = self.params
        elif hasattr(self.params, "_asdict"):
            names = self.params._asdict()
        else:
            leaves = jax.tree_util.tree_leaves_with_path(self.params)
            names = {jax.tree_util.keystr(path) or "param": leaf for path, leaf in leaves}
        return pd.DataFrame({**names, **self.metrics._asdict()})


def measure(
    path: Path, params: Any, num_bars: int, periods_per_year: float, eps: float
) -> GridResult:
    """Turns streamed sums into figures.

    Args:
      path: `Path` of float64 arrays.
      params: pytree of [N] parameters.
      num_bars: T, the bars of the market.
      periods_per_year: bars in a year.
      eps: relative rounding of the arithmetic that made the sums.

    Returns:
      The `GridResult`.

    Raises:
      ValueError: if the sums of a configuration are not finite.
    """
    sums = path.returns.sum(0)
    if not np.isfinite(sums).all():
        index = int(np.argmin(np.isfinite(sums)))
        row = jax.tree.map(lambda leaf: leaf[index], params)
        raise ValueError(f"returns of trial {index} are not finite; its parameters are {row}")
    mean, square = sums / num_bars, path.squares.sum(0) / num_bars
    variance = np.maximum(square - mean**2, 0.0) * num_bars / max(num_bars - 1, 1)
    std = np.sqrt(variance) if num_bars > 1 else np.full_like(mean, np.nan)
    is_flat = variance <= numerics.FLAT_SHARE * eps * square
    root, downside = periods_per_year**0.5, np.sqrt(path.downside_squares / num_bars)
    sharpe = _ratio(mean, np.where(is_flat, 0.0, std), np.nan)
    growth = np.expm1(path.log_growth * periods_per_year / num_bars)
    figures = GridMetrics(
        total_return=np.expm1(path.log_growth),
        annual_return=growth,
        annual_volatility=std * root,
        sharpe_ratio=sharpe * root,
        sortino_ratio=_ratio(mean, downside, np.inf) * root,
        max_drawdown=path.max_drawdown,
        calmar_ratio=_ratio(growth, path.max_drawdown, np.nan),
        turnover=path.turnover / num_bars,
        exposure=path.bars_held / num_bars,
        num_trades=path.num_trades.astype(int),
        is_ruined=path.is_ruined.astype(bool),
    )
    defined = sharpe[np.isfinite(sharpe)]
    length = -(-num_bars // path.returns.shape[0])
    block_bars = np.full(path.returns.shape[0], length)
    missing = length * block_bars.size - num_bars  # the first blocks are the short ones
    for block in range(block_bars.size):
        block_bars[block] -= min(missing, length)
        missing -= min(missing, length)
    return GridResult(
        params=params,
        metrics=figures,
        num_trials=sums.size,
        sharpe_variance=float(np.var(defined, ddof=1)) if defined.size > 1 else np.nan,
        block_bars=block_bars,
        block_returns=path.returns,
        block_squares=path.squares,
    )


def _ratio(gain: NumpyArray, loss: NumpyArray, no_loss: float) -> NumpyArray:
    """Returns `gain / loss`, and where loss is zero `no_loss` for a gain and NaN otherwise."""
    safe = np.where(loss == 0.0, 1.0, loss)
    return np.where(loss == 0.0, np.where(gain > 0.0, no_loss, np.nan), gain / safe)
