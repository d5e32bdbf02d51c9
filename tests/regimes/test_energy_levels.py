"""Energy regimes against strictly earlier energies."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from densityjax.regimes import energy_levels
from densityjax.regimes.energy_levels import LevelRule, Regime, Trend


def by_hand(energy, lookback=20, min_history=5):
    """Robust z-scores by a loop over NumPy medians."""
    z = np.full(len(energy), np.nan)
    for t, value in enumerate(energy):
        past = energy[max(0, t - lookback) : t]
        if len(past) >= min_history:
            mad = np.median(np.abs(past - np.median(past)))
            z[t] = (value - np.median(past)) / (1.4826 * mad)
    return z


@pytest.fixture(scope="module")
def energy():
    return np.random.default_rng(0).gamma(3.0, size=60)


def test_z_is_that_of_the_median_and_mad_of_the_twenty_bars_before(energy):
    found = energy_levels.energy_levels(energy)
    np.testing.assert_allclose(found.z, by_hand(energy), rtol=2e-4, atol=1e-4)
    assert np.isnan(found.z[:5]).all()
    assert (found.regime[:5] == Regime.UNKNOWN).all()


def test_no_later_energy_moves_an_earlier_reading(energy):
    changed = np.where(np.arange(60) < 40, energy, 1e3)
    before, after = (energy_levels.energy_levels(e) for e in (energy, changed))
    for name in before._fields:
        np.testing.assert_array_equal(getattr(before, name)[:40], getattr(after, name)[:40])


def test_a_constant_added_to_every_energy_changes_nothing(energy):
    plain, shifted = (energy_levels.energy_levels(e) for e in (energy, energy + 12_345.0))
    np.testing.assert_array_equal(plain.regime, shifted.regime)


@pytest.mark.parametrize(
    ("z", "regime"),
    [(-1.001, 0), (-1.0, 1), (0.999, 1), (1.0, 2), (1.999, 2), (2.0, 3), (np.nan, -1)],
)
def test_reg_01_cuts_belong_to_the_regime_above(z, regime):
    assert int(energy_levels.level(LevelRule(), z)) == regime


def test_e338_16_one_spike_after_five_calm_values_is_flagged():
    values = np.array([1.0, 1.1, 0.9, 1.05, 0.95, 3.0])
    found = energy_levels.energy_levels(values)
    assert found.regime[-1] == Regime.CRISIS
    # The same energy in its own mean and standard deviation could not be: z <= sqrt(n - 1).
    assert (values[-1] - values.mean()) / values.std(ddof=0) <= np.sqrt(5) + 1e-12
    flat = energy_levels.energy_levels(np.array([1.0] * 5 + [1.5, 1.0]))
    assert flat.regime[-2] == Regime.CRISIS
    assert flat.regime[-1] == Regime.NORMAL
    assert np.isfinite(flat.z[5:]).all()


@pytest.mark.parametrize("n", [5, 20])
def test_e338_16_a_z_that_includes_its_own_value_never_passes_the_root_of_n_less_1(n):
    spiked = np.append(np.random.default_rng(n).normal(size=n - 1), 1e9)
    assert (spiked[-1] - spiked.mean()) / spiked.std(ddof=0) == pytest.approx(np.sqrt(n - 1))
    past_only = energy_levels.past_z(jnp.asarray(1e9), jnp.asarray(spiked[:-1]), min_history=4)
    assert float(past_only) == 1e6


def test_e338_17_a_lasting_step_stays_flagged_where_flagged_bars_stay_out_of_the_past():
    values = np.random.default_rng(1).normal(size=120)
    values[60:] += 30.0
    kept_out = energy_levels.energy_levels(values, rule=LevelRule(exclude_from=4.0))
    let_in = energy_levels.energy_levels(values)
    assert (kept_out.regime[60:] == Regime.CRISIS).all()
    assert (let_in.regime[75:] != Regime.CRISIS).mean() > 0.5  # it absorbs what it should detect
    fixed = energy_levels.reference_z(values[60:], values[:60])
    assert (fixed > 10.0).all()


def test_e338_19_one_record_of_cuts_moves_every_regime_and_must_be_in_order(energy):
    strict, loose = (
        energy_levels.energy_levels(energy, rule=LevelRule(crisis=cut)) for cut in (2.0, 5.0)
    )
    assert (strict.regime == Regime.CRISIS).sum() > (loose.regime == Regime.CRISIS).sum()
    np.testing.assert_array_equal(loose.regime == Regime.CRISIS, loose.z >= 5.0)
    with pytest.raises(ValueError, match="rising"):
        energy_levels.energy_levels(energy, rule=LevelRule(crisis=0.5))


def test_a_rise_is_taken_at_once_and_a_fall_waits_for_margin_and_hold():
    state = energy_levels.start(lookback=5)
    state = state._replace(energy=jnp.asarray([-0.6745, 0.6745, 0.0, -2.0, 2.0]) * 1.0)
    rule = LevelRule(margin=0.5, min_hold=3, exclude_from=-np.inf)  # so that z is 1.0 per energy
    regimes = []
    step = jax.jit(energy_levels.step)
    for z in (0.0, 1.2, 0.9, 0.4, 0.4, 0.4):
        scale = 1.4826 * 0.6745
        state, reading = step(rule, state, z * scale)
        regimes.append(int(reading.regime))
    # .9 is within the margin of the cut at 1; .4 is not, once three bars were elevated.
    assert regimes == [1, 2, 2, 2, 1, 1]


def test_sig_09_trend_of_a_ramp_of_flat_values_and_of_a_short_series():
    noise = 0.01 * np.random.default_rng(2).normal(size=40)
    assert energy_levels.trend(0.0, 0.6) == Trend.INCREASING
    assert energy_levels.trend(0.0, 0.5) == Trend.STABLE
    assert energy_levels.trend(0.6, 0.0) == Trend.DECREASING
    short = energy_levels.energy_levels(noise[:5])
    assert (short.trend == Trend.UNKNOWN).all()
    ramp = np.linspace(0.0, 6.0, 40) + noise
    grown, fallen = (energy_levels.energy_levels(sign * ramp).trend for sign in (1, -1))
    assert (grown[-5:] == Trend.INCREASING).all()
    assert (fallen[-5:] == Trend.DECREASING).all()
    still = np.append(np.tile([0.0, 1.0], 10), [0.5] * 5)
    assert energy_levels.energy_levels(still).trend[-1] == Trend.STABLE


def test_a_missing_energy_is_unknown_and_leaves_the_past_alone(energy):
    holed = energy.copy()
    holed[30] = np.nan
    found = energy_levels.energy_levels(holed)
    without = energy_levels.energy_levels(np.delete(energy, 30))
    assert found.regime[30] == Regime.UNKNOWN
    np.testing.assert_array_equal(np.delete(found.z, 30), without.z)


def test_what_is_not_accepted_is_named(energy):
    with pytest.raises(ValueError, match="min_history"):
        energy_levels.energy_levels(energy, min_history=21)
    with pytest.raises(ValueError, match="lookback"):
        energy_levels.start(lookback=1)
    with pytest.raises(ValueError, match="min_hold"):
        energy_levels.check_rule(LevelRule(min_hold=-1))
    with pytest.raises(ValueError, match="deviation"):
        energy_levels.reference_z(energy, np.ones(5))


def test_ec_07_a_very_typical_bar_is_calm_and_never_an_anomaly(energy):
    typical = np.append(energy[:20], -1e3)
    found = energy_levels.energy_levels(typical)
    assert found.z[-1] < -100.0
    assert found.regime[-1] == Regime.CALM
