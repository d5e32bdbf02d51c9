"""Where the negatives and the noise of energy losses come from, and the state that carries them.

A pool is drawn once from a law whose density is known. Chains move on standardised y, afresh in
each step of a fit or on from where the buffer has them.
"""

import functools
from collections.abc import Callable
from typing import NamedTuple

import jax

from densityjax import losses
from densityjax._typing import Array, Key, Params
from densityjax.models.energy import Energy
from densityjax.models.score_parts import standardiser
from densityjax.samplers import chain, langevin, mala, replay

SAMPLERS = ("mala", "langevin")


class NoisePool(NamedTuple):
    """Draws of a law whose density is known, used by contrasts and to judge by.

    Attributes:
      x: [M, D] the draws, in units of x.
      log_prob: [M] normalised log density of that law there, nats per unit volume of x.
    """

    x: Array
    log_prob: Array


class EnergyState(NamedTuple):
    """The loss state of a fit.

    Attributes:
      pool: the `NoisePool`, or None where no method needs it.
      buffer: the `ReplayBuffer` of chains in standardised units, of 'pcd' alone.
    """

    pool: NoisePool | None = None
    buffer: replay.ReplayBuffer | None = None


class Chains(NamedTuple):
    """How negatives are drawn; on standardised y.

    Attributes:
      sampler: 'mala' (no bias), or 'langevin', whose noise has the sd that its step asks for: at
        step a the fitted curvature of N(0, v) is `(1 - sqrt(1 - 2 a / v)) / a`, about
        `(1 + a / (2 v)) / v`.
      num_steps: steps of a chain between two uses.
      step_size: a, in squared standard deviations.
      max_score_norm: longer gradients are cut to this norm in 'langevin' chains, which then
        sample another law wherever that acts; None never cuts.
      restart_probability: of a persistent chain to begin anew at a draw of the base.
      data_noise: sd of noise added to the data of 'cd', 'pcd' and 'short_run', which are then
        fitted to the law with that noise; 0.03 to 0.1 smooths what a chain cannot resolve.
      regularisation: of `losses.contrastive_divergence`.
    """

    sampler: str = "mala"
    num_steps: int = 20
    step_size: float = 0.05
    max_score_norm: float | None = None
    restart_probability: float = 0.05
    data_noise: float = 0.0
    regularisation: float = 0.0


def start_buffer(
    key: Key, model: Energy, params: Params, num_chains: int = 10_000
) -> replay.ReplayBuffer:
    """Draws the chains of 'pcd' from the base of the model.

    Args:
      key: random key, typed.
      model: the `Energy`, without a context.
      params: its parameters.
      num_chains: chains M, at least as many as the rows of a batch.

    Returns:
      The `ReplayBuffer`, in standardised units.
    """
    keys = jax.random.split(key, num_chains)
    location, scale = standardiser(params)
    draws = jax.jit(jax.vmap(model.sample_base, (0, None)))(keys, params)
    return replay.init((draws - location) / scale)


def draw_pool(
    key: Key,
    sample_fn: Callable[[Key, Params], Array],
    log_prob_fn: Callable[[Params, Array], Array],
    params: Params,
    num_rows: int = 20_000,
) -> NoisePool:
    """Draws a pool of noise.

    Args:
      key: random key, typed.
      sample_fn: (key, params) -> [D], of a normalised law.
      log_prob_fn: (params, x [D]) -> [] its log density, nats, every constant in it.
      params: what both take.
      num_rows: rows M.

    Returns:
      The `NoisePool`.
    """

    def one(key: Key) -> NoisePool:
        x = sample_fn(key, params)
        return NoisePool(x, log_prob_fn(params, x))

    return jax.lax.map(one, jax.random.split(key, num_rows), batch_size=1024)


def move_chain(
    energy_fn: Callable[[Array], Array], chains: Chains, key: Key, start: Array
) -> Array:
    """Moves one chain on exp(-E).

    Args:
      energy_fn: energy with parameters bound, [D] to [] nats.
      chains: the sampler and its settings.
      key: random key, typed.
      start: [D] where the chain begins.

    Returns:
      [D] where it stands after its steps.
    """
    if chains.sampler == "mala":
        step = functools.partial(
            mala.step, logdensity_fn=lambda y: -energy_fn(y), step_size=chains.step_size
        )
        state = mala.init(start, lambda y: -energy_fn(y))
    else:
        score_fn = losses.energy_score(energy_fn)
        step = functools.partial(
            langevin.step,
            score_fn=score_fn,
            step_size=chains.step_size,
            max_score_norm=chains.max_score_norm,
        )
        state = langevin.init(start, score_fn)
    done = chain.run(key, state, step, num_samples=1, thinning=chains.num_steps, collect=None)
    return done.final_state.position
