"""Looking up what a metric means, writing its value, and naming the rows it was computed over.

A metric is addressed as (section, name) of `metrics.json`. Names that the glossary does not know
are shown all the same, with a sentence that says so.
"""

import datetime
import math
from collections.abc import Mapping
from typing import Any

from densityjax.report.terms import SECTIONS, TERMS, Term

MISSING = "–"  # noqa: RUF001 an en dash stands for a value that is not there
SECTION_SPLIT = {
    "density": "test",
    "families": "test",
    "samples": "train",
    "forecast": "test",
    "grid": "validation",
    "strategy": "test",
    "score_strategy": "test",
    "energy_strategy": "test",
    "buy_and_hold": "test",
    "volatility_target": "test",
}
SPLITS = ("train", "validation", "test")
SECOND_NAMES = ((86400, "day"), (3600, "hour"), (60, "minute"), (1, "second"))
SMALLEST_SHOWN_P_VALUE = 0.001  # below this the tests' approximations say no more


def describe(section: str, name: str) -> Term:
    """Returns label, kind and sentence of a metric.

    Args:
      section: section of `metrics.json`, such as "forecast".
      name: name within the section, such as "log_score".

    Returns:
      The `Term`; for unknown names one with a generic sentence.
    """
    if (section, name) in TERMS:
        return TERMS[section, name]
    words = name.replace("_", " ")
    if section == "grid" and name.startswith("best_"):
        parameter = words.removeprefix("best ")
        return Term(
            f"chosen {parameter}", "number", f"Value of {parameter} in the rule that was chosen."
        )
    return Term(words, "number", "Recorded by the run; the glossary has no entry for it.")


def section_title(section: str) -> tuple[str, str]:
    """Returns heading and introduction of a section, in words."""
    return SECTIONS.get(section, (section.replace("_", " ").capitalize(), ""))


def is_missing(value: Any) -> bool:
    """Tells whether a value of `metrics.json` or `config.json` holds nothing to show."""
    return value is None or (isinstance(value, float) and not math.isfinite(value))


def format_value(value: Any, kind: str = "number") -> str:
    """Writes a value for a reader.

    Args:
      value: a number in its own unit (fractions, nats), a string, a truth value or None.
      kind: count, fraction, nats, ratio, p_value or number.

    Returns:
      Text with a true minus sign; an en dash for None, NaN and infinities.
    """
    if is_missing(value):
        return MISSING
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list | tuple):
        return ", ".join(format_value(one) for one in value) or MISSING
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {format_value(one)}" for key, one in value.items()) or MISSING
    if not isinstance(value, int | float):
        return str(value)
    return _format_number(value, kind).replace("-", "−")  # noqa: RUF001 the true minus sign


def _format_number(value: float, kind: str) -> str:
    """Writes a finite number with the digits its kind deserves."""
    if kind == "p_value":
        small = value < SMALLEST_SHOWN_P_VALUE
        return f"< {SMALLEST_SHOWN_P_VALUE}" if small else f"{value:.3f}"
    if kind == "count" or (kind == "number" and isinstance(value, int)):
        return f"{value:,.0f}"
    if kind == "fraction":
        return f"{100 * value:,.{2 if abs(value) < 1 else 1}f} %"
    if kind == "nats":
        return f"{value:.4f}"
    if kind == "ratio":
        return f"{value:.2f}"
    return f"{value:,.2f}" if 1 <= abs(value) < 1_000_000 else f"{value:.4g}"


def signed(value: float, kind: str) -> str:
    """Writes a number with its sign, plus too."""
    return ("+" if value > 0 else "") + format_value(value, kind)


def format_seconds(seconds: Any) -> str:
    """Writes a length of time in its largest whole unit, `3600` as `1 hour`."""
    if is_missing(seconds) or not isinstance(seconds, int | float) or seconds <= 0:
        return MISSING
    for size, unit in SECOND_NAMES:
        if seconds >= size:
            count = seconds / size
            text = f"{count:.0f}" if count == int(count) else f"{count:.1f}"
            return f"{text} {unit}{'' if text == '1' else 's'}"
    return f"{seconds:.2g} seconds"


def format_time(stamp: Any, interval_seconds: Any = None) -> str:
    """Writes an ISO time stamp: the date, and hours where bars are shorter than a day."""
    if is_missing(stamp):
        return MISSING
    try:
        moment = datetime.datetime.fromisoformat(str(stamp))
    except ValueError:
        return str(stamp)
    is_short = isinstance(interval_seconds, int | float) and interval_seconds < 86400
    return moment.strftime("%Y-%m-%d %H:%M" if is_short else "%Y-%m-%d")


def split_of(section: str, name: str) -> str | None:
    """Returns the split that a metric was computed over, or None where that is not known."""
    if name == "alarm_rate_nominal":
        return None
    for split in SPLITS:
        if name.endswith(f"_{split}") or name.startswith(f"{split}_"):
            return split
    return SECTION_SPLIT.get(section)


def rows_text(
    section: str, name: str, config: Mapping[str, Any], num_scored: int | None = None
) -> str:
    """Says over which rows a metric was computed: split, dates and number of rows.

    Args:
      section: section of `metrics.json`.
      name: name within the section.
      config: the run's `config.json`, for `split` and the bars' interval.
      num_scored: rows of the section `forecast`, where fewer than the split has, or None.

    Returns:
      Text such as "test: 2019-01-02 to 2021-03-31, 567 rows".
    """
    split = split_of(section, name)
    if split is None:
        return "set in advance" if name == "alarm_rate_nominal" else "not stated"
    text = f"{split}: {split_text(split, config)}"
    rows = ((config.get("split") or {}).get(split) or {}).get("rows")
    if section == "forecast" and num_scored is not None and rows is not None and num_scored < rows:
        text += f", {format_value(num_scored, 'count')} of them with a known next return"
    return text


def split_text(split: str, config: Mapping[str, Any]) -> str:
    """Returns dates and number of rows of a split, as `config.json` has them."""
    block = (config.get("split") or {}).get(split)
    if not isinstance(block, Mapping):
        return "dates not recorded"
    interval = (config.get("data") or {}).get("interval_seconds")
    start, end = (format_time(block.get(side), interval) for side in ("start", "end"))
    return f"{start} to {end}, {format_value(block.get('rows'), 'count')} rows"
