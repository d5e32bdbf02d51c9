"""The families of tail layers by name, and their maps by the type of their parameters.

A family is a module with `tail_from_logits`, `logits_from_tail`, `to_noise`, `from_noise` and
`fit`; its `Tail` is a type of its own, from which `to_noise` and `from_noise` know the family.
"""

from types import ModuleType

from densityjax._typing import Array
from densityjax.bijectors import generalised_pareto, lambert_w

FAMILIES: dict[str, ModuleType] = {"lambert_w": lambert_w, "gpd": generalised_pareto}
Tail = lambert_w.Tail | generalised_pareto.Tail


def to_noise(x: Array, tail: Tail) -> tuple[Array, Array]:
    """Maps one value to noise by the layer of `tail`; returns z and log dz/dx, both []."""
    if isinstance(tail, generalised_pareto.Tail):
        return generalised_pareto.to_noise(x, tail)
    return lambert_w.to_noise(x, tail)


def from_noise(z: Array, tail: Tail) -> tuple[Array, Array]:
    """Maps one noise value to data by the layer of `tail`; returns x and log dx/dz, both []."""
    if isinstance(tail, generalised_pareto.Tail):
        return generalised_pareto.from_noise(z, tail)
    return lambert_w.from_noise(z, tail)
