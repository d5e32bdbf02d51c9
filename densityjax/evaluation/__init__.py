"""How good a density or a forecast is."""

from densityjax.evaluation import (
    calibration,
    density_scores,
    divergence,
    regime_scores,
    tail_coverage,
)

__all__ = ["calibration", "density_scores", "divergence", "regime_scores", "tail_coverage"]
