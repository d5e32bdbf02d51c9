"""The parts of the page: small functions of the `Record` that return finished HTML."""

from collections.abc import Mapping
from typing import Any

from densityjax.report import headline, html, style
from densityjax.report.glossary import (
    SPLITS,
    describe,
    format_seconds,
    format_time,
    format_value,
    section_title,
)
from densityjax.report.plots import Plot
from densityjax.report.record import MissingRecordError, Record
from densityjax.report.tables import (
    MetricRow,
    metric_names,
    metric_row,
    section_names,
    tail_rows,
)

TAIL_HEAD = (
    "tail",
    "expected",
    "observed (rate)",
    "Kupiec p",
    "Christoffersen p",
    "mean value at risk",
    "mean shortfall",
)
BENCHMARKS = ("score_strategy", "energy_strategy", "buy_and_hold", "volatility_target")
MAX_REASONS = 12  # of the most frequent reasons for a position


def header(record: Record) -> str:
    """Returns title, opening sentence, warnings and verdicts."""
    cards = "".join(
        html.tag(
            "article",
            html.tag("h3", html.text(verdict.question))
            + html.tag("p", html.text(verdict.answer), class_="answer")
            + html.paragraphs(verdict.sentences),
            class_=f"verdict {verdict.tone}",
        )
        for verdict in headline.verdicts(record)
    )
    warnings = record.config.get("data", {}).get("warnings") or []
    notice = html.tag("strong", "Warnings about the data") + html.bullets(map(str, warnings))
    return html.tag(
        "header",
        html.tag("h1", html.text(headline.title(record)))
        + html.tag("p", html.text(headline.opening(record)), class_="lead")
        + html.tag("div", cards, class_="verdicts")
        + (html.tag("div", notice, class_="notice", role="note") if warnings else ""),
    )


def data(record: Record) -> str:
    """Returns what the data are, how they were split, which features were taken, and notes."""
    data, split = record.config.get("data", {}), record.config.get("split", {})
    interval = data.get("interval_seconds")
    facts = [
        ("source", format_value(data.get("source"))),
        ("bars", format_value(data.get("num_bars"), "count")),
        ("interval", format_seconds(interval)),
        ("from", format_time(data.get("start"), interval)),
        ("to", format_time(data.get("end"), interval)),
        ("bars per year", format_value(data.get("periods_per_year"), "count")),
        ("gaps", _gaps(data)),
        ("volume", format_value(data.get("has_volume"))),
    ]
    rows = [
        [
            name,
            *(format_time(split[name].get(side), interval) for side in ("start", "end")),
            format_value(split[name].get("rows"), "count"),
        ]
        for name in SPLITS
        if isinstance(split.get(name), Mapping)
    ]
    purge = split.get("purge")
    note = (
        f"Rows left out between the parts, so that no feature or target reaches across: {purge:,}."
        if isinstance(purge, int) and purge > 0
        else ""
    )
    notes = [str(one) for one in data.get("notes") or []]
    return (
        html.table((), facts, numbers=False)
        + html.table(("part", "from", "to", "rows"), rows)
        + html.paragraphs([note] if note else [], class_="faint")
        + (html.tag("h3", "Notes") + html.bullets(notes) if notes else "")
        + _features(record.config.get("features") or {})
    )


def _gaps(data: Mapping[str, Any]) -> str:
    """Returns number and size of the gaps in words."""
    count = format_value(data.get("num_gaps"), "count")
    if not data.get("num_gaps"):
        return count
    return f"{count}, the largest {format_seconds(data.get('largest_gap_seconds'))}"


def _features(features: Mapping[str, Any]) -> str:
    """Returns the features by use; those left out are named too."""
    words = (
        ("state", "describing the state"),
        ("context", "given to the forecast"),
        ("left_out", "left out"),
    )
    rows = [
        (label, ", ".join(str(name).replace("_", " ") for name in features[key]))
        for key, label in words
        if features.get(key)
    ]
    return html.tag("h3", "Features") + html.table((), rows, numbers=False) if rows else ""


def plot_section(record: Record, plot: Plot) -> str:
    """Returns a plot with its caption, or a line that says why it is left out."""
    try:
        figure = plot.draw(record)
    except MissingRecordError as error:
        return html.tag("p", html.text(f"This plot is left out: {error}."), class_="left-out")
    return html.figure(style.to_svg(figure), plot.caption, f"Plot: {plot.title}. {plot.caption}")


