"""The same backtests as a ledger of cash and units, in plain NumPy float64: the engine's oracle.

It is slow and written differently on purpose: no weights recursion, no returns, one `if` after the
other. A replay of the best rules of a grid should agree with it; where it does not, one is wrong.
Notation as in `engine`.
"""

import math
from typing import Any, NamedTuple

import numpy as np

from densityjax._typing import ArrayLike, NumpyArray
from densityjax.backtest.columns import MarketColumns
from densityjax.backtest.inputs import DELAY, Costs, Prices
from densityjax.backtest.ledger import Ledger, Market, sign
from densityjax.backtest.stops import END, Stops
from densityjax.numerics import CAP_ROUNDINGS

EPS = float(np.finfo(np.float64).eps)


class OracleResult(NamedTuple):
    """Path of a ledger over T bars, [T] each; money in units of the equity before bar 0.

    Attributes:
      equity: cash plus marked position at the close.
      weights: position at the close over equity.
      turnover: notional traded, over the equity at the bar's order.
      cost: trading costs, money.
      interest: what cash earned, money.
      funding: what funding paid to the account, money.
      borrow: what borrowing cost, money.
      exit_reason: index into `stops.REASONS` of an exit within the bar.
      exit_price: its price, NaN where there is none.
      is_ruined: [] whether equity was ever at or below zero.
      margin: [] smallest relative distance at which a stop or the band was decided: a case with one
        near the rounding of the other arithmetic may well be decided otherwise there.
    """

    equity: NumpyArray
    weights: NumpyArray
    turnover: NumpyArray
    cost: NumpyArray
    interest: NumpyArray
    funding: NumpyArray
    borrow: NumpyArray
    exit_reason: NumpyArray
    exit_price: NumpyArray
    is_ruined: bool
    margin: float


def run(
    weights: ArrayLike,
    prices: Prices,
    *,
    costs: Costs = Costs(),  # noqa: B008  an immutable NamedTuple of numbers
    stops: Stops | None = None,
    columns: MarketColumns | None = None,
    fill: str = "next_open",
    drift: bool = True,
    band: float = 0.0,
    lag: int = 0,
    max_leverage: float = 1.0,
    allow_short: bool = True,
    warmup: int = 0,
    liquidate: bool = False,
) -> OracleResult:
    """Trades target weights on one asset as `backtest.run` does, with the same options.

    Args:
      weights: [T] target weights decided at each close, signed fractions of equity.
      prices: `Prices` of [T] arrays, in quote currency.
      costs: `Costs` of numbers.
      stops: `Stops` of numbers, or None.
      columns: `MarketColumns` of [T] arrays, or None.
      fill: 'next_open', 'next_close' or 'same_close'.
      drift: whether weights drift with the price between trades.
      band: rebalancing band, in equity.
      lag: further whole bars between the decision and its fill.
      max_leverage: largest absolute target weight, in equity.
      allow_short: whether targets below zero are kept.
      warmup: number of first bars whose weights are not read.
      liquidate: whether the position is sold at the last close.

    Returns:
      The `OracleResult`.
    """
    targets = np.asarray(weights, np.float64).tolist()
    bars = len(targets)
    market = Market(prices, columns, bars)
    books = Ledger(_numbers(costs), _numbers(stops or Stops()), drift)
    books.delay = DELAY[fill]
    band, highest = float(band), float(max_leverage)
    lowest = -highest if allow_short else 0.0
    books.lowest, books.highest = lowest, highest
    late = lag if fill == "same_close" else lag + 1
    rows = []
    for bar in range(bars):
        decided = bar - late
        target = targets[decided] if decided >= warmup else 0.0
        target = min(max(target, lowest), highest)
        is_last = liquidate and bar == bars - 1
        rows.append(_one_bar(books, market, bar, target, band, fill == "next_open", is_last))
    path = [np.array([row[name] for row in rows]) for name in OracleResult._fields[:-2]]
    return OracleResult(*path, is_ruined=books.is_ruined, margin=books.margin)


def _numbers(fields: Costs | Stops) -> Any:
    """Returns the same options as Python floats; None and words stay."""
    return fields._replace(
        **{
            name: value if value is None or isinstance(value, str) else float(np.asarray(value))
            for name, value in fields._asdict().items()
        }
    )


