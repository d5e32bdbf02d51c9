"""The bootstrap and its tests: exact variances, arch on the same draws, size and power."""

import functools

import numpy as np
import pytest
from arch.bootstrap import MCS, SPA
from arch.bootstrap import optimal_block_length as arch_length

from densityjax.backtest import Costs, Prices, inference, metrics, run


def autoregression(rng, num, rho, size=()):
    noise = rng.normal(size=(num, *size))
    path = np.empty_like(noise)
    path[0] = noise[0] / np.sqrt(1 - rho**2)
    for t in range(1, num):
        path[t] = rho * path[t - 1] + noise[t]
    return path


def test_resampled_paths_have_geometric_blocks_and_uniform_rows():
    rows = inference.stationary_bootstrap(50, mean_block_length=5, num_draws=4000)
    assert rows.shape == (4000, 50)
    goes_on = np.diff(rows, axis=1) % 50 == 1
    # A restart hits the next bar by chance once in 50.
    expected = 0.8 + 0.2 / 50
    error = np.sqrt(expected * (1 - expected) / goes_on.size)
    assert goes_on.mean() == pytest.approx(expected, abs=5 * error)
    share = np.bincount(rows.ravel(), minlength=50) / rows.size
    assert share == pytest.approx(1 / 50, abs=5 * np.sqrt(0.02 / 4000))
    again = inference.stationary_bootstrap(50, mean_block_length=5, num_draws=4000)
    np.testing.assert_array_equal(rows, again)
    other = inference.stationary_bootstrap(50, mean_block_length=5, num_draws=4000, random_state=1)
    assert not np.array_equal(rows, other)
    with pytest.raises(ValueError, match=r"mean_block_length 0\.5"):
        inference.stationary_bootstrap(50, mean_block_length=0.5)


def test_the_variance_of_resampled_means_is_the_exact_one():
    values = autoregression(np.random.default_rng(0), 200, 0.5)
    rows = inference.stationary_bootstrap(200, mean_block_length=10, num_draws=20_000)
    sampled = 200 * np.var(values[rows].mean(1))
    exact = inference.stationary_bootstrap_variance(values, 10.0)[0]
    assert sampled == pytest.approx(exact, rel=5 * np.sqrt(2 / 20_000))
    # The formula by plain loops.
    centred, keep, direct = values - values.mean(), 0.9, np.mean((values - values.mean()) ** 2)
    for lag in range(1, 200):
        weight = (1 - lag / 200) * keep**lag + lag / 200 * keep ** (200 - lag)
        direct += 2 * weight * np.sum(centred[lag:] * centred[:-lag]) / 200
    assert exact == pytest.approx(direct, rel=1e-12)
    independent = inference.stationary_bootstrap_variance(values, 1.0)[0]
    assert independent == pytest.approx(np.var(values))


@pytest.mark.parametrize("rho", [-0.5, 0.0, 0.3, 0.9])
def test_the_automatic_block_length_is_that_of_arch(rho):
    values = autoregression(np.random.default_rng(1), 2000, rho)
    expected = max(arch_length(values)["stationary"].iloc[0], 1.0)
    assert inference.optimal_block_length(values) == pytest.approx(expected, rel=1e-10)


def test_the_automatic_block_length_equals_its_published_value():
    state = np.random.RandomState(0)
    noise = state.standard_normal(10_100)
    values = np.zeros(10_100)
    values[0] = noise[0]
    for t in range(1, 10_100):
        values[t] = 0.3 * values[t - 1] + noise[t]
    assert inference.optimal_block_length(values[100:]) == pytest.approx(13.635665, rel=1e-4)
    assert inference.optimal_block_length(np.ones(50)) == 1.0
    with pytest.raises(ValueError, match="values has 9 rows"):
        inference.optimal_block_length(np.arange(9.0))


def arch_spa(excess, **kwargs):
    test = SPA(np.zeros(len(excess)), -excess, block_size=8, reps=400, seed=3, **kwargs)
    test.compute()
    rows = [data[0][0] for data in _draws_of_arch(len(excess))]
    return test.pvalues, np.array(rows)


def _draws_of_arch(num_bars):
    from arch.bootstrap import StationaryBootstrap

    return list(StationaryBootstrap(8, np.arange(num_bars), seed=3).bootstrap(400))


def rules(seed=2, num_rules=12, edge=0.15):
    rng = np.random.default_rng(seed)
    scale = rng.uniform(0.3, 3.0, num_rules)
    return rng.normal(size=(300, num_rules)) * scale + edge * np.linspace(-2, 1, num_rules)


