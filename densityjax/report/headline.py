"""What a run found, in plain words and without flattery.

Each question gets a `Verdict`: better, worse, or not to be told from chance. Rules of wording: no
result counts as a profit unless the interval of its Sharpe ratio lies above zero, a small sample
is called one, and the number of rules tried stands beside the one that was chosen.
"""

import datetime
import math
from collections.abc import Mapping
from typing import Any, NamedTuple

from densityjax.report.glossary import format_seconds, format_time, format_value, signed
from densityjax.report.record import Record, column, test_rows
from densityjax.report.terms import INTERVAL

CRITICAL_T = 1.96  # two-sided 5 % of a normal statistic
SIGNIFICANCE = 0.05  # of each calibration test, and of all together after Bonferroni
FEW_VIOLATIONS = 10  # expected violations below which a test of their rate says little
SHORT_YEARS = 3.0  # test spans below this carry a standard error of 0.58 or more in a Sharpe ratio
DAYS_PER_YEAR = 365.25
ALARM_SPLITS = ("validation", "test")  # rows that set the alarm's threshold, rows it is counted on
CALIBRATION_TESTS = (
    ("pit_ks_p_value", "Kolmogorov-Smirnov"),
    ("berkowitz_p_value", "Berkowitz"),
    ("kupiec_p_value_5pct", "Kupiec 5 %"),
    ("kupiec_p_value_1pct", "Kupiec 1 %"),
    ("christoffersen_p_value_5pct", "Christoffersen 5 %"),
    ("christoffersen_p_value_1pct", "Christoffersen 1 %"),
)


class Verdict(NamedTuple):
    """The answer to one question about the run.

    Attributes:
      question: what is asked.
      tone: good, bad or open; open is the answer of a sample that cannot tell.
      answer: a few words.
      sentences: the numbers behind the answer, and what limits them.
    """

    question: str
    tone: str
    answer: str
    sentences: tuple[str, ...]


def title(record: Record) -> str:
    """Returns what the report is about: the name of the data."""
    return str(record.config.get("data", {}).get("name") or record.folder.resolve().name)


def opening(record: Record) -> str:
    """Returns one sentence on what was learned from: bars, span, interval and test rows."""
    data = record.config.get("data", {})
    interval, days = data.get("interval_seconds"), data.get("span_days")
    years = f", {days / DAYS_PER_YEAR:.1f} years" if isinstance(days, int | float) else ""
    start, end = (format_time(data.get(side), interval) for side in ("start", "end"))
    text = (
        f"{format_value(data.get('num_bars'), 'count')} bars of {title(record)}, one per "
        f"{format_seconds(interval).removeprefix('1 ')}, {start} to {end}{years}."
    )
    train = record.config.get("split", {}).get("train")
    if isinstance(train, Mapping):
        until = format_time(train.get("end"), interval)
        text += (
            f" The models learned from the first {format_value(train.get('rows'), 'count')} rows, "
            f"until {until}."
        )
    test = record.config.get("split", {}).get("test")
    if isinstance(test, Mapping):
        since, until = (format_time(test.get(side), interval) for side in ("start", "end"))
        text += (
            f" The answers below rest on the last {format_value(test.get('rows'), 'count')} "
            f"rows, {since} to {until}, which neither fitting nor choosing has seen."
        )
    return text


def verdicts(record: Record) -> list[Verdict]:
    """Returns the answers that the run's metrics allow, in the report's order."""
    asked = (against_garch(record), calibration(record), money(record), surprise(record))
    return [verdict for verdict in asked if verdict is not None]


