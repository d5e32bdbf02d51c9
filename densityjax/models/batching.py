"""Functions of a row, or of a block of rows, applied to many, in padded calls of two sizes."""

import concurrent.futures
import functools
import os
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

ROWS_PER_CALL = (64, 1024)  # compiled sizes: one for live use, one that bounds memory


@functools.lru_cache(maxsize=128)
def _over_rows(fn: Callable, num_shared: int, num_rows: int) -> Callable:
    return jax.vmap(fn, in_axes=(None,) * num_shared + (0,) * num_rows)


_compiled = functools.lru_cache(maxsize=128)(jax.jit)


def map_rows(fn: Callable, *rows: Any, shared: tuple = ()) -> Any:
    """Applies a function of one row to all rows; few compiled sizes, whatever their number.

    Args:
      fn: function of (*shared, *row); the same object each time, so that its program is kept.
      *rows: pytrees of arrays with a leading axis of N rows, N >= 1.
      shared: pytrees that all rows share.

    Returns:
      What `fn` returns, as NumPy arrays with a leading axis of N.

    Raises:
      ValueError: if there is no row.
    """
    return map_blocks(_over_rows(fn, len(shared), len(rows)), *rows, shared=shared)


def map_blocks(fn: Callable, *rows: Any, shared: tuple = ()) -> Any:
    """Applies a function of a block of rows to all rows, a block of one of two sizes at a time.

    Args:
      fn: function of (*shared, *block), all leaves of block and answer with a leading axis of
        rows; the same object each time. The last row fills up the last block.
      *rows: pytrees of arrays with a leading axis of N rows, N >= 1.
      shared: pytrees that all rows share.

    Returns:
      What `fn` returns, as NumPy arrays with a leading axis of N.

    Raises:
      ValueError: if there is no row.
    """
    num_rows = jax.tree.leaves(rows)[0].shape[0]
    if num_rows < 1:
        raise ValueError("there are 0 rows: accepted is at least 1")
    size = ROWS_PER_CALL[0] if num_rows <= ROWS_PER_CALL[0] else ROWS_PER_CALL[1]
    compiled = _compiled(fn)

    def answer(start: int) -> Any:
        if start + size <= num_rows:
            chosen: Any = slice(start, start + size)  # without a copy
        else:
            chosen = np.minimum(np.arange(start, start + size), num_rows - 1)
        block = jax.tree.map(lambda leaf: leaf[chosen], rows)
        return jax.device_get(compiled(*shared, *block))

    # The first block compiles; the others are shared out, for one alone leaves most cores idle.
    answers = [answer(0)]
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as workers:
        answers.extend(workers.map(answer, range(size, num_rows, size)))
    return jax.tree.map(lambda *parts: np.concatenate(parts)[:num_rows], *answers)
