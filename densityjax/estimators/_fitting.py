"""What the estimators share: the loss of a batch of rows, and fits of several members."""

import functools
import os
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np

from densityjax import losses, training
from densityjax._typing import Array, Key, Params
from densityjax.models import DualScore, Flow, Score, ScoreLoss, dual_score_loss, score_loss
from densityjax.training.loop import check_sizes


@functools.lru_cache(maxsize=64)
def likelihood_loss(flow: Flow, *, drops_out: bool) -> Callable:
    """Returns the negative log-likelihood of each row of a batch; one object per flow.

    Args:
      flow: the density; a batch is (x [B, D],) or (x [B, D], context [B, C]).
      drops_out: whether the flow's dropout acts, as in training and never in judging.

    Returns:
      A loss as `training.fit` takes it.
    """

    def loss(params: Params, key: Key, batch: tuple, loss_state: Any) -> tuple[Array, Any, tuple]:
        def one(key: Key, *row: Array) -> Array:
            dropout_key = key if drops_out else None
            log_prob_fn = functools.partial(flow.log_prob, params, dropout_key=dropout_key)
            return losses.negative_log_likelihood(log_prob_fn, *row)

        keys = jax.random.split(key, batch[0].shape[0])
        return jax.vmap(one)(keys, *batch), loss_state, ()

    return loss


@functools.lru_cache(maxsize=64)
def denoising_loss(model: Score | DualScore) -> ScoreLoss:
    """Returns the losses of a score model or dual energy for batches (x [B, D],)."""
    pair = dual_score_loss(model) if isinstance(model, DualScore) else score_loss(model)

    def of_rows(loss_fn: Callable) -> Callable:
        return lambda params, key, batch, loss_state: loss_fn(params, key, batch[0], loss_state)

    return ScoreLoss(of_rows(pair.loss_fn), of_rows(pair.validation_loss_fn))


