"""Forecasts of many bars by forecasters that are refitted on a schedule: walk-forward.

Window k ends before bar `e_k = train_bars + k refit_every` and forecasts the bars from `e_k` up to
the next window's end. Its rows are those of `ReturnForecaster.fit(bars[s_k : e_k])`, its answers
those of `predict`, and a return that leads past the window is not known to it, which is the purge.
Windows whose rows fill up to the same size, as all rolling ones do (`s_k = e_k - train_bars`), are
fitted by one compiled program, vmapped over windows and members.
"""

import functools
from collections import defaultdict
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd

from densityjax._typing import Params
from densityjax.estimators import _fitting
from densityjax.estimators.return_forecaster import (
    ForecastRows,
    ReturnForecaster,
    forecast_rows,
    training_rows,
)
from densityjax.models import Flow, ReturnDistribution, map_rows
from densityjax.models.forecaster import return_marginals
from densityjax.training import adamw
from densityjax.training.loop import Plan, TrainState, check_sizes, init_state, run_chunk

CHUNK_EPOCHS = 10  # epochs per compiled call, as in `training.fit`


def walk_forward_forecasts(
    bars: pd.DataFrame,
    *,
    train_bars: int,
    refit_every: int,
    forecaster: ReturnForecaster | None = None,
    expanding: bool = False,
) -> ReturnDistribution:
    """Forecasts every bar after the first `train_bars` by the last forecaster fitted before it.

    Args:
      bars: frame of T bars, oldest first.
      train_bars: bars of the first window, and of each where windows roll, >= 1.
      refit_every: bars from one fit to the next, >= 1.
      forecaster: its constructor's arguments are used, horizon and seed among them; it is neither
        fitted nor changed. None for a `ReturnForecaster()`.
      expanding: whether windows start at the first bar instead of rolling. Such windows differ in
        length: those of about one length are fitted at once.

    Returns:
      The `ReturnDistribution` of all bars from number `train_bars` on that have enough history:
      the same, up to rounding, as from a loop of `fit` and `predict`.

    Raises:
      ValueError: if `bars` are not accepted, a window is too short to fit, a size is no positive
        integer, or no bar is left to forecast.
      FloatingPointError: if a loss or gradient is not finite; names the window.
    """
    for name, value in (("train_bars", train_bars), ("refit_every", refit_every)):
        if not isinstance(value, int | np.integer) or isinstance(value, bool) or value < 1:
            raise ValueError(f"{name} is {value!r}: accepted is an integer >= 1, in bars")
    forecaster = ReturnForecaster() if forecaster is None else forecaster
    rows = forecast_rows(bars, horizon=forecaster.horizon)
    ends = np.arange(train_bars, len(bars), refit_every)
    if not ends.size:
        raise ValueError(
            f"train_bars is {train_bars} of {len(bars)} bars: accepted are fewer than there are"
        )
    starts = np.zeros_like(ends) if expanding else ends - train_bars
    windows = [
        forecast_rows(bars.iloc[start:end], horizon=forecaster.horizon)
        for start, end in zip(starts, ends, strict=True)
    ]
    flow = forecaster.build_flow(len(rows.names))
    params = _fit_all(forecaster, flow, windows, rows.names)
    is_new = rows.index >= bars.index[train_bars]
    window = (bars.index.get_indexer(rows.index[is_new]) - train_bars) // refit_every
    answers = [
        map_rows(
            return_marginals(flow),
            rows.context[is_new][window == k],
            rows.log_scale[is_new][window == k],
            shared=(params[k],),
        )
        for k in np.unique(window)
    ]
    members = jax.tree.map(lambda *parts: np.concatenate(parts), *answers)
    return ReturnDistribution(rows.index[is_new], members)


