"""Thousands of rules at once: one scan over time, with the configurations as its vector axis.

Each bar is read once and every configuration decides, trades and is measured on it, so memory is a
few numbers per configuration whatever the number of bars: no array of shape [T, N] exists. Sums are
kept per block of bars, which keeps single precision accurate over long histories, and leaves the
returns of each block for tests of luck.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from densityjax._typing import Array, ArrayLike, NumpyArray
from densityjax.backtest import engine, rules
from densityjax.backtest.columns import MarketColumns
from densityjax.backtest.grid_result import GridResult, Path, measure
from densityjax.backtest.inputs import DELAY, Bar, Costs, Prices, Terms, make_terms, market_moves
from densityjax.backtest.stops import Stops


def product_grid(params_type: type | None = None, /, **axes: ArrayLike) -> Any:
    """Crosses the axes of a grid, the last one running fastest.

    Args:
      params_type: NamedTuple class of the rule's parameters; fields that are no axis keep their
        defaults in every row. A plain dict is made where None.
      **axes: values of each parameter, [n] or a scalar.

    Returns:
      Pytree of [N] arrays, N the product of the axes' lengths.

    Raises:
      ValueError: if an axis is empty or has more than one dimension.

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
    num = columns[0].size if columns else 1
    return jax.tree.map(lambda leaf: np.broadcast_to(leaf, num), params_type(**grid))


class Sums(NamedTuple):
    """Streamed sums of N configurations over a block of bars, [N] each; see `grid_result.Path`."""

    returns: Array
    squares: Array
    downside_squares: Array
    turnover: Array
    bars_held: Array
    num_trades: Array


class Carry(NamedTuple):
    """What the next bar needs, [N] in each leaf; each block starts from equity 1."""

    account: engine.AccountState
    rule_state: Any
    queue: tuple  # targets that wait for their fill, the oldest first
    depth: Array  # equity over its running peak
    lowest_depth: Array


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
    lag: int = 0,
    max_leverage: ArrayLike = 1.0,
    allow_short: ArrayLike = True,
    warmup: int = 0,
    liquidate: bool = False,
    init_state: Any = 0.0,
    chunk_size: int = 2048,
    num_blocks: int = 16,
) -> GridResult:
    """Backtests one rule under N sets of parameters on the same bars.

    The figures equal those of `apply_rule`, `run` and `metrics` for each configuration. There is
    one compilation per rule and static options (delay of the fill, `drift`, which stops and costs
    are on, `num_blocks`, sizes of a chunk and of the market); parameters, signals, prices, costs
    and distances of stops may change freely.

    Args:
      rule: `(params, signal_t, state) -> (weight, state)`, see `densityjax.backtest.rules`.
      rule_params: pytree of [N] arrays, such as `product_grid` makes; scalars are shared.
      signals: pytree of [T] arrays, row t known at the close of bar t.
      prices: `Prices` of [T] arrays.
      periods_per_year: bars in a year, from the timestamps (`market.periods_per_year`). None scales
        nothing: Sharpe and Sortino ratio, volatility and growth are PER BAR under the same names,
        and the rules keep their order.
      costs: `Costs`; scalars, or [N] arrays to sweep them.
      stops: `Stops`; scalars, or [N] arrays to sweep them; infinity is off.
      columns: `MarketColumns` of [T] arrays, the same for each configuration.
      fill: 'next_open', 'next_close' or 'same_close'.
      drift: whether weights drift with the price between trades.
      band: rebalancing band, in equity; a scalar or [N].
      lag: further whole bars between the decision and its fill.
      max_leverage: largest absolute target weight, in equity; a scalar or [N].
      allow_short: whether targets below zero are kept; a scalar or [N].
      warmup: number of first bars that rules do not see; their signals may be NaN.
      liquidate: whether positions are sold at the last close.
      init_state: the rule's state before bar 0, the same for each configuration.
      chunk_size: configurations computed together; about 2,000 stay in a core's cache, accelerators
        want 2^18 and more.
      num_blocks: blocks of bars whose sums are kept for each configuration.

    Returns:
      A `GridResult` with [N] figures.

    Raises:
      ValueError: if an argument has a wrong shape or value, a signal or a price is not finite, or a
        rule answered with a weight that is not finite.
    """
    moves = market_moves(
        prices,
        fill,
        costs=costs,
        stops=stops,
        columns=columns,
        warmup=warmup,
        liquidate=liquidate,
    )
    periods_per_year = 1.0 if periods_per_year is None else periods_per_year
    if not periods_per_year > 0.0:
        raise ValueError(f"periods_per_year is {periods_per_year}; accepted are positive numbers")
    num_bars = moves.gap.shape[0]
    _check(signals, num_bars, lag=lag, warmup=warmup, chunk_size=chunk_size, blocks=num_blocks)
    terms = make_terms(
        costs, band=band, max_leverage=max_leverage, allow_short=allow_short, stops=stops
    )
    num_trials = _num_trials((rule_params, terms))
    rule_params = jax.tree.map(lambda leaf: np.broadcast_to(leaf, num_trials), rule_params)
    dtype = jnp.result_type(float)
    market = (signals, engine.cast(moves, dtype))
    market = jax.device_put((*market, np.arange(num_bars) >= warmup))
    blocks = min(num_blocks, num_bars)
    paths, size = [], min(chunk_size, num_trials)
    for first in range(0, num_trials, size):
        # The last chunk repeats its last row, so that all chunks have one compiled shape.
        rows = np.minimum(np.arange(first, first + size), num_trials - 1)
        own = _take((rule_params, terms), rows)
        options = DELAY[fill] + lag, drift, fill == "next_open", blocks
        paths.append(_run_chunk(rule, *own, market, init_state, *options))
    path = jax.tree.map(lambda *leaves: np.concatenate(leaves, -1)[..., :num_trials], *paths)
    path = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), path)
    return measure(path, rule_params, num_bars, periods_per_year, float(jnp.finfo(dtype).eps))


