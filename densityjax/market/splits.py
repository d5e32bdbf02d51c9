"""Chronological splits with a purge: what is tested was never trained on.

Row t of a learning set uses the bars t - window + 1 .. t, and predicts from the bars up to
t + horizon. Neighbouring parts share no bar when the rows dropped between them (the purge, an
embargo on both sides of the border) are at least window + horizon - 1.
"""

import math
from collections.abc import Sized
from typing import NamedTuple


class Split(NamedTuple):
    """Half-open row ranges of the parts, in order of time: `bars.iloc[split.train]`.

    Attributes:
      train: rows to fit scalers, tails and models on.
      validation: rows to stop early and to set thresholds on.
      test: rows to judge on.
    """

    train: slice
    validation: slice
    test: slice


def split(
    rows: int | Sized, *, fractions: tuple[float, float, float] = (0.7, 0.15, 0.15), purge: int
) -> Split:
    """Splits rows in order of time into train, validation and test.

    Twice `purge` rows are set aside first; the fractions are of what remains, rounded down, and
    the test part takes the remainder.

    Args:
      rows: number of rows N, or anything of that length: an index, a frame, an array.
      fractions: shares of train, validation and test; positive, summing to 1.
      purge: rows dropped between neighbouring parts; at least the longest window plus the horizon
        of the targets, in bars, so that no bar is an input of two parts.

    Returns:
      The `Split`, three slices over 0 .. N - 1.

    Raises:
      ValueError: fractions that are not three positive numbers summing to 1, a negative purge, or
        too few rows for one row in each part.
    """
    num_rows = rows if isinstance(rows, int) else len(rows)
    if len(fractions) != 3 or not all(0.0 < part < 1.0 for part in fractions):
        raise ValueError(f"fractions must be three numbers between 0 and 1, got {fractions}")
    if not math.isclose(sum(fractions), 1.0):
        raise ValueError(f"fractions must sum to 1, got {fractions} (sum {sum(fractions):.6g})")
    if purge < 0:
        raise ValueError(f"purge must be a number of rows, 0 or more, got {purge}")
    needed = 2 * purge + math.ceil(1.0 / min(fractions))
    if num_rows < needed:
        raise ValueError(
            f"{num_rows} rows are too few: purge={purge} and fractions={fractions} need at least "
            f"{needed}"
        )
    usable = num_rows - 2 * purge
    train_end = math.floor(fractions[0] * usable)
    validation_start = train_end + purge
    validation_end = validation_start + math.floor(fractions[1] * usable)
    return Split(
        train=slice(0, train_end),
        validation=slice(validation_start, validation_end),
        test=slice(validation_end + purge, num_rows),
    )
