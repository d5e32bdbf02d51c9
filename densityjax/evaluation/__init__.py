"""How good a density, a sample or a forecast is."""

from densityjax.evaluation import (
    anomaly_baselines,
    anomaly_metrics,
    calibration,
    classification,
    density_baselines,
    density_scores,
    detection,
    divergence,
    energy_statistics,
    regime_scores,
    sample_quality,
    score_accuracy,
    stylised_facts,
    tail_coverage,
)

__all__ = [
    "anomaly_baselines",
    "anomaly_metrics",
    "calibration",
    "classification",
    "density_baselines",
    "density_scores",
    "detection",
    "divergence",
    "energy_statistics",
    "regime_scores",
    "sample_quality",
    "score_accuracy",
    "stylised_facts",
    "tail_coverage",
]
