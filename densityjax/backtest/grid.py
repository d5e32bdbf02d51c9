"""Thousands of rules at once: one scan over time, with the configurations as its vector axis.

Chunks of configurations run one after the other, each split over the devices of the process, and
hand over a few sums for each configuration; their figures are computed on the host in float64. The
results of two runs are equal bit for bit at equal sizes of a chunk, type and backend alone.
"""

import functools
import os
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from densityjax._typing import ArrayLike, NumpyArray
from densityjax.backtest import engine, grid_devices, rules
from densityjax.backtest.columns import MarketColumns
from densityjax.backtest.grid_assets import asset_market, join_assets, num_assets
from densityjax.backtest.grid_chunks import Configs, Market, Options, Path, run_chunk
from densityjax.backtest.grid_manifest import Manifest, grid_key, joined
from densityjax.backtest.grid_result import GridResult, measure
from densityjax.backtest.inputs import DELAY, Costs, Prices, make_terms, market_moves
from densityjax.backtest.stops import Stops

METRICS = ("core", "full")


def product_grid(params_type: type | None = None, /, **axes: ArrayLike) -> Any:
    """Crosses the axes of a grid, the last one running fastest.

    Args:
      params_type: NamedTuple class of the rule's parameters; fields that are no axis keep their
        defaults in every row. A plain dict is made where None: it may name costs and lags too, to
        be handed on as `Costs(fee_bps=grid['fee_bps'])` and `lag=grid['lag']`.
      **axes: values of each parameter, [n] or a scalar.

    Returns:
      Pytree of [N] arrays, N the product of the axes' lengths.

    Raises:
      ValueError: if an axis is empty or has more than one dimension, or the class of parameters
        has no such field, or one without a default is not given.

    Example:
      >>> grid = product_grid(entry_z=[0.5, 1.0], exit_z=[0.0, 0.1, 0.2])
      >>> grid['exit_z'].tolist()
      [0.0, 0.1, 0.2, 0.0, 0.1, 0.2]
    """
    values = {name: np.atleast_1d(axis) for name, axis in axes.items()}
    for name, axis in values.items():
        if axis.ndim != 1 or axis.size == 0:
            raise ValueError(f"{name} has shape {axis.shape}; accepted is [n] with n >= 1")
    columns = [column.ravel() for column in np.meshgrid(*values.values(), indexing="ij")]
    grid = dict(zip(values, columns, strict=True))
    if params_type is None:
        return grid
    _check_fields(params_type, set(values))
    num = columns[0].size if columns else 1
    return jax.tree.map(lambda leaf: np.broadcast_to(leaf, num), params_type(**grid))


def _check_fields(params_type: Any, names: set[str]) -> None:
    """Raises a ValueError that names the parameters which are unknown or missing."""
    fields = params_type._fields
    if unknown := sorted(names - set(fields)):
        raise ValueError(
            f"{', '.join(unknown)}: no parameter of {params_type.__name__}; accepted are "
            f"{', '.join(fields)}"
        )
    if missing := [
        name for name in fields if name not in names and name not in params_type._field_defaults
    ]:
        raise ValueError(f"{params_type.__name__} needs {', '.join(missing)}; there is no default")


class _Settings(NamedTuple):
    """Arguments of `run_grid` that all assets share."""

    periods_per_year: float
    costs: Costs
    stops: Stops | None
    fill: str
    drift: bool
    limits: dict[str, Any]
    lag: ArrayLike
    warmup: int
    liquidate: bool
    init_state: Any
    is_full: bool
    chunk_size: int | None
    memory_limit_bytes: float | None
    num_blocks: int
    unroll: int
    mesh: Any


Progress = Callable[[int, int], None]  # (configurations done, all of them)


