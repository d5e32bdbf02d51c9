"""Known laws with exact log density, score and sampler, for tests and for users."""

from densityjax.targets.curved import banana, funnel, ring
from densityjax.targets.gaussian import gaussian, gaussian_mixture, random_gaussian_mixture
from densityjax.targets.heavy_tailed import log_exponential, student_t, two_piece_t
from densityjax.targets.mixtures import ill_conditioned_gaussian, separated_mixture, two_regimes
from densityjax.targets.target import Target

__all__ = [
    "Target",
    "banana",
    "funnel",
    "gaussian",
    "gaussian_mixture",
    "ill_conditioned_gaussian",
    "log_exponential",
    "random_gaussian_mixture",
    "ring",
    "separated_mixture",
    "student_t",
    "two_piece_t",
    "two_regimes",
]
