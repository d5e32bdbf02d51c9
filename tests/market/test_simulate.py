import itertools

import jax
import numpy as np
import pandas as pd
import pytest
from scipy import integrate, stats

from densityjax.market import simulate, simulated_filter
from densityjax.market.simulated_density import skewed_t_log_pdf
from densityjax.market.simulated_law import MarketLaw

NUM_BARS = 20_000
LIGHT = MarketLaw(alpha=0.02, gamma=0.02, dof=(30.0, 30.0, 30.0), jump_probability=0.0)
PLAIN = MarketLaw(
    durations=(2.0,),
    switching=((0.0,),),
    scale=(1.0,),
    drift=(0.0,),
    skew=(0.0,),
    dof=(6.0,),
    jump_probability=0.0,
)


@pytest.fixture(scope="module")
def market():
    return simulate.simulate_market(jax.random.key(7), NUM_BARS)


def next_returns(market):
    return np.diff(np.log(market.bars["close"].to_numpy()))


def head(market, rows):
    """The market at a few rows: what the true functions need."""
    return market._replace(
        sigma=market.sigma[rows], regime_probability=market.regime_probability[rows]
    )


def autocorrelation(x, lag):
    x = x - x.mean()
    return float(np.mean(x[lag:] * x[:-lag]) / np.mean(x**2))


def test_bars_are_valid_and_the_first_open_is_the_initial_price(market):
    bars = market.bars
    assert list(bars) == ["open", "high", "low", "close", "volume"]
    assert all(str(dtype) == "float64" for dtype in bars.dtypes)
    assert bars.index.name == "timestamp"
    assert str(bars.index.tz) == "UTC"
    assert bars.index.is_monotonic_increasing
    assert np.isfinite(bars.to_numpy()).all()
    assert (bars.to_numpy() > 0.0).all()
    assert (bars["high"] >= bars[["open", "close"]].max(axis=1)).all()
    assert (bars["low"] <= bars[["open", "close"]].min(axis=1)).all()
    np.testing.assert_array_equal(bars["open"].to_numpy()[1:], bars["close"].to_numpy()[:-1])
    assert bars["open"].iloc[0] == 30_000.0


def test_the_density_integrates_to_one_and_the_cdf_is_its_integral(market):
    rows = np.array([0, 11, 4_321, NUM_BARS - 1])
    few = head(market, rows)
    points = few.sigma[:, None] * np.array([-6.0, -0.4, 0.0, 1.3, 6.0])
    cdf = simulate.true_cdf(few, points)
    for row, sigma in enumerate(few.sigma):
        one = head(few, np.array([row]))

        def pdf(x, one=one, sigma=sigma):
            return float(np.exp(simulate.true_log_prob(one, x * sigma)[0]) * sigma)

        kinks = np.unique(one.law.components.location)  # near the joins of the two-piece densities
        options = {"epsabs": 1e-12, "epsrel": 1e-10, "limit": 400}
        left = integrate.quad(pdf, -np.inf, -20.0, **options)[0]
        total = left + integrate.quad(pdf, -20.0, 20.0, points=kinks, **options)[0]
        total += integrate.quad(pdf, 20.0, np.inf, **options)[0]
        np.testing.assert_allclose(total, 1.0, atol=1e-8)
        for column, r in enumerate(points[row]):
            below = left + integrate.quad(pdf, -20.0, r / sigma, **options)[0]
            np.testing.assert_allclose(cdf[row, column], below, atol=1e-8)


