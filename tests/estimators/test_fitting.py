"""Blocks of time for early stopping: who learns from what, and how far apart."""

import jax
import numpy as np
import pytest

from densityjax.estimators import _fitting
from densityjax.models import neural_spline_flow


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


def test_a_single_member_sees_exactly_the_rows_of_its_weights(monkeypatch):
    seen = {}

    def fit_ensemble(keys, loss_fn, params, data, **options):
        seen.update(options, data=data)

    monkeypatch.setattr(_fitting.training, "fit_ensemble", fit_ensemble)
    rows = np.random.default_rng(0).standard_normal((403, 1))
    common = {"num_epochs": 3, "batch_size": 64, "patience": 2}
    rates = {"learning_rate": 1e-3, "weight_decay": 0.0}
    flow = neural_spline_flow(1, num_bins=4)
    for num_members in (1, 2):
        _fitting.fit_members(
            jax.random.key(0), flow, rows, None, num_members=num_members, purge=7, **common, **rates
        )
        weights, validation = _fitting.folds(403, num_members, 7)
        if num_members == 1:
            np.testing.assert_array_equal(seen["data"][0], rows[weights[0] > 0].astype("float32"))
            np.testing.assert_array_equal(
                seen["validation"][0], rows[validation[0] > 0].astype("float32")
            )
            assert seen["weights"] is seen["validation_weights"] is None
        else:
            assert seen["data"][0].shape == seen["validation"][0].shape == (403, 1)
            np.testing.assert_array_equal(seen["weights"], weights)
            np.testing.assert_array_equal(seen["validation_weights"], validation)
