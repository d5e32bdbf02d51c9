"""The maps of a block of one-dimensional flows, bin by bin of their first spline.

A block has leaves [..., M, R]: bins or knots B first, then members M, rows R last. Along the last
axis all work is alike, which processors do several times faster than along a few bins or members.
With v the standardised return past the tail layer and z the normal score, a bin takes the share t
of its width to z by the rational quadratic of `rational_quadratic_spline`.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.scipy.stats import norm

from densityjax import numerics
from densityjax._typing import Array
from densityjax.bijectors import rational_quadratic_spline as rqs
from densityjax.bijectors import tails
from densityjax.models import marginal as marginal_lib
from densityjax.models.marginal import Marginal

_to_noise = jax.vmap(jax.vmap(marginal_lib.to_noise, (-1, 0)), (-2, 0))
_from_noise = jax.vmap(jax.vmap(marginal_lib.from_noise, (-1, 0)), (-2, 0))


class Bins(NamedTuple):
    """Bins of the first spline: lower ends, sizes, and end slopes over height / width."""

    x: Array
    y: Array
    width: Array
    height: Array
    alpha: Array
    beta: Array


def rows_last(tree: Any) -> Any:
    """Returns the tree with axes [R, M, ...] of its leaves in the order [..., M, R]."""
    return jax.tree.map(lambda leaf: jnp.moveaxis(leaf, (0, 1), (-1, -2)), tree)


def _is_one_spline(members: Marginal) -> bool:
    return isinstance(members.knots, rqs.Knots) and members.knots.x.shape[0] == 1


def bins_of(members: Marginal) -> Bins:
    """Returns the bins of the first spline and a straight one on either side, [B, M, R].

    They reach the end of the normal range. Without a spline it is one bin between its ends.
    """
    knots = members.knots
    if isinstance(knots, rqs.Knots):
        x, y, slope = (leaf[0] for leaf in knots)
        below = jnp.maximum(numerics.NORMAL_RANGE + y[:1], 1.0)
        above = jnp.maximum(numerics.NORMAL_RANGE - y[-1:], 1.0)
        x = jnp.concatenate([x[:1] - below / slope[:1], x, x[-1:] + above / slope[-1:]])
        y = jnp.concatenate([y[:1] - below, y, y[-1:] + above])
        slope = jnp.concatenate([slope[:1], slope, slope[-1:]])
    else:
        y = jnp.stack([jnp.full_like(members.location, s * numerics.NORMAL_RANGE) for s in (-1, 1)])
        x = jnp.stack([_to_layers(members, _from_noise(members, end)[0])[0] for end in y])
        slope = jnp.ones_like(y)
    width, height = x[1:] - x[:-1], y[1:] - y[:-1]
    alpha, beta = slope[:-1] * width / height, slope[1:] * width / height
    return Bins(x[:-1], y[:-1], width, height, alpha, beta)


def pick(bins: Bins, v: Array) -> Bins:
    """Returns the bin of each value, [M, R]; the first and last ones reach to infinity."""
    cell = Bins(*(leaf[0] for leaf in bins))
    for k in range(1, bins.x.shape[0]):
        is_past = v >= bins.x[k]
        cell = Bins(
            *(jnp.where(is_past, leaf[k], old) for leaf, old in zip(bins, cell, strict=True))
        )
    return cell


def _in_bin(cell: Bins, t: Array) -> tuple[Array, Array]:
    """Returns the score at the share t of a bin, and its derivative by t."""
    o = 1.0 - t
    inverse = 1.0 / (t * t + o * o + (cell.alpha + cell.beta) * (t * o))
    z = cell.y + cell.height * (t * (t + cell.alpha * o) * inverse)
    rise = (cell.beta * t * t + 2.0 * t * o + cell.alpha * o * o) * (inverse * inverse)
    return z, cell.height * rise


def _to_layers(members: Marginal, x: Array) -> tuple[Array, Array]:
    """Returns v of the returns [M, R], which the layers act on, and log dv/dx."""
    standard = (x - members.location) / members.scale
    v, log_slope = jax.vmap(jax.vmap(tails.to_noise))(standard, members.tail)
    return v, log_slope - jnp.log(members.scale)


def _from_layers(members: Marginal, v: Array) -> tuple[Array, Array]:
    """Undoes `_to_layers`."""
    standard, log_slope = jax.vmap(jax.vmap(tails.from_noise))(v, members.tail)
    return members.location + members.scale * standard, log_slope + jnp.log(members.scale)


def noise(members: Marginal, bins: Bins, x: Array) -> tuple[Array, Array, Array]:
    """Returns v, the scores z of all members at the returns [R], and dz/dx, all [M, R]."""
    x = jnp.broadcast_to(x, members.location.shape)
    v, log_slope = _to_layers(members, x)
    if not _is_one_spline(members):
        z, log_slope = _to_noise(members, x)
        return v, z, jnp.exp(log_slope)
    cell = pick(bins, v)
    t = (v - cell.x) / cell.width
    inside = jnp.clip(t, 0.0, 1.0)
    z, rise = _in_bin(cell, inside)
    return v, z + cell.height * (t - inside), rise / cell.width * jnp.exp(log_slope)


def mass_at(members: Marginal, cell: Bins, t: Array) -> tuple[Array, Array]:
    """Returns x and the probability per unit of t at the share t of one bin of each member."""
    x, log_slope = _from_layers(members, cell.x + cell.width * t)
    if _is_one_spline(members):
        z, rise = _in_bin(cell, t)
        return x, rise * jnp.exp(norm.logpdf(z))
    z, log_slope_noise = _to_noise(members, x)
    return x, cell.width * jnp.exp(norm.logpdf(z) + log_slope + log_slope_noise)
