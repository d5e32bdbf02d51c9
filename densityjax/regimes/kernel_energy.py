"""Energies of a kernel density: the simplest model, and the one learnt ones must beat.

`E(x) = -log (1 / n) sum_i N(x; x_i, h^2 S)`, with S the covariance of the points and Scott's
`h = n^(-1 / (D + 4))`. Points are whitened once; the sum is taken in logs, so no row is so far away
that its energy overflows. The cost of a row is that of n distances.
"""

import math
from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np

from densityjax._typing import Array, ArrayLike, NumpyArray


class KernelEnergy(NamedTuple):
    """A kernel density of n points in D dimensions.

    Attributes:
      points: [n, D] whitened points over the width.
      mean: [D] mean of the points, their units.
      whiten: [D, D] lower triangular; `whiten @ (x - mean)` is whitened, over the width.
      log_normaliser: [] log of n times the volume of a kernel, nats.
    """

    points: NumpyArray
    mean: NumpyArray
    whiten: NumpyArray
    log_normaliser: float


def fit_kernel_energy(points: ArrayLike, *, width: float | None = None) -> KernelEnergy:
    """Puts a normal kernel on each point.

    Args:
      points: [n, D] rows, n above D.
      width: of a kernel, in standard deviations along every whitened direction; None for Scott's
        `n^(-1 / (D + 4))`.

    Returns:
      The `KernelEnergy`.

    Raises:
      ValueError: if the rows are not finite, too few, or in a plane: their density is infinite.

    References:
      Scott, Multivariate Density Estimation, 1992, section 6.5.
    """
    rows = np.asarray(points, np.float64)
    if rows.ndim != 2 or len(rows) <= rows.shape[1] or not np.isfinite(rows).all():
        raise ValueError(f"points has shape {rows.shape}: accepted are finite rows [n, D], n > D")
    num, dim = rows.shape
    bandwidth = float(num ** (-1.0 / (dim + 4))) if width is None else width
    if not bandwidth > 0.0:
        raise ValueError(f"width is {width}: accepted is above 0")
    mean = rows.mean(axis=0)
    covariance = np.atleast_2d(np.cov(rows, rowvar=False))
    if np.linalg.matrix_rank(covariance, hermitian=True) < dim:
        raise ValueError(f"points lie in a plane: their covariance has a rank below {dim}")
    factor = np.linalg.cholesky(covariance)
    whiten = np.linalg.inv(factor) / bandwidth
    log_volume = 0.5 * dim * math.log(2.0 * math.pi) + dim * math.log(bandwidth)
    log_normaliser = math.log(num) + log_volume + float(np.sum(np.log(np.diag(factor))))
    return KernelEnergy((rows - mean) @ whiten.T, mean, whiten, log_normaliser)


def kernel_energy(model: KernelEnergy, x: ArrayLike) -> Array:
    """Returns the energy of one row.

    Args:
      model: see `fit_kernel_energy`.
      x: [D] row, in the units of the points.

    Returns:
      [] minus the log density, nats per unit volume.
    """
    x = jnp.asarray(x, float)
    points = jnp.asarray(model.points, float)
    chex.assert_shape(x, (points.shape[1],))
    whitened = jnp.asarray(model.whiten, float) @ (x - jnp.asarray(model.mean, float))
    squares = jnp.sum((points - whitened) ** 2, axis=1)
    return model.log_normaliser - jax.scipy.special.logsumexp(-0.5 * squares)


def kernel_energies(model: KernelEnergy, x: ArrayLike) -> NumpyArray:
    """Returns the energies of rows [N, D] on the host, [N] nats."""
    return np.asarray(_rows(model, jnp.asarray(x, float)))


@jax.jit
def _rows(model: KernelEnergy, x: Array) -> Array:
    # One row at a time: n by N distances at once would fill the memory.
    return jax.lax.map(lambda row: kernel_energy(model, row), x)
