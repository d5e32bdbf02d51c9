"""Bar primitives against bars worked by hand."""

import numpy as np
import pandas as pd
import pytest

from densityjax.market import primitives

# A rising bar, a bar that gaps up, one that gaps down, and a flat one.
BARS = pd.DataFrame(
    {
        "open": [100.0, 120.0, 90.0, 96.0],
        "high": [110.0, 126.0, 99.0, 96.0],
        "low": [95.0, 117.0, 88.0, 96.0],
        "close": [106.0, 118.0, 96.0, 96.0],
    },
    index=pd.date_range("2024-01-01", periods=4, freq="h", tz="UTC", name="timestamp"),
)
BY_HAND = {
    "typical_price": [311.0 / 3.0, 361.0 / 3.0, 283.0 / 3.0, 96.0],
    "bar_range": [15.0, 9.0, 11.0, 0.0],
    "body": [6.0, 2.0, 6.0, 0.0],
    "upper_wick": [4.0, 6.0, 3.0, 0.0],
    "lower_wick": [5.0, 1.0, 2.0, 0.0],
    "is_bullish": [True, False, True, False],
    "is_bearish": [False, True, False, False],
    "true_range": [15.0, 20.0, 30.0, 0.0],  # 126 - 106 and 118 - 88 span the gaps
    "simple_returns": [np.nan, 12.0 / 106.0, -22.0 / 118.0, 0.0],
    "log_returns": [np.nan, np.log(118.0 / 106.0), np.log(96.0 / 118.0), 0.0],
}


@pytest.mark.parametrize("name", BY_HAND)
def test_primitives_equal_the_bars_worked_by_hand(name):
    found = getattr(primitives, name)(BARS)
    expected = pd.Series(BY_HAND[name], index=BARS.index)
    pd.testing.assert_series_equal(found, expected, rtol=1e-14)


def test_return_from_k_looks_back_k_bars_on_frames_and_series():
    expected = [np.nan, np.nan, 96.0 / 106.0 - 1.0, 96.0 / 118.0 - 1.0]
    np.testing.assert_allclose(primitives.return_from(BARS, 2), expected, rtol=1e-14)
    np.testing.assert_allclose(primitives.return_from(BARS["close"], 2), expected, rtol=1e-14)
    assert primitives.return_from(BARS, 9).isna().all()
    with pytest.raises(ValueError, match="k must be at least 1 bar, got 0"):
        primitives.return_from(BARS, 0)


def test_ex_14_no_return_is_counted_across_a_filled_row():
    closes = [1.0, 2.0, 2.0, 3.0, 4.0, 5.0, 6.0]
    bars = pd.DataFrame({"close": closes, "is_filled": [i == 2 for i in range(7)]})
    for returns in (primitives.simple_returns(bars), primitives.log_returns(bars)):
        assert returns.isna().tolist() == [True, False, True, True, False, False, False]
    three = primitives.return_from(bars, 3)
    assert three.isna().tolist() == [True, True, True, True, True, True, False]
    assert three.iloc[6] == 1.0
