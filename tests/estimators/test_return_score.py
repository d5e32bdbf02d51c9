"""The score of the next return on bars of known law: its sign, its truth, causal, repeatable."""

import jax
import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone
from sklearn.exceptions import NotFittedError

from densityjax.estimators import ReturnScore, forecast_rows
from densityjax.market import simulate_market
from densityjax.market.simulate import true_mean, true_score, true_std
from densityjax.market.simulated_law import MarketLaw
from densityjax.strategies import score_reading

NUM_TRAIN = 3000
# Regimes whose drift is half a standard deviation: what 3,000 bars can show.
LAW = MarketLaw(drift=(0.5, 0.0, -0.5), skew=(0.0, 0.0, 0.0), beta=0.8)
OPTIONS = {
    "num_members": 2,
    "width": 8,
    "num_epochs": 12,
    "batch_size": 128,
    "learning_rate": 1e-2,
}
MARKET = simulate_market(jax.random.key(5), 4000, law=LAW)
BARS = MARKET.bars
RETURNS = np.diff(np.log(BARS["close"].to_numpy()), append=np.nan)  # to the next close


@pytest.fixture(scope="module")
def fitted():
    return ReturnScore(**OPTIONS).fit(BARS.iloc[:NUM_TRAIN])


@pytest.fixture(scope="module")
def scores(fitted):
    return fitted.predict(BARS)


def held_out(index):
    """Which rows of an answer are of bars after the fit, and where they are among the bars."""
    rows = BARS.index.get_indexer(index)
    is_new = (rows >= NUM_TRAIN) & (rows < len(BARS) - 1)
    return is_new, rows[is_new]


def correlation(first, second):
    return np.corrcoef(first, second)[0, 1]


def test_every_bar_with_history_has_a_finite_score_in_both_units(scores, fitted):
    rows = forecast_rows(BARS)
    assert scores.index.equals(rows.index)
    for name, values in scores._asdict().items():
        assert len(values) == len(rows.index), name
    for values in scores[1:]:
        assert np.isfinite(values).all()
    np.testing.assert_allclose(scores.volatility, np.exp(rows.log_scale), rtol=1e-6)
    np.testing.assert_allclose(scores.score * scores.volatility, scores.standard_score)
    np.testing.assert_allclose(scores.member_scores.mean(1), scores.standard_score, atol=1e-6)
    assert scores.member_scores.shape[1] == OPTIONS["num_members"]
    # The ruler: each member's scores on a fifth of the rows, from bars it did not learn from.
    ruler = fitted.validation_scores_
    assert len(ruler) == pytest.approx(2 * NUM_TRAIN / 5, rel=0.03)
    assert np.all(np.diff(ruler) >= 0)
    assert np.all(ruler >= 0)


def test_e337_01_the_fitted_score_at_zero_is_that_of_the_true_law_of_the_next_return(scores):
    is_new, rows = held_out(scores.index)
    truth = true_score(MARKET, 0.0)[rows]
    assert correlation(scores.score[is_new], truth) > 0.7
    assert correlation(scores.standard_score[is_new], truth * scores.volatility[is_new]) > 0.7
    z = true_mean(MARKET)[rows] / true_std(MARKET)[rows]
    assert correlation(scores.expected_return[is_new] / scores.volatility[is_new], z) > 0.7


def test_where_skew_goes_with_drift_the_true_score_at_zero_is_no_stand_in_for_the_mean():
    market = simulate_market(
        jax.random.key(5), 4000
    )  # in its falling regime the lower tail is long
    score = true_score(market, 0.0) * market.sigma
    assert correlation(score, true_mean(market) / true_std(market)) < -0.5


def test_at_another_reference_the_score_is_that_of_the_law_there(fitted):
    for reference in (-0.01, 0.01):
        there = fitted.predict(BARS, reference=reference)
        is_new, rows = held_out(there.index)
        assert correlation(there.score[is_new], true_score(MARKET, reference)[rows]) > 0.7
        assert np.mean(np.sign(there.score[is_new]) == -np.sign(reference)) > 0.9


