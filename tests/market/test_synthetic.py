import jax
import numpy as np
import pandas as pd
import pytest
from scipy import stats

from densityjax.market import synthetic

WALKS = {"uniform": synthetic.uniform_walk_bars, "trend": synthetic.trend_regime_bars}


def simple_returns(bars):
    return (bars["close"] / bars["open"] - 1.0).to_numpy()


@pytest.mark.parametrize("name", WALKS)
def test_bars_are_valid_and_one_key_gives_one_series(name):
    walk = WALKS[name]
    bars, again, other = (walk(jax.random.key(k), 3_000) for k in (0, 0, 1))
    pd.testing.assert_frame_equal(bars, again)
    assert not np.allclose(bars["close"], other["close"])
    assert (bars > 0.0).all(axis=None)
    assert (bars["high"] >= bars[["open", "close"]].max(axis=1)).all()
    assert (bars["low"] <= bars[["open", "close"]].min(axis=1)).all()
    np.testing.assert_array_equal(bars["open"].to_numpy()[1:], bars["close"].to_numpy()[:-1])
    assert bars.index.name == "timestamp"
    assert str(bars.index.tz) == "UTC"


def test_uniform_walk_returns_are_uniform_within_two_percent():
    returns = simple_returns(synthetic.uniform_walk_bars(jax.random.key(2), 5_000))
    assert stats.kstest(returns, "uniform", args=(-0.02, 0.04)).pvalue > 0.01


def test_trend_is_constant_for_a_hundred_bars_and_redrawn_after():
    bars = synthetic.trend_regime_bars(
        jax.random.key(3), 20_000, max_noise=0.001, floor=1e-300, ceiling=1e300
    )
    blocks = simple_returns(bars).reshape(-1, 100)
    spread = blocks.max(axis=1) - blocks.min(axis=1)  # one trend: at most twice the noise
    assert (spread <= 0.002 + 1e-9).all()
    means = blocks.mean(axis=1)
    assert np.abs(means).max() < 0.002 + 5.0 * 0.001 / np.sqrt(300.0)
    expected = np.sqrt(0.004**2 / 12.0 + 0.002**2 / 12.0 / 100.0)
    assert abs(means.std() / expected - 1.0) < 5.0 / np.sqrt(2.0 * len(means))
    assert abs(np.corrcoef(means[1:], means[:-1])[0, 1]) < 5.0 / np.sqrt(len(means))


def test_the_clamp_holds_every_price_in_the_band_and_is_reached():
    bars = synthetic.trend_regime_bars(jax.random.key(4), 20_000)
    prices = bars[["open", "high", "low", "close"]].to_numpy()
    assert prices.min() == 30_000.0
    assert prices.max() == 80_000.0
    free = (bars["close"] > 30_000.0) & (bars["close"] < 80_000.0)
    assert np.abs(simple_returns(bars))[free.to_numpy()].max() <= 0.017 + 1e-9


@pytest.mark.parametrize("name", WALKS)
@pytest.mark.parametrize(
    ("change", "match"),
    [({"num_bars": 1}, "num_bars"), ({"initial_price": -1.0}, "initial_price")],
)
def test_bad_arguments_are_refused(name, change, match):
    with pytest.raises(ValueError, match=match):
        WALKS[name](jax.random.key(0), **({"num_bars": 10} | change))


def test_bad_sizes_and_bands_are_refused():
    with pytest.raises(ValueError, match="fraction"):
        synthetic.uniform_walk_bars(jax.random.key(0), 10, max_move=2.0)
    with pytest.raises(ValueError, match="floor"):
        synthetic.trend_regime_bars(jax.random.key(0), 10, floor=60_000.0)
