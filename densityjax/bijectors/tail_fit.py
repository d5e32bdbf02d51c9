"""Maximum likelihood of a tail layer in one dimension, with standard normal noise.

The layers of heavy tails have four unconstrained values, or logits, per dimension. They are fitted
before anything else is trained: jointly from scratch the tails come out too light.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp

from densityjax import numerics
from densityjax._typing import Array
from densityjax.bijectors import affine


class FitInfo(NamedTuple):
    """What a fit reports.

    Attributes:
      log_likelihood: [] weighted mean log density at the fit, nats per row, in units of the data.
      gradient_norm: [] largest derivative of it in the fitted logits, for standardised data.
      is_finite: [] False where the fit, or a row with weight, is not finite, or the rows with
        weight are constant.
    """

    log_likelihood: Array
    gradient_norm: Array
    is_finite: Array


class Rows(NamedTuple):
    """Rows of one dimension, standardised by median and scaled median absolute deviation.

    Attributes:
      y: [N] standardised rows; 0 where the weight is 0.
      share: [N] weights, which sum to 1.
      centre: [] median, in units of the data.
      width: [] scale, in units of the data.
      is_constant: [] True where the rows do not vary.
    """

    y: Array
    share: Array
    centre: Array
    width: Array
    is_constant: Array


def standardise(x: Array, weights: Array | None) -> Rows:
    """Prepares rows, [N] with weights [N] or None; those of weight 0 are ignored, NaN included."""
    chex.assert_rank(x, 1)
    weights = jnp.ones_like(x) if weights is None else weights.astype(x.dtype)
    chex.assert_equal_shape([x, weights])
    x = jnp.where(weights > 0.0, x, 0.0)
    standard, is_constant = affine.fit_robust(x[:, None], weights)
    centre, width = standard.location[0], standard.scale[0]
    y = jnp.where(weights > 0.0, (x - centre) / width, 0.0)
    return Rows(y, weights / jnp.sum(weights), centre, width, is_constant[0])


def normal_loss(
    rows: Rows, to_noise_fn: Callable[[Array, Array], tuple[Array, Array]], logits: Array
) -> Array:
    """Returns the mean negative log density of the rows, less a constant.

    Args:
      rows: of `standardise`.
      to_noise_fn: (value [], logits [P]) -> (noise [], log slope []), the layer.
      logits: [P] of the layer.

    Returns:
      [] nats per row, for standardised rows.
    """
    z, log_slope = jax.vmap(to_noise_fn, (0, None))(rows.y, logits)
    return jnp.sum(rows.share * (0.5 * z * z - log_slope))


def fit_info(rows: Rows, loss: Callable[[Array], Array], logits: Array) -> FitInfo:
    """Says how the logits, [P], that minimise `loss`, a `normal_loss` of the rows, came out."""
    value = loss(logits)
    log_likelihood = -value - 0.5 * math.log(2.0 * math.pi) - jnp.log(rows.width)
    is_finite = jnp.isfinite(logits).all() & jnp.isfinite(value) & ~rows.is_constant
    return FitInfo(log_likelihood, jnp.abs(jax.grad(loss)(logits)).max(), is_finite)


def minimise(loss: Callable[[Array], Array], start: Array, num_steps: int) -> Array:
    """Minimises by Newton steps whose damping falls on success and grows on failure.

    Args:
      loss: [P] -> [], twice differentiable.
      start: [P] where to begin.
      num_steps: number of steps; one that does not lower the loss is refused.

    Returns:
      The [P] best point.
    """

    def step(state: tuple[Array, Array, Array], _: None) -> tuple[tuple, None]:
        point, value, damping = state
        gradient, curvature = jax.grad(loss)(point), jax.hessian(loss)(point)
        # Absolute eigenvalues: away from the optimum the loss is not convex.
        eigenvalues, basis = jnp.linalg.eigh(curvature)
        move = basis @ ((basis.T @ gradient) / (jnp.abs(eigenvalues) + damping))
        candidate = point - jnp.clip(move, -1.0, 1.0)  # one unit of a logit at most
        candidate_value = loss(candidate)
        is_better = candidate_value < value
        point, value = (
            jnp.where(is_better, new, old)
            for new, old in ((candidate, point), (candidate_value, value))
        )
        return (point, value, damping * jnp.where(is_better, 0.2, 8.0)), None

    damping = jnp.asarray(numerics.NEWTON_DAMPING, start.dtype)
    (point, _, _), _ = jax.lax.scan(step, (start, loss(start), damping), None, length=num_steps)
    return point