def against_garch(record: Record) -> Verdict | None:
    """Asks whether the forecast beats the GARCH model in log score on the test rows."""
    forecast = record.metrics.get("forecast", {})
    ours, theirs = _number(forecast, "log_score"), _number(forecast, "log_score_gjr_skewt")
    statistic = _number(forecast, "diebold_mariano_gjr_skewt")
    if ours is None or theirs is None:
        return None
    sentences = [
        f"Mean log score {format_value(ours, 'nats')} nats per bar against "
        f"{format_value(theirs, 'nats')} for GJR-GARCH with skewed t tails "
        f"(difference {signed(ours - theirs, 'nats')})."
    ]
    if statistic is None:
        answer, tone = "No test was recorded", "open"
    elif abs(statistic) < CRITICAL_T:
        answer, tone = "Cannot be told apart", "open"
        side = "above" if ours > theirs else "below"
        sentences.append(f"The forecast came out {side}, by no more than chance explains.")
    else:
        answer, tone = ("Better", "good") if statistic > 0 else ("Worse", "bad")
        sentences.append("The difference is larger than chance explains.")
    if statistic is not None:
        sentences.append(
            f"Diebold-Mariano t = {format_value(statistic, 'ratio')}; beyond ±1.96 counts. Both "
            "were fitted once, on the training rows."
        )
    gap = _number(forecast, "gap_to_truth")
    if gap is not None:
        sentences.append(
            f"The data are simulated: the true law would have scored {format_value(gap, 'nats')} "
            "nats per bar more."
        )
    return Verdict("Is the forecast better than GARCH?", tone, answer, tuple(sentences))


def calibration(record: Record) -> Verdict | None:
    """Asks whether returns fell into the forecast as often as it said, allowing for many tests."""
    forecast = record.metrics.get("forecast", {})
    values = {label: _number(forecast, name) for name, label in CALIBRATION_TESTS}
    tests = {label: value for label, value in values.items() if value is not None}
    if not tests:
        return None
    rejecting = [label for label, value in tests.items() if value < SIGNIFICANCE]
    lowest = min(tests, key=lambda label: tests[label])
    survives = tests[lowest] * len(tests) < SIGNIFICANCE
    if survives:
        answer, tone = "No", "bad"
        text = f"{len(rejecting)} of {len(tests)} tests reject: {', '.join(rejecting)}."
        text += f" The strongest ({lowest}) does so even after allowing for {len(tests)} tests."
    elif rejecting:
        answer, tone = "Mostly", "open"
        text = f"{len(rejecting)} of {len(tests)} tests reject at 5 %: {', '.join(rejecting)}. "
        text += f"Not one still does after allowing for {len(tests)} tests."
    else:
        answer, tone = "Nothing speaks against it", "good"
        text = f"All {len(tests)} tests pass at 5 %."
    sentences = [text]
    count = num_scored(record)
    if count is not None and 0.01 * count < FEW_VIOLATIONS:
        sentences.append(
            f"Small sample: {count:,} bars should hold about {0.01 * count:.1f} violations of the "
            "1 % quantile, too few to judge that tail."
        )
    return Verdict("Is the forecast calibrated?", tone, answer, tuple(sentences))


def money(record: Record) -> Verdict | None:
    """Asks whether the strategy beat buy-and-hold after costs, and whether luck explains it."""
    ours, theirs = (record.metrics.get(name, {}) for name in ("strategy", "buy_and_hold"))
    gain, market = _number(ours, "total_return"), _number(theirs, "total_return")
    sharpe, market_sharpe = _number(ours, "sharpe_ratio"), _number(theirs, "sharpe_ratio")
    if gain is None or market is None:
        return None
    if _number(record.metrics.get("grid", {}), "is_flat"):
        text = (
            "By the same rule of choice the account held nothing over the test rows: "
            f"{signed(gain, 'fraction')} against {signed(market, 'fraction')} for buy-and-hold. "
            "That is no finding about the forecast, only that no rule of the grid earned its costs."
        )
        sentences = (*_luck_of_choice(record), text)
        return Verdict("Did it beat buy-and-hold?", "open", "Nothing was traded", sentences)
    low, high = _number(ours, "sharpe_ratio_low"), _number(ours, "sharpe_ratio_high")
    ahead_in_risk = sharpe is None or market_sharpe is None or sharpe > market_sharpe
    proven = low is not None and low > 0
    if market < gain < 0:
        answer, tone = "Lost less, but lost", "open"
    elif gain > market and ahead_in_risk:
        answer, tone = ("Ahead on these rows", "good") if proven else ("Ahead, within luck", "open")
    elif gain > market or (sharpe is not None and market_sharpe is not None and ahead_in_risk):
        answer, tone = (
            ("Ahead in return only" if gain > market else "Less return, higher Sharpe ratio"),
            "open",
        )
    else:
        answer, tone = "No", "bad"
    sentences = [
        f"After costs {signed(gain, 'fraction')} against {signed(market, 'fraction')} for "
        f"buy-and-hold; Sharpe ratio {format_value(sharpe, 'ratio')} against "
        f"{format_value(market_sharpe, 'ratio')}."
    ]
    if low is None or high is None:
        sentences.append("No interval was recorded, so the result cannot be told from luck.")
    else:
        span = f"{format_value(low, 'ratio')} to {format_value(high, 'ratio')}"
        meaning = (
            "it lies above zero, on one period only"
            if low > 0
            else "it lies below zero: this rule lost more than chance explains"
            if high < 0
            else "it contains zero, so nothing here can be told from luck"
        )
        sentences.append(f"{INTERVAL} interval of the strategy's Sharpe ratio: {span}; {meaning}.")
    sentences += [*_luck_of_choice(record), *_short_sample(record)]
    return Verdict("Did it beat buy-and-hold?", tone, answer, tuple(sentences))


