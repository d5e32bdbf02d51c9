"""Densities of the plane that flows are shown on, drawn here from their definitions."""

import numpy as np

TOYS = ("two moons", "8 gaussians", "checkerboard")


def draw(name: str, rng: np.random.Generator, num_rows: int) -> np.ndarray:
    """Draws rows of a toy density.

    Two moons: half circles of radius 1 about (0, 0) and (1, 1/2), normal noise of sd 0.1. Eight
    gaussians: on a circle of radius 4, sd 0.5. Checkerboard: uniform on the 8 fields of one colour
    of a board of 4 by 4 fields, each 2 wide.

    Args:
      name: one of `TOYS`.
      rng: source of randomness.
      num_rows: rows to draw.

    Returns:
      [N, 2] rows.

    Raises:
      ValueError: if there is no such toy.
    """
    if name == "two moons":
        angle = np.pi * rng.uniform(size=num_rows)
        is_upper = rng.uniform(size=num_rows) < 0.5
        x = np.where(is_upper, np.cos(angle), 1.0 - np.cos(angle))
        y = np.where(is_upper, np.sin(angle), 0.5 - np.sin(angle))
        return np.stack([x, y], 1) + 0.1 * rng.standard_normal((num_rows, 2))
    if name == "8 gaussians":
        angle = 0.25 * np.pi * rng.integers(8, size=num_rows)
        centre = 4.0 * np.stack([np.cos(angle), np.sin(angle)], 1)
        return centre + 0.5 * rng.standard_normal((num_rows, 2))
    if name == "checkerboard":
        column, half = rng.integers(4, size=num_rows), rng.integers(2, size=num_rows)
        field = np.stack([column, 2 * half + column % 2], 1)
        return 2.0 * (field + rng.uniform(size=(num_rows, 2))) - 4.0
    raise ValueError(f"name is {name!r}: accepted are {TOYS}")
