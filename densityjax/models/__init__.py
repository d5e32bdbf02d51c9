"""Densities with parameters, as NamedTuples of pure functions."""

from densityjax.models.batching import map_rows
from densityjax.models.config import FlowConfig
from densityjax.models.flow import Flow, flow_from_config, neural_spline_flow
from densityjax.models.forecaster import ReturnDistribution

__all__ = [
    "Flow",
    "FlowConfig",
    "ReturnDistribution",
    "flow_from_config",
    "map_rows",
    "neural_spline_flow",
]
