"""One bar loop for money: target weights and prices in, the account's path out.

Notation: bar t closes at C_t; `weights[t]` is decided at the close of t and filled later; equity is
1 before bar 0. Order of events in one bar, for every fill rule:

1. the carried position is marked from C_{t-1} to the fill price, and cash earns its rate; a stop
   beyond whose level the bar opens is filled at that open;
2. the due target is clipped to the caps, kept from a side that its stop has closed, compared with
   the drifted weight (rebalancing band), and traded at the fill price; costs are paid on the traded
   notional;
3. the stops of the position held are checked inside the bar, see `stops`;
4. what is left is marked to C_t; it pays or earns funding and pays borrowing;
5. equity at or below zero is ruin: equity and weight are zero for ever;
6. the strategy may now decide `weights[t]`.

The fill price is O_t for `next_open`, C_t for `next_close` (both one bar after the decision) and
C_t for `same_close` (the deciding close itself: optimistic, since that close is not known before
it trades). With fills at the close, steps 3 and 4 concern the carried position and come before the
order. The last position is marked, or sold at the last close with `liquidate`.
"""

import functools
from collections.abc import Callable

import chex
import jax
import jax.numpy as jnp
import numpy as np

from densityjax._typing import Array, ArrayLike
from densityjax.backtest import legs
from densityjax.backtest.account import (
    AccountState,
    BacktestResult,
    BarInfo,
    Exits,
    or_one,
    rebase,
    start,
)
from densityjax.backtest.columns import MarketColumns
from densityjax.backtest.inputs import (
    DELAY,
    Bar,
    Costs,
    Prices,
    Terms,
    check_finite,
    make_terms,
    market_moves,
)
from densityjax.backtest.stops import Stops

__all__ = ["AccountState", "BacktestResult", "BarInfo", "rebase", "run", "start", "step"]


def step(
    state: AccountState,
    bar: Bar,
    target: Array,
    terms: Terms,
    *,
    drift: bool = True,
    fills_at_open: bool = True,
    total: Callable[[Array], Array] = lambda money: money,
) -> tuple[AccountState, BarInfo]:
    """Takes the account through one bar; backtests, grids and live accounts run this function.

    With equity E and position V at the last close, equity at the fill is F = E + V gap + interest,
    the position has drifted to V (1 + gap), and the order `target F - V (1 + gap)` is sized on
    equity before costs. Costs are a share of the order; what is then held earns `body`. Stops,
    funding and borrowing exist in the compiled step only where `terms` and `bar` hold them.

    Args:
      state: the account at the last close; scalars, or one value per configuration.
      bar: the market's move within this bar, fractions.
      target: the weight due in this bar, in equity (decided at an earlier close, or at this one
        under `same_close`).
      terms: costs and limits.
      drift: whether the position drifts with the price between trades; False is the textbook
        model of a weight that stays constant at no cost, with orders `target - weight`.
      fills_at_open: whether orders fill at the open of the bar, else at its close.
      total: sum over the assets of one account; the identity for one asset.

    Returns:
      The account at this close and what happened to it.
    """
    equity, position, watch = state
    trade = functools.partial(legs.trade, fills_at_open=fills_at_open, total=total)
    hold = functools.partial(legs.hold, fills_at_open=fills_at_open, drift=drift, total=total)
    unit = or_one(equity)
    interest = terms.cash_rate * bar.elapsed * (equity - total(position))
    if fills_at_open:
        gap_pnl = position * bar.gap
        at_fill = equity + total(gap_pnl) + interest
        drifted = position + gap_pnl if drift else position * (at_fill / unit)
        fill = trade(drifted, at_fill, target, watch, bar, terms)
        held = hold(
            fill.position, or_one(at_fill), -total(fill.cost), bar.body, fill.watch, bar, terms
        )
        body_pnl, left, watch = held.pnl, held.left, held.watch
    else:
        held = hold(position, unit, interest, bar.gap, watch, bar, terms)
        gap_pnl = held.pnl
        at_fill = equity + total(gap_pnl) + interest
        at_fill = at_fill if held.net is None else at_fill + held.net
        drifted = held.left if drift else held.left * (at_fill / unit)
        fill = trade(drifted, at_fill, target, held.watch, bar, terms)
        body_pnl, left, watch = jnp.zeros_like(gap_pnl), fill.position, fill.watch
    change = total(gap_pnl) + interest - total(fill.cost) + total(body_pnl)
    change = change if held.net is None else change + held.net
    # `not <=` rather than `>`: a NaN is no ruin, it must stay visible.
    is_open = ~(at_fill <= 0.0)
    is_solvent = is_open & ~(equity + change <= 0.0)
    net_return = jnp.where(is_solvent, change, -equity) / unit
    # Equity from the return rather than the reverse: small returns keep all their digits, and a
    # return of exactly -1 is a balance of exactly zero.
    new_equity = equity * (1.0 + net_return)
    left = left if drift else left * (new_equity / or_one(at_fill))
    is_ruin = net_return <= -1.0
    info = _describe(net_return, at_fill, gap_pnl, body_pnl, interest, drifted, fill, held)
    return AccountState(new_equity, jnp.where(is_ruin, 0.0, left), watch), info


