"""Risk of a forecast: tails, coverage tests, scoring rules and the baselines to beat.

`tails` is JAX and works on one distribution; the rest is float64 on the host.
"""

from densityjax.risk import baselines, coverage, scoring, tails
from densityjax.risk.coverage import (
    RiskTest,
    acerbi_szekely_test,
    christoffersen_test,
    dynamic_quantile_test,
    independence_test,
    kupiec_test,
)
from densityjax.risk.scoring import (
    ScoreComparison,
    censored_log_score,
    crps,
    crps_from_cdf,
    crps_from_samples,
    diebold_mariano,
    fz0_loss,
    log_score,
    pinball_loss,
)
from densityjax.risk.tails import (
    RiskRecord,
    expected_shortfall,
    is_risk_acceptable,
    prob_above,
    risk_record,
    sample_expected_shortfall,
    sample_value_at_risk,
    value_at_risk,
)

__all__ = [
    "RiskRecord",
    "RiskTest",
    "ScoreComparison",
    "acerbi_szekely_test",
    "baselines",
    "censored_log_score",
    "christoffersen_test",
    "coverage",
    "crps",
    "crps_from_cdf",
    "crps_from_samples",
    "diebold_mariano",
    "dynamic_quantile_test",
    "expected_shortfall",
    "fz0_loss",
    "independence_test",
    "is_risk_acceptable",
    "kupiec_test",
    "log_score",
    "pinball_loss",
    "prob_above",
    "risk_record",
    "sample_expected_shortfall",
    "sample_value_at_risk",
    "scoring",
    "tails",
    "value_at_risk",
]
