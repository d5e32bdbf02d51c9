"""Equal mixtures of the members of an ensemble, whose parameters have a leading axis of M."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax.scipy.special import logsumexp

from densityjax._typing import Array, Key, Params


def log_prob(log_prob_fn: Callable[..., Array], members: Params, x: Array) -> Array:
    """Returns `log mean_m p_m(x)`, [], for one example.

    Args:
      log_prob_fn: (params of one member, x) -> [] log density, in nats.
      members: pytree with a leading axis of M on every leaf.
      x: one example, as `log_prob_fn` takes it.

    Returns:
      [] log density of the mixture, in nats.
    """
    each = jax.vmap(log_prob_fn, (0, None))(members, x)
    return logsumexp(each) - jnp.log(each.shape[0])


def pick_member(key: Key, members: Params) -> Params:
    """Returns the parameters of one member drawn at random."""
    num_members = jax.tree.leaves(members)[0].shape[0]
    member = jax.random.randint(key, (), 0, num_members)
    return jax.tree.map(lambda leaf: leaf[member], members)
