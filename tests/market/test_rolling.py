import numpy as np
import pandas as pd
import pytest

from densityjax.market import rolling, rolling_statistics
from densityjax.market.rolling import ewma, halflife_to_alpha

RNG = np.random.default_rng(3)
SAMPLE = RNG.standard_t(5, 300)

TWINS = {
    "sum": (rolling.window_sum, lambda x: x.sum()),
    "mean": (rolling.window_mean, lambda x: x.mean()),
    "min": (rolling.window_min, lambda x: x.min()),
    "max": (rolling.window_max, lambda x: x.max()),
    "sd": (rolling.window_sd, lambda x: x.std()),
    "population sd": (lambda x, w: rolling.window_sd(x, w, ddof=0), lambda x: x.std(ddof=0)),
    "skewness": (rolling.window_skewness, lambda x: x.skew()),
    "kurtosis": (rolling.window_kurtosis, lambda x: x.kurt()),
}


@pytest.mark.parametrize("name", TWINS)
@pytest.mark.parametrize("window", [4, 20])
def test_a_window_equals_pandas_on_each_slice(name, window):
    ours, theirs = TWINS[name]
    series = pd.Series(SAMPLE)
    slices = [theirs(series[t + 1 - window : t + 1]) for t in range(window - 1, 300)]
    values = ours(SAMPLE, window)
    assert np.isnan(values[: window - 1]).all()
    np.testing.assert_allclose(values[window - 1 :], slices, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("name", TWINS)
def test_a_row_is_the_same_bit_for_bit_on_its_window_alone(name):
    ours, _ = TWINS[name]
    values = ours(SAMPLE, 20)
    alone = [ours(SAMPLE[t - 19 : t + 1], 20)[-1] for t in range(19, 300)]
    assert np.array_equal(values[19:], alone)


@pytest.mark.parametrize("name", TWINS)
def test_a_nan_reaches_as_far_as_its_window_and_no_further(name):
    ours, _ = TWINS[name]
    holed = SAMPLE.copy()
    holed[100] = np.nan
    values = ours(holed, 20)
    assert np.isnan(values[100:120]).all()
    assert np.array_equal(values[120:], ours(SAMPLE, 20)[120:])


@pytest.mark.parametrize("name", ["sum", "mean", "sd", "skewness", "kurtosis"])
def test_a_share_of_known_values_is_enough_where_asked_for(name):
    ours, _ = TWINS[name]
    holed = np.where(np.random.default_rng(7).uniform(size=300) < 0.4, np.nan, SAMPLE)
    rolled = pd.Series(holed).rolling(12, min_periods=6)
    theirs = getattr(rolled, {"sd": "std", "skewness": "skew", "kurtosis": "kurt"}.get(name, name))
    expected = theirs().to_numpy().copy()
    expected[:11] = np.nan  # windows that are not full
    assert np.isnan(expected[11:]).any()
    np.testing.assert_allclose(ours(holed, 12, min_share=0.5), expected, rtol=1e-9, atol=1e-12)


def test_ec_04_moments_do_not_cancel_at_an_offset_of_a_million():
    steps = np.round(SAMPLE * 1024) / 1024  # the offset adds no rounding to these
    for moment in (rolling.window_sd, rolling.window_skewness, rolling.window_kurtosis):
        np.testing.assert_allclose(
            moment(steps + 1e6, 20)[19:], moment(steps, 20)[19:], rtol=1e-8, atol=1e-9
        )
    naive = np.sqrt(((steps + 1e9) ** 2).mean() - (steps + 1e9).mean() ** 2)
    assert abs(naive / steps.std() - 1) > 0.1  # what the two passes avoid
    state = rolling_statistics.init(20)
    for value in steps + 1e6:
        state = rolling_statistics.push(state, value)
    assert rolling_statistics.sd(state) == pytest.approx(steps[-20:].std(ddof=1), rel=1e-9)


def test_skewness_and_kurtosis_of_five_numbers_are_the_published_ones():
    sample = [1.0, 2.0, 3.0, 4.0, 10.0]
    assert rolling.window_skewness(sample, 5)[-1] == pytest.approx(1.697056, abs=1e-6)
    assert rolling.window_kurtosis(sample, 5)[-1] == pytest.approx(3.152, abs=1e-12)


def test_constant_windows_have_their_own_mean_no_spread_and_no_shape():
    constant = np.full(40, 0.1)
    assert (rolling.window_mean(constant, 20)[19:] == 0.1).all()
    for moment in (rolling.window_sd, rolling.window_skewness, rolling.window_kurtosis):
        assert (moment(constant, 20)[19:] == 0.0).all()


def test_ewma_equals_pandas_with_missing_values():
    holed = SAMPLE.copy()
    holed[[0, 7, 8, 150]] = np.nan
    means, _ = ewma(np.stack([holed, SAMPLE]), halflife_to_alpha(5.0))
    for row, series in zip(means, (holed, SAMPLE), strict=True):
        theirs = pd.Series(series).ewm(halflife=5.0, adjust=True, ignore_na=False).mean()
        np.testing.assert_allclose(row, theirs, rtol=1e-10)


def test_ewma_in_pieces_equals_ewma_at_once_bit_for_bit():
    values = np.stack([SAMPLE, np.abs(SAMPLE)])
    whole, end = ewma(values, 0.07)
    pieces, state = [], None
    for start, stop in ((0, 1), (1, 2), (2, 50), (50, 51), (51, 300)):
        part, state = ewma(values[:, start:stop], 0.07, state)
        pieces.append(part)
    assert np.array_equal(np.concatenate(pieces, axis=1), whole)
    assert state is not None
    assert np.array_equal(state.memory, end.memory)


@pytest.mark.parametrize(
    ("call", "match"),
    [
        (lambda: rolling.window_mean(SAMPLE, 0), "window"),
        (lambda: rolling.window_sd(SAMPLE, 1), "window"),
        (lambda: rolling.window_skewness(SAMPLE, 2), "window"),
        (lambda: rolling.window_kurtosis(SAMPLE, 3), "window"),
        (lambda: rolling.window_sum(np.ones((2, 2)), 2), "one axis"),
        (lambda: ewma(SAMPLE[None], 1.5), "alpha"),
        (lambda: halflife_to_alpha(0.0), "halflife"),
        (lambda: rolling_statistics.init(1), "window"),
        (lambda: rolling_statistics.describe([1.0, np.nan, 2.0, 3.0]), "finite"),
    ],
)
def test_bad_arguments_are_named(call, match):
    with pytest.raises(ValueError, match=match):
        call()


def test_rolling_statistics_equal_numpy_on_the_values_kept():
    state = rolling_statistics.init(6)
    assert np.isnan(rolling_statistics.mean(state))
    for count, value in enumerate(SAMPLE[:30], start=1):
        state = rolling_statistics.push(state, value)
        kept = SAMPLE[max(0, count - 6) : count]
        assert rolling_statistics.is_full(state) == (count >= 6)
        assert rolling_statistics.mean(state) == pytest.approx(kept.mean(), rel=1e-10)
        if count > 1:
            assert rolling_statistics.sd(state) == pytest.approx(kept.std(ddof=1), rel=1e-10)


def test_describe_equals_pandas():
    found, series = rolling_statistics.describe(SAMPLE), pd.Series(SAMPLE)
    theirs = {
        "count": 300,
        "mean": series.mean(),
        "sd": series.std(),
        "min": series.min(),
        "max": series.max(),
        "median": series.median(),
        "skewness": series.skew(),
        "excess_kurtosis": series.kurt(),
    } | {f"p{q}": series.quantile(q / 100) for q in rolling_statistics.PERCENTILES}
    assert found == pytest.approx(theirs, rel=1e-10)
    flat = rolling_statistics.describe(np.full(9, 0.1))
    assert flat["skewness"] == flat["excess_kurtosis"] == 0.0
