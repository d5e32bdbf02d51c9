"""The density of a table: known laws, alarms at their nominal rate, scikit-learn's protocol."""

import copy

import jax
import numpy as np
import pytest
from scipy import stats
from scipy.spatial.distance import cdist
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from densityjax import targets
from densityjax.estimators import FlowDensity

UNITS = np.array([1e-3, 50.0])  # columns need not be of one size
OPTIONS = {
    "num_layers": 2,
    "num_bins": 5,
    "width": 16,
    "num_hidden": 1,
    "num_epochs": 40,
    "batch_size": 128,
    "learning_rate": 5e-3,
}
LAW = targets.banana()


def draw(law, seed, size):
    return np.asarray(jax.vmap(law.sample)(jax.random.split(jax.random.key(seed), size)))


def log_prob(law, x):
    return np.asarray(jax.vmap(law.log_prob)(x))


TRAIN, CALIBRATION, TEST = draw(LAW, 0, 2000), draw(LAW, 1, 1000), draw(LAW, 2, 4000)
ROWS = np.concatenate([TRAIN, CALIBRATION[:500]])  # with as many to learn from, a fifth held out


@pytest.fixture(scope="module")
def fitted():
    return FlowDensity(**OPTIONS).fit(TRAIN * UNITS, calibration=CALIBRATION * UNITS)


def test_flo_15_a_curved_law_is_recovered_in_units_of_x(fitted):
    scores = fitted.score_samples(TEST * UNITS)
    truth = log_prob(LAW, TEST) - np.log(UNITS).sum()
    assert scores.shape == (4000,)
    assert np.mean(truth - scores) < 0.1  # the divergence, in nats
    assert fitted.score(TEST * UNITS) == pytest.approx(scores.mean(), rel=1e-5)
    gaussian = stats.multivariate_normal(TRAIN.mean(0), np.cov(TRAIN.T)).logpdf(TEST)
    assert np.mean(log_prob(LAW, TEST) - gaussian) > 0.3  # which a normal law does not reach
    assert fitted.is_normalised_


def test_den_01_the_density_integrates_to_one(fitted):
    side = 2.0 * np.sinh(np.linspace(-4.5, 4.5, 251))  # reaches 90
    grid = np.stack(np.meshgrid(side, side, indexing="ij"), -1).reshape(-1, 2)
    mass = np.exp(fitted.score_samples(grid * UNITS)).reshape(251, 251) * UNITS.prod()
    total = np.trapezoid(np.trapezoid(mass, side, axis=1), side)
    assert total == pytest.approx(1.0, abs=0.01)


def energy_statistic(distance, is_first):
    first, second = distance[is_first], distance[~is_first]
    return 2 * first[:, ~is_first].mean() - first[:, is_first].mean() - second[:, ~is_first].mean()


def test_flo_16_samples_are_as_near_to_data_as_data_to_data(fitted):
    sample = fitted.sample(400, random_state=3) / UNITS
    assert sample.shape == (400, 2)
    distance = cdist(*[np.concatenate([sample, TEST[:400]])] * 2)
    is_sample = np.arange(800) < 400
    rng = np.random.default_rng(0)
    null = [energy_statistic(distance, rng.permutation(is_sample)) for _ in range(200)]
    assert energy_statistic(distance, is_sample) < np.quantile(null, 0.995)
    np.testing.assert_array_equal(sample, fitted.sample(400, random_state=3) / UNITS)
    assert (sample != fitted.sample(400, random_state=4) / UNITS).all()
    np.testing.assert_array_equal(fitted.sample(5), fitted.sample(5, random_state=0))


def test_den_08_p_values_of_new_rows_are_uniform(fitted):
    # Uniform p-values say that new scores and calibration scores are of one law.
    scores = -fitted.score_samples(TEST * UNITS)
    assert stats.ks_2samp(scores, fitted.calibration_score_).pvalue > 1e-3
    p_value = fitted.p_value(TEST * UNITS)
    rank = (fitted.calibration_score_[None] >= scores[:50, None]).sum(1)
    np.testing.assert_allclose(p_value[:50], (1 + rank) / 1001, rtol=1e-6)
    np.testing.assert_array_equal(p_value, fitted.p_value_of_log_prob(-scores))
    assert fitted.p_value([[1.0, 1e4]])[0] == pytest.approx(1 / 1001)


