"""Neural networks as `Network(init, apply)`; the only importer of flax."""

from densityjax.networks.activations import Activation, leaky_relu
from densityjax.networks.base import Network
from densityjax.networks.conditioners import mlp, residual
from densityjax.networks.energy import energy_network
from densityjax.networks.masked import masked_residual
from densityjax.networks.noise import NoiseNetwork, noise_network, num_parameters
from densityjax.networks.score import MultiScaleNetwork, multi_scale_network, score_network

__all__ = [
    "Activation",
    "MultiScaleNetwork",
    "Network",
    "NoiseNetwork",
    "energy_network",
    "leaky_relu",
    "masked_residual",
    "mlp",
    "multi_scale_network",
    "noise_network",
    "num_parameters",
    "residual",
    "score_network",
]
