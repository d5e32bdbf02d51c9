"""One bar loop for money: target weights and prices in, the account's path out.

Notation: bar t closes at C_t; `weights[t]` is decided at the close of t and filled later; equity is
1 before bar 0. Order of events in one bar, for every fill rule:

1. the carried position is marked from C_{t-1} to the fill price, and cash earns its rate;
2. the due target is clipped to the leverage cap, compared with the drifted weight (rebalancing
   band), and traded at the fill price; costs are paid on the traded notional;
3. the new position is marked from the fill price to C_t;
4. equity at or below zero is ruin: equity and weight are zero for ever;
5. the strategy may now decide `weights[t]`.

The fill price is O_t for `next_open`, C_t for `next_close` (both one bar after the decision) and
C_t for `same_close` (the deciding close itself: optimistic, since that close is not known before
it trades). The last position is marked, not liquidated.
"""

import functools
from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np

from densityjax._typing import Array, ArrayLike
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


class AccountState(NamedTuple):
    """What the next bar needs to know of the account, in units of the equity before bar 0.

    Attributes:
      equity: cash plus marked position at the last close; zero means ruined, and stays zero.
      position: marked value of the position at the last close, negative when short.
    """

    equity: Array
    position: Array


class BarInfo(NamedTuple):
    """What happened to the account in one bar; never fed back. Units as in `BacktestResult`."""

    net_return: Array
    turnover: Array
    filled: Array  # weight after the fill, as a fraction of the equity just before it
    cost: Array
    gap_pnl: Array
    body_pnl: Array
    interest: Array


class BacktestResult(NamedTuple):
    """Outcome of one backtest over T bars; money is in units of the equity before bar 0.

    In every bar but that of ruin, where the loss stops at the equity there is:
    `equity[t] - equity[t - 1] = gap_pnl[t] + body_pnl[t] + interest[t] - cost[t]`.

    Attributes:
      equity: [T] cash plus marked position at the close of each bar; 1 before bar 0.
      returns: [T] net simple return of each bar, as a fraction of equity.
      weights: [T] position at each close, after any trade at that close, fraction of equity.
      held: [T] weight that earned each bar: that after the fill at its open, or the carried one.
      turnover: [T] traded notional of each bar (both sides), fraction of equity before costs.
      cost: [T] trading costs of each bar, money.
      gap_pnl: [T] gross profit of the carried position up to the fill, money.
      body_pnl: [T] gross profit of the new position from the fill to the close, money.
      interest: [T] what cash earned, money.
      is_ruined: [] whether equity was ever at or below zero.
      is_finite: [] False where a target or a price used was NaN or infinite; the rest is then void.
    """

    equity: Array
    returns: Array
    weights: Array
    held: Array
    turnover: Array
    cost: Array
    gap_pnl: Array
    body_pnl: Array
    interest: Array
    is_ruined: Array
    is_finite: Array


def start(shape: tuple[int, ...] = (), dtype: jnp.dtype | None = None) -> AccountState:
    """Returns the account before bar 0, equity 1 and all in cash, once per entry of `shape`."""
    equity = jnp.ones(shape, dtype or float)
    return AccountState(equity, jnp.zeros_like(equity))


def step(
    state: AccountState, bar: Bar, target: Array, terms: Terms, *, drift: bool = True
) -> tuple[AccountState, BarInfo]:
    """Takes the account through one bar; backtests, grids and live accounts run this function.

    With equity E and position V at the last close, equity at the fill is F = E + V gap + interest,
    the position has drifted to V (1 + gap), and the order `target F - V (1 + gap)` is sized on
    equity before costs. Costs are a share of the order; what is then held earns `body`.

    Args:
      state: the account at the last close; scalars, or one value per configuration.
      bar: the market's move within this bar, fractions.
      target: the weight due in this bar, in equity (decided at an earlier close, or at this one
        under `same_close`).
      terms: costs and limits.
      drift: whether the position drifts with the price between trades; False is the textbook
        model of a weight that stays constant at no cost, with orders `target - weight`.

    Returns:
      The account at this close and what happened to it.
    """
    equity, position = state
    interest = terms.cash_rate * bar.elapsed * (equity - position)
    gap_pnl = position * bar.gap
    at_fill = equity + gap_pnl + interest
    # `not <=` rather than `>`: a NaN is no ruin, it must stay visible.
    is_open = ~(at_fill <= 0.0)
    safe_equity, safe_at_fill = _or_one(equity), _or_one(at_fill)
    drifted = position + gap_pnl if drift else position * (at_fill / safe_equity)
    wanted = jnp.clip(target, terms.lowest, terms.highest) * at_fill
    distance = jnp.abs(wanted - drifted)
    is_kept = distance <= terms.band * at_fill
    order = jnp.where(is_kept, 0.0, distance)
    filled = jnp.where(is_kept, drifted, wanted)
    cost, body_pnl = terms.cost_rate * order, filled * bar.body
    change = gap_pnl + interest - cost + body_pnl
    is_solvent = is_open & ~(equity + change <= 0.0)
    net_return = jnp.where(is_solvent, change, -equity) / safe_equity
    # Equity from the return rather than the reverse: small returns keep all their digits, and a
    # return of exactly -1 is a balance of exactly zero.
    new_equity = equity * (1.0 + net_return)
    marked = filled + body_pnl if drift else filled * (new_equity / safe_at_fill)
    info = BarInfo(
        net_return=net_return,
        turnover=jnp.where(is_open, order, 0.0) / safe_at_fill,
        filled=jnp.where(is_open, filled, 0.0) / safe_at_fill,
        cost=jnp.where(is_open, cost, 0.0),
        gap_pnl=gap_pnl,
        body_pnl=jnp.where(is_open, body_pnl, 0.0),
        interest=interest,
    )
    return AccountState(new_equity, jnp.where(net_return <= -1.0, 0.0, marked)), info