@functools.partial(
    jax.jit, static_argnames=("rule", "delay", "drift", "fills_at_open", "num_blocks")
)
def _run_chunk(
    rule: rules.Rule,
    params: Any,
    terms: Terms,
    market: tuple[Any, Bar, Array],
    init_state: Any,
    delay: int,
    drift: bool,
    fills_at_open: bool,
    num_blocks: int,
) -> Path:
    """Scans blocks of bars, and bars within them, with one chunk of configurations as vectors."""
    num_configs = jax.tree.leaves(params)[0].shape[0]
    dtype = market[1].gap.dtype
    zeros = jnp.zeros(num_configs, dtype)
    no_sums = Sums(*[zeros] * len(Sums._fields))
    step = functools.partial(engine.step, terms=terms, drift=drift, fills_at_open=fills_at_open)
    one_bar = functools.partial(_one_bar, rule, params, step, terms.stops is not None)

    def one_block(state: tuple[Carry, Sums, Array], xs: tuple) -> tuple[tuple, tuple]:
        carry, total, log_growth = state
        account = engine.rebase(carry.account)
        (carry, sums), _ = jax.lax.scan(one_bar, (carry._replace(account=account), no_sums), xs)
        total = jax.tree.map(jnp.add, total, sums)
        log_growth = log_growth + jnp.log(carry.account.equity)
        return (carry, total, log_growth), (sums.returns, sums.squares)

    start = Carry(
        account=engine.start((num_configs,), dtype, terms.stops),
        rule_state=jax.tree.map(
            lambda leaf: jnp.broadcast_to(leaf, (num_configs, *jnp.shape(leaf))), init_state
        ),
        queue=(zeros,) * delay,
        depth=zeros + 1.0,
        lowest_depth=zeros + 1.0,
    )
    xs = jax.tree.map(lambda leaf: _in_blocks(leaf, num_blocks), market)
    (carry, total, log_growth), in_block = jax.lax.scan(one_block, (start, no_sums, zeros), xs)
    return Path(
        returns=in_block[0],
        squares=in_block[1],
        log_growth=log_growth,
        downside_squares=total.downside_squares,
        turnover=total.turnover,
        bars_held=total.bars_held,
        num_trades=total.num_trades,
        max_drawdown=1.0 - carry.lowest_depth,
        is_ruined=carry.account.equity <= 0.0,
    )


