"""Rivals without a density: quantiles from past returns, filtered or not, and from trees.

Each gives a `QuantileForecast`, one row per bar t of quantiles of `returns[t + 1]`, as
`risk.baselines` does for laws. Parameters see the first `num_train` returns alone; row t reads
returns, or a context, up to t. Returns are log returns as fractions.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from densityjax._typing import ArrayLike, NumpyArray
from densityjax.risk.baselines import MIN_TRAIN, check_returns, gjr_skewt

# Probabilities at which empirical quantiles are kept: fine in the tails, where risk is read.
_TAIL = np.array([5, 10, 15, 20, 30, 40, 50, 60, 80, 100, 150]) / 10_000
PROBABILITIES = np.concatenate([_TAIL, np.linspace(0.02, 0.98, 97), 1.0 - _TAIL[::-1]])
_LOWER = np.array([1, 10, 25, 50, 100, 200, 350]) / 1000
BOOSTED_PROBABILITIES = np.concatenate([_LOWER, [0.5], 1.0 - _LOWER[::-1]])
CHUNK_ROWS = 4096  # windows sorted at once: 16 MB at 500 returns each


class QuantileForecast(NamedTuple):
    """Forecast quantiles, one row per bar t, of the return of bar t + 1.

    Attributes:
      probabilities: [P] increasing, in (0, 1).
      quantiles: [T, P] log returns, not decreasing along a row; NaN before the first forecast.
    """

    probabilities: NumpyArray
    quantiles: NumpyArray

    def quantile(self, probability: float) -> NumpyArray:
        """Returns the log return [T] undercut with `probability`, linear between those kept.

        Beyond the outermost probabilities it is the outermost quantile: a sample knows no more.
        """
        right = np.searchsorted(self.probabilities, probability)
        right = int(np.clip(right, 1, self.probabilities.size - 1))
        left = right - 1
        low, high = self.probabilities[left], self.probabilities[right]
        share = np.clip((probability - low) / (high - low), 0.0, 1.0)
        return (1.0 - share) * self.quantiles[:, left] + share * self.quantiles[:, right]

    def value_at_risk(self, confidence: float) -> NumpyArray:
        """Returns the loss [T], positive, exceeded with probability `1 - confidence`."""
        return -self.quantile(1.0 - confidence)

    def expected_shortfall(self, confidence: float) -> NumpyArray:
        """Returns the mean loss [T], positive, beyond the value at risk at `confidence`.

        The exact integral of the piecewise linear quantile function over the tail.
        """
        tail = 1.0 - confidence
        inside = self.probabilities[self.probabilities < tail]
        nodes = np.concatenate([[0.0], inside, [tail]])
        values = np.stack([self.quantile(node) for node in nodes])
        return -np.trapezoid(values, nodes, axis=0) / tail

    def __getitem__(self, rows: slice | NumpyArray) -> "QuantileForecast":
        """Returns the forecasts of some rows."""
        return QuantileForecast(self.probabilities, self.quantiles[rows])


def historical_simulation(returns: ArrayLike, *, window: int = 500) -> QuantileForecast:
    """Forecasts with the empirical quantiles of the last returns, all of them weighted alike.

    Args:
      returns: [T] log returns, as fractions, finite.
      window: number W of returns, up to and including that of bar t.

    Returns:
      A `QuantileForecast` of T rows, NaN in the first W - 1.

    Raises:
      ValueError: if a return is not finite or `window` is not in [2, T].

    References:
      Hendricks, Evaluation of Value-at-Risk Models Using Historical Data, 1996.
    """
    values = check_returns(returns)
    if not 2 <= window <= values.size:
        raise ValueError(f"window must be in [2, {values.size}] returns, got {window}")
    windows = np.lib.stride_tricks.sliding_window_view(values, window)
    found = np.full((values.size, PROBABILITIES.size), np.nan)
    for start in range(0, len(windows), CHUNK_ROWS):
        chunk = windows[start : start + CHUNK_ROWS]
        rows = slice(window - 1 + start, window - 1 + start + len(chunk))
        found[rows] = np.quantile(chunk, PROBABILITIES, axis=1).T
    return QuantileForecast(PROBABILITIES, found)


def filtered_historical_simulation(
    returns: ArrayLike, *, num_train: int, refit_every: int | None = None
) -> QuantileForecast:
    """Forecasts with the volatility of a GJR-GARCH and the law of its own training residuals.

    The quantile of bar t + 1 is `location_t + scale_t q`, with q the empirical quantile of
    `(r_{s+1} - location_s) / scale_s` over the training rows.

    Args:
      returns: [T] log returns, as fractions, finite.
      num_train: number of leading returns that parameters and residuals come from.
      refit_every: bars between fits of the volatility on an expanding window; None fits once.

    Returns:
      A `QuantileForecast` of T rows.

    Raises:
      ValueError: if an argument is out of range or a return is not finite.

    References:
      Barone-Adesi, Giannopoulos and Vosper, VaR without Correlations for Portfolios of Derivative
      Securities, 1999; Glosten, Jagannathan and Runkle, 1993, eq. 4 (the volatility).
    """
    values = check_returns(returns)
    filtered = gjr_skewt(values, num_train=num_train, refit_every=refit_every)
    rows = slice(0, num_train - 1)
    residuals = (values[1:num_train] - filtered.location[rows]) / filtered.scale[rows]
    standard = np.quantile(residuals, PROBABILITIES)
    quantiles = filtered.location[:, None] + filtered.scale[:, None] * standard
    return QuantileForecast(PROBABILITIES, quantiles)


def quantile_boosting(
    context: ArrayLike,
    scale: ArrayLike,
    next_returns: ArrayLike,
    *,
    num_train: int,
    probabilities: Sequence[float] | NumpyArray = BOOSTED_PROBABILITIES,
    max_iter: int = 60,
    learning_rate: float = 0.1,
    max_leaf_nodes: int = 8,
    min_samples_leaf: int = 100,
    random_state: int = 0,
) -> QuantileForecast:
    """Forecasts with gradient-boosted trees, one forest for each quantile of `r / scale`.

    Args:
      context: [T, C] what is known at the close of bar t.
      scale: [T] volatility known at the close of bar t, by which returns are divided; positive.
      next_returns: [T] log return of bar t + 1; NaN where it is not known.
      num_train: number of leading rows to learn from; those with NaN are left out.
      probabilities: [P] increasing, in (0, 1).
      max_iter: trees in each forest.
      learning_rate: shrinkage of each tree.
      max_leaf_nodes: leaves of each tree.
      min_samples_leaf: fewest rows in a leaf; below 1 / probability rows no tail is seen.
      random_state: seed of the forests.

    Returns:
      A `QuantileForecast` of T rows, each row sorted where forests cross.

    Raises:
      ValueError: if sizes differ, a scale is not positive, or too few rows can be learned from.

    References:
      Friedman, Greedy Function Approximation, 2001; Chernozhukov, Fernandez-Val and Galichon,
      Quantile and Probability Curves without Crossing, 2010 (the sorting).
    """
    from sklearn.ensemble import HistGradientBoostingRegressor  # slow to import

    table, width = np.asarray(context, float), np.asarray(scale, float)
    following = np.asarray(next_returns, float)
    if table.ndim != 2 or width.shape != (len(table),) or following.shape != (len(table),):
        raise ValueError(
            "context [T, C], scale [T] and next_returns [T] must agree, got "
            f"{table.shape}, {width.shape}, {following.shape}"
        )
    if not np.all(width > 0.0):
        raise ValueError(f"scale must be positive, got {np.nanmin(width)}")
    levels = np.asarray(probabilities, float)
    if levels.size < 2 or np.any(np.diff(levels) <= 0) or levels[0] <= 0 or levels[-1] >= 1:
        raise ValueError(f"probabilities must increase inside (0, 1), got {levels}")
    learned = np.flatnonzero(np.isfinite(following[:num_train]))
    if learned.size < MIN_TRAIN:
        raise ValueError(f"num_train must leave {MIN_TRAIN} known returns, got {learned.size}")
    target = following[learned] / width[learned]
    settings: dict[str, Any] = {
        "max_iter": max_iter,
        "learning_rate": learning_rate,
        "max_leaf_nodes": max_leaf_nodes,
        "min_samples_leaf": min_samples_leaf,
        "random_state": random_state,
        "early_stopping": False,  # it would hold out rows at random, neighbours in time
    }
    found = np.empty((len(table), levels.size))
    for column, level in enumerate(levels):
        forest = HistGradientBoostingRegressor(loss="quantile", quantile=level, **settings)
        found[:, column] = width * forest.fit(table[learned], target).predict(table)
    return QuantileForecast(levels, np.sort(found, axis=1))