def test_predict_p_value_threshold_and_decision_function_agree(fitted):
    rows = TEST * UNITS
    labels, margin = fitted.predict(rows), fitted.decision_function(rows)
    np.testing.assert_array_equal(labels, np.where(fitted.p_value(rows) <= 0.05, -1, 1))
    np.testing.assert_array_equal(labels == -1, margin < 0)
    np.testing.assert_array_equal(labels == -1, fitted.score_samples(rows) < fitted.threshold())
    assert set(labels) == {-1, 1}
    rare = copy.copy(fitted).set_params(false_alarm_rate=1e-4)
    assert rare.threshold() == -np.inf  # a thousand rows cannot promise one alarm in ten thousand
    assert (rare.predict(rows) == 1).all()


@pytest.mark.parametrize("dim", [1, 10])
def test_e335_18_alarms_come_at_their_nominal_rate_in_any_dimension_and_units(dim):
    rng = np.random.default_rng(dim)
    units = 10.0 ** rng.uniform(-4, 4, dim)
    factor = np.tril(rng.standard_normal((dim, dim)), -1) * 0.3 + np.eye(dim)
    rows = rng.standard_normal((6000, dim)) @ factor.T * units
    options = {**OPTIONS, "num_epochs": 15, "calibration_fraction": 0.5}
    model = FlowDensity(**options).fit(rows[:2000])
    alarms = (model.predict(rows[2000:]) == -1).mean()
    error = (0.05 * 0.95 * (1 / 4000 + 1 / len(model.calibration_score_))) ** 0.5
    assert len(model.calibration_score_) == 1000
    assert alarms == pytest.approx(0.05, abs=4 * error)
    # The chapters' fixed thresholds in nats would have been far from any such rate.
    assert abs((model.score_samples(rows[2000:]) < -10).mean() - 0.05) > 4 * error
    outlier = 10.0 * units[None] * np.ones(dim)
    assert model.score_samples(outlier)[0] < np.quantile(model.score_samples(rows), 1e-3)
    if dim == 10:
        entropy = 0.5 * dim * np.log(2 * np.pi * np.e) + np.log(units).sum()
        assert -model.score(rows[2000:]) == pytest.approx(entropy, abs=0.5)


def test_it_is_a_scikit_learn_estimator(fitted):
    params = fitted.get_params()
    assert clone(fitted).get_params() == params
    assert params["num_layers"] == 2
    assert FlowDensity().set_params(width=7).width == 7
    scaled = make_pipeline(StandardScaler(), FlowDensity(**OPTIONS))
    scaled.fit(ROWS * UNITS)
    scale = np.log(scaled[0].scale_).sum()
    truth = log_prob(LAW, TEST) - np.log(UNITS).sum()
    assert np.mean(truth + scale - scaled.score_samples(TEST * UNITS)) < 0.15
    # The last fifth of the rows calibrates where no other rows are given.
    assert len(scaled[1].calibration_score_) == 500


def test_trn_06_a_saved_density_answers_bit_for_bit_alike(fitted, tmp_path):
    fitted.save(tmp_path / "density")
    loaded = FlowDensity.load(tmp_path / "density")
    rows = TEST[:300] * UNITS
    for method in ("score_samples", "p_value", "predict", "decision_function"):
        np.testing.assert_array_equal(getattr(loaded, method)(rows), getattr(fitted, method)(rows))
    np.testing.assert_array_equal(loaded.sample(9), fitted.sample(9))
    assert loaded.get_params() == fitted.get_params()
    assert loaded.threshold() == fitted.threshold()
    with pytest.raises(ValueError, match="nothing"):
        FlowDensity.load(tmp_path / "nothing")
    settings = tmp_path / "density" / "estimator.json"
    settings.write_text(settings.read_text().replace("FlowDensity", "ReturnForecaster"))
    with pytest.raises(ValueError, match="holds a ReturnForecaster, not a FlowDensity"):
        FlowDensity.load(tmp_path / "density")


def test_transforms_keep_the_density_on_the_columns_ranges_and_in_their_units(tmp_path):
    rng = np.random.default_rng(0)
    laws = [stats.lognorm(0.5, scale=3.0), stats.beta(2.0, 3.0)]
    rows = np.stack([law.rvs(3000, random_state=rng) for law in laws], axis=1)
    model = FlowDensity(**OPTIONS, transforms=["log", "logit"])
    model.fit(rows[:2000], calibration=rows[2000:])
    truth = sum(law.logpdf(rows[2000:, i]) for i, law in enumerate(laws))
    assert abs(np.mean(truth - model.score_samples(rows[2000:]))) < 0.1
    draws = model.sample(500)
    assert (draws > 0).all()
    assert (draws[:, 1] < 1).all()
    assert np.isnan(model.score_samples([[-1.0, 0.5], [1.0, 1.5]])).all()
    model.save(tmp_path / "density")
    loaded = FlowDensity.load(tmp_path / "density")
    np.testing.assert_array_equal(loaded.score_samples(rows), model.score_samples(rows))
    np.testing.assert_array_equal(loaded.sample(500), draws)
    with pytest.raises(ValueError, match="transforms has 1 names: accepted are 2"):
        FlowDensity(**OPTIONS, transforms=["log"]).fit(rows)


