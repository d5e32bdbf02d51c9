"""Reverse diffusion: from noise of sd sigma_1 down to sigma_L, one interval of levels a step.

The forward process adds noise, x_sigma = x + sigma eps. Backwards, in terms of sigma,

    dx = -sigma s(x, sigma) dsigma                                (probability flow, `heun`)
    dx = -2 sigma s(x, sigma) dsigma + sqrt(2 sigma |dsigma|) z    (reverse SDE, `euler_maruyama`)

have the same law at every level. The start is N(0, (sigma_1^2 + data_sd^2) I) and the end one step
of Tweedie at sigma_L. A predictor crosses an interval; a corrector, any sampler at the new level,
may follow it.
"""

from collections.abc import Callable
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

# (key, x [D], sigma, next_sigma, score_fn) -> [D] at next_sigma
Predictor = Callable[[Key, Array, Array, Array, NoisedScoreFn], Array]
# (key, x [D], sigma, score_fn) -> [D] at the same sigma
Corrector = Callable[[Key, Array, Array, NoisedScoreFn], Array]


class DiffusionState(NamedTuple):
    """What the next step needs.

    Attributes:
      position: [D] point, at noise level `sigmas[index]`.
      index: [] number of intervals crossed.
    """

    position: Array
    index: Array


class DiffusionInfo(NamedTuple):
    """What a person looks at; never fed back.

    Attributes:
      is_finite: [] False where the step was not finite: the point stayed where it was.
    """

    is_finite: Array


def heun(key: Key, x: Array, sigma: Array, next_sigma: Array, score_fn: NoisedScoreFn) -> Array:
    """Crosses an interval of the probability flow by Heun's method: second order, no noise.

    Args:
      key: random key, not used.
      x: [D] point at `sigma`.
      sigma: [] noise level, units of x.
      next_sigma: [] lower noise level, units of x.
      score_fn: (x [D], sigma []) -> [D]; evaluated twice.

    Returns:
      [D] point at `next_sigma`.

    References:
      Karras et al., 2022, https://arxiv.org/abs/2206.00364, algorithm 1.
    """
    del key
    length = next_sigma - sigma
    slope = -sigma * score_fn(x, sigma)
    next_slope = -next_sigma * score_fn(x + length * slope, next_sigma)
    return x + 0.5 * length * (slope + next_slope)


def euler_maruyama(
    key: Key, x: Array, sigma: Array, next_sigma: Array, score_fn: NoisedScoreFn
) -> Array:
    """Crosses an interval of the reverse SDE: `x + d s + sqrt(d) z`, d the drop of sigma^2.

    Args:
      key: random key, typed.
      x: [D] point at `sigma`.
      sigma: [] noise level, units of x.
      next_sigma: [] lower noise level, units of x.
      score_fn: (x [D], sigma []) -> [D]; evaluated once.

    Returns:
      [D] point at `next_sigma`.

    References:
      Song et al., Score-based generative modeling through stochastic differential equations, 2021,
      https://arxiv.org/abs/2011.13456, eq. 46 (reverse diffusion, VE).
    """
    drop = sigma**2 - next_sigma**2
    noise = jax.random.normal(key, x.shape, x.dtype)
    return x + drop * score_fn(x, sigma) + jnp.sqrt(drop) * noise


def ancestral(
    key: Key, x: Array, sigma: Array, next_sigma: Array, score_fn: NoisedScoreFn
) -> Array:
    """As `euler_maruyama`, with the noise of the posterior, `sqrt(d) next_sigma / sigma`.

    References:
      Song et al., 2021, https://arxiv.org/abs/2011.13456, eq. 47 (ancestral sampling, VE).
    """
    drop = sigma**2 - next_sigma**2
    noise = jax.random.normal(key, x.shape, x.dtype)
    return x + drop * score_fn(x, sigma) + jnp.sqrt(drop) * next_sigma / sigma * noise


