"""Densities with parameters, as NamedTuples of pure functions."""

from densityjax.models.autoregressive import AutoregressiveFlow, autoregressive_flow
from densityjax.models.batching import map_rows
from densityjax.models.bernoulli_boltzmann import (
    BernoulliRBM,
    Binariser,
    bernoulli_rbm,
    binarise,
    check_binary,
    fit_binariser,
)
from densityjax.models.boltzmann import (
    GaussianBernoulliRBM,
    gaussian_bernoulli_rbm,
    gaussian_rbm_from_config,
)
from densityjax.models.boltzmann_config import BoltzmannConfig
from densityjax.models.boltzmann_losses import (
    contrastive_divergence_loss,
    gibbs_chain,
    init_particles,
    persistent_divergence_loss,
)
from densityjax.models.boltzmann_partition import AnnealedLogZ, annealed_log_z
from densityjax.models.config import FlowConfig
from densityjax.models.deep_belief import DeepBeliefNetwork, deep_belief_network
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
from densityjax.models.joint_energy import (
    JointEnergy,
    joint_energy_fit_loss,
    joint_energy_from_config,
    joint_energy_model,
)
from densityjax.models.joint_energy_config import JointEnergyConfig
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
    "AnnealedLogZ",
    "AutoregressiveFlow",
    "BernoulliRBM",
    "Binariser",
    "BoltzmannConfig",
    "Chains",
    "DeepBeliefNetwork",
    "DualScore",
    "Energy",
    "EnergyConfig",
    "EnergyLoss",
    "EnergyState",
    "Flow",
    "FlowConfig",
    "GaussianBernoulliRBM",
    "JointEnergy",
    "JointEnergyConfig",
    "Levels",
    "NoisePool",
    "ReturnDistribution",
    "Score",
    "ScoreConfig",
    "ScoreLoss",
    "TailIndex",
    "affine_flow",
    "annealed_log_z",
    "autoregressive_flow",
    "bernoulli_rbm",
    "binarise",
    "check_binary",
    "contrastive_divergence_loss",
    "deep_belief_network",
    "draw_pool",
    "dual_score_from_config",
    "dual_score_loss",
    "dual_score_model",
    "energy_from_config",
    "energy_loss",
    "energy_model",
    "fit_binariser",
    "flow_from_config",
    "flow_log_prob",
    "flow_log_prob_and_error",
    "gaussian_bernoulli_rbm",
    "gaussian_rbm_from_config",
    "gibbs_chain",
    "heat_residual",
    "init_particles",
    "joint_energy_fit_loss",
    "joint_energy_from_config",
    "joint_energy_model",
    "map_rows",
    "neural_spline_flow",
    "persistent_divergence_loss",
    "score_from_config",
    "score_loss",
    "score_model",
    "small_energy_model",
    "start_buffer",
    "tail_index",
]