def test_spa_and_reality_check_equal_arch_on_the_same_draws():
    excess = rules()
    expected, rows = arch_spa(excess)
    found = inference.spa(excess, studentize=False, mean_block_length=8, rows=rows)
    assert found.p_lower == expected["lower"]
    assert found.p_value == expected["consistent"]
    assert found.p_upper == expected["upper"]
    assert found.p_lower < found.p_upper  # the hypotheses differ, so that equality says something
    check = inference.reality_check(excess, rows=rows)
    assert check.p_value == expected["upper"]
    assert check.best == excess.mean(0).argmax()


def test_studentising_spa_changes_what_is_found():
    rng = np.random.default_rng(4)
    excess = rng.normal(size=(300, 6)) * np.array([0.1, 5.0, 5.0, 5.0, 5.0, 5.0])
    excess[:, 0] += 0.02  # a small and steady edge among wild rules
    options = {"mean_block_length": 2, "num_draws": 500}
    steady = inference.spa(excess, **options)
    wild = inference.spa(excess, studentize=False, **options)
    assert steady.best == 0
    assert steady.p_value < 0.05 < wild.p_value


def test_block_sums_give_nearly_the_p_values_of_bars():
    excess = rules(num_rules=1500, edge=0.02)
    whole = inference.reality_check(excess, mean_block_length=6, num_draws=2000)
    blocks = inference.block_sums(excess, num_blocks=100)
    few = inference.reality_check(blocks, mean_block_length=2, num_draws=2000)
    assert few.statistic == pytest.approx(whole.statistic)
    assert few.best == whole.best
    error = 5 * np.sqrt(2 * 0.25 / 2000)
    assert few.p_value == pytest.approx(whole.p_value, abs=error + 0.05)
    assert inference.spa(blocks, mean_block_length=2).best == inference.spa(excess).best


@pytest.mark.parametrize("test", [inference.spa, inference.reality_check])
def test_noise_is_rejected_as_often_as_stated_and_an_edge_is_found(test):
    rng = np.random.default_rng(5)
    options = {"mean_block_length": 1, "num_draws": 200}
    p_values = np.array([test(rng.normal(size=(200, 10)), **options).p_value for _ in range(200)])
    assert np.mean(p_values < 0.1) == pytest.approx(0.1, abs=5 * np.sqrt(0.09 / 200))
    excess = rng.normal(size=(200, 10))
    excess[:, 3] += 0.4
    found = test(excess, **options)
    assert found.best == 3
    assert found.p_value < 0.01


@pytest.mark.parametrize(("method", "theirs"), [("range", "R"), ("max", "max")])
def test_the_confidence_set_equals_that_of_arch_on_the_same_draws(method, theirs):
    losses = rules(seed=6, num_rules=7, edge=0.3)
    other = MCS(losses, 0.05, reps=400, block_size=8, method=theirs, seed=3)
    other.compute()
    rows = np.array(other._bootstrap_indices)
    found = inference.model_confidence_set(losses, method=method, rows=rows)
    expected = other.pvalues["Pvalue"].sort_index().to_numpy()
    np.testing.assert_allclose(found.p_values, expected, atol=1e-12)
    assert set(np.flatnonzero(found.is_included)) == set(other.included)
    assert 0 < found.is_included.sum() < 7
    with pytest.raises(ValueError, match="method is 'min'"):
        inference.model_confidence_set(losses, method="min")


def test_interval_of_the_sharpe_ratio_covers_with_dependent_returns():
    rng = np.random.default_rng(7)
    paths = autoregression(rng, 400, 0.3, (150,)).T + 0.05
    truth = 0.05 / np.sqrt(1 / (1 - 0.3**2))
    covered = []
    for path in paths:
        _, low, high, _ = inference.bootstrap_interval(
            metrics.sharpe_ratio, path, confidence=0.9, mean_block_length=12, num_draws=150
        )
        covered.append(low < truth < high)
    # Five standard errors of a share; blocks of finite length lose a few percent of coverage.
    assert np.mean(covered) == pytest.approx(0.9, abs=5 * np.sqrt(0.09 / 150) + 0.03)