def _fit_all(
    forecaster: ReturnForecaster, flow: Flow, windows: list[ForecastRows], names: tuple[str, ...]
) -> list[Params]:
    """Returns the parameters of each window's members; windows of equal size are fitted at once."""
    groups: dict[tuple[int, ...], list[int]] = defaultdict(list)
    purge = windows[0].window + windows[0].horizon
    parts = []
    for k, rows in enumerate(windows):
        if rows.names != names:
            raise ValueError(
                f"bars give window {k} the context columns {rows.names}: accepted are bars whose "
                f"windows all have those of the whole, {names}"
            )
        x, context = training_rows(rows)
        part = _fitting.fit_rows(x, context, num_members=forecaster.num_members, purge=purge)
        parts.append(part)
        groups[part.weights.shape + part.validation_weights.shape].append(k)
    params: list[Params] = [None] * len(windows)
    for numbers in groups.values():
        stacked = jax.tree.map(lambda *leaves: np.stack(leaves), *(parts[k] for k in numbers))
        fitted = _fit_windows(forecaster, flow, stacked, numbers=numbers)
        for position, k in enumerate(numbers):
            params[k] = jax.tree.map(lambda leaf, p=position: leaf[p], fitted)
    return params


def _fit_windows(
    forecaster: ReturnForecaster, flow: Flow, rows: _fitting.FitRows, *, numbers: list[int]
) -> Params:
    """Fits W windows, M members to a window; all leaves of `rows` have a leading axis of W.

    Keys, rates and the order of rows are those of `_fitting.fit_members` on one window.
    """
    num_members = forecaster.num_members
    init_key, fit_key = jax.random.split(jax.random.key(forecaster.random_state))
    init = _over_windows(_fitting.init_members(flow))
    params = init(jax.random.split(init_key, num_members), rows.weights, *rows.data)
    plan = _plan(forecaster, flow, rows.weights.shape[2])
    state = jax.vmap(jax.vmap(functools.partial(init_state, plan, loss_state=())))(params)
    state = jax.tree.map(lambda leaf: jnp.array(leaf, leaf.dtype, copy=True), state)
    keys = jax.random.split(fit_key, num_members)
    rows = jax.tree.map(jnp.asarray, rows)
    while not bool(jnp.all(state.is_stopped)):
        state = _chunk(plan)(keys, state, *rows)
        _raise_if_not_finite(state, numbers)
    return jax.device_get(state.best_params)


def _plan(forecaster: ReturnForecaster, flow: Flow, num_rows: int) -> Plan:
    """Returns the static part of a fit of `num_rows` rows."""
    batch_size = forecaster.batch_size
    if batch_size is None:
        batch_size = _fitting.default_batch_size(num_rows)
    check_sizes(
        num_epochs=forecaster.num_epochs, batch_size=batch_size, patience=forecaster.patience
    )
    optimizer = adamw(
        num_steps=forecaster.num_epochs * -(-num_rows // batch_size),
        learning_rate=forecaster.learning_rate,
        weight_decay=forecaster.weight_decay,
    )
    return Plan(
        _fitting.likelihood_loss(flow, drops_out=flow.config.dropout > 0),
        optimizer,
        forecaster.num_epochs,
        min(batch_size, num_rows),
        forecaster.patience,
        CHUNK_EPOCHS,
        _fitting.likelihood_loss(flow, drops_out=False),
    )


@functools.lru_cache(maxsize=16)
def _over_windows(init: Callable) -> Callable:
    """Returns the compiled start of all members of all windows; the keys are shared."""
    return jax.jit(jax.vmap(init, (None, 0, 0, 0)))


@functools.lru_cache(maxsize=16)
def _chunk(plan: Plan) -> Callable[..., TrainState]:
    """Returns the compiled chunk of epochs, vmapped over windows and, inside, over members."""
    over_members = jax.vmap(functools.partial(run_chunk, plan), (0, 0, None, 0, None, 0))
    over_windows = jax.vmap(over_members, (None, 0, 0, 0, 0, 0))
    return jax.jit(over_windows, donate_argnums=1)


def _raise_if_not_finite(state: Any, numbers: list[int]) -> None:
    """Raises FloatingPointError that names the window and member whose loss broke first."""
    epochs = np.asarray(state.bad_epoch)
    if (epochs < 0).all():
        return
    broken = np.where(epochs < 0, np.iinfo(epochs.dtype).max, epochs)
    window, member = np.unravel_index(np.argmin(broken), epochs.shape)
    raise FloatingPointError(
        f"the loss or its gradient is not finite: first in epoch {epochs[window, member]}, batch "
        f"{state.bad_batch[window, member]} of member {member} of window {numbers[window]}; look "
        "for rows that are not finite, or take a lower learning rate"
    )
