import numpy as np
import pandas as pd
import pytest

from densityjax.market import indicators as ind

RNG = np.random.default_rng(5)
N = 200
CLOSE = 50 * np.exp(np.cumsum(0.02 * RNG.standard_normal(N)))
HIGH = CLOSE * np.exp(0.01 * RNG.exponential(size=N))
LOW = CLOSE * np.exp(-0.01 * RNG.exponential(size=N))
OPEN = LOW + (HIGH - LOW) * RNG.uniform(size=N)
VOLUME = RNG.lognormal(2.0, 1.0, N)
C, V = pd.Series(CLOSE), pd.Series(VOLUME)
RETURNS = C.pct_change()


def loop(first, value):
    """A plain loop over rows, NaN before row `first`."""
    return np.array([value(t) if t >= first else np.nan for t in range(N)])


def last(series, t, window):
    return series.iloc[t + 1 - window : t + 1]


def rsi_at(t, window=14):
    change = np.diff(CLOSE)[t - window : t]
    gain, loss = change[change > 0].sum(), -change[change < 0].sum()
    return gain / (gain + loss)


def true_range_at(t):
    before = [abs(HIGH[t] - CLOSE[t - 1]), abs(LOW[t] - CLOSE[t - 1])] if t else []
    return max(HIGH[t] - LOW[t], *before) if t else HIGH[0] - LOW[0]


def ema_at(values, t, span):
    weights = (1 - 2 / (span + 1)) ** np.arange(t, -1, -1)
    return (weights * values[: t + 1]).sum() / weights.sum()


