"""Fitting, ensembles and checkpoints."""

from densityjax.training.fit import FitProgress, FitResult, fit, fit_ensemble
from densityjax.training.loop import TrainState
from densityjax.training.momentum import momentum_sgd
from densityjax.training.optimizers import adamw

__all__ = [
    "FitProgress",
    "FitResult",
    "TrainState",
    "adamw",
    "fit",
    "fit_ensemble",
    "momentum_sgd",
]
