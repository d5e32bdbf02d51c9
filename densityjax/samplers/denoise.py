"""Denoising by the score: the posterior mean in one step, and slow ascent beside it.

With y = x + sigma eps, eps ~ N(0, I), and s(y, sigma) the score of the noised law, Tweedie's
formula is E[x | y] = y + sigma^2 s(y, sigma); sigma is the noise that y is assumed to carry, not
the smallest level of a model. One example per call; `jax.vmap` for a batch.
"""

from collections.abc import Callable

import chex
import jax
import jax.numpy as jnp

from densityjax._typing import Array, ArrayLike
from densityjax.samplers._checks import check_count, check_positive

NoisedScoreFn = Callable[[Array, ArrayLike], Array]  # (x [D], sigma []) -> [D]


def tweedie(score_fn: NoisedScoreFn, y: Array, sigma: ArrayLike) -> Array:
    """Returns the posterior mean E[x | y] of the clean point.

    Args:
      score_fn: (y [D], sigma []) -> [D], score of the law with noise of sd sigma.
      y: [D] noisy point.
      sigma: [] sd of its noise, units of x.

    Returns:
      [D] mean; on N(0, v I) it is `v y / (v + sigma^2)`.

    Raises:
      ValueError: if sigma is not positive.

    References:
      Efron, Tweedie's formula and selection bias, 2011, eq. 1.4.
    """
    chex.assert_rank(y, 1)
    check_positive(sigma=sigma)
    return y + sigma**2 * score_fn(y, sigma)


def tweedie_covariance(score_fn: NoisedScoreFn, y: Array, sigma: ArrayLike) -> Array:
    """Returns the posterior covariance `sigma^2 (I + sigma^2 ds/dy)` of the clean point.

    Args:
      score_fn: (y [D], sigma []) -> [D], score of the law with noise of sd sigma.
      y: [D] noisy point.
      sigma: [] sd of its noise, units of x.

    Returns:
      [D, D] covariance, as symmetric as the Jacobian of the score.

    Raises:
      ValueError: if sigma is not positive.
    """
    chex.assert_rank(y, 1)
    check_positive(sigma=sigma)
    jacobian = jax.jacfwd(score_fn)(y, sigma)
    return sigma**2 * (jnp.eye(y.shape[0], dtype=y.dtype) + sigma**2 * jacobian)


def ascend(
    score_fn: NoisedScoreFn,
    y: Array,
    sigma: ArrayLike,
    *,
    num_steps: int = 50,
    share: ArrayLike = 0.01,
) -> Array:
    """Climbs `num_steps` small steps `y + share sigma^2 s(y, sigma)`, without noise.

    It seeks a mode and is slow: with a share of .01, 20 steps go 18 percent of the way that
    `tweedie` goes at once where the data is a point, 50 steps 39.5 percent.

    Args:
      score_fn: (y [D], sigma []) -> [D], score of the law with noise of sd sigma.
      y: [D] noisy point.
      sigma: [] sd of its noise, units of x.
      num_steps: steps, >= 1.
      share: step size as a share of sigma^2.

    Returns:
      [D] the point reached.

    Raises:
      ValueError: if a number is not positive.
    """
    chex.assert_rank(y, 1)
    check_positive(sigma=sigma, share=share)
    check_count(num_steps=num_steps)
    return jax.lax.fori_loop(
        0, num_steps, lambda _, x: x + share * sigma**2 * score_fn(x, sigma), y
    )
