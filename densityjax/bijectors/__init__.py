"""Invertible maps with log-determinants; every function acts on one example."""

from densityjax.bijectors import (
    actnorm,
    affine,
    autoregressive,
    circular_spline,
    coupling,
    feature_transforms,
    generalised_pareto,
    lambert_w,
    linear,
    rational_quadratic_spline,
    shift_scale,
    tails,
)

__all__ = [
    "actnorm",
    "affine",
    "autoregressive",
    "circular_spline",
    "coupling",
    "feature_transforms",
    "generalised_pareto",
    "lambert_w",
    "linear",
    "rational_quadratic_spline",
    "shift_scale",
    "tails",
]