def _describe(
    net_return: Array,
    at_fill: Array,
    gap_pnl: Array,
    body_pnl: Array,
    interest: Array,
    drifted: Array,
    fill: legs.Fill,
    held: legs.Holding,
) -> BarInfo:
    """Lays out one bar; what nobody reads is not compiled. After a ruinous gap nothing trades."""
    is_open, unit = ~(at_fill <= 0.0), or_one(at_fill)
    nothing = jnp.zeros_like(gap_pnl)

    def if_open(money: Array | None) -> Array:
        return nothing if money is None else jnp.where(is_open, money, 0.0)

    sold, exit_cost = if_open(held.sold), if_open(held.cost)
    exits = None
    if held.exit_ is not None or fill.reason is not None:
        reason = nothing if held.exit_ is None else held.exit_.reason
        exits = Exits(
            reason=jnp.where(sold > 0.0, reason, 0.0).astype(jnp.int8),
            order_reason=if_open(fill.reason).astype(jnp.int8),
            turnover=sold / unit,
            cost=exit_cost,
            ratio=nothing + 1.0 if held.exit_ is None else held.exit_.ratio,
        )
    order, cost = if_open(fill.order), if_open(fill.cost)
    return BarInfo(
        net_return=net_return,
        turnover=(order if exits is None else order + sold) / unit,
        filled=if_open(fill.position) / unit,
        cost=cost if exits is None else cost + exit_cost,
        gap_pnl=gap_pnl,
        body_pnl=if_open(body_pnl),
        interest=interest,
        funding=if_open(held.funding),
        borrow=if_open(held.borrow),
        is_entry=(fill.position != 0.0) & (jnp.sign(fill.position) != jnp.sign(drifted)),
        exits=exits,
    )


