"""Contrastive divergence and its persistent kin for `training.fit`: one number a row.

The loss is F(data) - F(negatives), negatives without gradient: its gradient is that of the
log-likelihood with the machine's own draws replaced by those of short Gibbs chains. Its value is no
likelihood and may have either sign, so that a fit is judged by another loss, `validation_loss_fn`:
the mean of -log p, with log Z exact for small machines and annealed for others. Hinton, Training
products of experts by minimizing contrastive divergence, 2002; Tieleman, Training restricted
Boltzmann machines using approximations to the likelihood gradient, 2008.
"""

import functools
from typing import Any

import jax
import jax.numpy as jnp

from densityjax._typing import Array, Key, Params
from densityjax.models import boltzmann_partition as partition
from densityjax.models.bernoulli_boltzmann import BernoulliRBM
from densityjax.models.boltzmann import GaussianBernoulliRBM
from densityjax.models.score_losses import ScoreLoss
from densityjax.samplers import gibbs

RBM = GaussianBernoulliRBM | BernoulliRBM
RESTART_PROBABILITY = 0.05  # of a particle, each step: lost chains come back
VALIDATION_CHAINS, VALIDATION_STEPS = 64, 100  # of the annealed log Z that judges larger machines
_VALIDATION_SEED = 20_052  # any fixed number: epochs are compared on the same chains


def gibbs_chain(key: Key, model: RBM, params: Params, v: Array, num_steps: int) -> Array:
    """Takes Gibbs steps from the visible units `v`.

    Args:
      key: random key, typed.
      model: the machine.
      params: its parameters; no gradient passes to them.
      v: [D] where the chain starts, in units of the data.
      num_steps: steps k, at least 1.

    Returns:
      [D] drawn visible units after the last step, without gradient.

    Raises:
      ValueError: if there is no step: the data themselves teach nothing.
    """
    if num_steps < 1:
        raise ValueError(f"num_steps is {num_steps}: accepted is an integer >= 1")
    fixed = jax.lax.stop_gradient(params)

    def one_step(state: gibbs.GibbsState, key: Key) -> tuple[gibbs.GibbsState, None]:
        state, _ = gibbs.step(
            key,
            state,
            lambda key, v: model.sample_hidden(key, fixed, v),
            lambda key, h: model.sample_visible(key, fixed, h),
        )
        return state, None

    start = gibbs.init(jnp.asarray(v, jnp.result_type(float)), model.config.num_hidden)
    last, _ = jax.lax.scan(one_step, start, jax.random.split(key, num_steps))
    return jax.lax.stop_gradient(last.position)


def exact_log_z(model: RBM) -> bool:
    """Returns whether log Z of the machine is a sum of at most 2^16 terms."""
    size = model.config.num_hidden
    if isinstance(model, BernoulliRBM):
        size = min(size, model.config.dim)
    return size <= partition.MOST_ENUMERATED


def _rows(batch: Any) -> Array:
    """Returns the rows [B, D] of a batch that is rows, or a tuple of them alone."""
    return batch[0] if isinstance(batch, tuple) else batch


@functools.lru_cache(maxsize=64)
def negative_log_likelihood_fn(model: RBM) -> Any:
    """Builds the loss that judges: -log p of each row; one object per machine.

    Args:
      model: the machine.

    Returns:
      A loss as `training.fit` takes it; it ignores its key, so that epochs compare. Of a machine
      whose Z is annealed the loss is too low by the error of that estimate, which grows with the
      weights.
    """
    is_exact = exact_log_z(model)

    def loss_fn(params: Params, key: Key, batch: Any, loss_state: Any) -> tuple[Array, Any, tuple]:
        del key
        if is_exact:
            log_z = model.log_z(params)
        else:
            log_z = partition.annealed_log_z(
                jax.random.key(_VALIDATION_SEED),
                model,
                params,
                num_chains=VALIDATION_CHAINS,
                num_steps=VALIDATION_STEPS,
            ).log_z
        energies = jax.vmap(model.free_energy, in_axes=(None, 0))(params, _rows(batch))
        return energies + log_z, loss_state, ()

    return loss_fn


