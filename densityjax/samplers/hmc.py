"""Hamiltonian Monte Carlo: leapfrog steps along the density, accepted or not, without bias.

With momentum m ~ N(0, I) and H = -log p(x) + |m|^2 / 2, one step follows H for `num_leapfrog`
leapfrog steps of length h and accepts the end with probability min(1, exp(-change of H)). The step
size h is in units of the position: one leapfrog step of h = sqrt(2 a) is `mala` with step a.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax

from densityjax._typing import Array, ArrayLike, Key, Params
from densityjax.samplers import _metropolis
from densityjax.samplers._checks import check_count, check_positive


class HMCState(NamedTuple):
    """What the next step needs.

    Attributes:
      position: point of the chain, a pytree of arrays.
      logdensity: [] log density there, up to a constant, nats.
      logdensity_grad: its gradient, shaped like the position.
    """

    position: Params
    logdensity: Array
    logdensity_grad: Params


class HMCInfo(NamedTuple):
    """What a person looks at; never fed back.

    Attributes:
      acceptance_rate: [] probability with which the end of the path was accepted.
      is_accepted: [] whether it was.
      is_finite: [] False where the end of the path, its log density or its gradient was not
        finite: it was refused.
      energy_change: [] H at the end less H at the start, nats; zero for an exact path.
    """

    acceptance_rate: Array
    is_accepted: Array
    is_finite: Array
    energy_change: Array


def init(position: Params, logdensity_fn: Callable[[Params], Array]) -> HMCState:
    """Builds the state at `position`, a pytree of arrays; `logdensity_fn` maps it to []."""
    return HMCState(position, *jax.value_and_grad(logdensity_fn)(position))


def step(
    key: Key,
    state: HMCState,
    logdensity_fn: Callable[[Params], Array],
    step_size: ArrayLike,
    *,
    num_leapfrog: int = 10,
) -> tuple[HMCState, HMCInfo]:
    """Takes one step; `num_leapfrog` evaluations of the log density with its gradient.

    Args:
      key: random key, typed.
      state: the state of `init` or of the step before.
      logdensity_fn: position to [] log density, up to a constant, nats.
      step_size: h, length of a leapfrog step in units of the position.
      num_leapfrog: leapfrog steps of one path, >= 1.

    Returns:
      The new `HMCState` and the `HMCInfo`.

    Raises:
      ValueError: if the step size is not positive or the count below 1.

    References:
      Neal, MCMC using Hamiltonian dynamics, 2011, section 5.3.2, https://arxiv.org/abs/1206.1901.
    """
    check_positive(step_size=step_size)
    check_count(num_leapfrog=num_leapfrog)
    momentum_key, choice_key = jax.random.split(key)
    momentum = _metropolis.normal_like(momentum_key, state.position)

    def kick(momentum: Params, state: HMCState) -> Params:
        return jax.tree.map(lambda m, g: m + 0.5 * step_size * g, momentum, state.logdensity_grad)

    def leapfrog(carry: tuple[HMCState, Params], _: None) -> tuple[tuple[HMCState, Params], None]:
        here, momentum = carry
        momentum = kick(momentum, here)
        position = jax.tree.map(
            lambda x, m: (x + step_size * m).astype(m.dtype), here.position, momentum
        )
        there = init(position, logdensity_fn)
        return (there, kick(momentum, there)), None

    (end, last), _ = jax.lax.scan(leapfrog, (state, momentum), length=num_leapfrog)
    change = state.logdensity - end.logdensity
    change += 0.5 * (_metropolis.square_norm(last) - _metropolis.square_norm(momentum))
    is_finite = _metropolis.all_finite(end)
    chosen, probability, is_accepted = _metropolis.choose(
        choice_key, -change, is_finite, end, state
    )
    return chosen, HMCInfo(probability, is_accepted, is_finite, change)
