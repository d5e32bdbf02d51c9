"""The joint forecaster on a known law: two returns of one volatility and correlated t steps."""

from typing import Any

import jax
import numpy as np
import pandas as pd
import pytest
from scipy import stats
from sklearn.base import clone
from sklearn.exceptions import NotFittedError

from densityjax.estimators import JointForecaster, ReturnForecaster, joint_rows
from densityjax.risk import portfolio

NUM_TRAIN, NUM_BARS, DF, CORRELATION = 3000, 4500, 3.0, 0.6
# As the tests of one return have them, so that forecasts made alone share their programs.
TRAINING = {
    "num_members": 2,
    "num_bins": 4,
    "width": 8,
    "num_epochs": 12,
    "batch_size": 128,
    "learning_rate": 2e-3,
}
CHOLESKY = np.linalg.cholesky(np.array([[1.0, CORRELATION], [CORRELATION, 1.0]]))


def t_steps(rng, num):
    """[num, 2] steps of a bivariate t of unit variance: one mixing variable for both."""
    mixing = np.sqrt((DF - 2.0) / rng.chisquare(DF, num))
    return rng.standard_normal((num, 2)) @ CHOLESKY.T * mixing[:, None]


def bars_of(returns, noise):
    close = 100.0 * np.exp(np.cumsum(returns))
    opened = np.append(100.0, close[:-1])
    high, low = np.maximum(opened, close) * (1 + noise), np.minimum(opened, close) * (1 - noise)
    index = pd.date_range("2020-01-01", periods=len(close), freq="h", tz="UTC", name="timestamp")
    return pd.DataFrame(
        {"open": opened, "high": high, "low": low, "close": close, "volume": 1.0 + noise},
        index=index,
    )


def simulate(seed):
    """Bars of two assets under a common GARCH(1, 1) volatility, and the [T, 2] log returns."""
    rng = np.random.default_rng(seed)
    steps, variance, returns = t_steps(rng, NUM_BARS), 1e-4, np.empty((NUM_BARS, 2))
    for t, step in enumerate(steps):
        returns[t] = np.sqrt(variance) * step * [1.0, 1.5]
        shock = min(float(step @ step) / 2.0, 10.0)  # bounded, or the variance would have no mean
        variance = 4e-6 + variance * (0.9 + 0.05 * shock)
    noise = 1e-3 * rng.uniform(size=(2, NUM_BARS))
    return {name: bars_of(returns[:, a], noise[a]) for a, name in enumerate("AB")}, returns


PANEL, RETURNS = simulate(3)


def cut(panel, rows):
    return {name: bars.iloc[rows] for name, bars in panel.items()}


@pytest.fixture(scope="module")
def fitted():
    return JointForecaster(**TRAINING).fit(cut(PANEL, slice(NUM_TRAIN)))


@pytest.fixture(scope="module")
def forecast(fitted):
    return fitted.predict(PANEL)


@pytest.fixture(scope="module")
def held_out(forecast):
    rows = joint_rows(PANEL)
    is_new = (rows.index >= PANEL["A"].index[NUM_TRAIN]) & np.isfinite(rows.next_return[:, 0])
    return forecast[is_new], rows.next_return[is_new]


@pytest.fixture(scope="module")
def draws(held_out):
    return held_out[0][::60].sample(jax.random.key(1), 4000)  # [25, 4000, 2]


def test_rows_join_the_contexts_and_returns_of_both_assets():
    rows = joint_rows(PANEL)
    assert rows.names == ("A", "B")
    assert rows.index.equals(PANEL["A"].index[-len(rows.index) :])
    following = np.vstack([RETURNS[1:], np.full((1, 2), np.nan)])[-len(rows.index) :]
    np.testing.assert_allclose(rows.next_return, following, atol=1e-12)
    half = len(rows.columns) // 2
    assert [c[3:] for c in rows.columns[:half]] == [c[3:] for c in rows.columns[half:]]
    assert rows.context.shape == (len(rows.index), 2 * half)


