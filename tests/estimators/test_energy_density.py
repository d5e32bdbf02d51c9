"""The energy family on tables: a known law in units of X, its integral, samples, bad input."""

import inspect

import jax
import numpy as np
import pytest
from scipy import stats
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.utils import estimator_checks

from densityjax import targets
from densityjax.estimators import EnergyDensity, FlowDensity
from densityjax.models import Chains

OPTIONS = {
    "widths": (32, 32),
    "flow_layers": 2,
    "flow_width": 8,
    "flow_epochs": 12,
    "num_epochs": 80,
    "batch_size": 256,
    "learning_rate": 5e-3,
}
UNITS = np.array([1e-3, 50.0])  # columns need not be of one size
LAW = targets.banana()


def draw(seed, size):
    keys = jax.random.split(jax.random.key(seed), size)
    return np.asarray(jax.jit(jax.vmap(LAW.sample))(keys), np.float64) * UNITS


def log_prob(rows):
    return np.asarray(jax.vmap(LAW.log_prob)(rows / UNITS)) - np.log(UNITS).sum()


TRAIN, CALIBRATION, TEST = draw(0, 3_000), draw(1, 1_000), draw(2, 1_000)


@pytest.fixture(scope="module")
def fitted():
    return EnergyDensity(**OPTIONS).fit(TRAIN, calibration=CALIBRATION)


def test_log_densities_are_those_of_the_law_in_units_of_x_and_beat_the_flow_alone(fitted):
    scores, truth = fitted.score_samples(TEST), log_prob(TEST)
    assert np.corrcoef(scores, truth)[0, 1] > 0.9
    assert abs(np.mean(scores - truth)) < 0.15
    assert fitted.gain_ > 0.02  # the flow is a small one, stopped early
    assert fitted.score(TEST) == pytest.approx(scores.mean(), rel=1e-5)


@pytest.fixture(scope="module")
def on_grid(fitted):
    """Log densities on a grid over the law, and the mass of each of its cells."""
    axes = [np.linspace(-9.0, 9.0, 121), np.linspace(-7.0, 26.0, 221)]
    grid = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, 2)
    cell = np.prod([axis[1] - axis[0] for axis in axes]) * UNITS.prod()
    scores = fitted.score_samples(grid * UNITS)
    return scores, np.exp(scores) * cell


def test_the_density_integrates_to_one_as_its_interval_says(fitted, on_grid):
    total = on_grid[1].sum()
    found = fitted.partition_
    assert np.log(total) == pytest.approx(0.0, abs=5 * float(found.standard_error) + 0.02)
    assert found.lower < found.log_z < found.upper
    assert found.effective_sample_size > 1_000


def test_energies_are_minus_log_densities_up_to_a_constant(fitted):
    rise = fitted.energy(TEST) + fitted.score_samples(TEST)
    np.testing.assert_allclose(rise, -float(fitted.partition_.log_z), atol=1e-4)
    far = np.median(TEST, axis=0) + UNITS * np.array([[0.0, 0.0], [0.0, 1e2], [0.0, 1e3]])
    assert (np.diff(fitted.energy(far)) > 1.0).all()


def test_p_values_of_new_rows_are_uniform_and_alarms_agree_with_them(fitted):
    p_value = fitted.p_value(TEST)
    assert stats.ks_2samp(-fitted.score_samples(TEST), fitted.calibration_score_).pvalue > 1e-3
    labels = fitted.predict(TEST)
    np.testing.assert_array_equal(labels, np.where(p_value <= 0.05, -1, 1))
    np.testing.assert_array_equal(
        fitted.decision_function(TEST), fitted.score_samples(TEST) - fitted.offset_
    )


def test_samples_follow_the_density_that_is_stated(fitted, on_grid):
    """The share of samples below a log density is the mass of the grid below it."""
    sample = fitted.sample(1_000, random_state=3)
    np.testing.assert_array_equal(sample, fitted.sample(1_000, random_state=3))
    assert (sample != fitted.sample(1_000, random_state=4)).any()
    found, (scores, mass) = fitted.score_samples(sample), on_grid
    for cut in np.quantile(found, [0.1, 0.3, 0.6, 0.9]):
        expected = mass[scores < cut].sum() / mass.sum()
        error = (expected * (1.0 - expected) / 1_000) ** 0.5
        assert (found < cut).mean() == pytest.approx(expected, abs=4 * error + 0.01)


def test_a_saved_density_answers_bit_for_bit_alike(fitted, tmp_path):
    fitted.save(tmp_path / "density")
    loaded = EnergyDensity.load(tmp_path / "density")
    for method in ("score_samples", "p_value", "predict", "energy"):
        np.testing.assert_array_equal(
            getattr(loaded, method)(TEST[:300]), getattr(fitted, method)(TEST[:300])
        )
    np.testing.assert_array_equal(loaded.sample(99), fitted.sample(99))
    assert loaded.gain_ == fitted.gain_
    np.testing.assert_array_equal(np.stack(loaded.partition_), np.stack(fitted.partition_))
    with pytest.raises(ValueError, match="holds a EnergyDensity, not a FlowDensity"):
        FlowDensity.load(tmp_path / "density")


