"""The plots of a report in their order, and writing them to picture files.

`PLOTS` names every plot, says what it shows and how to draw it from a `Record`. A plot whose
frame or column is missing raises `MissingRecordError` with the reason; callers leave it out.
"""

import pathlib
from collections.abc import Callable
from typing import NamedTuple

import matplotlib
from matplotlib.figure import Figure

from densityjax.report import style
from densityjax.report.plots_families import (
    correlations_beside_data,
    density_agreement,
    samples_beside_data,
)
from densityjax.report.plots_forecast import forecast_fan, log_score_difference, pit_histogram
from densityjax.report.plots_market import energy_histogram, price_with_anomalies, training_curves
from densityjax.report.plots_strategy import (
    equity_and_drawdown,
    grid_heat_map,
    signal_and_position,
)
from densityjax.report.record import MissingRecordError, Record, read_record

PNG_DOTS_PER_INCH = 160


class Plot(NamedTuple):
    """One plot of the report.

    Attributes:
      name: short name, also of its file.
      title: heading on the page.
      caption: how to read it, in plain words.
      draw: record to figure; raises `MissingRecordError` where the run lacks what it shows.
    """

    name: str
    title: str
    caption: str
    draw: Callable[[Record], Figure]


def _draw_price(record: Record) -> Figure:
    """Draws price and alarms, with the alarm rate that the run stated."""
    rate = record.metrics.get("density", {}).get("alarm_rate_nominal")
    return price_with_anomalies(record.density, record.signals, rate)


PLOTS: tuple[Plot, ...] = (
    Plot(
        "price",
        "Price and anomalies",
        "Bars whose market state was stranger than all but the stated share of held-out bars raise "
        "an alarm. Dotted lines show where the validation and test rows begin.",
        _draw_price,
    ),
    Plot(
        "energy",
        "How unusual the bars are",
        "Bars further right are stranger to the model. Test bars that lie right of the validation "
        "bars mean that the market has moved away from what was learned. The last bins hold "
        "everything beyond them.",
        lambda record: energy_histogram(record.density),
    ),
    Plot(
        "agreement",
        "Do the families agree?",
        "Test rows, one dot per bar. Families learned the same rows in different ways; where they "
        "agree, what they say of a bar does not hang on the family. Dots below the line are bars "
        "that the other family finds stranger than the flow does.",
        lambda record: density_agreement(record.density),
    ),
    Plot(
        "samples",
        "Samples beside the data",
        "States drawn from each fitted density beside rows of the training data: a good density "
        "draws what the market does. The last bins hold everything beyond them.",
        lambda record: samples_beside_data(record.samples),
    ),
    Plot(
        "correlations",
        "Correlations of samples beside those of the data",
        "One dot per pair of features. Dots on the line move together in the samples as much as in "
        "the data; those inside the band differ by no more than two such samples do.",
        lambda record: correlations_beside_data(record.samples),
    ),
    Plot(
        "fan",
        "Forecast against what came",
        "Each band was forecast one bar ahead, from the bars before. Triangles are bars that fell "
        "below the 5 % or 1 % quantile: the value at risk at 95 % or 99 % confidence was exceeded.",
        lambda record: forecast_fan(record.forecast),
    ),
    Plot(
        "log_score",
        "Log score against the baselines over time",
        "A rising line: the forecast gave more probability to what came than that baseline did. "
        "A line that ends inside the grey band (drawn for the first baseline, as if bars were "
        "independent) may be chance. "
        "Sudden steps are single bars that decide much of the score.",
        lambda record: log_score_difference(record.forecast),
    ),
    Plot(
        "pit",
        "Calibration",
        "Of a calibrated forecast, returns fall equally often into every bin. A hill means that "
        "the forecast was too wide, a valley too narrow, a slope that its middle was off. "
        "About one bin in twenty leaves the band by chance.",
        lambda record: pit_histogram(record.forecast),
    ),
    Plot(
        "training",
        "Training",
        "One thin line per member of the ensemble. The dot marks the epoch that was kept, the one "
        "with the lowest validation loss. Very early losses may lie above the frame.",
        lambda record: training_curves(record.training),
    ),
    Plot(
        "equity",
        "Equity and drawdown",
        "Test rows only, after costs, all starting at 1. One path of one period: another period "
        "would have drawn another picture.",
        lambda record: equity_and_drawdown(record.signals),
    ),
    Plot(
        "position",
        "Signal and position",
        "The position is decided at the close of a bar and held from the next one.",
        lambda record: signal_and_position(record.signals),
    ),
    Plot(
        "grid",
        "The rules that were tried",
        "Validation rows. Neighbouring cells that agree speak for the rule; one good cell among "
        "poor ones speaks of luck. A chosen rule left of the dashed line shows no more than the "
        "best of that many worthless rules would.",
        lambda record: grid_heat_map(record.grid, record.metrics.get("grid", {})),
    ),
)


def save_plots(
    run_folder: str | pathlib.Path, out_folder: str | pathlib.Path
) -> tuple[list[pathlib.Path], dict[str, str]]:
    """Writes every plot of a run as a PNG file, without a display.

    Args:
      run_folder: path of the run's folder.
      out_folder: path of the folder to write to; made where it is missing.

    Returns:
      The paths written, in the report's order, and the reason for each plot left out, by name.

    Raises:
      ValueError: if `run_folder` is not the folder of a run.
    """
    record = read_record(run_folder)
    folder = pathlib.Path(out_folder)
    folder.mkdir(parents=True, exist_ok=True)
    written, left_out = [], {}
    for plot in PLOTS:
        try:
            figure = plot.draw(record)
        except MissingRecordError as error:
            left_out[plot.name] = str(error)
            continue
        path = folder / f"{plot.name}.png"
        with matplotlib.rc_context(style.STYLE):
            figure.savefig(path, dpi=PNG_DOTS_PER_INCH)
        written.append(path)
    return written, left_out
