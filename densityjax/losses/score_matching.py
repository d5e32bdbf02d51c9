"""Score matching: losses of one example whose minimiser is a score, or a normalised energy.

Convention: p(x) = exp(-E(x)) / Z and score s = grad log p = -grad E. A noisy point is
y = x + sigma eps with unit noise eps ~ N(0, I), of density p_sigma = p * N(0, sigma^2 I); the score
that denoising recovers is that of p_sigma, not of p. Losses sum over features; means over rows,
noise and levels are the caller's. Noise is handed in, so every loss is a pure function.
"""

from collections.abc import Callable

import chex
import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from densityjax._typing import Array, ArrayLike, LogDensityFn, ScoreFn

NoisyScoreFn = Callable[[Array, Array], Array]  # (y [D], sigma []) -> [D]
NoisyEnergyFn = Callable[[Array, Array], Array]  # (y [D], log sigma []) -> []


def denoising_score_matching(
    score_fn: NoisyScoreFn,
    x: Array,
    noise: Array,
    sigma: ArrayLike,
    *,
    weight: ArrayLike | None = None,
    control_variate: bool = False,
) -> Array:
    """Computes `weight |s(x + sigma eps, sigma) + eps / sigma|^2`, minimal at the score of p_sigma.

    With the weight sigma^2 its mean at the optimum is `denoising_floor`, and what it has in excess
    is `sigma^2 E |s - s*|^2`. On N(0, v I) and s = -k y the mean is
    `D (sigma^2 k^2 (v + sigma^2) - 2 sigma^2 k + 1)`.

    Args:
      score_fn: score of the noisy law, (y [D], sigma []) to [D], per unit of x.
      x: [D] one example.
      noise: [D] unit noise eps, N(0, I).
      sigma: [] noise level, in units of x, positive.
      weight: [] factor, in squared units of x; None for sigma^2, 1 for one unweighted level,
        `edm_weight(sigma)` for equal shares of all levels.
      control_variate: add terms of mean zero that cancel the part that grows as sigma falls; the
        price is a second call of `score_fn`, at `x`. Worth it for sigma below .3 of the sd.

    Returns:
      [] the loss, no unit.

    Raises:
      ValueError: if `sigma` is not positive and finite where it is a number.

    References:
      Vincent, A Connection Between Score Matching and Denoising Autoencoders, 2011, eq. 11; Song
      and Ermon, 2019, https://arxiv.org/abs/1907.05600, eq. 5-6.
    """
    chex.assert_rank(x, 1)
    chex.assert_equal_shape([x, noise])
    if not isinstance(sigma, Tracer) and not np.all((np.asarray(sigma) > 0.0) & np.isfinite(sigma)):
        raise ValueError(f"sigma is {sigma}: accepted is a positive finite number")
    sigma = jnp.asarray(sigma)
    weight = sigma**2 if weight is None else jnp.asarray(weight)
    if not control_variate:
        error = sigma * score_fn(x + sigma * noise, sigma) + noise
        return weight / sigma**2 * jnp.sum(error**2)
    # |s + eps / sigma|^2 + D / sigma^2 - |eps|^2 / sigma^2 - 2 eps . s(x) / sigma, by hand.
    noisy, clean = score_fn(x + sigma * noise, sigma), score_fn(x, sigma)
    cross = 2.0 * jnp.vdot(noise, noisy - clean) / sigma
    return weight * (jnp.sum(noisy**2) + cross + x.shape[0] / sigma**2)


def denoising_per_level(
    score_fn: NoisyScoreFn, x: Array, noise: Array, sigmas: Array
) -> tuple[Array, Array]:
    """Computes the loss of weight sigma^2 at several noise levels, and its mean over them.

    Args:
      score_fn: as in `denoising_score_matching`.
      x: [D] one example.
      noise: [L, D] unit noise of each level.
      sigmas: [L] noise levels, in units of x.

    Returns:
      loss: [] mean over levels.
      per_level: [L] loss of each level, to be compared with `denoising_floor` or `gaussian_line`.
    """
    chex.assert_rank([noise, sigmas], [2, 1])
    levels = jax.vmap(denoising_score_matching, in_axes=(None, None, 0, 0))
    per_level = levels(score_fn, x, noise, sigmas)
    return jnp.mean(per_level), per_level


