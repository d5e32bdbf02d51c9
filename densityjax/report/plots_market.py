"""Plots of the market and of the fits: price with anomalies, log densities, training curves.

Every function takes frames of a run and returns a new `Figure`; nothing is kept in between.
"""

from typing import cast

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from densityjax.report import style
from densityjax.report.record import column, require

SPLIT_COLOURS = {"train": style.FAINT, "validation": style.GREEN, "test": style.BLUE}
LARGE_RANGE = 2.0  # highest over lowest price from which a logarithmic axis reads better
MIN_TICKS = 3  # of a logarithmic axis; with fewer, finer steps are taken
CROWD = 300  # alarms from which smaller marks keep the price visible
CLIPPED_SHARE = 0.002  # share of rows beyond either edge of the histogram of log densities


@style.styled
def price_with_anomalies(
    density: pd.DataFrame | None, signals: pd.DataFrame | None, alarm_rate: float | None
) -> Figure:
    """Draws the price and the anomaly score of every bar, alarms marked.

    Alarms are rows of `density` whose p-value is at most `alarm_rate`; without `density` they are
    the rows of `signals` flagged `is_anomaly`. No alarm is lost when a long series is thinned.

    Args:
      density: columns close (price), log_prob (nats) and p_value, or None.
      signals: columns price, log_prob (nats) and is_anomaly, or None.
      alarm_rate: nominal share of false alarms; None takes the flags of `signals`.

    Returns:
      A figure of two panels over time.

    Raises:
      MissingRecordError: if neither frame has what is needed.
    """
    if density is not None and alarm_rate is not None:
        frame = require(density, ("close", "log_prob", "p_value"), "density")
        price, score = column(frame, "close"), -column(frame, "log_prob")
        alarm = (frame["p_value"] <= alarm_rate).to_numpy()
    else:
        frame = require(signals, ("price", "log_prob", "is_anomaly"), "signals")
        price, score = column(frame, "price"), -column(frame, "log_prob")
        alarm = frame["is_anomaly"].to_numpy(dtype=bool)
    figure, (top, bottom) = style.panels((2.5, 1.5))
    rows = style.thin(price, keep=alarm)
    top.plot(frame.index[rows], price.iloc[rows], color=style.INK, linewidth=0.9)
    rows = style.thin(score, keep=alarm)
    bottom.plot(frame.index[rows], score.iloc[rows], color=style.FAINT, linewidth=0.7)
    many = alarm.sum() > style.MAX_VECTOR_MARKS
    for axes, values in ((top, price), (bottom, score)):
        axes.plot(
            frame.index[alarm],
            values[alarm],
            linestyle="none",
            marker="o",
            markersize=3.2 if alarm.sum() <= CROWD else 1.8,
            color=style.VERMILLION,
            label=f"alarm ({alarm.sum():,} of {len(alarm):,} bars)",
            rasterized=bool(many),
        )
    _set_price_scale(top, price)
    if "split" in frame.columns:
        _shade_splits(top, frame)
    bottom.set_ylabel("−log density (nats)")  # noqa: RUF001 the true minus sign
    top.legend(loc="best")
    style.time_axis(bottom)
    return figure


@style.styled
def energy_histogram(density: pd.DataFrame | None) -> Figure:
    """Draws how unusual the bars of each split are: histograms of minus the log density.

    Args:
      density: columns split and log_prob (nats); the extreme 0.2 % at either edge is counted in
        the last bins, so that no row is dropped.

    Returns:
      A figure of one panel, one outline per split, each of area one.
    """
    frame = require(density, ("split", "log_prob"), "density")
    energy = -column(frame, "log_prob").replace([np.inf, -np.inf], np.nan).dropna()
    low, high = energy.quantile([CLIPPED_SHARE, 1 - CLIPPED_SHARE])
    figure, (axes,) = style.panels((2.5,))
    edges = np.linspace(low, high if high > low else low + 1.0, 41)
    for split, colour in SPLIT_COLOURS.items():
        values = energy[frame.loc[energy.index, "split"] == split]
        if len(values) == 0:
            continue
        heights, _ = np.histogram(values.clip(edges[0], edges[-1]), edges, density=True)
        label = f"{split} ({len(values):,} bars)"
        axes.stairs(heights, edges, color=colour, linewidth=1.6, label=label)
        if split == "test":
            axes.stairs(heights, edges, color=colour, fill=True, alpha=0.15)
    axes.set_xlabel("−log density of the state (nats, units of the features)")  # noqa: RUF001
    axes.set_ylabel("share per nat")
    axes.legend(loc="best")
    return figure


