"""The score family on tables: known laws in units of X, samples, missing values, bad input."""

import jax
import numpy as np
import pytest
from scipy import stats
from scipy.spatial.distance import cdist
from sklearn.base import clone
from sklearn.exceptions import NotFittedError

from densityjax.estimators import FlowDensity, ScoreDensity

OPTIONS = {"width": 32, "num_epochs": 80, "learning_rate": 5e-3, "num_steps": 24}
QUICK = {**OPTIONS, "width": 8, "num_epochs": 2, "num_levels": 4, "learning_rate": 5e-4}
UNITS = np.array([1e-3, 50.0])  # columns need not be of one size
FACTOR = np.array([[1.0, 0.0], [0.75, 0.66]])  # of the log of the first column and the second
COVARIANCE = FACTOR @ FACTOR.T


def draw(seed, size):
    """Rows whose first column is log-normal, correlated with a normal second."""
    normal = np.random.default_rng(seed).standard_normal((size, 2)) @ FACTOR.T
    return np.stack([np.exp(normal[:, 0]), normal[:, 1]], axis=1) * UNITS


def latent(rows):
    return np.stack([np.log(rows[:, 0] / UNITS[0]), rows[:, 1] / UNITS[1]], axis=1)


def log_prob(rows):
    normal = stats.multivariate_normal(np.zeros(2), COVARIANCE).logpdf(latent(rows))
    return normal - np.log(rows[:, 0]) - np.log(UNITS[1])


TRAIN, CALIBRATION, TEST = draw(0, 3000), draw(1, 1000), draw(2, 1000)


@pytest.fixture(scope="module")
def fitted():
    # Without a tail layer, so that noise of the transformed columns is noise of the latent ones.
    model = ScoreDensity(**OPTIONS, tail="none", transforms=["log", "identity"])
    return model.fit(TRAIN, calibration=CALIBRATION)


def test_log_densities_are_those_of_the_law_in_units_of_x(fitted):
    scores, truth = fitted.score_samples(TEST), log_prob(TEST)
    assert np.corrcoef(scores, truth)[0, 1] > 0.99
    assert abs(np.mean(scores - truth)) < 0.05
    assert fitted.score(TEST) == pytest.approx(scores.mean(), rel=1e-5)
    assert fitted.is_normalised_


def test_p_values_of_new_rows_are_uniform_and_alarms_agree_with_them(fitted):
    p_value = fitted.p_value(TEST)
    assert stats.ks_2samp(-fitted.score_samples(TEST), fitted.calibration_score_).pvalue > 1e-3
    labels, margin = fitted.predict(TEST), fitted.decision_function(TEST)
    np.testing.assert_array_equal(labels, np.where(p_value <= 0.05, -1, 1))
    np.testing.assert_array_equal(margin, fitted.score_samples(TEST) - fitted.offset_)
    error = (0.05 * 0.95 * 2 / 1000) ** 0.5
    assert (labels == -1).mean() == pytest.approx(0.05, abs=4 * error)


def energy_statistic(distance, is_first):
    first, second = distance[is_first], distance[~is_first]
    return 2 * first[:, ~is_first].mean() - first[:, is_first].mean() - second[:, ~is_first].mean()


def test_samples_are_as_near_to_data_as_data_to_data(fitted):
    sample = fitted.sample(400, random_state=3)
    np.testing.assert_array_equal(sample, fitted.sample(400, random_state=3))
    assert (sample != fitted.sample(400, random_state=4)).any()
    distance = cdist(*[np.concatenate([latent(sample), latent(TEST[:400])])] * 2)
    is_sample = np.arange(800) < 400
    rng = np.random.default_rng(0)
    null = [energy_statistic(distance, rng.permutation(is_sample)) for _ in range(200)]
    assert energy_statistic(distance, is_sample) < np.quantile(null, 0.995)


def test_far_rows_of_a_heavy_tailed_law_keep_their_density():
    law = stats.t(3.0)
    rows = law.rvs((4000, 1), random_state=0)
    far = law.ppf([[1e-4], [1e-3], [0.999], [0.9999]])  # ten rows of the 4,000 lie beyond
    error = {}
    for tail in ("lambert_w", "none"):
        density = ScoreDensity(**{**OPTIONS, "num_epochs": 40}, tail=tail).fit(rows)
        error[tail] = np.abs(density.score_samples(far) - law.logpdf(far[:, 0])).mean()
    assert error["lambert_w"] < 0.6
    assert error["lambert_w"] < 0.5 * error["none"]


