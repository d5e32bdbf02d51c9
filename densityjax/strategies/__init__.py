"""From forecasts and densities to signals and target positions."""

from densityjax.strategies import flow, score, score_reading, score_vote

__all__ = ["flow", "score", "score_reading", "score_vote"]
