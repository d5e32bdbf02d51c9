"""The law of a flow's noise: normal, or one multivariate t, and uniform for angles.

The t has identity scale, learnt degrees of freedom, and one mixing variable for all dimensions, so
that extremes come together. Under a tail layer its entries are turned into Wallace scores, which
are close to normal one by one: power tails under a tail layer would have no mean.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.stats import norm

from densityjax._typing import Array, ArrayLike, Key, NumpyArray, Params
from densityjax.distributions import bases
from densityjax.models.config import FlowConfig

MIN_DF = 2.0  # least degrees of freedom: the variance stays finite
_DF_GRID = MIN_DF + np.geomspace(0.25, 64.0, 17)  # starts tried: from heavy to nearly normal


class Base(NamedTuple):
    """A law of noise `z`, [D], as pure functions.

    Attributes:
      init: (z [N, D], weights [N] or None) -> params; the order of the dimensions is free.
      log_prob: (params, z) -> [] nats.
      sample: (key, params, temperature) -> z; the temperature multiplies all but angles.
    """

    init: Callable[..., Params]
    log_prob: Callable[..., Array]
    sample: Callable[..., Array]


def build_base(config: FlowConfig, is_angle: NumpyArray) -> Base:
    """Builds the law of the noise.

    Args:
      config: names the law and the tail layer above it.
      is_angle: [D] which entries of the noise are angles in [-pi, pi), a host array.

    Returns:
      The `Base`.
    """
    real, angles = np.flatnonzero(~is_angle), np.flatnonzero(is_angle)
    is_t = config.base == "student_t"
    has_tail_layer = config.tail != "none"

    def log_prob_t(z: Array, df: Array) -> Array:
        return (bases.wallace_t_log_prob if has_tail_layer else bases.student_t_log_prob)(z, df)

    def init(z: Array, weights: Array | None) -> Params:
        if not is_t:
            return {}
        weights = jnp.ones(z.shape[0]) if weights is None else weights
        z = jnp.where(weights[:, None] > 0.0, z, 0.0)

        def fit_of(df: Array) -> Array:
            return jnp.sum(weights * jax.vmap(log_prob_t, (0, None))(z, df))

        grid = jnp.asarray(_DF_GRID, z.dtype)
        best = grid[jnp.argmax(jax.lax.map(fit_of, grid))]
        return {"log_excess_df": jnp.log(best - MIN_DF)}

    def log_prob(params: Params, z: Array) -> Array:
        if angles.size:
            z = z[real]
        inside = log_prob_t(z, degrees_of_freedom(params)) if is_t else jnp.sum(norm.logpdf(z))
        return inside - angles.size * math.log(2.0 * math.pi)

    def sample(key: Key, params: Params, temperature: ArrayLike) -> Array:
        temperature = jnp.asarray(temperature)
        key, angle_key = (key, key) if not angles.size else jax.random.split(key)
        if is_t:
            df = degrees_of_freedom(params)
            noise = bases.student_t_sample(key, real.size, df)
            if has_tail_layer:
                noise = jax.vmap(bases.wallace_from_t, (0, None))(noise, df)[0]
        else:
            noise = jax.random.normal(key, (real.size,))
        noise = temperature * noise
        if not angles.size:
            return noise
        turn = jax.random.uniform(angle_key, (angles.size,), minval=-math.pi, maxval=math.pi)
        return jnp.zeros(is_angle.size).at[real].set(noise).at[angles].set(turn)

    return Base(init, log_prob, sample)


def degrees_of_freedom(params: Params) -> Array:
    """Returns the degrees of freedom, [], of the params of a 'student_t' base."""
    return MIN_DF + jnp.exp(params["log_excess_df"])
