"""Fitting, ensembles and checkpoints."""

from densityjax.training.fit import FitProgress, FitResult, fit, fit_ensemble
from densityjax.training.loop import Batch, TrainState
from densityjax.training.optimizers import adamw

__all__ = ["Batch", "FitProgress", "FitResult", "TrainState", "adamw", "fit", "fit_ensemble"]
