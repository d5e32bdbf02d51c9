"""Plots of money: equity and drawdown, signal and position, the grid of rules.

Equity is growth of 1 after costs. Every function takes frames of a run and returns a `Figure`.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from densityjax.report import style
from densityjax.report.record import MissingRecordError, column, require

EQUITIES = (
    ("equity", "strategy", style.BLUE),
    ("equity_score_strategy", "score strategy", style.PURPLE),
    ("equity_energy_strategy", "energy strategy", style.VERMILLION),
    ("equity_buy_and_hold", "buy and hold", style.ORANGE),
    ("equity_volatility_target", "volatility target", style.GREEN),
)
GRID_METRICS = ("sharpe_ratio", "total_return", "max_drawdown", "turnover", "exposure")
MAX_ANNOTATED = 80  # cells that still have room for a number
CROWDED_COLUMNS = 6  # columns beyond which numbers are written small and labels stand on end


@style.styled
def equity_and_drawdown(signals: pd.DataFrame | None) -> Figure:
    """Draws the equity of strategy and benchmarks, and how far each is below its peak.

    Args:
      signals: column equity and, where there, equity_buy_and_hold and equity_volatility_target,
        each growth of 1 after costs.

    Returns:
      A figure of two panels over the test rows; a fall from the starting 1 counts as drawdown.
    """
    frame = require(signals, ("equity",), "signals")
    figure, (top, bottom) = style.panels((2.5, 1.5))
    for field, name, colour in EQUITIES:
        if field not in frame.columns or column(frame, field).count() == 0:
            continue
        equity = column(frame, field).dropna()
        drawdown = equity / np.maximum(equity.cummax(), 1.0) - 1.0
        label = f"{name} ({100 * equity.iloc[-1] - 100:+.1f} % in all)".replace("-", "−")  # noqa: RUF001
        for axes, values in ((top, equity), (bottom, 100 * drawdown)):
            rows = style.thin(values)
            axes.plot(values.index[rows], values.iloc[rows], color=colour, label=label)
    top.axhline(1.0, color=style.FAINT, linewidth=0.8)
    top.set_ylabel("growth of 1, after costs")
    bottom.set_ylabel("drawdown (%)")
    top.legend(loc="best")
    style.time_axis(bottom)
    return figure


@style.styled
def signal_and_position(signals: pd.DataFrame | None) -> Figure:
    """Draws the price, the signal of every test bar and the position it led to.

    Args:
      signals: columns price, signal (a number or a word) and position (target weight, a fraction
        of equity); in_distribution, where there, shades the bars the model did not know.

    Returns:
      A figure of three panels over the test rows.
    """
    frame = require(signals, ("price", "signal", "position"), "signals")
    figure, (top, middle, bottom) = style.panels((1.6, 1.1, 1.5))
    rows = style.thin(column(frame, "price"))
    top.plot(frame.index[rows], frame["price"].iloc[rows], color=style.INK, linewidth=0.9)
    top.set_ylabel("price")
    _draw_signal(middle, column(frame, "signal"))
    position = column(frame, "position")
    rows = style.thin(position)
    step = {"step": "post", "color": style.BLUE, "alpha": 0.3, "linewidth": 0}
    bottom.fill_between(frame.index[rows], position.iloc[rows], **step)
    steps = {"where": "post", "color": style.BLUE, "linewidth": 0.9}
    bottom.step(frame.index[rows], position.iloc[rows], **steps)
    bottom.axhline(0.0, color=style.INK, linewidth=0.8)
    bottom.set_ylabel("position\n(share of equity)")
    style.time_axis(bottom)
    return figure


@style.styled
def grid_heat_map(grid: pd.DataFrame | None, metrics: Mapping[str, Any]) -> Figure:
    """Draws the validation Sharpe ratio over the grid, and all trials as a histogram.

    The map spans the two parameters with the most values; over the others it shows the MEDIAN,
    since the best of many trials would show luck. The histogram marks the chosen rule and what the
    best of that many worthless rules would show.

    Args:
      grid: one row per rule, parameter columns and sharpe_ratio (annual).
      metrics: section "grid" of the metrics: best_*, expected_max_sharpe.

    Returns:
      A figure of two panels, or of the histogram alone where fewer than two parameters vary.
    """
    frame = require(grid, ("sharpe_ratio",), "grid")
    if not np.isfinite(frame["sharpe_ratio"]).any():
        raise MissingRecordError("grid.parquet holds no finite sharpe_ratio")
    parameters = varied_parameters(frame, metrics)
    if len(parameters) < 2:
        figure, (right,) = style.panels((2.8,))
    else:
        figure, (left, right) = style.columns(2, 3.3, (1.35, 1.0))
        _draw_map(left, frame, parameters, metrics)
    sharpe = frame["sharpe_ratio"].replace([np.inf, -np.inf], np.nan).dropna()
    right.hist(sharpe, bins=min(30, max(8, len(sharpe) // 4)), color=style.FAINT, alpha=0.5)
    lines = (
        ("validation_sharpe_ratio", "chosen rule", style.BLUE, "-"),
        ("expected_max_sharpe", "best by luck", style.INK, "--"),
    )
    for name, label, colour, look in lines:
        if isinstance(metrics.get(name), int | float):
            text = f"{label} ({metrics[name]:.2f})".replace("-", "−")  # noqa: RUF001
            right.axvline(metrics[name], color=colour, linestyle=look, label=text)
    right.set_title(f"all {len(sharpe):,} rules")
    right.set_xlabel("validation Sharpe ratio (annual)")
    right.set_ylabel("number of rules")
    right.set_ylim(0, 1.35 * right.get_ylim()[1])
    if right.get_legend_handles_labels()[0]:
        right.legend(loc="upper left", handlelength=1.2)
    return figure


def varied_parameters(grid: pd.DataFrame, metrics: Mapping[str, Any]) -> list[str]:
    """Returns the parameters that take several values in the grid, the most varied first."""
    named = [name.removeprefix("best_") for name in metrics if name.startswith("best_")]
    columns = [name for name in named if name in grid.columns]
    columns = columns or [name for name in grid.columns if name not in GRID_METRICS]
    counts = {name: column(grid, name).astype(str).nunique() for name in columns}
    varied = [name for name in columns if counts[name] > 1]
    return sorted(varied, key=lambda name: -counts[name])


def _draw_signal(axes: Axes, signal: pd.Series) -> None:
    """Draws a signal of numbers as steps, one of words as dots on a named level each."""
    if pd.api.types.is_numeric_dtype(signal) or pd.api.types.is_bool_dtype(signal):
        values = signal.astype(float)
        rows = style.thin(values)
        axes.step(signal.index[rows], values.iloc[rows], where="post", color=style.PURPLE)
        axes.axhline(0.0, color=style.FAINT, linewidth=0.8)
    else:
        codes, names = pd.factorize(signal.fillna("none").astype(str), sort=True)
        rows = style.thin(codes.astype(float), keep=np.diff(codes, prepend=codes[0]) != 0)
        dots = {"linestyle": "none", "marker": "|", "markersize": 7, "color": style.PURPLE}
        axes.plot(signal.index[rows], codes[rows], **dots)
        axes.set_yticks(range(len(names)), [str(name) for name in names])
        axes.margins(y=0.25)
    axes.set_ylabel("signal")


def _draw_map(
    axes: Axes, grid: pd.DataFrame, parameters: list[str], metrics: Mapping[str, Any]
) -> None:
    """Draws the median Sharpe ratio over two parameters and rings the chosen cell."""
    across, up, *others = parameters
    frame = grid.assign(sharpe_ratio=grid["sharpe_ratio"].replace([np.inf, -np.inf], np.nan))
    table = frame.pivot_table(
        index=up, columns=across, values="sharpe_ratio", aggfunc="median", dropna=False
    )
    values = table.to_numpy(dtype=float)
    limit = float(np.nanmax(np.abs(values))) or 1.0
    mesh = axes.pcolormesh(values, cmap="PuOr_r", vmin=-limit, vmax=limit)
    bar = axes.figure.colorbar(mesh, ax=axes, shrink=0.9, pad=0.02)
    bar.outline.set_visible(False)  # pyright: ignore[reportCallIssue] a Spine, typed as Axes
    is_crowded = len(table.columns) > CROWDED_COLUMNS
    axes.set_xticks(np.arange(len(table.columns)) + 0.5, _labels(table.columns))
    axes.set_yticks(np.arange(len(table.index)) + 0.5, _labels(table.index))
    if is_crowded:
        axes.tick_params("x", rotation=60)
    if values.size <= MAX_ANNOTATED:
        for (row, column), value in np.ndenumerate(values):
            colour = "#fefefe" if abs(value) > 0.6 * limit else "#111111"
            value = round(value, 2) + 0.0  # no minus before a zero
            text = "" if np.isnan(value) else f"{value:.2f}".replace("-", "−")  # noqa: RUF001
            look = {"color": colour, "fontsize": 6.5 if is_crowded else 9.0}
            axes.text(column + 0.5, row + 0.5, text, ha="center", va="center", **look)
    x, y = (
        _position(names, metrics.get(f"best_{name}"))
        for names, name in ((table.columns, across), (table.index, up))
    )
    if x is not None and y is not None:
        ring = {"facecolor": "none", "edgecolor": style.BLUE, "linewidth": 2.5}
        axes.add_patch(Rectangle((x, y), 1, 1, **ring, clip_on=False))
    axes.set_xlabel(across.replace("_", " "))
    axes.set_ylabel(up.replace("_", " "))
    axes.grid(False)
    rest = f"\nmedian over {', '.join(others).replace('_', ' ')}" if others else ""
    axes.set_title(f"validation Sharpe ratio, chosen cell ringed{rest}")


def _labels(names: pd.Index) -> list[str]:
    """Returns the values of an axis of the map, numbers with three digits."""
    return [f"{name:.3g}" if isinstance(name, float) else str(name) for name in names]


def _position(values: pd.Index, wanted: Any) -> int | None:
    """Returns where the chosen value stands on an axis of the map, None if it is not there."""
    if wanted is None:
        return None
    if isinstance(wanted, int | float) and pd.api.types.is_numeric_dtype(values):
        distance = np.abs(values.to_numpy(dtype=float) - wanted)
        place = int(np.argmin(distance))
        return place if np.isclose(distance[place], 0.0) else None
    names = [str(value) for value in values]
    return names.index(str(wanted)) if str(wanted) in names else None
