"""Energies of a stream against their own past, kernel energies, and scores over noise levels."""

import jax
import numpy as np
import pytest
from scipy import stats

from densityjax.regimes import anomaly_scores, kernel_energy, streaming_energy


@pytest.fixture(scope="module")
def states():
    return np.random.default_rng(0).normal(size=(6000, 23)) * np.geomspace(0.1, 10, 23) + 3.0


@pytest.fixture(scope="module")
def found(states):
    return streaming_energy.streaming_energies(states)


def by_hand(x, num, decay=0.1, window=100):
    """Energies and z-scores of the first states by weighted moments of all before them."""
    energy, z = np.full(num, np.nan), np.full(num, np.nan)
    for t in range(20, num):
        weight = (1 - decay) ** np.arange(t)[::-1]
        weight /= weight.sum()
        mean = weight @ x[:t]
        variance = weight @ (x[:t] - mean) ** 2 / (1 - decay)
        energy[t] = np.mean((x[t] - mean) ** 2 / variance)
        past = energy[max(0, t - window) : t]
        past = past[np.isfinite(past)]
        if len(past) >= 20:
            z[t] = (energy[t] - past.mean()) / past.std(ddof=1)
    return energy, z


def test_den_07_a_stream_equals_moments_taken_anew_at_each_state(states, found):
    energy, z = by_hand(states, 200)
    np.testing.assert_allclose(found.energy[:200], energy, rtol=2e-3)
    np.testing.assert_allclose(found.z[:200], z, atol=2e-2)
    state = streaming_energy.start(23)
    step = jax.jit(streaming_energy.step)
    for t in range(60):
        state, one = step(state, states[t])
        for name in one._fields:
            np.testing.assert_allclose(
                getattr(one, name), getattr(found, name)[t], rtol=1e-3, err_msg=name
            )


def test_ec_05_energy_does_not_climb_from_an_arbitrary_start(found):
    assert np.isnan(found.energy[:20]).all()
    first, late = found.energy[20:70].mean(), found.energy[3000:].mean()
    assert first == pytest.approx(late, rel=0.15)
    assert 1.0 < late < 1.3  # a ratio of variances: a little above one


def test_ec_05_the_false_alarm_rate_of_p_values_is_the_nominal_one(found):
    p = found.p_value[np.isfinite(found.p_value)]
    for rate in (0.05, 0.1):
        nominal = np.floor(101 * rate) / 101
        error = np.sqrt(rate * (1 - rate) / len(p))
        # Neighbouring ranks share their buffer: allow twice the error of independent ones.
        assert abs(np.mean(p <= rate) - nominal) < 8 * error
    # The mean and standard deviation of a skewed law promise no such rate.
    assert np.mean(found.z[120:] > 2.0) > 1.4 * stats.norm.sf(2.0)


def test_a_strange_state_is_anomalous_and_scales_a_position_away(states):
    strange = states[:300].copy()
    strange[250] += 8 * states.std(axis=0)
    found = streaming_energy.streaming_energies(strange)
    assert found.is_anomalous[250]
    assert found.scale[250] == 0.0
    assert found.regime[250] == 3
    assert (found.scale[:40] == 0.0).all()  # nothing is known yet
    assert 0.0 < found.scale[240] <= 1.0


def test_a_state_that_is_not_finite_is_not_let_in(states):
    holed = np.insert(states[:100], 50, np.nan, axis=0)
    found, plain = (streaming_energy.streaming_energies(s) for s in (holed, states[:100]))
    assert np.isnan(found.energy[50])
    assert found.scale[50] == 0.0
    np.testing.assert_array_equal(np.delete(found.energy, 50), plain.energy)


def test_ec_13_kernel_energies_equal_scipy_in_two_dimensions():
    rng = np.random.default_rng(1)
    points = rng.normal(size=(200, 2)) @ np.array([[2.0, 0.0], [1.5, 0.1]]) + 5.0
    x = rng.normal(size=(50, 2)) * 2.0 + 5.0
    model = kernel_energy.fit_kernel_energy(points)
    with jax.enable_x64(True):
        found = kernel_energy.kernel_energies(model, x)
    expected = -stats.gaussian_kde(points.T).logpdf(x.T)
    near = expected < 600.0
    np.testing.assert_allclose(found[near], expected[near], rtol=1e-9)
    far = kernel_energy.kernel_energies(model, np.array([[1e4, -1e4]]))
    assert np.isfinite(far).all()
    assert far[0] > 1e6


def test_kernel_energies_do_not_depend_on_the_units_of_the_columns():
    rng = np.random.default_rng(2)
    points, x = rng.normal(size=(80, 3)), rng.normal(size=(10, 3))
    scale = np.array([1e-3, 1.0, 1e4])
    plain, scaled = (
        kernel_energy.kernel_energies(kernel_energy.fit_kernel_energy(points * s), x * s)
        for s in (1.0, scale)
    )
    np.testing.assert_allclose(scaled - np.log(scale).sum(), plain, rtol=1e-3)


def test_scores_over_levels_are_standardised_by_training_rows_alone():
    rng = np.random.default_rng(3)
    train, test = rng.normal([1.0, -5.0], [2.0, 0.1], (500, 2)), np.array([[3.0, -4.9]])
    scale = anomaly_scores.fit_scale(train)
    z = (test - train.mean(axis=0)) / train.std(axis=0)
    most = anomaly_scores.aggregate(test, scale)
    mean = anomaly_scores.aggregate(test, scale, how="mean")
    np.testing.assert_allclose(most, z.max(axis=1), rtol=1e-4)
    np.testing.assert_allclose(mean, z.mean(axis=1), rtol=1e-4)
    alone = anomaly_scores.aggregate(np.vstack([test, test * 100]), scale)
    assert alone[0] == most[0]  # no other scored row moves it


def test_what_is_not_accepted_is_named():
    with pytest.raises(ValueError, match="how"):
        anomaly_scores.aggregate(
            np.ones(2), anomaly_scores.ScoreScale(np.ones(2), np.ones(2)), how="median"
        )
    with pytest.raises(ValueError, match="spread"):
        anomaly_scores.fit_scale(np.ones((5, 2)))
    with pytest.raises(ValueError, match="finite"):
        anomaly_scores.fit_scale(np.full((5, 2), np.nan))
    with pytest.raises(ValueError, match="plane"):
        kernel_energy.fit_kernel_energy(np.arange(20.0).reshape(10, 2))
    with pytest.raises(ValueError, match="n > D"):
        kernel_energy.fit_kernel_energy(np.ones((2, 2)))
    with pytest.raises(ValueError, match="width"):
        kernel_energy.fit_kernel_energy(np.random.default_rng(0).normal(size=(9, 2)), width=0.0)
    with pytest.raises(ValueError, match="window"):
        streaming_energy.start(3, window=1)
    with pytest.raises(ValueError, match="decay"):
        streaming_energy.streaming_energies(np.ones((5, 2)), decay=1.0)
