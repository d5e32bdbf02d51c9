"""One chunk of a grid as one compiled program: a scan over bars, the configurations its vectors.

Each bar is read once and every configuration decides, trades and is measured on it, so memory is a
few numbers per configuration whatever the number of bars: no array of shape [T, N] exists.
"""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from densityjax._typing import Array
from densityjax.backtest import engine, grid_sums, rules
from densityjax.backtest.account import AccountState, or_one
from densityjax.backtest.grid_sums import Marks, Sums
from densityjax.backtest.inputs import Bar, Terms


class Options(NamedTuple):
    """What a chunk is compiled for.

    Attributes:
      delay: bars from the decision to the fill, the largest where lags are swept.
      drift: whether weights drift with the price between trades.
      fills_at_open: whether orders fill at the open of their bar, else at its close.
      num_blocks: blocks of bars whose sums are kept.
      is_full: whether all metrics are taken, else the core ones.
      unroll: bars in one round of the compiled loop.
    """

    delay: int
    drift: bool
    fills_at_open: bool
    num_blocks: int
    is_full: bool
    unroll: int


class Market(NamedTuple):
    """What all configurations see, [T] leaves: signals, the `Bar`, and whether rules are awake."""

    signals: Any
    bar: Bar
    is_awake: Any


class Configs(NamedTuple):
    """A chunk of configurations, [N] leaves or scalars.

    Attributes:
      params: parameters of the rule, [N] each.
      terms: `Terms`.
      init_state: the rule's state before bar 0, the same for all.
      delays: [N] bars from the decision to the fill; None where all wait for `Options.delay`.
    """

    params: Any
    terms: Terms
    init_state: Any
    delays: Any


class Path(NamedTuple):
    """Streamed sums over T bars of N configurations, in S blocks.

    Attributes:
      returns: [S, N] sum of the net simple returns in each block, fractions.
      squares: [S, N] sum of their squares in each block.
      cubes: [S, N] sum of their cubes, None for the core metrics.
      fourths: [S, N] sum of their fourth powers, None for the core metrics.
      log_growth: [N] sum of `log(1 + r)`, minus infinity at ruin.
      is_ruined: [N] whether equity was ever at or below zero.
      totals: `Sums` over all bars.
      marks: `Marks` at the end.
    """

    returns: Any
    squares: Any
    cubes: Any
    fourths: Any
    log_growth: Any
    is_ruined: Any
    totals: Sums
    marks: Marks


class Carry(NamedTuple):
    """What the next bar needs, [N] in each leaf; each block starts from equity 1."""

    account: AccountState
    rule_state: Any
    queue: tuple  # targets that wait for their fill, the oldest first
    marks: Marks


def run_chunk(rule: rules.Rule, configs: Configs, market: Market, options: Options) -> Path:
    """Scans blocks of bars, and bars within them, with one chunk of configurations as vectors.

    Args:
      rule: the rule, `(params, signal_t, state) -> (weight, state)`.
      configs: `Configs` of N rows.
      market: `Market` of T rows.
      options: `Options`.

    Returns:
      The `Path`.
    """
    num_configs = jax.tree.leaves(configs.params)[0].shape[0]
    dtype, terms = market.bar.gap.dtype, configs.terms
    zeros = jnp.zeros(num_configs, dtype)
    no_sums, marks = grid_sums.start(zeros, is_full=options.is_full)
    one_bar = functools.partial(_one_bar, rule, configs, options)

    def one_block(state: tuple[Carry, Sums, Array], xs: Market) -> tuple[tuple, tuple]:
        carry, total, log_growth = state
        marks = grid_sums.rebase(carry.marks, or_one(carry.account.equity))
        carry = carry._replace(account=engine.rebase(carry.account), marks=marks)
        (carry, sums), _ = jax.lax.scan(one_bar, (carry, no_sums), xs, unroll=options.unroll)
        total = jax.tree.map(jnp.add, total, sums)
        log_growth = log_growth + jnp.log(carry.account.equity)
        more = sums.more
        high = (None, None) if more is None else (more.cubes, more.fourths)
        return (carry, total, log_growth), (sums.returns, sums.squares, *high)

    begin = Carry(
        account=engine.start((num_configs,), dtype, terms.stops),
        rule_state=jax.tree.map(
            lambda leaf: jnp.broadcast_to(leaf, (num_configs, *jnp.shape(leaf))),
            configs.init_state,
        ),
        queue=(zeros,) * options.delay,
        marks=marks,
    )
    xs = jax.tree.map(lambda leaf: _in_blocks(leaf, options.num_blocks), market)
    (carry, total, log_growth), in_block = jax.lax.scan(one_block, (begin, no_sums, zeros), xs)
    return Path(
        *in_block,
        log_growth=log_growth,
        is_ruined=carry.account.equity <= 0.0,
        totals=total,
        marks=carry.marks,
    )


def _one_bar(
    rule: rules.Rule,
    configs: Configs,
    options: Options,
    state: tuple[Carry, Sums],
    xs: Market,
) -> tuple[tuple[Carry, Sums], None]:
    """Decides, trades and measures one bar for all configurations of a chunk."""
    carry, sums = state
    ask = jax.vmap(functools.partial(rules.decide, rule), (0, None, 0, None))
    weight, rule_state = ask(configs.params, xs.signals, carry.rule_state, xs.is_awake)
    queue = (*carry.queue, weight.astype(carry.marks.depth.dtype))
    account, info = engine.step(
        carry.account,
        xs.bar,
        _due(queue, configs.delays),
        configs.terms,
        drift=options.drift,
        fills_at_open=options.fills_at_open,
    )
    sums, marks = grid_sums.add_bar(
        sums,
        carry.marks,
        carry.account,
        account,
        info,
        xs.bar,
        fills_at_open=options.fills_at_open,
    )
    return (Carry(account, rule_state, queue[1:], marks), sums), None


def _due(queue: tuple, delays: Array | None) -> Array:
    """Returns the target that is due: the oldest, or by lag where lags differ."""
    if delays is None:
        return queue[0]
    due = queue[0]
    for age, target in enumerate(reversed(queue[1:])):
        due = jnp.where(delays == age, target, due)
    return due


def _in_blocks(leaf: Array, num_blocks: int) -> Array:
    """Cuts [T, ...] into [num_blocks, length, ...]; rows of zeros before the first bar fill it up.

    On such a row no time elapses, no rule is awake and nothing is held: no sum changes.
    """
    length = -(-leaf.shape[0] // num_blocks)
    pad = num_blocks * length - leaf.shape[0]
    padded = jnp.pad(leaf, [(pad, 0)] + [(0, 0)] * (leaf.ndim - 1))
    return padded.reshape(num_blocks, length, *leaf.shape[1:])
