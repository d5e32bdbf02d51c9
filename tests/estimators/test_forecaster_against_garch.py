"""On real indices the forecaster is no worse than the GARCH family, fitted on the same rows.

The split, the purge, the baselines and the comparison are those of a run: the last 15 % of the
bars, the log score of each next return, and Diebold and Mariano's statistic with its default lag.
"""

import numpy as np
import pytest

from densityjax import market
from densityjax.estimators import ReturnForecaster, forecast_rows
from densityjax.risk import baselines, scoring

WORSE = -1.65  # one-sided 5 % quantile of a standard normal: below it the forecaster is worse
BASELINES = {"ewma_t": baselines.ewma_t, "gjr_skewt": baselines.gjr_skewt}
PURGE = 61  # bars: the longest window of the context, and the horizon


@pytest.fixture(scope="session", params=["nasdaq", "sp500"])
def log_scores(request):
    """Name -> log score of every test row, of the forecaster as it is by default and of others."""
    bars = market.load_dataset(request.param)
    parts = market.split(bars, purge=PURGE)
    forecaster = ReturnForecaster().fit(bars.iloc[parts.train])
    test = bars.index[parts.test][:-1]  # the last bar has no next return
    forecast = forecaster.predict(bars)
    forecast = forecast[np.flatnonzero(forecast.index.isin(test))]
    returns = market.log_returns(bars).dropna()
    following = returns.shift(-1)
    found = {"forecaster": forecast.log_prob(following[test].to_numpy())}
    seen = int((returns.index <= bars.index[parts.train.stop - 1]).sum())
    for name, fit in BASELINES.items():
        baseline = fit(returns.to_numpy(), num_train=seen)
        density = baseline.log_prob(following.to_numpy())
        found[name] = density[returns.index.isin(test)]
    return found


@pytest.mark.parametrize("name", BASELINES)
def test_the_forecaster_is_not_worse_than_garch_on_test_rows(log_scores, name):
    ours, theirs = log_scores["forecaster"], log_scores[name]
    assert len(ours) == len(theirs) > 700
    assert np.isfinite(ours).all()
    assert np.isfinite(theirs).all()
    assert scoring.diebold_mariano(-ours, -theirs).statistic > WORSE


def test_the_comparison_can_fail(log_scores):
    ours = log_scores["forecaster"]
    flat = np.full(len(ours), ours.mean() - 0.2)  # a fifth of a nat a day below ours
    assert scoring.diebold_mariano(-flat, -log_scores["ewma_t"]).statistic < WORSE


def test_the_purge_is_the_window_and_the_horizon():
    assert forecast_rows(market.load_dataset("nasdaq").iloc[:400]).window + 1 == PURGE
