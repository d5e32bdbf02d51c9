"""Block Gibbs sampling of two layers: all hidden units given the visible ones, and back.

    h ~ p(h | v),   v' ~ p(v | h)

Both conditionals are handed in, so that one step serves every machine whose layers are independent
inside: restricted Boltzmann machines with binary or real visible units. The visible units are drawn
and not replaced by their means, for means are no sample of the law. A machine with weight W = 0 is
left at equilibrium by one step. Geman and Geman, Stochastic relaxation, Gibbs distributions, and
the Bayesian restoration of images, 1984.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from densityjax._typing import Array, Key
from densityjax.samplers._checks import check_count, check_rank

ConditionalFn = Callable[[Key, Array], Array]  # (key, one layer) -> a draw of the other layer


class GibbsState(NamedTuple):
    """What the next step needs.

    Attributes:
      position: [D] visible units.
      hidden: [H] hidden units that the visible ones were drawn from; the next step draws new ones.
    """

    position: Array
    hidden: Array


class GibbsInfo(NamedTuple):
    """What a person looks at; never fed back.

    Attributes:
      is_finite: [] False where the draw was not finite: the chain stayed where it was.
      hidden_rate: [] share of hidden units that are on.
      hidden_flips: [] share of hidden units that changed: near 0 the chain is stuck in a mode.
    """

    is_finite: Array
    hidden_rate: Array
    hidden_flips: Array


def init(position: Array, num_hidden: int) -> GibbsState:
    """Builds the state at the visible units `position`, [D], with all hidden units off."""
    check_rank(1, position=position)
    check_count(num_hidden=num_hidden)
    return GibbsState(position, jnp.zeros(num_hidden, position.dtype))


def step(
    key: Key,
    state: GibbsState,
    sample_hidden_fn: ConditionalFn,
    sample_visible_fn: ConditionalFn,
) -> tuple[GibbsState, GibbsInfo]:
    """Draws the hidden units, then the visible ones.

    Args:
      key: random key, typed.
      state: the state of `init` or of the step before.
      sample_hidden_fn: (key, visible [D]) -> [H], a draw of p(h | v).
      sample_visible_fn: (key, hidden [H]) -> [D], a draw of p(v | h).

    Returns:
      The new `GibbsState` and the `GibbsInfo`.
    """
    hidden_key, visible_key = jax.random.split(key)
    hidden = sample_hidden_fn(hidden_key, state.position)
    position = sample_visible_fn(visible_key, hidden)
    is_finite = jnp.all(jnp.isfinite(position)) & jnp.all(jnp.isfinite(hidden))
    drawn = GibbsState(position, hidden)
    chosen = jax.tree.map(lambda new, old: jnp.where(is_finite, new, old), drawn, state)
    flips = jnp.mean(jnp.abs(chosen.hidden - state.hidden))
    return chosen, GibbsInfo(is_finite, jnp.mean(chosen.hidden), flips)
