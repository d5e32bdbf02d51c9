"""The audit against ten leaks that people plant, and against pipelines that are clean."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest

from densityjax.backtest.audit import audit_lookahead
from densityjax.market import compute_features, longest_window, simulate_market


@pytest.fixture(scope="module")
def bars():
    return simulate_market(jax.random.key(0), 600).bars


def log_returns(bars):
    return np.log(bars["close"]).diff()


def global_z_score(bars):
    returns = log_returns(bars)
    return (returns - returns.mean()) / returns.std()


def centred_mean(bars):
    return bars["close"].rolling(5, center=True).mean()


def backfill(bars):
    return log_returns(bars).rolling(20).std().bfill()


def shift_back(bars):
    return log_returns(bars).shift(-1)


def maximum_of_all(bars):
    return bars["close"] / bars["high"].max()


def backwards_window(bars):
    return bars["close"][::-1].rolling(5, min_periods=1).mean()[::-1]


def rank_among_all(bars):
    return log_returns(bars).rank(pct=True)


def daily_close_at_its_open(bars):
    daily = bars["close"].resample("1D", label="left").last()
    return daily.reindex(bars.index, method="ffill")


def smoothed_states(bars):
    """A backward pass over filtered probabilities, as a smoother of hidden states has one."""
    filtered = log_returns(bars).pow(2).fillna(0.0).ewm(alpha=0.1).mean()
    return filtered[::-1].ewm(alpha=0.3).mean()[::-1]


def sign_of_global_z_score(bars):
    return np.sign(global_z_score(bars) - 0.5)


LEAKS = [
    global_z_score,
    centred_mean,
    backfill,
    shift_back,
    maximum_of_all,
    backwards_window,
    rank_among_all,
    daily_close_at_its_open,
    smoothed_states,
    sign_of_global_z_score,
]


@pytest.mark.parametrize("leak", LEAKS, ids=lambda leak: leak.__name__)
def test_each_planted_leak_is_caught(leak, bars):
    report = audit_lookahead(leak, bars)
    assert not report.passed
    assert "replaced" in report.failed
    assert "FAILED" in str(report)
    first = report.to_frame().loc["replaced"]
    assert first["row"] >= 0
    assert "became" in first["detail"]


def rolling_z_score(bars):
    returns = log_returns(bars)
    window = returns.rolling(50)
    return (returns - window.mean()) / window.std()


def exponential(bars):
    return log_returns(bars).ewm(halflife=5).std().to_frame("volatility")


def signs(bars):
    return np.sign(log_returns(bars).fillna(0.0).to_numpy())


@pytest.mark.parametrize(
    ("clean", "warmup"), [(rolling_z_score, 51), (exponential, 150), (signs, 1)]
)
def test_causal_pipelines_pass_every_check(clean, warmup, bars):
    report = audit_lookahead(clean, bars, warmup=warmup)
    assert report.passed
    made = [check.name for check in report.checks if check.passed]
    assert made == ["replaced", "truncated", "shuffled", "poisoned", "warm-up", "stamps"]


@pytest.mark.parametrize("feature_set", ["flow", "score", "energy"])
def test_the_features_of_this_package_are_causal(feature_set, bars):
    features = functools.partial(compute_features, feature_set=feature_set)
    report = audit_lookahead(features, bars, warmup=longest_window(feature_set) + 1)
    assert report.failed == (), str(report)
    assert sum(check.passed is True for check in report.checks) >= 5


def test_a_warm_up_declared_too_short_fails_and_says_how_long_it_is(bars):
    report = audit_lookahead(rolling_z_score, bars, warmup=20)
    assert report.failed == ("warm-up",)
    assert "51 rows on" not in report.to_frame().loc["warm-up", "detail"]
    assert "50 rows on" in report.to_frame().loc["warm-up", "detail"]
    measured = audit_lookahead(rolling_z_score, bars).to_frame().loc["warm-up"]
    assert measured["passed"]
    assert measured["detail"] == "outputs agree after 50 rows"


def test_a_pipeline_that_never_forgets_its_start_fails_only_against_a_declaration(bars):
    def never_forgets(bars):
        return bars["close"].expanding().mean()

    measured = audit_lookahead(never_forgets, bars)
    assert measured.failed == ()
    assert measured.passed
    warm_up = measured.to_frame().loc["warm-up"]
    assert warm_up["passed"] is None
    assert "still depends on where history began; none was declared" in warm_up["detail"]
    assert audit_lookahead(never_forgets, bars, warmup=50).failed == ("warm-up",)


def z_score_in_jax(x):
    returns = x[:, 0]
    return (returns - returns.mean()) / returns.std()


def average_in_jax(x):
    def step(mean, row):
        mean = 0.9 * mean + 0.1 * row
        return mean, mean

    return jax.lax.scan(step, jnp.zeros(x.shape[1]), x)[1]


def test_the_derivative_sees_leaks_of_smooth_functions_and_says_when_it_is_blind(bars):
    def found(jax_fn):
        return audit_lookahead(signs, bars, jax_fn=jax_fn).to_frame().loc["derivative"]

    assert found(average_in_jax)["passed"]
    leak = found(z_score_in_jax)
    assert not leak["passed"]
    assert "depend on row" in leak["detail"]
    blind = found(lambda x: jnp.sign(z_score_in_jax(x)))
    assert blind["passed"] is None
    assert "sees nothing" in blind["detail"]


def test_stamps_need_order_a_zone_and_values_that_were_known(bars):
    def stamps(bars, **kwargs):
        return audit_lookahead(signs, bars, **kwargs).to_frame().loc["stamps"]

    on_time = bars.index + pd.Timedelta("1h")
    assert stamps(bars, available_at={"funding": on_time})["passed"]
    late = stamps(bars, available_at={"funding": on_time + pd.Timedelta("1min")})
    assert not late["passed"]
    assert late["column"] == "funding"
    assert not stamps(bars.tz_localize(None))["passed"]
    assert not stamps(bars.set_axis(np.arange(len(bars))))["passed"]


def test_a_pipeline_that_refuses_nan_is_poisoned_with_huge_values(bars):
    def strict(leaky, bars):
        if bars.isna().any().any():
            raise ValueError("NaN")
        return maximum_of_all(bars) if leaky else rolling_z_score(bars)

    clean = audit_lookahead(functools.partial(strict, False), bars).to_frame().loc["poisoned"]
    assert clean["passed"]
    assert "NaN is refused" in clean["detail"]
    assert "poisoned" in audit_lookahead(functools.partial(strict, True), bars).failed


def test_a_pipeline_that_refuses_every_other_future_has_not_passed(bars):
    def picky(other):
        if not other.equals(bars):
            raise ValueError("these are not my bars")
        return other["close"]

    report = audit_lookahead(picky, bars)
    assert report.failed == ()
    assert not report.passed
    assert "not made" in str(report)


def test_outputs_that_do_not_fit_the_bars_are_refused(bars):
    with pytest.raises(ValueError, match="accepted are 600 rows"):
        audit_lookahead(lambda b: np.zeros(3), bars)
    with pytest.raises(ValueError, match="rows that are no bars"):
        audit_lookahead(lambda b: b["close"].resample("1D").last().shift(freq="7min"), bars)
    with pytest.raises(ValueError, match="accepted are rows from 0 to 598"):
        audit_lookahead(signs, bars, cuts=[599])
    with pytest.raises(ValueError, match="bars has 10 rows"):
        audit_lookahead(signs, bars.iloc[:10])
