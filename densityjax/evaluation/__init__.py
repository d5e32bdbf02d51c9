"""How good a density or a forecast is."""

from densityjax.evaluation import calibration, density_scores

__all__ = ["calibration", "density_scores"]
