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
from densityjax.market.fetch import fetch_bars
from densityjax.market.fetch_client import Connection, connect
from densityjax.market.fetch_errors import FetchError
from densityjax.market.fetch_inputs import fetch_funding_rates, fetch_open_interest, join_as_of
from densityjax.market.fetch_quotes import (
    fetch_instrument,
    fetch_order_book,
    fetch_symbols,
    fetch_ticker,
)
from densityjax.market.fetch_retry import Patience
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
from densityjax.market.store import StoreError, load_bars
from densityjax.market.store_update import update_bars, update_funding
from densityjax.market.streaming import StreamState, init_stream
from densityjax.market.validation import BarsError, validate_bars

__all__ = [
    "BarsDescription",
    "BarsError",
    "Connection",
    "FetchError",
    "Patience",
    "RegimeLabels",
    "RepairReport",
    "SimulatedMarket",
    "Split",
    "StoreError",
    "StreamState",
    "bar_range",
    "body",
    "check_full_rank",
    "compute_features",
    "compute_single",
    "connect",
    "describe_bars",
    "feature_stats",
    "fetch_bars",
    "fetch_funding_rates",
    "fetch_instrument",
    "fetch_open_interest",
    "fetch_order_book",
    "fetch_symbols",
    "fetch_ticker",
    "init_stream",
    "inject_anomalies",
    "is_bearish",
    "is_bullish",
    "join_as_of",
    "label_regimes",
    "list_symbols",
    "load_bars",
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
    "update_bars",
    "update_funding",
    "upper_wick",
    "validate_bars",
    "write_bars",
]
