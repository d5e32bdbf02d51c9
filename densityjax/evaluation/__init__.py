"""How good a density, a sample or a forecast is."""

from densityjax.evaluation import (
    calibration,
    classification,
    density_baselines,
    density_scores,
    divergence,
    energy_statistics,
    regime_scores,
    sample_quality,
    score_accuracy,
    stylised_facts,
    tail_coverage,
)

__all__ = [
    "calibration",
    "classification",
    "density_baselines",
    "density_scores",
    "divergence",
    "energy_statistics",
    "regime_scores",
    "sample_quality",
    "score_accuracy",
    "stylised_facts",
    "tail_coverage",
]
