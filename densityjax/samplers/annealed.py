"""Annealed Langevin dynamics: T steps at each of the noise levels sigma_1 > ... > sigma_L.

    x <- x + a_i s(x, sigma_i) + sqrt(2 a_i) z,   z ~ N(0, I)

The start is N(0, sigma_1^2 I) and the end one step of Tweedie at sigma_L, which takes the last
noise away. Levels and step sizes come from `schedules`; a single level is the plain chain on the
law with that noise. The result has a bias of order a_i / sigma^2: `mala` has none.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from densityjax._typing import Array, ArrayLike, Key
from densityjax.samplers import chain
from densityjax.samplers._checks import (
    check_count,
    check_levels,
    check_not_negative,
    check_positive,
    check_rank,
)
from densityjax.samplers.denoise import NoisedScoreFn
from densityjax.samplers.draw import Draw, finish


class AnnealedState(NamedTuple):
    """What the next step needs.

    Attributes:
      position: [D] point of the chain.
      index: [] number of steps taken, which gives the level.
    """

    position: Array
    index: Array


class AnnealedInfo(NamedTuple):
    """What a person looks at; never fed back.

    Attributes:
      is_finite: [] False where the proposal was not finite: the step was refused.
      score_norm: [] Euclidean norm of the score that moved the chain.
    """

    is_finite: Array
    score_norm: Array


def init(position: Array) -> AnnealedState:
    """Builds the state at `position`, [D], before the first level."""
    check_rank(1, position=position)
    return AnnealedState(position, jnp.int32(0))


def start(key: Key, dim: int, sigma_max: ArrayLike) -> Array:
    """Draws the usual start, [D], from N(0, sigma_max^2 I)."""
    check_count(dim=dim)
    check_positive(sigma_max=sigma_max)
    return jnp.asarray(sigma_max) * jax.random.normal(key, (dim,))


def step(
    key: Key,
    state: AnnealedState,
    score_fn: NoisedScoreFn,
    sigmas: Array,
    step_sizes: Array,
    *,
    num_steps_per_level: int,
    temperature: ArrayLike = 1.0,
) -> tuple[AnnealedState, AnnealedInfo]:
    """Takes one step at the level that the number of steps so far gives; one score evaluation.

    Args:
      key: random key, typed.
      state: the state of `init` or of the step before.
      score_fn: (x [D], sigma []) -> [D], score of the law with noise of sd sigma.
      sigmas: [L] noise levels, decreasing, units of x.
      step_sizes: [L] step sizes a_i, squared units of x.
      num_steps_per_level: T, >= 1; steps beyond L T stay at the last level.
      temperature: T of the noise, >= 0, no unit: 1 samples the law.

    Returns:
      The new `AnnealedState` and the `AnnealedInfo`.

    Raises:
      ValueError: if levels are not decreasing or a number is not accepted.

    References:
      Song and Ermon, Generative modeling by estimating gradients of the data distribution, 2019,
      https://arxiv.org/abs/1907.05600, algorithm 1 (its alpha is 2 a).
    """
    check_levels(sigmas)
    check_positive(step_sizes=step_sizes)
    check_not_negative(temperature=temperature)
    check_count(num_steps_per_level=num_steps_per_level)
    if jnp.shape(step_sizes) != jnp.shape(sigmas):
        raise ValueError(
            f"step_sizes must have the shape of sigmas, {jnp.shape(sigmas)},"
            f" got {jnp.shape(step_sizes)}"
        )
    level = jnp.minimum(state.index // num_steps_per_level, len(sigmas) - 1)
    step_size = jnp.asarray(step_sizes)[level]
    score = score_fn(state.position, jnp.asarray(sigmas)[level])
    noise = jax.random.normal(key, state.position.shape, state.position.dtype)
    spread = jnp.sqrt(2.0 * step_size * temperature)
    proposal = state.position + step_size * score + spread * noise
    is_finite = jnp.all(jnp.isfinite(proposal))
    position = jnp.where(is_finite, proposal, state.position)
    info = AnnealedInfo(is_finite, jnp.sqrt(jnp.sum(score**2)))
    return AnnealedState(position, state.index + 1), info


def sample(
    key: Key,
    score_fn: NoisedScoreFn,
    position: Array,
    *,
    sigmas: Array,
    step_sizes: Array,
    num_steps_per_level: int,
    final_denoise: bool = True,
    temperature: ArrayLike = 1.0,
) -> Draw:
    """Goes through all levels from `position`; one sample. `jax.vmap` over keys for many.

    Args:
      key: random key, typed.
      score_fn: (x [D], sigma []) -> [D], score of the law with noise of sd sigma.
      position: [D] start, as `start` draws it.
      sigmas: [L] noise levels, decreasing, units of x.
      step_sizes: [L] step sizes a_i, squared units of x.
      num_steps_per_level: T, >= 1.
      final_denoise: whether to end by Tweedie at sigma_L. On N(0, v) it multiplies the variance by
        (v / (v + sigma_L^2))^2.
      temperature: T of the noise, >= 0, no unit.

    Returns:
      The `Draw`.

    Raises:
      ValueError: if levels are not decreasing or a number is not accepted.
    """
    check_levels(sigmas)
    check_count(num_steps_per_level=num_steps_per_level)

    def bound(key: Key, state: AnnealedState) -> tuple[AnnealedState, AnnealedInfo]:
        return step(
            key,
            state,
            score_fn,
            sigmas,
            step_sizes,
            num_steps_per_level=num_steps_per_level,
            temperature=temperature,
        )

    num_steps = len(sigmas) * num_steps_per_level
    done = chain.run(key, init(position), bound, num_samples=num_steps, collect=None)
    return finish(score_fn, done, jnp.asarray(sigmas)[-1], final_denoise=final_denoise)
