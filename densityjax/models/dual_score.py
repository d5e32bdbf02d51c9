"""Dual energies: -log p_sigma, normalised, as one forward pass of a network.

On standardised rows y, with v = 1 + sigma^2 and two outputs (o_1, o_2) of y / sqrt(v) and sigma,

    U(y, ln sigma) = |y|^2 / (2 v) + D / 2 ln(2 pi v) - o_1 / sigma - D o_2 / (1 + sigma^2).

As sigma grows U becomes N(0, v I), whose normaliser is known; matching its derivative in ln sigma
carries it down to small sigma. It satisfies dU / dln sigma = sigma^2 (laplacian U - |grad U|^2) at
the truth. Guth et al., Learning normalized image densities via dual score matching, 2025
(https://arxiv.org/abs/2506.05310).
"""

import functools
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp

from densityjax._typing import Array, ArrayLike, Key, Params
from densityjax.models import score_parts as parts
from densityjax.models.score_config import ScoreConfig

DENSITY_SIGMA = 0.05  # where energies stand for densities, in sd: below it less was learnt


class DualScore(NamedTuple):
    """A normalised energy as pure functions of one example; `x` is [D], `context` [C] or None.

    Attributes:
      init: (key, x [N, D], context [N, C] or None, weights [N] or None) -> params. The rows set the
        standardisers; rows of weight zero are ignored.
      energy: (params, x, log_sigma, context=None, *, dropout_key=None) -> [] -log p_sigma(x), nats
        per unit volume of x; log_sigma [] is the log of the noise in standard deviations.
      log_prob: (params, x, context=None, *, sigma=.05) -> [] minus the energy.
      score: (params, x, sigma, context=None) -> [D] per unit of x: minus the energy's gradient.
      standard_energy: as `energy`, of and per unit volume of standardised y.
      config: the `ScoreConfig` it was built from.
    """

    init: Callable[..., Params]
    energy: Callable[..., Array]
    log_prob: Callable[..., Array]
    score: Callable[..., Array]
    standard_energy: Callable[..., Array]
    config: ScoreConfig


def dual_score_model(dim: int, *, context_dim: int = 0, **options: Any) -> DualScore:
    """Builds a normalised energy over examples of `dim` numbers.

    Equal arguments return the same object, so that compiled programs are found again.

    Args:
      dim: size of one example, >= 1.
      context_dim: size of the context, zero for none.
      **options: further fields of `ScoreConfig`, but for the parametrisation.

    Returns:
      The `DualScore`.

    Raises:
      ValueError: if an option is not accepted; names it, its value and what is.
    """
    return dual_score_from_config(
        ScoreConfig(dim=dim, context_dim=context_dim, parametrisation="dual", **options)
    )


@functools.lru_cache(maxsize=64)
def dual_score_from_config(config: ScoreConfig) -> DualScore:
    """Builds the energy that `config` describes; equal configs give the same object."""
    if config.parametrisation != "dual":
        raise ValueError(f"parametrisation is {config.parametrisation!r}: accepted is 'dual'")
    network = parts.build_network(config, 2)
    dim = config.dim

    def init(
        key: Key, x: Array, context: Array | None = None, weights: Array | None = None
    ) -> Params:
        return parts.init_parts(config, network, key, x, context, weights)

    def standard_energy(
        params: Params,
        y: Array,
        log_sigma: ArrayLike,
        context: Array | None = None,
        *,
        dropout_key: Key | None = None,
    ) -> Array:
        chex.assert_shape(y, (dim,))
        context = parts.standardised_context(config, params, context)
        sigma = jnp.exp(jnp.asarray(log_sigma, y.dtype))
        variance = 1.0 + sigma**2
        inputs = (params["network"], y / jnp.sqrt(variance), sigma, context)
        in_space, in_level = network.apply(*inputs, dropout_key=dropout_key)
        normal = 0.5 * jnp.sum(y**2) / variance + 0.5 * dim * jnp.log(2.0 * math.pi * variance)
        return normal - in_space / sigma - dim * in_level / variance

    def energy(
        params: Params,
        x: Array,
        log_sigma: ArrayLike,
        context: Array | None = None,
        *,
        dropout_key: Key | None = None,
    ) -> Array:
        location, scale = parts.standardiser(params)
        y = (x - location) / scale
        standard = standard_energy(params, y, log_sigma, context, dropout_key=dropout_key)
        return standard + jnp.sum(jnp.log(scale))

    def log_prob(
        params: Params,
        x: Array,
        context: Array | None = None,
        *,
        sigma: ArrayLike = DENSITY_SIGMA,
    ) -> Array:
        return -energy(params, x, jnp.log(jnp.asarray(sigma)), context)

    def score(params: Params, x: Array, sigma: ArrayLike, context: Array | None = None) -> Array:
        return -jax.grad(energy, argnums=1)(params, x, jnp.log(jnp.asarray(sigma)), context)

    return DualScore(init, energy, log_prob, score, standard_energy, config)


def heat_residual(model: DualScore, params: Params, y: Array, log_sigma: ArrayLike) -> Array:
    """Returns `dU / dln sigma - sigma^2 (laplacian U - |grad U|^2)` in nats: 0 at the truth.

    Args:
      model: the `DualScore`, of no context.
      params: its parameters.
      y: [D] one standardised example.
      log_sigma: [] natural log of the noise level, in standard deviations.

    Returns:
      [] the residual of the heat equation, nats per unit of ln sigma.
    """
    level = jnp.asarray(log_sigma, y.dtype)

    def energy(y: Array, level: Array) -> Array:
        return model.standard_energy(params, y, level)

    by_y, by_level = jax.grad(energy, argnums=(0, 1))(y, level)
    laplacian = jnp.trace(jax.jacfwd(jax.grad(energy))(y, level))
    return by_level - jnp.exp(2.0 * level) * (laplacian - jnp.sum(by_y**2))
