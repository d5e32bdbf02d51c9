"""Many assets in one account: target weights [T, A] and prices in, one path of equity out.

The bar is that of `engine.step`, with the assets as an axis of the position and equity as their
sum; the order of events, fills, costs and stops are the same for each asset. A bar without a price
(NaN) freezes its asset: the position stays, is marked at the last close, and cannot be traded.
"""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from densityjax._typing import Array, ArrayLike, NumpyArray
from densityjax.backtest import engine
from densityjax.backtest.account import AccountState, Exits, or_one
from densityjax.backtest.checks import check_finite, check_range
from densityjax.backtest.columns import MarketColumns, read_columns
from densityjax.backtest.inputs import DELAY, Bar, Costs, Prices, Terms, make_terms, needed_prices
from densityjax.backtest.stops import Stops, checked, uses_range


class PortfolioResult(NamedTuple):
    """Outcome of one account over T bars and A assets; money in units of equity before bar 0.

    Attributes:
      equity: [T] cash plus marked positions at the close of each bar; 1 before bar 0.
      returns: [T] net simple return of each bar, as a fraction of equity.
      weights: [T, A] positions at each close, fractions of equity.
      filled: [T, A] weights after each bar's orders, fractions of the equity just before them.
      turnover: [T, A] traded notional, fraction of equity before costs.
      cost: [T, A] trading costs, money.
      pnl: [T, A] gross profit of each asset, money.
      funding: [T, A] what funding paid to the account, money; negative when it paid.
      borrow: [T, A] what borrowing cost, money.
      interest: [T] what cash earned, money.
      exits: `Exits` of [T, A] arrays; None without stops and without a sale at the end.
      is_ruined: [] whether equity was ever at or below zero.
      is_finite: [] False where a target or a price used was not finite; the rest is then void.
    """

    equity: Array
    returns: Array
    weights: Array
    filled: Array
    turnover: Array
    cost: Array
    pnl: Array
    funding: Array
    borrow: Array
    interest: Array
    exits: Exits | None
    is_ruined: Array
    is_finite: Array


def run_portfolio(
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
    max_gross: float | None = None,
    max_net: float | None = None,
    allow_short: ArrayLike = True,
    warmup: int = 0,
    liquidate: bool = False,
) -> PortfolioResult:
    """Trades target weights on many assets out of one equity.

    Args:
      weights: [T, A] target weights decided at each close, signed fractions of equity.
      prices: `Prices` of [T, A] arrays on the host, quote currency; NaN where an asset has no bar.
      costs: `Costs`; scalars, or [A] arrays for costs per asset (`cash_rate` is one number).
      stops: `Stops`; scalars or [A] arrays.
      columns: `MarketColumns` of [T, A] arrays, finite in every bar.
      fill: 'next_open', 'next_close' or 'same_close'.
      drift: whether weights drift with the prices between trades.
      band: rebalancing band of each asset, in equity.
      lag: further whole bars between the decision and its fill.
      max_leverage: largest absolute target weight of one asset, in equity; scalar or [A].
      max_gross: largest sum of absolute targets, in equity; None is no cap.
      max_net: largest absolute sum of targets, in equity; None is no cap. Targets beyond a cap all
        shrink by one factor; a frozen asset keeps what it has all the same.
      allow_short: whether targets below zero are kept; scalar or [A].
      warmup: number of first bars whose weights are not read; they may be NaN.
      liquidate: whether positions are sold at the last close, where they have a price.

    Returns:
      A `PortfolioResult`.

    Raises:
      ValueError: if an argument has a wrong shape or value.
    """
    if lag < 0 or warmup < 0:
        raise ValueError(f"lag is {lag} and warmup is {warmup}; accepted are integers >= 0")
    for name, cap in (("max_gross", max_gross), ("max_net", max_net)):
        check_range(name, cap)
    moves = _moves(prices, fill, costs, stops, columns, warmup, liquidate)
    if np.shape(weights) != moves.gap.shape:
        raise ValueError(f"weights has shape {np.shape(weights)}; accepted is {moves.gap.shape}")
    if np.ndim(costs.cash_rate) > 0:
        raise ValueError(f"costs.cash_rate has shape {np.shape(costs.cash_rate)}; accepted is ()")
    check_finite("weights", weights, first=warmup)
    dtype = jnp.result_type(float)
    terms = make_terms(
        costs,
        band=band,
        max_leverage=max_leverage,
        allow_short=allow_short,
        dtype=dtype,
        stops=stops,
        max_gross=max_gross,
        max_net=max_net,
    )
    options = DELAY[fill] + lag, fill == "next_open", drift
    weights = jnp.asarray(weights, dtype)
    return _run(weights, engine.cast(moves, dtype), terms, warmup, *options)


