"""Regime labels of bars by what comes AFTER them: targets to train on, never inputs.

Row t is labelled by the returns of bars t + 1 .. t + horizon. First match:

    high_volatility   the sd of those returns is above a quantile of such sds in the training rows
    bull              their sum is above that sd times sqrt(horizon)
    bear              their sum is below minus that
    mean_reverting    everything else

A design choice, one of many: bull and bear are moves of more than one standard deviation of a
driftless walk. Since a label reads the future, rows near the end of a training part overlap the
next part: purge by `horizon` bars at least.
"""

from typing import NamedTuple

import numpy as np
import pandas as pd

from densityjax._typing import NumpyArray
from densityjax.market.bar_arrays import from_frame, log_returns

REGIMES = ("bull", "bear", "high_volatility", "mean_reverting")
HORIZON = 20  # bars


class RegimeLabels(NamedTuple):
    """Labels of T bars for training.

    Attributes:
      labels: [T] names of `REGIMES` under the index of the bars; missing where the next `horizon`
        returns are not all known: the last rows, and rows before a gap or a filled bar.
      volatility_threshold: sd of returns a bar above which the regime is 'high_volatility'.
      shares: share of each regime among the labelled rows, by name.
    """

    labels: pd.Series
    volatility_threshold: float
    shares: pd.Series


def label_regimes(
    bars: pd.DataFrame,
    *,
    num_training: int,
    horizon: int = HORIZON,
    volatility_quantile: float = 0.8,
) -> RegimeLabels:
    """Labels every bar by the `horizon` bars after it.

    Args:
      bars: T bars, as `market.read_bars` gives them.
      num_training: first rows that set the volatility threshold, by the windows that end among
        them; later bars do not move it.
      horizon: bars that a label looks ahead, at least 2.
      volatility_quantile: quantile of the training sds that is the threshold, in (0, 1).

    Returns:
      The `RegimeLabels`.

    Raises:
      ValueError: if an argument is not accepted, or no training window is whole.
    """
    if not isinstance(horizon, int) or horizon < 2:
        raise ValueError(f"horizon is {horizon!r}: accepted is an integer >= 2")
    if not 0.0 < volatility_quantile < 1.0:
        raise ValueError(f"volatility_quantile is {volatility_quantile}: accepted is in (0, 1)")
    if not horizon < num_training <= len(bars):
        raise ValueError(
            f"num_training is {num_training}: accepted is above the horizon of {horizon} and at "
            f"most the {len(bars)} bars"
        )
    total, sd = _ahead(log_returns(from_frame(bars)), horizon)
    known = sd[: num_training - horizon]
    known = known[np.isfinite(known)]
    if not known.size:
        raise ValueError(
            f"num_training is {num_training}: none of these rows is followed by {horizon} returns "
            "without a gap"
        )
    threshold = float(np.quantile(known, volatility_quantile))
    spread = sd * np.sqrt(horizon)
    conditions = [np.isnan(sd), sd > threshold, total > spread, total < -spread]
    names = np.select(conditions, ["", "high_volatility", "bull", "bear"], "mean_reverting")
    labels = pd.Series(names, index=bars.index, name="regime", dtype="str")
    labels = labels.mask(labels == "")
    shares = labels.value_counts(normalize=True).reindex(REGIMES, fill_value=0.0)
    return RegimeLabels(labels, threshold, shares)


def _ahead(returns: NumpyArray, horizon: int) -> tuple[NumpyArray, NumpyArray]:
    """Returns sum and sd (ddof 1) of the next `horizon` returns of every row, NaN where unknown."""
    total, sd = np.full((2, returns.size), np.nan)
    if returns.size > horizon:
        windows = np.lib.stride_tricks.sliding_window_view(returns[1:], horizon)
        total[: len(windows)] = windows.sum(axis=1)
        sd[: len(windows)] = windows.std(axis=1, ddof=1)
    return total, sd
