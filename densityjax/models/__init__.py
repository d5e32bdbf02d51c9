"""Densities with parameters, as NamedTuples of pure functions."""

from densityjax.models.autoregressive import AutoregressiveFlow, autoregressive_flow
from densityjax.models.batching import map_rows
from densityjax.models.config import FlowConfig
from densityjax.models.flow import Flow, affine_flow, flow_from_config, neural_spline_flow
from densityjax.models.forecaster import ReturnDistribution
from densityjax.models.tail_index import TailIndex, tail_index

__all__ = [
    "AutoregressiveFlow",
    "Flow",
    "FlowConfig",
    "ReturnDistribution",
    "TailIndex",
    "affine_flow",
    "autoregressive_flow",
    "flow_from_config",
    "map_rows",
    "neural_spline_flow",
    "tail_index",
]
