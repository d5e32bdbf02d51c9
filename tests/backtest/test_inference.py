"""One Sharpe ratio, and the best of many: published values, direct twins, and noise."""

import itertools
import math

import numpy as np
import pytest
from scipy import integrate, stats

from densityjax.backtest import (
    Costs,
    Prices,
    RandomParams,
    RandomState,
    apply_rule,
    inference,
    product_grid,
    random_rule,
    run,
    run_grid,
)
from densityjax.backtest.inference import BlockSums, SharpeMoments

HEDGE_FUND = SharpeMoments(1.585 / math.sqrt(12), 24, -2.448, 10.164)
EXAMPLE = SharpeMoments(0.036 / 0.079, 24, -2.448, 10.164)
DAILY = SharpeMoments(2.5 / math.sqrt(250), 1250, -3.0, 10.0)


@pytest.mark.parametrize(
    ("num_trials", "expected"),
    [
        (1, 0.0),
        (10, 1.57459830),
        (45, 2.23564018),
        (100, 2.5306028932016846),
        (1000, 3.25512151),
        (10**4, 3.86066486),
        (10**5, 4.39082874),
        (10**6, 4.86786004),
    ],
)
def test_expected_maximum_equals_its_known_values(num_trials, expected):
    assert inference.expected_max_sharpe(num_trials, 1.0) == pytest.approx(expected, abs=1e-8)
    doubled = inference.expected_max_sharpe(num_trials, 2.0)
    assert doubled == pytest.approx(2 * expected, abs=2e-8)


@pytest.mark.parametrize("num_trials", [1.0 + 1e-9, 1.05, 1.2, 1.29])
def test_expected_maximum_of_barely_more_than_one_trial_is_not_below_that_of_one(num_trials):
    assert 0.0 <= inference.expected_max_sharpe(num_trials, 1.0) < 0.05


@pytest.mark.parametrize("num_trials", [10, 100, 1000])
def test_expected_maximum_is_near_the_exact_one_by_quadrature(num_trials):
    def density(x):
        return num_trials * stats.norm.cdf(x) ** (num_trials - 1) * stats.norm.pdf(x)

    exact = integrate.quad(lambda x: x * density(x), -10, 10, points=[0, 3])[0]
    found = inference.expected_max_sharpe(num_trials, 1.0)
    assert found == pytest.approx(exact, rel=0.025)


def test_the_sharpe_interval_covers_the_truth_as_often_as_it_says():
    rng = np.random.default_rng(0)
    skewed = rng.gamma(4.0, size=(2000, 500)) / 2.0 - 2.0 + 0.05  # mean .05, sd 1, skewness 1
    intervals = [inference.sharpe_interval(row, periods_per_year=1.0) for row in skewed]
    covered = np.mean([low < 0.05 < high for low, high in intervals])
    # Five standard errors of a share over 2,000 draws, and the error of the asymptotic formula.
    assert covered == pytest.approx(0.95, abs=5 * (0.95 * 0.05 / 2000) ** 0.5 + 0.005)


def test_the_interval_is_annual_and_refuses_what_it_cannot_know():
    values = np.random.default_rng(1).normal(size=100)
    daily = inference.sharpe_interval(values, periods_per_year=1.0)
    hourly = inference.sharpe_interval(values, periods_per_year=24.0)
    np.testing.assert_allclose(hourly, np.multiply(daily, 24**0.5))
    assert np.isnan(inference.sharpe_interval(np.ones(9), periods_per_year=1.0)).all()
    with pytest.raises(ValueError, match="confidence is 1"):
        inference.sharpe_interval(values, periods_per_year=1.0, confidence=1.0)
    with pytest.raises(ValueError, match="num_trials is 0"):
        inference.expected_max_sharpe(0, 1.0)


