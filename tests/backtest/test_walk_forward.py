"""Folds that never touch, one stitched account, choices made on the past alone."""

import functools

import jax.numpy as jnp
import numpy as np
import pytest
from scipy import special

from densityjax.backtest import Costs, Prices, inference, metrics, product_grid, run
from densityjax.backtest.cross_validation import (
    assemble_paths,
    backtest_paths,
    combinatorial_purged_splits,
)
from densityjax.backtest.walk_forward import walk_forward, walk_forward_folds

SIZES = {"train_bars": 60, "selection_bars": 50, "test_bars": 40}


def test_rolling_folds_by_hand():
    folds = walk_forward_folds(30, train_bars=8, test_bars=6, selection_bars=4, purge=2, embargo=1)
    first, second = folds[:2]
    assert (first.train, first.selection, first.test) == (slice(0, 8), slice(11, 15), slice(18, 24))
    assert (second.train, second.selection) == (slice(6, 14), slice(17, 21))
    assert second.test == slice(24, 30)
    plain = walk_forward_folds(20, train_bars=8, test_bars=5, purge=1)
    assert [f.test for f in plain] == [slice(9, 14), slice(14, 19), slice(19, 20)]
    assert plain[0].selection == slice(8, 8)


@pytest.mark.parametrize("anchored", [False, True])
def test_pre_06_every_test_bar_is_after_what_was_learned_from_and_the_gap(anchored):
    folds = walk_forward_folds(
        400, train_bars=70, test_bars=37, selection_bars=20, purge=3, embargo=5, anchored=anchored
    )
    tested = np.concatenate([np.arange(400)[fold.test] for fold in folds])
    np.testing.assert_array_equal(tested, np.arange(tested[0], 400))  # once each, none missing
    for fold in folds:
        assert fold.train.stop + 8 == fold.selection.start
        assert fold.selection.stop + 8 == fold.test.start
        assert fold.train.start == (0 if anchored else fold.train.stop - 70)
    with pytest.raises(ValueError, match="30 rows leave none to test"):
        walk_forward_folds(30, train_bars=30, test_bars=1)
    with pytest.raises(ValueError, match="purge is -1"):
        walk_forward_folds(30, train_bars=3, test_bars=1, purge=-1)


def threshold(params, signal_t, state):
    """Long above an upper level, flat below a lower one: what is held depends on the past."""
    enters, leaves = signal_t > params["level"], signal_t < -params["level"]
    held = jnp.where(enters, 1.0, jnp.where(leaves, 0.0, state))
    return params["sign"] * held, held


@pytest.fixture(scope="module")
def market():
    rng = np.random.default_rng(0)
    signal = rng.normal(size=400)
    returns = 0.01 * (0.8 * np.append(0.0, signal[:-1]) + rng.normal(size=400))
    return Prices(close=np.exp(np.cumsum(returns))), signal


GRID = product_grid(level=[0.2, 1.5], sign=[1.0, -1.0])


def standardised(signal, seen, rows):
    """A model: the mean and spread of its training rows."""
    seen.append(rows)
    part = signal[rows]
    return lambda asked: (signal[asked] - part.mean()) / part.std()


def forward(market, **kwargs):
    prices, signal = market
    seen = []
    fit_fn = functools.partial(standardised, signal, seen)
    options = {"fill": "same_close", "costs": Costs(5.0), "purge": 1, **SIZES, **kwargs}
    return walk_forward(fit_fn, threshold, GRID, prices, **options), seen


def test_a_planted_edge_is_chosen_and_earned_out_of_sample(market):
    found, seen = forward(market)
    assert [fold.train for fold in found.folds] == seen
    assert (np.asarray(GRID["sign"])[found.chosen] == 1.0).all()
    assert found.num_trials == 4 * len(found.folds)
    assert found.rows[0] == found.folds[0].test.start
    returns = np.asarray(found.result.returns, float)
    assert metrics.sharpe_ratio(returns) > 0.1
    psr = inference.deflated_sharpe_ratio(
        returns, num_trials=found.num_trials, sharpe_variance=found.sharpe_variance
    )
    assert 0.0 < psr < 1.0
    frame = found.to_frame()
    assert len(frame) == len(found.folds)
    assert (frame["test_start"] > frame["train_end"]).all()


def test_the_account_is_one_and_the_switch_of_rules_is_charged(market):
    prices, _ = market
    found, _ = forward(market)
    close = np.asarray(prices.close)[found.rows]
    again = run(found.weights, Prices(close=close), fill="same_close", costs=Costs(5.0))
    np.testing.assert_array_equal(again.equity, found.result.equity)
    # Positions are carried: at some border nothing is traded although something is held.
    borders = [fold.test.start - found.rows[0] for fold in found.folds[1:]]
    held = np.asarray(found.result.weights)[np.array(borders) - 1]
    assert (held != 0.0).any()
    # Each fold alone starts flat and ends in cash: it pays for entries that the account does not.
    traded = np.asarray(found.result.turnover, float).sum()
    apart = 0.0
    for fold in found.folds:
        rows = slice(fold.test.start - found.rows[0], fold.test.stop - found.rows[0])
        alone = run(
            found.weights[rows],
            Prices(close=close[rows]),
            fill="same_close",
            costs=Costs(5.0),
            liquidate=True,
        )
        apart += np.asarray(alone.turnover, float).sum()
    assert traded < apart - 0.5


