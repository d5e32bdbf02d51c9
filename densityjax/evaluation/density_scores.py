"""Likelihood scores of a density, in nats and bits per dimension of DECLARED units.

The log density of continuous rows depends on their unit: of `y = a x` in d dimensions it is lower
by `d log a`. A number without its unit compares nothing, so the record carries it.
"""

import math
from typing import NamedTuple

import numpy as np

from densityjax._typing import ArrayLike, NumpyArray


class DensityScore(NamedTuple):
    """Mean log likelihood of held-out rows.

    Attributes:
      mean_log_likelihood: mean log density, in nats per row; higher is better.
      standard_error: of that mean, for independent rows, in nats.
      bits_per_dimension: mean negative log density over `dim ln 2`; lower is better.
      num_rows: number of rows.
      dim: number of dimensions of a row.
      unit: the unit of the rows' coordinates, in words.
    """

    mean_log_likelihood: float
    standard_error: float
    bits_per_dimension: float
    num_rows: int
    dim: int
    unit: str


def mean_log_likelihood(log_prob: ArrayLike) -> float:
    """Returns the mean, in nats per row, of log densities [N].

    Args:
      log_prob: [N] log density of each row, in nats.

    Returns:
      The mean; higher is better.

    Raises:
      ValueError: if there are no rows or a log density is not finite.
    """
    return float(_check_log_prob(log_prob).mean())


def bits_per_dimension(log_prob: ArrayLike, dim: int) -> float:
    """Returns `-mean(log p) / (dim ln 2)`, in the unit of the rows.

    Args:
      log_prob: [N] log density of each row, in nats.
      dim: number of dimensions of a row, at least 1.

    Returns:
      Bits per dimension; lower is better, negative values are possible.

    Raises:
      ValueError: if `dim` is below 1, there are no rows or a log density is not finite.

    References:
      Theis, van den Oord and Bethge, A Note on the Evaluation of Generative Models, 2016,
      section 3.1.
    """
    if dim < 1:
        raise ValueError(f"dim must be at least 1, got {dim}")
    return -mean_log_likelihood(log_prob) / (dim * math.log(2.0))


def density_score(
    log_prob: ArrayLike, dim: int, *, unit: str, log_jacobian: ArrayLike = 0.0
) -> DensityScore:
    """Scores held-out log densities in a declared unit.

    Args:
      log_prob: [N] log density of each row in the model's coordinates, in nats.
      dim: number of dimensions of a row, at least 1.
      unit: the unit the result is stated in, such as "log return, fraction".
      log_jacobian: [] or [N] `log |d model coordinates / d declared coordinates|`, which is
        `-sum(log scale)` for rows that were divided by a scale; 0 where they are the same.

    Returns:
      A `DensityScore`.

    Raises:
      ValueError: if `unit` is empty, `dim` is below 1 or a value is not finite.
    """
    if not unit.strip():
        raise ValueError(f"unit must name the unit of the rows, got {unit!r}")
    values = _check_log_prob(np.asarray(log_prob, dtype=float) + np.asarray(log_jacobian, float))
    error = float(values.std(ddof=1) / np.sqrt(values.size)) if values.size > 1 else math.nan
    bits = bits_per_dimension(values, dim)
    return DensityScore(float(values.mean()), error, bits, values.size, dim, unit)


def _check_log_prob(log_prob: ArrayLike) -> NumpyArray:
    """Returns the log densities as a finite float64 vector."""
    values = np.asarray(log_prob, dtype=float)
    if values.ndim != 1 or values.size == 0:
        raise ValueError(f"log_prob must be [N] with N >= 1, got shape {values.shape}")
    if not np.all(np.isfinite(values)):
        raise ValueError(f"log_prob must be finite, got {np.sum(~np.isfinite(values))} bad rows")
    return values
