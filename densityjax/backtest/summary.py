"""A backtest in plain text, for a terminal: figures with their intervals, months, remarks.

Remarks speak of thresholds that people ask about, and always of the interval beside them: no number
of one path makes a result profitable.
"""

from collections.abc import Callable

import numpy as np
import pandas as pd

from densityjax._typing import ArrayLike
from densityjax.backtest import metrics
from densityjax.backtest.inference import (
    BootstrapInterval,
    bootstrap_interval,
    deflated_sharpe_ratio,
)
from densityjax.backtest.inference.sharpe import sharpe_moments
from densityjax.backtest.regression import regression_alpha
from densityjax.backtest.trade_metrics import TradeMetrics, measure_trades

HIGH_SHARPE, HIGH_WIN_RATE, HIGH_RATIO, HIGH_PROFIT_FACTOR = 1.0, 0.5, 0.8, 1.5
SIGNAL_NAMES = {1: "long", -1: "short", 0: "flat"}


def monthly_pnl(record: pd.DataFrame, *, bars_per_month: int | None = None) -> pd.Series:
    """Adds up the profits of each month.

    Args:
      record: [T] rows of `bar_record`, with pnl.
      bars_per_month: bars of a month counted from the first one, such as 720 hours; None takes
        calendar months, UTC.

    Returns:
      Profit of each month, money: indexed by 'YYYY-MM' or, for months of equal length, by their
      first bar. The last one may be short.

    Raises:
      ValueError: if `bars_per_month` is below 1.
    """
    if bars_per_month is not None and bars_per_month < 1:
        raise ValueError(f"bars_per_month is {bars_per_month}: accepted are integers >= 1")
    if bars_per_month is None:
        names, months = np.unique(
            pd.DatetimeIndex(record.index).strftime("%Y-%m"), return_inverse=True
        )
        labels = pd.Index(names, name="month")
    else:
        months = np.arange(len(record)) // bars_per_month
        labels = record.index[::bars_per_month].rename("month")
    profits = np.bincount(months, weights=pd.Series(record["pnl"]).to_numpy(np.float64))
    return pd.Series(profits, index=labels, name="pnl")


def summarise(
    record: pd.DataFrame,
    trades: pd.DataFrame,
    *,
    periods_per_year: float,
    benchmark_returns: ArrayLike | None = None,
    num_trials: int = 1,
    sharpe_variance: float = 0.0,
    bars_per_month: int | None = None,
    confidence: float = 0.95,
    num_draws: int = 500,
    random_state: int = 0,
    title: str = "Backtest",
) -> str:
    """Writes the summary of one backtest.

    Args:
      record: [T] rows of `bar_record`, with equity, pnl and position; signal and in_distribution
        where they were given.
      trades: [n] rows of `trade_record`.
      periods_per_year: bars in a year, from the timestamps; it is printed.
      benchmark_returns: [T] net simple returns of buy and hold on the same bars, for alpha.
      num_trials: rules tried before this one was chosen, for the deflated Sharpe ratio.
      sharpe_variance: variance of their Sharpe ratios PER BAR.
      bars_per_month: see `monthly_pnl`.
      confidence: probability of the bootstrap intervals.
      num_draws: resampled paths behind them.
      random_state: seed of these.
      title: first line.

    Returns:
      The text, of lines up to 100 characters, without a line break at its end.

    Raises:
      ValueError: if the record is empty or lacks a column, or equity is not positive before it.
    """
    missing = [name for name in ("equity", "pnl", "position") if name not in record]
    if missing or not len(record):
        raise ValueError(
            f"record has {len(record)} rows and lacks {missing}: accepted is bar_record"
        )
    equity, pnl = (pd.Series(record[name]).to_numpy(np.float64) for name in ("equity", "pnl"))
    before = np.concatenate([[equity[0] - pnl[0]], equity[:-1]])
    if not before[0] > 0.0:
        raise ValueError(f"equity before the first bar is {before[0]}: accepted is a positive one")
    returns = np.where(before > 0.0, pnl / np.where(before > 0.0, before, 1.0), 0.0)
    found = measure_trades(trades)

    def interval(figure: Callable[..., float], *columns: ArrayLike) -> BootstrapInterval:
        return bootstrap_interval(
            figure,
            *columns,
            confidence=confidence,
            num_draws=num_draws,
            random_state=random_state,
        )

    sharpe = interval(lambda r: metrics.sharpe_ratio(r, periods_per_year=periods_per_year), returns)
    growth = interval(metrics.total_return, returns)
    luck = deflated_sharpe_ratio(
        sharpe_moments(returns, autocorrelation=None),
        num_trials=num_trials,
        sharpe_variance=sharpe_variance,
    )
    lines = [title, "=" * len(title)]
    lines += _path_lines(record, returns, before[0], periods_per_year)
    lines += [
        f"{'total return':<24}{_percent(growth)}",
        f"{'Sharpe ratio (annual)':<24}{_number(sharpe)}",
        f"{'deflated Sharpe ratio':<24}{luck:.3f} after {num_trials} trial(s)",
    ]
    if benchmark_returns is not None:
        fit = regression_alpha(returns, benchmark_returns, periods_per_year=periods_per_year)
        lines.append(
            f"{'alpha against benchmark':<24}{100 * fit.alpha:+.2f} % a year "
            f"[{100 * fit.low:+.2f}, {100 * fit.high:+.2f}], t {fit.alpha_t:.2f}, "
            f"beta {fit.beta:.2f}"
        )
    lines += _trade_lines(found) + _signal_lines(record)
    lines += ["", "Profit by month"]
    monthly = monthly_pnl(record, bars_per_month=bars_per_month)
    lines += [f"  {_label(month):<22}{profit:>+14.2f}" for month, profit in monthly.items()]
    lines += ["", "Remarks", *_remarks(record, found, growth, sharpe, luck, confidence)]
    return "\n".join(lines)