TR = np.array([true_range_at(t) for t in range(N)])
CASES = {
    "sma": (ind.sma(CLOSE, 7), loop(6, lambda t: last(C, t, 7).mean())),
    "ema": (ind.ema(CLOSE, 9), loop(0, lambda t: ema_at(CLOSE, t, 9))),
    "plain ema": (
        ind.ema(CLOSE, 9, bias_corrected=False),
        C.ewm(span=9, adjust=False).mean().to_numpy(),
    ),
    "volatility": (ind.volatility(RETURNS, 20), loop(20, lambda t: last(RETURNS, t, 20).std())),
    "volatility ratio": (
        ind.volatility_ratio(RETURNS, 5, 20),
        loop(20, lambda t: last(RETURNS, t, 5).std() / last(RETURNS, t, 20).std()),
    ),
    "returns": (ind.simple_returns(CLOSE), loop(1, lambda t: CLOSE[t] / CLOSE[t - 1] - 1)),
    "log returns": (ind.log_returns(CLOSE), loop(1, lambda t: np.log(CLOSE[t] / CLOSE[t - 1]))),
    "skewness": (ind.skewness(RETURNS, 20), loop(20, lambda t: last(RETURNS, t, 20).skew())),
    "kurtosis": (ind.kurtosis(RETURNS, 20), loop(20, lambda t: last(RETURNS, t, 20).kurt())),
    "zscore": (
        ind.zscore(VOLUME, 20),
        loop(19, lambda t: (V[t] - last(V, t, 20).mean()) / last(V, t, 20).std()),
    ),
    "ratio to mean": (
        ind.ratio_to_mean(VOLUME, 20),
        loop(19, lambda t: V[t] / last(V, t, 20).mean()),
    ),
    "mean ratio": (
        ind.mean_ratio(VOLUME, 5, 20),
        loop(19, lambda t: last(V, t, 5).mean() / last(V, t, 20).mean()),
    ),
    "rsi": (ind.rsi(CLOSE), loop(14, rsi_at)),
    "bollinger": (
        ind.bollinger_position(CLOSE, 20),
        loop(19, lambda t: (C[t] - last(C, t, 20).mean()) / (2 * last(C, t, 20).std(ddof=0))),
    ),
    "atr": (ind.atr(HIGH, LOW, CLOSE, 20), loop(0, lambda t: ema_at(TR, t, 20))),
    "tr ratio": (
        ind.tr_ratio(HIGH, LOW, CLOSE, 20),
        loop(19, lambda t: TR[t] / TR[t - 19 : t + 1].mean()),
    ),
    "momentum": (ind.momentum(CLOSE, 10), loop(10, lambda t: CLOSE[t] / CLOSE[t - 10] - 1)),
    "vwap": (
        ind.vwap(CLOSE, VOLUME, 20),
        loop(19, lambda t: (last(C, t, 20) * last(V, t, 20)).sum() / last(V, t, 20).sum()),
    ),
    "price position": (
        ind.price_position(HIGH, LOW, CLOSE, 20),
        loop(
            19,
            lambda t: (
                (CLOSE[t] - LOW[t - 19 : t + 1].min())
                / (HIGH[t - 19 : t + 1].max() - LOW[t - 19 : t + 1].min())
            ),
        ),
    ),
    "body ratio": (
        ind.body_ratio(OPEN, HIGH, LOW, CLOSE),
        loop(0, lambda t: abs(CLOSE[t] - OPEN[t]) / (HIGH[t] - LOW[t])),
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_an_indicator_equals_a_plain_loop(name):
    ours, theirs = CASES[name]
    np.testing.assert_allclose(ours, theirs, rtol=1e-10, atol=1e-13)


def test_e335_21_rsi_is_neutral_without_moves_and_reaches_both_ends():
    flat, rising = np.full(30, 7.0), np.arange(1.0, 31.0)
    for wilder in (False, True):
        assert (ind.rsi(flat, wilder=wilder)[14:] == 0.5).all()
        assert (ind.rsi(rising, wilder=wilder)[14:] == 1.0).all()
        assert (ind.rsi(rising[::-1], wilder=wilder)[14:] == 0.0).all()
    assert (ind.rsi(flat, scaled=True)[14:] == 0.0).all()
    assert (ind.rsi(rising[::-1], scaled=True)[14:] == -1.0).all()


def test_ec_03_wilder_rsi_equals_the_published_series():
    # The worked example of many textbooks: closes, and the 14-bar index to two digits.
    close = (
        [44.3389, 44.0902, 44.1497, 43.6124, 44.3278, 44.8264, 45.0955, 45.4245, 45.8433]
        + [46.0826, 45.8931, 46.0328, 45.6140, 46.2820, 46.2820, 46.0028, 46.0328, 46.4116]
        + [46.2222, 45.6439, 46.2122, 46.2521, 45.7137, 46.4515, 45.7835, 45.3548, 44.0288]
    )
    published = [
        70.53,
        66.32,
        66.55,
        69.41,
        66.36,
        57.97,
        62.93,
        63.26,
        56.06,
        62.38,
        54.71,
        50.42,
    ] + [39.99]
    index = 100 * ind.rsi(close, wilder=True)
    assert np.isnan(index[:14]).all()
    np.testing.assert_allclose(index[14:], published, atol=0.006)


def test_true_range_spans_a_gap():
    high, low, close = [11.0, 15.0, 9.0], [9.0, 14.0, 8.0], [10.0, 14.5, 8.5]
    assert ind.true_range(high, low, close).tolist() == [2.0, 5.0, 6.5]


def test_the_upper_band_is_at_one():
    close = CLOSE[:20].copy()
    for _ in range(60):  # put the last close on its own upper band: mean + 2 sd
        close[-1] = close.mean() + 2 * close.std()
    assert ind.bollinger_position(close, 20)[-1] == pytest.approx(1.0, abs=1e-6)


def test_price_position_stays_in_the_unit_interval_on_random_walks():
    steps = RNG.standard_normal((10_000, 21)) * 0.03
    walks = np.exp(np.cumsum(steps, axis=1)).ravel()
    position = ind.price_position(walks * 1.001, walks / 1.001, walks, 20)[19:]
    assert position.min() >= 0.0
    assert position.max() <= 1.0


def test_neutral_values_of_flat_and_unsold_bars():
    flat, none = np.full(60, 0.3), np.zeros(60)
    assert (ind.zscore(none, 20)[19:] == 0.0).all()
    assert (ind.zscore(flat, 20)[19:] == 0.0).all()
    assert (ind.ratio_to_mean(none, 20)[19:] == 1.0).all()
    assert (ind.ratio_to_mean(flat, 20)[19:] == 1.0).all()
    assert (ind.mean_ratio(none, 5, 20)[19:] == 1.0).all()
    assert (ind.price_position(flat, flat, flat, 20)[19:] == 0.5).all()
    assert (ind.body_ratio(flat, flat, flat, flat) == 0.0).all()
    assert (ind.vwap_ratio(flat, VOLUME[:60], 20)[19:] == 1.0).all()
    assert (ind.vwap_ratio(CLOSE[:60], none, 20)[19:] == 1.0).all()
    assert (ind.bollinger_position(flat, 20)[19:] == 0.0).all()
    assert (ind.tr_ratio(flat, flat, flat, 20)[19:] == 1.0).all()


def test_constant_growth_has_no_volatility_and_no_shape():
    returns = ind.log_returns(3.0 * 1.01 ** np.arange(60))
    assert (ind.volatility(returns, 20)[20:] == 0.0).all()
    assert (ind.volatility_ratio(returns, 5, 20)[20:] == 1.0).all()
    assert (ind.skewness(returns, 20)[20:] == 0.0).all()
    assert (ind.kurtosis(returns, 20)[20:] == 0.0).all()


def test_a_linear_volume_trends_by_the_ratio_of_its_window_centres():
    volume = np.arange(1.0, 61.0)
    centres = (volume[19:] - 2.0) / (volume[19:] - 9.5)
    np.testing.assert_allclose(ind.mean_ratio(volume, 5, 20)[19:], centres, rtol=1e-12)


def test_a_bad_span_is_named():
    with pytest.raises(ValueError, match="span"):
        ind.ema(CLOSE, 0.5)
