"""Performance figures of a path of simple returns; float64 NumPy on the host.

Every figure has one definition: simple net returns, standard deviations of ddof 1, drawdowns and
losses as positive fractions, annual figures by a `periods_per_year` that the caller takes from the
timestamps. A figure that is not defined (no bars, no spread, no loss) is NaN, or infinite where it
says so. A NaN among returns raises, unless `nan_policy` says 'omit' or 'zero'.

Figures of trades (`win_rate`, `profit_factor`, ...) take returns of closed trades, and are those
of `densityjax.backtest.trade_metrics`; `hit_rate` is the one of bars.
"""

from densityjax.backtest.metrics.drawdown import (
    average_drawdown,
    average_drawdown_duration,
    drawdown_duration,
    drawdowns,
    equity_curve,
    max_drawdown,
    ulcer_index,
)
from densityjax.backtest.metrics.performance import (
    annual_return,
    annual_volatility,
    autocorrelation_adjusted_sharpe_ratio,
    calmar_ratio,
    daily_returns,
    downside_deviation,
    omega_ratio,
    sharpe_ratio,
    sortino_ratio,
    total_return,
)
from densityjax.backtest.metrics.positions import (
    average_confidence,
    average_log_prob,
    break_even_cost_bps,
    capacity,
    exposure,
    gross_exposure,
    hit_rate,
    in_distribution_ratio,
    net_exposure,
    turnover,
)
from densityjax.backtest.metrics.tail import expected_shortfall, tail_ratio, value_at_risk
from densityjax.backtest.trade_metrics import expectancy, payoff_ratio, profit_factor, win_rate

__all__ = [
    "annual_return",
    "annual_volatility",
    "autocorrelation_adjusted_sharpe_ratio",
    "average_confidence",
    "average_drawdown",
    "average_drawdown_duration",
    "average_log_prob",
    "break_even_cost_bps",
    "calmar_ratio",
    "capacity",
    "daily_returns",
    "downside_deviation",
    "drawdown_duration",
    "drawdowns",
    "equity_curve",
    "expectancy",
    "expected_shortfall",
    "exposure",
    "gross_exposure",
    "hit_rate",
    "in_distribution_ratio",
    "max_drawdown",
    "net_exposure",
    "omega_ratio",
    "payoff_ratio",
    "profit_factor",
    "sharpe_ratio",
    "sortino_ratio",
    "tail_ratio",
    "total_return",
    "turnover",
    "ulcer_index",
    "value_at_risk",
    "win_rate",
]
