"""The Metropolis-adjusted Langevin algorithm: Langevin proposals, accepted or not, without bias.

    x' = x + a s(x) + sqrt(2 a) z,   accepted with probability min(1, r),
    log r = log p(x') - log p(x) - |x - x' - a s(x')|^2 / (4 a) + |x' - x - a s(x)|^2 / (4 a)

The names are those of blackjax's module of the same name, so that either can stand in for the
other: positions are pytrees, `logdensity` need not be normalised, and the step size a is that of
`langevin`. On N(0, I) of dimension D an acceptance of .574 is reached near a = 1.4 D^(-1/3).
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from densityjax._typing import Array, ArrayLike, Key, Params
from densityjax.samplers import _metropolis
from densityjax.samplers._checks import check_positive


class MALAState(NamedTuple):
    """What the next step needs.

    Attributes:
      position: point of the chain, a pytree of arrays.
      logdensity: [] log density there, up to a constant, nats.
      logdensity_grad: its gradient, shaped like the position; no step computes it again.
    """

    position: Params
    logdensity: Array
    logdensity_grad: Params


class MALAInfo(NamedTuple):
    """What a person looks at; never fed back.

    Attributes:
      acceptance_rate: [] probability with which the proposal was accepted.
      is_accepted: [] whether it was.
      is_finite: [] False where the proposal, its log density or its gradient was not finite: it
        was refused, whatever the probability.
    """

    acceptance_rate: Array
    is_accepted: Array
    is_finite: Array


class SamplingAlgorithm(NamedTuple):
    """A sampler with its target and settings bound.

    Attributes:
      init: position -> state; a second argument, a key, is taken and not needed.
      step: (key, state) -> (state, info).
    """

    init: Callable[..., MALAState]
    step: Callable[[Key, MALAState], tuple[MALAState, MALAInfo]]


def init(position: Params, logdensity_fn: Callable[[Params], Array]) -> MALAState:
    """Builds the state at `position`, a pytree of arrays; `logdensity_fn` maps it to []."""
    return MALAState(position, *jax.value_and_grad(logdensity_fn)(position))


def step(
    rng_key: Key,
    state: MALAState,
    logdensity_fn: Callable[[Params], Array],
    step_size: ArrayLike,
) -> tuple[MALAState, MALAInfo]:
    """Takes one step; one evaluation of the log density with its gradient.

    Args:
      rng_key: random key, typed.
      state: the state of `init` or of the step before.
      logdensity_fn: position to [] log density, up to a constant, nats.
      step_size: a, squared units of the position.

    Returns:
      The new `MALAState` and the `MALAInfo`.

    Raises:
      ValueError: if the step size is not positive and finite.

    References:
      Roberts and Tweedie, Exponential convergence of Langevin distributions and their discrete
      approximations, 1996, section 1.4.
    """
    check_positive(step_size=step_size)
    noise_key, choice_key = jax.random.split(rng_key)
    noise = _metropolis.normal_like(noise_key, state.position)
    spread = jnp.sqrt(2.0 * step_size)
    move = jax.tree.map(lambda g, z: step_size * g + spread * z, state.logdensity_grad, noise)
    position = jax.tree.map(lambda x, dx: (x + dx).astype(dx.dtype), state.position, move)
    proposal = init(position, logdensity_fn)
    # The way back: x - x' - a s(x'). The way there is the noise itself, sqrt(2 a) z.
    back = jax.tree.map(lambda dx, g: dx + step_size * g, move, proposal.logdensity_grad)
    log_ratio = proposal.logdensity - state.logdensity + 0.5 * _metropolis.square_norm(noise)
    log_ratio -= _metropolis.square_norm(back) / (4.0 * step_size)
    is_finite = _metropolis.all_finite(proposal)
    chosen, probability, is_accepted = _metropolis.choose(
        choice_key, log_ratio, is_finite, proposal, state
    )
    return chosen, MALAInfo(probability, is_accepted, is_finite)


def build_kernel() -> Callable[..., tuple[MALAState, MALAInfo]]:
    """Returns `step`: (rng_key, state, logdensity_fn, step_size) -> (state, info)."""
    return step


def as_top_level_api(
    logdensity_fn: Callable[[Params], Array], step_size: ArrayLike
) -> SamplingAlgorithm:
    """Binds a target and a step size; `step_size` as in `step`, in squared units of the position.

    Args:
      logdensity_fn: position to [] log density, up to a constant, nats.
      step_size: a, squared units of the position, positive.

    Returns:
      The `SamplingAlgorithm`.

    Raises:
      ValueError: if the step size is not positive and finite.
    """
    check_positive(step_size=step_size)

    def bound_init(position: Params, rng_key: Key | None = None) -> MALAState:
        del rng_key
        return init(position, logdensity_fn)

    def bound_step(rng_key: Key, state: MALAState) -> tuple[MALAState, MALAInfo]:
        return step(rng_key, state, logdensity_fn, step_size)

    return SamplingAlgorithm(bound_init, bound_step)
