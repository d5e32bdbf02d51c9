"""Regime labels: by hand, what they may read, and how much of each there is."""

import jax
import numpy as np
import pandas as pd
import pytest

from densityjax import market

BARS = market.simulate_market(jax.random.key(0), 1500).bars


def bars_of(returns):
    close = 100.0 * np.exp(np.cumsum(np.r_[0.0, returns]))
    index = pd.date_range("2024-01-01", periods=len(close), freq="1h", tz="UTC", name="timestamp")
    return pd.DataFrame({name: close for name in ("open", "high", "low", "close")}, index=index)


def test_reg_04_labels_follow_the_definition_first_match_first():
    rng = np.random.default_rng(0)
    wave = np.where(np.arange(400) % 2, 0.01, -0.01)
    returns = wave * rng.uniform(0.5, 1.5, 400)
    returns[100:121] += 0.02
    returns[200:221] -= 0.02
    returns[300:321] *= 20.0
    found = market.label_regimes(bars_of(returns), num_training=401, volatility_quantile=0.9463)
    # Row t looks at returns t .. t + 19 of this array, those of the bars after it.
    for row in range(381):
        window = returns[row : row + 20]
        sd, total = window.std(ddof=1), window.sum()
        expected = "mean_reverting"
        if total < -sd * 20**0.5:
            expected = "bear"
        if total > sd * 20**0.5:
            expected = "bull"
        if sd > found.volatility_threshold:
            expected = "high_volatility"
        assert found.labels.iloc[row] == expected, row
    assert found.labels.iloc[[100, 200, 300]].tolist() == ["bull", "bear", "high_volatility"]
    windows = np.lib.stride_tricks.sliding_window_view(returns, 20)
    threshold = np.quantile(windows.std(axis=1, ddof=1), 0.9463)
    assert found.volatility_threshold == pytest.approx(threshold, rel=1e-9)


def test_the_last_rows_have_no_label_and_shares_are_of_the_others():
    found = market.label_regimes(BARS, num_training=1000)
    assert found.labels.iloc[-20:].isna().all()
    assert found.labels.iloc[:-20].notna().all()
    counts = found.labels.iloc[:-20].value_counts()
    for name, share in found.shares.items():
        assert share == pytest.approx(counts.get(name, 0) / 1480)
    assert found.shares.sum() == pytest.approx(1.0)
    # The fifth of training windows above the threshold are the volatile ones, by construction.
    volatile = (found.labels.iloc[:980] == "high_volatility").mean()
    assert volatile == pytest.approx(0.2, abs=1e-3)


def test_e338_15_labels_stand_whatever_comes_after_their_horizon():
    first = market.label_regimes(BARS, num_training=800)
    edited = BARS.copy()
    prices = ["open", "high", "low", "close"]
    edited.iloc[901:, edited.columns.get_indexer(prices)] *= 3.0
    second = market.label_regimes(edited, num_training=800)
    assert first.volatility_threshold == second.volatility_threshold
    pd.testing.assert_series_equal(first.labels.iloc[:881], second.labels.iloc[:881])
    assert first.labels.iloc[881:901].ne(second.labels.iloc[881:901]).any()


def test_rows_whose_next_returns_lead_through_a_filled_bar_have_no_label():
    bars = BARS.assign(is_filled=np.arange(len(BARS)) == 100)
    found = market.label_regimes(bars, num_training=1000)
    # Neither the return into bar 100 nor the one out of it is one that traded.
    assert found.labels.iloc[80:101].isna().all()
    assert found.labels.iloc[:80].notna().all()
    assert found.labels.iloc[101:-20].notna().all()


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"num_training": 2000}, "num_training is 2000: accepted is above the horizon of 20"),
        ({"num_training": 20}, "num_training is 20"),
        ({"num_training": 900, "horizon": 1}, "horizon is 1: accepted"),
        ({"num_training": 900, "volatility_quantile": 1.0}, r"volatility_quantile is 1\.0"),
    ],
)
def test_wrong_arguments_are_named(options, match):
    with pytest.raises(ValueError, match=match):
        market.label_regimes(BARS, **options)
