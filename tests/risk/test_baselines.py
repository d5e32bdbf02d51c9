"""Baselines: laws and recursions against arch, causality, and known scores on the S&P 500."""

import numpy as np
import pytest
from arch import arch_model
from arch.data import sp500
from arch.univariate import SkewStudent
from scipy import integrate, stats

from densityjax.risk import baselines, coverage, scoring, skew_t, volatility

BASELINES = {
    "ewma_t": baselines.ewma_t,
    "garch": baselines.garch,
    "gjr_skewt": baselines.gjr_skewt,
    "egarch_skewt": baselines.egarch_skewt,
}
NUM_TRAIN = 1000


@pytest.fixture(scope="module")
def returns():
    return np.diff(np.log(sp500.load()["Adj Close"].to_numpy()))


@pytest.fixture(scope="module")
def forecasts(returns):
    return {name: fit(returns[:1400], num_train=NUM_TRAIN) for name, fit in BASELINES.items()}


@pytest.mark.parametrize(("df", "skew"), [(5.0, -0.2), (8.0, -0.1), (2.5, 0.6), (40.0, 0.0)])
def test_skew_t_equals_arch(df, skew):
    law, z = SkewStudent(), np.linspace(-9.0, 9.0, 61)
    probability = np.linspace(0.001, 0.999, 61)
    log_prob = law.loglikelihood([df, skew], z, np.ones(61), individual=True)
    np.testing.assert_allclose(skew_t.skew_t_log_prob(z, df, skew), log_prob, atol=1e-11)
    np.testing.assert_allclose(skew_t.skew_t_cdf(z, df, skew), law.cdf(z, [df, skew]), atol=1e-13)
    quantile = skew_t.skew_t_quantile(probability, df, skew)
    np.testing.assert_allclose(quantile, law.ppf(probability, [df, skew]), atol=1e-10)
    np.testing.assert_allclose(skew_t.skew_t_cdf(quantile, df, skew), probability, atol=1e-12)


@pytest.mark.parametrize(
    ("df", "skew", "quantiles", "shortfalls", "log_probs", "cdf"),
    [
        (
            np.inf,
            0.0,
            (-2.3263478740, -1.9599639845, -1.6448536270),
            (-2.6652142203, -2.3378027922, -2.0627128075),
            (-0.918938533205, -2.918938533205),
            0.022750131948,
        ),
        (
            5.0,
            0.0,
            (-2.6064635694, -1.9911641279, -1.5608497583),
            (-3.4488367600, -2.7278020716, -2.2386842555),
            (-0.713206777172, -3.255100358333),
            0.024656543837,
        ),
        (
            5.0,
            -0.2,
            (-2.9420403413, -2.1996821134, -1.6844054292),
            (-3.9655956053, -3.0910842358, -2.5005546086),
            (-0.756161472772, -3.134544115374),
            0.032543222630,
        ),
        (
            8.0,
            -0.1,
            (-2.6567602986, -2.0949713464, -1.6718767528),
            (-3.3200499153, -2.7275710044, -2.2935860977),
            (-0.817501022626, -3.035802013583),
            0.029224474506,
        ),
    ],
)
def test_known_quantiles_shortfalls_densities(df, skew, quantiles, shortfalls, log_probs, cdf):
    one = np.ones(1)
    forecast = baselines.BaselineForecast(0 * one, one, df * one, skew * one, one > 0)
    for probability, quantile, shortfall in zip(
        (0.01, 0.025, 0.05), quantiles, shortfalls, strict=True
    ):
        assert forecast.quantile(probability)[0] == pytest.approx(quantile, abs=2e-10)
        assert forecast.value_at_risk(1 - probability)[0] == pytest.approx(-quantile, abs=2e-10)
        assert forecast.expected_shortfall(1 - probability)[0] == pytest.approx(
            -shortfall, abs=2e-7
        )
    assert forecast.log_prob(0 * one)[0] == pytest.approx(log_probs[0], abs=2e-12)
    assert forecast.log_prob(-2 * one)[0] == pytest.approx(log_probs[1], abs=2e-12)
    assert forecast.cdf(-2 * one)[0] == pytest.approx(cdf, abs=2e-12)


def test_skew_t_has_mean_zero_and_variance_one_also_in_the_two_piece_normal():
    for df, skew in [(np.inf, 0.5), (6.0, -0.4)]:

        def moment(power, df=df, skew=skew):
            def weighted(z):
                return z**power * np.exp(skew_t.skew_t_log_prob(z, df, skew))

            return integrate.quad(weighted, -np.inf, np.inf, limit=200)[0]

        np.testing.assert_allclose([moment(0), moment(1), moment(2)], [1, 0, 1], atol=1e-6)


