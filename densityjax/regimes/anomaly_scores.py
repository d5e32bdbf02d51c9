"""One anomaly score from energies at several noise levels, fixed before any label is seen.

Energies `U(x, sigma) = -log p_sigma(x)` of one row have another location and spread at each level.
Each level is standardised by mean and standard deviation of the TRAINING rows, and the levels are
combined by a rule chosen beforehand: `max` finds what is strange at any scale, `mean` what is on
the whole. To choose level, rule or epoch by the labels of the scored rows is to fit to them.
"""

from typing import NamedTuple

import chex
import jax.numpy as jnp
import numpy as np

from densityjax._typing import Array, ArrayLike, NumpyArray

SIGMAS = (0.05, 0.1, 0.2, 0.5, 1.0, 2.0)  # in standard deviations of the rows: fine to coarse
AGGREGATES = ("max", "mean")


class ScoreScale(NamedTuple):
    """Location and spread of energies of training rows at S noise levels.

    Attributes:
      mean: [S] means, nats.
      sd: [S] standard deviations (ddof 0), nats, positive.
    """

    mean: NumpyArray
    sd: NumpyArray


def fit_scale(train_energy: ArrayLike) -> ScoreScale:
    """Measures the energies of the training rows, whose labels are never asked for.

    Args:
      train_energy: [N, S] energies of N training rows at S noise levels, nats, finite.

    Returns:
      The `ScoreScale`.

    Raises:
      ValueError: if the energies are not finite [N, S], or without spread at a level.
    """
    energy = np.asarray(train_energy, np.float64)
    if energy.ndim != 2 or energy.size == 0 or not np.isfinite(energy).all():
        raise ValueError(
            f"train_energy has shape {energy.shape}: accepted are finite numbers [N, S]"
        )
    sd = energy.std(axis=0)
    if not (sd > 0.0).all():
        raise ValueError(f"train_energy has no spread at level {int(np.argmin(sd))}")
    return ScoreScale(energy.mean(axis=0), sd)


def aggregate(energy: ArrayLike, scale: ScoreScale, *, how: str = "max") -> Array:
    """Combines the energies of one row at S noise levels into one score.

    Args:
      energy: [..., S] energies at the levels of `scale`, nats.
      scale: of the training rows, see `fit_scale`.
      how: 'max' or 'mean' of the standardised energies.

    Returns:
      [...] scores in standard deviations, higher is stranger; NaN where an energy is.

    Raises:
      ValueError: if `how` is neither.

    References:
      Micorek et al., MULDE, 2024, https://arxiv.org/abs/2403.14497 (several noise levels).
    """
    if how not in AGGREGATES:
        raise ValueError(f"how is {how!r}: accepted are {AGGREGATES}")
    energy = jnp.asarray(energy)
    chex.assert_equal_shape_suffix([energy, jnp.asarray(scale.mean)], 1)
    z = (energy - jnp.asarray(scale.mean)) / jnp.asarray(scale.sd)
    return jnp.max(z, axis=-1) if how == "max" else jnp.mean(z, axis=-1)