def test_ex_17_the_seed_decides_the_fit(fitted):
    again = FlowDensity(**OPTIONS).fit(TRAIN * UNITS, calibration=CALIBRATION * UNITS)
    rows = TEST[:100] * UNITS
    np.testing.assert_array_equal(again.score_samples(rows), fitted.score_samples(rows))
    told = []
    other = FlowDensity(**OPTIONS, random_state=1)
    other.fit(TRAIN * UNITS, calibration=CALIBRATION * UNITS, callback=told.append)
    assert (other.score_samples(rows) != fitted.score_samples(rows)).any()
    assert told[-1].num_running == 0


def test_a_nan_stays_in_its_row_and_gets_no_label(fitted):
    rows = TEST[:4] * UNITS
    expected = fitted.score_samples(rows)
    rows[2, 0] = np.nan
    scores = fitted.score_samples(rows)
    np.testing.assert_array_equal(np.isnan(scores), [False, False, True, False])
    np.testing.assert_array_equal(np.delete(scores, 2), np.delete(expected, 2))
    np.testing.assert_array_equal(np.isnan(fitted.p_value(rows)), np.isnan(scores))
    with pytest.raises(ValueError, match="no density in row 2"):
        fitted.predict(rows)


def test_ex_02_a_row_does_not_see_its_batch(fitted):
    rows = np.resize(TEST, (4097, 2)) * UNITS
    scores = fitted.score_samples(rows)
    assert scores.shape == (4097,)
    for first, last in ((0, 65), (37, 4000), (2000, 4097)):
        np.testing.assert_array_equal(fitted.score_samples(rows[first:last]), scores[first:last])
    # Few rows run in another compiled size, whose sums are rounded in another order.
    few = fitted.score_samples(rows[:64])
    np.testing.assert_allclose(few, scores[:64], rtol=1e-5, atol=1e-5)
    for first, last in ((0, 1), (5, 40)):
        np.testing.assert_array_equal(fitted.score_samples(rows[first:last]), few[first:last])


@pytest.mark.parametrize(
    ("rows", "options", "match"),
    [
        (np.full((99, 2), np.nan), {}, "NaN"),
        (np.array([[1.0, 2.0], [1.0, 3.0]] * 9), {}, "X is constant in column 0"),
        (TRAIN[:5], {}, "rows are too few"),
        (TRAIN[:99], {"purge": 90}, "0 rows to learn from"),
        (TRAIN[:99], {"purge": -1}, "purge -1"),
        (TRAIN[:0], {}, "0 sample"),
        (TRAIN[:, 0], {}, "2D array"),
        (TRAIN[:99], {"num_members": 0}, "num_members is 0"),
        (ROWS, {"num_epochs": 0}, "num_epochs is 0"),
        (ROWS, {"batch_size": 0}, "batch_size is 0"),
        (TRAIN[:99], {"tail": "cauchy"}, "tail is 'cauchy'"),
        (TRAIN[:99], {"calibration_fraction": 1.0}, "calibration_fraction is 1.0"),
        (TRAIN[:99], {"false_alarm_rate": 0.0}, "false_alarm_rate is 0.0"),
    ],
)
def test_wrong_rows_or_options_are_named(rows, options, match):
    with pytest.raises(ValueError, match=match):
        FlowDensity(**{**OPTIONS, **options}).fit(rows)


def test_wrong_calls_after_and_before_the_fit_are_named(fitted, tmp_path):
    with pytest.raises(ValueError, match="3 columns: accepted are the 2"):
        fitted.score_samples(np.zeros((4, 3)))
    with pytest.raises(ValueError, match="n is 0"):
        fitted.sample(0)
    fresh = FlowDensity()
    for method in (fresh.score_samples, fresh.p_value, fresh.predict, fresh.decision_function):
        with pytest.raises(NotFittedError):
            method(TEST)
    for method in (fresh.sample, fresh.threshold, lambda: fresh.save(tmp_path / "x")):
        with pytest.raises(NotFittedError):
            method()
