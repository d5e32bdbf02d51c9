"""What an audit does to bars, and how it compares outputs.

The future of a row is changed in ways that keep bars bars: the same times and columns, highs above
lows. Outputs become float64 frames of one row for each bar, and equal means NaN where NaN was.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from densityjax._typing import NumpyArray

PRICES = ("open", "high", "low", "close")

Pipeline = Callable[[pd.DataFrame], Any]


class Leak(NamedTuple):
    """Where two outputs differ: the row, the column and both values."""

    row: int
    column: str
    was: float
    became: float


def output_of(pipeline: Pipeline, bars: pd.DataFrame) -> pd.DataFrame:
    """Runs a pipeline on a copy of the bars; rows that it leaves out are NaN.

    Args:
      pipeline: bars -> frame, series or array.
      bars: [T] bars.

    Returns:
      [T] rows of float64 columns, indexed as the bars.

    Raises:
      ValueError: if an array has another length than the bars, or a frame has rows of other times.
    """
    output = pipeline(bars.copy())
    if isinstance(output, pd.Series):
        output = output.to_frame()
    if isinstance(output, pd.DataFrame):
        strangers = output.index.difference(bars.index)
        if len(strangers) or not output.index.is_unique:
            raise ValueError(
                f"the pipeline's output has rows that are no bars, such as {list(strangers[:1])}, "
                "or the same time twice: accepted are rows indexed as bars"
            )
        return output.reindex(bars.index).astype(np.float64)
    values = np.asarray(output, np.float64)
    if values.shape[:1] != (len(bars),):
        raise ValueError(
            f"the pipeline's output has shape {values.shape}: accepted are {len(bars)} rows"
        )
    return pd.DataFrame(values.reshape(len(bars), -1), index=bars.index)


def replace_future(bars: pd.DataFrame, cut: int, rng: np.random.Generator) -> pd.DataFrame:
    """Returns bars whose rows after `cut` are another market of the same shape.

    Prices of a row share one factor, so that highs stay highs; it drifts and jumps far enough to
    move every mean, rank and extreme. Other columns are reordered and rescaled.

    Args:
      bars: [T] bars.
      cut: last row that stays.
      rng: where the numbers come from.

    Returns:
      [T] bars of the same index and columns.
    """
    changed, num = bars.copy(), len(bars) - cut - 1
    future = slice(cut + 1, None)
    factor = np.exp(rng.normal() + 3.0 * np.cumsum(rng.normal(0.05, 0.05, num)) / num**0.5)
    factor *= np.exp(0.1 * rng.normal(size=num))
    for name in bars.columns:
        values = bars[name].to_numpy(copy=True)
        if not np.issubdtype(values.dtype, np.number):
            continue
        own = values[future].astype(np.float64)
        if name in PRICES:
            values = values.astype(np.float64)
            values[future] = own * factor
        elif np.issubdtype(values.dtype, np.floating):
            values[future] = rng.permutation(own) * np.exp(rng.normal(size=num))
        changed[name] = values
    return changed


def shuffle_future(bars: pd.DataFrame, cut: int, rng: np.random.Generator) -> pd.DataFrame:
    """Returns bars whose rows after `cut` change places; their times stay in order."""
    rows = np.arange(len(bars))
    rows[cut + 1 :] = rng.permutation(rows[cut + 1 :])
    return bars.iloc[rows].set_axis(bars.index, axis=0)


def differs(was: pd.DataFrame, became: pd.DataFrame, tolerance: float) -> NumpyArray:
    """Returns where two outputs of equal shape differ; NaN equals NaN and no number."""
    if list(was.columns) != list(became.columns):
        return np.ones((len(was), 1), bool)
    a, b = was.to_numpy(), became.to_numpy()
    both, neither = np.isfinite(a) & np.isfinite(b), np.isnan(a) & np.isnan(b)
    same = (a == b) | neither
    if tolerance > 0.0:
        size = np.maximum(np.nanmax(np.where(np.isfinite(a), np.abs(a), 0.0), axis=0, initial=0), 0)
        with np.errstate(invalid="ignore"):
            same |= both & (np.abs(a - b) <= tolerance * np.maximum(np.abs(a), size))
    return ~same


def first_difference(was: pd.DataFrame, became: pd.DataFrame, tolerance: float) -> Leak | None:
    """Returns the first row in which two outputs differ, or None."""
    apart = differs(was, became, tolerance)
    if not apart.any():
        return None
    row, place = (int(i) for i in np.argwhere(apart)[0])
    if list(was.columns) != list(became.columns):
        return Leak(row, "columns", np.nan, np.nan)
    values = float(was.iat[row, place]), float(became.iat[row, place])
    return Leak(row, str(was.columns[place]), *values)
