"""The page: from a run's folder to one self-contained `report.html`."""

import os
import pathlib
import tempfile

from densityjax.report import headline, html, sections
from densityjax.report.plots import PLOTS
from densityjax.report.record import Record, read_record


def write_report(run_folder: str | pathlib.Path) -> pathlib.Path:
    """Writes `report.html` into a run's folder, under another name first and renamed at the end.

    Args:
      run_folder: path of the folder of a finished run: `config.json`, `metrics.json` and the
        Parquet files it wrote; a missing Parquet file costs its plots only.

    Returns:
      Path of the page.

    Raises:
      ValueError: if `run_folder` is not the folder of a run, or a file in it cannot be read.
    """
    record = read_record(run_folder)
    page = build_page(record)
    handle, name = tempfile.mkstemp(dir=record.folder, prefix=".report-", suffix=".html")
    target = record.folder / "report.html"
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(page)
        os.chmod(name, 0o644)
        os.replace(name, target)
    except BaseException:
        pathlib.Path(name).unlink(missing_ok=True)
        raise
    return target


def build_page(record: Record) -> str:
    """Returns the report of a run as one HTML document without outside assets.

    Args:
      record: what the run left behind.

    Returns:
      The document; a plot that lacks its data is replaced by a line that says what is missing.
    """
    parts = [("data", "Data and split", sections.data(record))]
    for plot in PLOTS:
        if plot.name == "agreement" and "families" not in record.metrics:
            continue  # one family has none to agree with
        content = sections.plot_section(record, plot)
        if plot.name == "equity":
            content += sections.comparison(record)
        if plot.name == "position":
            content += sections.reasons(record)
        parts.append((plot.name, plot.title, content))
        if plot.name == "pit":
            parts.append(("violations", "Violations of value at risk", sections.violations(record)))
    parts.append(("metrics", "All numbers", sections.metrics(record)))
    links = "".join(
        html.tag("li", html.tag("a", html.text(title), href=f"#{name}")) for name, title, _ in parts
    )
    body = "".join(
        html.tag("section", html.tag("h2", html.text(title)) + content, id=name)
        for name, title, content in parts
    )
    contents = html.tag("nav", html.tag("ul", links))
    main = html.tag("main", sections.header(record) + contents + body)
    return html.document(f"{headline.title(record)}: densityjax", main + sections.footer(record))
