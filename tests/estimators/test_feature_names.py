"""Frames must keep the columns of the fit, by name and in order, as everywhere in scikit-learn."""

import warnings

import numpy as np
import pandas as pd
import pytest

from densityjax.estimators import FlowDensity

# Options, columns and rows of the tests of the density: the programs are the same.
OPTIONS = {
    "num_layers": 2,
    "num_bins": 5,
    "width": 16,
    "num_hidden": 1,
    "num_epochs": 40,
    "batch_size": 128,
    "learning_rate": 5e-3,
}
NAMES = ["depth", "age"]
FRAME = pd.DataFrame(
    np.random.default_rng(0).standard_normal((2500, 2)) * [1.0, 100.0], columns=NAMES
)


@pytest.fixture(scope="module")
def fitted():
    return FlowDensity(**OPTIONS).fit(FRAME)


@pytest.fixture(scope="module")
def plain():
    """Fitted without names."""
    return FlowDensity(**OPTIONS).fit(FRAME.to_numpy())


@pytest.mark.parametrize(
    ("frame", "match"),
    [
        (FRAME[["age", "depth"]], "must be in the same order"),
        (FRAME.rename(columns={"age": "vintage"}), r"unseen at fit time:\n- vintage"),
        (FRAME[["depth"]], r"missing:\n- age"),
        (FRAME.assign(extra=1.0), r"unseen at fit time:\n- extra"),
    ],
)
@pytest.mark.parametrize("method", ["score_samples", "p_value", "predict", "decision_function"])
def test_reordered_renamed_missing_and_further_columns_are_refused(fitted, method, frame, match):
    with pytest.raises(ValueError, match=match):
        getattr(fitted, method)(frame)


def test_calibration_rows_are_held_to_the_names_of_the_fit():
    with pytest.raises(ValueError, match="must be in the same order"):
        FlowDensity(**OPTIONS).fit(FRAME, calibration=FRAME[NAMES[::-1]])


def test_equal_columns_and_plain_arrays_get_equal_answers_without_a_warning(fitted):
    assert fitted.feature_names_in_.tolist() == NAMES
    assert fitted.n_features_in_ == 2
    expected = fitted.score_samples(FRAME)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        np.testing.assert_array_equal(fitted.score_samples(FRAME.to_numpy()), expected)
        np.testing.assert_array_equal(fitted.score_samples(FRAME.to_numpy().tolist()), expected)
    # The order matters: what is refused would have been another answer.
    assert (fitted.score_samples(FRAME.to_numpy()[:, ::-1]) != expected).mean() > 0.99
    with pytest.raises(ValueError, match="X has 1 columns: accepted are the 2"):
        fitted.score_samples(FRAME.to_numpy()[:, :1])


def test_a_fit_without_names_has_none_and_a_refit_forgets_them(plain):
    assert not hasattr(plain, "feature_names_in_")
    with pytest.warns(UserWarning, match="X has feature names, but FlowDensity was fitted without"):
        plain.score_samples(FRAME)
    again = FlowDensity(**OPTIONS).fit(FRAME).fit(FRAME.to_numpy())
    assert not hasattr(again, "feature_names_in_")


def test_names_survive_saving(fitted, plain, tmp_path):
    fitted.save(tmp_path / "named")
    loaded = FlowDensity.load(tmp_path / "named")
    np.testing.assert_array_equal(loaded.feature_names_in_, fitted.feature_names_in_)
    np.testing.assert_array_equal(loaded.score_samples(FRAME), fitted.score_samples(FRAME))
    with pytest.raises(ValueError, match="must be in the same order"):
        loaded.score_samples(FRAME[NAMES[::-1]])
    plain.save(tmp_path / "plain")
    assert not hasattr(FlowDensity.load(tmp_path / "plain"), "feature_names_in_")


def test_a_nan_in_a_frame_stays_in_its_row_but_is_refused_by_the_fit(fitted):
    frame = FRAME.head(4).copy()
    frame.iloc[2, 1] = np.nan
    assert np.isnan(fitted.score_samples(frame)).tolist() == [False, False, True, False]
    with pytest.raises(ValueError, match="NaN"):
        FlowDensity(**OPTIONS).fit(FRAME, calibration=frame)
