"""Plots of the forecast: fan of quantiles, log score against baselines, calibration.

Every function takes the frame `forecast`, whose row t holds the forecast of the log return from
the close of t to the close of t + 1, and that return once it is known.
"""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from scipy import stats

from densityjax.report import style
from densityjax.report.record import MissingRecordError, column, require, test_rows

FAN_BARS = 150
BANDS = ((0.01, 0.99, 0.16), (0.05, 0.95, 0.22), (0.25, 0.75, 0.38))  # lower, upper, opacity
BASELINES = (
    ("log_prob_gjr_skewt", "GJR-GARCH skew-t", style.BLUE),
    ("log_prob_ewma_t", "EWMA-t", style.ORANGE),
    ("log_prob_true", "the true law", style.GREEN),
)
BAND_COVERAGE = 0.95  # of the grey bands that show what chance alone would do


def fan_rows(forecast: pd.DataFrame | None) -> pd.DataFrame:
    """Returns the last forecasts of the test split, at most `FAN_BARS` of them."""
    needed = ["close", "return_next", "quantile_0.5"]
    needed += [f"quantile_{side}" for low, high, _ in BANDS for side in (low, high)]
    rows = test_rows(require(forecast, needed, "forecast")).tail(FAN_BARS)
    if rows.empty:
        raise MissingRecordError("forecast.parquet has no test rows")
    return rows


@style.styled
def forecast_fan(forecast: pd.DataFrame | None) -> Figure:
    """Draws the quantiles of the last test bars with what came, as prices and as returns.

    A forecast made at the close of t is drawn at bar t + 1, the bar that it speaks of. The last
    one has no outcome yet.

    Args:
      forecast: columns split, close (price), return_next (log return) and the quantiles of
        the log return from 0.01 to 0.99.

    Returns:
      A figure of two panels; returns below the 5 % and 1 % quantile are marked.
    """
    rows = fan_rows(forecast)
    returns = rows["return_next"].to_numpy(dtype=float)
    close = rows["close"].to_numpy(dtype=float)
    bar, seen, legend = np.arange(len(rows)) + 1.0, 1.0, []
    figure, (top, bottom) = style.panels((2.6, 2.2))
    for low, high, opacity in BANDS:
        lower, upper = rows[f"quantile_{low}"].to_numpy(), rows[f"quantile_{high}"].to_numpy()
        name = f"{100 * low:g} % to {100 * high:g} %"
        for axes, centre in ((top, close), (bottom, None)):
            ends = (
                (lower, upper)
                if centre is None
                else (centre * np.exp(lower), centre * np.exp(upper))
            )
            axes.fill_between(bar, *ends, color=style.SKY, alpha=opacity, linewidth=0)
        seen *= 1.0 - opacity  # bands lie on top of each other; the legend shows what is seen
        legend.append(Patch(color=style.SKY, alpha=1.0 - seen, linewidth=0, label=name))
    for axes, values in ((top, close * np.exp(returns)), (bottom, returns)):
        dots = {"linestyle": "none", "marker": "o", "color": style.INK, "markersize": 2.4}
        axes.plot(bar, values, **dots, label="what came")
        _mark_violations(axes, bar, values, returns, rows)
    top.set_ylabel("close (price)")
    bottom.set_ylabel("log return of the bar")
    bottom.axhline(0.0, color=style.FAINT, linewidth=0.7)
    _bar_dates(bottom, rows.index)
    legend += top.get_legend_handles_labels()[0]
    figure.legend(handles=legend, loc="outside upper left", ncols=3)
    return figure


@style.styled
def log_score_difference(forecast: pd.DataFrame | None) -> Figure:
    """Draws the cumulative log score of the forecast minus that of each baseline, test rows.

    The grey band is where the sum against the first baseline would end up in 95 % of cases if both
    were equally good and differences came independently: ±1.96 standard deviations times √n.

    Args:
      forecast: columns split, log_prob and one or more of log_prob_gjr_skewt, log_prob_ewma_t
        and log_prob_true (nats).

    Returns:
      A figure of one panel over time; rising lines are bars that the forecast won. Infinite
      differences (a return given no probability at all) are counted in the title.
    """
    rows = test_rows(require(forecast, ("log_prob",), "forecast"))
    shown = [
        base for base in BASELINES if base[0] in rows.columns and column(rows, base[0]).count()
    ]
    if not shown:
        raise MissingRecordError("forecast.parquet holds no log score of a baseline on test rows")
    figure, (axes,) = style.panels((2.9,))
    lost = 0
    for number, (base, name, colour) in enumerate(shown):
        difference = (column(rows, "log_prob") - column(rows, base)).dropna()
        infinite = np.isinf(difference)
        lost += int(infinite.sum())
        difference = pd.Series(difference[~infinite])
        total = difference.cumsum()
        if number == 0:
            count = np.arange(1, len(total) + 1)
            width = stats.norm.ppf(0.5 + BAND_COVERAGE / 2) * difference.std() * np.sqrt(count)
            chosen = style.thin(width)
            band = {"color": style.FAINT, "alpha": 0.18, "linewidth": 0, "label": "chance (95 %)"}
            axes.fill_between(total.index[chosen], -width[chosen], width[chosen], **band)
        chosen = style.thin(total)
        axes.plot(total.index[chosen], total.iloc[chosen], color=colour, label=f"against {name}")
    axes.axhline(0.0, color=style.INK, linewidth=0.8)
    if lost:
        axes.set_title(f"not drawn: {lost} infinite difference{'s' if lost > 1 else ''}")
    axes.set_ylabel("cumulative difference (nats)")
    axes.legend(loc="best")
    style.time_axis(axes)
    return figure


