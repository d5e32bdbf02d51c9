"""Densities with parameters, as NamedTuples of pure functions."""

from densityjax.models.autoregressive import AutoregressiveFlow, autoregressive_flow
from densityjax.models.batching import map_rows
from densityjax.models.config import FlowConfig
from densityjax.models.dual_score import (
    DualScore,
    dual_score_from_config,
    dual_score_model,
    heat_residual,
)
from densityjax.models.energy import Energy, energy_from_config, energy_model, small_energy_model
from densityjax.models.energy_config import EnergyConfig
from densityjax.models.energy_losses import EnergyLoss, energy_loss
from densityjax.models.energy_negatives import (
    Chains,
    EnergyState,
    NoisePool,
    draw_pool,
    start_buffer,
)
from densityjax.models.flow import Flow, affine_flow, flow_from_config, neural_spline_flow
from densityjax.models.forecaster import ReturnDistribution
from densityjax.models.score import (
    Score,
    flow_log_prob,
    flow_log_prob_and_error,
    score_from_config,
    score_model,
)
from densityjax.models.score_config import ScoreConfig
from densityjax.models.score_losses import Levels, ScoreLoss, dual_score_loss, score_loss
from densityjax.models.tail_index import TailIndex, tail_index

__all__ = [
    "AutoregressiveFlow",
    "Chains",
    "DualScore",
    "Energy",
    "EnergyConfig",
    "EnergyLoss",
    "EnergyState",
    "Flow",
    "FlowConfig",
    "Levels",
    "NoisePool",
    "ReturnDistribution",
    "Score",
    "ScoreConfig",
    "ScoreLoss",
    "TailIndex",
    "affine_flow",
    "autoregressive_flow",
    "draw_pool",
    "dual_score_from_config",
    "dual_score_loss",
    "dual_score_model",
    "energy_from_config",
    "energy_loss",
    "energy_model",
    "flow_from_config",
    "flow_log_prob",
    "flow_log_prob_and_error",
    "heat_residual",
    "map_rows",
    "neural_spline_flow",
    "score_from_config",
    "score_loss",
    "score_model",
    "small_energy_model",
    "start_buffer",
    "tail_index",
]
