"""How the plots look: palette, fonts, time axes, thinning of long series, and SVG for the page.

Colours are those of Okabe and Ito, which stay apart for colour-blind readers. In the SVG of the
page each of them is a variable with a second value for readers whose screen is dark.
"""

import io
import itertools
from collections.abc import Sequence
from typing import Any

import matplotlib
import numpy as np
from matplotlib import dates as mdates
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import ArrayLike, NDArray

PAPER, INK, FAINT, RULE = "#ffffff", "#222733", "#6b7280", "#dde1e7"
BLUE, ORANGE, VERMILLION = "#0072b2", "#e69f00", "#d55e00"
GREEN, SKY, PURPLE = "#009e73", "#56b4e9", "#cc79a7"
DARK = {
    PAPER: "#171a21",
    INK: "#e4e7ec",
    FAINT: "#9aa3b2",
    RULE: "#343b47",
    BLUE: "#58aee6",
    ORANGE: "#f0b429",
    VERMILLION: "#ff8547",
    GREEN: "#35c89b",
    SKY: "#7cc4ee",
    PURPLE: "#e39ac0",
}
MAX_POINTS = 1500  # points of a line: more than the page has pixels across
MAX_VECTOR_MARKS = 3000  # marks beyond this are drawn as an image inside the SVG
WIDTH = 7.6  # inches; with the font below this reads well from a phone to a printed page
STYLE: dict[Any, Any] = {
    "figure.facecolor": PAPER,
    "axes.facecolor": PAPER,
    "savefig.facecolor": PAPER,
    "figure.constrained_layout.use": True,
    "font.size": 9.5,
    "axes.titlesize": 9.5,
    "axes.titlelocation": "left",
    "axes.labelcolor": INK,
    "axes.titlecolor": INK,
    "text.color": INK,
    "axes.edgecolor": FAINT,
    "xtick.color": FAINT,
    "ytick.color": FAINT,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.formatter.useoffset": False,
    "grid.color": RULE,
    "grid.linewidth": 0.7,
    "legend.frameon": False,
    "legend.fontsize": 9.0,
    "lines.linewidth": 1.3,
    "svg.hashsalt": "densityjax",
}
styled = matplotlib.rc_context(STYLE)  # decorator of every plot: settings hold during the call only


def panels(heights: Sequence[float], *, share_x: bool = True) -> tuple[Figure, list[Axes]]:
    """Returns a figure of panels stacked on top of each other, with `heights` in inches."""
    figure = Figure(figsize=(WIDTH, sum(heights)))
    axes = figure.subplots(
        len(heights), 1, sharex=share_x, squeeze=False, gridspec_kw={"height_ratios": list(heights)}
    )
    return figure, list(axes[:, 0])


def columns(count: int, height: float, ratios: Sequence[float]) -> tuple[Figure, list[Axes]]:
    """Returns a figure of `count` panels side by side, `height` inches high."""
    figure = Figure(figsize=(WIDTH, height))
    axes = figure.subplots(1, count, squeeze=False, gridspec_kw={"width_ratios": list(ratios)})
    return figure, list(axes[0])


def time_axis(axes: Axes) -> None:
    """Gives the x axis few ticks, and writes first and last date once."""
    locator = mdates.AutoDateLocator(minticks=3, maxticks=8)
    axes.xaxis.set_major_locator(locator)
    axes.xaxis.set_major_formatter(mdates.ConciseDateFormatter(locator, show_offset=False))
    first, last = (mdates.num2date(edge) for edge in axes.dataLim.intervalx)
    axes.set_xlabel(f"time (UTC), {first:%Y-%m-%d} to {last:%Y-%m-%d}")


def thin(*series: ArrayLike, keep: ArrayLike | None = None) -> NDArray[np.intp]:
    """Returns which rows of a long series to draw so that its picture stays the same.

    Rows are cut into equal buckets, and of each bucket the first, lowest and highest finite value
    of every series is kept, so that no spike is lost.

    Args:
      *series: each [N], any unit; NaN is allowed.
      keep: [N] booleans, rows that must stay (violations, anomalies), or None.

    Returns:
      [M] increasing row numbers: all of them where N is at most `MAX_POINTS`.
    """
    values = [np.asarray(one, dtype=float) for one in series]
    num_rows = len(values[0])
    if num_rows <= MAX_POINTS:
        return np.arange(num_rows)
    num_buckets = max(MAX_POINTS // (2 * len(values)), 1)
    edges = np.linspace(0, num_rows, num_buckets + 1).astype(int)
    chosen = {0, num_rows - 1, *edges[:-1].tolist()}
    for one in values:
        low, high = (
            np.where(np.isfinite(one), one, np.inf),
            np.where(np.isfinite(one), one, -np.inf),
        )
        for start, stop in itertools.pairwise(edges.tolist()):
            chosen.add(start + int(np.argmin(low[start:stop])))
            chosen.add(start + int(np.argmax(high[start:stop])))
    if keep is not None:
        chosen.update(np.flatnonzero(np.asarray(keep, dtype=bool)).tolist())
    return np.array(sorted(chosen))


def to_svg(figure: Figure) -> str:
    """Returns the figure as one `<svg>` element whose colours follow the reader's screen."""
    buffer = io.StringIO()
    with matplotlib.rc_context(STYLE):
        figure.savefig(buffer, format="svg", dpi=150, metadata={"Date": None, "Creator": None})
    text = buffer.getvalue()
    text = text[text.index("<svg") :]
    for number, colour in enumerate(DARK):
        text = text.replace(colour, f"var(--c{number})")
    light = "".join(f"--c{number}:{colour};" for number, colour in enumerate(DARK))
    dark = "".join(f"--c{number}:{colour};" for number, colour in enumerate(DARK.values()))
    style = f"<style>svg{{{light}}}@media (prefers-color-scheme:dark){{svg{{{dark}}}}}</style>"
    end = text.index(">") + 1
    return text[:end] + style + text[end:]
