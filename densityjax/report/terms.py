"""What every number of a run means, in one plain sentence each.

`TERMS[section, name]` is a `Term`. Names that end in a number of percent stand here once per level.
Kinds: count, fraction (shown in percent), nats, ratio, p_value, number.
"""

from densityjax.report.term import Term
from densityjax.report.terms_density import DENSITY, FAMILIES, SAMPLES

INTERVAL = "95 %"  # coverage of the interval of the Sharpe ratio
_FORECAST = {
    "num_scored": Term(
        "bars scored",
        "count",
        "Number of test bars whose next return is known, the rows of every figure of this section.",
    ),
    "log_score": Term(
        "log score",
        "nats",
        "Mean log density that the forecast gave to the returns that came; higher is better.",
    ),
    "log_score_ewma_t": Term(
        "log score, EWMA-t",
        "nats",
        "The same score for an exponentially weighted variance with Student-t tails.",
    ),
    "log_score_gjr_skewt": Term(
        "log score, GJR-GARCH skew-t",
        "nats",
        "The same score for a GJR-GARCH model with skewed Student-t tails, the one to beat.",
    ),
    "log_score_true": Term(
        "log score, true law",
        "nats",
        "The same score for the law that simulated the data, which nothing can beat on average.",
    ),
    "gap_to_truth": Term(
        "gap to the true law",
        "nats",
        "How many nats per bar the forecast loses against the law that simulated the data.",
    ),
    "diebold_mariano_ewma_t": Term(
        "Diebold-Mariano, EWMA-t",
        "ratio",
        "t statistic of the difference in log score to EWMA-t: above 0 the forecast is better, "
        "and within ±1.96 the difference may be chance.",
    ),
    "diebold_mariano_gjr_skewt": Term(
        "Diebold-Mariano, GJR-GARCH skew-t",
        "ratio",
        "t statistic of the difference in log score to GJR-GARCH: above 0 the forecast is better, "
        "and within ±1.96 the difference may be chance.",
    ),
    "crps": Term(
        "CRPS",
        "number",
        "Mean distance between the forecast distribution and the return that came, in units of "
        "the return; lower is better.",
    ),
    "pit_ks_p_value": Term(
        "PIT, Kolmogorov-Smirnov",
        "p_value",
        "Chance of a histogram at least this uneven if the forecast were calibrated; "
        "below 0.05 it probably is not.",
    ),
    "berkowitz_p_value": Term(
        "PIT, Berkowitz",
        "p_value",
        "The same question asked of mean, spread and memory of the transformed returns; "
        "below 0.05 the forecast probably errs in one of them.",
    ),
}
for _tail, _confidence in (("1", "99"), ("5", "95")):
    _FORECAST |= {
        f"violations_{_tail}pct": Term(
            f"violations of the {_tail} % quantile",
            "count",
            f"Number of bars whose return fell below the forecast's {_tail} % quantile.",
        ),
        f"violation_rate_{_tail}pct": Term(
            f"violation rate, {_tail} %",
            "fraction",
            f"Share of bars below the {_tail} % quantile; it should be near {_tail} %.",
        ),
        f"kupiec_p_value_{_tail}pct": Term(
            f"Kupiec test, {_tail} %",
            "p_value",
            f"Chance of a number of violations at least this far from {_tail} % if the quantile "
            "were right; below 0.05 it probably is not.",
        ),
        f"christoffersen_p_value_{_tail}pct": Term(
            f"Christoffersen test, {_tail} %",
            "p_value",
            "Chance of violations this far off in number, or this clustered, if the quantile were "
            f"right, with violations at random in {_tail} % of bars; below 0.05 it hardly is.",
        ),
        f"mean_value_at_risk_{_confidence}": Term(
            f"mean value at risk, {_confidence} %",
            "fraction",
            f"Average loss of a bar that the forecast expects to see exceeded in {_tail} % of "
            "bars, as a log return.",
        ),
        f"mean_expected_shortfall_{_confidence}": Term(
            f"mean expected shortfall, {_confidence} %",
            "fraction",
            f"Average size that the forecast expects of a loss among the worst {_tail} % of bars, "
            "as a log return.",
        ),
    }
