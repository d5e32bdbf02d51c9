"""Anomaly scores and regimes."""

from densityjax.regimes import anomalies, latent_clusters

__all__ = ["anomalies", "latent_clusters"]
