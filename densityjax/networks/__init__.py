"""Neural networks as `Network(init, apply)`; the only importer of flax."""

from densityjax.networks.base import Network
from densityjax.networks.conditioners import mlp, residual

__all__ = ["Network", "mlp", "residual"]
