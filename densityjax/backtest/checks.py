"""Checks of numbers on the host; traced arrays cannot be read there and pass."""

import numpy as np
from jax.core import Tracer

from densityjax._typing import ArrayLike


def check_range(
    name: str, value: ArrayLike | None, *, lowest: float = 0.0, highest: float = np.inf
) -> None:
    """Raises a ValueError if a number is not finite or out of its range; traced ones pass."""
    if value is None or isinstance(value, Tracer):
        return
    array = np.asarray(value, np.float64)
    if not (np.isfinite(array) & (array >= lowest) & (array <= highest)).all():
        raise ValueError(
            f"{name} is {value}; accepted are finite numbers from {lowest} to {highest}"
        )


def check_finite(
    name: str,
    values: ArrayLike,
    *,
    first: int = 0,
    positive: bool = False,
    lowest: float = -np.inf,
) -> None:
    """Raises a ValueError that names the first bad row at or after `first`; traced arrays pass."""
    if isinstance(values, Tracer):
        return
    array = np.asarray(values, np.float64)[first:]
    is_bad = ~np.isfinite(array) | (array < lowest) | ((array <= 0.0) if positive else False)
    if is_bad.any():
        row = tuple(int(i) for i in np.argwhere(is_bad)[0])
        at = ", ".join(str(i) for i in (first + row[0], *row[1:]))
        accepted = "finite positive numbers" if positive else f"finite numbers from row {first} on"
        accepted = accepted if lowest == -np.inf or positive else f"finite numbers >= {lowest}"
        raise ValueError(f"{name}[{at}] is {array[row]}; accepted are {accepted}")
