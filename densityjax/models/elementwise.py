"""The layers next to the data: standardiser, location and scale read off the context, tails.

All act on each dimension by itself. Angles are only scaled, to a period of 2 pi, rotated by what
the context says, and wrapped into [-pi, pi).
"""

import functools
import math
from collections.abc import Callable
from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np

from densityjax import numerics
from densityjax._typing import Array, Key, Params
from densityjax.bijectors import affine, circular_spline, lambert_w, tails
from densityjax.models.config import FlowConfig
from densityjax.models.stack import conditioner

_Step = tuple[Array, Array]


class Reading(NamedTuple):
    """What one context says.

    Attributes:
      context: [C] standardised context, or None.
      location: [D] in standardised units of x.
      log_scale: [D] natural log of a factor, bounded.
    """

    context: Array | None
    location: Array
    log_scale: Array


class Elementwise(NamedTuple):
    """The layers next to the data, as pure functions; `x` and `value` are [D].

    Attributes:
      init: (key, x [N, D], context [N, C] or None, weights [N] or None) -> params.
      read: (params, context [C] or None, dropout_key) -> `Reading`.
      to_value: (params, reading, x) -> (value, log det []).
      from_value: (params, reading, value) -> (x, log det []).
    """

    init: Callable[..., Params]
    read: Callable[..., Reading]
    to_value: Callable[..., _Step]
    from_value: Callable[..., _Step]


def build_elementwise(config: FlowConfig) -> Elementwise:
    """Builds the layers that `config` describes."""
    head_net = conditioner(config, 0, 2 * config.dim) if config.context_dim else None
    is_angle = np.isin(np.arange(config.dim), config.circular_dims)

    def init(key: Key, x: Array, context: Array | None, weights: Array | None) -> Params:
        standardiser, _ = affine.fit_robust(x, weights)
        standardiser = _with_periods(config, standardiser)
        params = {"standardiser": standardiser._asdict()}
        if config.tail != "none":
            family = tails.FAMILIES[config.tail]
            standard, _ = jax.vmap(functools.partial(affine.forward, standardiser))(x)
            fitted, _ = jax.vmap(functools.partial(family.fit, weights=weights))(standard.T)
            logits = jax.vmap(family.logits_from_tail)(fitted)
            params["tail"] = {"logits": jnp.where(is_angle[:, None], 0.0, logits)}
        if head_net is not None and context is not None:
            is_robust = config.context_spread == "mad"
            fit_context = affine.fit_robust if is_robust else affine.fit_moments
            params["context_standardiser"] = fit_context(context, weights)[0]._asdict()
            params["head"] = head_net.init(key)
            params["skip"] = {"kernel": jnp.zeros((config.context_dim, 2 * config.dim))}
        return params

    def read(params: Params, context: Array | None, dropout_key: Key | None) -> Reading:
        context = checked_context(config, context, ())
        if head_net is None or context is None:
            return Reading(None, jnp.zeros(config.dim), jnp.zeros(config.dim))
        fixed = jax.lax.stop_gradient(params["context_standardiser"])
        standard, _ = affine.forward(affine.Affine(**fixed), context)
        out = head_net.apply(params["head"], jnp.zeros(0), standard, dropout_key=dropout_key)
        out += jnp.matmul(standard, params["skip"]["kernel"], precision=jax.lax.Precision.HIGHEST)
        location, log_scale = jnp.split(out, 2)
        bounded = numerics.MAX_LOG_SCALE * jnp.tanh(log_scale / numerics.MAX_LOG_SCALE)
        if is_angle.any():
            bounded = jnp.where(is_angle, 0.0, bounded)
        return Reading(standard, location, bounded)

    def to_value(params: Params, reading: Reading, x: Array) -> _Step:
        value, log_det = affine.forward(joined_affine(params, reading), x)
        if config.tail != "none":
            tailed, log_slopes = jax.vmap(tails.to_noise)(value, all_tails(config, params))
            value = jnp.where(is_angle, value, tailed) if is_angle.any() else tailed
            log_det = log_det + _sum_reals(log_slopes)
        return _wrapped(value), log_det

    def from_value(params: Params, reading: Reading, value: Array) -> _Step:
        total = jnp.zeros(())
        if config.tail != "none":
            tailed, log_slopes = jax.vmap(tails.from_noise)(value, all_tails(config, params))
            value = jnp.where(is_angle, value, tailed) if is_angle.any() else tailed
            total = _sum_reals(log_slopes)
        joined = joined_affine(params, reading)
        x, log_det = affine.inverse(joined, value)
        if is_angle.any():
            # Once more in units of the angle: the location may have turned it past the seam.
            x = jnp.where(is_angle, joined.scale * _wrapped(x / joined.scale), x)
        return x, total + log_det

    def _sum_reals(log_slopes: Array) -> Array:
        return jnp.sum(jnp.where(is_angle, 0.0, log_slopes) if is_angle.any() else log_slopes)

    def _wrapped(value: Array) -> Array:
        return jnp.where(is_angle, circular_spline.wrap(value), value) if is_angle.any() else value

    return Elementwise(init, read, to_value, from_value)


def checked_context(
    config: FlowConfig, context: Array | None, rows: tuple[int, ...]
) -> Array | None:
    """Returns the context where it fits the flow.

    Args:
      config: says the size C of the context, 0 for none.
      context: [*rows, C] or None.
      rows: leading axes that the context should have.

    Returns:
      `context`, None where the flow takes none.

    Raises:
      ValueError: if a context is missing or not wanted.
    """
    if (context is None) != (config.context_dim == 0):
        given = "missing" if context is None else f"of shape {context.shape}"
        accepted = [*rows, config.context_dim] if config.context_dim else None
        raise ValueError(f"context is {given}: accepted is {accepted}")
    if context is not None:
        chex.assert_shape(context, (*rows, config.context_dim))
    return context


def joined_affine(params: Params, reading: Reading) -> affine.Affine:
    """Joins the standardiser and the conditional location and scale into one map."""
    fixed = jax.lax.stop_gradient(params["standardiser"])
    return affine.Affine(
        fixed["location"] + fixed["scale"] * reading.location,
        fixed["scale"] * jnp.exp(reading.log_scale),
    )


def all_tails(config: FlowConfig, params: Params) -> tails.Tail:
    """Returns the tails, leaves [D]; light ones where the config wants none."""
    if config.tail != "none":
        return jax.vmap(tails.FAMILIES[config.tail].tail_from_logits)(params["tail"]["logits"])
    zeros, ones = jnp.zeros(config.dim), jnp.ones(config.dim)
    return lambert_w.Tail(location=zeros, scale=ones, h_plus=zeros, h_minus=zeros)


def _with_periods(config: FlowConfig, standardiser: affine.Affine) -> affine.Affine:
    """Maps one period of a periodic dimension to 2 pi, whatever its rows are."""
    location, scale = standardiser
    periods = config.periods or (2.0 * math.pi,) * len(config.circular_dims)
    for dim, period in zip(config.circular_dims, periods, strict=True):
        location = location.at[dim].set(0.0)
        scale = scale.at[dim].set(period / (2.0 * math.pi))
    return affine.Affine(location, scale)
