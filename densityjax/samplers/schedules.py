"""Noise levels and step sizes of samplers that go through noise.

Levels sigma_1 > ... > sigma_L are standard deviations of the noise, in units of x. Step sizes are
those of `langevin`, in squared units. All are made on the host, once.
"""

import math
from typing import Any

import jax.numpy as jnp
import numpy as np
from scipy import optimize
from scipy.special import ndtr

from densityjax._typing import Array, ArrayLike
from densityjax.samplers._checks import check_count, check_levels, check_positive


def _check_range(sigma_min: float, sigma_max: float, num_levels: int, least: int) -> None:
    check_positive(sigma_min=sigma_min, sigma_max=sigma_max)
    check_count(least, num_levels=num_levels)
    if sigma_min >= sigma_max:
        raise ValueError(f"sigma_min must be below sigma_max={sigma_max}, got {sigma_min}")


def geometric_levels(*, sigma_min: float, sigma_max: float, num_levels: int) -> Array:
    """Returns [L] noise levels from `sigma_max` down to `sigma_min`, in a geometric sequence.

    Args:
      sigma_min: last level, units of x; well below the sd of the tightest direction.
      sigma_max: first level, units of x; 10 to 20 sd of the data, to travel between modes.
      num_levels: L, >= 2.

    Returns:
      [L] levels, strictly decreasing.

    Raises:
      ValueError: if the range is empty or a number is not accepted.
    """
    _check_range(sigma_min, sigma_max, num_levels, 2)
    return jnp.asarray(np.geomspace(sigma_max, sigma_min, num_levels))


def edm_levels(*, sigma_min: float, sigma_max: float, num_levels: int, rho: float = 7.0) -> Array:
    """Returns [L] noise levels evenly spaced in `sigma^(1 / rho)`, close where noise is small.

    Args:
      sigma_min: last level, units of x.
      sigma_max: first level, units of x.
      num_levels: L, nodes of the integration, >= 2; L - 1 intervals.
      rho: power, positive; 7 evens out the errors of Heun's method.

    Returns:
      [L] levels, strictly decreasing.

    Raises:
      ValueError: if the range is empty or a number is not accepted.

    References:
      Karras et al., Elucidating the design space of diffusion-based generative models, 2022,
      https://arxiv.org/abs/2206.00364, eq. 5.
    """
    _check_range(sigma_min, sigma_max, num_levels, 2)
    check_positive(rho=rho)
    roots = np.linspace(sigma_max ** (1.0 / rho), sigma_min ** (1.0 / rho), num_levels)
    return jnp.asarray(roots**rho)


def overlap_ratio(dim: int, *, overlap: float = 0.5) -> float:
    """Returns the ratio of neighbouring levels at which their shells overlap by `overlap`.

    Solves `Phi(sqrt(2 D) (g - 1) + 3 g) - Phi(sqrt(2 D) (g - 1) - 3 g) = overlap`. In a few
    dimensions shells overlap at any ratio: a ratio of at most 1.6 and 20 levels or more are sound.

    Args:
      dim: D, dimension of x, >= 1.
      overlap: wanted overlap, in (0, 1).

    Returns:
      g = sigma_{i-1} / sigma_i, above 1.

    Raises:
      ValueError: if an argument is not accepted or no ratio has so little overlap.

    References:
      Song and Ermon, Improved techniques for training score-based generative models, 2020,
      https://arxiv.org/abs/2006.09011, technique 2.
    """
    check_count(dim=dim)
    if not 0.0 < overlap < 1.0:
        raise ValueError(f"overlap must be in (0, 1), got {overlap}")
    root = math.sqrt(2.0 * dim)

    def excess(ratio: float) -> float:
        centre = root * (ratio - 1.0)
        return float(ndtr(centre + 3.0 * ratio) - ndtr(centre - 3.0 * ratio)) - overlap

    most = 2.0
    while excess(most) > 0.0:
        most *= 2.0
        if math.isinf(most * most):
            raise ValueError(f"no ratio of levels overlaps by {overlap} only at dim={dim}")
    return float(optimize.root_scalar(excess, bracket=(1.0, most)).root)


