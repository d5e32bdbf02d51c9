"""Invertible maps with log-determinants; every function acts on one example."""

from densityjax.bijectors import (
    affine,
    feature_transforms,
    lambert_w,
    linear,
    rational_quadratic_spline,
)

__all__ = ["affine", "feature_transforms", "lambert_w", "linear", "rational_quadratic_spline"]
