"""Plots of several families beside each other: log densities, samples, correlations."""

import itertools
from typing import cast

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from densityjax.report import style
from densityjax.report.record import MissingRecordError, column, require, test_rows

FAMILY_COLOURS = {"flow": style.BLUE, "score": style.ORANGE, "energy": style.GREEN}
PANELS_PER_ROW = 4
SHOWN_SHARE = 0.998  # of the data of a column: the panel's range, its last bins hold the rest
NUM_BINS = 30


@style.styled
def density_agreement(density: pd.DataFrame | None) -> Figure:
    """Draws the log density of every other family against that of the flow, test rows.

    Args:
      density: columns split, log_prob and log_prob_FAMILY (nats), p_value and p_value_FAMILY.

    Returns:
      A figure with a panel per other family.

    Raises:
      MissingRecordError: if the run fitted one family alone.
    """
    frame = test_rows(require(density, ("split", "log_prob"), "density"))
    others = [name for name in FAMILY_COLOURS if f"log_prob_{name}" in frame.columns]
    if not others:
        raise MissingRecordError("the run fitted one family of models")
    figure, panels = style.columns(len(others), 3.0, [1.0] * len(others))
    flow = column(frame, "log_prob").to_numpy(float)
    for axes, family in zip(panels, others, strict=True):
        other = column(frame, f"log_prob_{family}").to_numpy(float)
        rank = column(frame, "log_prob").corr(
            column(frame, f"log_prob_{family}"), method="spearman"
        )
        axes.plot(
            flow,
            other,
            linestyle="none",
            marker="o",
            markersize=2.2,
            alpha=0.5,
            color=FAMILY_COLOURS[family],
            rasterized=len(flow) > style.MAX_VECTOR_MARKS,
        )
        ends = [min(flow.min(), other.min()), max(flow.max(), other.max())]
        axes.plot(ends, ends, color=style.FAINT, linestyle="--", linewidth=1.0)
        axes.set_title(f"{family} against flow: rank correlation {rank:.2f}")
        axes.set_xlabel("log density, flow (nats)")
        axes.set_ylabel(f"log density, {family} (nats)")
    return figure


@style.styled
def samples_beside_data(samples: pd.DataFrame | None) -> Figure:
    """Draws the distribution of each feature, in the data and in each family's samples.

    Args:
      samples: one column per feature, in its own unit, and source ('data' or a family).

    Returns:
      A figure with a panel per feature.
    """
    frame = require(samples, ("source",), "samples")
    names = [str(name) for name in frame.columns if name != "source"]
    num_rows = -(-len(names) // PANELS_PER_ROW)
    figure = Figure(figsize=(style.WIDTH, 1.5 * num_rows + 0.3))
    grid = figure.subplots(num_rows, PANELS_PER_ROW, squeeze=False).ravel()
    for axes in grid[len(names) :]:
        axes.set_axis_off()
    for axes, name in zip(grid, names, strict=False):
        data = frame.loc[frame["source"] == "data", name].to_numpy(float)
        edge = (1.0 - SHOWN_SHARE) / 2.0
        low, high = np.quantile(data, [edge, 1.0 - edge])
        edges = np.linspace(low, high if high > low else low + 1.0, NUM_BINS + 1)
        for source, rows in frame.groupby("source", sort=False):
            heights, _ = np.histogram(
                rows[name].clip(edges[0], edges[-1]),
                edges,
                weights=np.full(len(rows), 1 / len(rows)),
            )
            is_data = source == "data"
            colour = style.FAINT if is_data else FAMILY_COLOURS.get(str(source), style.PURPLE)
            axes.stairs(
                heights, edges, color=colour, fill=is_data, alpha=0.35 if is_data else 1.0,
                linewidth=1.2, label=str(source),
            )  # fmt: skip
        axes.set_title(name.replace("_", " "))
        axes.set_yticks([])
        axes.locator_params(axis="x", nbins=4)
    handles, labels = grid[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=len(labels))
    return figure


@style.styled
def correlations_beside_data(samples: pd.DataFrame | None) -> Figure:
    """Draws the rank correlation of every pair of features: in samples against in the data.

    Args:
      samples: as `samples_beside_data`.

    Returns:
      A figure of one panel, a dot per pair and family; the grey band is two standard errors wide
      on each side, those of rows that are independent.
    """
    frame = require(samples, ("source",), "samples")
    names = [name for name in frame.columns if name != "source"]
    if len(names) < 2:
        raise MissingRecordError("one feature has no pairs")
    tables = {
        str(source): cast(pd.DataFrame, rows[names]).corr(method="spearman").to_numpy()
        for source, rows in frame.groupby("source", sort=False)
    }
    pairs = tuple(np.array(list(itertools.combinations(range(len(names)), 2))).T)
    data = tables.pop("data")[pairs]
    num_rows = int(np.sum(column(frame, "source").to_numpy() == "data"))
    figure, (axes,) = style.columns(1, 3.4, [1.0])
    line = np.linspace(-1.0, 1.0, 101)
    error = 2.0 * np.sqrt(2.0) * (1.0 - line**2) / np.sqrt(max(num_rows - 1, 1))
    axes.fill_between(line, line - error, line + error, color=style.RULE, linewidth=0)
    axes.plot(line, line, color=style.FAINT, linestyle="--", linewidth=1.0)
    for family, table in tables.items():
        axes.plot(
            data,
            table[pairs],
            linestyle="none",
            marker="o",
            markersize=3.5,
            color=FAMILY_COLOURS.get(family, style.PURPLE),
            label=f"{family} (largest difference {np.abs(table[pairs] - data).max():.2f})",
        )
    axes.set_xlabel("rank correlation of a pair of features in the data")
    axes.set_ylabel("in the samples")
    axes.legend(loc="upper left")
    return figure