def denoising_floor(score_square: ArrayLike, sigma: ArrayLike, dim: int) -> Array:
    """Returns the least mean loss of weight sigma^2, `D - sigma^2 E |s*|^2`.

    Args:
      score_square: [] mean squared norm of the true score of p_sigma, per squared unit of x.
      sigma: [] noise level, in units of x.
      dim: size D of an example.

    Returns:
      [] the floor, no unit; never above D.
    """
    return dim - jnp.asarray(sigma) ** 2 * jnp.asarray(score_square)


def gaussian_line(covariance: Array, sigma: ArrayLike) -> Array:
    """Returns the mean loss, at weight sigma^2, of the best linear score of ANY law.

    It is `sum_j l_j / (l_j + sigma^2)` over the eigenvalues of the covariance: the floor where the
    law is Gaussian. A network whose loss is not below this line knows no more than a covariance.

    Args:
      covariance: [D, D] covariance of the law, in squared units of x.
      sigma: [] noise level, in units of x.

    Returns:
      [] the line, no unit.
    """
    chex.assert_rank(covariance, 2)
    values = jnp.linalg.eigvalsh(covariance)
    return jnp.sum(values / (values + jnp.asarray(sigma) ** 2))


def edm_weight(sigma: ArrayLike, data_sd: ArrayLike = 1.0) -> Array:
    """Returns `sigma^2 (sigma^2 + sd^2) / sd^2`: on N(0, sd^2 I) every level then loses D.

    Args:
      sigma: [] noise level, in units of x.
      data_sd: [] standard deviation of the data, in units of x.

    Returns:
      [] the weight of `denoising_score_matching`, in squared units of x.

    References:
      Karras et al., 2022, https://arxiv.org/abs/2206.00364, table 1, written for scores.
    """
    square = jnp.asarray(sigma) ** 2
    return square * (square / jnp.asarray(data_sd) ** 2 + 1.0)


def exact_score_matching(score_fn: ScoreFn, x: Array) -> Array:
    """Computes `|s|^2 / 2 + trace(ds/dx)`, minimal at the score of the data themselves.

    Its mean is `E |s - s*|^2 / 2 - E |s*|^2 / 2`; on N(0, I) and s = -k x, `D (k^2 / 2 - k)`. Takes
    D forward derivatives, and activations with two derivatives: no ReLU.

    Args:
      score_fn: score with parameters bound, [D] to [D].
      x: [D] one example.

    Returns:
      [] the loss, per squared unit of x.

    References:
      Hyvarinen, Estimation of Non-Normalized Statistical Models by Score Matching, 2005, eq. 4.
    """
    chex.assert_rank(x, 1)
    score = score_fn(x)
    return 0.5 * jnp.sum(score**2) + jnp.trace(jax.jacfwd(score_fn)(x))


def sliced_score_matching(
    score_fn: ScoreFn, x: Array, direction: Array, *, variance_reduced: bool = True
) -> Array:
    """As `exact_score_matching`, the trace estimated along one random direction.

    One forward derivative whatever D is. Unbiased for the exact loss where E v v^T = I: directions
    of signs or of N(0, I), not of unit length. With signs and a diagonal Jacobian it is exact.

    Args:
      score_fn: score with parameters bound, [D] to [D].
      x: [D] one example.
      direction: [D] random direction v of identity covariance.
      variance_reduced: take `|s|^2 / 2` instead of `(v . s)^2 / 2`.

    Returns:
      [] the loss, per squared unit of x.

    References:
      Song et al., Sliced Score Matching, 2019, https://arxiv.org/abs/1905.07088, eq. 7 and 8.
    """
    chex.assert_rank(x, 1)
    chex.assert_equal_shape([x, direction])
    score, along = jax.jvp(score_fn, (x,), (direction,))
    square = jnp.sum(score**2) if variance_reduced else jnp.vdot(direction, score) ** 2
    return jnp.vdot(direction, along) + 0.5 * square


