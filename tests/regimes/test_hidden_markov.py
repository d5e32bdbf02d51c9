"""The hidden Markov filter against enumeration, and fits against the law that drew."""

import itertools

import numpy as np
import pytest
from scipy import stats

from densityjax.regimes import hidden_markov as hmm

MODEL = hmm.HiddenMarkov(
    np.array([0.5, 0.5]), np.array([[0.95, 0.05], [0.1, 0.9]]), np.zeros(2), np.array([1.0, 3.0])
)
Y = np.array([0.1, -0.3, 4.0, -3.5, 0.2])
SMOOTHED = [0.60204514, 0.68962115, 0.99871994, 0.99610741, 0.75045443]


def enumerated(model, y, pdf):
    """P(last regime | y) and log likelihood by the sum over all paths."""
    joint = np.zeros(2)
    for path in itertools.product(range(2), repeat=len(y)):
        p = model.initial[path[0]] * pdf(y[0], path[0])
        for (i, j), value in zip(itertools.pairwise(path), y[1:], strict=True):
            p *= model.transition[i, j] * pdf(value, j)
        joint[path[-1]] += p
    return joint / joint.sum(), np.log(joint.sum())


def draw(num=3000, dof=np.inf, seed=0):
    rng = np.random.default_rng(seed)
    regime = np.zeros(num, int)
    for t in range(1, num):
        regime[t] = rng.choice(2, p=[[0.98, 0.02], [0.05, 0.95]][regime[t - 1]])
    noise = rng.normal(size=num) if np.isinf(dof) else rng.standard_t(dof, size=num)
    return np.array([0.01, 0.03])[regime] * noise + 0.001, regime


def test_reg_02_filtered_probabilities_and_likelihood_are_the_known_ones(x64):
    found = hmm.filtered(MODEL, Y)
    known = [0.25083426, 0.11027182, 0.98562603, 0.99836441, 0.75045443]
    np.testing.assert_allclose(found.probability[:, 1], known, atol=1e-6)
    assert float(found.log_likelihood.sum()) == pytest.approx(-11.967715464849752, abs=1e-9)
    assert np.abs(np.asarray(found.probability[:4, 1]) - SMOOTHED[:4]).min() > 1e-3


@pytest.mark.parametrize("dof", [np.inf, 4.0])
def test_the_filter_equals_the_sum_over_all_paths(dof, x64):
    model = MODEL._replace(dof=dof, mean=np.array([0.2, -0.1]))
    law = stats.norm if np.isinf(dof) else stats.t(dof)

    def pdf(value, k):
        return law.pdf((value - model.mean[k]) / model.scale[k]) / model.scale[k]

    for t in range(1, 6):
        probability, log_likelihood = enumerated(model, Y[:t], pdf)
        found = hmm.filtered(model, Y[:t])
        np.testing.assert_allclose(found.probability[-1], probability, rtol=1e-9)
        assert float(found.log_likelihood.sum()) == pytest.approx(log_likelihood, rel=1e-9)


def test_a_missing_value_leaves_the_transition_alone():
    found = hmm.filtered(MODEL, np.array([0.1, np.nan]))
    np.testing.assert_allclose(
        found.probability[1], np.asarray(found.probability[0]) @ MODEL.transition, rtol=1e-5
    )
    assert float(found.log_likelihood[1]) == pytest.approx(0.0, abs=1e-6)


@pytest.mark.parametrize("dof", [np.inf, 5.0])
def test_a_fit_finds_scales_and_transitions_of_the_law_that_drew_with_the_calm_regime_first(dof):
    y, regime = draw(dof=dof)
    model = hmm.fit_hidden_markov(y, dof=dof)
    assert model.scale[0] < model.scale[1]
    np.testing.assert_allclose(model.scale, [0.01, 0.03], rtol=0.08)
    np.testing.assert_allclose(np.diag(model.transition), [0.98, 0.95], atol=0.015)
    np.testing.assert_allclose(model.transition.sum(axis=1), 1.0, atol=1e-6)
    right = np.asarray(hmm.filtered(model, y).probability)[:, 1] > 0.5
    assert np.mean(right == regime) > (0.9 if np.isinf(dof) else 0.87)


@pytest.mark.parametrize("value", [np.inf, -np.inf, 1e30])
def test_a_value_beyond_every_regime_leaves_the_rows_after_it_alone(value):
    model = hmm.fit_hidden_markov(np.random.default_rng(0).standard_normal(200))
    y = np.random.default_rng(1).standard_normal(40)
    spoilt, missing = y.copy(), y.copy()
    spoilt[10], missing[10] = value, np.nan
    expected = hmm.filtered(model, missing).probability
    found = hmm.filtered(model, spoilt).probability
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-7)


def test_expectation_maximisation_never_lowers_the_likelihood():
    y, _ = draw(600)
    total = [
        float(hmm.filtered(hmm.fit_hidden_markov(y, num_iterations=n), y).log_likelihood.sum())
        for n in (1, 2, 4, 8, 16)
    ]
    assert (np.diff(total) > -0.05).all()
    assert total[-1] > total[0] + 1.0


def test_walk_forward_regimes_read_no_later_value():
    y, _ = draw(600)
    changed = y.copy()
    changed[450:] = 0.2
    settings = {"first": 300, "refit_every": 100, "num_iterations": 10}
    before, after = (hmm.walk_forward_regimes(each, **settings) for each in (y, changed))
    assert np.isnan(before[:300]).all()
    np.testing.assert_array_equal(before[300:450], after[300:450])
    assert np.abs(before[450:] - after[450:]).max() > 0.1
    by_hand = hmm.fit_hidden_markov(y[:400], num_iterations=10)
    np.testing.assert_allclose(
        before[400:500], hmm.filtered(by_hand, y[:500]).probability[400:], atol=2e-3
    )


def test_what_is_not_accepted_is_named():
    y, _ = draw(100)
    with pytest.raises(ValueError, match="num_regimes"):
        hmm.fit_hidden_markov(y, num_regimes=1)
    with pytest.raises(ValueError, match="known values"):
        hmm.fit_hidden_markov(y[:10])
    with pytest.raises(ValueError, match="vary"):
        hmm.fit_hidden_markov(np.ones(50))
    with pytest.raises(ValueError, match="first"):
        hmm.walk_forward_regimes(y, first=100, refit_every=10)
