"""A one-dimensional flow with its parameters spelled out for one context.

    u = (x - location) / scale,   v = tail(u),   z = map_L(... map_1(v)),   z ~ N(0, 1)

The map is increasing, so the CDF is Phi(z(x)) and the quantile is x(Phi^-1(p)), both exact. What a
network says is computed once per context; everything here is scalar arithmetic after it.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.scipy.special import ndtr, ndtri
from jax.scipy.stats import norm

from densityjax._typing import Array
from densityjax.bijectors import rational_quadratic_spline as rqs
from densityjax.bijectors import shift_scale, tails
from densityjax.models import scalar_maps


class Marginal(NamedTuple):
    """Parameters of the map of one context.

    Attributes:
      location: [] in units of x.
      scale: [] in units of x, positive.
      tail: tail layer in standardised units; its type names the family.
      knots: parameters of the scalar maps, splines or affine, each leaf with a leading axis of L
        layers.
    """

    location: Array
    scale: Array
    tail: tails.Tail
    knots: rqs.Knots | shift_scale.ShiftScale


def to_noise(marginal: Marginal, x: Array) -> tuple[Array, Array]:
    """Maps the scalar `x` to its normal score; returns it and log |dz/dx|."""
    standard = (x - marginal.location) / marginal.scale
    value, log_slope = tails.to_noise(standard, marginal.tail)

    def layer(carry: tuple[Array, Array], knots: Any) -> tuple[tuple[Array, Array], None]:
        value, total = carry
        value, log_slope = scalar_maps.apply(knots, value)
        return (value, total + log_slope), None

    start = (value, log_slope - jnp.log(marginal.scale))
    (value, log_slope), _ = jax.lax.scan(layer, start, marginal.knots)
    return value, log_slope


def from_noise(marginal: Marginal, z: Array) -> tuple[Array, Array]:
    """Maps the normal score `z` back; returns x and log |dx/dz|."""

    def layer(carry: tuple[Array, Array], knots: Any) -> tuple[tuple[Array, Array], None]:
        value, total = carry
        value, log_slope = scalar_maps.apply(knots, value, inverse=True)
        return (value, total + log_slope), None

    (value, total), _ = jax.lax.scan(layer, (z, jnp.zeros_like(z)), marginal.knots, reverse=True)
    standard, log_slope = tails.from_noise(value, marginal.tail)
    x = marginal.location + marginal.scale * standard
    return x, total + log_slope + jnp.log(marginal.scale)


def log_prob(marginal: Marginal, x: Array) -> Array:
    """Returns the log density of the scalar `x`, in nats per unit of x."""
    z, log_slope = to_noise(marginal, x)
    return norm.logpdf(z) + log_slope


def cdf(marginal: Marginal, x: Array) -> Array:
    """Returns P(X <= x) for the scalar `x`."""
    return ndtr(to_noise(marginal, x)[0])


def quantile(marginal: Marginal, probability: Array) -> Array:
    """Returns the x with P(X <= x) = probability, for a probability in (0, 1)."""
    return from_noise(marginal, ndtri(probability))[0]