def test_the_score_is_the_slope_of_the_log_density_and_the_quantile_inverts_the_cdf(market):
    few = head(market, np.arange(0, NUM_BARS, 2_000))
    points = few.sigma[:, None] * np.array([-40.0, -3.0, -0.31, 0.57, 5.0])
    step = 1e-5 * few.sigma[:, None]
    slope = simulate.true_log_prob(few, points + step) - simulate.true_log_prob(few, points - step)
    np.testing.assert_allclose(
        few.sigma[:, None] * simulate.true_score(few, points),
        few.sigma[:, None] * slope / (2.0 * step),
        rtol=1e-6,
        atol=1e-8,
    )
    levels = np.array([1e-8, 0.01, 0.05, 0.5, 0.99])
    quantile = simulate.true_quantile(few, levels)
    assert quantile.shape == (len(few.sigma), len(levels))
    for column in range(len(levels)):
        cdf = simulate.true_cdf(few, quantile[:, column])
        np.testing.assert_allclose(cdf, levels[column], rtol=1e-9)
    np.testing.assert_array_equal(simulate.true_quantile(few, 0.01), quantile[:, 1])


def test_mean_and_standard_deviation_are_those_of_the_true_density(market):
    few = head(market, np.array([17, 9_000]))
    grid = np.sinh(np.linspace(-9.0, 9.0, 40_001))
    mass = np.gradient(grid) * np.exp(
        simulate.true_log_prob(few, few.sigma[:, None] * grid) + np.log(few.sigma[:, None])
    )
    mean = mass @ grid * few.sigma
    second = mass @ grid**2 * few.sigma**2
    np.testing.assert_allclose(simulate.true_mean(few), mean, atol=1e-5 * few.sigma[0])
    np.testing.assert_allclose(simulate.true_std(few), np.sqrt(second - mean**2), rtol=1e-4)


def test_the_filter_equals_the_sum_over_all_regime_paths():
    law, num_bars = MarketLaw(durations=(5.0, 3.0, 2.0)), 8
    returns = simulate.bar_returns(
        simulate.simulate_market(jax.random.key(3), num_bars, law=law).bars
    )
    truth = simulated_filter.conditional_law(law, returns)
    sigma = np.append(np.sqrt(law.initial_variance), truth.sigma)
    parts = law.components

    def likelihood(t, regime):
        z = (returns[t] / sigma[t] - parts.location[regime]) / parts.scale[regime]
        pdf = np.exp(skewed_t_log_pdf(z, parts.skew[regime], parts.dof[regime]))
        return np.sum(parts.weight[regime] * pdf / parts.scale[regime]) / sigma[t]

    table = np.array([[likelihood(t, s) for s in range(3)] for t in range(num_bars)])
    joint = np.zeros(3)
    for path in itertools.product(range(3), repeat=num_bars + 1):
        mass = law.stationary[path[0]]
        for t in range(num_bars):
            mass *= table[t, path[t]] * law.transition[path[t], path[t + 1]]
        joint[path[-1]] += mass
    np.testing.assert_allclose(truth.regime_probability[-1], joint / joint.sum(), rtol=1e-10)


def test_sigma_follows_the_recursion_of_past_returns(market):
    law, returns = market.law, simulate.bar_returns(market.bars)
    variance = law.initial_variance
    for t in range(500):
        response = law.alpha + (law.gamma if returns[t] < 0.0 else 0.0)
        variance = law.omega + response * returns[t] ** 2 + law.beta * variance
        np.testing.assert_allclose(market.sigma[t] ** 2, variance, rtol=1e-12)


def test_one_regime_without_skew_or_jumps_is_a_garch_t():
    market = simulate.simulate_market(jax.random.key(2), 300, law=PLAIN)
    expected = stats.t.logpdf(next_returns(market), 6.0, scale=market.sigma[:-1] * np.sqrt(4 / 6))
    np.testing.assert_allclose(market.log_prob[:-1], expected, rtol=1e-10)
    half = PLAIN.alpha + PLAIN.gamma / 2 + PLAIN.beta
    np.testing.assert_allclose(PLAIN.persistence, half, rtol=1e-9)
    np.testing.assert_allclose(PLAIN.omega, PLAIN.volatility**2 * (1.0 - half), rtol=1e-7)


