"""Fitting: one compiled chunk of epochs, looped by the host.

The host looks at the state only between chunks: for progress, checkpoints and an early exit.
`fit_ensemble` is the same program under `vmap` over keys, parameters and row weights.
"""

import functools
import os
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from densityjax._typing import ArrayLike, Key, Params
from densityjax.training import checkpoint
from densityjax.training.loop import (
    LossFn,
    Plan,
    TrainState,
    check_sizes,
    init_state,
    run_chunk,
)
from densityjax.training.optimizers import adamw


class FitResult(NamedTuple):
    """What a finished fit hands over; an ensemble has a leading axis of members on every field.

    Attributes:
      params: the parameters with the lowest validation loss.
      train_loss: [num_epochs] mean training loss of each epoch, NaN where not run.
      validation_loss: [num_epochs] validation loss after each epoch, NaN where not run.
      best_loss: [] the lowest validation loss; `params` reproduce it.
      best_epoch: [] the epoch (from 0) after which it was reached.
      num_epochs: [] epochs run.
      state: the whole `TrainState`, for whoever wants to go on.
    """

    params: Params
    train_loss: np.ndarray
    validation_loss: np.ndarray
    best_loss: np.ndarray
    best_epoch: np.ndarray
    num_epochs: np.ndarray
    state: TrainState


class FitProgress(NamedTuple):
    """What a progress callback is told after each chunk.

    Attributes:
      epoch: epochs done by the member that went furthest.
      num_epochs: the largest number of epochs.
      num_running: members not stopped yet.
      best_loss: mean over members of the lowest validation loss.
    """

    epoch: int
    num_epochs: int
    num_running: int
    best_loss: float


@functools.lru_cache(maxsize=64)
def _compiled(plan: Plan, weight_ranks: tuple[int, int] | None) -> Callable:
    """The jitted chunk; `weight_ranks` is None for one fit, else 1 (shared) or 2 (of members)."""
    chunk = functools.partial(run_chunk, plan)
    if weight_ranks is not None:
        train_axis, validation_axis = (0 if rank == 2 else None for rank in weight_ranks)
        chunk = jax.vmap(chunk, in_axes=(0, 0, None, train_axis, None, validation_axis))
    # The state is donated: parameters, moments and best copy are updated where they lie.
    return jax.jit(chunk, donate_argnums=1)


def _num_rows(data: Any, name: str) -> int:
    sizes = {leaf.shape[0] for leaf in jax.tree.leaves(data)}
    if len(sizes) != 1 or not next(iter(sizes)):
        raise ValueError(
            f"{name} have leading sizes {sorted(sizes)}: accepted is one size of at least 1"
        )
    return sizes.pop()


def _checked_weights(
    weights: ArrayLike | None, data: Any, name: str, *, num_members: int | None = None
) -> jax.Array:
    """Returns the weights of rows, [N] or, of an ensemble, also [M, N]; ones for None."""
    num_rows = _num_rows(data, "data" if name == "weights" else "validation")
    if weights is None:
        return jnp.ones(num_rows)
    values = np.asarray(weights, np.float32)
    accepted = [(num_rows,)] + ([] if num_members is None else [(num_members, num_rows)])
    if values.shape not in accepted:
        raise ValueError(f"{name} has shape {values.shape}: accepted are {accepted}")
    is_fine = np.isfinite(values).all() and (values >= 0).all() and (values.sum(-1) > 0).all()
    if not is_fine:
        raise ValueError(f"{name} must be finite, not negative and not all zero")
    return jnp.asarray(values)


def _raise_if_not_finite(state: TrainState) -> None:
    epochs, batches = np.atleast_1d(state.bad_epoch), np.atleast_1d(state.bad_batch)
    broken = np.flatnonzero(epochs >= 0)
    if broken.size == 0:
        return
    member = broken[np.argmin(epochs[broken])]
    where = (
        f"batch {batches[member]}" if batches[member] >= 0 else "the evaluation of the validation"
    )
    of_member = f" of member {member}" if epochs.size > 1 else ""
    raise FloatingPointError(
        f"the loss or its gradient is not finite: first in epoch {epochs[member]}, {where}"
        f"{of_member}; look for rows that are not finite, or take a lower learning rate"
    )


