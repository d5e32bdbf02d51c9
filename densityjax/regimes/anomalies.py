"""How strange a value is: conformal p-values and density thresholds with a stated alarm rate.

A score is higher for stranger values, `-log p(x)` for a density. Only ranks among held-out scores
are read, so a change of units, of dimension or of any increasing transform leaves every decision
as it was. The calibration scores must come from rows that neither fitted the model nor are
tested. Markets drift: under drift the p-values are not uniform, and `rejection_rate` shows it.
"""

import chex
import jax.numpy as jnp

from densityjax._typing import Array, ArrayLike


def conformal_p_value(
    scores: ArrayLike, calibration_scores: ArrayLike, *, uniform: ArrayLike | None = None
) -> Array:
    """Returns the conformal p-value of scores, small where the value is strange.

    `(1 + #{calibration >= s}) / (n + 1)`, one-sided; at most a share a of exchangeable values has
    a p-value of at most a. With `uniform` the ties, the value itself among them, are broken at
    random, `(#{> s} + u (1 + #{= s})) / (n + 1)`, and the p-value is exactly uniform.

    Args:
      scores: [...] scores, higher is stranger; NaN gives NaN.
      calibration_scores: [n] scores of held-out rows; a NaN among them gives NaN everywhere.
      uniform: [...] independent draws in (0, 1], as many as scores, or None.

    Returns:
      [...] p-values in (0, 1].

    References:
      Vovk, Gammerman and Shafer, Algorithmic Learning in a Random World, 2005, section 2.2.
    """
    scores, calibration = jnp.asarray(scores), jnp.asarray(calibration_scores)
    chex.assert_rank(calibration, 1)
    count = calibration.shape[0]
    ordered = jnp.sort(calibration)
    at_least = count - jnp.searchsorted(ordered, scores, side="left")
    if uniform is None:
        p_value = (1.0 + at_least) / (count + 1.0)
    else:
        uniform = jnp.asarray(uniform)
        chex.assert_equal_shape([scores, uniform])
        above = count - jnp.searchsorted(ordered, scores, side="right")
        p_value = (above + uniform * (1.0 + at_least - above)) / (count + 1.0)
    is_known = ~(jnp.isnan(scores) | jnp.isnan(ordered[-1]))  # sorting puts NaN last
    return jnp.where(is_known, p_value, jnp.nan)


def density_threshold(validation_log_prob: ArrayLike, false_alarm_rate: ArrayLike) -> Array:
    """Returns the log density under which a share `false_alarm_rate` of ordinary rows falls.

    The rank is that of a conformal p-value, `floor((n + 1) a)`: a new exchangeable row is below
    the threshold with probability at most a. With fewer than `1 / a - 1` rows no threshold can
    promise that, and the threshold is minus infinity: nothing is rejected.

    Args:
      validation_log_prob: [n] log densities of held-out rows, in nats; NaN gives NaN.
      false_alarm_rate: [] share a in (0, 1) of ordinary rows that may be rejected, .01 or .05.

    Returns:
      [] threshold in nats, of the units of the rows.
    """
    log_prob = jnp.asarray(validation_log_prob)
    chex.assert_rank([log_prob, jnp.asarray(false_alarm_rate)], [1, 0])
    ordered = jnp.sort(log_prob)
    rank = jnp.floor((log_prob.shape[0] + 1) * jnp.asarray(false_alarm_rate)).astype(int)
    # Rows strictly below the threshold must be at most `rank` of n + 1, the new one included.
    threshold = jnp.where(rank > 0, ordered[jnp.maximum(rank - 1, 0)], -jnp.inf)
    return jnp.where(jnp.isnan(ordered[-1]), jnp.nan, threshold)


def is_in_distribution(log_prob: ArrayLike, threshold: ArrayLike) -> Array:
    """Returns whether a log density is at or above the threshold, [...]; NaN is not."""
    return jnp.asarray(log_prob) >= jnp.asarray(threshold)


def rejection_rate(log_prob: ArrayLike, threshold: ArrayLike) -> Array:
    """Returns the realised share of rows below the threshold: report it beside the nominal one.

    Args:
      log_prob: [N] log densities of rows that set neither model nor threshold, in nats.
      threshold: [] as `density_threshold`.

    Returns:
      [] share in [0, 1], NaN where a log density is NaN: a broken model is not a cautious one.
    """
    log_prob = jnp.asarray(log_prob)
    chex.assert_rank([log_prob, jnp.asarray(threshold)], [1, 0])
    rejected = ~is_in_distribution(log_prob, threshold)
    return jnp.where(jnp.any(jnp.isnan(log_prob)), jnp.nan, jnp.mean(rejected))
