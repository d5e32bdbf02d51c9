"""Plots of the two sweeps that a result has to live through: delay and cost.

They draw the frames of `densityjax.backtest.sweeps` and compute nothing.
"""

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from densityjax.report import style
from densityjax.report.record import column, require


@style.styled
def lead_lag(sweep: pd.DataFrame | None, *, num_years: float | None = None) -> Figure:
    """Draws the Sharpe ratio against the delay of the decisions.

    A cliff after lag 0 is what look-ahead, or an edge that cannot be traded, looks like; an edge
    that lasts fades slowly. Bars before lag 0 decide earlier than they can.

    Args:
      sweep: of `lead_lag_sweep`, one row for each lag with sharpe_ratio (annual).
      num_years: length of the path; where given, two standard errors of a ratio of zero are shaded.

    Returns:
      A figure of one panel.
    """
    frame = require(sweep, ("sharpe_ratio",), "lead_lag")
    figure, (axes,) = style.panels((2.6,))
    lags, ratios = np.asarray(frame.index, float), column(frame, "sharpe_ratio").to_numpy()
    colours = [style.BLUE if lag >= 0 else style.FAINT for lag in lags]
    if num_years is not None:
        reach = 2.0 / num_years**0.5
        band = {"color": style.ORANGE, "alpha": 0.2, "linewidth": 0}
        axes.axhspan(-reach, reach, label="two standard errors of none", **band)
        axes.legend(loc="best")
    axes.bar(lags, np.nan_to_num(ratios), color=colours, width=0.8)
    axes.axhline(0.0, color=style.INK, linewidth=0.8)
    axes.axvline(-0.5, color=style.INK, linewidth=0.8, linestyle="--")
    axes.set_xlabel("bars by which decisions are late (before the dashed line: too early)")
    axes.set_ylabel("Sharpe ratio (annual)")
    return figure


@style.styled
def cost_sensitivity(sweep: pd.DataFrame | None) -> Figure:
    """Draws Sharpe ratio and total return against the fee, and where it breaks even.

    Args:
      sweep: of `cost_sweep`, one row for each fee (basis points) with sharpe_ratio (annual) and
        total_return (fraction); its attribute break_even_bps is marked where it is positive.

    Returns:
      A figure of two panels side by side.
    """
    frame = require(sweep, ("sharpe_ratio", "total_return"), "cost")
    figure, axes = style.columns(2, 2.6, (1.0, 1.0))
    fees = np.asarray(frame.index, float)
    panels = (("sharpe_ratio", 1.0, "Sharpe ratio (annual)"), ("total_return", 100.0, "return (%)"))
    even = frame.attrs.get("break_even_bps", np.nan)
    for panel, (name, factor, label) in zip(axes, panels, strict=True):
        values = factor * column(frame, name).to_numpy()
        panel.plot(fees, values, color=style.BLUE, marker="o", markersize=3.0)
        panel.axhline(0.0, color=style.INK, linewidth=0.8)
        panel.set_xlabel("fee (basis points of what is traded)")
        panel.set_ylabel(label)
        if 0.0 < even < np.inf:
            text = f"breaks even at {even:.1f}"
            panel.axvline(even, color=style.ORANGE, linestyle="--", label=text)
            panel.set_xlim(right=max(float(fees.max()), min(even, 2.0 * float(fees.max()))) * 1.05)
            panel.legend(loc="best")
    return figure