def test_the_state_of_the_rule_is_carried_over_the_border(market):
    prices, _signal = market
    quiet = np.zeros(400)
    quiet[115] = 9.0  # enters inside the first test block and never sees a reason to leave

    def fit_fn(rows):
        return lambda asked: quiet[asked]

    one = {"level": np.array([1.0]), "sign": np.array([1.0])}
    found = walk_forward(
        fit_fn, threshold, one, prices, train_bars=100, test_bars=40, fill="same_close"
    )
    entered = 115 - found.rows[0]
    assert not found.weights[:entered].any()
    assert (found.weights[entered:] == 1.0).all()
    assert float(np.asarray(found.result.turnover).sum()) == pytest.approx(1.0, abs=0.05)
    assert np.isnan(found.sharpe_variance)
    assert found.num_trials == len(found.folds)


def test_nothing_of_a_test_block_changes_what_was_chosen_before_it(market):
    prices, signal = market
    found, _ = forward(market)
    border = found.folds[2].test.start
    rng = np.random.default_rng(1)
    other_signal = np.where(np.arange(400) < border, signal, rng.normal(size=400))
    close = np.asarray(prices.close)
    other = Prices(close=np.where(np.arange(400) < border, close, close[::-1]))
    changed, _ = forward((other, other_signal))
    done = border - found.rows[0]
    np.testing.assert_array_equal(changed.chosen[:3], found.chosen[:3])
    np.testing.assert_array_equal(changed.weights[:done], found.weights[:done])
    before = np.asarray(found.result.equity)[:done]
    np.testing.assert_array_equal(np.asarray(changed.result.equity)[:done], before)
    assert not np.array_equal(changed.weights[done:], found.weights[done:])


def test_noise_earns_nothing_beyond_luck():
    rng = np.random.default_rng(2)
    prices = Prices(close=np.exp(np.cumsum(0.01 * rng.normal(size=400))))
    found, _ = forward((prices, rng.normal(size=400)), costs=Costs(0.0))
    returns = np.asarray(found.result.returns, float)
    assert np.nanmean(found.selection_metric) > metrics.sharpe_ratio(returns)  # the choice is luck
    deflated = inference.deflated_sharpe_ratio(
        returns, num_trials=found.num_trials, sharpe_variance=found.sharpe_variance
    )
    assert deflated < 0.95


def test_a_choice_needs_rows_and_signals_need_as_many_rows_as_asked(market):
    with pytest.raises(ValueError, match="4 rules need 2 and more"):
        forward(market, selection_bars=0)
    prices, signal = market
    with pytest.raises(ValueError, match=r"has shape \(400,\): accepted is \[50\]"):
        walk_forward(lambda rows: lambda asked: signal, threshold, GRID, prices, **SIZES)


def test_rules_that_never_trade_leave_the_fold_flat(market):
    prices, _ = market
    found = walk_forward(
        lambda rows: lambda asked: np.zeros(asked.stop - asked.start),
        threshold,
        GRID,
        prices,
        fill="same_close",
        **SIZES,
    )
    assert (found.chosen == -1).all()
    assert not found.weights.any()
    with pytest.raises(ValueError, match="metric is 'luck'"):
        forward(market, metric="luck")


@pytest.mark.parametrize(
    ("purge", "embargo", "expected"),
    [
        (0, 0, [range(8, 12), range(4, 8), range(0, 4)]),
        (1, 0, [range(9, 12), range(5, 7), range(0, 3)]),
        (0, 1, [range(9, 12), range(5, 8), range(0, 4)]),
    ],
)
def test_ex_15_training_rows_of_three_folds_by_hand(purge, embargo, expected):
    splits = combinatorial_purged_splits(
        12, num_groups=3, num_test_groups=2, purge=purge, embargo=embargo
    )
    assert [list(split.train) for split in splits] == [list(rows) for rows in expected]


@pytest.mark.parametrize(("groups", "tests"), [(6, 2), (10, 2), (5, 1), (6, 3)])
def test_numbers_of_splits_and_paths_are_binomial(groups, tests):
    splits = combinatorial_purged_splits(
        61, num_groups=groups, num_test_groups=tests, purge=2, embargo=1
    )
    paths = backtest_paths(groups, tests)
    assert len(splits) == special.comb(groups, tests, exact=True)
    assert paths.shape == (special.comb(groups - 1, tests - 1, exact=True), groups)
    assert len(set(map(tuple, paths))) == len(paths)
    # Answers that name their split and row: each path holds every row once, from its split.
    answers = [np.concatenate(split.test) + 1000 * i for i, split in enumerate(splits)]
    stitched = assemble_paths(splits, answers)
    np.testing.assert_array_equal(stitched % 1000, np.tile(np.arange(61), (len(paths), 1)))
    used = np.unique(stitched // 1000)
    assert used.size == len(splits)
    for split in splits:
        for rows in split.test:
            near = np.arange(rows[0] - 2, rows[-1] + 1 + 2 + 1)
            assert not np.isin(near, split.train).any()


def test_cross_validation_refuses_what_leaves_nothing():
    with pytest.raises(ValueError, match="leave no training row"):
        combinatorial_purged_splits(12, num_groups=3, num_test_groups=2, purge=4)
    with pytest.raises(ValueError, match="num_test_groups is 3"):
        combinatorial_purged_splits(12, num_groups=3, num_test_groups=3, purge=0)
    with pytest.raises(ValueError, match="purge is -1"):
        combinatorial_purged_splits(12, num_groups=3, purge=-1)
    splits = combinatorial_purged_splits(12, num_groups=3, purge=0)
    with pytest.raises(ValueError, match=r"answers\[0\] has 2 rows"):
        assemble_paths(splits, [np.zeros(2)] * 3)
    with pytest.raises(ValueError, match="num_test_groups is 0 of 4"):
        backtest_paths(4, 0)
