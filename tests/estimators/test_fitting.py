"""Blocks of time for early stopping: who learns from what, and how far apart."""

import jax
import numpy as np
import pytest

from densityjax.estimators import _fitting
from densityjax.models import neural_spline_flow
from densityjax.training.fit import _compiled as compiled_fits


@pytest.mark.parametrize(("num_members", "num_blocks"), [(1, 5), (2, 5), (5, 5), (8, 8)])
def test_members_stop_on_blocks_of_their_own_away_from_what_they_learn(num_members, num_blocks):
    num_rows, purge = 403, 7
    train, validation = _fitting.folds(num_rows, num_members, purge)
    assert train.shape == validation.shape == (num_members, num_rows)
    assert set(np.unique(train)) == set(np.unique(validation)) == {0.0, 1.0}
    np.testing.assert_allclose(validation.sum(1), num_rows / num_blocks, atol=1)
    assert validation.sum(0).max() == 1  # no two members stop on the same rows
    for learns, stops in zip(train, validation, strict=True):
        distance = np.abs(np.flatnonzero(learns)[:, None] - np.flatnonzero(stops))
        assert distance.min() == purge + 1
    assert validation[0, -1] == 1  # a single member stops on the last rows
    # Purged rows alone are lost to a member.
    inside = train.sum(1) + validation.sum(1)
    assert ((num_rows - inside) % purge == 0).all()
    assert (inside >= num_rows - 2 * purge).all()


def test_too_few_rows_say_how_many_are_needed():
    with pytest.raises(ValueError, match="30 rows are too few: 5 blocks with a purge of 12"):
        _fitting.folds(30, 1, 12)
    with pytest.raises(ValueError, match="num_members is 0"):
        _fitting.folds(30, 0, 1)


@pytest.mark.parametrize(
    ("num_rows", "size"), [(10, 256), (16_384, 256), (65_536, 1024), (10**7, 2048)]
)
def test_batches_grow_with_the_rows_within_limits(num_rows, size):
    assert _fitting.default_batch_size(num_rows) == size


def test_a_joint_density_takes_smaller_batches_and_fewer_epochs_of_more_rows():
    sizes = [_fitting.default_batch_size(n, num_steps=192) for n in (52_000, 10**5, 10**7)]
    assert sizes == [256, 512, 2048]
    assert [_fitting.default_num_epochs(n) for n in (0, 1500, 5000, 15_000, 10**6)] == [
        200,
        200,
        60,
        20,
        20,
    ]


@pytest.mark.parametrize(
    ("num_rows", "size"), [(0, 0), (1, 1), (31, 31), (33, 34), (403, 416), (416, 416), (1500, 1536)]
)
def test_rows_fill_up_to_sixteen_sizes_an_octave(num_rows, size):
    assert _fitting.padded_size(num_rows) == size


@pytest.mark.parametrize("num_members", [1, 3])
def test_each_member_learns_from_and_stops_on_its_own_rows_whatever_fills_them_up(num_members):
    rows = np.random.default_rng(0).standard_normal((403, 2)), np.arange(403.0)[:, None]
    parts = _fitting.fit_rows(*rows, num_members=num_members, purge=7)
    folds = _fitting.folds(403, num_members, 7)
    for data, weights, wanted in zip(parts[::2], parts[1::2], folds, strict=True):
        assert data[0].shape[0] == _fitting.padded_size(data[0].shape[0]) == weights.shape[1]
        for member in range(num_members):
            for leaf, whole in zip(data, rows, strict=True):
                np.testing.assert_array_equal(
                    leaf[weights[member] > 0], whole[wanted[member] > 0].astype("float32")
                )


def test_a_fit_of_a_few_more_rows_is_not_compiled_again():
    rows = np.random.default_rng(0).standard_normal((400, 1))
    flow = neural_spline_flow(1, num_bins=2)
    options = {"num_members": 2, "purge": 1, "num_epochs": 3, "batch_size": 64, "patience": 2}
    rates = {"learning_rate": 1e-3, "weight_decay": 0.0}
    misses = []
    for num_rows in (385, 400):
        _fitting.fit_members(jax.random.key(0), flow, rows[:num_rows], None, **options, **rates)
        misses.append(compiled_fits.cache_info().misses)
        assert _fitting.init_members(flow)._cache_size() == 1
    assert misses[0] == misses[1]