def _one_bar(
    books: Ledger,
    market: Market,
    bar: int,
    target: float,
    band: float,
    fills_at_open: bool,
    is_last: bool,
) -> dict[str, float]:
    """Takes the ledger through one bar, event by event, and reports it."""
    row = dict.fromkeys(OracleResult._fields[:-2], 0.0) | {"exit_price": math.nan}
    row |= {"traded": 0.0, "worth": 1.0}
    if books.is_ruined:
        return row
    row["interest"] = books.cash * books.costs.cash_rate
    books.cash += row["interest"]
    before = max(bar - 1, 0)  # the last bar whose ranges and scale are known
    scale = market.stop_scale[before]
    if fills_at_open:
        _order(books, market, bar, market.open[bar], target, band, scale, row, True, False)
        if not books.is_ruined:
            _hold(books, market, bar, scale, row, False, is_last)
    else:
        _hold(books, market, bar, scale, row, True, False)
        _order(books, market, bar, market.close[bar], target, band, scale, row, False, is_last)
    row["turnover"] = row["traded"] / row["worth"]
    worth = books.worth(market.close[bar])
    if books.is_ruined or worth <= 0.0:
        books.is_ruined, books.cash, books.units = True, 0.0, 0.0
        return row
    row["equity"] = worth
    row["weights"] = books.weight if not books.drift else books.units * market.close[bar] / worth
    books.reset_weight(market.close[bar])
    return row


def _order(
    books: Ledger,
    market: Market,
    bar: int,
    price: float,
    target: float,
    band: float,
    scale: float,
    row: dict[str, float],
    fills_at_open: bool,
    is_last: bool,
) -> None:
    """Trades towards the target at a price, where nothing forbids it."""
    books.reset_weight(price)
    worth = books.worth(price)
    if worth <= 0.0:
        books.is_ruined = True
        return
    side = sign(books.units)
    is_forced = is_last
    if fills_at_open and books.stops.trigger == "intrabar" and books.beyond(price, scale):
        is_forced, books.barred = True, side
    if books.barred and sign(target) == books.barred:
        target = 0.0
        books.barred = 0 if books.stops.reenter else books.barred
    else:
        books.barred = 0
    target = 0.0 if is_last else target
    wanted = target * worth / price
    distance = abs(wanted - books.units) * price / worth
    if band > 0.0 and not is_forced:
        books.near(1.0 + distance, 1.0 + band)
    if distance > band or is_forced:
        weight = target
    else:  # the band keeps the position, but never beyond a cap
        held = books.units * price / worth
        weight = min(max(held, books.lowest), books.highest)
        wanted, distance = weight * worth / price, abs(weight - held)
        if distance <= CAP_ROUNDINGS * EPS * abs(held):
            distance = 0.0
    if distance > 0.0 or is_forced:
        _fill(books, market, bar, price, wanted)
        row["traded"] += distance * worth
        row["cost"] += books.pay(distance * worth, market.volatility[bar], kind="order")
        books.weight = weight
    row["worth"] = worth


def _fill(books: Ledger, market: Market, bar: int, price: float, wanted: float) -> None:
    """Changes the units, and what the stops remember of the position."""
    if wanted * books.units > 0.0:
        if abs(wanted) > abs(books.units):
            added = abs(wanted) - abs(books.units)
            spent = books.entry * abs(books.units) + price * added
            books.entry = spent / abs(wanted)
    elif wanted != 0.0:
        books.entry = books.best = price
        books.age, books.range = 0, market.atr[max(bar - books.delay, 0)]
    books.cash -= (wanted - books.units) * price
    books.units = wanted


def _hold(
    books: Ledger,
    market: Market,
    bar: int,
    scale: float,
    row: dict[str, float],
    from_open: bool,
    is_last: bool,
) -> None:
    """Holds the position up to its exit or to the close, where it pays funding and borrowing."""
    close, volatility = market.close[bar], market.volatility[bar]
    reason, price, kind = books.exit_within(bar, market, scale, from_open=from_open)
    side = sign(books.units)
    if is_last and not reason and side:
        reason, price, kind = END, close, "order"
    if reason:
        books.reset_weight(price)
        sold = abs(books.units) * price
        row["cost"] += books.pay(sold, volatility, kind=kind)
        books.cash += books.units * price
        books.units = books.weight = 0.0
        row["exit_reason"], row["exit_price"] = reason, price
        if reason != END:
            books.barred = 0 if books.stops.reenter else side
        row["traded"] += sold
    elif side:
        books.reset_weight(close)
        high, low = market.high[bar], market.low[bar]
        if books.stops.trigger == "close":
            high = low = close
        books.best = max(books.best, high) if side > 0 else min(books.best, low)
        books.age += 1
    _carry(books, market, bar, row)


def _carry(books: Ledger, market: Market, bar: int, row: dict[str, float]) -> None:
    """Pays funding on the mark, and borrowing on shorts and on what exceeds the equity."""
    close = market.close[bar]
    value, worth = books.units * close, books.worth(close)
    row["funding"] = -books.units * market.mark[bar] * market.funding_rate[bar]
    short_rate, leverage_rate = books.costs.borrow_rate, books.costs.leverage_rate
    if short_rate is not None and value < 0.0:
        row["borrow"] += short_rate * -value
    if leverage_rate is not None and abs(value) > max(worth, 0.0):
        row["borrow"] += leverage_rate * (abs(value) - max(worth, 0.0))
    books.cash += row["funding"] - row["borrow"]
