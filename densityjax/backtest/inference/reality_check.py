"""Is the best of many rules better than a benchmark, once the search for it is counted?

The hypothesis is that no rule beats the benchmark. f_k are returns of rule k less those of the
benchmark; bars (or blocks of bars) are resampled with all rules at once, which keeps what they
share. Only counts of rows, [B, rows], and a running maximum are held, never a [B, N] table.
"""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from densityjax._typing import ArrayLike, NumpyArray
from densityjax.backtest.inference.blocks import BlockSums, as_blocks, read_matrix
from densityjax.backtest.inference.bootstrap import (
    optimal_block_length,
    stationary_bootstrap,
    stationary_bootstrap_variance,
)

CHUNK_RULES = 512  # rules resampled together
NUM_PROBES = 32  # rules that the automatic block length looks at


class RealityCheck(NamedTuple):
    """Outcome of White's test.

    Attributes:
      statistic: `max_k sqrt(T) mean(f_k)`, a fraction times the root of bars.
      p_value: share of resampled maxima above it.
      best: column of the best rule.
    """

    statistic: float
    p_value: float
    best: int


class SuperiorPredictiveAbility(NamedTuple):
    """Outcome of Hansen's test; report the consistent p-value, the others bound it.

    Attributes:
      statistic: `max(0, max_k mean(f_k) / se_k)`, or without studentising times the root of bars.
      p_lower: p-value were the rules that are worse than the benchmark certainly so.
      p_value: the consistent one: rules much worse than the benchmark are left out.
      p_upper: p-value were no rule worse than the benchmark, the most conservative.
      best: column of the rule with the largest statistic.
    """

    statistic: float
    p_lower: float
    p_value: float
    p_upper: float
    best: int


class _Rows(NamedTuple):
    """What is resampled: [R, N] sums over rows of [R] bars, and how often each row is drawn."""

    sums: NumpyArray
    num_bars: NumpyArray
    counts: NumpyArray  # [B, R]
    mean_block_length: float


def reality_check(
    excess_returns: ArrayLike | BlockSums,
    *,
    mean_block_length: float | None = None,
    num_draws: int = 1_000,
    random_state: int = 0,
    rows: ArrayLike | None = None,
) -> RealityCheck:
    """Tests whether the best of N rules beats the benchmark.

    Args:
      excess_returns: [T, N] returns of each rule less those of the benchmark, fractions, or their
        `BlockSums`, whose blocks are then resampled: take fine ones, of a day or so.
      mean_block_length: of the stationary bootstrap, in rows; None takes the mean
        `optimal_block_length` of some rules.
      num_draws: number of resampled paths.
      random_state: seed.
      rows: [B, R] rows of the resampled paths, to share them among tests; None draws them.

    Returns:
      The `RealityCheck`.

    Raises:
      ValueError: if a shape or an option is out of range, or a return is not finite.

    References:
      White, A Reality Check for Data Snooping, 2000, https://doi.org/10.1111/1468-0262.00152.
    """
    drawn = _draw(excess_returns, mean_block_length, num_draws, random_state, rows)
    root, mean = np.sqrt(drawn.num_bars.sum()), drawn.sums.sum(0) / drawn.num_bars.sum()
    highest = np.full(len(drawn.counts), -np.inf)
    for columns, resampled in _resampled_means(drawn):
        np.maximum(highest, (resampled - mean[columns]).max(1), out=highest)
    best = int(mean.argmax())
    return RealityCheck(float(root * mean[best]), float(np.mean(highest > mean[best])), best)