_GRID = {
    "num_trials": Term("rules tried", "count", "How many rules were compared on these rows."),
    "is_flat": Term(
        "held nothing",
        "number",
        "1 where no rule had a Sharpe ratio above 0 on the validation rows, so that the flat rule, "
        "which holds nothing, was chosen; 0 where a rule of the grid was.",
    ),
    "trial_sharpe_std": Term(
        "spread of Sharpe ratios",
        "ratio",
        "Standard deviation of the Sharpe ratio across the rules tried.",
    ),
    "best_entry_z": Term(
        "chosen entry threshold",
        "number",
        "The rule enters when the expected return exceeds this many of its forecast standard "
        "deviations, up or down.",
    ),
    "best_exit_z": Term(
        "chosen exit threshold",
        "number",
        "The rule stays in while the expected return on its side is at least this many forecast "
        "standard deviations.",
    ),
    "best_min_p_value": Term(
        "chosen gate",
        "number",
        "The rule is flat while the p-value of the market state is at or below this; at 0 the gate "
        "is always open.",
    ),
    "best_risk_budget": Term(
        "chosen risk budget",
        "fraction",
        "The position is cut until its expected shortfall at 95 % confidence is at most this share "
        "of the equity per bar.",
    ),
    "best_max_weight": Term(
        "largest position",
        "fraction",
        "The position is never larger than this share of the equity.",
    ),
    "best_allow_short": Term(
        "short positions",
        "number",
        "1 where the chosen rule may sell short, 0 where it may only buy or stay out.",
    ),
    "validation_sharpe_ratio": Term(
        "Sharpe ratio of the chosen rule",
        "ratio",
        "What the chosen rule showed on the rows that chose it, so it flatters the rule.",
    ),
    "expected_max_sharpe": Term(
        "best Sharpe ratio by luck",
        "ratio",
        "What the best of that many worthless and unrelated rules would show by luck; a chosen "
        "rule below it has shown nothing.",
    ),
}
_MONEY = {
    "total_return": Term(
        "total return", "fraction", "Gain or loss over all of the rows, after costs."
    ),
    "annual_return": Term(
        "annual return", "fraction", "The total return as a compound rate per year."
    ),
    "annual_volatility": Term(
        "annual volatility", "fraction", "Standard deviation of the returns, scaled to a year."
    ),
    "sharpe_ratio": Term(
        "Sharpe ratio",
        "ratio",
        "Mean over standard deviation of the returns, scaled to a year: reward per unit of risk.",
    ),
    "sharpe_ratio_low": Term(
        "Sharpe ratio, lower end",
        "ratio",
        f"Lower end of the {INTERVAL} interval of the Sharpe ratio; at or below 0, chance may "
        "explain the result.",
    ),
    "sharpe_ratio_high": Term(
        "Sharpe ratio, upper end",
        "ratio",
        f"Upper end of the {INTERVAL} interval of the Sharpe ratio.",
    ),
    "sortino_ratio": Term(
        "Sortino ratio",
        "ratio",
        "Like the Sharpe ratio, but only losses count as risk.",
    ),
    "max_drawdown": Term(
        "maximum drawdown", "fraction", "Deepest fall from an earlier peak of the equity."
    ),
    "calmar_ratio": Term("Calmar ratio", "ratio", "Annual return over the maximum drawdown."),
    "hit_rate": Term(
        "hit rate", "fraction", "Share of the bars with a position that gained, after costs."
    ),
    "turnover": Term(
        "turnover per bar",
        "fraction",
        "How much of the equity was traded in a bar on average, bought and sold added up.",
    ),
    "exposure": Term("exposure", "fraction", "Share of bars with a position, however small."),
    "total_cost": Term(
        "total cost", "fraction", "What fees took in all, as a share of the equity at the start."
    ),
    "num_without_forecast": Term(
        "bars without a forecast",
        "count",
        "Bars whose features reach into a filled gap; the rule is flat there.",
    ),
    "in_distribution_ratio": Term(
        "bars let through the gate",
        "fraction",
        "Share of bars whose p-value was above the chosen gate; a gate of 0 lets every bar "
        "through.",
    ),
    "average_log_prob": Term(
        "mean log density", "nats", "Mean log density of the market states, traded on or not."
    ),
    "average_confidence": Term(
        "mean confidence",
        "ratio",
        "Mean confidence of the signals: expected return over twice its forecast standard "
        "deviation, at most 1.",
    ),
}
TERMS: dict[tuple[str, str], Term] = {
    (section, name): term
    for section, terms in {
        "density": DENSITY,
        "families": FAMILIES,
        "samples": SAMPLES,
        "forecast": _FORECAST,
        "grid": _GRID,
        "strategy": _MONEY,
        "score_strategy": _MONEY,
        "energy_strategy": _MONEY,
        "buy_and_hold": _MONEY,
        "volatility_target": _MONEY,
    }.items()
    for name, term in terms.items()
}
SECTIONS: dict[str, tuple[str, str]] = {
    "density": ("Density of the market state", "How well the model knows ordinary conditions."),
    "families": (
        "Families side by side",
        "Densities of the same features, fitted to the same rows in different ways.",
    ),
    "samples": (
        "Samples",
        "States drawn from the densities, and how far they are from the data.",
    ),
    "forecast": ("Forecast of the next return", "One forecast per bar, scored when it came."),
    "grid": ("Choice of the rule", "Rules compared on rows that are not used to judge the winner."),
    "strategy": ("Strategy", "The chosen rule on rows that had no part in choosing it."),
    "score_strategy": (
        "Score strategy",
        "Long or short by the score of the next return, in the size of its confidence; its "
        "thresholds are set in advance, not chosen on these bars.",
    ),
    "energy_strategy": (
        "Energy strategy",
        "The market held, and less of it the stranger its state is against the twenty bars before; "
        "nothing in it is chosen on these bars.",
    ),
    "buy_and_hold": ("Buy and hold", "The market itself, held from the first bar to the last."),
    "volatility_target": (
        "Volatility target",
        "The market held in a size that keeps its recent volatility at the level of the training "
        "rows, with all of the equity at most.",
    ),
}
