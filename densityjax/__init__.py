"""Densities of markets in JAX: flows, score models and energy models behind one face."""

__version__ = "0.1.0"
