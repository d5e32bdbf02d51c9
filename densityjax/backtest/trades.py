"""The list of trades of a backtest, cut out of its path on the host in float64.

A trade is a run of bars with a position of one sign: a flip closes one and opens the next, an order
that only resizes the position belongs to its trade, and a stop ends it inside a bar. Entry prices
are averages over what was bought (for a short: sold), exit prices over what was given back.
"""

import numpy as np
import pandas as pd

from densityjax._typing import NumpyArray
from densityjax.backtest.account import BacktestResult
from densityjax.backtest.inputs import Prices
from densityjax.backtest.stops import END, REASONS, RUIN, SIGNAL, TIME

TRADE_COLUMNS = [
    "entry",
    "exit",
    "side",
    "entry_price",
    "exit_price",
    "reason",
    "size",
    "pnl",
    "return",
    "holding_bars",
    "mae",
    "mfe",
    "is_open",
]


def trade_record(
    result: BacktestResult,
    index: pd.Index | None = None,
    *,
    prices: Prices | None = None,
    initial_capital: float = 10_000.0,
) -> pd.DataFrame:
    """Cuts a backtest into trades; their profits plus interest are the change of equity.

    Args:
      result: a `BacktestResult` of T bars.
      index: [T] labels of the bars; their numbers where None.
      prices: the `Prices` of the backtest, for the columns of prices, sizes and excursions, which
        are NaN without; without highs and lows excursions are those of the closes.
      initial_capital: equity before the first bar.

    Returns:
      One row for each trade: entry and exit (labels of the bars with its first and last fill),
      side (+1 long, -1 short), entry_price and exit_price (averages, quote currency), reason (of
      the exit: signal, stop, profit, trailing, time, end or ruin), size (largest number of units
      held), pnl (net of costs, funding and borrowing, money), return (pnl over the equity before
      the entry, a fraction), holding_bars, mae and mfe (largest unrealised loss and gain per unit,
      fractions of the average entry; of a bar that a stop cuts short only the exit counts), is_open
      (marked at the last close, not closed).

    Raises:
      ValueError: if the prices have another length than the backtest.
    """
    labels = pd.RangeIndex(len(result.equity)) if index is None else index
    book = _Book(_Path(result, prices))
    for bar in range(len(labels)):
        book.take_bar(bar)
    last = len(labels) - 1
    if book.trade is not None:
        book.close(last, END, book.path.close[last], is_open=True)
    money = initial_capital
    rows = [
        {
            **trade,
            "entry": labels[trade["entry"]],
            "exit": labels[trade["exit"]],
            "size": trade["size"] * money,
            "pnl": trade["pnl"] * money,
        }
        for trade in book.closed
    ]
    return pd.DataFrame(rows, columns=TRADE_COLUMNS)


class _Path:
    """[T] float64 flows and prices of each bar, in units of the equity before bar 0."""

    def __init__(self, result: BacktestResult, prices: Prices | None) -> None:
        def column(name: str) -> NumpyArray:
            return np.asarray(getattr(result, name), np.float64)

        bars = len(result.equity)
        self.opens = bool(np.all(result.fills_at_open))
        self.gap, self.body, self.interest = map(column, ("gap_pnl", "body_pnl", "interest"))
        self.carry = column("funding") - column("borrow")
        self.before = np.concatenate([[1.0], column("equity")])[:-1]  # equity at the last close
        self.after = column("equity")
        exits, nothing = result.exits, np.zeros(bars)
        self.reason = self.order_reason = nothing.astype(int)
        self.exit_cost = self.exit_turnover = nothing
        self.ratio = nothing + 1.0
        if exits is not None:
            self.reason, self.order_reason = (
                np.asarray(codes, int) for codes in (exits.reason, exits.order_reason)
            )
            self.exit_cost, self.exit_turnover, self.ratio = (
                np.asarray(x, np.float64) for x in (exits.cost, exits.turnover, exits.ratio)
            )
        self.order_cost = column("cost") - self.exit_cost
        at_fill = self.before + self.gap + self.interest
        self.at_fill = at_fill if self.opens else at_fill + self.carry - self.exit_cost
        self.filled = column("filled") * self.at_fill
        self.ordered = (column("turnover") - self.exit_turnover) * self.at_fill
        carried = np.concatenate([[0.0], column("weights")[:-1]]) * self.before + self.gap
        self.carried = carried if self.opens else np.where(self.reason > 0, 0.0, carried)
        self.is_ruin = (self.after <= 0.0) & (self.before > 0.0)
        self.close, self.high, self.low = _prices_of(prices, bars)
        self.fill_price = self.close * column("fill_ratio")


def _prices_of(prices: Prices | None, bars: int) -> tuple[NumpyArray, NumpyArray, NumpyArray]:
    """Returns closes, highs and lows; closes for what is missing, NaN without prices."""
    if prices is None:
        missing = np.full(bars, np.nan)
        return missing, missing, missing
    close = np.asarray(prices.close, np.float64)
    if close.shape != (bars,):
        raise ValueError(f"prices.close has shape {close.shape}; accepted is [{bars}]")
    high, low = (
        close if price is None else np.asarray(price, np.float64)
        for price in (prices.high, prices.low)
    )
    return close, high, low


