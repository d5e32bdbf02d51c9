"""What the numbers on densities mean: of one family, of several side by side, of their samples."""

from densityjax.report.term import Term

_LOG_LIKELIHOOD = (
    "Mean log density of the {} market states, in the units of the features; higher is better, "
    "and only values for the same features compare."
)
DENSITY = {
    "log_likelihood_train": Term(
        "log likelihood, train", "nats", _LOG_LIKELIHOOD.format("training")
    ),
    "log_likelihood_validation": Term(
        "log likelihood, validation", "nats", _LOG_LIKELIHOOD.format("validation")
    ),
    "log_likelihood_test": Term("log likelihood, test", "nats", _LOG_LIKELIHOOD.format("test")),
    "log_likelihood_test_gaussian_mixture": Term(
        "log likelihood of a Gaussian mixture, test",
        "nats",
        "That of a mixture of up to sixteen normal laws, fitted to the same rows; the validation "
        "rows choose how many.",
    ),
    "log_likelihood_test_kernels": Term(
        "log likelihood of kernels, test",
        "nats",
        "That of a kernel density estimate of the same rows; the validation rows choose its width.",
    ),
    "bits_per_dimension_test": Term(
        "bits per dimension, test",
        "nats",
        "The test log likelihood with its sign turned, per feature and in bits; lower is better, "
        "and it too depends on the units of the features.",
    ),
    "alarm_rate_nominal": Term(
        "alarm rate, nominal",
        "fraction",
        "Share of bars like the validation rows that may raise an alarm, chosen before the run.",
    ),
    "alarm_rate_test": Term(
        "alarm rate, test",
        "fraction",
        "Share of test bars that did raise an alarm; markets drift, so it differs from the nominal "
        "rate, which holds for bars like the validation rows alone.",
    ),
}
FAMILIES = {}
for _family in ("flow", "score", "energy"):
    FAMILIES |= {
        f"log_likelihood_test_{_family}": Term(
            f"log likelihood, {_family}",
            "nats",
            f"Mean log density that the {_family} family gave to the test states; the families are "
            "densities of the same features, so higher is better.",
        ),
        f"median_log_density_test_{_family}": Term(
            f"median log density, {_family}",
            "nats",
            "The middle log density, which single far rows cannot move.",
        ),
        f"rank_correlation_{_family}": Term(
            f"rank correlation with the flow, {_family}",
            "ratio",
            "1 where the family orders the bars from ordinary to strange as the flow does.",
        ),
        f"alarm_rate_test_{_family}": Term(
            f"alarm rate, {_family}",
            "fraction",
            "Share of test bars on which this family raises an alarm, at the same nominal rate.",
        ),
        f"shared_alarms_{_family}": Term(
            f"shared alarms, {_family}",
            "fraction",
            "Of the bars that this family or the flow marks, the share that both mark.",
        ),
    }
SAMPLES = {"num_samples": Term("samples", "count", "States drawn from each density.")}
for _name, _words in (
    ("energy_distance", "energy distance"),
    ("sliced_wasserstein", "sliced Wasserstein distance"),
):
    SAMPLES |= {
        f"{_name}_{_family}": Term(
            f"{_words}, {_family}",
            "number",
            f"From states drawn by the {_family} family to rows of the training data, in standard "
            "deviations; below the floor they cannot be told from data by it.",
        )
        for _family in ("flow", "score", "energy")
    }
    SAMPLES |= {
        f"{_name}_test": Term(
            f"{_words}, test rows",
            "number",
            "From test rows to rows of the training data: how far the market itself has moved.",
        ),
        f"{_name}_floor": Term(
            f"{_words}, floor",
            "number",
            "What 95 % of pairs of random sets of the training rows stay below.",
        ),
    }
