"""Log densities from scores and energies, their normalisers, and checks that they are right."""

from densityjax.densities import normalisation, partition_function, path_integral, probability_flow
from densityjax.densities.normalisation import Normalisation, importance_check
from densityjax.densities.partition_function import PartitionFunction

__all__ = [
    "Normalisation",
    "PartitionFunction",
    "importance_check",
    "normalisation",
    "partition_function",
    "path_integral",
    "probability_flow",
]
