"""Known laws with exact log density, score and sampler, for tests and for users."""

from densityjax.targets.curved import banana, funnel, ring
from densityjax.targets.gaussian import gaussian, gaussian_mixture, random_gaussian_mixture
from densityjax.targets.heavy_tailed import log_exponential, student_t, two_piece_t
from densityjax.targets.target import Target

__all__ = [
    "Target",
    "banana",
    "funnel",
    "gaussian",
    "gaussian_mixture",
    "log_exponential",
    "random_gaussian_mixture",
    "ring",
    "student_t",
    "two_piece_t",
]
