"""Backtests: one bar loop for accounts, rules and grids, the metrics, and the record of a run."""

from densityjax.backtest.engine import AccountState, BacktestResult, run, start, step
from densityjax.backtest.inputs import Bar, Costs, Prices, Terms, make_terms, market_moves

__all__ = [
    "AccountState",
    "BacktestResult",
    "Bar",
    "Costs",
    "Prices",
    "Terms",
    "make_terms",
    "market_moves",
    "run",
    "start",
    "step",
]