@functools.lru_cache(maxsize=64)
def contrastive_divergence_loss(model: RBM, *, num_steps: int = 1) -> ScoreLoss:
    """Builds CD-k: chains start at the rows of the batch and take k Gibbs steps.

    Equal arguments return the same functions.

    Args:
      model: the machine.
      num_steps: k, at least 1.

    Returns:
      The pair of losses; a batch is rows [B, D], or a tuple of them alone.

    Raises:
      ValueError: if there is no step.

    References:
      Hinton, 2002, eq. 5.
    """
    if num_steps < 1:
        raise ValueError(f"num_steps is {num_steps}: accepted is an integer >= 1")

    def loss_fn(params: Params, key: Key, batch: Any, loss_state: Any) -> tuple[Array, Any, tuple]:
        def one(key: Key, v: Array) -> Array:
            negative = gibbs_chain(key, model, params, v, num_steps)
            return model.free_energy(params, v) - model.free_energy(params, negative)

        rows = _rows(batch)
        return jax.vmap(one)(jax.random.split(key, rows.shape[0]), rows), loss_state, ()

    return ScoreLoss(loss_fn, negative_log_likelihood_fn(model))


@functools.lru_cache(maxsize=64)
def persistent_divergence_loss(
    model: RBM, *, num_steps: int = 1, restart_probability: float = RESTART_PROBABILITY
) -> ScoreLoss:
    """Builds PCD-k: chains go on from step to step, in the `loss_state` of the fit.

    Equal arguments return the same functions. Start with `init_particles`.

    Args:
      model: the machine.
      num_steps: k, at least 1.
      restart_probability: share of particles, in [0, 1], that start again from the machine without
        weights in every step.

    Returns:
      The pair of losses; a batch is rows [B, D], or a tuple of them alone.

    Raises:
      ValueError: if an argument is not accepted.

    References:
      Tieleman, 2008, section 3.
    """
    if num_steps < 1 or not 0.0 <= restart_probability <= 1.0:
        raise ValueError(
            f"num_steps is {num_steps} and restart_probability {restart_probability}: accepted are "
            ">= 1 and in [0, 1]"
        )

    def loss_fn(params: Params, key: Key, batch: Any, loss_state: Any) -> tuple[Array, Any, tuple]:
        particles = jax.lax.stop_gradient(loss_state)
        fresh_key, choice_key, chain_key = jax.random.split(key, 3)
        num_particles = particles.shape[0]
        fresh = init_particles(fresh_key, model, params, num_particles)
        again = jax.random.bernoulli(choice_key, restart_probability, (num_particles, 1))
        start = jnp.where(again, fresh, particles)
        keys = jax.random.split(chain_key, num_particles)
        particles = jax.vmap(lambda key, v: gibbs_chain(key, model, params, v, num_steps))(
            keys, start
        )
        energies = jax.vmap(model.free_energy, in_axes=(None, 0))
        # Every row meets the mean of all particles, so that weights of rows weight both alike.
        loss = energies(params, _rows(batch)) - jnp.mean(energies(params, particles))
        return loss, particles, ()

    return ScoreLoss(loss_fn, negative_log_likelihood_fn(model))


def init_particles(key: Key, model: RBM, params: Params, num_particles: int) -> Array:
    """Draws the chains of `persistent_divergence_loss` from the machine without weights.

    Args:
      key: random key, typed.
      model: the machine.
      params: its parameters.
      num_particles: chains M, at least 1; about as many as rows in a batch.

    Returns:
      [M, D] visible units in units of the data, without gradient.

    Raises:
      ValueError: if there is no chain.
    """
    if num_particles < 1:
        raise ValueError(f"num_particles is {num_particles}: accepted is an integer >= 1")
    cold = jax.lax.stop_gradient(params)
    cold = cold | {"kernel": jnp.zeros_like(cold["kernel"])}
    hidden = jnp.zeros(model.config.num_hidden)
    keys = jax.random.split(key, num_particles)
    return jax.vmap(lambda key: model.sample_visible(key, cold, hidden))(keys)