def _check_loss(plan: Plan, params: Params, data: Any, loss_state: Any, *weights: Any) -> None:
    """Traces the loss once and raises where its shape, or weights beside it, are not accepted."""
    size = plan.batch_size
    batch = jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct((size, *np.shape(leaf)[1:]), jnp.asarray(leaf).dtype),
        data,
    )
    loss, *_ = jax.eval_shape(plan.loss_fn, params, jax.random.key(0), batch, loss_state)
    if loss.shape not in ((), (size,)):
        raise ValueError(f"loss_fn gives shape {loss.shape}: accepted are () and ({size},)")
    if loss.shape == () and any(each is not None for each in weights):
        raise ValueError(
            f"weights need the loss of each row: loss_fn gives shape (), accepted is ({size},)"
        )


def _run(
    key: Key,
    plan: Plan,
    state: TrainState,
    data: Any,
    weights: Any,
    validation: Any,
    validation_weights: Any,
    *,
    weight_ranks: tuple[int, int] | None,
    callback: Callable[[FitProgress], None] | None,
    checkpoint_path: str | os.PathLike | None,
) -> FitResult:
    chunk = _compiled(plan, weight_ranks)
    data, validation = jax.tree.map(jnp.asarray, (data, validation))
    arrays = (jax.random.key_data(key), data, weights, validation, validation_weights)
    label = repr(plan[2:6]) + (f" {plan.ema_decay}" if plan.ema_decay is not None else "")
    mark = checkpoint.fingerprint(label, arrays if checkpoint_path is not None else ())
    if checkpoint_path is not None and checkpoint.exists(checkpoint_path):
        stored = checkpoint.load(checkpoint_path, {"state": state, "fit": mark})
        if not np.array_equal(stored["fit"], mark):
            raise ValueError(
                f"checkpoint_path is {str(checkpoint_path)!r}: it holds another fit, with other "
                "data, weights, key or sizes; accepted is a new folder or that of this very fit"
            )
        state = stored["state"]
    # Copied, for it is donated below; with its type named, or the weakly typed start would cost a
    # second compilation, of the same program for what comes back from the first call.
    state = jax.tree.map(lambda leaf: jnp.array(leaf, leaf.dtype, copy=True), state)
    while not bool(jnp.all(state.is_stopped)):
        state = chunk(key, state, data, weights, validation, validation_weights)
        _raise_if_not_finite(state)
        if checkpoint_path is not None:
            checkpoint.save(checkpoint_path, {"state": state, "fit": mark})
        if callback is not None:
            epoch, running = int(jnp.max(state.epoch)), int(jnp.sum(~state.is_stopped))
            callback(FitProgress(epoch, plan.num_epochs, running, float(state.best_loss.mean())))
    host = jax.device_get(state)
    return FitResult(
        host.best_params,
        host.train_loss,
        host.validation_loss,
        host.best_loss,
        host.best_epoch,
        host.epoch,
        host,
    )