def folds(num_rows: int, num_members: int, purge: int) -> tuple[np.ndarray, np.ndarray]:
    """Gives each member a block of time to stop on, and all other rows to learn from.

    Args:
      num_rows: rows in order of time.
      num_members: members M; the rows fall into M blocks, or five where M is smaller.
      purge: rows dropped from the training rows on both sides of the member's block.

    Returns:
      Training weights and validation weights, [M, num_rows] each, zeros and ones.

    Raises:
      ValueError: if an argument is out of range, or the rows are too few for blocks and purge.
    """
    if num_members < 1 or purge < 0:
        raise ValueError(
            f"num_members is {num_members} and purge {purge}: accepted are >= 1 and >= 0"
        )
    num_blocks = max(num_members, 5)
    edges = np.linspace(0, num_rows, num_blocks + 1).astype(int)
    if edges[1] < 1 or num_rows - edges[1] - 2 * purge < edges[1]:
        raise ValueError(
            f"{num_rows} rows are too few: {num_blocks} blocks with a purge of {purge} rows need "
            f"{2 * purge * num_blocks // (num_blocks - 2) + num_blocks + 1}"
        )
    row = np.arange(num_rows)
    # Spread over time when there are fewer members than blocks; a single one stops on the last.
    blocks = [num_blocks - 1 - m * num_blocks // num_members for m in range(num_members)]
    validation = np.stack([(row >= edges[b]) & (row < edges[b + 1]) for b in blocks])
    near = np.stack([(row >= edges[b] - purge) & (row < edges[b + 1] + purge) for b in blocks])
    return (~near).astype(np.float32), validation.astype(np.float32)


class FitRows(NamedTuple):
    """The rows of a fit, filled up to sizes that many fits share, so that programs are found again.

    Attributes:
      data: pytree of arrays [P, ...], rows to learn from, then zeros.
      weights: [M, P] zeros and ones; the zeros at the end have none.
      validation: pytree of arrays [Q, ...], rows to stop on, then zeros.
      validation_weights: [M, Q] likewise.
    """

    data: tuple[np.ndarray, ...]
    weights: np.ndarray
    validation: tuple[np.ndarray, ...]
    validation_weights: np.ndarray


def padded_size(num_rows: int) -> int:
    """Returns the least of the common sizes, 16 to an octave, that holds `num_rows` rows."""
    step = 2 ** max((num_rows - 1).bit_length() - 5, 0)
    return -(-num_rows // step) * step


def fit_rows(*rows: np.ndarray, num_members: int, purge: int) -> FitRows:
    """Splits rows between the members of an ensemble, and fills them up to common sizes.

    Args:
      *rows: arrays [N, ...] in order of time.
      num_members: members M.
      purge: rows dropped from the training rows on both sides of a member's block.

    Returns:
      The `FitRows`: `data` and `validation` are the same rows for several members, weighted by
      `folds`; a single one has its own rows alone, for those of weight zero cost as much.

    Raises:
      ValueError: as `folds`.
    """
    weights, validation_weights = folds(rows[0].shape[0], num_members, purge)

    def filled(weights: np.ndarray) -> tuple[tuple[np.ndarray, ...], np.ndarray]:
        keep = weights[0] > 0 if num_members == 1 else np.ones(weights.shape[1], bool)
        num_zeros = padded_size(int(keep.sum())) - int(keep.sum())
        parts = tuple(
            np.pad(
                np.asarray(leaf, np.float32)[keep], [(0, num_zeros)] + [(0, 0)] * (leaf.ndim - 1)
            )
            for leaf in rows
        )
        return parts, np.pad(weights[:, keep], [(0, 0), (0, num_zeros)])

    return FitRows(*filled(weights), *filled(validation_weights))


def default_batch_size(num_rows: int, *, num_steps: int = 64) -> int:
    """Chooses the rows per step.

    Args:
      num_rows: rows to learn from.
      num_steps: about the steps an epoch is to have, where the limits let it.

    Returns:
      A power of two from 256 to 2,048.
    """
    return int(np.clip(2 ** round(np.log2(max(num_rows / num_steps, 1))), 256, 2048))


def default_num_epochs(num_rows: int) -> int:
    """Chooses the most passes over the rows: about 300,000 rows seen in all, 20 to 200 passes.

    The rate of the optimiser falls to zero over just these. Held-out density gains more from a
    rate that has fallen than from further passes at a high one, which only early stopping ends.

    Args:
      num_rows: rows to learn from.

    Returns:
      The number of epochs.
    """
    return int(np.clip(round(300_000 / max(num_rows, 1)), 20, 200))


def fit_members(
    key: Key,
    model: Flow | Score | DualScore,
    x: np.ndarray,
    context: np.ndarray | None,
    *,
    num_members: int,
    purge: int,
    num_epochs: int,
    batch_size: int | None,
    patience: int,
    learning_rate: float,
    weight_decay: float,
    loss: ScoreLoss | None = None,
    callback: Callable[[training.FitProgress], None] | None = None,
    checkpoint_path: str | os.PathLike | None = None,
) -> training.FitResult:
    """Fits M models, each stopped on its own block of time.

    Args:
      key: typed key.
      model: the density, fitted by likelihood, or a score model, by `loss`.
      x: [N, D] rows in order of time.
      context: [N, C] what each row is conditioned on, or None.
      num_members: members M.
      purge: rows dropped around a member's block, the longest window plus the horizon.
      num_epochs: most passes over the rows.
      batch_size: rows per step; None for `default_batch_size` of the filled-up rows.
      patience: epochs without a better loss before a member stops.
      learning_rate: peak rate of AdamW.
      weight_decay: decay of the networks' kernels.
      loss: what score models are fitted by; None for `denoising_loss`, without a context.
      callback: as `training.fit` takes it.
      checkpoint_path: as `training.fit` takes it.

    Returns:
      The `FitResult`, every field with a leading axis of M.

    Raises:
      ValueError: if the rows are too few, or an argument is not accepted.
      FloatingPointError: if a loss or gradient is not finite.
    """
    rows = fit_rows(
        *((x,) if context is None else (x, context)), num_members=num_members, purge=purge
    )
    num_rows = rows.weights.shape[1]
    batch_size = default_batch_size(num_rows) if batch_size is None else batch_size
    # Before the start is compiled, which takes seconds.
    check_sizes(num_epochs=num_epochs, batch_size=batch_size, patience=patience)
    init_key, fit_key = jax.random.split(key)
    params = init_members(model)(jax.random.split(init_key, num_members), rows.weights, *rows.data)
    num_steps = num_epochs * -(-num_rows // batch_size)
    if isinstance(model, Flow):
        loss_fn = likelihood_loss(model, drops_out=model.config.dropout > 0)
        validation_loss_fn = likelihood_loss(model, drops_out=False)
    else:
        loss_fn, validation_loss_fn = denoising_loss(model) if loss is None else loss
    return training.fit_ensemble(
        jax.random.split(fit_key, num_members),
        loss_fn,
        params,
        rows.data,
        validation=rows.validation,
        weights=rows.weights,
        validation_weights=rows.validation_weights,
        validation_loss_fn=validation_loss_fn,
        optimizer=training.adamw(
            num_steps=num_steps,
            learning_rate=learning_rate,
            weight_decay=weight_decay,
        ),
        num_epochs=num_epochs,
        batch_size=batch_size,
        patience=patience,
        callback=callback,
        checkpoint_path=checkpoint_path,
    )


@functools.lru_cache(maxsize=64)
def init_members(model: Flow | Score | DualScore) -> Callable:
    """Returns the compiled (keys [M], weights [M, N], x, context) -> params of M members."""

    def one(key: Key, weights: Array, x: Array, context: Array | None = None) -> Params:
        return model.init(key, x, context, weights)

    num_data = 2 if model.config.context_dim else 1
    return jax.jit(jax.vmap(one, in_axes=(0, 0, *(None,) * num_data)))
