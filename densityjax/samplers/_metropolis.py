"""What samplers with an acceptance step share: noise shaped like a pytree, and the choice."""

import jax
import jax.numpy as jnp

from densityjax._typing import Array, Key, Params


def normal_like(key: Key, tree: Params) -> Params:
    """Draws standard normal noise of the structure, shapes and types of a pytree."""
    leaves, structure = jax.tree.flatten(tree)
    keys = jax.random.split(key, len(leaves))
    noise = [
        jax.random.normal(one, jnp.shape(leaf), jnp.result_type(leaf))
        for one, leaf in zip(keys, leaves, strict=True)
    ]
    return jax.tree.unflatten(structure, noise)


def square_norm(tree: Params) -> Array:
    """Sums the squares of all numbers of a pytree."""
    return sum((jnp.sum(leaf**2) for leaf in jax.tree.leaves(tree)), start=jnp.zeros(()))


def all_finite(tree: Params) -> Array:
    """Says whether every number of a pytree is finite."""
    finite = [jnp.all(jnp.isfinite(leaf)) for leaf in jax.tree.leaves(tree)]
    return jnp.all(jnp.stack(finite))


def choose(
    key: Key, log_ratio: Array, is_finite: Array, proposal: Params, state: Params
) -> tuple[Params, Array, Array]:
    """Takes the proposal with probability `min(1, exp(log_ratio))`; never one not finite.

    Args:
      key: random key, typed.
      log_ratio: [] log of the Metropolis-Hastings ratio.
      is_finite: [] whether the proposal may be taken at all.
      proposal: state to go to.
      state: state to stay in.

    Returns:
      The chosen state, the acceptance probability [] and whether it was accepted [].
    """
    may = is_finite & ~jnp.isnan(log_ratio)
    probability = jnp.where(may, jnp.exp(jnp.minimum(log_ratio, 0.0)), 0.0)
    is_accepted = jax.random.uniform(key, (), probability.dtype) < probability
    chosen = jax.tree.map(lambda new, old: jnp.where(is_accepted, new, old), proposal, state)
    return chosen, probability, is_accepted
