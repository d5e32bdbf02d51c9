"""Metrics as rows of text: the full tables of the page and the short one of a terminal."""

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from densityjax.report.glossary import (
    MISSING,
    describe,
    format_value,
    is_missing,
    rows_text,
    section_title,
)
from densityjax.report.terms import SECTIONS

HEADLINES: tuple[tuple[str, str], ...] = (
    ("density", "log_likelihood_test"),
    ("density", "alarm_rate_test"),
    ("families", "log_likelihood_test_score"),
    ("families", "log_likelihood_test_energy"),
    ("forecast", "log_score"),
    ("forecast", "log_score_gjr_skewt"),
    ("forecast", "diebold_mariano_gjr_skewt"),
    ("forecast", "pit_ks_p_value"),
    ("forecast", "violation_rate_1pct"),
    ("forecast", "violation_rate_5pct"),
    ("grid", "num_trials"),
    ("grid", "validation_sharpe_ratio"),
    ("grid", "expected_max_sharpe"),
    ("strategy", "total_return"),
    ("strategy", "sharpe_ratio"),
    ("strategy", "sharpe_ratio_low"),
    ("strategy", "sharpe_ratio_high"),
    ("strategy", "max_drawdown"),
    ("score_strategy", "total_return"),
    ("energy_strategy", "total_return"),
    ("buy_and_hold", "total_return"),
    ("buy_and_hold", "sharpe_ratio"),
    ("buy_and_hold", "max_drawdown"),
)
Metrics = Mapping[str, Mapping[str, Any]]


class MetricRow(NamedTuple):
    """One metric, ready to be read.

    Attributes:
      name: its name in `metrics.json`.
      label: its name in words.
      value: the number as text, an en dash where there is none.
      sentence: what it means, and the reason where the number is missing.
      rows: split, dates and count of the rows it was computed over.
    """

    name: str
    label: str
    value: str
    sentence: str
    rows: str


class TailRow(NamedTuple):
    """The forecast quantiles of one tail against what came, all as text.

    Attributes:
      tail: tail probability.
      expected: number of violations that the tail probability asks for.
      observed: number of violations, with their rate.
      kupiec: p-value that the rate is right.
      christoffersen: p-value that violations come independently.
      value_at_risk: mean value at risk, as a log return.
      expected_shortfall: mean expected shortfall, as a log return.
    """

    tail: str
    expected: str
    observed: str
    kupiec: str
    christoffersen: str
    value_at_risk: str
    expected_shortfall: str


def section_names(metrics: Metrics) -> list[str]:
    """Returns the sections of a run, the known ones first and in the glossary's order."""
    known = [section for section in SECTIONS if section in metrics]
    return known + [section for section in metrics if section not in SECTIONS]


def metric_names(section: Mapping[str, Any]) -> list[str]:
    """Returns the names of a section that are numbers, leaving out the reasons beside them."""
    return [
        name
        for name in section
        if not (name.endswith("_reason") and name.removesuffix("_reason") in section)
    ]


def metric_row(
    metrics: Metrics, section: str, name: str, config: Mapping[str, Any] | None = None
) -> MetricRow:
    """Returns one metric in words.

    Args:
      metrics: section to name to value, each in its own unit.
      section: section of the metric.
      name: name of the metric within its section.
      config: the run's `config.json`, for the rows; None leaves dates out.

    Returns:
      The `MetricRow`.
    """
    value, term = metrics[section][name], describe(section, name)
    sentence = term.sentence
    if is_missing(value):
        reason = metrics[section].get(f"{name}_reason") or "no reason was recorded"
        sentence = f"{sentence} Missing: {reason}."
    num_scored = metrics[section].get("num_scored")
    rows = rows_text(section, name, config or {}, num_scored)
    return MetricRow(name, term.label, format_value(value, term.kind), sentence, rows)


def tail_rows(forecast: Mapping[str, Any], num_rows: int | None) -> Iterator[TailRow]:
    """Yields the table of violations, one row per tail that the run recorded.

    Args:
      forecast: section "forecast" of the metrics.
      num_rows: number of test bars that were scored, or None where it is not known.

    Yields:
      A `TailRow` for the 5 % and the 1 % tail.
    """
    for tail, confidence in (("5", "95"), ("1", "99")):
        if f"violations_{tail}pct" not in forecast:
            continue
        rate = forecast.get(f"violation_rate_{tail}pct")
        expected = None if num_rows is None else num_rows * int(tail) / 100
        yield TailRow(
            f"{tail} %",
            MISSING if expected is None else f"{expected:,.1f}",
            f"{format_value(forecast[f'violations_{tail}pct'], 'count')} "
            f"({format_value(rate, 'fraction')})",
            format_value(forecast.get(f"kupiec_p_value_{tail}pct"), "p_value"),
            format_value(forecast.get(f"christoffersen_p_value_{tail}pct"), "p_value"),
            format_value(forecast.get(f"mean_value_at_risk_{confidence}"), "fraction"),
            format_value(forecast.get(f"mean_expected_shortfall_{confidence}"), "fraction"),
        )


def summary_rows(metrics: Metrics) -> list[tuple[str, str, str]]:
    """Returns (section, metric, value) in words for the few numbers that matter most."""
    return [
        (section_title(section)[0], row.label, row.value)
        for section, name in HEADLINES
        if name in metrics.get(section, {})
        for row in [metric_row(metrics, section, name)]
    ]


def summary_table(metrics: Metrics) -> str:
    """Returns a short table of a run for a terminal, in plain text.

    Args:
      metrics: section to name to value, as in `metrics.json`.

    Returns:
      Lines of equal width: section, metric, value; a section is named once.
    """
    rows = summary_rows(metrics)
    if not rows:
        return "no metrics"
    widths = [max(len(row[column]) for row in rows) for column in range(3)]
    lines, last = [], None
    for section, label, value in rows:
        shown = "" if section == last else section
        lines.append(f"{shown:<{widths[0]}}  {label:<{widths[1]}}  {value:>{widths[2]}}")
        last = section
    return "\n".join(lines)
