"""Bootstrap intervals of any figure of a path, and of the difference of two on the same bars.

Intervals are percentiles of the figure over resampled paths. That of a figure which a path cannot
exceed (a drawdown) is skewed, as the figure's own law is.
"""

import functools
from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
import pandas as pd

from densityjax._typing import ArrayLike, NumpyArray
from densityjax.backtest import metrics
from densityjax.backtest.inference.blocks import read_matrix
from densityjax.backtest.inference.bootstrap import optimal_block_length, stationary_bootstrap

CHUNK_DRAWS = 64  # resampled paths whose rows are in memory together

Statistic = Callable[..., float]  # columns [T] -> the figure


class BootstrapInterval(NamedTuple):
    """A figure with its interval, in the unit of the figure.

    Attributes:
      estimate: on the path that was.
      low: lower end.
      high: upper end; both NaN where the figure is defined on under half of the resampled paths.
      share_defined: share of resampled paths on which the figure is defined.
    """

    estimate: float
    low: float
    high: float
    share_defined: float


class BootstrapDifference(NamedTuple):
    """The difference of a figure between two paths on the same bars.

    Attributes:
      estimate: figure of the first less that of the second.
      low: lower end of the interval.
      high: upper end.
      p_value: two-sided, of no difference: how often the centred difference is as far from zero.
    """

    estimate: float
    low: float
    high: float
    p_value: float


def bootstrap_interval(
    statistic: Statistic,
    *columns: ArrayLike,
    confidence: float = 0.95,
    mean_block_length: float | None = None,
    num_draws: int = 1_000,
    random_state: int = 0,
) -> BootstrapInterval:
    """Returns the percentile interval of a figure over resampled paths.

    Args:
      statistic: figure of the columns, such as `metrics.max_drawdown`; each column comes as [T].
      *columns: [T] returns (or trades) and what else the figure takes, resampled together.
      confidence: probability of the interval, in (0, 1).
      mean_block_length: in bars, >= 1; None takes `optimal_block_length` of the first column. For
        trades, which hardly depend on each other, take 1.
      num_draws: number of resampled paths.
      random_state: seed.

    Returns:
      The `BootstrapInterval`.

    Raises:
      ValueError: if columns differ in length, a value is not finite or an option is out of range.
    """
    _check_confidence(confidence)
    data = _read(columns)
    draws = _replicate(statistic, data, mean_block_length, num_draws, random_state)
    return _interval(float(statistic(*data)), draws, confidence)


def headline_intervals(
    returns: ArrayLike,
    *,
    periods_per_year: float,
    weights: ArrayLike | None = None,
    turnover: ArrayLike | None = None,
    confidence: float = 0.95,
    tail_confidence: float = 0.95,
    mean_block_length: float | None = None,
    num_draws: int = 500,
    random_state: int = 0,
) -> pd.DataFrame:
    """Returns the bootstrap interval of every headline figure, all on the same resampled paths.

    Args:
      returns: [T] net simple returns of the bars, fractions.
      periods_per_year: bars in a year, from the timestamps.
      weights: [T] weight that earned each bar, for exposure and hit rate.
      turnover: [T] traded notional of each bar over equity, for the mean turnover.
      confidence: probability of each interval, in (0, 1).
      tail_confidence: that of value at risk and expected shortfall.
      mean_block_length: in bars; None takes `optimal_block_length` of the returns.
      num_draws: number of resampled paths.
      random_state: seed.

    Returns:
      One row for each figure, named as in `densityjax.backtest.metrics` (profit_factor_bars is that
      of bars), with estimate, low, high and share_defined.

    Raises:
      ValueError: as `bootstrap_interval`.
    """
    _check_confidence(confidence)
    figures = _headline_figures(periods_per_year, tail_confidence)
    columns = [returns]
    if weights is not None:
        columns.append(weights)
        place = len(columns) - 1
        figures["exposure"] = lambda *data: metrics.exposure(data[place])
        figures["hit_rate"] = lambda *data: metrics.hit_rate(data[0], data[place])
    if turnover is not None:
        columns.append(turnover)
        figures["turnover"] = lambda *data: float(np.mean(data[-1]))

    def all_figures(*data: NumpyArray) -> NumpyArray:
        return np.array([figure(*data) for figure in figures.values()])

    data = _read(columns)
    draws = _replicate(all_figures, data, mean_block_length, num_draws, random_state)
    estimates = all_figures(*data)
    rows = [_interval(estimates[i], draws[:, i], confidence) for i in range(len(figures))]
    return pd.DataFrame(rows, index=pd.Index(list(figures), name="metric"))


