"""Prices, costs and limits of a backtest: checked on the host, and put into the form `step` reads.

Notation: bar t opens at O_t and closes at C_t; the fill price of a bar is O_t or C_t.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from densityjax import numerics
from densityjax._typing import Array, ArrayLike

DELAY = {"next_open": 1, "next_close": 1, "same_close": 0}  # bars from the decision to its fill


class Prices(NamedTuple):
    """Prices of one asset, in its quote currency; only `close` is always required.

    Attributes:
      open: [T] first price of each bar; required by `fill='next_open'`.
      high: [T] highest price of each bar.
      low: [T] lowest price of each bar.
      close: [T] last price of each bar.
    """

    open: ArrayLike | None = None
    high: ArrayLike | None = None
    low: ArrayLike | None = None
    close: ArrayLike | None = None


class Costs(NamedTuple):
    """What trading costs and idle cash earns; every field may be an array that is swept.

    Attributes:
      fee_bps: fee in basis points of the traded notional; 10 is a usual taker fee of spot crypto
        venues (perpetual futures ask about half, US equities about a tenth of it).
      half_spread_bps: half the bid-ask spread, in basis points of the traded notional.
      slippage_bps: further price impact, in basis points of the traded notional.
      cash_rate: simple rate PER BAR on the cash `1 - weight` at the last close, as a fraction;
        negative cash (leverage) pays it.
    """

    fee_bps: ArrayLike = 10.0
    half_spread_bps: ArrayLike = 0.0
    slippage_bps: ArrayLike = 0.0
    cash_rate: ArrayLike = 0.0


class Terms(NamedTuple):
    """Costs and limits as `step` reads them, each a scalar or one value per configuration.

    Attributes:
      cost_rate: cost per traded notional, as a fraction.
      cash_rate: simple rate per bar on cash, as a fraction.
      lowest: smallest target weight, in equity.
      highest: largest target weight, in equity.
      band: an order of this size or less, in equity, is left out.
    """

    cost_rate: Array
    cash_rate: Array
    lowest: Array
    highest: Array
    band: Array


class Bar(NamedTuple):
    """What the market does to a position within one bar.

    Attributes:
      gap: simple return from the last close to the fill price.
      body: simple return from the fill price to this close.
      elapsed: 1 for a bar of the market, 0 for padding, on which cash earns nothing.
    """

    gap: Array
    body: Array
    elapsed: Array


def make_terms(
    costs: Costs,
    *,
    band: ArrayLike = 0.0,
    max_leverage: ArrayLike = 1.0,
    allow_short: ArrayLike = True,
    dtype: jnp.dtype | None = None,
) -> Terms:
    """Adds up the costs and turns the limits into bounds on the target weight.

    Args:
      costs: `Costs`, scalars or [N] arrays.
      band: rebalancing band, in equity; an order of this size or less is not sent.
      max_leverage: largest absolute target weight, in equity.
      allow_short: whether targets below zero are kept; otherwise they are clipped to zero.
      dtype: floating-point type of the account; the default of jax where None.

    Returns:
      The `Terms` of trading, fractions.
    """
    fee, half_spread, slippage, cash_rate = (jnp.asarray(cost, dtype or float) for cost in costs)
    highest = jnp.asarray(max_leverage, dtype or float)
    return Terms(
        cost_rate=(fee + half_spread + slippage) * numerics.BASIS_POINT,
        cash_rate=cash_rate,
        lowest=-highest * jnp.asarray(allow_short, dtype or float),
        highest=highest,
        band=jnp.asarray(band, dtype or float),
    )


def market_moves(prices: Prices, fill: str) -> Bar:
    """Splits each bar's move at its fill price, in double precision where prices are on the host.

    Args:
      prices: `Prices` with [T] arrays.
      fill: 'next_open', 'next_close' or 'same_close'.

    Returns:
      A `Bar` of [T] arrays; the gap of bar 0 is zero, since nothing is held before it.

    Raises:
      ValueError: if `fill` is unknown, or a price that it needs is missing, not one-dimensional,
        of another length, not finite or not positive.
    """
    if fill not in DELAY:
        raise ValueError(f"fill is {fill!r}; accepted are {sorted(DELAY)}")
    for name in ("close", "open") if fill == "next_open" else ("close",):
        if getattr(prices, name) is None:
            raise ValueError(
                f"prices.{name} is None; fill={fill!r} needs it, an array of shape [T]"
            )
    on_host = not any(isinstance(p, jax.Array) for p in prices)
    given = {
        name: np.asarray(p, np.float64) if on_host else jnp.asarray(p) * 1.0
        for name, p in prices._asdict().items()
        if p is not None
    }
    close = given["close"]
    for name, price in given.items():
        if price.ndim != 1 or price.shape != close.shape:
            raise ValueError(
                f"prices.{name} has shape {price.shape}; accepted is [T] as the closes"
            )
        check_finite(f"prices.{name}", price, positive=True)
    xp = np if on_host else jnp
    fill_price = given["open"] if fill == "next_open" else close
    last_close = xp.concatenate([fill_price[:1], close[:-1]])
    gap, body = (fill_price - last_close) / last_close, (close - fill_price) / fill_price
    return Bar(gap, body, xp.ones_like(gap))  # pyright: ignore[reportArgumentType]


def check_finite(name: str, values: ArrayLike, *, first: int = 0, positive: bool = False) -> None:
    """Raises a ValueError that names the first bad row at or after `first`; traced arrays pass."""
    if isinstance(values, Tracer):
        return
    array = np.asarray(values, np.float64)[first:]
    is_bad = ~np.isfinite(array) | ((array <= 0.0) if positive else False)
    if is_bad.any():
        row = int(np.argwhere(is_bad)[0][0])
        accepted = "finite positive numbers" if positive else f"finite numbers from row {first} on"
        raise ValueError(f"{name}[{first + row}] is {array[row]}; accepted are {accepted}")
