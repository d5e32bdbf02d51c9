"""The classifier that is a density: held-out quality of both, strange rows, files, refusals."""

import pickle

import numpy as np
import pandas as pd
import pytest
from scipy import special, stats
from sklearn.base import clone, is_classifier
from sklearn.exceptions import NotFittedError

from densityjax.estimators import JointEnergyClassifier
from densityjax.evaluation import classification

UNITS = np.array([1e-3, 50.0])
CENTRES = 2.0 * np.array([[0.0, 1.0], [0.87, -0.5], [-0.87, -0.5]])
SD = np.array([0.8, 0.5])
OPTIONS = {"widths": (32, 16), "num_epochs": 60, "learning_rate": 5e-3}
NAMES = np.array(["bear", "bull", "calm"])


def draw(seed, size):
    rng = np.random.default_rng(seed)
    which = rng.integers(3, size=size)
    rows = CENTRES[which] + SD * rng.standard_normal((size, 2))
    return rows * UNITS, NAMES[which]


def class_log_prob(rows):
    y = rows[:, None] / UNITS
    return stats.norm.logpdf(y, CENTRES, SD).sum(-1) - np.log(UNITS).sum() - np.log(3.0)


(TRAIN, LABELS), (TEST, TRUTH) = draw(0, 2500), draw(1, 1000)
CODES = np.searchsorted(NAMES, TRUTH)


@pytest.fixture(scope="module")
def fitted():
    return JointEnergyClassifier(**OPTIONS).fit(TRAIN, LABELS)


@pytest.fixture(scope="module")
def plain():
    return JointEnergyClassifier(**OPTIONS, density_weight=0.0).fit(TRAIN, LABELS)


def test_class_probabilities_are_those_of_the_law(fitted):
    log_p = fitted.predict_log_proba(TEST)
    np.testing.assert_allclose(fitted.predict_proba(TEST).sum(1), 1.0, atol=1e-12)
    true = special.log_softmax(class_log_prob(TEST), axis=1)
    excess = classification.log_loss(CODES, log_p) - classification.log_loss(CODES, true)
    assert excess < 0.03
    assert (fitted.predict(TEST) == NAMES[log_p.argmax(1)]).all()
    assert fitted.score(TEST, TRUTH) == pytest.approx((fitted.predict(TEST) == TRUTH).mean())
    odds = fitted.decision_function(TEST)
    np.testing.assert_allclose(odds.sum(1), 0.0, atol=1e-4)
    assert is_classifier(fitted)


def test_jem_03_the_density_beats_that_of_the_plain_classifier_and_of_one_normal_law(fitted, plain):
    true = special.logsumexp(class_log_prob(TEST), axis=1)
    scores = fitted.score_samples(TEST)
    assert fitted.is_normalised_
    assert true.mean() - 0.25 < scores.mean() < true.mean() + 4 * 0.05
    assert np.corrcoef(scores, true)[0, 1] > 0.9
    normal = stats.multivariate_normal(TRAIN.mean(0), np.cov(TRAIN.T)).logpdf(TEST)
    assert scores.mean() > normal.mean() + 0.2
    assert plain.score_samples(TEST).mean() < scores.mean() - 1.0
    # As classifiers they are alike.
    losses = [classification.log_loss(CODES, m.predict_log_proba(TEST)) for m in (fitted, plain)]
    assert abs(losses[0] - losses[1]) < 0.03


def test_the_density_integrates_to_one_in_units_of_x(fitted):
    nodes = np.linspace(-8.0, 8.0, 161)
    grid = np.stack(np.meshgrid(nodes, nodes, indexing="ij"), -1).reshape(-1, 2) * UNITS
    total = np.exp(fitted.score_samples(grid).astype(np.float64)).sum() * 0.1**2 * UNITS.prod()
    error = float(fitted.normalisation_.standard_error)
    assert total == pytest.approx(1.0, abs=max(4 * error, 0.01))


def test_jem_02_strange_rows_rank_above_those_of_training(fitted):
    rng = np.random.default_rng(5)
    angle = rng.uniform(0, 2 * np.pi, 300)
    far = 6.0 * np.stack([np.cos(angle), np.sin(angle)], 1) * UNITS
    middle = 0.1 * rng.standard_normal((300, 2)) * UNITS  # between the classes: never seen either
    ordinary = fitted.energy(TRAIN[:300])
    for strange in (far, middle):
        above = fitted.energy(strange)[:, None] > ordinary
        assert above.mean() > 0.85  # the AUROC
    np.testing.assert_allclose(
        fitted.score_samples(far), -fitted.energy(far) - fitted.normalisation_.log_z, rtol=1e-5
    )


def test_a_saved_classifier_answers_bit_for_bit_alike(fitted, tmp_path):
    fitted.save(tmp_path / "classifier")
    loaded = JointEnergyClassifier.load(tmp_path / "classifier")
    for method in ("predict", "predict_proba", "score_samples", "energy", "decision_function"):
        np.testing.assert_array_equal(
            getattr(loaded, method)(TEST[:99]), getattr(fitted, method)(TEST[:99])
        )
    pickled = pickle.loads(pickle.dumps(fitted))
    np.testing.assert_array_equal(pickled.score_samples(TEST[:99]), fitted.score_samples(TEST[:99]))
    assert loaded.get_params() == fitted.get_params() == clone(fitted).get_params()
    assert loaded.is_normalised_ == fitted.is_normalised_


def test_sorted_rows_of_two_classes_and_a_frame_are_taken_as_they_come():
    order = np.argsort(LABELS, kind="stable")
    rows, labels = TRAIN[order], LABELS[order] == "bull"
    frame = pd.DataFrame(rows, columns=["a", "b"])
    model = JointEnergyClassifier(**{**OPTIONS, "num_epochs": 20}, ordered=False)
    model.fit(frame, labels)
    assert model.classes_.tolist() == [False, True]
    assert model.decision_function(frame.iloc[:9]).shape == (9,)
    assert model.score(frame, labels) > 0.9
    with pytest.raises(ValueError, match="feature names"):
        model.predict(frame[["b", "a"]])


def test_wrong_rows_classes_and_options_are_named(fitted):
    for call, match in (
        (lambda: JointEnergyClassifier().fit(TRAIN[:9], ["a"] * 9), "y has 1 class"),
        (lambda: JointEnergyClassifier().fit(TRAIN[:9], np.linspace(0, 1, 9)), "continuous"),
        (lambda: JointEnergyClassifier().fit(TRAIN[:4], LABELS[:4]), "rows are too few"),
        (lambda: JointEnergyClassifier(tau=-1.0).fit(TRAIN, LABELS), r"tau is -1\.0"),
        (lambda: JointEnergyClassifier(num_epochs=0).fit(TRAIN, LABELS), "num_epochs is 0"),
        (lambda: JointEnergyClassifier(sigma=0.0).fit(TRAIN, LABELS), r"sigma=0\.0"),
        (lambda: fitted.predict(TEST[:, :1]), "1 columns: accepted are the 2"),
        (lambda: fitted.predict(np.full((3, 2), np.nan)), "NaN"),
    ):
        with pytest.raises(ValueError, match=match):
            call()
    for method in ("predict", "predict_proba", "score_samples", "energy", "decision_function"):
        with pytest.raises(NotFittedError):
            getattr(JointEnergyClassifier(), method)(TEST)