def _one_bar(
    rule: rules.Rule,
    params: Any,
    step: Callable,
    has_stops: bool,
    state: tuple[Carry, Sums],
    xs: tuple,
) -> tuple[tuple[Carry, Sums], None]:
    """Decides, trades and measures one bar for all configurations of a chunk."""
    (carry, sums), (signal_t, bar, is_awake) = state, xs
    ask = jax.vmap(functools.partial(rules.decide, rule), (0, None, 0, None))
    weight, rule_state = ask(params, signal_t, carry.rule_state, is_awake)
    queue = (*carry.queue, weight.astype(carry.depth.dtype))
    account, info = step(carry.account, bar, queue[0])
    net_return = info.net_return
    is_held = account.position != 0.0
    is_entry = is_held & (jnp.sign(account.position) != jnp.sign(carry.account.position))
    if has_stops:  # a position may come and go within one bar
        is_entry = info.is_entry
    depth = jnp.minimum(carry.depth * (1.0 + net_return), 1.0)
    sums = Sums(
        returns=sums.returns + net_return,
        squares=sums.squares + net_return**2,
        downside_squares=sums.downside_squares + jnp.minimum(net_return, 0.0) ** 2,
        turnover=sums.turnover + info.turnover,
        bars_held=sums.bars_held + is_held,
        num_trades=sums.num_trades + is_entry,
    )
    lowest_depth = jnp.minimum(carry.lowest_depth, depth)
    return (Carry(account, rule_state, queue[1:], depth, lowest_depth), sums), None


def _in_blocks(leaf: Array, num_blocks: int) -> Array:
    """Cuts [T, ...] into [num_blocks, length, ...]; rows of zeros before the first bar fill it up.

    On such a row no time elapses, no rule is awake and nothing is held: no sum changes.
    """
    length = -(-leaf.shape[0] // num_blocks)
    pad = num_blocks * length - leaf.shape[0]
    padded = jnp.pad(leaf, [(pad, 0)] + [(0, 0)] * (leaf.ndim - 1))
    return padded.reshape(num_blocks, length, *leaf.shape[1:])


def _num_trials(tree: Any) -> int:
    """Returns the common length N of the swept leaves; a ValueError where they differ."""
    lengths = {np.shape(leaf) for leaf in jax.tree.leaves(tree)} - {()}
    if len(lengths) > 1 or any(len(shape) != 1 or shape[0] == 0 for shape in lengths):
        raise ValueError(f"parameters and costs have shapes {sorted(lengths)}; accepted is [N]")
    return lengths.pop()[0] if lengths else 1


def _take(tree: Any, rows: NumpyArray) -> Any:
    """Returns the given rows of the [N] leaves of a tree; scalars are shared by all rows."""
    return jax.tree.map(lambda leaf: leaf[rows] if np.ndim(leaf) else leaf, tree)


def _check(
    signals: Any, num_bars: int, *, lag: int, warmup: int, chunk_size: int, blocks: int
) -> None:
    """Raises a ValueError that names the first argument which is out of range."""
    for name, value, least in (
        ("lag", lag, 0),
        ("warmup", warmup, 0),
        ("chunk_size", chunk_size, 1),
        ("num_blocks", blocks, 1),
    ):
        if value < least:
            raise ValueError(f"{name} is {value}; accepted are integers >= {least}")
    for path, leaf in jax.tree_util.tree_leaves_with_path(signals):
        if np.shape(leaf)[:1] != (num_bars,):
            name = f"signals{jax.tree_util.keystr(path)}"
            raise ValueError(f"{name} has shape {np.shape(leaf)}; accepted is [{num_bars}]")
    rules.check_signals(signals, warmup)
