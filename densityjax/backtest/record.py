"""Frame for people of what happened in each bar; money is in the unit of `initial_capital`."""

import numpy as np
import pandas as pd

from densityjax._typing import ArrayLike
from densityjax.backtest.account import BacktestResult


def bar_record(
    result: BacktestResult,
    close: ArrayLike,
    index: pd.DatetimeIndex,
    *,
    signal: ArrayLike | None = None,
    confidence: ArrayLike | None = None,
    log_prob: ArrayLike | None = None,
    in_distribution: ArrayLike | None = None,
    expected_return: ArrayLike | None = None,
    return_std: ArrayLike | None = None,
    latent_return: ArrayLike | None = None,
    position_size: ArrayLike | None = None,
    reason: ArrayLike | None = None,
    initial_capital: float = 10_000.0,
) -> pd.DataFrame:
    """Lays out a backtest bar by bar.

    Args:
      result: a `BacktestResult` of T bars.
      close: [T] closing prices, in quote currency.
      index: [T] opening times of the bars.
      signal: [T] what the rule looked at, in its own unit.
      confidence: [T] confidence of the signal, between 0 and 1.
      log_prob: [T] log density of the state, in nats.
      in_distribution: [T] whether the state passed the density gate.
      expected_return: [T] mean of the next return, a fraction.
      return_std: [T] standard deviation of the next return, a fraction.
      latent_return: [T] the forecast's normal score of a gain, in standard deviations.
      position_size: [T] signed position decided at the close, in equity; it is filled later.
      reason: [T] why, in words.
      initial_capital: equity before the first bar.

    Returns:
      [T] rows indexed by `timestamp`, with price, the columns from signal to reason in the order
      above (missing where not given), position (weight at the close), pnl and cumulative_pnl (net,
      money) and equity (money). The profits add up to the change of equity.

    Raises:
      ValueError: if a column has another length than the backtest.
    """
    equity = initial_capital * np.asarray(result.equity, np.float64)
    columns = {
        "price": close,
        "signal": signal,
        "confidence": confidence,
        "log_prob": log_prob,
        "in_distribution": in_distribution,
        "expected_return": expected_return,
        "return_std": return_std,
        "latent_return": latent_return,
        "position_size": position_size,
        "reason": reason,
        "position": result.weights,
        "pnl": np.diff(equity, prepend=initial_capital),
        "cumulative_pnl": equity - initial_capital,
        "equity": equity,
    }
    given = {
        name: np.nan if values is None else np.asarray(values) for name, values in columns.items()
    }
    for name, values in {**given, "index": index}.items():
        if np.ndim(values) and np.shape(values) != equity.shape:
            raise ValueError(f"{name} has shape {np.shape(values)}; accepted is {equity.shape}")
    return pd.DataFrame(given, index=pd.DatetimeIndex(index, name="timestamp"))