def run_grid(
    rule: rules.Rule,
    rule_params: Any,
    signals: Any,
    prices: Prices,
    *,
    periods_per_year: float | None = None,
    costs: Costs = Costs(),  # noqa: B008  an immutable NamedTuple of numbers
    stops: Stops | None = None,
    columns: MarketColumns | None = None,
    fill: str = "next_open",
    drift: bool = True,
    band: ArrayLike = 0.0,
    lag: ArrayLike = 0,
    max_leverage: ArrayLike = 1.0,
    allow_short: ArrayLike = True,
    warmup: int = 0,
    liquidate: bool = False,
    init_state: Any = 0.0,
    metrics: str = "core",
    chunk_size: int | None = None,
    memory_limit_bytes: float | None = None,
    num_blocks: int = 16,
    manifest: str | os.PathLike | None = None,
    progress: Progress | None = None,
) -> GridResult:
    """Backtests one rule under N sets of parameters on the same bars.

    The figures equal those of `apply_rule`, `run` and `metrics` for each configuration. There is
    one compilation per rule and static options (delay of the fill, `drift`, `metrics`, which stops
    and costs are on, `num_blocks`, sizes of a chunk and of the market); parameters, signals,
    prices, costs and distances of stops may change freely. Of several processes of
    `jax.distributed` each computes its share of the chunks, and all return the whole.

    Args:
      rule: `(params, signal_t, state) -> (weight, state)`, see `densityjax.backtest.rules`.
      rule_params: pytree of [N] arrays, such as `product_grid` makes; scalars are shared.
      signals: pytree of [T] arrays, row t known at the close of bar t; with many assets [T, A], or
        [T] for all.
      prices: `Prices` of [T] arrays, or of [T, A] for A assets, each traded by an account of its
        own: trials are then all pairs of an asset and a configuration, the latter fastest.
      periods_per_year: bars in a year, from the timestamps (`market.periods_per_year`). None scales
        nothing: Sharpe and Sortino ratio, volatility and growth are PER BAR under the same names,
        and the rules keep their order.
      costs: `Costs`; scalars, or [N] arrays to sweep them.
      stops: `Stops`; scalars, or [N] arrays to sweep them; infinity is off.
      columns: `MarketColumns` of [T] arrays (or [T, A]), the same for each configuration.
      fill: 'next_open', 'next_close' or 'same_close'.
      drift: whether weights drift with the price between trades.
      band: rebalancing band, in equity; a scalar or [N].
      lag: further whole bars between the decision and its fill; an integer or [N].
      max_leverage: largest absolute target weight, in equity; a scalar or [N].
      allow_short: whether targets below zero are kept; a scalar or [N].
      warmup: number of first bars that rules do not see; their signals may be NaN.
      liquidate: whether positions are sold at the last close.
      init_state: the rule's state before bar 0, the same for each configuration.
      metrics: 'core' for `GridMetrics`, 'full' for `FullMetrics`, which take about twice as long.
      chunk_size: configurations computed together; None takes what fits `memory_limit_bytes`.
      memory_limit_bytes: bytes of parameters, state and sums of one chunk, over all devices; None
        is 2 MiB for each CPU device, near the cache of a core, and 1 GiB for each accelerator.
      num_blocks: blocks of bars whose sums are kept for each configuration.
      manifest: folder of finished chunks. A run that was killed goes on where it was with the same
        arguments; the result is the same bit for bit.
      progress: called as `progress(done, all)` with numbers of configurations, after each chunk.

    Returns:
      A `GridResult` with [N] figures, [A N] with many assets.

    Raises:
      ValueError: if an argument has a wrong shape or value, a signal or a price is not finite, a
        rule answered with a weight that is not finite, or a manifest is of another grid.
    """
    if metrics not in METRICS:
        raise ValueError(f"metrics is {metrics!r}; accepted are {METRICS}")
    periods_per_year = 1.0 if periods_per_year is None else periods_per_year
    if not periods_per_year > 0.0:
        raise ValueError(f"periods_per_year is {periods_per_year}; accepted are positive numbers")
    limits = {"band": band, "max_leverage": max_leverage, "allow_short": allow_short}
    settings = _Settings(
        periods_per_year,
        costs,
        stops,
        fill,
        drift,
        limits,
        lag,
        warmup,
        liquidate,
        init_state,
        metrics == "full",
        chunk_size,
        memory_limit_bytes,
        num_blocks,
        grid_devices.default_unroll(),
        grid_devices.local_mesh(),
    )
    run_one = functools.partial(_run_one, rule, rule_params, settings)
    assets = num_assets(prices)
    if assets is None:
        return run_one(signals, prices, columns, manifest, progress)
    results = []
    for asset in range(assets):
        folder = None if manifest is None else os.path.join(manifest, f"asset-{asset}")
        tell = None if progress is None else _part_of(progress, asset, assets)
        results.append(run_one(*asset_market(signals, prices, columns, asset), folder, tell))
    return join_assets(results, periods_per_year)


