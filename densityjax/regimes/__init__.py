"""Anomaly scores and regimes."""

from densityjax.regimes import anomalies

__all__ = ["anomalies"]