def test_a_return_that_leads_to_another_time_in_one_asset_is_not_known():
    shorter = cut(PANEL, slice(600))
    shorter["B"] = shorter["B"].drop(PANEL["B"].index[300])
    rows = joint_rows(shorter, horizon=2)
    missing = rows.index[np.isnan(rows.next_return[:, 0])]
    assert missing.equals(PANEL["A"].index[[298, 299, 598, 599]])
    assert PANEL["A"].index[300] not in rows.index
    np.testing.assert_array_equal(*np.isnan(rows.next_return).T)


def test_it_beats_the_product_of_forecasts_made_alone(held_out):
    forecast, following = held_out
    alone = 0.0
    for a, bars in enumerate(PANEL.values()):
        single = ReturnForecaster(**TRAINING).fit(bars.iloc[:NUM_TRAIN]).predict(bars)
        single = single[np.flatnonzero(single.index.isin(forecast.index))]
        alone = alone + single.log_prob(following[:, a])
    gain = forecast.log_prob(following) - alone
    assert gain.mean() > 3 * gain.std() / len(gain) ** 0.5
    # Correlation alone is worth -log(1 - rho^2) / 2 = .22 nats to the truth; most of it is found.
    assert gain.mean() > 0.6 * -0.5 * np.log(1.0 - CORRELATION**2)


def test_the_dependence_of_the_draws_is_that_of_the_law(draws):
    tau = np.mean([stats.kendalltau(draw[:, 0], draw[:, 1]).statistic for draw in draws])
    assert tau == pytest.approx(2.0 / np.pi * np.arcsin(CORRELATION), abs=0.06)


def test_crashes_come_together_as_often_as_in_the_law(draws):
    crashes = draws < np.quantile(draws, 0.01, axis=1, keepdims=True)
    together = crashes.all(-1).mean()
    steps = t_steps(np.random.default_rng(0), 2_000_000)
    truth = (steps < np.quantile(steps, 0.01, axis=0)).all(-1).mean()
    points = np.random.default_rng(1).standard_normal((2_000_000, 2)) @ CHOLESKY.T
    gaussian = (points < stats.norm.ppf(0.01)).all(-1).mean()
    assert 0.5 * truth < together < 2.0 * truth
    assert together > gaussian  # what correlation alone would give


def test_auto_keeps_the_base_with_one_mixing_variable_where_the_law_has_one(fitted):
    chosen = JointForecaster(base="auto", **TRAINING).fit(cut(PANEL, slice(NUM_TRAIN)))
    assert chosen.flow_.config.base == "student_t"
    for leaf, same in zip(
        jax.tree.leaves(chosen.params_), jax.tree.leaves(fitted.params_), strict=True
    ):
        np.testing.assert_array_equal(leaf, same)


def test_the_joint_density_integrates_to_one_and_its_draws_follow_it(held_out):
    row = held_out[0][:1]
    spread = row.sample(jax.random.key(0), 4000)[0].std(0)
    axes = [np.linspace(-8 * s, 8 * s, 81) for s in spread]
    grid = np.stack(np.meshgrid(*axes, indexing="ij"), -1).reshape(-1, 2)
    density = np.exp(row[np.zeros(len(grid), int)].log_prob(grid))
    weight = density * np.prod([axis[1] - axis[0] for axis in axes])
    assert weight.sum() == pytest.approx(1.0, abs=0.02)
    drawn = row.sample(jax.random.key(2), 4000)[0]
    for quadrant in ([1, 1], [1, -1], [-1, -1]):
        inside = weight[(grid * quadrant > 0).all(1)].sum() + weight[(grid == 0).any(1)].sum() / 4
        assert (drawn * quadrant > 0).all(1).mean() == pytest.approx(inside, abs=0.05)


def test_portfolio_risk_is_that_of_its_scenarios_and_contributions_sum_to_it(held_out):
    forecast = held_out[0][:5]
    weights, key = np.array([0.7, 0.5]), jax.random.key(4)
    risk = forecast.portfolio_risk(weights, 0.95, key=key, num_scenarios=2000)
    np.testing.assert_allclose(risk.component.sum(1), risk.expected_shortfall, rtol=1e-12)
    np.testing.assert_allclose(risk.component, risk.marginal * weights)
    scenarios = np.expm1(forecast.sample(key, 2000).astype(float))
    by_hand = [portfolio.portfolio_expected_shortfall(s, weights, 0.95) for s in scenarios]
    np.testing.assert_allclose(risk.expected_shortfall, by_hand)
    assert (risk.expected_shortfall > risk.value_at_risk).all()
    assert (risk.value_at_risk > 0).all()
    # Alone the assets are riskier than together: shortfall is subadditive.
    parts = [
        forecast.portfolio_risk(w, 0.95, key=key, num_scenarios=2000) for w in np.diag(weights)
    ]
    assert (risk.expected_shortfall < sum(part.expected_shortfall for part in parts)).all()
    changing = np.tile(weights, (5, 1))
    changing[2] = 0.0
    assert forecast.portfolio_risk(changing, 0.95, num_scenarios=100).expected_shortfall[2] == 0.0


