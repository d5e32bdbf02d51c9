"""What a score says about the next return: its value at zero, its rank, its scale, its settings.

The signal of bar t is `s_t = d/dr log p(r | x_t)` at `r = 0`, r the log return to the next close
and x_t all that is known at the close of t. It is never the score of the current state, which says
where states like this one are common, and nothing of what comes next.

Sign: if `p` is symmetric about m and falls away from it, log p(r) = g(|r - m|) with g decreasing,
and s = -sign(m) g'(|m|) has the sign of m. Of a skewed law it points to the mode, which need not
be on the side of the mean. Size: `log p(d) - log p(-d) = 2 d s + O(d^3)`, so in units of 1 / sd
twice the score times d is the log odds of a rise by d sd, d small, against a fall as large; of a
normal law the score is its mean over its sd.
"""

from typing import NamedTuple

import chex
import jax.numpy as jnp

from densityjax._typing import Array, ArrayLike, ScoreFn
from densityjax.samplers import denoise


class ScoreSettings(NamedTuple):
    """The usual constants of a score strategy, in one place; see `ScoreRule` for the trading ones.

    Attributes:
      num_levels: noise levels of the fit, geometric between the two below.
      sigma_min: smallest noise level, in standard deviations of the data.
      sigma_max: largest noise level asked for; densities and samples need one as large as the
        largest distance within the data.
      learning_rate: peak rate of AdamW.
      width: hidden width of the network.
      num_layers: residual blocks of the network.
      min_confidence: as in `ScoreRule`.
      lookback: as in `ScoreRule`.
      num_denoise_steps: steps of `denoised_state`; 0 for Tweedie's formula.
    """

    num_levels: int = 10
    sigma_min: float = 0.01
    sigma_max: float = 1.0
    learning_rate: float = 1e-3  # the common rate of AdamW
    width: int = 128
    num_layers: int = 4
    min_confidence: float = 0.3
    lookback: int = 20
    num_denoise_steps: int = 0


def return_score(score_fn: ScoreFn, reference: ArrayLike = 0.0) -> Array:
    """Reads the signal off the conditional law of the next return.

    Args:
      score_fn: score of the next return, [1] to [1], with the context x_t bound.
      reference: [] return at which it is read, in the unit of `score_fn`: 0, or a cost to beat.

    Returns:
      [] `d/dr log p(r | x_t)` there, per unit of return.
    """
    return score_fn(jnp.reshape(jnp.asarray(reference, float), (1,)))[0]


def confidence(score: ArrayLike, validation_scores: ArrayLike) -> Array:
    """Returns the share of validation rows whose score is smaller in size.

    It is a rank among rows fixed beforehand, so no other row of a batch changes it.

    Args:
      score: [...] scores of the next return; NaN gives NaN.
      validation_scores: [V] scores on held-out rows, in the same unit, any order and sign.

    Returns:
      [...] in [0, 1].

    Raises:
      ValueError: if `validation_scores` has no rows.
    """
    size, known = jnp.abs(jnp.asarray(score)), jnp.sort(jnp.abs(jnp.asarray(validation_scores)))
    chex.assert_rank(known, 1)
    if known.shape[0] == 0:
        raise ValueError("validation_scores has 0 rows: accepted is at least 1")
    share = jnp.searchsorted(known, size, side="left") / known.shape[0]
    return jnp.where(jnp.isnan(size) | jnp.isnan(known[-1]), jnp.nan, share)


def should_trade(confidence: ArrayLike, threshold: ArrayLike) -> Array:
    """Returns whether a confidence is at or above the threshold, [...]; NaN is not."""
    return jnp.asarray(confidence) >= jnp.asarray(threshold)


def variance_scale(
    variance: ArrayLike, reference_variance: ArrayLike, max_scale: ArrayLike = 1.0
) -> Array:
    """Scales by the inverse variance of the score: `min(max_scale, reference / variance)`.

    Args:
      variance: [...] variance of the score; 0 gives `max_scale`.
      reference_variance: [...] variance of scale 1, in the same unit.
      max_scale: [...] largest scale.

    Returns:
      [...] scale; below its maximum, twice the variance is half the scale.
    """
    variance = jnp.asarray(variance, float)
    is_positive = variance > 0.0
    ratio = reference_variance / jnp.where(is_positive, variance, 1.0)
    scale = jnp.where(is_positive, jnp.minimum(ratio, max_scale), max_scale)
    return jnp.where(jnp.isnan(variance), jnp.nan, scale)


def denoised_state(
    score_fn: denoise.NoisedScoreFn, x: Array, sigma: ArrayLike, *, num_steps: int = 0
) -> Array:
    """Returns the state without its noise, for display: there is no time in it, so no forecast.

    Args:
      score_fn: (x [D], sigma []) to [D], score of the noised law of STATES.
      x: [D] state.
      sigma: [] standard deviation of the noise that it is taken to carry, in units of x.
      num_steps: 0 for Tweedie's formula, the posterior mean; else so many small steps of ascent,
        20 of which go 18 percent of the way.

    Returns:
      [D] state.
    """
    if num_steps == 0:
        return denoise.tweedie(score_fn, x, sigma)
    return denoise.ascend(score_fn, x, sigma, num_steps=num_steps)