@style.styled
def pit_histogram(forecast: pd.DataFrame | None) -> Figure:
    """Draws where the returns fell within their forecasts: flat if the forecast is calibrated.

    Args:
      forecast: columns split and cdf, the forecast's distribution function at the return that
        came; test rows are counted.

    Returns:
      A figure of one panel: counts per bin, and the band that holds 95 % of the counts of one bin
      of a calibrated forecast (binomial).
    """
    rows = test_rows(require(forecast, ("cdf",), "forecast"))
    values = rows["cdf"].to_numpy(dtype=float)
    values = values[np.isfinite(values)]
    if not values.size:
        raise MissingRecordError("forecast.parquet holds no cdf on test rows")
    num_bins = 20 if values.size >= 400 else 10  # at least 20 expected in each of many bins
    counts, edges = np.histogram(values, bins=num_bins, range=(0.0, 1.0))
    low, high = stats.binom.interval(BAND_COVERAGE, values.size, 1 / num_bins)
    outside = (counts < low) | (counts > high)
    figure, (axes,) = style.panels((2.6,))
    axes.axhspan(low, high, color=style.FAINT, alpha=0.22, linewidth=0, label="calibrated (95 %)")
    axes.axhline(values.size / num_bins, color=style.FAINT, linewidth=1.0)
    for chosen, colour, name in (
        (~outside, style.BLUE, "inside the band"),
        (outside, style.VERMILLION, "outside the band"),
    ):
        if chosen.any():
            bars = {"width": 0.92 / num_bins, "color": colour, "alpha": 0.85}
            name = f"{name} ({chosen.sum()} of {num_bins} bins)"
            axes.bar((edges[:-1] + edges[1:])[chosen] / 2, counts[chosen], **bars, label=name)
    axes.set_xlim(0.0, 1.0)
    axes.set_ylim(0.0, 1.3 * max(high, counts.max()))
    axes.set_xlabel("probability that the forecast gave to a lower return")
    axes.set_ylabel("number of test bars")
    axes.grid(False, axis="x")
    axes.legend(loc="upper center", ncols=3)
    return figure


def _mark_violations(
    axes: Axes, bar: np.ndarray, values: np.ndarray, returns: np.ndarray, rows: pd.DataFrame
) -> None:
    """Marks the bars whose return fell below the 5 % quantile, and those below the 1 % one."""
    with np.errstate(invalid="ignore"):
        below_5 = returns < rows["quantile_0.05"].to_numpy(dtype=float)
        below_1 = returns < rows["quantile_0.01"].to_numpy(dtype=float)
    marks = (
        (below_5 & ~below_1, style.ORANGE, "below 5 %"),
        (below_1, style.VERMILLION, "below 1 %"),
    )
    for chosen, colour, name in marks:
        look = {"linestyle": "none", "marker": "v", "markersize": 6, "color": colour}
        label = f"{name} ({chosen.sum()} of {np.isfinite(returns).sum()})"
        axes.plot(bar[chosen], values[chosen], **look, label=label)


def _bar_dates(axes: Axes, index: pd.Index) -> None:
    """Writes dates under an axis that counts bars, so that closed sessions leave no holes."""
    stamps = pd.DatetimeIndex(index)
    ticks = np.unique(np.linspace(0, len(stamps) - 1, min(6, len(stamps))).astype(int))
    daily = bool((stamps == stamps.normalize()).all())
    form = "%Y-%m-%d" if daily else "%m-%d %H:%M"
    axes.set_xticks(ticks, stamps[ticks].strftime(form).tolist())
    years = stamps[[0, -1]].strftime("%Y").unique()
    axes.set_xlabel(
        "bars, at the dates shown (UTC)" if daily else f"bars, {' to '.join(years)} (UTC)"
    )
