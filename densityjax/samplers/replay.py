"""A replay buffer: chains that go on from step to step of a fit.

Persistent contrastive divergence moves chains only a little for each step of the parameters, which
change little too. The buffer is a pytree of arrays, carried by the fit and checkpointed with it:
a fit that goes on from a checkpoint draws the very same chains.
"""

from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp

from densityjax._typing import Array, ArrayLike, Key
from densityjax.samplers._checks import check_rank, known_value


class ReplayBuffer(NamedTuple):
    """M chains between two uses.

    Attributes:
      position: [M, D] where each chain stands.
      age: [M] times each was moved since it was begun anew.
    """

    position: Array
    age: Array


class Taken(NamedTuple):
    """Chains on loan.

    Attributes:
      position: [B, D] where they stand, or begin anew.
      age: [B] as in the buffer; zero where a chain begins anew.
      index: [B] their places in the buffer, no two alike.
    """

    position: Array
    age: Array
    index: Array


def init(position: Array) -> ReplayBuffer:
    """Builds a buffer of M chains that begin at `position`, [M, D]; ValueError for other shapes."""
    check_rank(2, position=position)
    return ReplayBuffer(position, jnp.zeros(position.shape[0], jnp.int32))


def take(
    key: Key, buffer: ReplayBuffer, fresh: Array, *, restart_probability: ArrayLike = 0.05
) -> Taken:
    """Draws B chains without replacement; some begin anew, so that none is stuck for good.

    Args:
      key: random key, typed.
      buffer: the `ReplayBuffer` of M >= B chains.
      fresh: [B, D] where a chain that begins anew begins: draws of a base or of the data.
      restart_probability: of each chain to begin anew, in [0, 1].

    Returns:
      The chains `Taken`.

    Raises:
      ValueError: if B is above M, or the probability is not in [0, 1].

    References:
      Tieleman, 2008; Du and Mordatch, 2019, https://arxiv.org/abs/1903.08689, section 3.2, for
      the restarts.
    """
    chex.assert_rank([buffer.position, fresh], 2)
    chex.assert_equal_shape_suffix([buffer.position, fresh], 1)
    size, num = buffer.position.shape[0], fresh.shape[0]
    if num > size:
        raise ValueError(f"fresh has {num} rows: accepted are at most the {size} of the buffer")
    known = known_value(restart_probability)
    if known is not None and not 0.0 <= known <= 1.0:
        raise ValueError(f"restart_probability is {restart_probability}: accepted is [0, 1]")
    index_key, restart_key = jax.random.split(key)
    index = jax.random.permutation(index_key, size)[:num]
    is_new = jax.random.uniform(restart_key, (num,)) < restart_probability
    position = jnp.where(is_new[:, None], fresh, buffer.position[index])
    return Taken(position, jnp.where(is_new, 0, buffer.age[index]), index)


def put_back(buffer: ReplayBuffer, taken: Taken, position: Array) -> ReplayBuffer:
    """Writes chains back to their places.

    Args:
      buffer: the `ReplayBuffer` they were taken from.
      taken: what `take` gave.
      position: [B, D] where they stand after they were moved.

    Returns:
      The new `ReplayBuffer`; all other chains are as they were.
    """
    chex.assert_equal_shape([taken.position, position])
    return ReplayBuffer(
        buffer.position.at[taken.index].set(position), buffer.age.at[taken.index].set(taken.age + 1)
    )