def test_the_truth_at_the_realised_return_is_stored_and_the_last_row_is_unknown(market):
    returns = np.append(next_returns(market), np.nan)
    for stored, function in (
        (market.log_prob, simulate.true_log_prob),
        (market.cdf, simulate.true_cdf),
        (market.score, simulate.true_score),
    ):
        assert stored.dtype == np.float64
        assert np.isnan(stored[-1])
        assert np.isfinite(stored[:-1]).all()
        np.testing.assert_allclose(stored, function(market, returns), rtol=1e-12)


def test_true_probability_transforms_are_uniform_and_serially_uncorrelated(market):
    u = market.cdf[:-1]
    assert stats.kstest(u, "uniform").pvalue > 0.01
    for x in (u, (u - 0.5) ** 2):
        for lag in (1, 2, 10):
            assert abs(autocorrelation(x, lag)) < 5.0 / np.sqrt(len(u))
    wrong = simulate.true_cdf(market, np.append(next_returns(market), 0.0) * 1.1)[:-1]
    assert stats.kstest(wrong, "uniform").pvalue < 1e-3


def test_violations_of_the_true_quantile_have_their_probability(market):
    rate = np.mean(next_returns(market) < simulate.true_quantile(market, 0.01)[:-1])
    assert abs(rate - 0.01) < 5.0 * np.sqrt(0.01 * 0.99 / NUM_BARS)


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_a_constant_student_t_loses_a_twentieth_of_a_nat_to_the_truth(seed):
    market = simulate.simulate_market(jax.random.key(seed), NUM_BARS)
    returns = next_returns(market)
    constant = stats.t.logpdf(returns, *stats.t.fit(returns, 4.0, scale=0.004)).mean()
    assert market.log_prob[:-1].mean() - constant > 0.05


def test_regimes_last_as_the_law_says(market):
    starts = np.flatnonzero(np.diff(market.regime, prepend=-1))
    lengths, kinds = np.diff(starts), market.regime[starts[:-1]]
    for regime, duration in enumerate(market.law.durations):
        mine = lengths[kinds == regime]
        assert abs(mine.mean() - duration) < 5.0 * duration / np.sqrt(len(mine))
    np.testing.assert_allclose(market.law.transition.sum(1), 1.0)
    law = market.law
    np.testing.assert_allclose(law.stationary @ law.transition, law.stationary, atol=1e-12)


def test_mean_variance_in_each_regime_is_the_closed_form():
    markets = [simulate.simulate_market(jax.random.key(s), NUM_BARS, law=LIGHT) for s in range(8)]
    expected = LIGHT.omega * LIGHT.mean_variance_by_regime
    for regime in range(3):
        means = [
            np.mean(m.sigma[:-1][m.regime[1:] == regime] ** 2) / expected[regime] for m in markets
        ]
        error = np.std(means, ddof=1) / np.sqrt(len(means))
        assert abs(np.mean(means) - 1.0) < 5.0 * error
        assert error < 0.05
    squares = [np.mean(next_returns(m) ** 2) / LIGHT.volatility**2 for m in markets]
    assert abs(np.mean(squares) - 1.0) < 5.0 * np.std(squares, ddof=1) / np.sqrt(len(squares))


def test_the_default_law_is_persistent_and_as_heavy_tailed_as_it_says(market):
    law = MarketLaw()
    assert 0.95 < law.persistence < 0.99
    assert 3.0 < law.tail_index < 4.0
    size = np.sort(np.abs(next_returns(market)))[::-1]
    hill = 1.0 / np.mean(np.log(size[:200] / size[200]))  # standard error 7 %, bias as large
    assert abs(hill / law.tail_index - 1.0) < 0.4
    assert stats.kurtosis(next_returns(market)) > 3.0
    assert stats.skew(next_returns(market) / market.sigma[:-1]) < 0.0
    surprise = next_returns(market) / market.sigma[:-1]
    growth = np.log(market.sigma[1:] / market.sigma[:-1])
    fall, rise = surprise < -1.5, surprise > 1.5
    assert growth[fall].mean() > growth[rise].mean()  # leverage


