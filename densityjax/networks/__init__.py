"""Neural networks as `Network(init, apply)`; the only importer of flax."""

from densityjax.networks.base import Network
from densityjax.networks.conditioners import mlp, residual
from densityjax.networks.masked import masked_residual

__all__ = ["Network", "masked_residual", "mlp", "residual"]