def test_scenarios_are_simple_returns_of_one_row(forecast):
    scenarios = forecast.scenarios(-1, jax.random.key(7), 500)
    drawn = forecast[len(forecast) - 1 :].sample(jax.random.key(7), 500)[0]
    np.testing.assert_allclose(np.log1p(scenarios), drawn, rtol=1e-5, atol=1e-8)
    with pytest.raises(ValueError, match="row is"):
        forecast.scenarios(len(forecast), jax.random.key(7), 5)


def test_bars_cut_off_or_replaced_leave_earlier_forecasts_bit_identical(fitted, forecast):
    last = 4000
    changed = {name: bars.copy() for name, bars in PANEL.items()}
    for bars in changed.values():
        bars.iloc[last:] *= 1.3
    points = np.array([0.01, -0.01])
    past = forecast.log_prob(points)
    for panel in (cut(PANEL, slice(last)), changed):
        again = fitted.predict(panel)
        is_past = again.index < PANEL["A"].index[last]
        same = again.log_prob(points)[is_past]
        np.testing.assert_array_equal(same, past[: len(same)])
        assert is_past.sum() == last - len(PANEL["A"]) + len(forecast)
    assert again.log_prob(points)[-1] != past[-1]


def test_a_saved_forecaster_answers_bit_for_bit_alike_whatever_the_order(
    fitted, forecast, tmp_path
):
    fitted.save(tmp_path / "joint")
    loaded = JointForecaster.load(tmp_path / "joint")
    again = loaded.predict({"B": PANEL["B"], "A": PANEL["A"]})
    assert again.names == ("A", "B")
    points = np.array([0.01, -0.01])
    np.testing.assert_array_equal(again.log_prob(points), forecast.log_prob(points))
    key = jax.random.key(0)
    np.testing.assert_array_equal(again[:3].sample(key, 4), forecast[:3].sample(key, 4))
    assert loaded.get_params() == clone(fitted).get_params()
    with pytest.raises(ValueError, match="not a ReturnForecaster"):
        ReturnForecaster.load(tmp_path / "joint")


def test_what_is_no_panel_is_named(fitted, forecast):
    bars = PANEL["A"]
    days = pd.date_range("1990-01-01", periods=NUM_BARS, freq="D", tz="UTC", name="timestamp")
    daily = bars.set_axis(days)
    later = bars.set_axis(bars.index + pd.Timedelta("9000h"))
    refused: list[tuple[Any, str]] = [
        (bars, "panel is a DataFrame"),
        ([bars], "panel has 1 assets"),
        ({"A": bars, "B": daily}, "different clocks"),
        ({"A": bars, "B": later}, "no time at which all"),
        ({"A": bars, "B": bars.drop(columns="close")}, r"panel\['B'\].*'close' is missing"),
        (cut(PANEL, slice(200)), "too few"),
    ]
    for panel, match in refused:
        with pytest.raises(ValueError, match=match):
            JointForecaster(**TRAINING).fit(panel)
    with pytest.raises(ValueError, match="accepted are those of the fit"):
        fitted.predict({"A": bars, "C": PANEL["B"]})
    with pytest.raises(ValueError, match="base is 'cauchy'"):
        JointForecaster(base="cauchy").fit(PANEL)
    with pytest.raises(NotFittedError):
        JointForecaster().predict(PANEL)
    with pytest.raises(ValueError, match="weights has shape"):
        forecast.portfolio_risk([1.0], 0.99)
    with pytest.raises(ValueError, match="r has shape"):
        forecast.log_prob(np.zeros(3))
    assert np.isnan(forecast[:1].log_prob([np.nan, 0.0])).all()
