"""The two fits of an energy on a table: the flow by likelihood, then the energy beside it."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from densityjax import training
from densityjax._typing import Key, NumpyArray, Params
from densityjax.estimators import _energy_functions as functions
from densityjax.estimators import _fitting
from densityjax.models import (
    EnergyLoss,
    EnergyState,
    Flow,
    NoisePool,
    map_rows,
    start_buffer,
)
from densityjax.models.energy import with_flow

NUM_POOL = 8_192  # draws of the flow that the energy is told from and judged by
FLOW_RATE, FLOW_DECAY = 1e-3, 1e-5  # of the flow's optimiser: those of `FlowDensity`

Callback = Callable[[training.FitProgress], None] | None


class Sizes(NamedTuple):
    """Most epochs of a fit, its rows per step, and the epochs it waits for a better one."""

    num_epochs: int
    batch_size: int
    patience: int


class EnergyFit(NamedTuple):
    """A fitted energy.

    Attributes:
      params: of the energy and its proposal.
      gain: nats a row above the flow alone, on the rows that the fit stopped on; not below zero
        where the flow alone is the start.
      history: the `FitResult`.
    """

    params: Params
    gain: float
    history: training.FitResult


def fit_flow(
    key: Key, flow: Flow, rows: NumpyArray, sizes: Sizes, *, purge: int, callback: Callback
) -> Params:
    """Fits the proposal by likelihood.

    Args:
      key: random key, typed.
      flow: the `Flow`.
      rows: [N, D] rows in order of time.
      sizes: of the fit.
      purge: rows dropped before those that the fit stops on.
      callback: as `training.fit` takes it.

    Returns:
      Its parameters.
    """
    fitted = _fitting.fit_members(
        key,
        flow,
        rows,
        None,
        num_members=1,
        purge=purge,
        learning_rate=FLOW_RATE,
        weight_decay=FLOW_DECAY,
        callback=callback,
        **sizes._asdict(),
    )
    return jax.tree.map(lambda leaf: leaf[0], fitted.params)


def fit_energy(
    key: Key,
    model: functions.ProposedEnergy,
    flow_params: Params,
    loss: EnergyLoss,
    rows: NumpyArray,
    sizes: Sizes,
    *,
    purge: int,
    learning_rate: float,
    weight_decay: float,
    num_chains: int,
    callback: Callback,
) -> EnergyFit:
    """Fits the energy; of a flow and the flow corrected the better one is kept.

    Args:
      key: random key, typed.
      model: energy and proposal.
      flow_params: those of the fitted proposal.
      loss: the losses of the fit.
      rows: [N, D] rows in order of time, those of the flow's fit.
      sizes: of the fit.
      purge: as for the flow, so that both stop on the same rows.
      learning_rate: peak rate of AdamW.
      weight_decay: decay of the network's kernels.
      num_chains: persistent chains, zero for none.
      callback: as `training.fit` takes it.

    Returns:
      The `EnergyFit`.
    """
    init_key, pool_key, buffer_key, fit_key = jax.random.split(key, 4)
    split = _fitting.fit_rows(rows, num_members=1, purge=purge)
    start = _fitting.init_members(model)(init_key[None], split.weights, *split.data)
    start = jax.tree.map(lambda leaf: leaf[0], start["energy"])
    has_flow = model.config.energy.base == "flow"
    if has_flow:
        start = with_flow(start, flow_params)
    params = {"energy": start, "proposal": flow_params}
    pool_keys = jax.random.split(pool_key, NUM_POOL)
    pool = map_rows(functions.pool_draw(model), pool_keys, shared=(params,))
    buffer = start_buffer(buffer_key, model.energy, start, num_chains) if num_chains else None

    def with_proposal(rows: NumpyArray) -> tuple[NumpyArray, NumpyArray]:
        log_prob_fn = functions.proposal_log_prob(model)
        return rows, np.asarray(map_rows(log_prob_fn, rows, shared=(params,)))

    num_steps = sizes.num_epochs * -(-len(split.data[0]) // sizes.batch_size)
    optimizer = training.adamw(
        num_steps=num_steps, learning_rate=learning_rate, weight_decay=weight_decay
    )
    history = training.fit(
        fit_key,
        loss.loss_fn,
        start,
        with_proposal(split.data[0]),
        validation=with_proposal(split.validation[0]),
        weights=split.weights[0],
        validation_weights=split.validation_weights[0],
        validation_loss_fn=loss.validation_loss_fn,
        optimizer=optimizer,
        loss_state=EnergyState(NoisePool(*map(jnp.asarray, pool)), buffer),
        callback=callback,
        **sizes._asdict(),
    )
    # The held-out loss is minus the log density above the flow's: that of the flow alone is zero.
    gain = -float(history.best_loss)
    if has_flow and gain <= 0.0:
        return EnergyFit(params, 0.0, history)
    return EnergyFit({"energy": history.params, "proposal": flow_params}, gain, history)
