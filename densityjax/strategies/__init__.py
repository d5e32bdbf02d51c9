"""From forecasts and densities to signals and target positions."""

from densityjax.strategies import (
    energy,
    energy_signals,
    energy_sizing,
    flow,
    score,
    score_reading,
    score_vote,
)

__all__ = [
    "energy",
    "energy_signals",
    "energy_sizing",
    "flow",
    "score",
    "score_reading",
    "score_vote",
]
