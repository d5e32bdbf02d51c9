"""The tables of a comparison, as Markdown."""

import statistics
from typing import Any


def timed_table(records: list[dict[str, Any]]) -> str:
    """Lays timed rows out; beside a peer's number stands its time over ours, and the quartiles."""
    names = list(dict.fromkeys(name for each in records for name in _names(each)))
    lines = [["what", "sizes", *names]]
    for record in records:
        cells = [_timed_cell(record, name) for name in names]
        lines.append([record["what"], record["size"], *cells])
    return markdown(lines)


def toy_table(records: list[dict[str, Any]]) -> str:
    """Lays mean held-out log densities out, one line a toy."""
    names = list(dict.fromkeys(name for each in records for name in _names(each)))
    lines = [["density", *names]]
    for toy in dict.fromkeys(each["toy"] for each in records):
        of_toy = [each for each in records if each["toy"] == toy]
        lines.append([toy, *(score_cell(_scores(of_toy, name), len(of_toy)) for name in names)])
    return markdown(lines)


def score_cell(scores: list[float], wanted: int) -> str:
    """Writes a mean with its standard error, and how many of those wanted are missing."""
    missing = f", {wanted - len(scores)} failed" if len(scores) < wanted else ""
    if not scores:
        return "failed"
    text = f"{statistics.fmean(scores):.4f}"
    if len(scores) > 1:
        text += f" ± {statistics.stdev(scores) / len(scores) ** 0.5:.4f}"
    return text + missing


def markdown(lines: list[list[str]]) -> str:
    """Writes rows of cells, the first of them the head, as a table."""
    rows = [f"| {' | '.join(line)} |" for line in lines]
    return "\n".join([rows[0], "|" + "---|" * len(lines[0]), *rows[1:]])


def _names(record: dict[str, Any]) -> list[str]:
    return [*record["results"], *record["failed"]]


def _scores(records: list[dict[str, Any]], name: str) -> list[float]:
    return [each["results"][name]["log_prob"] for each in records if name in each["results"]]


def _timed_cell(record: dict[str, Any], name: str) -> str:
    if name not in record["results"]:
        return "failed"
    result = record["results"][name]
    seconds = result["seconds_per_unit"]["median"]
    if record["unit"] == "row":
        text = f"{1.0 / seconds:,.0f} rows/s"
    else:
        text = f"{seconds:.3g} s" if seconds >= 1.0 else f"{1e3 * seconds:.3g} ms"
    if "ratio" in result:
        ratio = result["ratio"]
        low, high = ratio["lower_quartile"], ratio["upper_quartile"]
        text += f", **{ratio['median']:.2f}** ({low:.2f} to {high:.2f})"
    return text
