"""The report of a run: one page a person reads, plots and tables, from the run's folder alone."""

from densityjax.report.page import build_page, write_report
from densityjax.report.plots import PLOTS, Plot, save_plots
from densityjax.report.record import MissingRecordError, Record, read_record
from densityjax.report.tables import summary_rows, summary_table

__all__ = [
    "PLOTS",
    "MissingRecordError",
    "Plot",
    "Record",
    "build_page",
    "read_record",
    "save_plots",
    "summary_rows",
    "summary_table",
    "write_report",
]