def bootstrap_difference(
    statistic: Statistic,
    returns: ArrayLike,
    other_returns: ArrayLike,
    *,
    confidence: float = 0.95,
    mean_block_length: float | None = None,
    num_draws: int = 1_000,
    random_state: int = 0,
) -> BootstrapDifference:
    """Compares a figure of two paths whose bars are resampled as pairs.

    Two rules on one market share its luck; pairs keep what they share, and the interval is that of
    what one adds to the other.

    Args:
      statistic: figure of [T] returns, such as `metrics.sharpe_ratio`.
      returns: [T] net simple returns of the first rule, fractions.
      other_returns: [T] those of the second, on the same bars.
      confidence: probability of the interval, in (0, 1).
      mean_block_length: in bars; None takes `optimal_block_length` of the difference.
      num_draws: number of resampled paths.
      random_state: seed.

    Returns:
      The `BootstrapDifference`.

    Raises:
      ValueError: as `bootstrap_interval`.

    References:
      Ledoit and Wolf, Robust Performance Hypothesis Testing with the Sharpe Ratio, 2008,
      https://doi.org/10.1016/j.jempfin.2008.03.002.
    """
    _check_confidence(confidence)
    data = _read((returns, other_returns))
    if mean_block_length is None:
        mean_block_length = _block_length(data[0] - data[1])

    def difference(first: NumpyArray, second: NumpyArray) -> float:
        return statistic(first) - statistic(second)

    draws = _replicate(difference, data, mean_block_length, num_draws, random_state)
    estimate, low, high, _ = _interval(float(difference(*data)), draws, confidence)
    draws = draws[np.isfinite(draws)]
    beyond = np.sum(np.abs(draws - estimate) >= abs(estimate))
    p_value = (1.0 + beyond) / (1.0 + draws.size) if np.isfinite(estimate) else np.nan
    return BootstrapDifference(estimate, low, high, float(p_value))


def _headline_figures(periods_per_year: float, tail_confidence: float) -> dict[str, Statistic]:
    """Names the figures of returns alone; what comes after the returns is not read."""
    annual = {"periods_per_year": periods_per_year}
    tail = {"confidence": tail_confidence}
    figures = {
        "total_return": metrics.total_return,
        "annual_return": functools.partial(metrics.annual_return, **annual),
        "annual_volatility": functools.partial(metrics.annual_volatility, **annual),
        "sharpe_ratio": functools.partial(metrics.sharpe_ratio, **annual),
        "sortino_ratio": functools.partial(metrics.sortino_ratio, **annual),
        "calmar_ratio": functools.partial(metrics.calmar_ratio, **annual),
        "omega_ratio": metrics.omega_ratio,
        "profit_factor_bars": metrics.profit_factor,
        "max_drawdown": metrics.max_drawdown,
        "average_drawdown": metrics.average_drawdown,
        "ulcer_index": metrics.ulcer_index,
        "value_at_risk": functools.partial(metrics.value_at_risk, **tail),
        "expected_shortfall": functools.partial(metrics.expected_shortfall, **tail),
        "tail_ratio": functools.partial(metrics.tail_ratio, **tail),
    }

    def of_returns(figure: Statistic) -> Statistic:
        return lambda *data: figure(data[0])

    return {name: of_returns(figure) for name, figure in figures.items()}


def _replicate(
    statistic: Callable[..., ArrayLike],
    data: list[NumpyArray],
    mean_block_length: float | None,
    num_draws: int,
    random_state: int,
) -> NumpyArray:
    """Returns the statistic, [B] or [B, K], on resampled rows of the columns."""
    if mean_block_length is None:
        mean_block_length = _block_length(data[0])
    rows = _chunks(data[0].size, mean_block_length, num_draws, random_state)
    return np.array([statistic(*(column[row] for column in data)) for row in rows], np.float64)


def _chunks(
    num_bars: int, mean_block_length: float, num_draws: int, random_state: int
) -> Iterator[NumpyArray]:
    """Yields the rows of one resampled path after the other, drawn some at a time."""
    if num_draws < 1:
        raise ValueError(f"num_draws is {num_draws}: accepted are numbers >= 1")
    seeds = np.random.SeedSequence(random_state).generate_state(-(-num_draws // CHUNK_DRAWS))
    for number, seed in enumerate(seeds):
        yield from stationary_bootstrap(
            num_bars,
            mean_block_length=mean_block_length,
            num_draws=min(CHUNK_DRAWS, num_draws - number * CHUNK_DRAWS),
            random_state=int(seed),
        )


def _block_length(values: NumpyArray) -> float:
    """Returns the automatic length; 1 for so few values that it cannot be known."""
    return optimal_block_length(values) if values.size >= 10 else 1.0


def _interval(estimate: float, draws: NumpyArray, confidence: float) -> BootstrapInterval:
    """Cuts the tails off the draws that are defined; infinite ones are."""
    defined = draws[~np.isnan(draws)]
    share = defined.size / draws.size
    if 2 * defined.size < draws.size:
        return BootstrapInterval(float(estimate), np.nan, np.nan, share)
    tail = 0.5 * (1.0 - confidence)
    # A value that was drawn: between a finite and an infinite one there is nothing to interpolate.
    low, high = np.quantile(defined, [tail, 1.0 - tail], method="inverted_cdf")
    return BootstrapInterval(float(estimate), float(low), float(high), share)


def _read(columns: tuple | list) -> list[NumpyArray]:
    """Returns the columns as float64 vectors of one length."""
    data = [read_matrix(column, name=f"columns[{i}]")[:, 0] for i, column in enumerate(columns)]
    if not data or len({column.size for column in data}) > 1:
        raise ValueError(f"columns have lengths {[len(c) for c in data]}: accepted is one length")
    return data


def _check_confidence(confidence: float) -> None:
    """Raises a ValueError unless the confidence is inside (0, 1)."""
    if not 0.0 < confidence < 1.0:
        raise ValueError(f"confidence is {confidence}: accepted is 0 < confidence < 1")
