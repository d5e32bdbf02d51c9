"""Losses of energy models for `training.fit`: batches of rows, negatives and noise drawn here.

Everything a step needs beside its rows travels in the loss state, an `EnergyState`: a pool of noise
with its log densities, and the chains of persistent contrastive divergence. Chains and noise levels
are in standardised units y. Contrastive losses are no likelihoods, so where there is a pool every
method is judged by one yardstick: the held-out `E(x) + log Z`, Z by importance sampling from it.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from densityjax import losses
from densityjax._typing import Array, Key, Params
from densityjax.models.energy import Energy
from densityjax.models.energy_negatives import SAMPLERS, Chains, EnergyState, NoisePool, move_chain
from densityjax.models.score_parts import standardiser
from densityjax.samplers import replay

CONTRASTS = ("nce", "ranking", "snl")  # need noise of a known law
CHAINS = ("cd", "pcd", "short_run")  # need chains on the model
MATCHES = ("dsm", "ssm", "exact", "cnce")  # need neither
METHODS = CONTRASTS + CHAINS + MATCHES
_VALIDATION_SEED = 20_052  # any fixed number: fits are compared on the same noise
VALIDATION_DRAWS = 8  # of noise for each validation row, where there is no pool to judge by


class EnergyLoss(NamedTuple):
    """The losses of one fit, each (params, key, batch, loss_state) -> (loss [B], loss_state, ()).

    A batch is x [B, D], or (x, proposal_log_prob [B]) where the pool's law has to be known at the
    data: for the methods 'nce' and 'ranking', and for a base that is the pool's own law.

    Attributes:
      loss_fn: for the steps.
      validation_loss_fn: for the validation rows; ignores its key.
    """

    loss_fn: Callable
    validation_loss_fn: Callable


@functools.lru_cache(maxsize=64)
def energy_loss(
    model: Energy,
    *,
    method: str = "nce",
    num_noise: int = 4,
    sigma: float = 0.1,
    chains: Chains = Chains(),  # noqa: B008  (a frozen record)
    base_is_pool: bool = False,
) -> EnergyLoss:
    """Builds the loss of an energy model; equal arguments return the same functions.

    Args:
      model: the `Energy`, without a context.
      method: of noise 'nce', 'ranking' or 'snl'; of chains 'cd' (from the data), 'pcd'
        (persistent) or 'short_run' (from the base: maximum likelihood by Langevin dynamics as far
        as the chains come); of scores 'dsm', 'ssm' or 'exact'; or 'cnce'.
      num_noise: noise rows for each row of data, nu, of 'nce', 'ranking', 'snl' and 'cnce'.
      sigma: noise of 'dsm' and 'cnce', in standard deviations of the data.
      chains: how negatives are drawn.
      base_is_pool: the pool is drawn from the model's own base, whose density then cancels and is
        never computed in a step: for a flow as the base, which is most of the cost.

    Returns:
      The `EnergyLoss`.

    Raises:
      ValueError: if an option is not accepted.
    """
    _check(model, method, num_noise, sigma, chains)
    ratio_fn = functools.partial(_log_ratio, model, base_is_pool)

    def of_rows(params: Params, key: Key, batch: Any, state: EnergyState) -> tuple[Array, Any]:
        if method in CONTRASTS:
            return _contrast(ratio_fn, method, num_noise, params, key, batch, state), state
        if method in CHAINS:
            return _with_chains(model, method, chains, params, key, batch, state)
        return _matching(model, method, sigma, num_noise, params, key, batch), state

    def loss_fn(
        params: Params, key: Key, batch: Any, loss_state: Any
    ) -> tuple[Array, EnergyState, tuple]:
        return *of_rows(params, key, batch, loss_state), ()

    def validation_loss_fn(
        params: Params, key: Key, batch: Any, loss_state: Any
    ) -> tuple[Array, EnergyState, tuple]:
        del key
        if loss_state.pool is not None:
            return _held_out(ratio_fn, params, batch, loss_state.pool), loss_state, ()
        judge = "dsm" if method in CHAINS else method
        keys = jax.random.split(jax.random.key(_VALIDATION_SEED), VALIDATION_DRAWS)

        def one_draw(key: Key) -> Array:
            return _matching(model, judge, sigma, num_noise, params, key, batch)

        return jnp.mean(jax.lax.map(one_draw, keys), axis=0), loss_state, ()

    return EnergyLoss(loss_fn, validation_loss_fn)


def _check(model: Energy, method: str, num_noise: int, sigma: float, chains: Chains) -> None:
    choices = {"method": (method, METHODS), "sampler": (chains.sampler, SAMPLERS)}
    for name, (value, accepted) in choices.items():
        if value not in accepted:
            raise ValueError(f"{name} is {value!r}: accepted are {accepted}")
    if model.config.context_dim:
        raise ValueError(f"model has context_dim {model.config.context_dim}: accepted is 0")
    if num_noise < 1 or not sigma > 0.0:
        raise ValueError(f"num_noise is {num_noise} and sigma {sigma}: accepted are >= 1 and > 0")
    if chains.num_steps < 1 or not chains.step_size > 0.0 or chains.data_noise < 0.0:
        raise ValueError(
            f"chains are {chains}: accepted are num_steps >= 1, step_size > 0, data_noise >= 0"
        )


def _rows_of(batch: Any) -> tuple[Array, Array | None]:
    """Returns x [B, D] and, where the batch has it, the pool's log density there, [B]."""
    rows = batch if isinstance(batch, tuple) else (batch,)
    return rows[0], rows[1] if len(rows) > 1 else None