def test_a_nan_stays_in_its_row_and_gets_no_label(fitted):
    rows = TEST[:99].copy()
    rows[2, 1] = np.nan
    for answer in (fitted.score_samples(rows), fitted.p_value(rows), fitted.energy(rows)):
        assert np.flatnonzero(np.isnan(answer)).tolist() == [2]
    with pytest.raises(ValueError, match="no density in row 2"):
        fitted.predict(rows)


SKEWED = np.log(np.random.default_rng(0).exponential(size=(2_500, 1)))  # a sign error shows
GRID = np.linspace(-12.0, 4.0, 801)[:, None]


def test_a_flow_at_hand_is_taken_instead_of_fitting_one(fitted):
    flow = FlowDensity(num_layers=2, width=8, num_epochs=2).fit(TRAIN, calibration=CALIBRATION)
    flow.params_ = jax.tree.map(lambda leaf: leaf[None], fitted.params_["proposal"])
    again = clone(fitted).fit(TRAIN, calibration=CALIBRATION, proposal=flow)
    assert again.gain_ > 0.02
    for leaf, own in zip(
        jax.tree.leaves(again.params_["proposal"]),
        jax.tree.leaves(fitted.params_["proposal"]),
        strict=True,
    ):
        np.testing.assert_array_equal(leaf, own)
    with pytest.raises(ValueError, match="proposal has 1 members, 2 columns and transforms None"):
        EnergyDensity(**OPTIONS, transforms=["log", "identity"]).fit(
            np.exp(TRAIN / UNITS), proposal=flow
        )


def test_a_correction_that_is_worse_than_the_flow_is_thrown_away():
    spoilt = EnergyDensity(**{**OPTIONS, "num_epochs": 1, "learning_rate": 1.0}).fit(SKEWED)
    assert spoilt.gain_ == 0.0
    assert float(spoilt.partition_.log_z) == pytest.approx(0.0, abs=1e-5)
    assert np.exp(spoilt.score_samples(GRID)).sum() * 0.02 == pytest.approx(1.0, abs=0.01)


def test_one_column_by_persistent_chains_on_a_normal_base(tmp_path):
    chains = Chains(num_steps=10, step_size=0.3)
    options = {**OPTIONS, "num_epochs": 30}
    density = EnergyDensity("pcd", base="normal", chains=chains, **options).fit(SKEWED)
    mass = np.exp(density.score_samples(GRID)) * 0.02
    truth = np.exp(GRID[:, 0] - np.exp(GRID[:, 0])) * 0.02
    assert mass.sum() == pytest.approx(1.0, abs=5 * float(density.partition_.standard_error) + 0.01)
    assert 0.5 * np.abs(mass - truth).sum() < 0.08
    density.save(tmp_path / "density")
    loaded = EnergyDensity.load(tmp_path / "density")
    assert loaded.get_params() == density.get_params() == clone(density).get_params()


@pytest.mark.parametrize(
    ("rows", "options", "match"),
    [
        (np.full((99, 2), np.nan), {}, "NaN"),
        (np.array([[1.0, 2.0], [1.0, 3.0]] * 9), {}, "X is constant in column 0"),
        (TRAIN[:5], {}, "rows are too few"),
        (TRAIN[:, 0], {}, "2D array"),
        (TRAIN[:99], {"loss": "mle"}, "loss is 'mle'"),
        (TRAIN[:99], {"base": "cauchy"}, "base is 'cauchy'"),
        (TRAIN[:99], {"widths": ()}, "widths is"),
        (TRAIN[:99], {"num_noise": 0}, "num_noise is 0"),
        (TRAIN[:99], {"flow_epochs": 0}, "num_epochs is 0"),
        (TRAIN[:99], {"flow_layers": 0}, "num_layers is 0"),
        (TRAIN[:99], {"transforms": ["log"]}, "transforms has 1 names: accepted are 2"),
        (TRAIN[:99], {"calibration_fraction": 1.0}, r"calibration_fraction is 1\.0"),
    ],
)
def test_wrong_rows_or_options_are_named(rows, options, match):
    with pytest.raises(ValueError, match=match):
        EnergyDensity(**{**OPTIONS, **options}).fit(rows)


def test_wrong_calls_after_and_before_the_fit_are_named(fitted):
    for call, match in (
        (lambda: fitted.score_samples(np.zeros((4, 3))), "3 columns: accepted are the 2"),
        (lambda: fitted.sample(0), "n is 0"),
    ):
        with pytest.raises(ValueError, match=match):
            call()
    fresh = EnergyDensity()
    for method in (fresh.score_samples, fresh.energy, fresh.p_value, fresh.predict):
        with pytest.raises(NotFittedError):
            method(TEST)


@pytest.mark.parametrize(
    "check",
    [
        "check_no_attributes_set_in_init",
        "check_parameters_default_constructible",
        "check_get_params_invariance",
        "check_set_params",
        "check_estimators_unfitted",
        "check_estimator_repr",
    ],
)
def test_the_protocol_of_scikit_learn_holds(check):
    run = getattr(estimator_checks, check)
    assert len(inspect.signature(run).parameters) == 2
    run("EnergyDensity", EnergyDensity(**OPTIONS))