def _path_lines(
    record: pd.DataFrame, returns: np.ndarray, capital: float, periods_per_year: float
) -> list[str]:
    """Says what the account did."""
    equity = _column(record, "equity").to_numpy()
    span = f"{_label(record.index[0])} to {_label(record.index[-1])}"
    days = (
        len(record)
        * metrics.exposure(_column(record, "position").to_numpy())
        / periods_per_year
        * 365.0
    )
    volatility = metrics.annual_volatility(returns, periods_per_year=periods_per_year)
    depth = metrics.max_drawdown(returns)
    longest = metrics.drawdown_duration(returns)
    return [
        f"{'bars':<24}{len(record)}, {span}; {periods_per_year:.2f} a year",
        f"{'equity':<24}{capital:.2f} to {equity[-1]:.2f}, "
        f"lowest {equity.min():.2f}, highest {equity.max():.2f}",
        f"{'volatility (annual)':<24}{100 * volatility:.2f} %",
        f"{'maximum drawdown':<24}{100 * depth:.2f} %, longest {longest} bars",
        f"{'in the market':<24}{days:.1f} days of {len(record) / periods_per_year * 365.0:.1f}",
    ]


def _trade_lines(found: TradeMetrics) -> list[str]:
    """Says what the trades did."""
    if not found.num_trades:
        return [f"{'closed trades':<24}none, {found.num_open} open"]
    return [
        f"{'closed trades':<24}{found.num_trades}, {found.num_long} long and {found.num_short} "
        f"short; {found.num_open} open",
        f"{'win rate, profit factor':<24}{100 * found.win_rate:.1f} %, {found.profit_factor:.2f}",
        f"{'best and worst trade':<24}{100 * found.best_trade:+.2f} %, "
        f"{100 * found.worst_trade:+.2f} %",
        f"{'mean trade':<24}{100 * found.expectancy:+.3f} %, {found.average_holding_bars:.1f} bars",
    ]


def _signal_lines(record: pd.DataFrame) -> list[str]:
    """Says which share of the bars had which signal, and how many were known to the model."""
    lines, signal, known = [], _column(record, "signal"), _column(record, "in_distribution")
    if len(signal):
        if pd.api.types.is_numeric_dtype(signal):
            signal = pd.Series(np.sign(signal.to_numpy(np.float64))).map(SIGNAL_NAMES)
        share = signal.value_counts(normalize=True)
        text = ", ".join(f"{name} {100 * part:.1f} %" for name, part in share.items())
        lines.append(f"{'signals':<24}{text}")
    if len(known):
        ratio = metrics.in_distribution_ratio(known.to_numpy())
        lines.append(f"{'in distribution':<24}{100 * ratio:.1f} % of the bars")
    return lines


def _remarks(
    record: pd.DataFrame,
    found: TradeMetrics,
    growth: BootstrapInterval,
    sharpe: BootstrapInterval,
    luck: float,
    confidence: float,
) -> list[str]:
    """Comments on thresholds, each with the interval that belongs to it."""
    share = f"{100 * confidence:g} %"
    lines = [
        f"  The {share} interval of the total return is {_ends(growth, 100.0)} %: "
        + ("it lies above zero." if growth.low > 0.0 else "no gain is told from luck.")
    ]
    if sharpe.estimate > HIGH_SHARPE:
        lines.append(f"  Sharpe ratio above {HIGH_SHARPE:g}, interval {_ends(sharpe)}.")
    if not luck > confidence:
        lines.append(f"  After all trials the Sharpe ratio is not told from luck ({luck:.2f}).")
    if found.num_trades and found.win_rate > HIGH_WIN_RATE:
        error = (found.win_rate * (1.0 - found.win_rate) / found.num_trades) ** 0.5
        lines.append(
            f"  Win rate above {100 * HIGH_WIN_RATE:g} %, standard error {100 * error:.1f} %; "
            "it says nothing of the size of losses."
        )
    if found.num_trades and found.profit_factor > HIGH_PROFIT_FACTOR:
        lines.append(
            f"  Profit factor above {HIGH_PROFIT_FACTOR:g}, of {found.num_trades} closed trades."
        )
    known = _column(record, "in_distribution")
    if len(known) and metrics.in_distribution_ratio(known.to_numpy()) > HIGH_RATIO:
        lines.append(f"  More than {100 * HIGH_RATIO:g} % of the bars were known to the model.")
    return lines


def _column(record: pd.DataFrame, name: str) -> pd.Series:
    """Returns the values that a column of the record has; none where it is absent."""
    return pd.Series(record[name]).dropna() if name in record else pd.Series(dtype=float)


def _ends(found: BootstrapInterval, factor: float = 1.0) -> str:
    """Writes both ends of an interval."""
    return f"[{factor * found.low:+.2f}, {factor * found.high:+.2f}]"


def _percent(found: BootstrapInterval) -> str:
    """Writes a fraction and its interval in percent."""
    return f"{100 * found.estimate:+.2f} % {_ends(found, 100.0)}"


def _number(found: BootstrapInterval) -> str:
    """Writes a number and its interval."""
    return f"{found.estimate:+.2f} {_ends(found)}"


def _label(value: object) -> str:
    """Writes a time to the minute, and anything else as it is."""
    return f"{value:%Y-%m-%d %H:%M}" if isinstance(value, pd.Timestamp) else str(value)
