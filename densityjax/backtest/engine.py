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
    """What the next bar needs to know of the account.

    Attributes:
      equity: cash plus marked position, in units of the equity before bar 0.
      weight: marked position at the last close, as a signed fraction of equity.
      is_ruined: whether equity has ever been at or below zero.
    """

    equity: Array
    weight: Array
    is_ruined: Array


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
    return AccountState(equity, jnp.zeros_like(equity), jnp.zeros(shape, bool))


def step(
    state: AccountState, bar: Bar, target: Array, terms: Terms, *, drift: bool = True
) -> tuple[AccountState, BarInfo]:
    """Takes the account through one bar; backtests, grids and live accounts run this function.

    With w the carried weight and f = 1 + w gap the growth to the fill, the drifted weight is
    w_d = w (1 + gap) / f, the order is D = target - w_d, sized on equity before costs, and growth
    to the close is G = 1 - c |D| + target body. The new weight is target (1 + body) / G.

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
    cash_rate = terms.cash_rate * bar.elapsed
    before = state.weight * bar.gap + cash_rate * (1.0 - state.weight)  # return up to the fill
    # `not <=` rather than `>`: a NaN is no ruin, it must stay visible.
    is_open = ~state.is_ruined & ~(1.0 + before <= 0.0)
    at_fill = jnp.where(is_open, 1.0 + before, 1.0)
    drifted = state.weight * (1.0 + bar.gap) / at_fill if drift else state.weight
    drifted = jnp.where(is_open, drifted, 0.0)
    wanted = jnp.where(is_open, jnp.clip(target, terms.lowest, terms.highest), 0.0)
    distance = jnp.abs(wanted - drifted)
    is_kept = distance <= terms.band
    turnover = jnp.where(is_kept, 0.0, distance)
    filled = jnp.where(is_kept, drifted, wanted)
    after = filled * bar.body - terms.cost_rate * turnover  # return from the fill to the close
    is_solvent = is_open & ~(1.0 + after <= 0.0)
    lost = jnp.where(state.is_ruined, 0.0, -1.0)
    net_return = jnp.where(is_solvent, before + after + before * after, lost)
    grown = filled * (1.0 + bar.body) / jnp.where(is_solvent, 1.0 + after, 1.0) if drift else filled
    money = state.equity * at_fill
    info = BarInfo(
        net_return=net_return,
        turnover=turnover,
        filled=filled,
        cost=money * terms.cost_rate * turnover,
        gap_pnl=state.equity * state.weight * bar.gap,
        body_pnl=money * filled * bar.body,
        interest=state.equity * cash_rate * (1.0 - state.weight),
    )
    equity = state.equity * (1.0 + net_return)
    return AccountState(equity, jnp.where(is_solvent, grown, 0.0), ~is_solvent), info


def run(
    weights: ArrayLike,
    prices: Prices,
    *,
    costs: Costs = Costs(),  # noqa: B008  an immutable NamedTuple of numbers
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
    carried = jnp.pad(states.weight, (1, 0))[:num_bars]
    inputs = (moves.gap, moves.body, targets, *terms)
    return BacktestResult(
        equity=states.equity,
        returns=info.net_return,
        weights=states.weight,
        held=info.filled if earns_at_once else carried,
        turnover=info.turnover,
        cost=info.cost,
        gap_pnl=info.gap_pnl,
        body_pnl=info.body_pnl,
        interest=info.interest,
        is_ruined=final.is_ruined,
        is_finite=jnp.all(jnp.stack([jnp.all(jnp.isfinite(value)) for value in inputs])),
    )
