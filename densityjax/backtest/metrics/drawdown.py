"""Figures of the equity curve's falls: depth, length, frequency.

E_t compounds from E_0 = 1, the start counts as a peak, and a drawdown lasts from one peak until it
is reached again. All depths are positive fractions of the peak.
"""

import numpy as np

from densityjax._typing import ArrayLike, NumpyArray
from densityjax.backtest import _returns
from densityjax.backtest._returns import NanPolicy


def equity_curve(returns: ArrayLike, *, nan_policy: NanPolicy = "raise") -> NumpyArray:
    """Compounds returns from 1; ruin is absorbing.

    Args:
      returns: [T] net simple returns, fractions.
      nan_policy: 'raise', 'omit' or 'zero'.

    Returns:
      [T + 1] equity in units of the start, the start included.
    """
    factors = 1.0 + _returns.read_returns(returns, nan_policy)
    solvent = np.logical_and.accumulate(factors > 0.0)
    return np.concatenate([[1.0], np.cumprod(np.where(solvent, factors, 0.0))])


def drawdowns(returns: ArrayLike, *, nan_policy: NanPolicy = "raise") -> NumpyArray:
    """Returns `1 - E_t / max_{s<=t} E_s`, [T + 1] fractions, the start included."""
    equity = equity_curve(returns, nan_policy=nan_policy)
    return 1.0 - equity / np.maximum.accumulate(equity)


def max_drawdown(returns: ArrayLike, *, nan_policy: NanPolicy = "raise") -> float:
    """Returns the largest fall from a peak, the start included: a positive fraction, 1 at ruin."""
    return float(drawdowns(returns, nan_policy=nan_policy).max())


def average_drawdown(returns: ArrayLike, *, nan_policy: NanPolicy = "raise") -> float:
    """Returns the mean depth of the drawdowns, each from a peak until it is reached again.

    Args:
      returns: [T] net simple returns, fractions.
      nan_policy: 'raise', 'omit' or 'zero'.

    Returns:
      Mean of the deepest point of every drawdown, an open one included; 0 where there is none.
    """
    depth = drawdowns(returns, nan_policy=nan_policy)
    deepest = [depth[first:last].max() for first, last in _spells(depth)]
    return float(np.mean(deepest)) if deepest else 0.0


def drawdown_duration(returns: ArrayLike, *, nan_policy: NanPolicy = "raise") -> int:
    """Returns the length of the longest drawdown, in bars below the peak; an open one counts."""
    spells = _spells(drawdowns(returns, nan_policy=nan_policy))
    return int(np.max(spells[:, 1] - spells[:, 0], initial=0))


def average_drawdown_duration(returns: ArrayLike, *, nan_policy: NanPolicy = "raise") -> float:
    """Returns the mean length of the drawdowns, in bars below the peak; 0 where there is none."""
    spells = _spells(drawdowns(returns, nan_policy=nan_policy))
    return float(np.mean(spells[:, 1] - spells[:, 0])) if len(spells) else 0.0


def ulcer_index(returns: ArrayLike, *, nan_policy: NanPolicy = "raise") -> float:
    """Returns the root mean square of the drawdowns at the closes of the bars.

    Args:
      returns: [T] net simple returns, fractions.
      nan_policy: 'raise', 'omit' or 'zero'.

    Returns:
      The index, a fraction (others print it in percent); NaN without bars.

    References:
      Martin and McCann, The Investor's Guide to Fidelity Funds, 1989.
    """
    depth = drawdowns(returns, nan_policy=nan_policy)[1:]
    return float(np.sqrt(np.mean(depth**2))) if depth.size else np.nan


def _spells(depth: NumpyArray) -> NumpyArray:
    """Returns [n, 2] first and past-the-last bars of the runs below the peak."""
    below = np.concatenate([[False], depth > 0.0, [False]]).astype(int)
    return np.flatnonzero(np.diff(below)).reshape(-1, 2)
