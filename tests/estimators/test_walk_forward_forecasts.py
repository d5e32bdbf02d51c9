"""Walk-forward refits: equal to a loop of single fits, causal, one forecast for every later bar."""

import jax
import numpy as np
import pytest

from densityjax.estimators import ReturnForecaster, forecast_rows, walk_forward_forecasts
from densityjax.market import simulate_market

TRAIN_BARS, REFIT_EVERY = 700, 250
OPTIONS = {
    "num_members": 2,
    "num_bins": 4,
    "width": 8,
    "num_epochs": 4,
    "batch_size": 128,
    "learning_rate": 2e-3,
}
BARS = simulate_market(jax.random.key(9), 1350).bars  # three windows, the last block not full
FIRST_FORECAST = BARS.index[TRAIN_BARS]


def walk(bars=BARS, *, expanding=False, **options):
    return walk_forward_forecasts(
        bars,
        train_bars=TRAIN_BARS,
        refit_every=REFIT_EVERY,
        forecaster=ReturnForecaster(**{**OPTIONS, **options}),
        expanding=expanding,
    )


@pytest.fixture(scope="module")
def rolling():
    return walk()


def assert_equals_a_loop(forecast, *, expanding=False, num_blocks=3, **options):
    """Compares each block with the forecasts of one estimator that is fitted before it."""
    for block in range(num_blocks):
        end = TRAIN_BARS + block * REFIT_EVERY
        start = 0 if expanding else end - TRAIN_BARS
        single = ReturnForecaster(**{**OPTIONS, **options}).fit(BARS.iloc[start:end])
        answer = single.predict(BARS)
        is_block = answer.index.isin(BARS.index[end : end + REFIT_EVERY])
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
    forecast = walk(num_members=1, horizon=4)
    assert_equals_a_loop(forecast, num_blocks=1, num_members=1, horizon=4)


def test_expanding_windows_learn_from_all_bars_before(rolling):
    forecast = walk(BARS.iloc[: TRAIN_BARS + REFIT_EVERY + 5], expanding=True)
    assert_equals_a_loop(forecast, expanding=True, num_blocks=1)
    first = forecast.index < BARS.index[TRAIN_BARS + REFIT_EVERY]
    np.testing.assert_allclose(forecast[first].std(), rolling[: first.sum()].std(), rtol=1e-3)
    later = len(forecast) - first.sum()
    assert (forecast[~first].std() != rolling[first.sum() :][:later].std()).all()


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
        ({"train_bars": 5000, "refit_every": 10}, "train_bars is 5000 of 1350 bars"),
        ({"train_bars": 100, "refit_every": 700}, "too few"),
        ({"train_bars": 30, "refit_every": 700}, "bars has 30 rows"),
    ],
)
def test_sizes_that_leave_nothing_to_fit_or_forecast_are_named(sizes, match):
    with pytest.raises(ValueError, match=match):
        walk_forward_forecasts(BARS, **sizes, forecaster=ReturnForecaster(**OPTIONS))


def test_a_fit_that_breaks_names_its_window():
    with pytest.raises(FloatingPointError, match=r"member \d of window \d"):
        walk(learning_rate=1e30)
