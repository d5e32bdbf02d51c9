"""Functions of one row applied to many, in padded calls of two compiled sizes."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

ROWS_PER_CALL = (64, 1024)  # compiled sizes: one for live use, one that bounds memory


@functools.lru_cache(maxsize=128)
def _batched(fn: Callable, num_shared: int, num_rows: int) -> Callable:
    return jax.jit(jax.vmap(fn, in_axes=(None,) * num_shared + (0,) * num_rows))


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
    num_rows = jax.tree.leaves(rows)[0].shape[0]
    if num_rows < 1:
        raise ValueError("there are 0 rows: accepted is at least 1")
    batched = _batched(fn, len(shared), len(rows))
    size = ROWS_PER_CALL[0] if num_rows <= ROWS_PER_CALL[0] else ROWS_PER_CALL[1]
    chunks = []
    for start in range(0, num_rows, size):
        index = np.minimum(np.arange(start, start + size), num_rows - 1)
        chunk = jax.tree.map(lambda leaf, index=index: leaf[index], rows)
        chunks.append(jax.device_get(batched(*shared, *chunk)))
    return jax.tree.map(lambda *parts: np.concatenate(parts)[:num_rows], *chunks)