@style.styled
def training_curves(training: pd.DataFrame | None) -> Figure:
    """Draws the loss by epoch of every member, with its best epoch marked.

    Args:
      training: columns model, member, epoch, train_loss and validation_loss (nats per row).

    Returns:
      A figure with one panel per model, side by side.
    """
    needed = ("model", "member", "epoch", "train_loss", "validation_loss")
    frame = require(training, needed, "training")
    models = frame["model"].unique().tolist()
    figure, panels = style.columns(len(models), 2.7, [1.0] * len(models))
    for axes, model in zip(panels, models, strict=True):
        rows = cast(pd.DataFrame, frame[frame["model"] == model]).sort_values(by="epoch")
        members = rows.groupby("member", sort=True)
        for number, (_, member) in enumerate(members):
            _draw_member(axes, member, labelled=number == 0)
        axes.set_title(f"{model}: {members.ngroups} member{'s' if members.ngroups > 1 else ''}")
        axes.set_xlabel("epoch")
        _focus_on_losses(axes, rows)
    panels[0].set_ylabel("loss (nats per row)")
    panels[0].legend(loc="upper right")
    return figure


def _draw_member(axes: Axes, rows: pd.DataFrame, *, labelled: bool) -> None:
    """Draws one member: training loss, validation loss and the epoch that was kept."""
    curves = (("train_loss", style.ORANGE, "train"), ("validation_loss", style.BLUE, "validation"))
    for field, colour, label in curves:
        name = label if labelled else None
        axes.plot(rows["epoch"], rows[field], color=colour, linewidth=0.9, label=name)
    losses = rows["validation_loss"].to_numpy(dtype=float)
    if np.isfinite(losses).any():
        best = int(np.nanargmin(losses))
        axes.plot(
            rows["epoch"].iloc[best],
            losses[best],
            linestyle="none",
            marker="o",
            markersize=5,
            markeredgecolor=style.PAPER,
            color=style.INK,
            label="best epoch" if labelled else None,
        )


def _focus_on_losses(axes: Axes, rows: pd.DataFrame) -> None:
    """Keeps the first, large losses of a fit from flattening the rest of the curves."""
    losses = rows[["train_loss", "validation_loss"]].to_numpy(dtype=float)
    losses = losses[np.isfinite(losses)]
    if losses.size:
        low, high = losses.min(), np.quantile(losses, 0.97)
        margin = 0.06 * (high - low) or 1.0
        axes.set_ylim(low - margin, high + margin)


def _set_price_scale(axes: Axes, price: pd.Series) -> None:
    """Takes a logarithmic axis with plain numbers where the price moved far."""
    axes.set_ylabel("price")
    if price.min() > 0 and price.max() / price.min() > LARGE_RANGE:
        axes.set_yscale("log")
        axes.set_ylabel("price (log scale)")
        low, high = np.log10(price.min()), np.log10(price.max())
        for steps in ((1, 2, 5), (1, 1.5, 2, 3, 4, 5, 6, 8)):
            ticks = [10.0**power * step for power in range(-9, 10) for step in steps]
            ticks = [tick for tick in ticks if 10**low / 1.1 <= tick <= 10**high * 1.1]
            if len(ticks) >= MIN_TICKS:
                break
        axes.set_yticks(ticks)
        axes.yaxis.set_major_formatter(lambda value, _: f"{value:,g}")
        axes.yaxis.set_minor_formatter(lambda *_: "")
        axes.minorticks_off()


def _shade_splits(axes: Axes, frame: pd.DataFrame) -> None:
    """Marks where the validation and test rows begin."""
    names = column(frame, "split").to_numpy()
    for split in ("validation", "test"):
        rows = frame.index[names == split]
        if len(rows):
            axes.axvline(rows[0], color=style.FAINT, linestyle=":", linewidth=1.2)
            axes.annotate(
                f" {split}",
                (rows[0], 1.0),
                xycoords=("data", "axes fraction"),
                va="bottom",
                color=style.FAINT,
            )
