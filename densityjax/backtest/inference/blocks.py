"""Sums of returns over blocks of bars: what tests of many rules at once are computed from.

A grid of 10,000 rules over 10,000 bars has 10^8 returns, which nothing stores; their sums and sums
of squares over some blocks are enough for the Sharpe ratio of every union of blocks and for block
bootstraps. Shapes: S blocks, N rules.
"""

from typing import NamedTuple

import numpy as np

from densityjax import numerics
from densityjax._typing import ArrayLike, NumpyArray

EPSILON = float(np.finfo(np.float64).eps)  # rounding of the arithmetic here


class BlockSums(NamedTuple):
    """Sums of the returns of N rules over S blocks of bars.

    Those of a grid are `BlockSums(grid.block_returns, grid.block_squares, grid.block_bars)`.

    Attributes:
      returns: [S, N] sum of the simple returns in each block, fractions.
      squares: [S, N] sum of their squares.
      num_bars: [S] number of bars in each block.
    """

    returns: NumpyArray
    squares: NumpyArray
    num_bars: NumpyArray


def block_sums(returns: ArrayLike, *, num_blocks: int = 16) -> BlockSums:
    """Sums returns over blocks of equal length, the first ones a bar longer where T is no multiple.

    Args:
      returns: [T, N] simple returns of N rules, fractions.
      num_blocks: number of blocks S, from 2 to T.

    Returns:
      The `BlockSums`.

    Raises:
      ValueError: if the shape is not [T, N], a return is not finite or S is out of range.
    """
    values = read_matrix(returns)
    if not 2 <= num_blocks <= len(values):
        raise ValueError(f"num_blocks is {num_blocks}; accepted is 2 to {len(values)}, the bars")
    lengths = np.full(num_blocks, len(values) // num_blocks)
    lengths[: len(values) % num_blocks] += 1
    starts = np.cumsum(lengths) - lengths
    sums = (np.add.reduceat(values, starts), np.add.reduceat(values**2, starts))
    return BlockSums(*sums, lengths)


def as_blocks(returns: ArrayLike | BlockSums, num_blocks: int) -> BlockSums:
    """Returns block sums as float64, of [T, N] returns or of given sums whose shapes must agree."""
    if not isinstance(returns, BlockSums):
        return block_sums(returns, num_blocks=num_blocks)
    sums, squares = (
        read_matrix(part, name=f"returns.{name}")
        for name, part in (("returns", returns.returns), ("squares", returns.squares))
    )
    bars = np.asarray(returns.num_bars)
    if sums.shape != squares.shape or bars.shape != sums.shape[:1] or (bars < 0).any():
        raise ValueError(
            f"block sums have shapes {sums.shape}, {squares.shape} and {bars.shape}; accepted are "
            "[S, N], [S, N] and [S] numbers of bars"
        )
    is_used = bars > 0  # a grid of fewer bars than blocks has empty ones
    return BlockSums(sums[is_used], squares[is_used], bars[is_used])


def sharpe_of_sums(sums: NumpyArray, squares: NumpyArray, num_bars: NumpyArray) -> NumpyArray:
    """Returns Sharpe ratios PER BAR (ddof 1) from sums over the same bars; NaN without spread."""
    mean = sums / num_bars
    variance = (squares / num_bars - mean**2) * num_bars / np.maximum(num_bars - 1, 1)
    # Below a few roundings of the mean square the difference is noise: the returns are flat.
    is_flat = variance <= numerics.FLAT_SHARE * EPSILON * squares / num_bars
    return np.where(is_flat, np.nan, mean / np.sqrt(np.where(is_flat, 1.0, variance)))


def read_matrix(values: ArrayLike, *, name: str = "returns") -> NumpyArray:
    """Returns [T, N] finite float64 numbers, one column for each rule; a vector is one column."""
    array = np.asarray(values, np.float64)
    array = array[:, None] if array.ndim == 1 else array
    if array.ndim != 2 or 0 in array.shape:
        raise ValueError(f"{name} has shape {array.shape}; accepted is [T, N], one column a rule")
    if not np.isfinite(array).all():
        row, column = np.argwhere(~np.isfinite(array))[0]
        raise ValueError(f"{name}[{row}, {column}] is not finite; accepted are finite numbers")
    return array
