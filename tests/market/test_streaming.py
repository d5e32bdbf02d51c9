import numpy as np
import pandas as pd
import pytest

from densityjax.market.features import FEATURE_SETS, compute_features, longest_window
from densityjax.market.streaming import init_stream, step

SETS = [*FEATURE_SETS, "context"]


def random_bars(num_bars=140, *, freq="1h", seed=0):
    rng = np.random.default_rng(seed)
    close = 30 * np.exp(np.cumsum(0.01 * rng.standard_t(4, num_bars)))
    open_ = np.r_[30.0, close[:-1]]
    columns = {
        "open": open_,
        "high": np.maximum(open_, close) * np.exp(0.01 * rng.uniform(size=num_bars)),
        "low": np.minimum(open_, close) * np.exp(-0.01 * rng.uniform(size=num_bars)),
        "close": close,
        "volume": rng.lognormal(2.0, 0.5, num_bars),
        "is_filled": np.zeros(num_bars, bool),
    }
    index = pd.date_range("2024-03-01", periods=num_bars, freq=freq, tz="UTC", name="timestamp")
    return pd.DataFrame(columns, index=index)


def stream(bars, name, **options):
    """All rows of the stream, and the state after each bar."""
    states, rows = [init_stream(name, **options)], []
    for _, bar in bars.iterrows():
        state, row = step(states[-1], bar)
        states.append(state)
        if row is not None:
            rows.append(row)
    return pd.DataFrame(rows), states


@pytest.mark.parametrize("published", [False, True])
@pytest.mark.parametrize("name", SETS)
def test_ec_06_streamed_rows_equal_the_batch_bit_for_bit(name, published):
    bars = random_bars()
    batch = compute_features(bars, name, published=published)
    rows, _ = stream(bars, name, published=published)
    assert list(rows.columns) == list(batch.columns)
    assert (rows.index == batch.index).all()
    assert np.array_equal(rows, batch)


@pytest.mark.parametrize("name", SETS)
def test_ex_14_a_filled_bar_silences_stream_and_batch_alike(name):
    bars = random_bars(200, freq="1D")
    bars.iloc[90, :4] = bars.close.iloc[89]
    bars.iloc[90, 4:] = [0.0, True]
    batch = compute_features(bars, name)
    rows, _ = stream(bars, name)
    assert len(batch) < 200 - longest_window(name)
    assert (rows.index == batch.index).all()
    assert np.array_equal(rows, batch)


@pytest.mark.parametrize("name", ["energy_companion", "context"])
def test_stepping_an_old_state_again_gives_the_same_row(name):
    bars = random_bars(80)
    _, states = stream(bars, name)
    _, first = step(states[70], bars.iloc[70])
    _, other = step(states[70], bars.iloc[70] * [1.0, 1.1, 1.0, 1.1, 1.0, 1.0])
    _, again = step(states[70], bars.iloc[70])
    assert first is not None
    assert other is not None
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


@pytest.mark.parametrize("name", SETS)
def test_the_state_holds_the_longest_window_and_one_bar_more(name):
    _, states = stream(random_bars(), name)
    assert len(states[-1].tail.close) == longest_window(name) + 1


def test_a_stream_without_volume_leaves_its_features_out():
    bars = random_bars(90).drop(columns=["volume", "is_filled"])
    rows, _ = stream(bars, "context", has_volume=False)
    assert np.array_equal(rows, compute_features(bars, "context"))


def test_a_bar_may_be_a_plain_mapping():
    bars = random_bars(30)
    state, row = init_stream("flow"), None
    for bar in bars.reset_index().to_dict("records"):
        state, row = step(state, bar)
    assert row is not None
    assert np.array_equal(row, compute_features(bars, "flow").iloc[-1])


def test_a_bar_out_of_order_or_without_time_is_refused():
    bars = random_bars(30)
    _, states = stream(bars, "flow")
    with pytest.raises(ValueError, match="after the last"):
        step(states[-1], bars.iloc[-1])
    with pytest.raises(ValueError, match="timestamp"):
        step(states[-1], {"open": 1.0, "high": 1.0, "low": 1.0, "close": 1.0})
    with pytest.raises(ValueError, match="close must be"):
        step(states[-1], bars.iloc[-1] * [1.0, 1.0, 1.0, -1.0, 1.0, 1.0])
