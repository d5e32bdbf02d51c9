"""The compiled part of a fit: a chunk of epochs, each a scan over shuffled minibatches.

Everything that changes lives in `TrainState`, so that a chunk is one pure function, a stopped fit
resumes bit for bit, and an ensemble is the same function under `vmap`.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp
import optax

from densityjax._typing import Array, Key, Params

EVALUATION_ROWS = 4096  # rows per evaluation batch: bounds memory, not the result

LossFn = Callable[[Params, Key, Any, Any], tuple[Array, Any, Any]]


class Plan(NamedTuple):
    """The static part of a fit; hashable, so that equal plans share a compiled program.

    Attributes:
      loss_fn: the loss, [] of the batch, or [B], one a row, to be weighted here.
      optimizer: the optax transformation.
      num_epochs: most passes over the rows.
      batch_size: rows per step, B.
      patience: epochs without a lower validation loss before stopping.
      chunk_epochs: epochs per compiled call.
      validation_loss_fn: the loss that judges; None where `loss_fn` judges too.
      ema_decay: of the running average of parameters that is judged and kept, or None.
    """

    loss_fn: LossFn
    optimizer: optax.GradientTransformation
    num_epochs: int
    batch_size: int
    patience: int
    chunk_epochs: int
    validation_loss_fn: LossFn | None = None
    ema_decay: float | None = None


def check_sizes(**sizes: int) -> None:
    """Raises ValueError, which names the first, unless all sizes of a fit are at least 1."""
    for name, value in sizes.items():
        if value < 1:
            raise ValueError(f"{name} is {value}: accepted is an integer of at least 1")


class TrainState(NamedTuple):
    """All that an interrupted fit needs to go on.

    Attributes:
      params: parameters after the last step.
      opt_state: state of the optimiser.
      loss_state: what the loss carries from step to step (a replay buffer), or ().
      best_params: parameters with the lowest validation loss so far.
      best_loss: [] that loss.
      best_epoch: [] the epoch after which it was reached, -1 before the first.
      epoch: [] epochs done.
      is_stopped: [] True after early stopping, the last epoch, or a non-finite loss.
      bad_epoch: [] first epoch with a non-finite loss or gradient, -1 for none.
      bad_batch: [] first such minibatch of that epoch, -1 for none.
      train_loss: [num_epochs] mean training loss of each epoch, NaN where not run.
      validation_loss: [num_epochs] the same for the validation rows.
      average: running average of the parameters, or () where none is kept.
    """

    params: Params
    opt_state: optax.OptState
    loss_state: Any
    best_params: Params
    best_loss: Array
    best_epoch: Array
    epoch: Array
    is_stopped: Array
    bad_epoch: Array
    bad_batch: Array
    train_loss: Array
    validation_loss: Array
    average: Params = ()


def init_state(plan: Plan, params: Params, loss_state: Any) -> TrainState:
    """Builds the state before the first step.

    Args:
      plan: the static part of the fit.
      params: pytree of starting parameters.
      loss_state: what the loss carries from step to step, or ().

    Returns:
      The `TrainState` of epoch 0: no loss recorded yet, the best loss infinite.

    Raises:
      ValueError: if the decay is not in (0, 1).
    """
    if plan.ema_decay is not None and not 0.0 < plan.ema_decay < 1.0:
        raise ValueError(f"ema_decay is {plan.ema_decay}: accepted is None or 0 < ema_decay < 1")
    empty = jnp.full(plan.num_epochs, jnp.nan)
    minus_one = jnp.asarray(-1, jnp.int32)
    return TrainState(
        params=params,
        opt_state=plan.optimizer.init(params),
        loss_state=loss_state,
        best_params=params,
        best_loss=jnp.asarray(jnp.inf),
        best_epoch=minus_one,
        epoch=jnp.asarray(0, jnp.int32),
        is_stopped=jnp.asarray(False),
        bad_epoch=minus_one,
        bad_batch=minus_one,
        train_loss=empty,
        validation_loss=empty,
        average=() if plan.ema_decay is None else params,
    )


class _Steps(NamedTuple):
    """Rows of S steps of B rows; where N is no multiple of B, first rows stand in twice.

    Attributes:
      rows: [S, B] row numbers.
      is_first: [S, B] False where a row stands in again.
    """

    rows: Array
    is_first: Array


def _steps(order: Array, batch_size: int) -> _Steps:
    """Splits row numbers [N], in the order given, into batches."""
    num_rows = order.shape[0]
    num_steps = -(-num_rows // batch_size)
    index = jnp.arange(num_steps * batch_size)
    shape = (num_steps, batch_size)
    return _Steps(order[index % num_rows].reshape(shape), (index < num_rows).reshape(shape))


def _take(data: Any, weight: Array, rows: Array) -> Any:
    """Gathers rows; those of zero weight are replaced by zeros, which no NaN can pass."""

    def gather(leaf: Array) -> Array:
        keep = (weight > 0).reshape((-1,) + (1,) * (leaf.ndim - 1))
        return jnp.where(keep, leaf[rows], jnp.zeros((), leaf.dtype))

    return jax.tree.map(gather, data)


def _batch_loss(
    loss_fn: LossFn,
    params: Params,
    key: Key,
    data: Any,
    weights: Array,
    loss_state: Any,
    rows: _Steps,
    scale: Array,
) -> tuple[Array, Any]:
    """Returns the loss of one batch; of row losses, `scale` times their weighted mean."""
    weight = weights[rows.rows]
    batch = _take(data, weight, rows.rows)
    loss, loss_state, _ = loss_fn(params, key, batch, loss_state)
    if loss.ndim == 0:
        return loss, loss_state
    chex.assert_equal_shape([loss, weight])
    # A row of zero weight was replaced: whatever the loss says of it does not count.
    counted = jnp.where(rows.is_first & (weight > 0), weight * loss, 0.0)
    return scale * jnp.mean(counted), loss_state


def evaluate(
    plan: Plan, params: Params, key: Key, data: Any, weights: Array, loss_state: Any
) -> Array:
    """Computes the weighted mean loss over all rows, in batches.

    Args:
      plan: the static part of the fit; its validation loss judges, if it has one.
      params: pytree of parameters.
      key: key of the loss's noise; the same key gives the same noise, so that epochs compare.
      data: pytree of arrays [N, ...].
      weights: [N] weights of the rows, not negative, of positive sum.
      loss_state: what the loss carries; what it hands back is dropped.

    Returns:
      [] the mean loss, in the unit of the loss. No row counts twice, whatever N is.
    """
    num_rows = weights.shape[0]
    size = min(num_rows, max(plan.batch_size, EVALUATION_ROWS))
    num_full, num_left = divmod(num_rows, size)
    scale = num_rows / jnp.sum(weights)
    loss_fn = plan.validation_loss_fn or plan.loss_fn

    def one(inputs: tuple[Array, Array]) -> Array:
        index, rows = inputs
        steps = _Steps(rows, jnp.ones(rows.shape, bool))
        step_key = jax.random.fold_in(key, index)
        return _batch_loss(loss_fn, params, step_key, data, weights, loss_state, steps, scale)[0]

    full = jnp.arange(num_full * size).reshape(num_full, size)
    total = size * jnp.sum(jax.lax.map(one, (jnp.arange(num_full), full)))
    if num_left:  # a batch of its own size: no row counts twice
        left = jnp.arange(num_rows - num_left, num_rows)
        total += num_left * one((jnp.asarray(num_full), left))
    return total / num_rows


def _averaged(plan: Plan, average: Params, params: Params, done: tuple[Any, int, Any]) -> Params:
    """Moves the running average; in early steps it forgets sooner, or it would keep the start."""
    if plan.ema_decay is None:
        return average
    epoch, num_steps, index = done
    step = epoch * num_steps + index
    share = 1.0 - jnp.minimum(plan.ema_decay, (1.0 + step) / (10.0 + step))
    # Written so that a leaf that does not change stays what it is, to the bit.
    return jax.tree.map(lambda a, p: (a + share * (p - a)).astype(a.dtype), average, params)


def _train_epoch(plan: Plan, key: Key, state: TrainState, data: Any, weights: Array) -> TrainState:
    epoch_key = jax.random.fold_in(key, state.epoch)
    shuffle_key, steps_key = jax.random.split(epoch_key)
    order = jax.random.permutation(shuffle_key, weights.shape[0])
    steps = _steps(order, plan.batch_size)
    # Rows are drawn once an epoch, so this makes a batch unbiased for the weighted mean.
    scale = steps.rows.size / jnp.sum(weights)
    loss_and_grad = jax.value_and_grad(functools.partial(_batch_loss, plan.loss_fn), has_aux=True)

    def one_step(carry: tuple, inputs: tuple[Array, _Steps]) -> tuple[tuple, Array]:
        params, opt_state, loss_state, average, bad_batch = carry
        index, rows = inputs
        step_key = jax.random.fold_in(steps_key, index)
        (loss, loss_state_new), grads = loss_and_grad(
            params, step_key, data, weights, loss_state, rows, scale
        )
        updates, opt_state_new = plan.optimizer.update(grads, opt_state, params)
        is_finite = jnp.isfinite(loss) & jnp.isfinite(optax.tree.norm(grads))
        keep = is_finite & (bad_batch < 0)
        params_new = optax.apply_updates(params, updates)
        average_new = _averaged(
            plan, average, params_new, (state.epoch, steps.rows.shape[0], index)
        )
        new = (params_new, opt_state_new, loss_state_new, average_new)
        old = (params, opt_state, loss_state, average)
        kept = jax.tree.map(lambda n, o: jnp.where(keep, n, o), new, old)
        bad_batch = jnp.where((bad_batch < 0) & ~is_finite, index, bad_batch)
        return (*kept, bad_batch), loss

    carry = (state.params, state.opt_state, state.loss_state, state.average)
    carry = (*carry, jnp.asarray(-1, jnp.int32))
    inputs = (jnp.arange(steps.rows.shape[0], dtype=jnp.int32), steps)
    carry, losses = jax.lax.scan(one_step, carry, inputs)
    params, opt_state, loss_state, average, bad_batch = carry
    return state._replace(
        params=params,
        opt_state=opt_state,
        loss_state=loss_state,
        average=average,
        bad_batch=bad_batch,
        bad_epoch=jnp.where(bad_batch >= 0, state.epoch, -1),
        train_loss=state.train_loss.at[state.epoch].set(jnp.mean(losses)),
    )


def _judged(plan: Plan, state: TrainState) -> Params:
    """Returns the parameters that are evaluated and kept: the average, if there is one."""
    return state.params if plan.ema_decay is None else state.average


def _close_epoch(plan: Plan, state: TrainState, validation_loss: Array) -> TrainState:
    """Keeps the best parameters and decides whether to stop."""
    is_bad = (state.bad_batch >= 0) | ~jnp.isfinite(validation_loss)
    is_better = ~is_bad & (validation_loss < state.best_loss)
    best_epoch = jnp.where(is_better, state.epoch, state.best_epoch)
    is_late = state.epoch - best_epoch >= plan.patience
    is_last = state.epoch + 1 >= plan.num_epochs
    return state._replace(
        best_params=jax.tree.map(
            lambda new, old: jnp.where(is_better, new, old), _judged(plan, state), state.best_params
        ),
        best_loss=jnp.where(is_better, validation_loss, state.best_loss),
        best_epoch=best_epoch,
        bad_epoch=jnp.where(is_bad, state.epoch, -1),
        epoch=state.epoch + 1,
        is_stopped=is_bad | is_late | is_last,
        validation_loss=state.validation_loss.at[state.epoch].set(validation_loss),
    )


def run_chunk(
    plan: Plan,
    key: Key,
    state: TrainState,
    data: Any,
    weights: Array,
    validation: Any,
    validation_weights: Array,
) -> TrainState:
    """Runs up to `plan.chunk_epochs` epochs; a stopped state is returned as it came.

    Args:
      plan: the static part of the fit.
      key: key of the whole fit; what each epoch draws depends on it and the epoch's number alone.
      state: where the fit stands.
      data: pytree of arrays [N, ...], the training rows.
      weights: [N] their weights.
      validation: pytree of arrays [V, ...] like `data`.
      validation_weights: [V] their weights.

    Returns:
      The `TrainState` after the last of these epochs.
    """
    train_key, validation_key = jax.random.split(key)
    last = state.epoch + plan.chunk_epochs

    def one_epoch(state: TrainState) -> TrainState:
        state = _train_epoch(plan, train_key, state, data, weights)
        loss = evaluate(
            plan,
            _judged(plan, state),
            validation_key,
            validation,
            validation_weights,
            state.loss_state,
        )
        return _close_epoch(plan, state, loss)

    return jax.lax.while_loop(lambda s: (s.epoch < last) & ~s.is_stopped, one_epoch, state)
