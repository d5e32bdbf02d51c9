"""Anomaly scores and regimes."""