def test_every_headline_figure_has_its_interval():
    rng = np.random.default_rng(8)
    returns = rng.normal(0.001, 0.01, 500)
    weights = rng.choice([-1.0, 0.0, 1.0], 500)
    frame = inference.headline_intervals(
        returns,
        periods_per_year=365,
        weights=weights,
        turnover=np.abs(np.diff(weights, prepend=0.0)),
        num_draws=200,
        mean_block_length=1,
    )
    assert len(frame) == 17
    assert (frame["low"] <= frame["high"]).all()
    assert frame["share_defined"].min() == 1.0
    sharpe = metrics.sharpe_ratio(returns, periods_per_year=365)
    assert frame.loc["sharpe_ratio", "estimate"] == sharpe
    assert frame.loc["hit_rate", "estimate"] == metrics.hit_rate(returns, weights)
    assert frame.loc["turnover", "estimate"] == pytest.approx(metrics.turnover(weights))
    # Independent bars: the asymptotic interval is an independent answer.
    low, high = inference.sharpe_interval(returns, periods_per_year=365)
    width = frame.loc["sharpe_ratio", "high"] - frame.loc["sharpe_ratio", "low"]
    assert width == pytest.approx(high - low, rel=0.25)


def test_a_figure_that_is_rarely_defined_has_no_interval():
    found = inference.bootstrap_interval(metrics.payoff_ratio, np.ones(20), num_draws=50)
    assert np.isnan(found.low)
    assert found.share_defined == 0.0
    with pytest.raises(ValueError, match=r"lengths \[3, 2\]"):
        inference.bootstrap_interval(metrics.hit_rate, np.ones(3), np.ones(2))


def test_ex_19_a_difference_of_nothing_is_found_as_rarely_as_stated():
    rng = np.random.default_rng(9)
    covered, p_values = [], []
    compare = functools.partial(
        inference.bootstrap_difference,
        metrics.sharpe_ratio,
        confidence=0.9,
        mean_block_length=1,
        num_draws=100,
    )
    for _ in range(150):
        market = rng.normal(0.05, 1.0, 300)
        overlay = market * np.where(rng.uniform(size=300) < 0.3, 0.5, 1.0)  # random, no skill
        found = compare(overlay, market * 0.85)
        covered.append(found.low <= 0.0 <= found.high)
        p_values.append(found.p_value)
    assert np.mean(covered) == pytest.approx(0.9, abs=5 * np.sqrt(0.09 / 150) + 0.03)
    assert np.mean(np.array(p_values) < 0.1) < 0.1 + 5 * np.sqrt(0.09 / 150)
    better = compare(market + 0.3, market)
    assert better.low > 0.0
    assert better.p_value < 0.05
    # Pairs share the market: apart, the same difference would be lost in its noise.
    alone = inference.bootstrap_interval(metrics.sharpe_ratio, market, mean_block_length=1)
    assert better.high - better.low < 0.5 * (alone.high - alone.low)


def test_random_rules_of_the_same_turnover_lose_their_costs_and_a_seer_beats_them():
    rng = np.random.default_rng(10)
    close = np.exp(np.cumsum(0.01 * rng.normal(size=1000)))
    prices = Prices(close=close)
    options = {"costs": Costs(10.0), "fill": "same_close"}
    knows = np.sign(np.append(np.diff(close), 0.0))
    result = run(np.where(rng.uniform(size=1000) < 0.1, knows, 0.0), prices, **options)
    held = np.asarray(result.weights, float)
    traded = float(np.mean(np.asarray(result.turnover, float)))
    exposure = metrics.exposure(held)
    seer = metrics.sharpe_ratio(np.asarray(result.returns, float))
    null = inference.random_rule_null(
        seer, prices, turnover=traded, exposure=exposure, num_rules=300, **options
    )
    assert null.p_value == pytest.approx(1 / 301)
    # What trading costs, per bar, over the spread of a bar: the drift of the null.
    loss = -traded * 10e-4 / (0.01 * np.sqrt(exposure))
    assert null.values.mean() == pytest.approx(
        loss, abs=5 * null.values.std() / np.sqrt(300) + 0.02
    )
    half = inference.random_rule_null(
        float(np.median(null.values)),
        prices,
        turnover=traded,
        exposure=exposure,
        num_rules=300,
        random_state=1000,
        **options,
    )
    assert half.p_value == pytest.approx(0.5, abs=5 * np.sqrt(0.25 / 300) * np.sqrt(2))
    with pytest.raises(ValueError, match="metric is 'luck'"):
        inference.random_rule_null(0.0, prices, turnover=0.1, metric="luck")
    with pytest.raises(ValueError, match="turnover is 3"):
        inference.random_rule_null(0.0, prices, turnover=3.0)