def _part_of(progress: Progress, asset: int, assets: int) -> Progress:
    """Returns the progress of one asset as a part of all."""
    return lambda done, whole: progress(asset * whole + done, assets * whole)


def _run_one(
    rule: rules.Rule,
    rule_params: Any,
    settings: _Settings,
    signals: Any,
    prices: Prices,
    columns: MarketColumns | None,
    manifest: str | os.PathLike | None,
    progress: Progress | None,
) -> GridResult:
    """Runs the grid on one asset."""
    moves = market_moves(
        prices,
        settings.fill,
        costs=settings.costs,
        stops=settings.stops,
        columns=columns,
        warmup=settings.warmup,
        liquidate=settings.liquidate,
    )
    num_bars = moves.gap.shape[0]
    lags = _check(signals, num_bars, settings)
    dtype = jnp.result_type(float)
    terms = make_terms(settings.costs, stops=settings.stops, **settings.limits)
    delays = DELAY[settings.fill] + lags
    configs = Configs(rule_params, terms, settings.init_state, delays if lags.ndim else None)
    num_trials = _num_trials((rule_params, terms, configs.delays))
    params = jax.tree.map(lambda leaf: np.broadcast_to(leaf, num_trials), rule_params)
    configs = jax.tree.map(np.asarray, configs)._replace(params=params)
    market = jax.tree.map(
        jnp.asarray,
        Market(signals, engine.cast(moves, dtype), np.arange(num_bars) >= settings.warmup),
    )
    options = Options(
        delay=int(delays.max()),
        drift=settings.drift,
        fills_at_open=settings.fill == "next_open",
        num_blocks=min(settings.num_blocks, num_bars),
        is_full=settings.is_full,
        unroll=settings.unroll,
    )
    path = _run_chunks(rule, configs, market, options, settings, num_trials, manifest, progress)
    eps, swept = float(jnp.finfo(dtype).eps), _swept(settings, num_trials)
    return measure(path, configs.params, num_bars, settings.periods_per_year, eps, swept)


