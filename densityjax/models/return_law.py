"""The law of one return: an equal mixture of one-dimensional flows, asked by scalar arithmetic.

With F_m the CDF of member m, z_m its normal score and v its standardised return before the spline:

    log p = logsumexp_m log p_m - log M        F = mean_m F_m        Q by Newton's method on F
    E[g(X)] = mean_m int g(x(v)) phi(z_m(v)) z_m'(v) dv

The integrals run over v, bin by bin of the first spline, where everything is smooth and no node has
to look for its bin; a straight bin on either side carries them to the end of the normal range. The
mean loss of a tail is a sum of whole bins and of a part of one. The side of a tail is `sign`: 1 for
the lower one, which a long position fears, -1 for the upper one, which a short position fears.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.special import ndtr, ndtri
from jax.scipy.stats import norm

from densityjax import numerics
from densityjax._typing import Array
from densityjax.bijectors import rational_quadratic_spline as rqs
from densityjax.models import marginal as marginal_lib
from densityjax.models import mixture
from densityjax.models.marginal import Marginal

UNROLLED = 16  # quadrature nodes that are compiled in a row
START_STEPS = 3  # Newton steps on straight lines, which cost no member anything

_member_noise = jax.vmap(marginal_lib.to_noise, (0, None))
_member_values = jax.vmap(marginal_lib.from_noise, (0, None))
_member_noises = jax.vmap(jax.vmap(marginal_lib.to_noise, (None, 0)), (0, None))


class Moments(NamedTuple):
    """What the integrals over a law give.

    Attributes:
      mean: [] expected return.
      std: [] standard deviation of the return.
      skewness: [] third standardised central moment.
      excess_kurtosis: [] fourth standardised central moment less 3.
      median: [M] median of each member, in units of the return.
      partial: [M, K + 2] E[X - median; X in bin] of each member, in units of the return.
    """

    mean: Array
    std: Array
    skewness: Array
    excess_kurtosis: Array
    median: Array
    partial: Array


class _Search(NamedTuple):
    """A quantile on its way: the point, its bracket and the last step, in units of the return."""

    x: Array
    low: Array
    high: Array
    step: Array
    is_done: Array
    count: Array | int


def log_prob(members: Marginal, x: Array) -> Array:
    """Returns the log density of the mixture at the scalar `x`."""
    return mixture.log_prob(marginal_lib.log_prob, members, x)


def cdf(members: Marginal, x: Array) -> Array:
    """Returns P(X <= x) of the mixture."""
    return jnp.mean(ndtr(_member_noise(members, x)[0]))


def prob_above(members: Marginal, x: Array) -> Array:
    """Returns P(X > x) of the mixture, with the digits that 1 - CDF would round off."""
    return jnp.mean(ndtr(-_member_noise(members, x)[0]))


def tail_quantile(members: Marginal, tail_probability: Array, sign: Array) -> Array:
    """Returns the return beyond which a tail holds `tail_probability`.

    Newton's method on the normal score of the mixture, which is nearly linear in x, between the
    smallest and the largest quantile of the members; a step that leaves the bracket, or is not
    under half of the last one, goes to the middle instead. A tail of more than one half is solved
    from the other end, whose probability keeps its digits.

    Args:
      members: the mixture, each leaf with a leading axis of M.
      tail_probability: [] probability of the tail, in (0, 1).
      sign: [] 1 for the lower tail, -1 for the upper one.

    Returns:
      [] return.
    """
    is_small = tail_probability <= 0.5
    target = ndtri(jnp.where(is_small, tail_probability, 1.0 - tail_probability))
    sign = jnp.where(is_small, sign, -sign)
    each, log_slope = _member_values(members, sign * target)
    low, high = jnp.min(each), jnp.max(each)
    width = high - low

    def newton(x: Array, z: Array, slope: Array) -> tuple[Array, Array]:
        """Returns how far the score of the mixture is off, and the step that would mend it."""
        score = ndtri(jnp.mean(ndtr(sign * z)))
        excess = sign * (score - target)
        density = jnp.mean(jnp.exp(norm.logpdf(z)) * slope)
        step = -excess * jnp.exp(norm.logpdf(score)) / density
        return excess, jnp.where(excess == 0.0, 0.0, step)  # density 0 between members far apart

    def improve(state: _Search) -> _Search:
        x, low, high = state.x, state.low, state.high
        z, log_slope = _member_noise(members, x)
        excess, step = newton(x, z, jnp.exp(log_slope))
        low, high = jnp.where(excess < 0.0, x, low), jnp.where(excess > 0.0, x, high)
        is_inside = (x + step >= low) & (x + step <= high)
        is_newton = is_inside & (2.0 * jnp.abs(step) <= jnp.abs(state.step))
        step = jnp.where(is_newton, step, 0.5 * (low + high) - x)
        share = jnp.where(is_newton, numerics.NEWTON_SHARE, numerics.BISECTION_SHARE)
        is_done = jnp.abs(step) <= share * width
        return _Search(x + step, low, high, step, is_done, state.count + 1)

    # Start where the members' laws, with their scores taken as straight lines, have the quantile.
    slope = jnp.exp(-log_slope)
    x = jnp.sum(slope * each) / jnp.sum(slope)
    for _ in range(START_STEPS):
        x = jnp.clip(x + newton(x, sign * target + slope * (x - each), slope)[1], low, high)
    start = _Search(x, low, high, 2.0 * width, ~(width > 0.0), 0)

    def is_open(state: _Search) -> Array:
        return ~state.is_done & (state.count < numerics.MAX_BISECTIONS)

    return jax.lax.while_loop(is_open, improve, start).x


def expected_shortfall(
    members: Marginal, moments: Moments, tail_probability: Array, sign: Array
) -> Array:
    """Returns the mean loss, positive, of a unit position in the worst cases.

    ES = -sign q + E[(q - X)^+] / a for the lower tail, and likewise for the upper one, with q the
    quantile: an error of q enters by its square alone.

    Args:
      members: the mixture, each leaf with a leading axis of M.
      moments: of the same mixture.
      tail_probability: [] a, share of the worst cases, in (0, 1).
      sign: [] 1 for a long position, -1 for a short one.

    Returns:
      [] mean loss, in units of the return.

    References:
      Rockafellar and Uryasev, Optimization of conditional value-at-risk, 2000, equation 4.
    """
    q = tail_quantile(members, tail_probability, sign)
    mass = ndtr(sign * _member_noise(members, q)[0])
    beyond = jax.vmap(_beyond, (0, 0, 0, None, None))(
        members, moments.median, moments.partial, q, sign
    )
    excess = sign * ((q - moments.median) * mass - beyond)
    return jnp.mean(excess) / tail_probability - sign * q


def integrate(members: Marginal) -> Moments:
    """Returns the `Moments` of the mixture.

    They are finite numbers even where the law has no such moment: the k-th needs Lambert-W tails h
    below 1 / k.
    """
    median = _member_values(members, jnp.zeros_like(members.location[0]))[0]
    partial, raw = jax.vmap(_raw_moments)(members, median)
    mean = jnp.mean(median + raw[:, 0])
    shift = median - mean
    # Around the median no moment cancels: it lies within one standard deviation of the mean.
    one, two, three, four = raw.T
    variance = jnp.mean(two + shift * (2.0 * one + shift))
    std = jnp.sqrt(variance)
    third = three + shift * (3.0 * two + shift * (3.0 * one + shift))
    fourth = four + shift * (4.0 * three + shift * (6.0 * two + shift * (4.0 * one + shift)))
    skewness = jnp.mean(third) / (variance * std)
    return Moments(mean, std, skewness, jnp.mean(fourth) / variance**2 - 3.0, median, partial)


def crps(members: Marginal, x: Array) -> Array:
    """Returns the continuous ranked probability score of the mixture at the realised `x`.

    int_-inf^x F^2 + int_x^inf (1 - F)^2, each half line mapped to (-1, 1) and integrated by
    Gauss-Legendre (Matheson and Winkler, 1976).
    """
    node, weight = np.polynomial.legendre.leggauss(numerics.SCORE_NODES)
    scale = jnp.mean(members.scale * members.tail.scale)
    distance = scale * (1.0 + node) / (1.0 - node)
    weight = weight * 2.0 / (1.0 - node) ** 2

    def tail_mass(side: float) -> Array:
        points = x + side * distance
        return jnp.mean(ndtr(-side * _member_noises(members, points)[0]), axis=0)

    return scale * jnp.sum(weight * (tail_mass(-1.0) ** 2 + tail_mass(1.0) ** 2))


def _bare(member: Marginal) -> Marginal:
    """Returns the member without its layers: its noise is v."""
    return member._replace(knots=jax.tree.map(lambda leaf: leaf[:0], member.knots))


def _bins(member: Marginal) -> rqs.Knots:
    """Returns the first spline with a straight bin on either side, up to the normal range.

    Without a spline it is one bin between the ends of the normal range.
    """
    knots = member.knots
    if not isinstance(knots, rqs.Knots):
        y = jnp.array([-1.0, 1.0], member.location.dtype) * numerics.NORMAL_RANGE
        ends = jax.vmap(lambda z: marginal_lib.from_noise(member, z)[0])(y)
        x = jax.vmap(lambda end: marginal_lib.to_noise(_bare(member), end)[0])(ends)
        return rqs.Knots(x, y, jnp.ones_like(y))
    x, y, slope = (leaf[0] for leaf in knots)
    ends = np.array([0, -1])
    reach = jnp.maximum(numerics.NORMAL_RANGE - jnp.abs(y[ends]), 1.0)

    def widen(values: Array, by: Array) -> Array:
        return jnp.concatenate([values[:1] - by[0], values, values[-1:] + by[1]])

    return rqs.Knots(
        widen(x, reach / slope[ends]), widen(y, reach), widen(slope, jnp.zeros_like(reach))
    )


def _nodes(bins: rqs.Knots) -> tuple[np.ndarray, np.ndarray]:
    """Returns Gauss-Legendre nodes and weights on (0, 1), more where the line has fewer bins."""
    num = max(numerics.BIN_NODES, -(-numerics.LINE_NODES // max(bins.x.shape[0] - 3, 1)))
    node, weight = np.polynomial.legendre.leggauss(num)
    return 0.5 * (node + 1.0), 0.5 * weight


def _mass(member: Marginal, first: rqs.Knots, last: rqs.Knots, t: Array) -> tuple[Array, Array]:
    """Returns x and the probability per unit of t at the share t of a bin between two knots."""
    width, height, o = last.x - first.x, last.y - first.y, 1.0 - t
    x, log_slope = marginal_lib.from_noise(_bare(member), first.x + width * t)
    if not isinstance(member.knots, rqs.Knots) or member.knots.x.shape[0] > 1:
        z, log_slope_noise = marginal_lib.to_noise(member, x)
        return x, width * jnp.exp(norm.logpdf(z) + log_slope + log_slope_noise)
    # The one spline, in a bin that needs no search.
    alpha, beta = first.slope * width / height, last.slope * width / height
    inverse = 1.0 / (t * t + o * o + (alpha + beta) * (t * o))
    z = first.y + height * (t * (t + alpha * o) * inverse)
    slope = height * (beta * t * t + 2.0 * t * o + alpha * o * o) * (inverse * inverse)
    return x, slope * jnp.exp(norm.logpdf(z))


def _raw_moments(member: Marginal, median: Array) -> tuple[Array, Array]:
    """Returns the first moment of each bin and the first four of the line, about the median."""
    bins = _bins(member)
    first, last = rqs.Knots(*(k[:-1] for k in bins)), rqs.Knots(*(k[1:] for k in bins))
    in_bins = jax.vmap(_mass, (None, 0, 0, None))

    def add(sums: tuple[Array, ...], node: tuple[Array, Array]) -> tuple[tuple[Array, ...], None]:
        x, mass = in_bins(member, first, last, node[0])
        term, added = mass * node[1], []
        for total in sums:
            term = term * (x - median)
            added.append(total + term)
        return tuple(added), None

    node, weight = (jnp.asarray(values, median.dtype) for values in _nodes(bins))
    sums = (jnp.zeros_like(first.x),) * 4
    sums, _ = jax.lax.scan(add, sums, (node, weight), unroll=min(node.shape[0], UNROLLED))
    return sums[0], jnp.stack([jnp.sum(total) for total in sums])


def _beyond(
    member: Marginal, median: Array, partial: Array, threshold: Array, sign: Array
) -> Array:
    """Returns E[X - median; X beyond the threshold]: whole bins and a part of one."""
    bins = _bins(member)
    v = jnp.clip(marginal_lib.to_noise(_bare(member), threshold)[0], bins.x[0], bins.x[-1])
    above = jnp.concatenate([jnp.ones(1, bool), v >= bins.x[1:-1], jnp.zeros(1, bool)])
    is_cell = above[:-1] & ~above[1:]
    first, last = (
        rqs.Knots(*(jnp.sum(jnp.where(is_cell, k[part], 0.0)) for k in bins))
        for part in (slice(None, -1), slice(1, None))
    )
    is_lower = sign > 0.0
    whole = jnp.sum(jnp.where(jnp.where(is_lower, above[1:], ~above[:-1]), partial, 0.0))
    share = (v - first.x) / (last.x - first.x)
    start, length = jnp.where(is_lower, 0.0, share), jnp.where(is_lower, share, 1.0 - share)
    node, weight = _nodes(bins)
    x, mass = jax.vmap(_mass, (None, None, None, 0))(member, first, last, start + length * node)
    return whole + length * jnp.sum(weight * mass * (x - median))