@pytest.mark.parametrize("regime_lag", [0, 1])
def test_wicks_and_volume_say_nothing_of_the_regime_beyond_returns(market, regime_lag):
    bars, law = market.bars, market.law
    returns = simulate.bar_returns(bars)[1:]
    sigma = market.sigma[:-1]  # scale of bar t, from bars before it
    up, down = (np.log(bars[name] / bars["open"]).to_numpy()[1:] for name in ("high", "low"))
    bridge = 0.5 * (sigma**2 + returns**2)
    up_noise = ((2.0 * up - returns) ** 2 - returns**2) / (2.0 * bridge)
    down_noise = ((2.0 * down - returns) ** 2 - returns**2) / (2.0 * bridge)
    residual = (
        np.log(bars["volume"].to_numpy()[1:])
        - 0.3 * np.log(sigma**2 / law.initial_variance)
        - 0.5 * np.log1p(np.abs(returns) / sigma)
    )
    volume_noise = residual[1:] - 0.9 * residual[:-1]
    assert stats.kstest(up_noise, "expon").pvalue > 0.01
    assert stats.kstest(down_noise, "expon").pvalue > 0.01
    end = len(market.regime) - 1
    for noise in (up_noise, down_noise, volume_noise):
        own = np.arange(end + 1 - len(noise), end)  # bar of each noise, the last left out
        noise = noise[:-1]
        future = np.abs(simulate.bar_returns(bars)[own + 1]) / market.sigma[own]
        for other in (
            market.regime[own + regime_lag] == 2,
            market.regime[own + regime_lag],
            future,
        ):
            assert abs(np.corrcoef(noise, other)[0, 1]) < 5.0 / np.sqrt(len(noise))
    assert np.corrcoef(np.log(up - down), market.regime[1:])[0, 1] > 0.3  # able to fail


def test_a_replaced_future_leaves_the_past_truth_as_it_was(market):
    returns = simulate.bar_returns(market.bars)
    base = simulated_filter.conditional_law(market.law, returns)
    changed = returns.copy()
    changed[10_000:] *= -3.0
    other = simulated_filter.conditional_law(market.law, changed)
    np.testing.assert_array_equal(base.sigma[:10_000], other.sigma[:10_000])
    np.testing.assert_array_equal(
        base.regime_probability[:10_000], other.regime_probability[:10_000]
    )
    assert np.all(base.sigma[10_000:] != other.sigma[10_000:])
    np.testing.assert_array_equal(market.sigma, base.sigma)


def test_the_same_key_gives_the_same_market_and_another_key_another():
    first, again, other = (simulate.simulate_market(jax.random.key(k), 300) for k in (5, 5, 6))
    pd.testing.assert_frame_equal(first.bars, again.bars)
    np.testing.assert_array_equal(first.log_prob, again.log_prob)
    assert not np.allclose(first.bars["close"], other.bars["close"])


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"num_bars": 1}, "num_bars"),
        ({"num_bars": 10.5}, "num_bars"),
        ({"initial_price": 0.0}, "initial_price"),
        ({"initial_price": np.inf}, "initial_price"),
        ({"interval": "soon"}, "interval"),
        ({"interval": "-1h"}, "interval"),
        ({"start": "whenever"}, "start"),
        ({"law": 3}, "law"),
        ({"key": 3}, "key"),
    ],
)
def test_bad_arguments_are_refused(change, match):
    arguments = {"key": jax.random.key(0), "num_bars": 50} | change
    with pytest.raises(ValueError, match=match):
        simulate.simulate_market(**arguments)


def test_points_and_levels_of_the_wrong_kind_are_refused(market):
    with pytest.raises(ValueError, match="r must be"):
        simulate.true_cdf(market, np.zeros(3))
    with pytest.raises(ValueError, match="probability"):
        simulate.true_quantile(market, 1.0)
    with pytest.raises(ValueError, match="returns"):
        simulated_filter.conditional_law(market.law, np.array([0.0, np.nan]))