def autoregressive_bars(coefficient, num_bars=4000):
    """Bars whose log returns follow r[t + 1] = coefficient r[t] + noise."""
    noise = 0.01 * np.random.default_rng(7).standard_normal(num_bars)
    returns = np.zeros(num_bars)
    for t in range(1, num_bars):
        returns[t] = coefficient * returns[t - 1] + noise[t]
    close = 100.0 * np.exp(np.cumsum(returns))
    opened = np.concatenate([[100.0], close[:-1]])
    wick = 1.0 + 0.002 * np.random.default_rng(8).uniform(size=(2, num_bars))
    columns = {
        "open": opened,
        "high": np.maximum(opened, close) * wick[0],
        "low": np.minimum(opened, close) / wick[1],
        "close": close,
        "volume": np.full(num_bars, 10.0) * wick[0],
    }
    return pd.DataFrame(columns, index=BARS.index[:num_bars]), returns


@pytest.mark.parametrize("coefficient", [0.4, -0.4])
def test_e337_01_on_autoregressive_bars_the_sign_follows_the_coefficient(coefficient):
    bars, returns = autoregressive_bars(coefficient)
    fitted = ReturnScore(**OPTIONS).fit(bars.iloc[:NUM_TRAIN])
    scores = fitted.predict(bars)
    is_new, rows = held_out(scores.index)
    known = scores.score[is_new]
    assert correlation(known, coefficient * returns[rows]) > 0.8
    clear = np.abs(returns[rows]) > 0.01
    agree = np.sign(known[clear]) == np.sign(coefficient * returns[rows][clear])
    assert agree.mean() > 0.9
    # The mean of the next return, which the score of much noise tells, is right in size.
    slope = np.polyfit(returns[rows], scores.expected_return[is_new], 1)[0]
    assert slope == pytest.approx(coefficient, rel=0.4)
    assert correlation(known, returns[rows + 1]) > 5 / len(rows) ** 0.5


def test_e337_17_the_confidence_of_its_own_ruler_is_uniform_on_new_bars(fitted, scores):
    is_new, _ = held_out(scores.index)
    found = np.asarray(
        score_reading.confidence(scores.member_scores[is_new], fitted.validation_scores_)
    )
    refused = np.mean(found < 0.3)
    assert 0.1 < refused < 0.6  # not exactly .3: regimes last long and the new bars are few
    alone = score_reading.confidence(scores.member_scores[is_new][0, 0], fitted.validation_scores_)
    np.testing.assert_allclose(found[0, 0], alone, rtol=1e-6)


def test_e337_14_another_unit_of_prices_changes_nothing(fitted, scores):
    prices = ["open", "high", "low", "close"]
    scaled = BARS.assign(**{name: BARS[name] * 64.0 for name in prices})
    other = fitted.predict(scaled)
    np.testing.assert_allclose(other.standard_score, scores.standard_score, atol=1e-5)
    np.testing.assert_allclose(other.expected_return, scores.expected_return, atol=1e-7)


def test_the_log_density_is_normalised_its_slope_the_score_and_near_the_truth(fitted, scores):
    last = BARS.iloc[-100:]
    grid = np.linspace(-0.05, 0.05, 41)
    density = np.exp([fitted.log_prob(last, r)[-1] for r in grid])
    assert np.trapezoid(density, grid) == pytest.approx(1.0, abs=0.03)
    is_new, rows = held_out(scores.index)
    found = fitted.log_prob(BARS, RETURNS[-len(scores.index) :])
    assert np.isnan(found[-1])
    lost = (MARKET.log_prob[rows] - found[is_new]).mean()
    assert 0.0 < lost + 0.02
    assert lost < 0.2
    # Shuffled, the returns are less likely: row t is of the return after t.
    shuffled = np.full(len(scores.index), np.nan)
    shuffled[is_new] = np.random.default_rng(0).permutation(RETURNS[rows])
    assert fitted.log_prob(BARS, shuffled)[is_new].mean() < found[is_new].mean() - 0.02
    with pytest.raises(ValueError, match="r is of shape"):
        fitted.log_prob(BARS, np.zeros(3))