def run(
    weights: ArrayLike,
    prices: Prices,
    *,
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
) -> BacktestResult:
    """Trades target weights on one asset; `vmap` it over assets, weights or costs.

    Args:
      weights: [T] target weight decided at the close of each bar, from data up to that close, as a
        signed fraction of equity. Callers never shift it: that is done here and nowhere else.
      prices: `Prices` of [T] arrays, in quote currency; stops inside the bar need all four.
      costs: `Costs`, basis points and rates per bar.
      stops: `Stops`; None ends positions by their target weights alone.
      columns: `MarketColumns` of [T] arrays: funding, volatility, ranges.
      fill: 'next_open', 'next_close' or 'same_close'.
      drift: whether weights drift with the price between trades; see `step`.
      band: rebalancing band, in equity.
      lag: further whole bars between the decision and its fill, 0 or more.
      max_leverage: largest absolute target weight, in equity.
      allow_short: whether targets below zero are kept.
      warmup: number of first bars whose weights are not read; they may be NaN.
      liquidate: whether the position is sold at the last close, at the cost of an order.

    Returns:
      A `BacktestResult` of [T] arrays.

    Raises:
      ValueError: if an argument has a wrong shape or value, or a weight or a price is not finite.
        Traced arrays cannot be read here: under `jit` and `vmap` look at `is_finite`.
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
    if lag < 0 or warmup < 0:
        raise ValueError(f"lag is {lag} and warmup is {warmup}; accepted are integers >= 0")
    if np.shape(weights) != moves.gap.shape:
        raise ValueError(f"weights has shape {np.shape(weights)}; accepted is {moves.gap.shape}")
    check_finite("weights", weights, first=warmup)
    weights = jnp.asarray(weights if isinstance(weights, jax.Array) else np.asarray(weights))
    dtype = jnp.result_type(weights, moves.gap, float)
    terms = make_terms(
        costs,
        band=band,
        max_leverage=max_leverage,
        allow_short=allow_short,
        dtype=dtype,
        stops=stops,
    )
    moves = cast(moves, dtype)
    delay = DELAY[fill] + lag
    return _run(weights.astype(dtype), moves, terms, warmup, delay, fill == "next_open", drift)


def cast(moves: Bar, dtype: jnp.dtype) -> Bar:
    """Puts the columns of a market on the device; those of booleans stay so."""
    return jax.tree.map(
        lambda leaf: jnp.asarray(leaf, None if leaf.dtype == bool else dtype), moves
    )


@functools.partial(jax.jit, static_argnames=("delay", "fills_at_open", "drift"))
def _run(
    weights: Array,
    moves: Bar,
    terms: Terms,
    warmup: ArrayLike,
    delay: int,
    fills_at_open: bool,
    drift: bool,
) -> BacktestResult:
    """Shifts the targets by `delay` bars and scans `step` over them."""
    chex.assert_equal_shape([weights, moves.gap])
    num_bars = weights.shape[0]
    targets = due_targets(weights, warmup, delay)

    def one_bar(state: AccountState, xs: tuple) -> tuple[AccountState, tuple]:
        state, info = step(state, xs[0], xs[1], terms, drift=drift, fills_at_open=fills_at_open)
        return state, (state.equity, state.position, info)

    begin = start(dtype=weights.dtype, stops=terms.stops)
    final, (equity, position, info) = jax.lax.scan(one_bar, begin, (moves, targets))
    at_close = position / or_one(equity)
    carried = jnp.pad(at_close, (1, 0))[:num_bars]
    inputs = (moves.gap, moves.body, moves.funding, moves.volatility, targets)
    inputs = jax.tree.leaves((inputs, terms._replace(stops=None)))
    return BacktestResult(
        equity=equity,
        returns=info.net_return,
        weights=at_close,
        held=info.filled if fills_at_open else carried,
        filled=info.filled,
        turnover=info.turnover,
        cost=info.cost,
        gap_pnl=info.gap_pnl,
        body_pnl=info.body_pnl,
        interest=info.interest,
        funding=info.funding,
        borrow=info.borrow,
        fill_ratio=1.0 / (1.0 + moves.body),
        exits=info.exits,
        fills_at_open=jnp.asarray(fills_at_open),
        is_ruined=final.equity <= 0.0,
        is_finite=jnp.all(jnp.stack([jnp.all(jnp.isfinite(value)) for value in inputs])),
    )


def due_targets(weights: Array, warmup: ArrayLike, delay: int) -> Array:
    """Shifts targets [T, ...] to the bars that they are due in; zero before the first of them."""
    num_bars = weights.shape[0]
    is_awake = jnp.arange(num_bars) >= warmup
    weights = jnp.where(is_awake.reshape(-1, *(1,) * (weights.ndim - 1)), weights, 0.0)
    pad = [(min(delay, num_bars), 0)] + [(0, 0)] * (weights.ndim - 1)
    return jnp.pad(weights, pad)[:num_bars]
