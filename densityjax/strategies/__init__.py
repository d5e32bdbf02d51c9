"""From forecasts and densities to signals and target positions."""

from densityjax.strategies import flow

__all__ = ["flow"]
