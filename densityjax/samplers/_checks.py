"""Checks of arguments that are known before tracing; values under a trace pass unseen."""

import numpy as np
from jax.core import Tracer

from densityjax._typing import Array, ArrayLike, NumpyArray


def known_value(value: ArrayLike) -> NumpyArray | None:
    """Returns a value as a NumPy array, or None where it is traced."""
    return None if isinstance(value, Tracer) else np.asarray(value)


def check_positive(**values: ArrayLike) -> None:
    """Raises `ValueError` naming the first argument that is not positive and finite."""
    for name, value in values.items():
        known = known_value(value)
        if known is not None and not np.all((known > 0.0) & np.isfinite(known)):
            raise ValueError(f"{name} must be positive and finite, got {value}")


def check_not_negative(**values: ArrayLike) -> None:
    """Raises `ValueError` naming the first argument that is negative or not finite."""
    for name, value in values.items():
        known = known_value(value)
        if known is not None and not np.all((known >= 0.0) & np.isfinite(known)):
            raise ValueError(f"{name} must be finite and not negative, got {value}")


def check_count(least: int = 1, **values: int) -> None:
    """Raises `ValueError` naming the first argument that is no whole number >= `least`."""
    for name, value in values.items():
        is_whole = isinstance(value, int | np.integer) and not isinstance(value, bool)
        if not is_whole or value < least:
            raise ValueError(f"{name} must be a whole number >= {least}, got {value!r}")


def check_rank(rank: int, **values: Array) -> None:
    """Raises `ValueError` naming the first array that has not `rank` axes."""
    for name, value in values.items():
        if np.ndim(value) != rank:
            raise ValueError(f"{name} must have rank {rank}, got shape {np.shape(value)}")


def check_levels(sigmas: Array, least: int = 1) -> None:
    """Raises `ValueError` unless noise levels, [L], are positive and strictly decreasing."""
    check_rank(1, sigmas=sigmas)
    if np.shape(sigmas)[0] < least:
        raise ValueError(f"sigmas must hold at least {least} levels, got shape {np.shape(sigmas)}")
    check_positive(sigmas=sigmas)
    known = known_value(sigmas)
    if known is not None and np.any(np.diff(known) >= 0.0):
        raise ValueError(f"sigmas must be strictly decreasing, got {known}")
