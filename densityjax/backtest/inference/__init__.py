"""How much of a backtest is luck: one rule's interval, the best of many, and what random ones do.

Sharpe ratios are PER BAR unless a name says annual; kurtosis is not in excess. Tests of many rules
take their returns [T, N] or, for thousands, the block sums that a grid keeps (`BlockSums`).
"""

from densityjax.backtest.inference.blocks import BlockSums, block_sums
from densityjax.backtest.inference.bootstrap import (
    optimal_block_length,
    stationary_bootstrap,
    stationary_bootstrap_variance,
)
from densityjax.backtest.inference.confidence_set import ModelConfidenceSet, model_confidence_set
from densityjax.backtest.inference.intervals import (
    BootstrapDifference,
    BootstrapInterval,
    bootstrap_difference,
    bootstrap_interval,
    headline_intervals,
)
from densityjax.backtest.inference.overfitting import (
    Overfitting,
    deflated_sharpe_ratio,
    effective_number_of_trials,
    expected_max_sharpe,
    minimum_backtest_length,
    probability_of_backtest_overfitting,
)
from densityjax.backtest.inference.random_rules import RandomRuleNull, random_rule_null
from densityjax.backtest.inference.reality_check import (
    RealityCheck,
    SuperiorPredictiveAbility,
    reality_check,
    spa,
)
from densityjax.backtest.inference.sharpe import (
    Interval,
    SharpeMoments,
    minimum_track_record_length,
    probabilistic_sharpe_ratio,
    sharpe_interval,
    sharpe_moments,
)

__all__ = [
    "BlockSums",
    "BootstrapDifference",
    "BootstrapInterval",
    "Interval",
    "ModelConfidenceSet",
    "Overfitting",
    "RandomRuleNull",
    "RealityCheck",
    "SharpeMoments",
    "SuperiorPredictiveAbility",
    "block_sums",
    "bootstrap_difference",
    "bootstrap_interval",
    "deflated_sharpe_ratio",
    "effective_number_of_trials",
    "expected_max_sharpe",
    "headline_intervals",
    "minimum_backtest_length",
    "minimum_track_record_length",
    "model_confidence_set",
    "optimal_block_length",
    "probabilistic_sharpe_ratio",
    "probability_of_backtest_overfitting",
    "random_rule_null",
    "reality_check",
    "sharpe_interval",
    "sharpe_moments",
    "spa",
    "stationary_bootstrap",
    "stationary_bootstrap_variance",
]
