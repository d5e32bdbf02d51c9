"""Sizes of positions: volatility targets, and caps on single, gross and net exposure.

Weights are signed fractions of equity. Sizes by tail risk are in `rules.tail_risk_size`.
"""

from collections.abc import Callable

import jax.numpy as jnp

from densityjax._typing import Array, ArrayLike


def volatility_size(
    return_std: ArrayLike, target_volatility: ArrayLike, max_weight: ArrayLike = 1.0
) -> Array:
    """Returns `min(max_weight, target_volatility / return_std)`: a constant risk per bar.

    Args:
      return_std: [...] conditional standard deviation of the next return, a positive fraction; zero
        gives the cap, NaN gives NaN.
      target_volatility: [...] wanted standard deviation of the account's return PER BAR, a
        fraction; see `volatility_per_bar`.
      max_weight: [...] largest size, in equity.

    Returns:
      [...] size without sign, in equity.

    References:
      Moreira and Muir, Volatility-Managed Portfolios, 2017, https://doi.org/10.1111/jofi.12513.
    """
    return jnp.minimum(max_weight, target_volatility / jnp.asarray(return_std))


def volatility_per_bar(annual_volatility: ArrayLike, periods_per_year: ArrayLike) -> Array:
    """Returns the standard deviation per bar of an annual one, by the square root of time."""
    return jnp.asarray(annual_volatility) / jnp.sqrt(periods_per_year)


def limit_weights(
    weights: ArrayLike,
    *,
    max_weight: ArrayLike | None = None,
    max_gross: ArrayLike | None = None,
    max_net: ArrayLike | None = None,
    total: Callable[[Array], Array] = lambda money: jnp.sum(money, -1, keepdims=True),
) -> Array:
    """Brings weights into their caps: each is clipped, then all shrink by one factor.

    Args:
      weights: [..., A] weights of A assets, in equity; NaN stays NaN.
      max_weight: largest absolute weight of one asset, in equity; a scalar, [A], or None for no
        cap.
      max_gross: largest sum of absolute weights, in equity; None is no cap.
      max_net: largest absolute sum of weights, in equity; None is no cap.
      total: sum over the assets that keeps an axis.

    Returns:
      [..., A] weights within all caps, of unchanged signs; the factor keeps their proportions.
    """
    weights = jnp.asarray(weights)
    if max_weight is not None:
        weights = jnp.clip(weights, -jnp.asarray(max_weight), max_weight)
    for cap, measure in ((max_gross, jnp.abs), (max_net, jnp.positive)):
        if cap is not None:
            exposure = jnp.abs(total(measure(weights)))
            is_beyond = exposure > cap  # a NaN is above no cap: it is handed on as it is
            weights = weights * jnp.where(is_beyond, cap / jnp.where(is_beyond, exposure, 1.0), 1.0)
    return weights