def test_ex_02_a_replaced_or_cut_future_leaves_earlier_scores_bit_identical(fitted, scores):
    changed, last = BARS.copy(), 3500
    noise = np.random.default_rng(0).uniform(0.5, 2.0, (len(BARS) - last - 1, 1))
    changed.iloc[last + 1 :, :4] *= noise
    for other in (fitted.predict(changed), fitted.predict(BARS.iloc[: last + 1])):
        is_past = other.index <= BARS.index[last]
        num = int(is_past.sum())
        for name in scores._fields[1:]:
            same, past = getattr(other, name)[is_past], getattr(scores, name)[:num]
            np.testing.assert_array_equal(same, past, err_msg=name)


def test_trn_06_a_saved_estimator_answers_bit_for_bit_alike(fitted, scores, tmp_path):
    fitted.save(tmp_path / "score")
    loaded = ReturnScore.load(tmp_path / "score")
    again = loaded.predict(BARS)
    for name in scores._fields[1:]:
        np.testing.assert_array_equal(getattr(again, name), getattr(scores, name), err_msg=name)
    np.testing.assert_array_equal(loaded.validation_scores_, fitted.validation_scores_)
    assert loaded.get_params() == fitted.get_params() == clone(fitted).get_params()
    with pytest.raises(ValueError, match="nothing"):
        ReturnScore.load(tmp_path / "nothing")


def test_ex_17_the_seed_decides_the_fit(fitted, scores):
    again = clone(fitted).fit(BARS.iloc[:NUM_TRAIN])
    np.testing.assert_array_equal(again.predict(BARS).member_scores, scores.member_scores)
    other = ReturnScore(**OPTIONS, random_state=1).fit(BARS.iloc[:NUM_TRAIN])
    assert (other.predict(BARS).score != scores.score).mean() > 0.9


def test_ec_10_every_setting_of_the_model_reaches_it():
    plain = ReturnScore(**OPTIONS)
    model = plain.build_model(3)
    shape = {"width": 16, "num_hidden": 2, "dropout": 0.1, "sigma_min": 0.01, "sigma_max": 1.0}
    for name, value in shape.items():
        other = ReturnScore(**(OPTIONS | {name: value})).build_model(3)
        assert getattr(other.config, name) == value != getattr(model.config, name)
    assert ReturnScore(num_levels=10).build_loss(model) != plain.build_loss(model)
    assert plain.build_loss(model) is plain.build_loss(model)  # so that programs are kept


def test_an_untrained_model_bad_bars_and_bad_levels_are_refused(fitted, tmp_path):
    for call in (
        lambda new: new.predict(BARS),
        lambda new: new.log_prob(BARS, 0.0),
        lambda new: new.save(tmp_path / "untrained"),
    ):
        with pytest.raises(NotFittedError):
            call(ReturnScore(**OPTIONS))
    with pytest.raises(ValueError, match="bars"):
        fitted.predict(BARS.iloc[:50])
    with pytest.raises(ValueError, match=r"other context columns.*log_volume"):
        fitted.predict(BARS.drop(columns="volume"))
    with pytest.raises(ValueError, match="reference"):
        fitted.predict(BARS, reference=np.nan)
    with pytest.raises(ValueError, match="read_sigma"):
        ReturnScore(read_sigma=0.001).fit(BARS)
    with pytest.raises(ValueError, match="num_epochs"):
        ReturnScore(num_epochs=0).fit(BARS)
    with pytest.raises(ValueError, match="too few"):
        ReturnScore(**OPTIONS).fit(BARS.iloc[:150])
