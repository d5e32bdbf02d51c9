"""Mixtures of skewed t laws, exact: density, distribution function, score and quantile.

A component has weight, location, scale, skew and degrees of freedom; a row t mixes the regimes of
`Components` with its own probabilities [S]. Points x are returns over sigma. Float64, on the host,
with the lower tail summed without cancellation.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from scipy import special

from densityjax import numerics
from densityjax._typing import ArrayLike, NumpyArray


class Components(NamedTuple):
    """The mixture of r / sigma, one row a regime, one column a component (body, jump).

    Attributes:
      weight: [S, 2] probability of the component within its regime; rows sum to one.
      location: [S, 2] mean of the component, in units of sigma.
      scale: [S, 2] standard deviation of the component, in units of sigma.
      skew: [S, 2] Hansen's lambda, in (-1, 1).
      dof: [S, 2] degrees of freedom, above 2.
    """

    weight: NumpyArray
    location: NumpyArray
    scale: NumpyArray
    skew: NumpyArray
    dof: NumpyArray


def skewed_t_log_pdf(z: NumpyArray, skew: ArrayLike, dof: ArrayLike) -> NumpyArray:
    """Log density of Hansen's skewed t, zero mean and unit variance.

    Args:
      z: [...] points, in standard deviations.
      skew: [...] lambda in (-1, 1).
      dof: [...] degrees of freedom, above 2.

    Returns:
      [...] log density, per standard deviation.

    References:
      Hansen (1994), eq. 10.
    """
    log_c, a, b = hansen_constants(skew, dof)
    side = b * z + a
    y = side / _width(side, skew)
    return np.log(b) + log_c - 0.5 * (np.asarray(dof) + 1.0) * np.log1p(y**2 / (dof - 2.0))


def skewed_t_score(z: NumpyArray, skew: ArrayLike, dof: ArrayLike) -> NumpyArray:
    """Derivative in `z` of `skewed_t_log_pdf`; arguments as there."""
    _, a, b = hansen_constants(skew, dof)
    side = b * z + a
    width = _width(side, skew)
    y = side / width
    return -(np.asarray(dof) + 1.0) * y * b / (width * (dof - 2.0 + y**2))


def skewed_t_cdf(z: NumpyArray, skew: ArrayLike, dof: ArrayLike) -> NumpyArray:
    """Distribution function of `skewed_t_log_pdf`, precise below zero; arguments as there."""
    _, a, b = hansen_constants(skew, dof)
    side = b * z + a
    width = _width(side, skew)
    u = side / width * np.sqrt(dof / (dof - 2.0))
    tail = width * special.stdtr(dof, -np.abs(u))
    return np.where(side < 0.0, tail, 1.0 - tail)


def skewed_t_quantile(probability: NumpyArray, skew: ArrayLike, dof: ArrayLike) -> NumpyArray:
    """Inverse of `skewed_t_cdf`; `probability` is [...] in (0, 1)."""
    _, a, b = hansen_constants(skew, dof)
    is_lower = probability < 0.5 * (1.0 - skew)
    width = np.where(is_lower, 1.0 - skew, 1.0 + skew)
    tail = np.where(is_lower, probability, 1.0 - probability) / width
    u = np.where(is_lower, 1.0, -1.0) * special.stdtrit(dof, np.minimum(tail, 0.5))
    return (u * width * np.sqrt((dof - 2.0) / dof) - a) / b


def regime_expectation(
    components: Components, log_function: Callable[[NumpyArray], NumpyArray]
) -> NumpyArray:
    """Mean of a positive function of r / sigma in each regime, by quadrature.

    Args:
      components: the mixture of r / sigma.
      log_function: [N] points to [N] logs of the function, kinked at zero at most.

    Returns:
      [S] means, in units of the function.
    """
    nodes, weights = _half_line_nodes()
    x = np.concatenate([-nodes, nodes])
    z = (x - components.location[..., None]) / components.scale[..., None]
    log_pdf = skewed_t_log_pdf(z, components.skew[..., None], components.dof[..., None])
    mass = np.exp(log_pdf + log_function(x)) * (components.weight / components.scale)[..., None]
    return np.sum(mass, axis=1) @ np.tile(weights, 2)


def _half_line_nodes() -> tuple[NumpyArray, NumpyArray]:
    """Double-exponential nodes and weights on (0, inf): x = exp(sinh(u)), u equally spaced."""
    u, step = np.linspace(-4.5, 4.5, 1801, retstep=True)  # x from 1e-20 to 1e20
    x = np.exp(np.sinh(u))
    return x, step * np.cosh(u) * x


def _width(side: NumpyArray, skew: ArrayLike) -> NumpyArray:
    """Stretch of the half that `side` is on; `np.sign` would give neither where it is zero."""
    return np.where(side < 0.0, np.subtract(1.0, skew), np.add(1.0, skew))


def hansen_constants(skew: ArrayLike, dof: ArrayLike) -> tuple[NumpyArray, ...]:
    """Returns (log c, a, b) of Hansen (1994), eq. 11-13."""
    dof, skew = np.asarray(dof), np.asarray(skew)
    log_c = special.gammaln(0.5 * (dof + 1.0)) - special.gammaln(0.5 * dof)
    log_c = log_c - 0.5 * np.log(np.pi * (dof - 2.0))
    a = 4.0 * skew * np.exp(log_c) * (dof - 2.0) / (dof - 1.0)
    return log_c, a, np.sqrt(1.0 + 3.0 * skew**2 - a**2)


def mixture_log_pdf(
    components: Components, regime_probability: NumpyArray, x: NumpyArray
) -> NumpyArray:
    """Log density of r / sigma.

    Args:
      components: the mixture in each regime.
      regime_probability: [T, S] probability of each regime, one row a law.
      x: [T, P] points of each row, in units of sigma.

    Returns:
      [T, P] log density, per unit of sigma; NaN where `x` is.
    """
    joint = _joint_log_pdf(components, regime_probability, x)
    return np.asarray(special.logsumexp(joint, axis=(-2, -1)))


def mixture_score(
    components: Components, regime_probability: NumpyArray, x: NumpyArray
) -> NumpyArray:
    """Derivative in `x` of `mixture_log_pdf`; arguments as there."""
    joint = _joint_log_pdf(components, regime_probability, x)
    share = special.softmax(joint.reshape(*x.shape, -1), axis=-1).reshape(joint.shape)
    inner = skewed_t_score(_standardise(components, x), components.skew, components.dof)
    return np.sum(share * inner / components.scale, axis=(-2, -1))


def mixture_cdf(
    components: Components, regime_probability: NumpyArray, x: NumpyArray
) -> NumpyArray:
    """Distribution function of `mixture_log_pdf`, [T, P]; arguments as there."""
    inner = skewed_t_cdf(_standardise(components, x), components.skew, components.dof)
    return np.sum(_joint_weight(components, regime_probability) * inner, axis=(-2, -1))


def mixture_quantile(
    components: Components, regime_probability: NumpyArray, probability: NumpyArray
) -> NumpyArray:
    """Inverse of `mixture_cdf`, by Newton steps inside a bisection bracket.

    The bracket is exact: a quantile of a mixture lies between those of its components.

    Args:
      components: the mixture in each regime.
      regime_probability: [T, S] probability of each regime, one row a law.
      probability: [P] levels in (0, 1).

    Returns:
      [T, P] quantiles, in units of sigma.
    """
    inner = skewed_t_quantile(probability[:, None, None], components.skew, components.dof)
    inner = components.location + components.scale * inner
    shape = (len(regime_probability), len(probability))
    low = np.broadcast_to(inner.min(axis=(-2, -1)), shape)
    high = np.broadcast_to(inner.max(axis=(-2, -1)), shape)
    x = 0.5 * (low + high)
    is_done = np.zeros(shape, bool)  # what is solved stays, whatever is solved beside it
    for _ in range(numerics.MAX_BISECTIONS):
        excess = mixture_cdf(components, regime_probability, x) - probability
        low, high = np.where(excess < 0.0, x, low), np.where(excess < 0.0, high, x)
        newton = x - excess * np.exp(-mixture_log_pdf(components, regime_probability, x))
        is_inside = (newton > low) & (newton < high)
        previous, x = x, np.where(is_done, x, np.where(is_inside, newton, 0.5 * (low + high)))
        is_done |= np.abs(x - previous) <= numerics.QUANTILE_RELATIVE_ERROR * np.abs(x)
        if is_done.all():
            break
    return x


def _standardise(components: Components, x: NumpyArray) -> NumpyArray:
    """Returns [T, P, S, 2]: `x` seen from each component."""
    return (x[..., None, None] - components.location) / components.scale


def _joint_weight(components: Components, regime_probability: NumpyArray) -> NumpyArray:
    """Returns [T, 1, S, 2]: probability of regime and component together."""
    return regime_probability[:, None, :, None] * components.weight


def _joint_log_pdf(
    components: Components, regime_probability: NumpyArray, x: NumpyArray
) -> NumpyArray:
    """Returns [T, P, S, 2]: log of weight times density of each component."""
    with np.errstate(divide="ignore"):  # a component without weight has log weight -inf
        log_weight = np.log(_joint_weight(components, regime_probability))
    inner = skewed_t_log_pdf(_standardise(components, x), components.skew, components.dof)
    return log_weight + inner - np.log(components.scale)