def surprise(record: Record) -> Verdict | None:
    """Asks whether the test rows look like what the density model had learned."""
    density = record.metrics.get("density", {})
    nominal, rate = _number(density, "alarm_rate_nominal"), _number(density, "alarm_rate_test")
    if nominal is None or rate is None:
        return None
    counts = [record.config.get("split", {}).get(name, {}).get("rows") for name in ALARM_SPLITS]
    # Both the rows that set the alarm's threshold and those that it is counted on are a sample.
    share = sum(1 / count if isinstance(count, int) and count else math.inf for count in counts)
    error = math.sqrt(nominal * (1 - nominal) * share)
    texts = (
        f"{format_value(rate, 'fraction')} of test bars raised an alarm, where "
        f"{format_value(nominal, 'fraction')} was the rate set on the validation rows.",
        "Such a rate is kept on rows like those alone, and markets drift: volatility and volume "
        "seldom stay what they were. Alarms also come in clusters, for neighbouring bars share "
        "most of their past.",
    )
    question = "Was the test period familiar?"
    if abs(rate - nominal) <= 3 * error:
        return Verdict(question, "good", "Yes", texts)
    if rate < nominal:
        return Verdict(question, "open", "Calmer than before", texts)
    note = "The market left what the validation rows had shown: trust the forecasts less there."
    return Verdict(question, "bad", "Stranger than before", (*texts, note))


def num_scored(record: Record) -> int | None:
    """Returns how many test bars have a forecast and an outcome."""
    frame = record.forecast
    if frame is not None and "return_next" in frame.columns:
        return int(column(test_rows(frame), "return_next").count())
    rows = record.config.get("split", {}).get("test", {}).get("rows")
    return rows if isinstance(rows, int) else None


def _luck_of_choice(record: Record) -> list[str]:
    """Compares the chosen rule with the best of as many worthless ones."""
    grid = record.metrics.get("grid", {})
    shown, luck = _number(grid, "validation_sharpe_ratio"), _number(grid, "expected_max_sharpe")
    if shown is None or luck is None:
        return []
    if shown <= 0:
        return [
            f"Not one of {format_value(grid.get('num_trials'), 'count')} rules gained on the "
            f"validation rows (best Sharpe ratio {format_value(shown, 'ratio')}): holding nothing "
            "was the better choice there."
        ]
    side = "below or at" if shown <= luck else "above"
    return [
        f"The rule was the best of {format_value(grid.get('num_trials'), 'count')} on the "
        f"validation rows with a Sharpe ratio of {format_value(shown, 'ratio')}, {side} the "
        f"{format_value(luck, 'ratio')} that luck alone would show."
    ]


def _short_sample(record: Record) -> list[str]:
    """Says how wide a Sharpe ratio's error is where the test rows span few years."""
    test = record.config.get("split", {}).get("test", {})
    try:
        start, end = (datetime.datetime.fromisoformat(str(test[s])) for s in ("start", "end"))
    except (KeyError, ValueError):
        return []
    years = (end - start).total_seconds() / (86400 * DAYS_PER_YEAR)
    if not 0 < years < SHORT_YEARS:
        return []
    return [
        f"Small sample: {years:.1f} years of test rows leave a standard error of about "
        f"{1 / math.sqrt(years):.1f} in an annual Sharpe ratio."
    ]


def _number(section: Mapping[str, Any], name: str) -> float | None:
    """Returns a finite number of a section, None where there is none."""
    value = section.get(name)
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value) if math.isfinite(value) else None
