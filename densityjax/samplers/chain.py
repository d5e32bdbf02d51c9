"""The one driver of all samplers: a scan over `step(key, state) -> (state, info)`.

Bind a sampler's step first, with `functools.partial`: the driver knows no target and no setting.
`State` is what the next step needs, `Info` what a person looks at. Step t of a chain uses the key
`fold_in(key, t)`: a longer chain begins with the shorter one, and a thinned chain keeps samples of
the whole one. One chain per call; `jax.vmap` over keys and states for many.

Parameters of a learned score belong among the arguments of the jitted function, so that new
values find the compiled program again:

    @jax.jit
    def sample(key, params, state):
        score_fn = functools.partial(network.apply, params)
        step = functools.partial(langevin.step, score_fn=score_fn, step_size=0.1)
        return chain.run(key, state, step, num_samples=100)
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from densityjax._typing import Array, ArrayLike, Key
from densityjax.samplers._checks import check_count

StepFn = Callable[[Key, Any], tuple[Any, Any]]  # (key, state) -> (state, info)


class Chain(NamedTuple):
    """A finished chain.

    Attributes:
      final_state: state after the last step; hand it in again to go on.
      trace: what `collect` returned, with a leading axis of `num_samples`; None where nothing is
        kept.
      mean_info: the sampler's info, every field averaged over all steps after the burn-in, those
        between kept samples too: `mean_info.acceptance_rate` is the chain's acceptance. Numbers
        that are not finite, as of a refused step, are left out; NaN where there are no others.
      num_refused: [] number of steps, burn-in included, whose `info.is_finite` is False: a
        proposal was not finite and the chain stayed where it was. Zero of an info without it.
    """

    final_state: Any
    trace: Any
    mean_info: Any
    num_refused: Array


def position_of(state: Any, info: Any) -> Any:
    """The default of `collect`: the position of the state."""
    del info
    return state.position


def _strongly_typed(leaf: ArrayLike) -> Array:
    """Returns an array without JAX's weak type: a scan's carry keeps the types it began with."""
    return jax.lax.convert_element_type(leaf, jnp.result_type(leaf))


def _running_mean(old: Array, new: Array, count: Array, is_used: Array) -> Array:
    """Returns the mean with one number more, the `count`-th; the old one if it is not used."""
    share = 1.0 / jnp.maximum(count, 1)
    return jnp.where(is_used, old + share * (new - old), old)  # not times 0, which keeps a NaN


def run(
    key: Key,
    state: Any,
    step: StepFn,
    *,
    num_samples: int,
    thinning: int = 1,
    burn_in: int = 0,
    collect: Callable[[Any, Any], Any] | None = position_of,
) -> Chain:
    """Runs `burn_in + num_samples * thinning` steps and keeps every `thinning`-th after burn-in.

    Memory is that of what is kept: with `collect=None` it does not grow with the number of steps.
    The step is traced once and compiled once, whatever the counts.

    Args:
      key: random key of the chain, typed.
      state: first state, a pytree of arrays, as a sampler's `init` returns it.
      step: (key, state) -> (state, info), everything else bound.
      num_samples: number of samples to keep, >= 1.
      thinning: steps per kept sample, >= 1.
      burn_in: first steps, of which nothing is kept, >= 0.
      collect: (state, info) -> what to keep of a sample, a pytree; None to keep nothing.

    Returns:
      The `Chain`.

    Raises:
      ValueError: if a count is too small or no whole number.
    """
    check_count(num_samples=num_samples, thinning=thinning)
    check_count(0, burn_in=burn_in)
    step = jax.jit(step)  # its trace is remembered: asking for shapes first costs no second one
    state = jax.tree.map(_strongly_typed, state)
    _, info = jax.eval_shape(step, key, state)
    no_info = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), info)
    mean = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, jnp.result_type(float)), info)
    num_averaged = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, jnp.int32), info)

    def advance(_: Any, carry: tuple) -> tuple:
        state, _, mean, counts, refused, index = carry
        state, info = step(jax.random.fold_in(key, index), state)
        # A running mean and not a sum: sums of single precision stop growing in long chains.
        is_used = jax.tree.map(lambda new: jnp.isfinite(new) & (index >= burn_in), info)
        counts = jax.tree.map(jnp.add, counts, is_used)
        mean = jax.tree.map(_running_mean, mean, info, counts, is_used)
        refused += jnp.where(getattr(info, "is_finite", True), 0, 1)
        return state, info, mean, counts, refused, index + 1

    def keep_one(carry: tuple, sample: Array) -> tuple[tuple, Any]:
        if burn_in == 0 and thinning == 1:
            carry = advance(None, carry)
        else:  # burn-in goes before the first sample, so that the step is compiled once
            num_steps = jnp.where(sample == 0, burn_in + thinning, thinning)
            carry = jax.lax.fori_loop(0, num_steps, advance, carry)
        return carry, None if collect is None else collect(carry[0], carry[1])

    first = (state, no_info, mean, num_averaged, jnp.int32(0), jnp.int32(0))
    last, trace = jax.lax.scan(keep_one, first, jnp.arange(num_samples))
    final_state, _, mean, counts, refused, _ = last
    mean = jax.tree.map(lambda leaf, count: jnp.where(count > 0, leaf, jnp.nan), mean, counts)
    return Chain(final_state, trace, mean, refused)
