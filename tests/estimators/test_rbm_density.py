"""The Boltzmann machine on tables: densities in units of X, log Z, samples, files, refusals."""

import pickle

import numpy as np
import pytest
from scipy import stats
from sklearn.base import clone
from sklearn.exceptions import NotFittedError

from densityjax.estimators import FlowDensity, RBMDensity

UNITS = np.array([1e-3, 50.0])
OPTIONS = {"num_hidden": 6, "num_epochs": 60, "learning_rate": 0.03}


def draw(seed, size):
    """Rows whose log and value, in units, are two modes of sd .5 around minus and plus 1.5."""
    rng = np.random.default_rng(seed)
    centre = np.where(rng.random((size, 1)) < 0.4, -1.5, 1.5)
    latent = centre + 0.5 * rng.standard_normal((size, 2))
    return np.stack([np.exp(latent[:, 0]), latent[:, 1]], axis=1) * UNITS


def latent_of(rows):
    return np.stack([np.log(rows[:, 0] / UNITS[0]), rows[:, 1] / UNITS[1]], axis=1)


def log_prob(rows):
    y = latent_of(rows)
    modes = [stats.norm.logpdf(y, centre, 0.5).sum(1) for centre in (-1.5, 1.5)]
    mixed = np.logaddexp(modes[0] + np.log(0.4), modes[1] + np.log(0.6))
    return mixed - np.log(rows[:, 0]) - np.log(UNITS[1])


TRAIN, CALIBRATION, TEST = draw(0, 2500), draw(1, 800), draw(2, 800)


@pytest.fixture(scope="module")
def fitted():
    model = RBMDensity(**OPTIONS, transforms=["log", "identity"])
    return model.fit(TRAIN, calibration=CALIBRATION)


def test_log_densities_are_those_of_the_law_in_units_of_x(fitted):
    scores, truth = fitted.score_samples(TEST), log_prob(TEST)
    y = latent_of(TRAIN)
    normal = stats.multivariate_normal(y.mean(0), np.cov(y.T)).logpdf(latent_of(TEST))
    normal -= np.log(TEST[:, 0]) + np.log(UNITS[1])
    gain = truth.mean() - normal.mean()
    assert scores.mean() > normal.mean() + 0.6 * gain
    assert scores.mean() < truth.mean() + 0.05
    assert fitted.score(TEST) == pytest.approx(scores.mean(), rel=1e-5)
    assert fitted.is_normalised_
    assert fitted.log_z_interval_ == (fitted.log_z_, fitted.log_z_)


def test_the_density_integrates_to_one(fitted):
    nodes = np.linspace(-6.0, 6.0, 121)
    grid = np.stack(np.meshgrid(nodes, nodes, indexing="ij"), -1).reshape(-1, 2)
    rows = np.stack([np.exp(grid[:, 0]) * UNITS[0], grid[:, 1] * UNITS[1]], axis=1)
    density = np.exp(fitted.score_samples(rows).astype(np.float64)) * rows[:, 0] * UNITS[1]
    assert density.sum() * 0.1**2 == pytest.approx(1.0, abs=1e-3)


def test_alarms_hold_their_rate_and_agree_with_p_values(fitted):
    p_value, labels = fitted.p_value(TEST), fitted.predict(TEST)
    np.testing.assert_array_equal(labels, np.where(p_value <= 0.05, -1, 1))
    error = (0.05 * 0.95 * 2 / 800) ** 0.5
    assert (labels == -1).mean() == pytest.approx(0.05, abs=4 * error)
    # Between the modes and far from both: strange, though inside the range of each column.
    strange = np.array([[np.exp(1.5), -1.5], [np.exp(-1.5), 1.5]]) * UNITS
    assert (fitted.predict(strange) == -1).all()


def test_samples_are_draws_of_the_fitted_density(fitted):
    sample = fitted.sample(1500, random_state=3)
    np.testing.assert_array_equal(sample, fitted.sample(1500, random_state=3))
    assert (sample != fitted.sample(1500, random_state=4)).any()
    # Log densities of its own draws have the mean that importance weights of the truth give.
    own = fitted.score_samples(sample).astype(np.float64)
    weights = np.exp(fitted.score_samples(TEST) - log_prob(TEST)).astype(np.float64)
    expected = np.average(fitted.score_samples(TEST), weights=weights)
    error = 4 * own.std() * (1 / 1500 + 2 / 800) ** 0.5
    assert own.mean() == pytest.approx(expected, abs=error)