@pytest.mark.parametrize("unknown", [0, 1])
def test_unknown_numbers_are_drawn_given_the_known_ones(fitted, unknown):
    row = np.exp([1.0, 0.0]) * UNITS if unknown else np.array([np.nan, 1.0]) * UNITS
    row[unknown] = np.nan
    rows = fitted.sample_given(row, 600)
    np.testing.assert_array_equal(rows[:, 1 - unknown], row[1 - unknown])
    found = latent(rows)[:, unknown]
    share = COVARIANCE[0, 1] / COVARIANCE[1 - unknown, 1 - unknown]
    sd = (COVARIANCE[unknown, unknown] - share * COVARIANCE[0, 1]) ** 0.5
    assert abs(found.mean() - share) < 0.25 * sd  # and it moved by more than half of one
    assert share > 0.7 * sd
    assert found.std() == pytest.approx(sd, rel=0.2)
    assert fitted.sample_given([np.nan] * 2, 99).tolist() == fitted.sample(99).tolist()


def test_scores_are_gradients_of_noisy_log_densities_per_unit_of_each_column(fitted):
    rows, sigma = TEST[:300], 0.5
    scale = np.asarray(fitted.params_["standardiser"]["scale"])
    normal = latent(rows) @ -np.linalg.inv(
        COVARIANCE + np.diag((sigma * scale / [1.0, UNITS[1]]) ** 2)
    )
    # The gradient in x of log N(log x) - log x, and in units of the second column.
    truth = np.stack([(normal[:, 0] - 1.0) / rows[:, 0], normal[:, 1] / UNITS[1]], axis=1)
    error = (fitted.score_function(rows, sigma=sigma) - truth) * np.stack(
        [rows[:, 0], np.full(300, UNITS[1])], axis=1
    )
    assert np.sqrt(np.mean(error**2)) < 0.15 * np.sqrt(np.mean(normal**2))


def test_denoising_gives_the_posterior_mean(fitted):
    scale, sigma = np.asarray(fitted.params_["standardiser"]["scale"]), 0.5
    noise = np.diag((sigma * scale / [1.0, UNITS[1]]) ** 2)
    rng = np.random.default_rng(0)
    noisy = latent(TEST) + rng.standard_normal(TEST.shape) @ np.sqrt(noise)
    expected = noisy @ np.linalg.solve(COVARIANCE + noise, COVARIANCE)
    rows = np.stack([np.exp(noisy[:, 0]) * UNITS[0], noisy[:, 1] * UNITS[1]], axis=1)
    found = latent(fitted.denoise(rows, sigma))
    assert np.sqrt(np.mean((found - expected) ** 2)) < 0.2 * np.sqrt(np.mean((noisy - found) ** 2))


def test_a_saved_density_answers_bit_for_bit_alike(fitted, tmp_path):
    fitted.save(tmp_path / "density")
    loaded = ScoreDensity.load(tmp_path / "density")
    for method in ("score_samples", "p_value", "predict", "score_function"):
        np.testing.assert_array_equal(
            getattr(loaded, method)(TEST[:300]), getattr(fitted, method)(TEST[:300])
        )
    np.testing.assert_array_equal(loaded.sample(99), fitted.sample(99))
    row = [TEST[0, 0], np.nan]
    np.testing.assert_array_equal(loaded.sample_given(row, 99), fitted.sample_given(row, 99))
    assert loaded.get_params() == fitted.get_params() == clone(fitted).get_params()
    np.testing.assert_array_equal(loaded.correlation_, fitted.correlation_)
    with pytest.raises(ValueError, match="holds a ScoreDensity, not a FlowDensity"):
        FlowDensity.load(tmp_path / "density")


def test_other_units_shift_log_densities_by_their_logs():
    rows, power = latent(TRAIN[:300])[:, :1], 2.0**-10  # exact in binary: the very same fit
    first, second = (ScoreDensity("dual", **QUICK).fit(rows * by) for by in (1.0, power))
    shift = first.score_samples(rows[:64]) - second.score_samples(rows[:64] * power)
    np.testing.assert_allclose(shift, np.log(power), atol=1e-4)
    np.testing.assert_allclose(second.sample(20), first.sample(20) * power, rtol=1e-4)


def test_a_nan_stays_in_its_row_and_gets_no_label(fitted):
    rows = TEST[:99].copy()
    rows[2, 1] = np.nan
    rows[3, 0] = -1.0  # outside the range of a log
    for answer in (fitted.score_samples(rows), fitted.p_value(rows), fitted.denoise(rows, 1.0)):
        assert np.flatnonzero(np.isnan(answer.reshape(99, -1)).any(axis=1)).tolist() == [2, 3]
    with pytest.raises(ValueError, match="no density in row 2"):
        fitted.predict(rows)


