"""Log densities from scores and energies, and checks that they are normalised."""

from densityjax.densities import normalisation, path_integral, probability_flow
from densityjax.densities.normalisation import Normalisation, importance_check

__all__ = [
    "Normalisation",
    "importance_check",
    "normalisation",
    "path_integral",
    "probability_flow",
]
