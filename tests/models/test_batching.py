"""Functions applied in blocks against the same functions applied to all rows at once."""

import numpy as np
import pytest

from densityjax.models import map_rows
from densityjax.models.batching import ROWS_PER_CALL, map_blocks


def centred(scale, block):
    """A row of the answer depends on its block: which rows share one can be seen."""
    return {"scaled": scale * block, "size": block * 0 + block.shape[0]}


@pytest.mark.parametrize("num_rows", [1, 64, 65, 1024, 3 * 1024 + 5])
def test_blocks_have_two_sizes_and_answers_keep_the_order_of_the_rows(num_rows):
    rows = np.arange(num_rows, dtype=np.float32)
    answer = map_blocks(centred, rows, shared=(np.float32(2.0),))
    np.testing.assert_array_equal(answer["scaled"], 2.0 * rows)
    small, large = ROWS_PER_CALL
    np.testing.assert_array_equal(answer["size"], small if num_rows <= small else large)


def add(shared, left, right):
    return shared + left["a"] * right


def test_a_function_of_one_row_sees_one_row_of_each_argument():
    left, right = np.arange(6.0, dtype=np.float32).reshape(2, 3), np.float32([10.0, 20.0])
    answer = map_rows(add, {"a": left}, right, shared=(np.float32(1.0),))
    np.testing.assert_array_equal(answer, 1.0 + left * right[:, None])
    with pytest.raises(ValueError, match="0 rows"):
        map_rows(add, {"a": left[:0]}, right[:0], shared=(np.float32(1.0),))
