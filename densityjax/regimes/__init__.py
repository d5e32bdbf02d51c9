"""Anomaly scores and regimes."""

from densityjax.regimes import (
    anomalies,
    anomaly_scores,
    change_points,
    energy_levels,
    hidden_markov,
    kernel_energy,
    latent_clusters,
    score_regimes,
    streaming_energy,
)

__all__ = [
    "anomalies",
    "anomaly_scores",
    "change_points",
    "energy_levels",
    "hidden_markov",
    "kernel_energy",
    "latent_clusters",
    "score_regimes",
    "streaming_energy",
]