def test_ex_18_six_years_show_a_ratio_of_point_eight_and_300_hours_show_nothing():
    # An annual ratio of .8 from daily bars, normal returns: two-sided 95 % means z of 1.96.
    per_bar = SharpeMoments(0.8 / math.sqrt(365), 365 * 6)
    years = inference.minimum_track_record_length(per_bar, confidence=0.975) / 365
    assert years == pytest.approx(6.0, abs=0.02)
    better = per_bar._replace(sharpe_ratio=1.5 / math.sqrt(365))
    years = inference.minimum_track_record_length(better, confidence=0.975) / 365
    assert years == pytest.approx(1.7, abs=0.02)
    hours = np.random.default_rng(2).normal(size=300)
    low, high = inference.sharpe_interval(hours, periods_per_year=8760)
    assert (high - low) / 2 / 1.96 == pytest.approx(5.4, abs=0.1)


def test_probabilistic_sharpe_ratio_equals_published_values():
    psr = inference.probabilistic_sharpe_ratio
    assert psr(HEDGE_FUND) == pytest.approx(0.9132343068848602, abs=1e-14)
    assert psr(EXAMPLE, variance_at="null") == pytest.approx(0.987207261261433, abs=1e-12)
    at_tenth = psr(EXAMPLE, variance_at="null", benchmark_sharpe=0.1)
    assert at_tenth == pytest.approx(0.9391476251031433, abs=1e-12)
    wrong = psr(HEDGE_FUND._replace(kurtosis=10.164 - 3.0))
    assert wrong == pytest.approx(0.91984, abs=1e-5)
    with pytest.raises(ValueError, match="variance_at is 'truth'"):
        psr(HEDGE_FUND, variance_at="truth")


def test_deflated_sharpe_ratio_equals_published_values():
    trials = {"num_trials": 100, "sharpe_variance": 0.5 / 250}
    dsr = inference.deflated_sharpe_ratio
    assert dsr(DAILY, **trials) == pytest.approx(0.9003968344493903, abs=1e-12)
    at_null = dsr(DAILY, **trials, variance_at="null")
    assert at_null == pytest.approx(0.9128229505631342, abs=1e-12)
    assert dsr(DAILY, num_trials=1, sharpe_variance=0.5) == pytest.approx(
        inference.probabilistic_sharpe_ratio(DAILY)
    )
    with pytest.raises(ValueError, match="sharpe_variance is nan"):
        dsr(DAILY, num_trials=2, sharpe_variance=math.nan)


@pytest.mark.parametrize(
    ("annual", "benchmark", "bars", "skewness", "kurtosis", "years"),
    [
        (2.0, 1.0, 250, 0.0, 3.0, 2.731187801728176),
        (2.0, 1.0, 52, 0.0, 3.0, 2.828833586945237),
        (3.0, 2.5, 12, -0.72, 5.78, 27.3529201960403),
    ],
)
def test_minimum_track_record_equals_published_values(
    annual, benchmark, bars, skewness, kurtosis, years
):
    moments = SharpeMoments(annual / math.sqrt(bars), 0, skewness, kurtosis)
    found = inference.minimum_track_record_length(
        moments, benchmark_sharpe=benchmark / math.sqrt(bars)
    )
    assert found / bars == pytest.approx(years, rel=1e-6)


def test_minimum_lengths_under_the_null_and_for_many_trials():
    found = inference.minimum_track_record_length(EXAMPLE, variance_at="null")
    assert found == pytest.approx(13.028778, abs=1e-5)
    # At that length the probabilistic ratio is the confidence asked for.
    at_length = inference.probabilistic_sharpe_ratio(
        EXAMPLE._replace(num_bars=found), variance_at="null"
    )
    assert at_length == pytest.approx(0.95, abs=1e-12)
    assert inference.minimum_backtest_length(45, 1.0) == pytest.approx(4.998087004443404)
    assert inference.minimum_track_record_length(HEDGE_FUND, benchmark_sharpe=9.0) == math.inf


