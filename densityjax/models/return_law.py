"""The law of one return: an equal mixture of one-dimensional flows, asked by scalar arithmetic.

With F_m the CDF of member m, z_m its normal score and v its standardised return before the spline:

    log p = logsumexp_m log p_m - log M        F = mean_m F_m        Q by Newton's method on F
    E[g(X)] = mean_m int g(x(v)) phi(z_m(v)) z_m'(v) dv

The integrals run over v, bin by bin of the first spline, where everything is smooth and no node has
to look for its bin; a straight bin on either side carries them to the end of the normal range. The
mean loss of a tail is a sum of whole bins and of a part of one. The side of a tail is `sign`: 1 for
the lower one, which a long position fears, -1 for the upper one, which a short position fears.

Quantiles and integrals take a block of R rows at once, in the layout of `marginal_block`.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.special import ndtr, ndtri
from jax.scipy.stats import norm

from densityjax import numerics
from densityjax._typing import Array
from densityjax.models import marginal as marginal_lib
from densityjax.models import marginal_block, mixture
from densityjax.models.marginal import Marginal

START_STEPS = 3  # Newton steps on straight lines, which cost no member anything
COMMON_STEPS = 4  # Newton steps of all rows of a block; few rows need more
NEAR = 0.01  # normal score: within it, a short Newton step says that the next is far shorter
PARTS = 4  # the slow rows are finished by this part of a block at a time: they hold up no others

_member_noise = jax.vmap(marginal_lib.to_noise, (0, None))
_member_noises = jax.vmap(jax.vmap(marginal_lib.to_noise, (None, 0)), (0, None))
_block_values = jax.vmap(jax.vmap(marginal_lib.from_noise, (0, None)))


class Moments(NamedTuple):
    """What the integrals over a block of laws give.

    Attributes:
      mean: [R] expected return.
      std: [R] standard deviation of the return.
      skewness: [R] third standardised central moment.
      excess_kurtosis: [R] fourth standardised central moment less 3.
      median: [R, M] median of each member, in units of the return.
      partial: [R, M, B] E[X - median; X in bin] of each member, in units of the return.
    """

    mean: Array
    std: Array
    skewness: Array
    excess_kurtosis: Array
    median: Array
    partial: Array


class _Search(NamedTuple):
    """Quantiles on their way, [R]: point, bracket, last step in units of the return; steps made."""

    x: Array
    low: Array
    high: Array
    step: Array
    is_done: Array
    count: Array


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
    """Returns the returns beyond which a tail holds `tail_probability`.

    Newton's method on the normal score of the mixture, which is nearly linear in x, between the
    smallest and the largest quantile of the members; a step that leaves the bracket, or is not
    under half of the last one, goes to the middle instead. A tail of more than one half is solved
    from the other end, whose probability keeps its digits.

    Args:
      members: the mixtures of a block, each leaf with leading axes [R, M].
      tail_probability: [R] probability of the tail, in (0, 1).
      sign: [R] 1 for the lower tail, -1 for the upper one.

    Returns:
      [R] returns.
    """
    is_small = tail_probability <= 0.5
    target = ndtri(jnp.where(is_small, tail_probability, 1.0 - tail_probability))
    sign = jnp.where(is_small, sign, -sign)
    each, log_slope = (values.T for values in _block_values(members, sign * target))
    low, high = jnp.min(each, 0), jnp.max(each, 0)
    # Start where the members' laws, with their scores taken as straight lines, have the quantile.
    slope = jnp.exp(-log_slope)
    x = jnp.sum(slope * each, 0) / jnp.sum(slope, 0)

    def on_lines(_: int, x: Array) -> Array:
        z = sign * target + slope * (x - each)
        return jnp.clip(x + _newton_step(z, slope, target, sign)[1], low, high)

    x = jax.lax.fori_loop(0, START_STEPS, on_lines, x)
    width = high - low
    is_done = ~(width > 0.0)  # a NaN is done too
    state = _Search(x, low, high, 2.0 * width, is_done, jnp.zeros_like(x))
    members = marginal_block.rows_last(members)
    return _solve((members, marginal_block.bins_of(members), target, sign, width), state).x


def _solve(laws: tuple, state: _Search) -> _Search:
    """Improves all rows a few times, then the open ones to the end, part by part."""
    size = -(-state.x.shape[0] // PARTS)

    def finish(state: _Search) -> _Search:
        rows = jnp.argsort(state.is_done)[:size]
        some, part = jax.tree.map(lambda leaf: leaf[..., rows], (laws, state))
        part = jax.lax.while_loop(_is_open, lambda part: _improve(some, part), part)
        return jax.tree.map(lambda every, new: every.at[rows].set(new), state, part)

    state = jax.lax.fori_loop(0, COMMON_STEPS, lambda _, state: _improve(laws, state), state)
    return jax.lax.while_loop(_is_open, finish, state)


def _is_open(state: _Search) -> Array:
    return ~jnp.all(state.is_done)


def _newton_step(z: Array, slope: Array, target: Array, sign: Array) -> tuple[Array, Array]:
    """Returns how far the score of the mixture is off, and the step that would mend it."""
    score = ndtri(jnp.mean(ndtr(sign * z), 0))
    excess = sign * (score - target)
    density = jnp.mean(jnp.exp(norm.logpdf(z)) * slope, 0)
    step = -excess * jnp.exp(norm.logpdf(score)) / density
    return excess, jnp.where(excess == 0.0, 0.0, step)  # density 0 between members far apart


def _improve(laws: tuple, state: _Search) -> _Search:
    """Makes one step of all rows that are not done."""
    members, bins, target, sign, width = laws
    x, low, high = state.x, state.low, state.high
    z, slope = marginal_block.noise(members, bins, x)[1:]
    excess, step = _newton_step(z, slope, target, sign)
    low, high = jnp.where(excess < 0.0, x, low), jnp.where(excess > 0.0, x, high)
    is_inside = (x + step >= low) & (x + step <= high)
    is_newton = is_inside & (2.0 * jnp.abs(step) <= jnp.abs(state.step))
    step = jnp.where(is_newton, step, 0.5 * (low + high) - x)
    # A step is also short, far from the level, where one member is much narrower than the bracket.
    is_near = is_newton & (jnp.abs(excess) <= NEAR)
    share = jnp.where(is_near, numerics.NEWTON_SHARE, numerics.BISECTION_SHARE)
    is_done = (jnp.abs(step) <= share * width) | (state.count >= numerics.MAX_BISECTIONS)
    x = jnp.where(state.is_done, x, x + step)
    return _Search(x, low, high, step, state.is_done | is_done, state.count + 1)


def expected_shortfall(
    members: Marginal, moments: Moments, q: Array, tail_probability: Array, sign: Array
) -> Array:
    """Returns the mean losses, positive, of a unit position in the worst cases.

    ES = -sign q + E[(q - X)^+] / a for the lower tail, and likewise for the upper one, with q the
    quantile: an error of q enters by its square alone.

    Args:
      members: the mixtures of a block, each leaf with leading axes [R, M].
      moments: of the same mixtures.
      q: [R] `tail_quantile` of the same tail.
      tail_probability: [R] a, share of the worst cases, in (0, 1).
      sign: [R] 1 for a long position, -1 for a short one.

    Returns:
      [R] mean losses, in units of the return.

    References:
      Rockafellar and Uryasev, Optimization of conditional value-at-risk, 2000, equation 4.
    """
    median, partial = marginal_block.rows_last((moments.median, moments.partial))
    members = marginal_block.rows_last(members)
    bins = marginal_block.bins_of(members)
    v, z, _ = marginal_block.noise(members, bins, q)
    beyond = _beyond(members, bins, median, partial, v, sign)
    excess = sign * ((q - median) * ndtr(sign * z) - beyond)
    return jnp.mean(excess, 0) / tail_probability - sign * q


def integrate(members: Marginal) -> Moments:
    """Returns the `Moments` of the mixtures of a block, each leaf with leading axes [R, M].

    They are finite numbers even where the law has no such moment: the k-th needs Lambert-W tails h
    below 1 / k.
    """
    median = _block_values(members, jnp.zeros_like(members.location[:, 0]))[0].T
    partial, (one, two, three, four) = _raw_moments(marginal_block.rows_last(members), median)
    mean = jnp.mean(median + one, 0)
    shift = median - mean
    # Around the median no moment cancels: it lies within one standard deviation of the mean.
    variance = jnp.mean(two + shift * (2.0 * one + shift), 0)
    std = jnp.sqrt(variance)
    third = three + shift * (3.0 * two + shift * (3.0 * one + shift))
    fourth = four + shift * (4.0 * three + shift * (6.0 * two + shift * (4.0 * one + shift)))
    skewness = jnp.mean(third, 0) / (variance * std)
    excess_kurtosis = jnp.mean(fourth, 0) / variance**2 - 3.0
    return Moments(mean, std, skewness, excess_kurtosis, median.T, partial.T)


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


def _nodes(bins: marginal_block.Bins) -> tuple[Array, Array]:
    """Returns Gauss-Legendre nodes and weights on (0, 1), more where the line has fewer bins."""
    num = max(numerics.BIN_NODES, -(-numerics.LINE_NODES // max(bins.x.shape[0] - 2, 1)))
    node, weight = np.polynomial.legendre.leggauss(num)
    dtype = bins.x.dtype
    return jnp.asarray(0.5 * (node + 1.0), dtype), jnp.asarray(0.5 * weight, dtype)


def _raw_moments(members: Marginal, median: Array) -> tuple[Array, list[Array]]:
    """Returns the first moment of each bin and the first four of the line, about the median."""
    bins = marginal_block.bins_of(members)
    nodes = _nodes(bins)

    def in_bin(cell: marginal_block.Bins) -> list[Array]:
        def at_node(node: tuple[Array, Array]) -> tuple[Array, Array]:
            x, mass = marginal_block.mass_at(members, cell, node[0])
            return x - median, mass * node[1]

        # A loop over nodes, so that each is worked out once for all the sums that read it.
        x, mass = jax.lax.map(at_node, nodes)
        return [jnp.sum(mass * x**k, 0) for k in (1, 2, 3, 4)]

    sums = jax.lax.map(in_bin, bins)
    return sums[0], [jnp.sum(total, 0) for total in sums]


def _beyond(
    members: Marginal,
    bins: marginal_block.Bins,
    median: Array,
    partial: Array,
    v: Array,
    sign: Array,
) -> Array:
    """Returns E[X - median; X beyond v], [M, R]: whole bins and a part of one."""
    is_lower = sign > 0.0
    v = jnp.clip(v, bins.x[0], bins.x[-1] + bins.width[-1])
    cell, whole = marginal_block.pick(bins, v), jnp.zeros_like(v)
    for k in range(1, bins.x.shape[0]):
        is_past = v >= bins.x[k]
        whole += jnp.where(is_lower & is_past, partial[k - 1], 0.0)
        whole += jnp.where(is_lower | is_past, 0.0, partial[k])
    share = (v - cell.x) / cell.width
    start, length = jnp.where(is_lower, 0.0, share), jnp.where(is_lower, share, 1.0 - share)

    def add(total: Array, node: tuple[Array, Array]) -> tuple[Array, None]:
        x, mass = marginal_block.mass_at(members, cell, start + length * node[0])
        return total + node[1] * mass * (x - median), None

    part, _ = jax.lax.scan(add, jnp.zeros_like(v), _nodes(bins))
    return whole + length * part
