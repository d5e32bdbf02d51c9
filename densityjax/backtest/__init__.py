"""Backtests: one bar loop for accounts, rules and grids, the metrics, and the record of a run."""

from densityjax.backtest import inference, metrics, oracle, sizing
from densityjax.backtest.account import Exits
from densityjax.backtest.audit import AuditReport, audit_lookahead
from densityjax.backtest.columns import MarketColumns, funding_due
from densityjax.backtest.cross_validation import (
    PurgedSplit,
    assemble_paths,
    backtest_paths,
    combinatorial_purged_splits,
)
from densityjax.backtest.engine import AccountState, BacktestResult, run, start, step
from densityjax.backtest.grid import product_grid, run_grid
from densityjax.backtest.grid_figures import FullMetrics, GridMetrics
from densityjax.backtest.grid_replay import Replay, replay
from densityjax.backtest.grid_result import GridResult, Trial
from densityjax.backtest.inputs import Bar, Costs, Prices, Terms, make_terms, market_moves
from densityjax.backtest.portfolio import PortfolioResult, run_portfolio
from densityjax.backtest.record import bar_record
from densityjax.backtest.regression import Alpha, regression_alpha
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
from densityjax.backtest.summary import monthly_pnl, summarise
from densityjax.backtest.sweeps import cost_sweep, lead_lag_sweep
from densityjax.backtest.trade_metrics import TradeMetrics, measure_trades
from densityjax.backtest.trades import trade_record
from densityjax.backtest.walk_forward import Fold, WalkForward, walk_forward, walk_forward_folds

__all__ = [
    "REASONS",
    "AccountState",
    "Alpha",
    "AuditReport",
    "BacktestResult",
    "Bar",
    "ConstantParams",
    "Costs",
    "Exits",
    "Fold",
    "FullMetrics",
    "GridMetrics",
    "GridResult",
    "MarketColumns",
    "MomentumParams",
    "PortfolioResult",
    "Prices",
    "PurgedSplit",
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
    "WalkForward",
    "apply_rule",
    "assemble_paths",
    "audit_lookahead",
    "backtest_paths",
    "bar_record",
    "buy_and_hold",
    "combinatorial_purged_splits",
    "cost_sweep",
    "funding_due",
    "inference",
    "lead_lag_sweep",
    "make_terms",
    "market_moves",
    "measure_trades",
    "metrics",
    "momentum",
    "monthly_pnl",
    "oracle",
    "product_grid",
    "random_rule",
    "regression_alpha",
    "replay",
    "run",
    "run_grid",
    "run_portfolio",
    "sizing",
    "start",
    "step",
    "summarise",
    "threshold_rule",
    "trade_record",
    "volatility_target",
    "walk_forward",
    "walk_forward_folds",
]
