"""Score matching of energies: the losses of `score_matching` at the score `-grad E`.

The minus sign is made here and nowhere else. Matching +grad E to the score of the data fits -E: on
normal data a curvature of -.99 in place of .99, every anomaly taken for the most ordinary row.
"""

from collections.abc import Callable

import jax

from densityjax._typing import Array, ArrayLike, ScoreFn
from densityjax.losses import score_matching

EnergyFn = Callable[[Array], Array]  # [D] -> [] nats
NoisyEnergyFn = Callable[[Array, Array], Array]  # (y [D], sigma []) -> [] nats


def energy_score(energy_fn: EnergyFn) -> ScoreFn:
    """Returns the score of an energy, x [D] to `-grad E`, [D] per unit of x."""
    gradient = jax.grad(energy_fn)
    return lambda x: -gradient(x)


def _noisy_score(energy_fn: NoisyEnergyFn) -> Callable[[Array, Array], Array]:
    gradient = jax.grad(energy_fn)
    return lambda y, sigma: -gradient(y, sigma)


def energy_denoising_score_matching(
    energy_fn: EnergyFn,
    x: Array,
    noise: Array,
    sigma: ArrayLike,
    *,
    weight: ArrayLike | None = None,
    control_variate: bool = False,
) -> Array:
    """As `denoising_score_matching` at one noise level; the minimiser is the energy of p_sigma.

    On N(0, v I) and E = k |x|^2 / 2 the minimum is k = 1 / (v + sigma^2), not 1 / v. A mode
    farther from the others than the noise reaches gets a constant of its own.

    Args:
      energy_fn: energy with parameters bound, [D] to [] nats.
      x: [D] one example.
      noise: [D] unit noise eps, N(0, I).
      sigma: [] noise level, in units of x, positive.
      weight: [] factor, in squared units of x; None for sigma^2.
      control_variate: as in `denoising_score_matching`.

    Returns:
      [] the loss, no unit.

    References:
      Vincent, A Connection Between Score Matching and Denoising Autoencoders, 2011, eq. 11.
    """
    score_fn = energy_score(energy_fn)
    return score_matching.denoising_score_matching(
        lambda y, sigma: score_fn(y),
        x,
        noise,
        sigma,
        weight=weight,
        control_variate=control_variate,
    )


def energy_denoising_per_level(
    energy_fn: NoisyEnergyFn, x: Array, noise: Array, sigmas: Array
) -> tuple[Array, Array]:
    """As `denoising_per_level`, of an energy that reads the noise level.

    Args:
      energy_fn: energy of the noisy law, (y [D], sigma []) to [] nats.
      x: [D] one example.
      noise: [L, D] unit noise of each level.
      sigmas: [L] noise levels, in units of x.

    Returns:
      loss: [] mean over levels.
      per_level: [L] loss of each level.
    """
    return score_matching.denoising_per_level(_noisy_score(energy_fn), x, noise, sigmas)


def energy_exact_score_matching(energy_fn: EnergyFn, x: Array) -> Array:
    """As `exact_score_matching`, `|grad E|^2 / 2 - laplacian E`; [] for x [D]."""
    return score_matching.exact_score_matching(energy_score(energy_fn), x)


def energy_sliced_score_matching(
    energy_fn: EnergyFn, x: Array, direction: Array, *, variance_reduced: bool = True
) -> Array:
    """As `sliced_score_matching`, the Laplacian estimated along one random direction.

    Args:
      energy_fn: energy with parameters bound, [D] to [] nats, twice differentiable.
      x: [D] one example.
      direction: [D] random direction of identity covariance: signs, or N(0, I).
      variance_reduced: as in `sliced_score_matching`.

    Returns:
      [] the loss, per squared unit of x.
    """
    return score_matching.sliced_score_matching(
        energy_score(energy_fn), x, direction, variance_reduced=variance_reduced
    )
