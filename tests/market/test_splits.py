"""Chronological splits and their purge."""

import numpy as np
import pandas as pd
import pytest

from densityjax.market.splits import split


def bars_of(part, window, horizon):
    """Indices of all bars that the rows of a part read, as inputs or as targets."""
    return {
        bar for t in range(part.start, part.stop) for bar in range(t - window + 1, t + horizon + 1)
    }


@pytest.mark.parametrize(("window", "horizon"), [(1, 1), (20, 1), (50, 5)])
def test_ex_15_no_input_bar_occurs_in_two_splits(window, horizon):
    parts = split(1_000, purge=window + horizon)
    train, validation, test = (bars_of(part, window, horizon) for part in parts)
    assert not train & validation
    assert not validation & test
    assert not train & test


def test_ex_15_without_the_purge_neighbours_share_bars():
    train, validation, _ = (bars_of(part, 20, 1) for part in split(1_000, purge=0))
    assert len(train & validation) == 20


def test_parts_are_in_order_and_drop_exactly_the_purge():
    parts = split(1_000, purge=30)
    assert parts.train == slice(0, 658)  # 70 % of the 940 rows that remain
    assert parts.validation == slice(688, 829)
    assert parts.test == slice(859, 1_000)


@pytest.mark.parametrize("num_rows", [127, 128, 1_003])
@pytest.mark.parametrize("fractions", [(0.7, 0.15, 0.15), (0.6, 0.2, 0.2), (0.1, 0.1, 0.8)])
def test_fractions_hold_to_a_row_and_no_row_is_lost(num_rows, fractions):
    parts = split(num_rows, fractions=fractions, purge=10)
    sizes = np.array([part.stop - part.start for part in parts])
    assert sizes.sum() == num_rows - 20
    assert (np.abs(sizes - np.array(fractions) * (num_rows - 20)) < 2).all()


def test_an_index_and_a_frame_split_as_their_length():
    index = pd.date_range("2024-01-01", periods=500, freq="h", tz="UTC")
    frame = pd.DataFrame({"close": np.arange(500.0)}, index=index)
    parts = split(frame, purge=5)
    assert parts == split(index, purge=5) == split(500, purge=5)
    assert frame.iloc[parts.train].index.max() < frame.iloc[parts.validation].index.min()


def test_too_few_rows_say_how_many_are_needed_and_that_many_are_enough():
    with pytest.raises(ValueError, match=r"46 rows are too few: purge=20 .* need at least 47"):
        split(46, purge=20)
    assert all(part.stop > part.start for part in split(47, purge=20))
    with pytest.raises(ValueError, match="1 rows are too few"):
        split(1, purge=0)


@pytest.mark.parametrize(
    ("fractions", "message"),
    [
        ((0.7, 0.2, 0.2), "must sum to 1, got .*1.1"),
        ((0.7, 0.3), "must be three numbers"),
        ((1.0, 0.0, 0.0), "between 0 and 1"),
        ((1.2, -0.1, -0.1), "between 0 and 1"),
    ],
)
def test_bad_fractions_are_refused(fractions, message):
    with pytest.raises(ValueError, match=message):
        split(1_000, fractions=fractions, purge=0)


def test_a_negative_purge_is_refused():
    with pytest.raises(ValueError, match=r"purge must be .* got -1"):
        split(1_000, purge=-1)