def rebase(state: AccountState) -> AccountState:
    """Returns the account in units of its own equity, so that long histories never overflow."""
    unit = _or_one(state.equity)
    return AccountState(state.equity / unit, state.position / unit)


def _or_one(money: Array) -> Array:
    """Returns a divisor: money, or 1 where there is none and the quotient is of no use."""
    return jnp.where(money <= 0.0, 1.0, money)


def run(
    weights: ArrayLike,
    prices: Prices,
    *,
    costs: Costs = Costs(),  # noqa: B008  an immutable NamedTuple of numbers
    stops: None = None,
    fill: str = "next_open",
    drift: bool = True,
    band: ArrayLike = 0.0,
    lag: int = 0,
    max_leverage: ArrayLike = 1.0,
    allow_short: ArrayLike = True,
    warmup: int = 0,
) -> BacktestResult:
    """Trades target weights on one asset; `vmap` it over assets, weights or costs.

    Args:
      weights: [T] target weight decided at the close of each bar, from data up to that close, as a
        signed fraction of equity. Callers never shift it: that is done here and nowhere else.
      prices: `Prices` of [T] arrays, in quote currency.
      costs: `Costs`, basis points and rate per bar.
      stops: None: positions end by their target weights alone.
      fill: 'next_open', 'next_close' or 'same_close'.
      drift: whether weights drift with the price between trades; see `step`.
      band: rebalancing band, in equity.
      lag: further whole bars between the decision and its fill, 0 or more.
      max_leverage: largest absolute target weight, in equity.
      allow_short: whether targets below zero are kept.
      warmup: number of first bars whose weights are not read; they may be NaN.

    Returns:
      A `BacktestResult` of [T] arrays.

    Raises:
      ValueError: if an argument has a wrong shape or value, or a weight or a price is not finite.
        Traced arrays cannot be read here: under `jit` and `vmap` look at `is_finite`.
    """
    if stops is not None:
        raise ValueError(f"stops is {stops!r}; accepted is None: put exits into the weights")
    moves = market_moves(prices, fill)
    if lag < 0 or warmup < 0:
        raise ValueError(f"lag is {lag} and warmup is {warmup}; accepted are integers >= 0")
    if np.shape(weights) != moves.gap.shape:
        raise ValueError(f"weights has shape {np.shape(weights)}; accepted is {moves.gap.shape}")
    check_finite("weights", weights, first=warmup)
    weights = jnp.asarray(weights if isinstance(weights, jax.Array) else np.asarray(weights))
    dtype = jnp.result_type(weights, moves.gap, float)
    terms = make_terms(
        costs, band=band, max_leverage=max_leverage, allow_short=allow_short, dtype=dtype
    )
    moves = jax.tree.map(lambda leaf: jnp.asarray(leaf, dtype), moves)
    delay = DELAY[fill] + lag
    return _run(weights.astype(dtype), moves, terms, warmup, delay, fill == "next_open", drift)


@functools.partial(jax.jit, static_argnames=("delay", "earns_at_once", "drift"))
def _run(
    weights: Array,
    moves: Bar,
    terms: Terms,
    warmup: ArrayLike,
    delay: int,
    earns_at_once: bool,
    drift: bool,
) -> BacktestResult:
    """Shifts the targets by `delay` bars and scans `step` over them."""
    chex.assert_equal_shape([weights, moves.gap])
    num_bars = weights.shape[0]
    targets = jnp.where(jnp.arange(num_bars) < warmup, 0.0, weights)
    targets = jnp.pad(targets, (min(delay, num_bars), 0))[:num_bars]

    def one_bar(state: AccountState, xs: tuple) -> tuple[AccountState, tuple]:
        state, info = step(state, xs[0], xs[1], terms, drift=drift)
        return state, (state, info)

    final, (states, info) = jax.lax.scan(one_bar, start(dtype=weights.dtype), (moves, targets))
    at_close = states.position / _or_one(states.equity)
    carried = jnp.pad(at_close, (1, 0))[:num_bars]
    inputs = (moves.gap, moves.body, targets, *terms)
    return BacktestResult(
        equity=states.equity,
        returns=info.net_return,
        weights=at_close,
        held=info.filled if earns_at_once else carried,
        turnover=info.turnover,
        cost=info.cost,
        gap_pnl=info.gap_pnl,
        body_pnl=info.body_pnl,
        interest=info.interest,
        is_ruined=final.equity <= 0.0,
        is_finite=jnp.all(jnp.stack([jnp.all(jnp.isfinite(value)) for value in inputs])),
    )
