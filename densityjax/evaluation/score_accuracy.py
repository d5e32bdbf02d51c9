"""How close a score is to the truth, and whether it is a gradient at all.

All on scores at the same points, [N, D]: at noise level sigma the points are to be drawn from
p_sigma. The raw denoising loss is no result: it has a floor that differs from level to level. What
it has in excess, `sigma^2 E |s - s*|^2`, and the relative Fisher error, `E |s - s*|^2 / E |s*|^2`,
are. Where no truth is known, the loss of the best linear score of a law of the same covariance is
the line to be below.
"""

from collections.abc import Callable
from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np

from densityjax._typing import Array, ArrayLike, ScoreFn


class ScoreAccuracy(NamedTuple):
    """Accuracy of a score at one noise level.

    Attributes:
      relative_fisher_error: [] `E |s - s*|^2 / E |s*|^2`, no unit; 0 for the true score.
      cosine: [] mean cosine of the angle between both scores.
      correlation: [] Pearson correlation over all entries of both scores.
      excess: [] `sigma^2 E |s - s*|^2`, no unit: denoising loss above its floor.
    """

    relative_fisher_error: Array
    cosine: Array
    correlation: Array
    excess: Array


def score_accuracy(score: Array, true_score: Array, sigma: ArrayLike = 1.0) -> ScoreAccuracy:
    """Compares a score with the true one; under `vmap`, level by level.

    Args:
      score: [N, D] score in question, per unit of x.
      true_score: [N, D] true score at the same points, per unit of x.
      sigma: [] noise level, in units of x.

    Returns:
      The `ScoreAccuracy`.
    """
    chex.assert_rank([score, true_score], 2)
    chex.assert_equal_shape([score, true_score])
    error = jnp.mean(jnp.sum((score - true_score) ** 2, axis=-1))
    size = jnp.mean(jnp.sum(true_score**2, axis=-1))
    norms = jnp.linalg.norm(score, axis=-1) * jnp.linalg.norm(true_score, axis=-1)
    # A score of exactly zero has no direction: its cosine counts as 0.
    products = jnp.sum(score * true_score, axis=-1)
    cosine = jnp.mean(jnp.where(norms > 0.0, products / jnp.where(norms > 0.0, norms, 1.0), 0.0))
    correlation = jnp.corrcoef(score.ravel(), true_score.ravel())[0, 1]
    return ScoreAccuracy(error / size, cosine, correlation, jnp.asarray(sigma) ** 2 * error)


def jacobian_asymmetry(score_fn: ScoreFn, x: Array) -> Array:
    """Returns `|J - J^T| / |J|` of the Jacobian of a score at a point: 0 for a gradient, at most 2.

    Args:
      score_fn: score with parameters and noise level bound, [D] to [D].
      x: [D] one point.

    Returns:
      [] the ratio of Frobenius norms; 0 where the Jacobian is zero.
    """
    chex.assert_rank(x, 1)
    jacobian = jax.jacfwd(score_fn)(x)
    size = jnp.linalg.norm(jacobian)
    asymmetry = jnp.linalg.norm(jacobian - jacobian.T)
    return jnp.where(size > 0.0, asymmetry / jnp.where(size > 0.0, size, 1.0), 0.0)


class LevelLoss(NamedTuple):
    """Denoising loss of weight sigma^2 at each of L levels, beside the line of a Gaussian.

    Attributes:
      sigma: [L] noise levels, in units of x.
      loss: [L] mean loss over rows, no unit.
      standard_error: [L] of the mean of `gain`, for independent rows.
      gaussian_line: [L] what the best linear score would lose on the same rows and noise.
      gain: [L] `gaussian_line - loss`: above zero, more is known than a covariance.
    """

    sigma: np.ndarray
    loss: np.ndarray
    standard_error: np.ndarray
    gaussian_line: np.ndarray
    gain: np.ndarray


def level_losses(
    score_fn: Callable[[Array, Array], Array], x: Array, noise: Array, sigmas: Array
) -> LevelLoss:
    """Computes the denoising loss per level, and that of the best linear score, on the same noise.

    Args:
      score_fn: score with parameters bound, (y [D], sigma []) to [D].
      x: [N, D] held-out rows.
      noise: [L, N, D] unit noise, fixed, so that models compare.
      sigmas: [L] noise levels, in units of x.

    Returns:
      The `LevelLoss`, on the host.
    """
    chex.assert_rank([x, noise, sigmas], [2, 3, 1])
    mean, covariance = jnp.mean(x, axis=0), jnp.atleast_2d(jnp.cov(x, rowvar=False, ddof=0))
    identity = jnp.eye(x.shape[1], dtype=x.dtype)

    def level(noise: Array, sigma: Array) -> tuple[Array, Array]:
        noisy = x + sigma * noise
        score = jax.vmap(score_fn, (0, None))(noisy, sigma)
        linear = -jnp.linalg.solve(covariance + sigma**2 * identity, (noisy - mean).T).T
        losses = [jnp.sum((sigma * each + noise) ** 2, axis=-1) for each in (score, linear)]
        return losses[0], losses[1]

    loss, line = (
        np.asarray(each, np.float64)
        for each in jax.lax.map(lambda pair: level(*pair), (noise, sigmas))
    )
    gain = line - loss
    error = (
        gain.std(axis=1, ddof=1) / np.sqrt(x.shape[0]) if x.shape[0] > 1 else np.nan * gain[:, 0]
    )
    return LevelLoss(np.asarray(sigmas), loss.mean(1), error, line.mean(1), gain.mean(1))