def _plan(
    loss_fn: LossFn,
    optimizer: optax.GradientTransformation | None,
    num_epochs: int,
    batch_size: int,
    patience: int,
    chunk_epochs: int,
    num_rows: int,
) -> Plan:
    check_sizes(
        num_epochs=num_epochs, batch_size=batch_size, patience=patience, chunk_epochs=chunk_epochs
    )
    batch_size = min(batch_size, num_rows)
    if optimizer is None:
        optimizer = adamw(num_steps=num_epochs * -(-num_rows // batch_size))
    return Plan(loss_fn, optimizer, num_epochs, batch_size, patience, chunk_epochs)


def fit(
    key: Key,
    loss_fn: LossFn,
    params: Params,
    data: Any,
    *,
    validation: Any = None,
    optimizer: optax.GradientTransformation | None = None,
    num_epochs: int = 200,
    batch_size: int = 256,
    patience: int = 20,
    weights: ArrayLike | None = None,
    validation_weights: ArrayLike | None = None,
    validation_loss_fn: LossFn | None = None,
    loss_state: Any = (),
    chunk_epochs: int = 10,
    callback: Callable[[FitProgress], None] | None = None,
    checkpoint_path: str | os.PathLike | None = None,
    ema_decay: float | None = None,
) -> FitResult:
    """Fits parameters by minibatch descent with early stopping on validation rows.

    Args:
      key: key of shuffling, of the loss's noise, and of the (fixed) validation noise.
      loss_fn: (params, key, batch, loss_state) -> (loss [], loss_state, aux); `batch` is a
        `data` with B rows, and the loss is [B], one a row, which `fit` weights and averages; or []
        of the whole batch, which then takes no weights, and where B does not divide N the last
        batch of an epoch is filled up with rows of its first.
      params: pytree of starting parameters.
      data: pytree of arrays [N, ...], the training rows.
      validation: pytree of arrays [V, ...] like `data`: early stopping looks at these alone. None
        takes the training rows themselves, which stops a fit that no longer improves on them.
      optimizer: an optax transformation; None for `adamw` over all steps.
      num_epochs: most passes over the rows.
      batch_size: rows per step, at most N are used.
      patience: epochs without a lower validation loss before stopping.
      weights: [N] weights of the training rows, or None for ones.
      validation_weights: [V] the same for the validation rows.
      validation_loss_fn: loss that judges the validation rows, without dropout for one; None
        takes `loss_fn`.
      loss_state: what the loss carries from step to step, or ().
      chunk_epochs: epochs per compiled call; the host looks in between.
      callback: told a `FitProgress` after each chunk.
      checkpoint_path: folder for the state after each chunk. A fit that finds one there goes on
        from it, bit for bit as if it had not stopped, if all other arguments are the same.
      ema_decay: judge and return a running average, of decay min(this, (1 + t) / (10 + t)).

    Returns:
      The `FitResult`, with the best parameters, never the last.

    Raises:
      ValueError: if a size, a weight or a checkpoint is not accepted.
      FloatingPointError: if a loss or gradient is not finite; names the first epoch and batch.
    """
    num_rows = _num_rows(data, "data")
    params = jax.tree.map(jnp.asarray, params)
    plan = _plan(loss_fn, optimizer, num_epochs, batch_size, patience, chunk_epochs, num_rows)
    plan = plan._replace(validation_loss_fn=validation_loss_fn, ema_decay=ema_decay)
    _check_loss(plan, params, data, loss_state, weights, validation_weights)
    if validation is None:
        validation, validation_weights = data, weights
    return _run(
        key,
        plan,
        init_state(plan, params, loss_state),
        data,
        _checked_weights(weights, data, "weights"),
        validation,
        _checked_weights(validation_weights, validation, "validation_weights"),
        weight_ranks=None,
        callback=callback,
        checkpoint_path=checkpoint_path,
    )


def fit_ensemble(
    keys: Key,
    loss_fn: LossFn,
    params: Params,
    data: Any,
    *,
    validation: Any = None,
    optimizer: optax.GradientTransformation | None = None,
    num_epochs: int = 200,
    batch_size: int = 256,
    patience: int = 20,
    weights: ArrayLike | None = None,
    validation_weights: ArrayLike | None = None,
    validation_loss_fn: LossFn | None = None,
    loss_state: Any = (),
    chunk_epochs: int = 10,
    callback: Callable[[FitProgress], None] | None = None,
    checkpoint_path: str | os.PathLike | None = None,
) -> FitResult:
    """As `fit`, for M members at once in one program; members stop on their own.

    Args:
      keys: [M] keys, one a member.
      loss_fn: as in `fit`, for one member.
      params: pytree with a leading axis of M on every leaf.
      data: as in `fit`, shared by the members.
      validation: as in `fit`, shared by the members.
      optimizer: as in `fit`.
      num_epochs: as in `fit`.
      batch_size: as in `fit`.
      patience: as in `fit`.
      weights: [N] shared, [M, N] of each member (bootstrap counts, windows), or None.
      validation_weights: [V] shared, [M, V] of each member, or None.
      validation_loss_fn: as in `fit`.
      loss_state: as in `fit`, for one member; each gets a copy.
      chunk_epochs: as in `fit`.
      callback: as in `fit`.
      checkpoint_path: as in `fit`.

    Returns:
      The `FitResult`, every field with a leading axis of M.

    Raises:
      ValueError: as in `fit`.
      FloatingPointError: as in `fit`; names the member too.
    """
    num_rows = _num_rows(data, "data")
    params = jax.tree.map(jnp.asarray, params)
    plan = _plan(loss_fn, optimizer, num_epochs, batch_size, patience, chunk_epochs, num_rows)
    plan = plan._replace(validation_loss_fn=validation_loss_fn)
    first = jax.tree.map(lambda leaf: leaf[0], params)
    _check_loss(plan, first, data, loss_state, weights, validation_weights)
    if validation is None:
        validation, validation_weights = data, weights
    members = keys.shape[0]
    row_weights = _checked_weights(weights, data, "weights", num_members=members)
    validation_rows = _checked_weights(
        validation_weights, validation, "validation_weights", num_members=members
    )
    state = jax.vmap(lambda p: init_state(plan, p, loss_state))(params)
    return _run(
        keys,
        plan,
        state,
        data,
        row_weights,
        validation,
        validation_rows,
        weight_ranks=(row_weights.ndim, validation_rows.ndim),
        callback=callback,
        checkpoint_path=checkpoint_path,
    )