def test_the_ar1_form_has_the_spread_that_correlated_returns_have():
    rng, rho = np.random.default_rng(4), 0.4
    noise = rng.normal(size=(4000, 420))
    paths = np.empty_like(noise)
    paths[:, 0] = noise[:, 0] / math.sqrt(1 - rho**2)
    for t in range(1, noise.shape[1]):
        paths[:, t] = rho * paths[:, t - 1] + noise[:, t]
    sharpes = paths.mean(1) / paths.std(1, ddof=1)
    # A ratio of one measured standard error has to have the probability of one deviation.
    one = SharpeMoments(float(sharpes.std()), 420, autocorrelation=rho)
    z = stats.norm.ppf(inference.probabilistic_sharpe_ratio(one, variance_at="null"))
    assert z == pytest.approx(1.0, abs=5 / math.sqrt(2 * 4000) + 0.02)
    measured = inference.sharpe_moments(paths[0], autocorrelation=None)
    assert measured.autocorrelation == pytest.approx(rho, abs=5 / math.sqrt(420))


def direct_overfitting(returns, num_blocks):
    """The definition: cut, glue, rank; one half at a time."""
    blocks = np.array_split(returns, num_blocks)
    logits, losses = [], []
    for chosen in itertools.combinations(range(num_blocks), num_blocks // 2):
        own = np.concatenate([blocks[i] for i in chosen])
        other = np.concatenate([blocks[i] for i in range(num_blocks) if i not in chosen])
        best = (own.mean(0) / own.std(0, ddof=1)).argmax()
        outside = other.mean(0) / other.std(0, ddof=1)
        omega = stats.rankdata(outside)[best] / (returns.shape[1] + 1)
        logits.append(np.log(omega / (1 - omega)))
        losses.append(outside[best] < 0)
    return np.array(logits), np.mean(losses)


def test_overfitting_by_block_sums_equals_the_direct_method():
    returns = np.random.default_rng(5).normal(0.02, 1.0, (803, 60))
    found = inference.probability_of_backtest_overfitting(returns, num_blocks=8)
    logits, loss = direct_overfitting(returns, 8)
    np.testing.assert_allclose(found.logits, logits, atol=1e-12)
    assert found.probability == np.mean(logits <= 0)
    assert found.probability_of_loss == loss
    slope = np.polyfit(found.in_sample, found.out_of_sample, 1)[0]
    assert found.slope == pytest.approx(slope)
    again = inference.probability_of_backtest_overfitting(
        inference.block_sums(returns, num_blocks=8)
    )
    np.testing.assert_array_equal(again.logits, found.logits)


def test_noise_is_overfitted_half_of_the_time_and_a_planted_edge_is_not():
    rng = np.random.default_rng(6)
    share, deflated, found_edge = [], [], []
    for _ in range(30):
        returns = rng.normal(size=(500, 40))
        share.append(
            inference.probability_of_backtest_overfitting(returns, num_blocks=8).probability
        )
        sharpes = returns.mean(0) / returns.std(0, ddof=1)
        trials = {"num_trials": 40, "sharpe_variance": sharpes.var(ddof=1)}
        best = returns[:, sharpes.argmax()]
        deflated.append(inference.deflated_sharpe_ratio(best, **trials))
        assert inference.probabilistic_sharpe_ratio(best) > 0.9  # what it looks like alone
        returns[:, 7] += 0.25
        edge = inference.probability_of_backtest_overfitting(returns, num_blocks=8)
        found_edge.append(edge.probability)
        assert inference.deflated_sharpe_ratio(returns[:, 7], **trials) > 0.95
    assert np.mean(share) == pytest.approx(0.5, abs=5 * np.std(share) / math.sqrt(30))
    assert np.mean(np.array(deflated) > 0.95) < 0.2
    assert np.mean(deflated) == pytest.approx(0.5, abs=0.2)
    assert np.mean(found_edge) < 0.02


def test_overfitting_takes_thousands_of_rules_from_block_sums_in_chunks(monkeypatch):
    rng = np.random.default_rng(7)
    sums = rng.normal(size=(8, 3000)) * 5
    blocks = BlockSums(sums, 25 + sums**2 / 25 + rng.uniform(size=sums.shape), np.full(8, 25))
    whole = inference.probability_of_backtest_overfitting(blocks)
    monkeypatch.setattr(inference.overfitting, "CHUNK_VALUES", 3000 * 7)
    parts = inference.probability_of_backtest_overfitting(blocks)
    assert whole.logits.shape == (70,)
    np.testing.assert_allclose(parts.logits, whole.logits, atol=1e-12)


def test_a_rule_that_never_moves_is_never_best():
    returns = np.random.default_rng(8).normal(-0.2, 1.0, (80, 5))
    returns[:, 2] = 0.0
    found = inference.probability_of_backtest_overfitting(returns, num_blocks=4)
    assert 2 not in found.best
    with pytest.raises(ValueError, match="no rule moves"):
        inference.probability_of_backtest_overfitting(0.0 * returns, num_blocks=4)
    with pytest.raises(ValueError, match="3 blocks of 5 rules"):
        inference.probability_of_backtest_overfitting(returns, num_blocks=3)


@pytest.mark.parametrize("method", ["effective_rank", "mean_correlation"])
def test_the_effective_number_of_trials_is_that_of_the_independent_ones(method):
    rng = np.random.default_rng(9)
    basis = rng.normal(size=(4000, 6))
    alone = inference.effective_number_of_trials(basis, method=method)
    assert alone == pytest.approx(6.0, abs=0.05)
    same = inference.effective_number_of_trials(basis[:, [0] * 6], method=method)
    assert same == pytest.approx(1.0, abs=1e-9)
    with pytest.raises(ValueError, match="method is 'count'"):
        inference.effective_number_of_trials(basis, method="count")


def test_copies_do_not_add_to_the_effective_rank_and_block_sums_will_do():
    basis = np.random.default_rng(10).normal(size=(4000, 6))
    copies = np.concatenate([basis] * 50, axis=1)
    few = inference.effective_number_of_trials(copies)
    assert few == pytest.approx(inference.effective_number_of_trials(basis), rel=1e-6)
    sums = inference.block_sums(copies, num_blocks=200).returns
    assert inference.effective_number_of_trials(sums) == pytest.approx(6.0, abs=0.2)
    flat = np.concatenate([basis, np.zeros((4000, 3))], axis=1)
    assert inference.effective_number_of_trials(flat) == pytest.approx(few, rel=1e-6)


def test_block_sums_of_a_grid_are_those_of_its_paths():
    rng = np.random.default_rng(11)
    prices = Prices(close=np.exp(np.cumsum(0.01 * rng.normal(size=204))))
    seeds = product_grid(RandomParams, seed=np.arange(12), turnover=0.5)
    options = {"fill": "same_close", "costs": Costs(5.0)}
    signals = np.zeros(204)
    grid = run_grid(
        random_rule, seeds, signals, prices, init_state=RandomState(), num_blocks=4, **options
    )
    blocks = BlockSums(grid.block_returns, grid.block_squares, grid.block_bars)
    paths = []
    for seed in range(12):
        params = RandomParams(seed=seed, turnover=0.5)
        weights = apply_rule(random_rule, params, signals, init_state=RandomState())
        paths.append(np.asarray(run(weights, prices, **options).returns, float))
    direct = inference.probability_of_backtest_overfitting(np.array(paths).T, num_blocks=4)
    streamed = inference.probability_of_backtest_overfitting(blocks)
    np.testing.assert_array_equal(streamed.best, direct.best)
    np.testing.assert_allclose(streamed.logits, direct.logits, atol=1e-9)
    means = np.array(paths).mean(1)
    found = inference.reality_check(blocks)
    assert found.best == means.argmax()
    np.testing.assert_allclose(found.statistic, means.max() * math.sqrt(204), rtol=1e-4)