def _log_ratio(
    model: Energy, base_is_pool: bool, params: Params, x: Array, log_prob: Array | None
) -> Array:
    """Returns -E - log q, [], at x [D], q the pool's law; the base cancels where it is that law."""
    if base_is_pool:
        location, scale = standardiser(params)
        return -model.correction(params, (x - location) / scale)
    if log_prob is None:
        raise ValueError("batch has rows alone: accepted is (x, proposal_log_prob) for this method")
    return -model.energy(params, x) - log_prob


def _contrast(
    ratio_fn: Callable,
    method: str,
    num_noise: int,
    params: Params,
    key: Key,
    batch: Any,
    state: EnergyState,
) -> Array:
    """Returns the loss of each row, [B], against rows drawn from the pool."""
    x, log_prob = _rows_of(batch)
    if state.pool is None:
        raise ValueError(
            f"loss_state has no pool: accepted is an EnergyState with one for {method}"
        )
    size, num = state.pool.x.shape[0], x.shape[0]
    index = jax.random.randint(key, (num, num_noise), 0, size)
    of_pool = jax.vmap(jax.vmap(ratio_fn, (None, 0, 0)), (None, 0, 0))
    of_noise = of_pool(params, state.pool.x[index], state.pool.log_prob[index])
    in_axes = (None, 0, None if log_prob is None else 0)
    of_data = jax.vmap(ratio_fn, in_axes)(params, x, log_prob)
    log_z = params["log_z"]
    if method == "snl":
        # -E up to log q at the data, which the parameters do not move.
        bound = functools.partial(losses.self_normalised_bound, log_z=log_z)
        return jax.vmap(bound)(-of_data, of_noise)
    contrast = losses.logistic_contrast if method == "nce" else losses.ranking_contrast
    return jax.vmap(contrast)(of_data - log_z, of_noise - log_z)


def _held_out(ratio_fn: Callable, params: Params, batch: Any, pool: NoisePool) -> Array:
    """Returns `E(x) + log Z + log q(x)`, [B], Z by importance sampling from the whole pool.

    It is minus the log-likelihood, beside that of the pool's law: zero for a model no better.
    """
    x, log_prob = _rows_of(batch)
    in_axes = (None, 0, None if log_prob is None else 0)
    of_data = jax.vmap(ratio_fn, in_axes)(params, x, log_prob)
    of_pool = jax.vmap(ratio_fn, (None, 0, 0))(params, pool.x, pool.log_prob)
    return jax.nn.logsumexp(of_pool) - jnp.log(pool.x.shape[0]) - of_data


def _with_chains(
    model: Energy,
    method: str,
    chains: Chains,
    params: Params,
    key: Key,
    batch: Any,
    state: EnergyState,
) -> tuple[Array, EnergyState]:
    """Returns the contrast of each row with the end of a chain, [B], and the new state."""
    location, scale = standardiser(params)
    x, _ = _rows_of(batch)
    noise_key, start_key, take_key, chain_key = jax.random.split(key, 4)
    y = (x - location) / scale
    y += chains.data_noise * jax.random.normal(noise_key, y.shape, y.dtype)
    fixed = jax.lax.stop_gradient(params)
    start, taken = y, None
    if method != "cd":
        keys = jax.random.split(start_key, x.shape[0])
        start = (jax.vmap(model.sample_base, (0, None))(keys, fixed) - location) / scale
    if method == "pcd":
        if state.buffer is None:
            raise ValueError(
                "loss_state has no buffer: accepted is an EnergyState with one for pcd"
            )
        taken = replay.take(
            take_key, state.buffer, start, restart_probability=chains.restart_probability
        )
        start = taken.position
    keys = jax.random.split(chain_key, x.shape[0])
    energy_fn = functools.partial(model.standard_energy, fixed)
    negative = jax.vmap(functools.partial(move_chain, energy_fn, chains))(keys, start)
    negative = jax.lax.stop_gradient(negative)
    if taken is not None and state.buffer is not None:
        state = state._replace(buffer=replay.put_back(state.buffer, taken, negative))

    def row(y: Array, negative: Array) -> Array:
        return losses.contrastive_divergence(
            functools.partial(model.standard_energy, params),
            y,
            negative,
            regularisation=chains.regularisation,
        )

    return jax.vmap(row)(y, negative), state


def _matching(
    model: Energy,
    method: str,
    sigma: float,
    num_noise: int,
    params: Params,
    key: Key,
    batch: Any,
) -> Array:
    """Returns the score-matching, or conditional contrastive, loss of each row, [B]."""
    location, scale = standardiser(params)
    x, _ = _rows_of(batch)
    y = (x - location) / scale
    energy_fn = functools.partial(model.standard_energy, params)

    def row(key: Key, y: Array) -> Array:
        if method == "cnce":
            noise = jax.random.normal(key, (num_noise, *y.shape), y.dtype)
            noisy = y + sigma * noise
            return losses.conditional_noise_contrastive_estimation(energy_fn, y, noisy)
        if method == "exact":
            return losses.energy_exact_score_matching(energy_fn, y)
        if method == "ssm":
            direction = jax.random.rademacher(key, y.shape, y.dtype)
            return losses.energy_sliced_score_matching(energy_fn, y, direction)
        noise = jax.random.normal(key, y.shape, y.dtype)
        return losses.energy_denoising_score_matching(energy_fn, y, noise, sigma)

    return jax.vmap(row)(jax.random.split(key, x.shape[0]), y)
