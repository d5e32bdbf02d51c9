"""Deterministic stress of a forecast law or a position, in float64 on the host.

A law enters as `quantile_fn`, probabilities [N] to log returns [N] of the next bar, increasing
(wrap a scalar one in `jax.vmap`); a stress gives another such function. Money is in simple
returns: a weight w (fraction of equity, negative short) earns `w (exp(r) - 1)` on a log return r,
and results are fractions of equity. Losses are positive, `confidence` is .99 for the 1 % tail.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from scipy import stats

from densityjax._typing import ArrayLike, NumpyArray

HostQuantileFn = Callable[[NumpyArray], NumpyArray]  # [N] probabilities -> [N] log returns

GAP = -0.05  # simple return of the gap scenario, against a long position
NUM_NODES = 64  # Gauss-Legendre nodes of a tail mean: 1e-5 relative up to tail index 1/3
TAIL_CUT = 1e-9  # probability beyond which outcomes are held: exp of a power law has no mean


class StressResult(NamedTuple):
    """Losses of a position under one scenario, positive, as fractions of equity.

    Attributes:
      name: of the scenario.
      value_at_risk: loss exceeded with probability `1 - confidence`; of a gap, its loss.
      expected_shortfall: mean loss beyond that; of a gap, its loss.
    """

    name: str
    value_at_risk: float
    expected_shortfall: float


class GapResult(NamedTuple):
    """What a gap does to a position before anyone can trade.

    Attributes:
      pnl: profit, as a fraction of equity before the gap; negative is a loss.
      equity: after the gap, as a fraction of equity before; 0 or less is ruin.
      weights: [...] weights after the gap, `w (1 + gap) / equity`; NaN in ruin.
      is_ruined: whether equity is gone.
    """

    pnl: float
    equity: float
    weights: NumpyArray
    is_ruined: bool


def scale_volatility(quantile_fn: HostQuantileFn, factor: float) -> HostQuantileFn:
    """Returns the law whose every distance from the median is `factor` times as large.

    Args:
      quantile_fn: [N] probabilities to [N] log returns.
      factor: of the spread, positive; 2 doubles the volatility.

    Returns:
      The stressed quantile function, `m + factor (Q(u) - m)` with m the median.

    Raises:
      ValueError: if `factor` is not positive and finite.
    """
    _check_positive("factor", factor)

    def stressed(probability: NumpyArray) -> NumpyArray:
        median = _quantiles(quantile_fn, np.array([0.5]))[0]
        return median + factor * (_quantiles(quantile_fn, probability) - median)

    return stressed


def fatten_tails(quantile_fn: HostQuantileFn, degrees_of_freedom: float) -> HostQuantileFn:
    """Returns the law with tails at least those of a Student t of the same median and quartiles.

    Matching quartiles keeps the scale of ordinary bars and moves the tails alone. Each quantile
    is the one farther from the median, of the t and of the law: a stress never helps, even where
    the law is fatter than the t, and what it returns is increasing still.

    Args:
      quantile_fn: [N] probabilities to [N] log returns, not constant between its quartiles.
      degrees_of_freedom: of the t, positive; 3 is fat, 1 has no mean.

    Returns:
      The stressed quantile function.

    Raises:
      ValueError: if `degrees_of_freedom` is not positive and finite.
    """
    _check_positive("degrees_of_freedom", degrees_of_freedom)

    def stressed(probability: NumpyArray) -> NumpyArray:
        own = _quantiles(quantile_fn, probability)
        lower, median, upper = _quantiles(quantile_fn, np.array([0.25, 0.5, 0.75]))
        scale = (upper - lower) / (2.0 * stats.t.ppf(0.75, degrees_of_freedom))
        fat = median + scale * stats.t.ppf(probability, degrees_of_freedom)
        is_below = np.asarray(probability) < 0.5
        return np.where(is_below, np.minimum(own, fat), np.maximum(own, fat))

    return stressed


def gap(weights: ArrayLike, gap_return: ArrayLike = GAP) -> GapResult:
    """Applies an instant simple return to a position that cannot trade on the way.

    Args:
      weights: [] or [A] fractions of equity, negative short; the rest is cash.
      gap_return: [] or [A] simple return of each asset, at least -1; -.05 is a fall by 5 %.

    Returns:
      The `GapResult`; no fees, which come on top when the position is closed.

    Raises:
      ValueError: if a weight is not finite, or a return is not finite or below -1.
    """
    held, move = np.asarray(weights, dtype=float), np.asarray(gap_return, dtype=float)
    if not np.all(np.isfinite(held)):
        raise ValueError(f"weights must be finite, got {held}")
    if not (np.all(np.isfinite(move)) and np.all(move >= -1.0)):
        raise ValueError(f"gap_return must be finite and at least -1, got {move}")
    pnl = float(np.sum(held * move))
    equity = 1.0 + pnl
    is_ruined = equity <= 0.0
    after = np.full(held.shape, np.nan) if is_ruined else held * (1.0 + move) / equity
    return GapResult(pnl, equity, after, is_ruined)


def position_losses(
    quantile_fn: HostQuantileFn, weight: float, confidence: float
) -> tuple[float, float]:
    """Returns value at risk and expected shortfall of a position in one asset.

    A long position loses in the lower tail of the return, a short one in the upper, where a
    power law of the log return has no mean loss at all: outcomes beyond a probability of
    `TAIL_CUT` are held at the quantile there, on both sides.

    Args:
      quantile_fn: [N] probabilities to [N] log returns.
      weight: fraction of equity, negative short.
      confidence: level in (0, 1 - TAIL_CUT), .99 for the 1 % tail.

    Returns:
      The two losses, positive, as fractions of equity.

    Raises:
      ValueError: if an argument is out of range or a quantile is not finite.
    """
    if not np.isfinite(weight):
        raise ValueError(f"weight must be finite, got {weight}")
    if not 0.0 < confidence < 1.0 - TAIL_CUT:
        raise ValueError(f"confidence must be in (0, 1 - {TAIL_CUT}), got {confidence}")
    tail = 1.0 - confidence
    node, share = np.polynomial.legendre.leggauss(NUM_NODES)
    node = 0.5 * (node + 1.0)
    # u = cut + (tail - cut) s^4 crowds the nodes at the end of the tail.
    inner = TAIL_CUT + (tail - TAIL_CUT) * node**4
    level = np.concatenate([[tail, TAIL_CUT], inner])
    mass = np.concatenate([[0.0, TAIL_CUT], (tail - TAIL_CUT) * 2.0 * node**3 * share]) / tail
    loss = -weight * np.expm1(_quantiles(quantile_fn, level if weight >= 0.0 else 1.0 - level))
    return float(loss[0]), float(mass @ loss)


def stress_table(
    quantile_fn: HostQuantileFn,
    weight: float,
    confidence: float,
    *,
    volatility_factor: float = 2.0,
    degrees_of_freedom: float = 3.0,
    gap_return: float = GAP,
) -> tuple[StressResult, ...]:
    """Returns the losses of a position as forecast, and under three scenarios.

    Args:
      quantile_fn: [N] probabilities to [N] log returns of the next bar.
      weight: fraction of equity, negative short.
      confidence: level of the losses, in (0, 1), .99 for the 1 % tail.
      volatility_factor: of `scale_volatility`.
      degrees_of_freedom: of `fatten_tails`.
      gap_return: simple return of the gap. The gap goes AGAINST the position: its size is taken
        as a fall for a long weight and as a rise for a short one.

    Returns:
      Rows "forecast", "volatility", "fat_tails" and "gap".

    Raises:
      ValueError: if an argument is out of range.
    """
    laws = {
        "forecast": quantile_fn,
        "volatility": scale_volatility(quantile_fn, volatility_factor),
        "fat_tails": fatten_tails(quantile_fn, degrees_of_freedom),
    }
    rows = [
        StressResult(name, *position_losses(law, weight, confidence)) for name, law in laws.items()
    ]
    against = -abs(gap_return) if weight >= 0.0 else abs(gap_return)
    loss = -gap(weight, against).pnl
    return (*rows, StressResult("gap", loss, loss))


def _quantiles(quantile_fn: HostQuantileFn, probability: NumpyArray) -> NumpyArray:
    """Returns finite quantiles in float64."""
    level = np.asarray(probability, dtype=float)
    values = np.asarray(quantile_fn(level), dtype=float)
    if values.shape != level.shape or not np.all(np.isfinite(values)):
        raise ValueError(
            f"quantile_fn must give a finite return for each probability, got {values} at {level}"
        )
    return values


def _check_positive(name: str, value: float) -> None:
    """Raises unless the value is positive and finite."""
    if not (np.isfinite(value) and value > 0.0):
        raise ValueError(f"{name} must be positive and finite, got {value}")