class _Book:
    """The open trade, and those that are closed."""

    def __init__(self, path: _Path) -> None:
        self.path, self.trade, self.closed = path, None, []
        self.units = self.bought = self.paid = self.sold = self.received = 0.0
        self.booked = 0.0  # profits of this bar that some trade has

    def take_bar(self, bar: int) -> None:
        """Goes through the events of one bar in their order."""
        path, num_closed = self.path, len(self.closed)
        self.booked = 0.0
        self.accrue(path.gap[bar])
        if path.opens:
            self.order(bar)
            self.accrue(path.body[bar] + path.carry[bar])
            self.end_within(bar)
        else:
            self.end_within(bar)
            self.accrue(path.carry[bar])
            self.order(bar)
        if path.is_ruin[bar]:
            self.accrue(-path.before[bar] - path.interest[bar] - self.booked, num_closed)
            if self.trade is not None:
                self.close(bar, RUIN, path.close[bar])

    def accrue(self, money: float, num_closed: int | None = None) -> None:
        """Gives a profit to the open trade, or at ruin to the last one closed in the bar."""
        if self.trade is not None:
            self.trade["pnl"] += money
            self.booked += money
        elif num_closed is not None and len(self.closed) > num_closed:
            last = self.closed[-1]
            last["pnl"] += money
            last["return"] += money / last["_equity"]

    def order(self, bar: int) -> None:
        """Books the order of a bar: opens, resizes, closes or flips."""
        path, price = self.path, self.path.fill_price[bar]
        if path.at_fill[bar] <= 0.0:
            return
        self.reach(price, price)
        value, cost = path.filled[bar], path.order_cost[bar]
        side = int(np.sign(value))
        if self.trade is not None and side != self.trade["side"]:
            traded = path.ordered[bar]
            share = min(abs(path.carried[bar]) / traded, 1.0) if side and traded > 0.0 else 1.0
            self.accrue(-share * cost)
            cost *= 1.0 - share
            self.close(bar, path.order_reason[bar] or SIGNAL, price)
        if side and self.trade is None:
            self.trade = dict.fromkeys(TRADE_COLUMNS, 0.0)
            self.trade |= {"entry": bar, "side": side, "_equity": path.before[bar]}
            self.units = self.bought = self.paid = self.sold = self.received = 0.0
            self.resize(abs(value), price)
        elif side:
            self.resize(np.sign(abs(value) - abs(path.carried[bar])) * path.ordered[bar], price)
        self.accrue(-cost)
        self.reach(price, price)

    def resize(self, notional: float, price: float) -> None:
        """Buys (or for negative notional gives back) units of the open trade at a price."""
        units = notional / price
        if units > 0.0:
            self.bought, self.paid = self.bought + units, self.paid + notional
        else:
            self.sold, self.received = self.sold - units, self.received - notional
        self.units += units
        if self.trade is not None:
            self.trade["size"] = max(self.trade["size"], self.units)

    def end_within(self, bar: int) -> None:
        """Books the exit within a bar, or the range of prices that the position went through."""
        path, price = self.path, self.path.close[bar] * self.path.ratio[bar]
        is_exit = path.reason[bar] > 0 and not path.is_ruin[bar]
        if is_exit and path.reason[bar] not in (TIME, END):
            self.reach(price, price)
        else:
            self.reach(path.low[bar], path.high[bar])
        if is_exit:
            self.accrue(-path.exit_cost[bar])
            self.close(bar, path.reason[bar], price)

    def reach(self, low: float, high: float) -> None:
        """Updates the excursions of the open trade by a range of prices."""
        if self.trade is None or not self.bought > 0.0:
            return
        ends = self.trade["side"] * (np.array([low, high]) * self.bought / self.paid - 1.0)
        self.trade["mae"] = max(self.trade["mae"], -ends.min())
        self.trade["mfe"] = max(self.trade["mfe"], ends.max())

    def close(self, bar: int, reason: int, price: float, *, is_open: bool = False) -> None:
        """Ends the open trade, or marks it at the end of the path."""
        trade = self.trade
        if trade is None:
            return
        self.received, self.sold = self.received + self.units * price, self.sold + self.units
        has_prices = np.isfinite(price)
        trade |= {
            "exit": bar,
            "entry_price": self.paid / self.bought if has_prices else np.nan,
            "exit_price": self.received / self.sold if has_prices else np.nan,
            "reason": REASONS[reason],
            "return": trade["pnl"] / trade["_equity"],
            "holding_bars": bar - trade["entry"],
            "is_open": is_open,
        }
        if not has_prices:
            trade |= dict.fromkeys(("size", "mae", "mfe"), np.nan)
        self.closed.append(trade)
        self.trade = None