def spa(
    excess_returns: ArrayLike | BlockSums,
    *,
    studentize: bool = True,
    mean_block_length: float | None = None,
    num_draws: int = 1_000,
    random_state: int = 0,
    rows: ArrayLike | None = None,
) -> SuperiorPredictiveAbility:
    """Tests superior predictive ability: as the reality check, robust to poor and erratic rules.

    Means are divided by their standard errors, the exact ones of the stationary bootstrap; rules
    whose studentised mean is below `-sqrt(2 ln ln T)` are not centred, so that they cannot be the
    maximum.

    Args:
      excess_returns: as of `reality_check`.
      studentize: whether means are divided by their standard errors.
      mean_block_length: of the stationary bootstrap, in rows; None chooses.
      num_draws: number of resampled paths.
      random_state: seed.
      rows: [B, R] rows of the resampled paths; None draws them.

    Returns:
      The `SuperiorPredictiveAbility`.

    Raises:
      ValueError: as `reality_check`; or if there are fewer than 3 rows.

    References:
      Hansen, A Test for Superior Predictive Ability, 2005,
      https://doi.org/10.1198/073500105000000063.
    """
    drawn = _draw(excess_returns, mean_block_length, num_draws, random_state, rows)
    num_rows, total = len(drawn.sums), drawn.num_bars.sum()
    if num_rows < 3:
        raise ValueError(f"excess_returns has {num_rows} rows: accepted are 3 and more")
    mean = drawn.sums.sum(0) / total
    residual = drawn.sums - drawn.num_bars[:, None] * mean
    variance = stationary_bootstrap_variance(residual, drawn.mean_block_length)
    error = np.sqrt(variance / num_rows) * num_rows / total
    is_near = mean >= -error * np.sqrt(2.0 * np.log(np.log(num_rows)))
    # A rule that never differs from the benchmark has no error and cannot be the maximum.
    scale = np.where(error > 0.0, error, np.inf) if studentize else np.full_like(error, total**-0.5)
    centres = np.stack([np.maximum(mean, 0.0), np.where(is_near, mean, 0.0), mean])
    highest = np.zeros((3, len(drawn.counts)))  # Hansen's maximum is at least zero
    for columns, resampled in _resampled_means(drawn):
        for found, centre in zip(highest, centres, strict=True):
            moved = (resampled - centre[columns]) / scale[columns]
            np.maximum(found, moved.max(1), out=found)
    best = int((mean / scale).argmax())
    statistic = max(float(mean[best] / scale[best]), 0.0)
    lower, consistent, upper = (float(np.mean(found > statistic)) for found in highest)
    return SuperiorPredictiveAbility(statistic, lower, consistent, upper, best)


def row_counts(rows: ArrayLike, num_rows: int) -> NumpyArray:
    """Counts how often each row was drawn.

    Args:
      rows: [B, R] rows of the resampled paths, from 0 to R - 1.
      num_rows: R, the number of rows to draw from.

    Returns:
      [B, R] counts, float64.

    Raises:
      ValueError: if a row is out of range.
    """
    drawn = np.asarray(rows)
    if drawn.ndim != 2 or drawn.shape[1] != num_rows or drawn.min() < 0 or drawn.max() >= num_rows:
        raise ValueError(f"rows has shape {drawn.shape}: accepted is [B, {num_rows}] of 0 to R - 1")
    flat = drawn + num_rows * np.arange(len(drawn))[:, None]
    counts = np.bincount(flat.ravel(), minlength=drawn.size)
    return counts.reshape(len(drawn), num_rows).astype(np.float64)


def automatic_block_length(values: NumpyArray) -> float:
    """Returns the mean `optimal_block_length` of up to 32 columns of [R, N]; 1 for few rows."""
    if len(values) < 10:
        return 1.0
    probes = np.unique(np.linspace(0, values.shape[1] - 1, NUM_PROBES).astype(int))
    return float(np.mean([optimal_block_length(values[:, column]) for column in probes]))


def _draw(
    excess_returns: ArrayLike | BlockSums,
    mean_block_length: float | None,
    num_draws: int,
    random_state: int,
    rows: ArrayLike | None,
) -> _Rows:
    """Reads the returns or their block sums, and draws the rows of the resampled paths."""
    if isinstance(excess_returns, BlockSums):
        sums, _, num_bars = as_blocks(excess_returns, 0)
    else:
        sums = read_matrix(excess_returns, name="excess_returns")
        num_bars = np.ones(len(sums))
    if mean_block_length is None:
        mean_block_length = automatic_block_length(sums)
    if rows is None:
        rows = stationary_bootstrap(
            len(sums),
            mean_block_length=mean_block_length,
            num_draws=num_draws,
            random_state=random_state,
        )
    return _Rows(sums, num_bars, row_counts(rows, len(sums)), mean_block_length)


def _resampled_means(drawn: _Rows) -> Iterator[tuple[slice, NumpyArray]]:
    """Yields ranges of rules with their [B, n] means per bar on the resampled paths."""
    bars = (drawn.counts @ drawn.num_bars)[:, None]
    for first in range(0, drawn.sums.shape[1], CHUNK_RULES):
        columns = slice(first, first + CHUNK_RULES)
        yield columns, drawn.counts @ drawn.sums[:, columns] / bars
