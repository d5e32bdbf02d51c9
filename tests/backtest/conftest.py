"""The slow twin of the engine: cash and units in a plain float64 loop, no weights recursion."""

import types

import numpy as np
import pytest


def cash_and_units(
    weights,
    prices,
    *,
    fee_bps=10.0,
    cash_rate=0.0,
    fill="next_open",
    band=0.0,
    lag=0,
    max_leverage=1.0,
    allow_short=True,
    warmup=0,
):
    close = np.asarray(prices.close, float)
    venue = np.asarray(prices.open, float) if fill == "next_open" else close
    late = lag if fill == "same_close" else lag + 1
    cash, units, broke = 1.0, 0.0, False
    book = {"equity": [], "cost": [], "traded": [], "weight": []}
    for bar in range(len(close)):
        fee = traded = 0.0
        if not broke:
            cash += cash * cash_rate
            price, decided = venue[bar], bar - late
            worth = cash + units * price
            broke = worth <= 0.0
        if not broke:
            target = weights[decided] if decided >= warmup and decided >= 0 else 0.0
            target = min(max(target, -max_leverage if allow_short else 0.0), max_leverage)
            buy = target * worth / price - units
            if abs(buy) * price <= band * worth:  # kept, but never beyond a cap
                lowest = -max_leverage if allow_short else 0.0
                kept = min(max(units * price, lowest * worth), max_leverage * worth)
                buy = kept / price - units
                is_sent = abs(buy) * price > 1e-14 * worth  # rounding is no order
            else:
                is_sent = True
            if is_sent and abs(buy) * price > 0.0:
                traded = abs(buy) * price / worth
                fee = abs(buy) * price * fee_bps / 10_000
                cash -= buy * price + fee
                units += buy
            broke = cash + units * close[bar] <= 0.0
        if broke:
            cash = units = 0.0
        worth = cash + units * close[bar]
        book["equity"].append(worth)
        book["cost"].append(fee)
        book["traded"].append(traded)
        book["weight"].append(0.0 if broke else units * close[bar] / worth)
    return types.SimpleNamespace(**{k: np.array(v) for k, v in book.items()}, is_ruined=broke)


@pytest.fixture
def ledger():
    """The slow twin: `ledger(weights, prices, **options)` with equity, cost, traded and weight."""
    return cash_and_units