@pytest.mark.parametrize(
    ("name", "vol", "asymmetry", "law"),
    [
        ("garch", "GARCH", 0, "t"),
        ("gjr_skewt", "GARCH", 1, "skewt"),
        ("egarch_skewt", "EGARCH", 1, "skewt"),
    ],
)
def test_scale_and_likelihood_equal_arch_in_sample(returns, forecasts, name, vol, asymmetry, law):
    train, forecast = returns[:NUM_TRAIN], forecasts[name]
    unit = train.std()
    model = arch_model(train / unit, vol=vol, p=1, o=asymmetry, q=1, dist=law, rescale=False)
    result = model.fit(disp="off", show_warning=False)
    # Row t forecasts bar t + 1: arch's volatility OF bar t + 1.
    ours = forecast.scale[: NUM_TRAIN - 1]
    np.testing.assert_allclose(ours, unit * result.conditional_volatility[1:], rtol=1e-8)
    ahead = result.forecast(horizon=1, reindex=False)
    expected = unit * np.sqrt(ahead.variance.to_numpy()[0, 0])
    assert forecast.scale[NUM_TRAIN - 1] == pytest.approx(expected, rel=1e-8)
    log_prob = forecast.log_prob(np.append(returns[1:1400], np.nan))
    assert np.isnan(log_prob[-1])
    first = (train[0] - forecast.location[0]) / (unit * result.conditional_volatility[0])
    first_log_prob = skew_t.skew_t_log_prob(
        first, forecast.degrees_of_freedom[0], forecast.skew[0]
    ) - np.log(unit * result.conditional_volatility[0])
    total = first_log_prob + log_prob[: NUM_TRAIN - 1].sum()
    assert total == pytest.approx(result.loglikelihood - NUM_TRAIN * np.log(unit), rel=1e-9)


def test_ewma_variance_equals_a_plain_loop_and_the_t_is_the_likelihood_maximum(returns, forecasts):
    train, forecast = returns[:NUM_TRAIN], forecasts["ewma_t"]
    variance = [np.mean(train[:250] ** 2)]
    for value in returns[:1400]:
        variance.append(0.94 * variance[-1] + 0.06 * value**2)
    sigma = np.sqrt(variance)
    df, _, scale = stats.t.fit(train / sigma[:NUM_TRAIN], floc=0.0)
    np.testing.assert_allclose(forecast.degrees_of_freedom, df, rtol=2e-3)
    expected = sigma[1:] * scale * np.sqrt(df / (df - 2.0))
    np.testing.assert_allclose(forecast.scale, expected, rtol=2e-4)


def test_recursions_equal_plain_loops():
    residual = np.random.default_rng(0).standard_normal(50)
    values = {"omega": 0.1, "alpha": 0.05, "gamma": 0.1, "beta": 0.8}
    variance = [0.1 + 0.05 * 2.0 + 0.1 * 0.5 * 2.0 + 0.8 * 2.0]
    for e in residual:
        variance.append(0.1 + (0.05 + 0.1 * (e < 0)) * e**2 + 0.8 * variance[-1])
    ours = volatility.garch_variance(residual, start=2.0, **values)
    np.testing.assert_allclose(ours, variance, rtol=1e-13)


@pytest.mark.parametrize("name", BASELINES)
def test_a_forecast_does_not_see_returns_after_its_row(returns, forecasts, name):
    shocked = returns[:1400].copy()
    shocked[1200:] = 0.05 * np.random.default_rng(1).standard_normal(200)
    changed = BASELINES[name](shocked, num_train=NUM_TRAIN)
    for before, after in zip(forecasts[name], changed, strict=True):
        np.testing.assert_array_equal(before[:1200], after[:1200])
    assert np.all(forecasts[name].scale[1200:] != changed.scale[1200:])
    cut = BASELINES[name](returns[:1200], num_train=NUM_TRAIN)
    np.testing.assert_allclose(cut.scale, forecasts[name].scale[:1200], rtol=1e-12)


@pytest.mark.parametrize("name", BASELINES)
def test_a_change_of_units_moves_the_log_density_by_its_jacobian(returns, forecasts, name):
    percent = BASELINES[name](100 * returns[:1400], num_train=NUM_TRAIN)
    np.testing.assert_allclose(percent.scale, 100 * forecasts[name].scale, rtol=1e-3)
    value = returns[1:1401]
    np.testing.assert_allclose(
        percent.log_prob(100 * value), forecasts[name].log_prob(value) - np.log(100), atol=5e-3
    )


