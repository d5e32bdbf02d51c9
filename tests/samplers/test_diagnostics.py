import numpy as np
import pytest
from scipy import signal

from densityjax.samplers import diagnostics

RNG = np.random.default_rng(0)


def autoregressive(correlation, shape, seed=1):
    """Stationary AR(1) of variance one, along the second axis."""
    rng = np.random.default_rng(seed)
    noise = np.sqrt(1.0 - correlation**2) * rng.standard_normal(shape)
    noise[:, 0] = rng.standard_normal(noise[:, 0].shape)
    return signal.lfilter([1.0], [1.0, -correlation], noise, axis=1)


def slow_ess(chains):
    """Plain twin: the sums of Geyer's sequence as loops over lags."""
    num_chains, n = chains.shape
    centred = chains - chains.mean(axis=1, keepdims=True)

    def covariance(lag):
        return np.mean([row[: n - lag] @ row[lag:] / n for row in centred])

    within = covariance(0) * n / (n - 1)
    total = covariance(0) + chains.mean(axis=1).var(ddof=1)
    rho = [1.0] + [1.0 - (within - covariance(lag)) / total for lag in range(1, n)]
    time, smallest, lag = -1.0, np.inf, 0
    while lag + 1 < n and rho[lag] + rho[lag + 1] > 0.0:
        smallest = min(smallest, rho[lag] + rho[lag + 1])
        time += 2.0 * smallest
        lag += 2
    return num_chains * n / time


@pytest.mark.parametrize("correlation", [0.9, 0.5, 0.0, -0.4])
def test_ess_of_an_autoregressive_chain_is_within_five_percent(correlation):
    """Known answer: N (1 - rho) / (1 + rho); eight chains, so that the estimate is that sharp."""
    chains = autoregressive(correlation, (8, 40_000))
    expected = chains.size * (1.0 - correlation) / (1.0 + correlation)
    assert abs(diagnostics.mean_ess(chains) / expected - 1.0) < 0.05
    assert abs(diagnostics.bulk_ess(chains) / expected - 1.0) < 0.05


def test_ess_is_the_slow_twin_of_itself_on_split_chains():
    chains = autoregressive(0.7, (3, 301))
    halves = np.concatenate([chains[:, :150], chains[:, 151:]])
    np.testing.assert_allclose(diagnostics.mean_ess(chains), slow_ess(halves), rtol=1e-9)


def test_the_stated_error_of_the_mean_covers_the_truth():
    chains = autoregressive(0.8, (4, 500, 400), seed=5)  # 400 quantities, each of mean zero
    summary = diagnostics.summarise(chains)
    ratio = summary.mean / summary.mean_error
    assert abs(ratio.std() - 1.0) < 5.0 / np.sqrt(800.0) + 0.05
    assert abs(summary.sd.mean() - 1.0) < 0.05


def test_tail_ess_of_independent_samples_is_their_number_and_of_slow_tails_much_less():
    chains = RNG.standard_normal((4, 5_000))
    assert abs(diagnostics.tail_ess(chains) / chains.size - 1.0) < 0.1
    scale = np.exp(autoregressive(0.995, (4, 5_000)))  # signs mix at once, sizes do not
    slow = chains * scale
    assert diagnostics.tail_ess(slow) < 0.2 * diagnostics.mean_ess(slow)


def test_r_hat_is_one_of_chains_that_agree_and_not_of_others():
    chains = RNG.standard_normal((4, 1_000))
    assert abs(diagnostics.split_r_hat(chains) - 1.0) < 0.01
    shifted = chains + np.array([0.0, 0.0, 0.0, 1.0])[:, None]
    scaled = chains * np.array([1.0, 1.0, 1.0, 4.0])[:, None]
    drifting = chains + np.linspace(0.0, 2.0, 1_000)
    for bad in (shifted, scaled, drifting, drifting[:1]):
        assert diagnostics.split_r_hat(bad) > 1.05
    # Plain R-hat by hand on chains long enough for ranks not to matter: B = W / 4 + shift.
    two = np.concatenate([chains[:2], chains[2:] + 1.0])
    expected = np.sqrt(1.0 + (1.0 / 3.0) / 1.0)  # variance of half-means 0, 0, 1, 1 over one
    assert abs(diagnostics.split_r_hat(two) - expected) < 0.1


def test_ranks_make_them_blind_to_monotone_maps_and_safe_without_a_mean():
    chains = autoregressive(0.6, (4, 2_000))
    for function in (diagnostics.bulk_ess, diagnostics.tail_ess):
        np.testing.assert_allclose(function(np.exp(3.0 * chains)), function(chains), rtol=1e-9)
    cauchy = RNG.standard_cauchy((4, 2_000))
    assert abs(diagnostics.split_r_hat(cauchy) - 1.0) < 0.02


def test_shapes_pass_through_and_quantities_are_apart():
    chains = RNG.standard_normal((2, 100, 3, 2))
    chains[0, :, 1, 0] += 5.0
    r_hat = diagnostics.split_r_hat(chains)
    assert r_hat.shape == (3, 2)
    assert np.argmax(r_hat) == 2
    summary = diagnostics.summarise(chains, acceptance_rate=np.array([0.5, 0.7]))
    assert summary.tail_ess.shape == summary.mean.shape == (3, 2)
    np.testing.assert_allclose(summary.acceptance_rate, 0.6)
    assert diagnostics.summarise(chains).acceptance_rate is None


def test_a_chain_that_never_moves_has_no_ess_and_no_r_hat():
    still = np.ones((2, 50))
    assert np.isnan(diagnostics.bulk_ess(still))
    assert np.isnan(diagnostics.mean_ess(still))
    assert np.isnan(diagnostics.split_r_hat(still))
    apart = still * np.array([[0.0], [1.0]])
    assert np.isinf(diagnostics.split_r_hat(apart))


def test_antithetic_chains_are_worth_more_than_their_length_and_capped():
    chains = np.tile([-1.0, 1.0], 1_000)[None] + 1e-3 * RNG.standard_normal((1, 2_000))
    assert 2_000 < diagnostics.mean_ess(chains) <= 2_000 * np.log10(2_000) + 1e-6


@pytest.mark.parametrize(
    ("chains", "match"),
    [
        (np.ones(50), "C, N"),
        (np.ones((2, 7)), "N >= 8"),
        (np.full((2, 50), np.nan), "finite"),
    ],
)
def test_bad_chains_are_refused(chains, match):
    for function in (diagnostics.split_r_hat, diagnostics.bulk_ess, diagnostics.summarise):
        with pytest.raises(ValueError, match=match):
            function(chains)