def _run_chunks(
    rule: rules.Rule,
    configs: Configs,
    market: Market,
    options: Options,
    settings: _Settings,
    num_trials: int,
    manifest: str | os.PathLike | None,
    progress: Progress | None,
) -> Path:
    """Runs this process's chunks, those of the manifest excepted, and collects all of them."""
    mesh = settings.mesh
    size = _chunk_size(rule, configs, market, options, settings, num_trials)
    num_chunks = -(-num_trials // size)
    done: dict[int, Path] = {}
    book, like = None, None
    if manifest is not None:
        key = grid_key(rule, configs, market, options, rows=size, num_devices=mesh.size)
        book = Manifest(manifest, key)
        call = functools.partial(run_chunk, rule, options=options)
        like = jax.eval_shape(call, grid_devices.take_rows(configs, np.zeros(size, int)), market)
    run = grid_devices.runner(mesh)

    def settle(index: int, path: Path) -> None:
        done[index] = jax.tree.map(np.asarray, path)
        rows = min(size, num_trials - index * size)
        if book is not None and index not in book:
            book.save(index, done[index], rows=rows)
        if progress is not None:
            progress(min((index + 1) * size, num_trials), num_trials)

    waiting: list[tuple[int, Path]] = []
    for index in range(jax.process_index(), num_chunks, jax.process_count()):
        if book is not None and like is not None and index in book:
            settle(index, book.load(index, like))
            continue
        # The last chunk repeats its last row, so that all chunks have one compiled shape.
        rows = np.minimum(np.arange(index * size, (index + 1) * size), num_trials - 1)
        placed = grid_devices.place(mesh, grid_devices.take_rows(configs, rows), market)
        path = run(rule, *placed, options)
        for leaf in jax.tree.leaves(path):
            leaf.copy_to_host_async()
        waiting.append((index, path))
        if len(waiting) > 1:  # one chunk is copied out while the next one is computed
            settle(*waiting.pop(0))
    for each in waiting:
        settle(*each)
    return joined(grid_devices.gather(done, num_chunks), num_trials)


def _chunk_size(
    rule: rules.Rule,
    configs: Configs,
    market: Market,
    options: Options,
    settings: _Settings,
    num_trials: int,
) -> int:
    """Returns the configurations of one chunk, a multiple of the devices."""
    num_devices = settings.mesh.size
    if settings.chunk_size is None:
        return grid_devices.chunk_rows(
            rule,
            configs,
            market,
            options,
            memory_limit_bytes=settings.memory_limit_bytes,
            num_trials=num_trials,
            num_devices=num_devices,
        )
    return -(-min(settings.chunk_size, num_trials) // num_devices) * num_devices


def _swept(settings: _Settings, num_trials: int) -> dict[str, NumpyArray]:
    """Returns name -> [N] of what has a value for each configuration beside the parameters."""
    named = {f"costs.{name}": value for name, value in settings.costs._asdict().items()}
    stops = {} if settings.stops is None else settings.stops._asdict()
    named |= {f"stops.{name}": value for name, value in stops.items() if name != "trigger"}
    named |= {**settings.limits, "lag": settings.lag}
    arrays = {name: np.asarray(value) for name, value in named.items() if np.ndim(value) == 1}
    return {name: np.broadcast_to(value, num_trials) for name, value in arrays.items()}


def _num_trials(tree: Any) -> int:
    """Returns the common length N of the swept leaves; a ValueError where they differ."""
    lengths = {np.shape(leaf) for leaf in jax.tree.leaves(tree)} - {()}
    if len(lengths) > 1 or any(len(shape) != 1 or shape[0] == 0 for shape in lengths):
        raise ValueError(
            f"parameters and costs have shapes {sorted(lengths)}; accepted is [N], N >= 1"
        )
    return lengths.pop()[0] if lengths else 1


def _check(signals: Any, num_bars: int, settings: _Settings) -> NumpyArray:
    """Raises a ValueError that names the first argument out of range; returns the lags."""
    lags = np.asarray(settings.lag)
    if lags.dtype.kind not in "iu" or (lags < 0).any():
        raise ValueError(f"lag is {settings.lag}; accepted are integers >= 0")
    for name, value, least in (
        ("warmup", settings.warmup, 0),
        ("chunk_size", 1 if settings.chunk_size is None else settings.chunk_size, 1),
        ("num_blocks", settings.num_blocks, 1),
    ):
        if value < least:
            raise ValueError(f"{name} is {value}; accepted are integers >= {least}")
    for path, leaf in jax.tree_util.tree_leaves_with_path(signals):
        if np.shape(leaf)[:1] != (num_bars,):
            name = f"signals{jax.tree_util.keystr(path)}"
            raise ValueError(f"{name} has shape {np.shape(leaf)}; accepted is [{num_bars}]")
    rules.check_signals(signals, settings.warmup)
    return lags