@pytest.mark.parametrize("name", BASELINES)
def test_rows_are_a_distribution_and_the_fit_converged(returns, forecasts, name):
    forecast = forecasts[name]
    assert all(field.shape == (1400,) for field in forecast)
    assert forecast.is_converged.all()
    for probability in (0.01, 0.5, 0.99):
        value = forecast.cdf(forecast.quantile(probability))
        np.testing.assert_allclose(value, probability, atol=1e-10)
    grid = np.linspace(-0.5, 0.5, 20_001)
    density = np.exp(baselines.BaselineForecast(*(f[700] for f in forecast)).log_prob(grid))
    assert np.trapezoid(density, grid) == pytest.approx(1.0, abs=1e-4)


def test_each_refit_owns_the_rows_from_its_last_training_bar(returns):
    values = returns[:1300]
    rolling = baselines.garch(values, num_train=1000, refit_every=150)
    for size, rows in [
        (1000, slice(0, 1149)),
        (1150, slice(1149, 1299)),
        (1300, slice(1299, 1300)),
    ]:
        single = baselines.garch(values, num_train=size)
        np.testing.assert_allclose(rolling.scale[rows], single.scale[rows], rtol=1e-12)
        np.testing.assert_array_equal(rolling.location[rows], single.location[rows])


@pytest.mark.parametrize(
    ("name", "log_score", "pinball", "violation_rate", "fz0", "dm"),
    [
        ("ewma_t", 1.2622, 3.614, 1.54, 1.0177, -3.00),
        ("garch", 1.2542, 3.477, 1.70, 0.9944, 0.0),
        ("gjr_skewt", 1.2324, 3.292, 1.15, 0.9344, 6.17),
        ("egarch_skewt", 1.2309, 3.345, 1.46, 0.9692, 3.80),
    ],
)
def test_known_scores_on_the_sp500(returns, name, log_score, pinball, violation_rate, fz0, dm):
    def out_of_sample(fit):
        forecast = fit(returns, num_train=2500, refit_every=63)
        return baselines.BaselineForecast(*(field[2499:-1] for field in forecast))

    forecast, target = out_of_sample(BASELINES[name]), returns[2500:]
    loss = scoring.log_score(forecast.log_prob(target))
    assert loss.size == 2530
    assert loss.mean() + np.log(100) == pytest.approx(log_score, abs=1e-4)  # of percent returns
    quantile = forecast.quantile(0.01)
    score = scoring.pinball_loss(target, quantile, 0.01).mean()
    assert score * 1e4 == pytest.approx(pinball, abs=1e-3)
    assert np.mean(target < quantile) * 100 == pytest.approx(violation_rate, abs=0.006)
    # The known FZ0 took ES from equally spaced quantiles, which is short by up to 6e-4.
    joint = scoring.fz0_loss(
        target, forecast.value_at_risk(0.975), forecast.expected_shortfall(0.975), 0.025
    )
    assert joint.mean() + np.log(100) == pytest.approx(fz0, abs=1e-3)
    if name in ("ewma_t", "gjr_skewt"):
        reference = scoring.log_score(out_of_sample(baselines.garch).log_prob(target))
        result = scoring.diebold_mariano(loss, reference, lag=5)
        assert result.statistic == pytest.approx(dm, abs=0.01)
    if name == "garch":
        assert coverage.kupiec_test(target < quantile, 0.01).p_value == pytest.approx(
            0.0013, abs=5e-5
        )


def test_bad_input_raises_and_names_the_argument():
    noise = np.random.default_rng(2).standard_normal(300)
    with pytest.raises(ValueError, match="returns"):
        baselines.garch(np.append(noise, np.nan), num_train=200)
    with pytest.raises(ValueError, match="num_train"):
        baselines.ewma_t(noise, num_train=301)
    with pytest.raises(ValueError, match="vary"):
        baselines.gjr_skewt(np.zeros(300), num_train=200)
    with pytest.raises(ValueError, match="decay"):
        baselines.ewma_t(noise, num_train=200, decay=1.0)
    with pytest.raises(ValueError, match="distribution"):
        baselines.garch(noise, num_train=200, distribution="cauchy")
    with pytest.raises(ValueError, match="refit_every"):
        baselines.garch(noise, num_train=200, refit_every=0)
