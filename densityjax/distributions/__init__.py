"""Base distributions, and the faces that distrax knows; distrax is imported on first use only."""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from densityjax.distributions.flow_adapter import FlowDistribution, as_distrax
    from densityjax.distributions.rational_quadratic_spline import RationalQuadraticSpline

_HOMES = {
    "RationalQuadraticSpline": "densityjax.distributions.rational_quadratic_spline",
    "FlowDistribution": "densityjax.distributions.flow_adapter",
    "as_distrax": "densityjax.distributions.flow_adapter",
}

__all__ = ["FlowDistribution", "RationalQuadraticSpline", "as_distrax"]


def __getattr__(name: str) -> Any:
    """Imports what stands on distrax when it is asked for."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(_HOMES[name]), name)
    globals()[name] = value
    return value
