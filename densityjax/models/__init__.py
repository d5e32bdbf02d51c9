"""Densities with parameters, as NamedTuples of pure functions."""
