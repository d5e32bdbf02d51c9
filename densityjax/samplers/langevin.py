"""Unadjusted Langevin dynamics, with the temperature an argument of its own.

    x <- x + a s(x) + sqrt(2 a T) z,   z ~ N(0, I)

with score s = grad log p and step size a > 0, in squared units of x. The chain samples p^(1/T) as
a goes to zero; papers that write x + (alpha / 2) s + sqrt(alpha) z have alpha = 2 a. For an
energy, the score is `lambda x: -jax.grad(energy)(x)`.

On N(0, v) and T = 1 the stationary variance is v / (1 - a / (2 v)), and the chain diverges for
a >= 2 v. `mala` removes that bias.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from densityjax._typing import Array, ArrayLike, Key, ScoreFn
from densityjax.samplers._checks import check_not_negative, check_positive


class LangevinState(NamedTuple):
    """What the next step needs.

    Attributes:
      position: [D] point of the chain.
      score: [D] score at the position, carried so that no step repeats it.
    """

    position: Array
    score: Array


class LangevinInfo(NamedTuple):
    """What a person looks at; never fed back.

    Attributes:
      is_finite: [] False where the proposal or its score was not finite: the step was refused.
      score_norm: [] Euclidean norm of the score that moved the chain, before clipping.
      is_clipped: [] whether that score was scaled down.
    """

    is_finite: Array
    score_norm: Array
    is_clipped: Array


def init(position: Array, score_fn: ScoreFn) -> LangevinState:
    """Builds the state at `position`, [D]; `score_fn` has parameters and context bound."""
    return LangevinState(position, score_fn(position))


def step(
    key: Key,
    state: LangevinState,
    score_fn: ScoreFn,
    step_size: ArrayLike,
    *,
    temperature: ArrayLike = 1.0,
    max_score_norm: ArrayLike | None = None,
) -> tuple[LangevinState, LangevinInfo]:
    """Takes one step; one evaluation of the score. A proposal that is not finite is refused.

    Args:
      key: random key, typed.
      state: the state of `init` or of the step before.
      score_fn: score of one example, [D] to [D].
      step_size: a, squared units of x; or one for each coordinate, [D].
      temperature: T, >= 0, no unit: 1 samples p, 0 climbs to a mode.
      max_score_norm: a longer score is scaled down to this norm, in 1 / unit of x. The chain then
        samples another law wherever it acts, and `is_clipped` says where; None for no limit.

    Returns:
      The new `LangevinState` and the `LangevinInfo`.

    Raises:
      ValueError: if a setting is not positive, or the temperature negative.

    References:
      Roberts and Tweedie, Exponential convergence of Langevin distributions and their discrete
      approximations, 1996.
    """
    check_positive(step_size=step_size)
    check_not_negative(temperature=temperature)
    score_norm = jnp.sqrt(jnp.sum(state.score**2))
    score, is_clipped = state.score, jnp.zeros((), bool)
    if max_score_norm is not None:
        check_positive(max_score_norm=max_score_norm)
        is_clipped = score_norm > max_score_norm
        score = jnp.where(is_clipped, max_score_norm / score_norm, 1.0) * score
    noise = jax.random.normal(key, state.position.shape, state.position.dtype)
    spread = jnp.sqrt(2.0 * step_size * temperature)
    proposal = init(state.position + step_size * score + spread * noise, score_fn)
    is_finite = jnp.all(jnp.isfinite(proposal.position)) & jnp.all(jnp.isfinite(proposal.score))
    kept = jax.tree.map(lambda new, old: jnp.where(is_finite, new, old), proposal, state)
    return kept, LangevinInfo(is_finite, score_norm, is_clipped)