@pytest.mark.parametrize(("model", "dim"), [("dual", 1), ("conservative", 64)])
def test_other_models_of_one_column_and_of_many_have_the_same_face(model, dim, tmp_path):
    rows = np.random.default_rng(0).standard_normal((300, dim))  # fewer than a batch to learn from
    density = ScoreDensity(model, **QUICK, num_probes=4).fit(rows)
    scores = density.score_samples(rows[:64])  # as many as a small program takes
    # A network starts at the normal law, and two short epochs move it little.
    error = np.mean(scores - stats.norm.logpdf(rows[:64]).sum(axis=1))
    assert error == pytest.approx(0, abs=0.1 * dim)
    assert density.sample(3).shape == (3, dim)
    density.save(tmp_path / "density")
    np.testing.assert_array_equal(
        ScoreDensity.load(tmp_path / "density").score_samples(rows[:64]), scores
    )


def test_columns_that_sum_to_one_are_warned_about():
    rows = np.random.default_rng(0).standard_normal((300, 64))
    rows[:, :3] = np.eye(3)[np.arange(300) % 3]
    with pytest.warns(UserWarning, match="columns of X are nearly dependent"):
        density = ScoreDensity("conservative", **QUICK, num_probes=4).fit(rows)
    assert np.isfinite(density.score_samples(rows[:64])).all()


def test_rows_farther_than_the_largest_noise_are_warned_about():
    rows = np.random.default_rng(0).standard_normal((300, 1))
    with pytest.warns(UserWarning, match=r"sigma_max is 1\.5, below the largest distance") as found:
        ScoreDensity("dual", **QUICK, sigma_max=1.5, tail="none").fit(rows)
    assert found[0].filename == __file__


@pytest.mark.parametrize(
    ("rows", "options", "match"),
    [
        (np.full((99, 2), np.nan), {}, "NaN"),
        (np.array([[1.0, 2.0], [1.0, 3.0]] * 9), {}, "X is constant in column 0"),
        (TRAIN[:99] * [1.0, 1e-9] + [0.0, 1e6], {}, "column 1 in single precision"),
        (TRAIN[:5], {}, "rows are too few"),
        (TRAIN[:, 0], {}, "2D array"),
        (TRAIN[:99], {"model": "ncsn"}, "model is 'ncsn'"),
        (TRAIN[:99], {"sigma_min": 2.0, "sigma_max": 1.0}, r"sigma_min is 2\.0"),
        (TRAIN[:99], {"model": "dual", "sigma_max": 0.04}, r"sigma_max is 0\.04: .* above 0\.05"),
        (TRAIN[:99], {"num_steps": -2}, "num_steps is -2: accepted is an even integer >= 2"),
        (TRAIN[:99], {"num_steps": 5}, "num_steps is 5"),
        (TRAIN[:99], {"num_levels": 1}, "num_levels is 1"),
        (TRAIN[:99], {"num_probes": 0}, "num_probes is 0"),
        (TRAIN[:99], {"tail": "gpd"}, "tail is 'gpd'"),
        (TRAIN[:99], {"num_epochs": 0}, "num_epochs is 0"),
        (TRAIN[:99], {"transforms": ["log"]}, "transforms has 1 names: accepted are 2"),
        (TRAIN[:99], {"calibration_fraction": 1.0}, r"calibration_fraction is 1\.0"),
    ],
)
def test_wrong_rows_or_options_are_named(rows, options, match):
    with pytest.raises(ValueError, match=match):
        ScoreDensity(**{**OPTIONS, **options}).fit(rows)


def test_wrong_calls_after_and_before_the_fit_are_named(fitted):
    for call, match in (
        (lambda: fitted.score_samples(np.zeros((4, 3))), "3 columns: accepted are the 2"),
        (lambda: fitted.sample(0), "n is 0"),
        (lambda: fitted.score_function(TEST, sigma=99.0), r"sigma is 99\.0"),
        (lambda: fitted.sample_given([1.0, 2.0]), "at least one NaN"),
        (lambda: fitted.sample_given([np.nan]), "accepted are 2 numbers"),
        (lambda: fitted.sample_given([np.inf, np.nan]), "finite or NaN"),
        (lambda: fitted.sample_given([-1.0, np.nan]), "inside the transforms' ranges"),
    ):
        with pytest.raises(ValueError, match=match):
            call()
    fresh = ScoreDensity()
    for method in (fresh.score_samples, fresh.score_function, fresh.p_value, fresh.predict):
        with pytest.raises(NotFittedError):
            method(TEST)
    assert not hasattr(fresh, "offset_")
    assert jax.tree.leaves(fresh.get_params())