def ncsnv2_share(
    *, sigma_min: float, sigma_max: float, num_levels: int, num_steps_per_level: int
) -> float:
    """Solves the NCSNv2 rule for the share e of the step sizes `e sigma_i^2`.

    On data without any spread, T steps at a level take the variance, in units of sigma_i^2, from
    g^2 to `(1 - e)^(2 T) (g^2 - c) + c`, `c = 2 e / (1 - (1 - e)^2)`; e brings it nearest to 1.
    The paper's epsilon is `e sigma_min^2`. Where the data has spread, `smooth_steps` is the rule.

    Args:
      sigma_min: last level, units of x.
      sigma_max: first level, units of x.
      num_levels: L of a geometric sequence, >= 2.
      num_steps_per_level: T, Langevin steps at each level, >= 1.

    Returns:
      e, in (0, 1), no unit.

    Raises:
      ValueError: if the range is empty or a number is not accepted.

    References:
      Song and Ermon, 2020, https://arxiv.org/abs/2006.09011, technique 4 and proposition 3.
    """
    _check_range(sigma_min, sigma_max, num_levels, 2)
    check_count(num_steps_per_level=num_steps_per_level)
    square_ratio = (sigma_max / sigma_min) ** (2.0 / (num_levels - 1))

    def miss(log_share: float) -> float:
        kept = (1.0 - math.exp(log_share)) ** 2
        fixed = 2.0 * math.exp(log_share) / (1.0 - kept)
        return kept**num_steps_per_level * (square_ratio - fixed) + fixed - 1.0

    # The variance stays above 1 at any e: what is left of the start falls with e, while c rises.
    grid = np.linspace(-20.0, -0.01, 2_001)  # log e
    best = grid[int(np.argmin([miss(log_share) for log_share in grid]))]
    width = grid[1] - grid[0]
    found: Any = optimize.minimize_scalar(
        miss, bounds=(best - width, best + width), method="bounded"
    )
    return math.exp(float(found.x))


def proportional_steps(sigmas: ArrayLike, *, share: float) -> Array:
    """Returns [L] step sizes `share sigma_i^2`, the rule for data without any spread of its own.

    On data with spread the chain freezes once sigma_i^2 is far below its variance: with ten levels
    from 1 to .01, 100 steps each and a share of .01, N(0, 1) comes out with a variance of 1.39.

    Args:
      sigmas: [L] noise levels, decreasing, units of x.
      share: e, no unit; `ncsnv2_share` solves for it.

    Returns:
      [L] step sizes, squared units of x.

    Raises:
      ValueError: if levels are not decreasing or the share not positive.
    """
    levels = jnp.asarray(sigmas)
    check_levels(levels)
    check_positive(share=share)
    return share * levels**2


def smooth_steps(sigmas: ArrayLike, *, share: float = 0.03, smallest_variance: float) -> Array:
    """Returns [L] step sizes `share (smallest_variance + sigma_i^2)`, for data with spread.

    Each step mixes the tightest direction by the same share at every level, so that the chain does
    not freeze; the variance of that direction comes out too large by about share / 2. A share of
    .03 keeps it within 2 percent where the levels are enough.

    Args:
      sigmas: [L] noise levels, decreasing, units of x.
      share: e, no unit.
      smallest_variance: smallest eigenvalue of the data's covariance, or less, squared units of x.

    Returns:
      [L] step sizes, squared units of x.

    Raises:
      ValueError: if levels are not decreasing or a number not positive.
    """
    levels = jnp.asarray(sigmas)
    check_levels(levels)
    check_positive(share=share, smallest_variance=smallest_variance)
    return share * (smallest_variance + levels**2)
