import numpy as np
import pandas as pd
import pytest

from densityjax.market.features import FEATURE_SETS, compute_features, longest_window

SETS = [*FEATURE_SETS, "context"]
SAMPLE = 48  # rows of a Jacobian


def random_bars(num_bars, *, step="1h", seed=0):
    """Bars of a random walk with gaps at the open, wicks and volume."""
    rng = np.random.default_rng(seed)
    scale = 0.01 * np.exp(np.sin(np.arange(num_bars) / 40))
    close = 100 * np.exp(np.cumsum(scale * rng.standard_t(4, num_bars)))
    open_ = np.r_[100.0, close[:-1]] * np.exp(0.002 * rng.standard_normal(num_bars))
    wicks = np.exp(0.004 * rng.exponential(size=(2, num_bars)))
    columns = {
        "open": open_,
        "high": np.maximum(open_, close) * wicks[0],
        "low": np.minimum(open_, close) / wicks[1],
        "close": close,
        "volume": rng.lognormal(3.0, 0.7, num_bars),
    }
    index = pd.date_range("2024-01-01", periods=num_bars, freq=step, tz="UTC", name="timestamp")
    return pd.DataFrame(columns, index=index)


def splice(past, future, cut):
    """`past` up to row `cut`, then the columns of `future`."""
    bars = past.copy()
    bars.iloc[cut:] = future.iloc[cut:].to_numpy()
    return bars


@pytest.mark.parametrize("step", ["1D", "1h", "5min"])
@pytest.mark.parametrize("name", SETS)
def test_another_future_leaves_past_rows_bit_for_bit(name, step):
    bars, other = random_bars(700, step=step), random_bars(700, step=step, seed=1)
    cut = 401
    whole = compute_features(bars, name, published=True)
    spliced = compute_features(splice(bars, other, cut), name, published=True)
    past = whole.index < bars.index[cut]
    assert past.sum() == cut - longest_window(name)
    assert np.array_equal(whole[past].to_numpy(), spliced[past].to_numpy())
    assert (whole[~past].to_numpy() != spliced[~past].to_numpy()).any(axis=1).all()


@pytest.mark.parametrize("name", SETS)
@pytest.mark.parametrize("cut", [67, 128, 333])
def test_cutting_the_future_off_leaves_past_rows_bit_for_bit(name, cut):
    bars = random_bars(400)
    whole = compute_features(bars, name)
    short = compute_features(bars.iloc[:cut], name)
    assert np.array_equal(whole.to_numpy()[: len(short)], short.to_numpy())


@pytest.mark.parametrize("name", SETS)
@pytest.mark.parametrize("column", ["close", "volume"])
def test_the_jacobian_in_bars_is_zero_above_the_diagonal_and_not_on_it(name, column):
    num_bars = longest_window(name) + SAMPLE
    bars = random_bars(num_bars)
    base = compute_features(bars, name).to_numpy()
    moved = np.zeros((SAMPLE, SAMPLE))  # row of features, bar moved
    for bar in range(SAMPLE):
        bumped = bars.copy()
        row = longest_window(name) + bar
        factor = 1.001 if column == "volume" else 1.0 + 1e-6  # small beside the wicks of 4e-3
        bumped.iloc[row, bumped.columns.get_loc(column)] *= factor
        moved[:, bar] = np.abs(compute_features(bumped, name).to_numpy() - base).max(axis=1)
    assert not np.triu(moved, 1).any()
    assert (np.diag(moved) > 0).all()
    assert (np.diag(moved, -1) > 0).all()
