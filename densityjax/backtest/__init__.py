"""Backtests: one bar loop for accounts, rules and grids, the metrics, and the record of a run."""

from densityjax.backtest import inference, metrics, oracle, sizing
from densityjax.backtest.account import Exits
from densityjax.backtest.columns import MarketColumns, funding_due
from densityjax.backtest.engine import AccountState, BacktestResult, run, start, step
from densityjax.backtest.grid import product_grid, run_grid
from densityjax.backtest.grid_figures import FullMetrics, GridMetrics
from densityjax.backtest.grid_replay import Replay, replay
from densityjax.backtest.grid_result import GridResult, Trial
from densityjax.backtest.inputs import Bar, Costs, Prices, Terms, make_terms, market_moves
from densityjax.backtest.portfolio import PortfolioResult, run_portfolio
from densityjax.backtest.record import bar_record
from densityjax.backtest.rules import (
    ConstantParams,
    MomentumParams,
    RandomParams,
    RandomState,
    Rule,
    Signals,
    ThresholdParams,
    VolatilityParams,
    apply_rule,
    buy_and_hold,
    momentum,
    random_rule,
    threshold_rule,
    volatility_target,
)
from densityjax.backtest.stops import REASONS, Stops
from densityjax.backtest.trade_metrics import TradeMetrics, measure_trades
from densityjax.backtest.trades import trade_record

__all__ = [
    "REASONS",
    "AccountState",
    "BacktestResult",
    "Bar",
    "ConstantParams",
    "Costs",
    "Exits",
    "FullMetrics",
    "GridMetrics",
    "GridResult",
    "MarketColumns",
    "MomentumParams",
    "PortfolioResult",
    "Prices",
    "RandomParams",
    "RandomState",
    "Replay",
    "Rule",
    "Signals",
    "Stops",
    "Terms",
    "ThresholdParams",
    "TradeMetrics",
    "Trial",
    "VolatilityParams",
    "apply_rule",
    "bar_record",
    "buy_and_hold",
    "funding_due",
    "inference",
    "make_terms",
    "market_moves",
    "measure_trades",
    "metrics",
    "momentum",
    "oracle",
    "product_grid",
    "random_rule",
    "replay",
    "run",
    "run_grid",
    "run_portfolio",
    "sizing",
    "start",
    "step",
    "threshold_rule",
    "trade_record",
    "volatility_target",
]
