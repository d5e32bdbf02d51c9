"""Prices, costs and limits of a backtest: checked on the host, and put into the form `step` reads.

Notation: bar t opens at O_t and closes at C_t; the fill price of a bar is O_t or C_t.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from densityjax import numerics
from densityjax._typing import Array, ArrayLike
from densityjax.backtest.checks import check_finite, check_range
from densityjax.backtest.columns import MarketColumns, read_columns
from densityjax.backtest.stops import Stops, StopTerms, checked, make_stops, uses_range

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
    """What trading, carrying and idle cash cost; every field may be an array that is swept.

    A fill costs `fee + half_spread + slippage`, with the maker's fee for the share of the orders
    that rest in the book and for profits taken inside a bar, and the taker's for all else.

    Attributes:
      fee_bps: taker fee in basis points of the traded notional; 10 is a usual one of spot crypto
        venues (perpetual futures ask about half, US equities about a tenth of it).
      half_spread_bps: half the bid-ask spread, in basis points of the traded notional.
      slippage_bps: further price impact, in basis points of the traded notional.
      cash_rate: simple rate PER BAR on the cash `1 - weight` at the last close, as a fraction;
        negative cash (leverage) pays it.
      maker_fee_bps: fee of resting orders, in basis points, negative for a rebate; None takes
        `fee_bps`.
      maker_share: share of the target orders that rest in the book, from 0 (none) to 1.
      slippage_per_volatility: slippage over `MarketColumns.volatility`, a factor: the slippage is
        `slippage_bps` plus it times the volatility; None is off.
      borrow_rate: simple rate PER BAR on a short position, as a fraction; None is off.
      leverage_rate: simple rate PER BAR on the part of the positions beyond equity, as a fraction,
        beside `cash_rate`; None is off.
    """

    fee_bps: ArrayLike = 10.0
    half_spread_bps: ArrayLike = 0.0
    slippage_bps: ArrayLike = 0.0
    cash_rate: ArrayLike = 0.0
    maker_fee_bps: ArrayLike | None = None
    maker_share: ArrayLike = 0.0
    slippage_per_volatility: ArrayLike | None = None
    borrow_rate: ArrayLike | None = None
    leverage_rate: ArrayLike | None = None


class Terms(NamedTuple):
    """Costs and limits as `step` reads them, each a scalar or one value per configuration.

    Attributes:
      cost_rate: cost per notional traded by target orders, as a fraction.
      cash_rate: simple rate per bar on cash, as a fraction.
      lowest: smallest target weight, in equity.
      highest: largest target weight, in equity.
      band: an order of this size or less, in equity, is left out.
      stop_rate: cost per notional of a stop's fill; None takes `cost_rate`.
      limit_rate: cost per notional of a profit taken inside a bar; None takes `cost_rate`.
      volatility_slope: slippage per volatility, a factor; None is off.
      borrow_rate: simple rate per bar on shorts, a fraction; None is off.
      leverage_rate: simple rate per bar on positions beyond equity, a fraction; None is off.
      max_gross: largest sum of absolute target weights of many assets, in equity; None is off.
      max_net: largest absolute sum of target weights of many assets, in equity; None is off.
      stops: `StopTerms`; None is off.
    """

    cost_rate: Array
    cash_rate: Array
    lowest: Array
    highest: Array
    band: Array
    stop_rate: Array | None = None
    limit_rate: Array | None = None
    volatility_slope: Array | None = None
    borrow_rate: Array | None = None
    leverage_rate: Array | None = None
    max_gross: Array | None = None
    max_net: Array | None = None
    stops: StopTerms | None = None


class Bar(NamedTuple):
    """What the market does to a position within one bar; columns that nothing reads are None.

    Attributes:
      gap: simple return from the last close to the fill price.
      body: simple return from the fill price to this close.
      elapsed: 1 for a bar of the market, 0 for padding, on which cash earns nothing.
      open: first price, in quote currency; with stops.
      high: highest price; with stops inside the bar.
      low: lowest price; with stops inside the bar.
      close: last price; with stops.
      volatility: standard deviation of the return, a fraction; with slippage that grows with it.
      funding: funding rate due, as a fraction of the position at the close.
      atr: average true range known when this bar's order was decided, in quote currency.
      stop_scale: factor on the distances of stops, known before this bar.
      is_last: whether what is held is sold at this close.
      is_tradable: whether this asset has a price in this bar; with many assets.
    """

    gap: Array
    body: Array
    elapsed: Array
    open: Any = None
    high: Any = None
    low: Any = None
    close: Any = None
    volatility: Any = None
    funding: Any = None
    atr: Any = None
    stop_scale: Any = None
    is_last: Any = None
    is_tradable: Any = None


def make_terms(
    costs: Costs,
    *,
    band: ArrayLike = 0.0,
    max_leverage: ArrayLike = 1.0,
    allow_short: ArrayLike = True,
    dtype: jnp.dtype | None = None,
    stops: Stops | None = None,
    max_gross: ArrayLike | None = None,
    max_net: ArrayLike | None = None,
) -> Terms:
    """Adds up the costs and turns the limits into bounds on the target weight.

    Args:
      costs: `Costs`, scalars or [N] arrays.
      band: rebalancing band, in equity; an order of this size or less is not sent.
      max_leverage: largest absolute target weight, in equity.
      allow_short: whether targets below zero are kept; otherwise they are clipped to zero.
      dtype: floating-point type of the account; the default of jax where None.
      stops: `Stops`, or None.
      max_gross: largest sum of absolute targets of many assets, in equity; None is off.
      max_net: largest absolute sum of targets of many assets, in equity; None is off.

    Returns:
      The `Terms` of trading, fractions.

    Raises:
      ValueError: if a cost or a limit is negative or not finite, or a stop is not as it should be.
    """
    _check_costs(costs)
    for name, limit in (("band", band), ("max_leverage", max_leverage)):
        check_range(name, limit)

    def array(value: ArrayLike | None) -> Any:
        return None if value is None else jnp.asarray(value, dtype or float)

    fee, half_spread, slippage, cash_rate, maker_fee, share, *rates = map(array, costs)
    impact, highest = half_spread + slippage, array(max_leverage)
    order_fee = fee if maker_fee is None else fee + share * (maker_fee - fee)
    stop_terms = make_stops(stops, dtype)
    has_maker = maker_fee is not None and stop_terms is not None
    return Terms(
        cost_rate=(order_fee + impact) * numerics.BASIS_POINT,
        cash_rate=cash_rate,
        lowest=-highest * array(allow_short),
        highest=highest,
        band=array(band),
        stop_rate=(fee + impact) * numerics.BASIS_POINT if has_maker else None,
        limit_rate=(maker_fee + impact) * numerics.BASIS_POINT if has_maker else None,
        volatility_slope=rates[0],
        borrow_rate=rates[1],
        leverage_rate=rates[2],
        max_gross=array(max_gross),
        max_net=array(max_net),
        stops=stop_terms,
    )


def _check_costs(costs: Costs) -> None:
    """Raises a ValueError that names the first cost which is out of range."""
    for name, value in costs._asdict().items():
        if name in ("cash_rate", "maker_fee_bps"):  # a rate may be paid, a fee may be a rebate
            check_range(f"costs.{name}", value, lowest=-np.inf)
        else:
            highest = 1.0 if name == "maker_share" else np.inf
            check_range(f"costs.{name}", value, highest=highest)


def market_moves(
    prices: Prices,
    fill: str,
    *,
    costs: Costs | None = None,
    stops: Stops | None = None,
    columns: MarketColumns | None = None,
    warmup: int = 0,
    liquidate: bool = False,
) -> Bar:
    """Splits each bar's move at its fill price, in double precision where prices are on the host.

    Args:
      prices: `Prices` with [T] arrays.
      fill: 'next_open', 'next_close' or 'same_close'.
      costs: `Costs`, which say whether volatility is read; None reads none.
      stops: `Stops`, which say what prices and ranges are read; None reads none.
      columns: `MarketColumns`, or None.
      warmup: number of first bars whose ranges may be NaN.
      liquidate: whether what is held is sold at the last close.

    Returns:
      A `Bar` of [T] arrays; the gap of bar 0 is zero, since nothing is held before it.

    Raises:
      ValueError: if `fill` is unknown, or a price or a column that is needed is missing, not
        one-dimensional, of another length, not finite or not positive.
    """
    stops = checked(stops)
    for name, reason in needed_prices(fill, stops):
        if getattr(prices, name) is None:
            raise ValueError(f"prices.{name} is None; {reason} needs it, an array of shape [T]")
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
    has_impact = costs is not None and costs.slippage_per_volatility is not None
    extra = read_columns(
        columns or MarketColumns(),
        close,
        has_impact=has_impact,
        has_stops=stops is not None,
        has_ranges=uses_range(stops),
        delay=DELAY[fill],
        warmup=warmup,
    )
    if stops is not None:
        extra |= {name: given[name] for name in ("close", *dict(needed_prices(fill, stops)))}
        if stops.trigger == "intrabar":
            check_finite("prices.high - prices.low", given["high"] - given["low"], lowest=0.0)
    if liquidate:
        extra["is_last"] = np.arange(len(gap)) == len(gap) - 1
    return Bar(gap, body, xp.ones_like(gap), **extra)  # pyright: ignore[reportArgumentType]


def needed_prices(fill: str, stops: Stops | None) -> list[tuple[str, str]]:
    """Returns the prices that are read and why; a ValueError where the fill is unknown."""
    if fill not in DELAY:
        raise ValueError(f"fill is {fill!r}; accepted are {sorted(DELAY)}")
    needs = [("close", f"fill={fill!r}")]
    if fill == "next_open":
        needs.append(("open", f"fill={fill!r}"))
    if stops is not None and stops.trigger == "intrabar":
        needs += [(name, "trigger='intrabar' of the stops") for name in ("open", "high", "low")]
    return needs
