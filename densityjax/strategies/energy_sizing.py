"""How much of a position an energy leaves: curves of its z-score, and multiples by regime.

Every curve is 1 or less, does not rise with z, and is 0 while z is
unknown (NaN): a size that grew where the state is calm would bet on the detector. `energy_overlay`
is a rule for backtests: the target of another one, made smaller where energy is high.
"""

from typing import Any, NamedTuple

import chex
import jax.numpy as jnp
import numpy as np

from densityjax._typing import Array, ArrayLike
from densityjax.regimes.energy_levels import LevelRule, Regime, level

KNOTS = (0.0, 1.0, 2.0, 3.0)  # z-scores of the piecewise curve
HEIGHTS = (1.0, 0.8, 0.5, 0.1)  # its values there, and beyond them on either side
MULTIPLIERS = np.array([1.2, 1.0, 0.5, 0.1])  # calm, normal, elevated, crisis


def linear_scale(z: ArrayLike, cutoff: ArrayLike = 2.0) -> Array:
    """Returns `clip(1 - z / cutoff, 0, 1)`, the usual curve.

    Args:
      z: [...] z-scores of energy against strictly earlier ones; NaN gives 0.
      cutoff: [...] positive z from which on nothing is left.

    Returns:
      [...] share of a position, in [0, 1].
    """
    scale = jnp.clip(1.0 - jnp.asarray(z, float) / cutoff, 0.0, 1.0)
    return jnp.where(jnp.isnan(scale), 0.0, scale)


def piecewise_scale(z: ArrayLike) -> Array:
    """Returns the curve through (0, 1), (1, .8), (2, .5), (3, .1), flat outside; continuous.

    Args:
      z: [...] z-scores; NaN gives 0.

    Returns:
      [...] share of a position, in [.1, 1]: with this one a crisis keeps a tenth.
    """
    z = jnp.asarray(z, float)
    scale = jnp.interp(z, jnp.array(KNOTS), jnp.array(HEIGHTS))
    return jnp.where(jnp.isnan(z), 0.0, scale)


def regime_scale(regime: ArrayLike, multipliers: ArrayLike = MULTIPLIERS) -> Array:
    """Returns the multiple of a position that a regime allows; cap the position afterwards.

    Args:
      regime: [...] `Regime` numbers; unknown gives 0.
      multipliers: [4] multiples in calm, normal, elevated and crisis.

    Returns:
      [...] multiples.
    """
    regime, multiples = jnp.asarray(regime), jnp.asarray(multipliers, float)
    chex.assert_shape(multiples, (4,))
    # Compared and added up: a gather is slow on the vector axis of a grid.
    return jnp.asarray(sum((regime == int(r)) * multiples[int(r)] for r in list(Regime)[1:]))


def regime_position(
    weight: ArrayLike,
    regime: ArrayLike,
    *,
    multipliers: ArrayLike = MULTIPLIERS,
    max_position: ArrayLike = 1.0,
) -> Array:
    """Multiplies a position by its regime's multiple, and then caps it.

    Args:
      weight: [...] signed position, as a multiple of equity.
      regime: [...] `Regime` numbers.
      multipliers: [4] as in `regime_scale`.
      max_position: [...] largest size, as a multiple of equity.

    Returns:
      [...] signed position; the multiple of a calm regime never lifts it above the cap.
    """
    limit = jnp.asarray(max_position, float)
    return jnp.clip(jnp.asarray(weight) * regime_scale(regime, multipliers), -limit, limit)


class OverlaySignals(NamedTuple):
    """What the overlay reads at the close of each bar.

    Attributes:
      weight: [T] target of the base rule, as a multiple of equity.
      energy_z: [T] z of the bar's energy against strictly earlier ones. Hand in a warm-up for bars
        at which it is NaN.
    """

    weight: ArrayLike
    energy_z: ArrayLike


class OverlayParams(NamedTuple):
    """Parameters of `energy_overlay`, scalars; each becomes an axis in a grid.

    Attributes:
      cutoff_z: z at which the linear curve leaves nothing.
      exit_z: z above which the target is 0 whatever the curve; at most 3 for the piecewise one to
        be of use.
      curve: 0 for the linear curve, 1 for the piecewise one, 2 for multiples by regime, 3 for none.
      exposure: multiple of the result, such as brings its mean size to that of the base.
      max_weight: largest size, as a multiple of equity.
    """

    cutoff_z: ArrayLike = 2.0
    exit_z: ArrayLike = 3.0
    curve: ArrayLike = 0
    exposure: ArrayLike = 1.0
    max_weight: ArrayLike = 1.0


def energy_overlay(
    params: OverlayParams, signal_t: OverlaySignals, state: Any
) -> tuple[Array, Any]:
    """Scales the target of a base rule by how ordinary the bar's state is.

    Args:
      params: `OverlayParams`.
      signal_t: one row of `OverlaySignals`.
      state: anything; handed on. All that the past adds is in z.

    Returns:
      The weight, on the side of the base rule, and the state.
    """
    z = jnp.asarray(signal_t.energy_z, float)
    curve = jnp.asarray(params.curve)
    scale = jnp.select(
        [curve == 0, curve == 1, curve == 2],
        [
            linear_scale(z, params.cutoff_z),
            piecewise_scale(z),
            regime_scale(level(LevelRule(), z)),
        ],
        jnp.ones(()),
    )
    scale = jnp.where((z > params.exit_z) & (curve != 3), 0.0, scale)
    limit = jnp.asarray(params.max_weight, float)
    weight = jnp.asarray(signal_t.weight) * scale * params.exposure
    # A NaN is above no cut: without this line it would pass for "no trade".
    return jnp.clip(weight, -limit, limit) + 0.0 * z, state