def langevin_corrector(*, share: ArrayLike = 0.1, num_steps: int = 1) -> Corrector:
    """Builds a corrector of unadjusted Langevin steps of size `share sigma^2` at the new level.

    Args:
      share: step size as a share of sigma^2; .1 halves the error of `euler_maruyama`.
      num_steps: steps at each level, >= 1; as many evaluations of the score.

    Returns:
      The corrector, (key, x [D], sigma [], score_fn) -> [D].

    Raises:
      ValueError: if a number is not positive.
    """
    check_positive(share=share)
    check_count(num_steps=num_steps)

    def correct(key: Key, x: Array, sigma: Array, score_fn: NoisedScoreFn) -> Array:
        step_size = share * sigma**2

        def move(x: Array, key: Key) -> tuple[Array, None]:
            noise = jax.random.normal(key, x.shape, x.dtype)
            return x + step_size * score_fn(x, sigma) + jnp.sqrt(2.0 * step_size) * noise, None

        return jax.lax.scan(move, x, jax.random.split(key, num_steps))[0]

    return correct


def init(position: Array) -> DiffusionState:
    """Builds the state at `position`, [D], at the first noise level."""
    check_rank(1, position=position)
    return DiffusionState(position, jnp.int32(0))


def start(key: Key, dim: int, sigma_max: ArrayLike, *, data_sd: ArrayLike = 1.0) -> Array:
    """Draws the start, [D], from N(0, (sigma_max^2 + data_sd^2) I).

    Args:
      key: random key, typed.
      dim: D, >= 1.
      sigma_max: first noise level, units of x.
      data_sd: sd of the data, [] or [D], units of x; 1 after standardising, 0 to leave it out.

    Returns:
      [D] the start.

    Raises:
      ValueError: if a number is not accepted.
    """
    check_count(dim=dim)
    check_positive(sigma_max=sigma_max)
    check_not_negative(data_sd=data_sd)
    return jnp.sqrt(sigma_max**2 + jnp.square(data_sd)) * jax.random.normal(key, (dim,))


def step(
    key: Key,
    state: DiffusionState,
    score_fn: NoisedScoreFn,
    sigmas: Array,
    *,
    predictor: Predictor = heun,
    corrector: Corrector | None = None,
) -> tuple[DiffusionState, DiffusionInfo]:
    """Crosses the next interval; a point that is not finite is refused.

    Args:
      key: random key, typed.
      state: the state of `init` or of the step before.
      score_fn: (x [D], sigma []) -> [D], score of the law with noise of sd sigma.
      sigmas: [L] noise levels, decreasing, units of x.
      predictor: how to cross: `heun`, `euler_maruyama`, `ancestral` or one of the same signature.
      corrector: what to do at the new level, or None.

    Returns:
      The new `DiffusionState` and the `DiffusionInfo`.

    Raises:
      ValueError: if there are not two levels or they are not decreasing.
    """
    check_levels(sigmas, least=2)
    predictor_key, corrector_key = jax.random.split(key)
    index = jnp.minimum(state.index, len(sigmas) - 2)
    levels = jnp.asarray(sigmas)
    sigma, next_sigma = levels[index], levels[index + 1]
    proposal = predictor(predictor_key, state.position, sigma, next_sigma, score_fn)
    if corrector is not None:
        proposal = corrector(corrector_key, proposal, next_sigma, score_fn)
    is_finite = jnp.all(jnp.isfinite(proposal))
    position = jnp.where(is_finite, proposal, state.position)
    return DiffusionState(position, state.index + 1), DiffusionInfo(is_finite)


def sample(
    key: Key,
    score_fn: NoisedScoreFn,
    position: Array,
    *,
    sigmas: Array,
    predictor: Predictor = heun,
    corrector: Corrector | None = None,
    final_denoise: bool = True,
) -> Draw:
    """Crosses all intervals from `position`; one sample. `jax.vmap` over keys for many.

    Args:
      key: random key, typed.
      score_fn: (x [D], sigma []) -> [D], score of the law with noise of sd sigma.
      position: [D] start, as `start` draws it.
      sigmas: [L] noise levels, decreasing, units of x; `schedules.edm_levels` suits `heun`, with
        18 levels for a quick look and 36 for samples to keep.
      predictor: how to cross an interval.
      corrector: what to do at each new level, or None.
      final_denoise: whether to end by Tweedie at sigma_L.

    Returns:
      The `Draw`.

    Raises:
      ValueError: if there are not two levels or they are not decreasing.
    """
    check_levels(sigmas, least=2)

    def bound(key: Key, state: DiffusionState) -> tuple[DiffusionState, DiffusionInfo]:
        return step(key, state, score_fn, sigmas, predictor=predictor, corrector=corrector)

    done = chain.run(key, init(position), bound, num_samples=len(sigmas) - 1, collect=None)
    return finish(score_fn, done, jnp.asarray(sigmas)[-1], final_denoise=final_denoise)