def finite_difference_score_matching(
    log_density_fn: LogDensityFn, x: Array, direction: Array
) -> Array:
    """Sliced score matching of an energy by three of its values, no derivative in `x`.

    Args:
      log_density_fn: log density up to a constant, [D] to [].
      x: [D] one example.
      direction: [D] random direction of length h, in units of x: uniform on the sphere, h about a
        tenth of the sd in single precision, for the differences are divided by h^2.

    Returns:
      [] an estimate of `exact_score_matching`, per squared unit of x, of bias O(h^2).

    References:
      Pang et al., Efficient Learning of Generative Models via Finite-Difference Score Matching,
      2020, https://arxiv.org/abs/2007.03317, times D.
    """
    chex.assert_rank(x, 1)
    chex.assert_equal_shape([x, direction])
    centre, ahead, behind = (log_density_fn(x + step * direction) for step in (0.0, 1.0, -1.0))
    square = jnp.sum(direction**2)
    bend, slope = ahead + behind - 2.0 * centre, ahead - behind
    return x.shape[0] * (bend + 0.125 * slope**2) / square


def dual_score_matching_terms(
    energy_fn: NoisyEnergyFn, x: Array, noise: Array, log_sigma: ArrayLike
) -> tuple[Array, Array]:
    """Computes the two squared errors of `dual_score_matching`, each with its weight.

    Args:
      energy_fn: normalised energy U = -log p_sigma, (y [D], log sigma []) to [] nats.
      x: [D] one example, of unit variance.
      noise: [D] unit noise eps, N(0, I).
      log_sigma: [] natural log of the noise level.

    Returns:
      space: [] `(sigma^2 + 1) / D |sigma grad U - eps|^2`; on N(0, I) at least 1 in the mean.
      time: [] `(dU / dlog sigma - D + |eps|^2)^2 / (4 D^2)`; on N(0, I) at least
        `t (2 - t) / (2 D)` in the mean, t = 1 / (1 + sigma^2).
    """
    chex.assert_rank(x, 1)
    chex.assert_equal_shape([x, noise])
    dim, log_sigma = x.shape[0], jnp.asarray(log_sigma, x.dtype)
    sigma = jnp.exp(log_sigma)
    by_y, by_level = jax.grad(energy_fn, argnums=(0, 1))(x + sigma * noise, log_sigma)
    space = (sigma**2 + 1.0) / dim * jnp.sum((sigma * by_y - noise) ** 2)
    return space, (by_level - dim + jnp.sum(noise**2)) ** 2 / (4.0 * dim**2)


def dual_score_matching(
    energy_fn: NoisyEnergyFn, x: Array, noise: Array, log_sigma: ArrayLike
) -> Array:
    """Matches an energy in space, by denoising, and along the noise level, by the heat equation.

    Denoising alone leaves the energy of each separate mode its own constant. The level derivative,
    `dU / dlog sigma = E[D - |eps|^2 | y]`, ties them to the largest noise, where Z is known.

    Args:
      energy_fn: normalised energy U = -log p_sigma, (y [D], log sigma []) to [] nats.
      x: [D] one example, of unit variance.
      noise: [D] unit noise eps, N(0, I).
      log_sigma: [] natural log of the noise level.

    Returns:
      [] the sum of both terms, no unit.

    References:
      Guth et al., Learning normalized image densities via dual score matching, 2025,
      https://arxiv.org/abs/2506.05310.
    """
    space, time = dual_score_matching_terms(energy_fn, x, noise, log_sigma)
    return space + time
