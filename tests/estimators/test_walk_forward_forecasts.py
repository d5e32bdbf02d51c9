"""Walk-forward refits: equal to a loop of single fits, causal, one forecast for every later bar."""

import jax
import numpy as np
import pytest

from densityjax.estimators import (
    ReturnForecaster,
    forecast_rows,
    walk_forward,
    walk_forward_forecasts,
)
from densityjax.market import simulate_market

# Single fits have the bars and options of the tests of the forecaster, and so their programs.
TRAIN_BARS, REFIT_EVERY = 3000, 250
OPTIONS = {
    "num_members": 2,
    "num_bins": 4,
    "width": 8,
    "num_epochs": 12,
    "batch_size": 128,
    "learning_rate": 2e-3,
}
BARS = simulate_market(jax.random.key(9), 3650).bars  # three windows, the last block not full
FIRST_FORECAST = BARS.index[TRAIN_BARS]


def walk(bars=BARS, *, expanding=False, refit_every=REFIT_EVERY, **options):
    return walk_forward_forecasts(
        bars,
        train_bars=TRAIN_BARS,
        refit_every=refit_every,
        forecaster=ReturnForecaster(**{**OPTIONS, **options}),
        expanding=expanding,
    )


@pytest.fixture(scope="module")
def rolling():
    return walk()


def assert_equals_a_loop(
    forecast, *, expanding=False, num_blocks=3, refit_every=REFIT_EVERY, **options
):
    """Compares each block with the forecasts of one estimator that is fitted before it."""
    for block in range(num_blocks):
        end = TRAIN_BARS + block * refit_every
        start = 0 if expanding else end - TRAIN_BARS
        single = ReturnForecaster(**{**OPTIONS, **options}).fit(BARS.iloc[start:end])
        answer = single.predict(BARS)
        is_block = answer.index.isin(BARS.index[end : end + refit_every])
        part = forecast[np.flatnonzero(forecast.index.isin(answer.index[is_block]))]
        assert len(part) == is_block.sum() > 0
        for leaf, same in zip(
            jax.tree.leaves(part.members),
            jax.tree.leaves(answer[is_block].members),
            strict=True,
        ):
            np.testing.assert_allclose(leaf, same, rtol=2e-3, atol=2e-4)


def test_rolling_windows_in_one_program_give_what_a_loop_of_fits_gives(rolling):
    assert_equals_a_loop(rolling)


def test_a_single_member_and_a_longer_horizon_go_the_same_way():
    options = {"num_members": 1, "horizon": 4, "tail": "none"}
    assert_equals_a_loop(walk(**options), num_blocks=2, **options)


def test_expanding_windows_learn_from_all_bars_before(rolling):
    # The rows of three windows fill up to one size; the fourth is of the next, fitted apart.
    forecast = walk(BARS.iloc[: TRAIN_BARS + 3 * 2 + 1], expanding=True, refit_every=2)
    assert len(forecast) == 7
    assert_equals_a_loop(forecast, expanding=True, num_blocks=3, refit_every=2)
    spread, rolling_spread = forecast.std(), rolling[:7].std()
    np.testing.assert_allclose(spread[:2], rolling_spread[:2], rtol=1e-3)
    assert (spread[2:] != rolling_spread[2:]).all()


def test_every_bar_after_the_first_window_is_forecast_once(rolling):
    assert rolling.index.equals(BARS.index[TRAIN_BARS:])
    standard = forecast_rows(BARS)
    scale = np.exp(standard.log_scale[np.isin(standard.index, rolling.index)])
    assert (np.abs(np.log(rolling.std() / scale)) < 1.5).all()


def test_bars_replaced_change_no_earlier_forecast_and_the_refit_after_them(rolling):
    last = TRAIN_BARS + REFIT_EVERY + 100
    changed = BARS.copy()
    prices = ["open", "high", "low", "close"]
    noise = np.random.default_rng(0).uniform(0.8, 1.25, (len(BARS) - last, 1))
    changed.loc[BARS.index[last] :, prices] *= noise
    high, low = changed[prices].max(axis=1), changed[prices].min(axis=1)
    again = walk(changed.assign(high=high, low=low))
    is_past = rolling.index < BARS.index[last]
    for probability in (0.05, 0.5):
        now, then = again.quantile(probability), rolling.quantile(probability)
        np.testing.assert_array_equal(now[is_past], then[is_past])
        assert (now[~is_past] != then[~is_past]).all()


@pytest.mark.parametrize(
    ("sizes", "match"),
    [
        ({"train_bars": 0, "refit_every": 10}, "train_bars is 0: accepted is an integer >= 1"),
        ({"train_bars": 700, "refit_every": 2.5}, "refit_every is 2.5"),
        ({"train_bars": 5000, "refit_every": 10}, "train_bars is 5000 of 3650 bars"),
        ({"train_bars": 100, "refit_every": 700}, "too few"),
        ({"train_bars": 30, "refit_every": 700}, "bars has 30 rows"),
    ],
)
def test_sizes_that_leave_nothing_to_fit_or_forecast_are_named(sizes, match):
    with pytest.raises(ValueError, match=match):
        walk_forward_forecasts(BARS, **sizes, forecaster=ReturnForecaster(**OPTIONS))


def test_a_fit_that_breaks_names_its_window(monkeypatch):
    start = walk_forward._over_windows

    def broken(init):
        """Starts member 0 of window 2 from parameters that are no numbers."""

        def one(*arguments):
            params = start(init)(*arguments)
            return jax.tree.map(lambda leaf: leaf.at[2, 0].set(np.nan), params)

        return one

    monkeypatch.setattr(walk_forward, "_over_windows", broken)
    with pytest.raises(FloatingPointError, match=r"epoch 0, batch 0 of member 0 of window 2;"):
        walk()
