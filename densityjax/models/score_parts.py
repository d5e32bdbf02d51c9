"""What score models and dual energies share: standardiser, noise range and network.

Parameters hold all of it, so that a fitted model is its params: `standardiser` and, with a context,
`context_standardiser` (location and scale, each [D]), `sigma` (min and max, in standard deviations)
and `network`. All but the network is fixed by `init` and takes no gradient.
"""

import math

import chex
import jax
import jax.numpy as jnp
from jax.core import Tracer

from densityjax import numerics
from densityjax._typing import Array, Key, Params
from densityjax.bijectors.affine import Affine
from densityjax.models.energy_config import EnergyConfig
from densityjax.models.score_config import ScoreConfig
from densityjax.networks import NoiseNetwork, multi_scale_network, noise_network, score_network


def build_network(config: ScoreConfig, num_outputs: int) -> NoiseNetwork:
    """Builds the network that `config` names, reading `dim` numbers, a level and a context."""
    if config.network in ("residual", "mlp"):
        return noise_network(
            config.dim,
            num_outputs,
            num_context=config.context_dim,
            body=config.network,
            width=config.width,
            num_hidden=config.num_hidden,
            activation=config.activation,
            dropout=config.dropout,
        )
    options = {
        "num_context": config.context_dim,
        "hidden_dim": config.width,
        "num_layers": config.num_hidden,
        "activation": config.activation,
        "dropout": config.dropout,
    }
    if config.network == "single_scale":
        single = score_network(config.dim, linear_skip=config.parametrisation == "raw", **options)

        def apply(
            params: Params,
            x: Array,
            sigma: Array,
            context: Array | None = None,
            *,
            dropout_key: Key | None = None,
        ) -> Array:
            del sigma
            return single.apply(params, x, context, dropout_key=dropout_key)

        return NoiseNetwork(single.init, apply)
    multi = multi_scale_network(
        config.dim,
        num_outputs=num_outputs,
        num_levels=config.num_levels,
        sigma_min=config.sigma_min,
        sigma_max=config.sigma_max,
        embedding="table" if config.network == "multi_scale" else "fourier",
        **options,
    )
    return NoiseNetwork(multi.init, multi.apply)


def fit_standardiser(x: Array, weights: Array | None, *, name: str = "x") -> Affine:
    """Sets location and scale to the weighted mean and standard deviation (ddof 0) of rows.

    The preconditioning and the law at the largest noise take data of unit variance, which a robust
    spread would not give. Under `jit` and `vmap` nothing can be raised: there a constant column
    keeps scale 1, and rows that are not finite make the parameters NaN.

    Args:
      x: [N, D] rows, in units of the data.
      weights: [N] weights, 0 or more; rows of weight 0 are ignored. None for ones.
      name: what to call the rows in errors.

    Returns:
      The `Affine`.

    Raises:
      ValueError: if a row that counts is not finite or a column is constant; names the column.
    """
    chex.assert_rank(x, 2)
    weights = jnp.ones(x.shape[0], x.dtype) if weights is None else jnp.asarray(weights, x.dtype)
    fitted, width, is_constant = _mean_and_sd(x, weights)
    if not isinstance(x, Tracer) and not isinstance(weights, Tracer):
        _raise_if_unusable(name, width, is_constant)
    return fitted


@jax.jit
def _mean_and_sd(x: Array, weights: Array) -> tuple[Affine, Array, Array]:
    """Returns the standardiser, the range of each column, [D], and whether it is constant."""
    counts = weights[:, None] > 0.0
    low = jnp.min(jnp.where(counts, x, jnp.inf), axis=0)
    width = jnp.max(jnp.where(counts, x, -jnp.inf), axis=0) - low
    size = jnp.max(jnp.where(counts, jnp.abs(x), 0.0), axis=0)
    rounding = max(numerics.SCALE_FLOOR, float(jnp.finfo(x.dtype).eps))
    is_constant = width <= rounding * size
    unit = jnp.where(is_constant, 1.0, width)
    # From the lowest row on and in units of the range: no squares overflow, no means cancel.
    standing = jnp.where(counts, (x - low) / unit, 0.0)
    share = weights / jnp.sum(weights)
    mean = jnp.sum(share[:, None] * standing, axis=0)
    sd = jnp.sqrt(jnp.sum(share[:, None] * (standing - mean) ** 2, axis=0))
    fitted = Affine(low + unit * mean, jnp.where(is_constant, 1.0, unit * sd))
    return fitted, width, is_constant


def _raise_if_unusable(name: str, width: Array, is_constant: Array) -> None:
    """Raises ValueError for the first column that is not finite or does not vary."""
    for column, (extent, flat) in enumerate(zip(width.tolist(), is_constant.tolist(), strict=True)):
        is_finite = math.isfinite(extent)
        if flat or not is_finite:
            reason = "is constant" if is_finite else "has values that are not finite"
            raise ValueError(
                f"{name} column {column} {reason}: accepted are finite columns that vary"
            )


def init_parts(
    config: ScoreConfig,
    network: NoiseNetwork,
    key: Key,
    x: Array,
    context: Array | None,
    weights: Array | None,
) -> Params:
    """Sets all parameters from rows.

    Args:
      config: says sizes and the range of noise.
      network: the network.
      key: key of the network's start.
      x: [N, D] rows, in units of the data.
      context: [N, C] contexts of the rows, or None.
      weights: [N] weights of the rows, or None.

    Returns:
      The params.

    Raises:
      ValueError: if rows are not finite, a column is constant, or a context is missing.
    """
    chex.assert_shape(x, (None, config.dim))
    params = {"standardiser": fit_standardiser(x, weights)._asdict()}
    if config.context_dim:
        chex.assert_shape(context, (x.shape[0], config.context_dim))
        fitted = fit_standardiser(jnp.asarray(context), weights, name="context")
        params["context_standardiser"] = fitted._asdict()
    elif context is not None:
        raise ValueError(f"context is of shape {context.shape}: accepted is None")
    levels = {"min": jnp.asarray(config.sigma_min), "max": jnp.asarray(config.sigma_max)}
    return params | {"sigma": levels, "network": jax.jit(network.init)(key)}


def standardiser(params: Params) -> Affine:
    """Returns location and scale of the data, [D] each, as constants."""
    return Affine(**jax.lax.stop_gradient(params["standardiser"]))


def standardised_context(
    config: ScoreConfig | EnergyConfig, params: Params, context: Array | None
) -> Array | None:
    """Returns the context, [C], in standardised units; ValueError where it is missing."""
    if (context is None) != (config.context_dim == 0):
        given = "missing" if context is None else f"of shape {context.shape}"
        accepted = [config.context_dim] if config.context_dim else None
        raise ValueError(f"context is {given}: accepted is {accepted}")
    if context is None:
        return None
    chex.assert_shape(context, (config.context_dim,))
    fixed = Affine(**jax.lax.stop_gradient(params["context_standardiser"]))
    return (context - fixed.location) / fixed.scale