def _moves(
    prices: Prices,
    fill: str,
    costs: Costs,
    stops: Stops | None,
    columns: MarketColumns | None,
    warmup: int,
    liquidate: bool,
) -> Bar:
    """Splits each asset's move at its fill price; nothing moves in a bar without a price."""
    stops = checked(stops)
    needs = dict(needed_prices(fill, stops))
    for name, reason in needs.items():
        if getattr(prices, name) is None:
            raise ValueError(f"prices.{name} is None; {reason} needs it, an array of shape [T, A]")
    given = {name: np.asarray(getattr(prices, name), np.float64) for name in needs}
    shape = given["close"].shape
    for name, price in given.items():
        if len(shape) != 2 or price.shape != shape:
            raise ValueError(f"prices.{name} has shape {price.shape}; accepted is [T, A]")
        if np.isinf(price).any() or (price <= 0.0).any():
            row = tuple(int(i) for i in np.argwhere(np.isinf(price) | (price <= 0.0))[0])
            raise ValueError(
                f"prices.{name}{list(row)} is {price[row]}; accepted are positive numbers and NaN"
            )
    is_tradable = ~np.any([np.isnan(price) for price in given.values()], axis=0)
    close = last_close(given["close"], is_tradable)
    before = np.concatenate([close[:1], close[:-1]])
    paid = given["open"] if fill == "next_open" else given["close"]
    paid = np.where(is_tradable, paid, before)
    before[0] = paid[0]  # nothing is held before bar 0
    gap, body = (paid - before) / before, (close - paid) / paid
    extra: dict[str, Any] = read_columns(
        columns or MarketColumns(),
        close,
        has_impact=costs.slippage_per_volatility is not None,
        has_stops=stops is not None,
        has_ranges=uses_range(stops),
        delay=DELAY[fill],
        warmup=warmup,
    )
    if stops is not None:
        extra |= {name: np.where(is_tradable, price, before) for name, price in given.items()}
        extra["close"] = close
    if liquidate:
        last = np.arange(len(gap)) == len(gap) - 1
        extra["is_last"] = last[:, None] & is_tradable
    elapsed = np.ones((len(gap), 1))
    return Bar(gap, body, elapsed, is_tradable=is_tradable, **extra)  # pyright: ignore[reportArgumentType]


def last_close(close: NumpyArray, is_tradable: NumpyArray) -> NumpyArray:
    """Returns [T, A] the close of each bar or, without one, the last before it (1 before any)."""
    rows = np.where(is_tradable, np.arange(len(close))[:, None], -1)
    rows = np.maximum.accumulate(rows, axis=0)
    return np.where(rows >= 0, np.take_along_axis(close, np.maximum(rows, 0), axis=0), 1.0)


def _total(money: Array) -> Array:
    """Adds over the assets, and keeps an axis of one."""
    return jnp.sum(money, -1, keepdims=True)


@functools.partial(jax.jit, static_argnames=("delay", "fills_at_open", "drift"))
def _run(
    weights: Array,
    moves: Bar,
    terms: Terms,
    warmup: ArrayLike,
    delay: int,
    fills_at_open: bool,
    drift: bool,
) -> PortfolioResult:
    """Shifts the targets by `delay` bars and scans `engine.step` over them."""
    targets = engine.due_targets(weights, warmup, delay)
    step = functools.partial(
        engine.step, terms=terms, drift=drift, fills_at_open=fills_at_open, total=_total
    )

    def one_bar(state: AccountState, xs: tuple) -> tuple[AccountState, tuple]:
        state, info = step(state, *xs)
        return state, (state.equity, state.position, info)

    begin = engine.start((weights.shape[1],), weights.dtype, terms.stops)
    begin = begin._replace(equity=jnp.ones((1,), weights.dtype))
    final, (equity, position, info) = jax.lax.scan(one_bar, begin, (moves, targets))
    inputs = jax.tree.leaves((moves.gap, moves.body, moves.funding, targets, terms.cost_rate))
    return PortfolioResult(
        equity=equity[:, 0],
        returns=info.net_return[:, 0],
        weights=position / or_one(equity),
        filled=info.filled,
        turnover=info.turnover,
        cost=info.cost,
        pnl=info.gap_pnl + info.body_pnl,
        funding=info.funding,
        borrow=info.borrow,
        interest=info.interest[:, 0],
        exits=info.exits,
        is_ruined=final.equity[0] <= 0.0,
        is_finite=jnp.all(jnp.stack([jnp.all(jnp.isfinite(value)) for value in inputs])),
    )
