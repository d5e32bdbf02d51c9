"""Fitting, ensembles and checkpoints."""