def test_reconstruction_brings_rows_of_the_law_back_better_than_strange_ones(fitted):
    back = fitted.reconstruct(TEST)
    assert back.shape == TEST.shape
    error = fitted.reconstruction_error(TEST)
    y, found = latent_of(TEST), latent_of(back)
    scale = np.asarray(fitted.params_["standardiser"]["scale"]) / [1.0, UNITS[1]]
    np.testing.assert_allclose(error, np.mean(((y - found) / scale) ** 2, axis=1), rtol=2e-2)
    strange = np.array([[np.exp(5.0), -5.0]]) * UNITS
    assert fitted.reconstruction_error(strange)[0] > 5 * error.mean()


def test_a_saved_density_answers_bit_for_bit_alike(fitted, tmp_path):
    fitted.save(tmp_path / "density")
    loaded = RBMDensity.load(tmp_path / "density")
    for method in ("score_samples", "p_value", "predict", "reconstruct"):
        np.testing.assert_array_equal(
            getattr(loaded, method)(TEST[:99]), getattr(fitted, method)(TEST[:99])
        )
    np.testing.assert_array_equal(loaded.sample(9), fitted.sample(9))
    pickled = pickle.loads(pickle.dumps(fitted))
    np.testing.assert_array_equal(pickled.score_samples(TEST[:99]), fitted.score_samples(TEST[:99]))
    assert loaded.get_params() == fitted.get_params() == clone(fitted).get_params()
    assert loaded.log_z_interval_ == fitted.log_z_interval_
    with pytest.raises(ValueError, match="holds a RBMDensity, not a FlowDensity"):
        FlowDensity.load(tmp_path / "density")


@pytest.mark.parametrize(("method", "num_hidden"), [("pcd", 17), ("likelihood", 4)])
def test_other_methods_and_larger_machines_have_the_same_face(method, num_hidden):
    rows = np.random.default_rng(0).standard_normal((400, 2))
    options = {"num_epochs": 3, "num_chains": 64, "num_temperatures": 50, "learning_rate": 1e-3}
    model = RBMDensity(num_hidden, method=method, **options).fit(rows)
    low, high = model.log_z_interval_
    assert model.is_normalised_ == (num_hidden <= 16)
    assert low <= model.log_z_ <= high
    assert (low < high) == (num_hidden > 16)
    # A machine starts close to the normal law, and three short epochs move it little.
    expected = stats.norm.logpdf(rows[:64]).sum(axis=1)
    assert np.mean(model.score_samples(rows[:64]) - expected) == pytest.approx(0.0, abs=0.3)
    assert model.sample(3).shape == (3, 2)


def test_a_nan_stays_in_its_row_and_gets_no_label(fitted):
    rows = TEST[:99].copy()
    rows[2, 1] = np.nan
    rows[3, 0] = -1.0  # outside the range of a log
    for answer in (fitted.score_samples(rows), fitted.p_value(rows)):
        assert np.flatnonzero(np.isnan(answer)).tolist() == [2, 3]
    with pytest.raises(ValueError, match="no density in row 2"):
        fitted.predict(rows)


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"method": "cd-1"}, "method is 'cd-1'"),
        ({"num_hidden": 0}, "num_hidden is 0"),
        ({"num_gibbs": 0}, "num_steps is 0"),
        ({"method": "likelihood", "num_hidden": 17}, "num_hidden is 17"),
        ({"num_epochs": 0}, "num_epochs is 0"),
        ({"transforms": ["log"]}, "transforms has 1 names"),
        ({"calibration_fraction": 1.0}, r"calibration_fraction is 1\.0"),
    ],
)
def test_wrong_options_are_named(options, match):
    with pytest.raises(ValueError, match=match):
        RBMDensity(**{**OPTIONS, **options}).fit(TRAIN)


def test_wrong_calls_are_named(fitted):
    with pytest.raises(ValueError, match="3 columns: accepted are the 2"):
        fitted.score_samples(np.zeros((4, 3)))
    with pytest.raises(ValueError, match="n is 0"):
        fitted.sample(0)
    for method in ("score_samples", "reconstruct", "predict", "sample"):
        with pytest.raises(NotFittedError):
            getattr(RBMDensity(), method)(TEST)
