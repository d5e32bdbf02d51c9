"""The books of the oracle: cash, units, and what stops remember, as Python floats."""

import math
from typing import Any

import numpy as np

from densityjax._typing import ArrayLike
from densityjax.backtest.columns import MarketColumns
from densityjax.backtest.inputs import Prices
from densityjax.backtest.stops import NONE, PROFIT, STOP, TIME, TRAILING

BASIS_POINTS_IN_ONE = 10_000


class Market:
    """Rows of prices and columns as Python floats, with what is absent left out."""

    def __init__(self, prices: Prices, columns: MarketColumns | None, bars: int) -> None:
        columns = MarketColumns() if columns is None else columns

        # Lists rather than arrays: one number at a time, Python reads them ten times as fast.
        def rows(given: ArrayLike | None, default: float | list[float]) -> list[float]:
            if given is None:
                return default if isinstance(default, list) else [default] * bars
            return np.asarray(given, np.float64).tolist()

        self.close = rows(prices.close, 0.0)
        self.open = rows(prices.open, self.close)
        self.high = rows(prices.high, self.close)
        self.low = rows(prices.low, self.close)
        self.mark = rows(columns.mark, self.close)
        self.volatility = rows(columns.volatility, 0.0)
        self.funding_rate = rows(columns.funding_rate, 0.0)
        self.atr = rows(columns.atr, math.nan)
        self.stop_scale = rows(columns.stop_scale, 1.0)


class Ledger:
    """Cash, units and the memory of one account, and the events that change them."""

    def __init__(self, costs: Any, stops: Any, drift: bool) -> None:
        self.costs, self.stops, self.drift = costs, stops, drift
        self.cash, self.units, self.is_ruined = 1.0, 0.0, False
        self.entry = self.best = self.range = self.weight = 0.0
        self.age = self.barred = 0
        self.delay = 1  # bars from a decision to its fill: ranges are read at the decision
        self.margin = math.inf
        self.lowest, self.highest = -math.inf, math.inf  # caps of the weight, in equity

    def worth(self, price: float) -> float:
        """Returns cash plus the position at a price."""
        return self.cash + self.units * price

    def reset_weight(self, price: float) -> None:
        """Without drift: buys or sells for nothing until the weight is what it was."""
        if not self.drift and not self.is_ruined:
            worth = self.worth(price)
            self.units = self.weight * worth / price
            self.cash = worth - self.units * price

    def rate(self, volatility: float, *, kind: str) -> float:
        """Returns the cost per notional of an 'order', a 'stop' or a 'limit'."""
        costs = self.costs
        taker = costs.fee_bps
        maker = taker if costs.maker_fee_bps is None else costs.maker_fee_bps
        share = costs.maker_share
        fee = {"order": share * maker + (1 - share) * taker, "stop": taker, "limit": maker}[kind]
        fee += costs.half_spread_bps + costs.slippage_bps
        slope = costs.slippage_per_volatility
        impact = 0.0 if slope is None else slope * volatility
        return fee / BASIS_POINTS_IN_ONE + impact

    def pay(self, notional: float, volatility: float, *, kind: str) -> float:
        """Takes the cost of a fill from the cash, and returns it."""
        paid = notional * self.rate(volatility, kind=kind)
        self.cash -= paid
        return paid

    def near(self, price: float, level: float) -> None:
        """Remembers how closely something was decided."""
        if math.isfinite(price) and math.isfinite(level):
            self.margin = min(self.margin, abs(price - level) / max(abs(price), abs(level)))

    def levels(self, scale: float) -> tuple[float, int, float]:
        """Returns the price of the stop, its reason, and the price of the profit."""
        stops, is_long = self.stops, self.units > 0
        away = [math.inf]
        if stops.stop_loss is not None:
            away.append(stops.stop_loss * self.entry)
        if stops.atr_stop is not None and stops.atr_stop < math.inf:
            away.append(stops.atr_stop * self.range)
        stop = self.entry - min(away) * scale if is_long else self.entry + min(away) * scale
        reason = STOP
        if stops.trailing is not None:
            gain = (self.best / self.entry - 1.0) * (1 if is_long else -1)
            needed = stops.trailing_activation
            is_active = needed is None or gain >= needed
            if needed is not None:
                self.near(1.0 + gain, 1.0 + needed)
            behind = self.best * stops.trailing * scale
            trail = self.best - behind if is_long else self.best + behind
            self.near(trail, stop)
            if is_active and (trail > stop if is_long else trail < stop):
                stop, reason = trail, TRAILING
        ahead = [math.inf]
        if stops.take_profit is not None:
            ahead.append(stops.take_profit * self.entry)
        if stops.atr_profit is not None and stops.atr_profit < math.inf:
            ahead.append(stops.atr_profit * self.range)
        profit = self.entry + min(ahead) if is_long else self.entry - min(ahead)
        return stop, reason, profit

    def beyond(self, price: float, scale: float) -> int:
        """Returns the reason why one known price ends the position, 0 for none."""
        if self.units == 0.0:
            return NONE
        stop, reason, profit = self.levels(scale)
        self.near(price, stop)
        self.near(price, profit)
        is_long = self.units > 0
        if price >= profit if is_long else price <= profit:
            return PROFIT
        return reason if (price <= stop if is_long else price >= stop) else NONE

    def exit_within(
        self, bar: int, market: Market, scale: float, *, from_open: bool
    ) -> tuple[int, float, str]:
        """Returns reason, price and kind of the exit within a bar by its worst path."""
        if self.units == 0.0:
            return NONE, math.nan, ""
        stops, close = self.stops, market.close[bar]
        if stops.trigger == "close":
            reason = self.beyond(close, scale)
            if reason:
                return reason, close, "stop"
        else:
            if from_open and (reason := self.beyond(market.open[bar], scale)):
                return reason, market.open[bar], "stop"
            stop, reason, profit = self.levels(scale)
            worst, best = market.low[bar], market.high[bar]
            if self.units < 0:
                worst, best = best, worst
            self.near(worst, stop)
            self.near(best, profit)
            if worst <= stop if self.units > 0 else worst >= stop:
                return reason, stop, "stop"
            if best >= profit if self.units > 0 else best <= profit:
                return PROFIT, profit, "limit"
        if stops.max_bars is not None and self.age + 1 >= stops.max_bars:
            return TIME, close, "stop"
        return NONE, math.nan, ""


def sign(number: float) -> int:
    """Returns -1, 0 or 1."""
    return (number > 0.0) - (number < 0.0)