def violations(record: Record) -> str:
    """Returns the table of violations of both tails."""
    rows = list(tail_rows(record.metrics.get("forecast", {}), headline.num_scored(record)))
    if not rows:
        line = "This table is left out: the run recorded no violations."
        return html.tag("p", html.text(line), class_="left-out")
    meaning = (
        "Test rows. A right quantile is violated about as often as expected (Kupiec's test) and at "
        "times that do not follow each other (Christoffersen's test asks for both); p-values below "
        "0.05 speak against it. The 5 % tail is that of the value at risk at 95 % confidence, the "
        "1 % tail that at 99 %."
    )
    return html.table(TAIL_HEAD, rows) + html.paragraphs([meaning], class_="faint")


def reasons(record: Record) -> str:
    """Returns how often each reason stood behind a position."""
    if record.signals is None or "reason" not in record.signals.columns:
        return ""
    counts = record.signals["reason"].fillna("no reason given").astype(str).value_counts()
    total = max(int(counts.sum()), 1)
    rows = [
        (reason or "no reason given", f"{count:,}", format_value(count / total, "fraction"))
        for reason, count in counts.head(MAX_REASONS).items()
    ]
    return html.tag("h3", "Why the position was what it was") + html.table(
        ("reason", "bars", "share"), [[str(cell) for cell in row] for row in rows]
    )


def comparison(record: Record) -> str:
    """Returns the strategy beside its benchmarks, for the numbers that all of them have."""
    shown = [name for name in ("strategy", *BENCHMARKS) if name in record.metrics]
    names = [
        name
        for name in metric_names(record.metrics.get("strategy", {}))
        if any(name in record.metrics[section] for section in shown[1:])
    ]
    if not names:
        return ""
    rows = [
        [
            describe("strategy", name).label,
            *(
                format_value(record.metrics[section].get(name), describe("strategy", name).kind)
                for section in shown
            ),
        ]
        for name in names
    ]
    heads = [section_title(section)[0].lower() for section in shown]
    return html.table(("test rows", *heads), rows)


def metrics(record: Record) -> str:
    """Returns the full tables, one per section."""
    parts = []
    for section in section_names(record.metrics):
        title, introduction = section_title(section)
        names = metric_names(record.metrics[section])
        rows = [metric_row(record.metrics, section, name, record.config) for name in names]
        head = "".join(
            html.tag("th", word, scope="col", **({"class_": "number"} if number else {}))
            for number, word in enumerate(("metric", "value"))
        ) + html.tag("th", "what it means, and over which rows", scope="col")
        body = html.tag("tbody", "".join(map(_metric_line, rows)))
        table = html.tag("table", html.tag("thead", html.tag("tr", head)) + body, class_="metrics")
        parts.append(html.tag("h3", html.text(title)))
        parts.append(html.paragraphs([introduction] if introduction else [], class_="faint"))
        parts.append(table)
    return "".join(parts)


def _metric_line(row: MetricRow) -> str:
    """Returns one line of a full table."""
    name = html.tag("code", html.text(row.name))
    rows = html.tag("span", html.text(row.rows), class_="rows")
    return html.tag(
        "tr",
        html.tag("th", f"{html.text(row.label)}<br>{name}", scope="row")
        + html.tag("td", html.text(row.value), class_="number")
        + html.tag("td", f"{html.text(row.sentence)} {rows}", class_="meaning"),
    )


def footer(record: Record) -> str:
    """Returns how to make the run again: command, seed, versions, hash, and where time went."""
    config = record.config
    arguments = config.get("arguments") or {}
    words = config.get("command") or " ".join(
        f"--{name.replace('_', '-')} {_argument(value)}"
        for name, value in arguments.items()
        if value is not None
    )
    versions = config.get("versions") or {}
    seconds = config.get("seconds") or {}
    lines = [
        ("created", format_time(config.get("created"), 1)),
        ("seed", format_value(config.get("seed")).replace(",", "")),
        ("data hash", format_value(config.get("data", {}).get("hash"))),
        ("versions", ", ".join(f"{name} {version}" for name, version in versions.items())),
        ("time", ", ".join(f"{name} {format_seconds(value)}" for name, value in seconds.items())),
    ]
    command = html.tag("p", f"To repeat it: {html.tag('code', html.text(words))}") if words else ""
    return html.tag(
        "footer",
        html.table((), [line for line in lines if line[1]], numbers=False)
        + command
        + html.paragraphs(["Nothing here is advice to trade. Past rows do not bind future ones."]),
    )


def _argument(value: Any) -> str:
    """Writes the value of an argument as it is typed."""
    if isinstance(value, list | tuple):
        return " ".join(map(_argument, value))
    if isinstance(value, float):
        return f"{value:g}"
    return str(value)
