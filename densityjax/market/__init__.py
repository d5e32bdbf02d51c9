"""Bars: reading, repairing, simulating, features and splits."""

from densityjax.market.anomalies import inject_anomalies
from densityjax.market.bars import list_symbols, read_bars, write_bars
from densityjax.market.datasets import load_dataset
from densityjax.market.describe import BarsDescription, describe_bars, periods_per_year
from densityjax.market.features import (
    check_full_rank,
    compute_features,
    compute_single,
    feature_stats,
    longest_window,
)
from densityjax.market.primitives import (
    bar_range,
    body,
    is_bearish,
    is_bullish,
    log_returns,
    lower_wick,
    return_from,
    simple_returns,
    true_range,
    typical_price,
    upper_wick,
)
from densityjax.market.regime_labels import RegimeLabels, label_regimes
from densityjax.market.repair import RepairReport, repair_bars
from densityjax.market.simulate import SimulatedMarket, simulate_market
from densityjax.market.splits import Split, split
from densityjax.market.streaming import StreamState, init_stream
from densityjax.market.validation import BarsError, validate_bars

__all__ = [
    "BarsDescription",
    "BarsError",
    "RegimeLabels",
    "RepairReport",
    "SimulatedMarket",
    "Split",
    "StreamState",
    "bar_range",
    "body",
    "check_full_rank",
    "compute_features",
    "compute_single",
    "describe_bars",
    "feature_stats",
    "init_stream",
    "inject_anomalies",
    "is_bearish",
    "is_bullish",
    "label_regimes",
    "list_symbols",
    "load_dataset",
    "log_returns",
    "longest_window",
    "lower_wick",
    "periods_per_year",
    "read_bars",
    "repair_bars",
    "return_from",
    "simple_returns",
    "simulate_market",
    "split",
    "true_range",
    "typical_price",
    "upper_wick",
    "validate_bars",
    "write_bars",
]
