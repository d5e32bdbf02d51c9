"""Families side by side: agreement, and distances of samples against those between equals."""

import types
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from densityjax import pipeline
from densityjax.experiment import families

COVARIANCE = np.array([[4.0, 0.9], [0.9, 0.25]])


class Law:
    """A density that draws from a normal law."""

    def __init__(self, mean: float) -> None:
        self.mean = mean

    def sample(self, n: int, random_state: int) -> np.ndarray:
        law = stats.multivariate_normal([self.mean, 0.0], COVARIANCE)
        return law.rvs(n, random_state=random_state)


def fitted_laws(**companions: float) -> pipeline.Pipeline:
    laws: Any = {family: Law(mean) for family, mean in companions.items()}
    flow: Any = Law(0.0)
    forecaster: Any = types.SimpleNamespace()
    return pipeline.Pipeline("flow", flow, forecaster, laws)


@pytest.fixture(scope="module")
def compared():
    rows = stats.multivariate_normal([0.0, 0.0], COVARIANCE).rvs(1600, random_state=7)
    states = pd.DataFrame(rows, columns=["wide", "narrow"])
    states.loc[1200:, "wide"] += 4.0  # the market moves by two standard deviations
    split = np.repeat(["train", "test"], [1200, 400])
    return states, families.sample_metrics(fitted_laws(score=2.0), states, split, seed=3)


def test_draws_of_the_law_stay_below_the_floor_and_others_do_not(compared):
    _, (_, found) = compared
    assert found["num_samples"] == 600
    for name in ("energy_distance", "sliced_wasserstein"):
        # The floor is a 95 % quantile of equals, as the draws of the true law are to the data.
        assert found[f"{name}_flow"] < 1.5 * found[f"{name}_floor"]
        assert found[f"{name}_score"] > 3.0 * found[f"{name}_floor"]
        assert found[f"{name}_test"] > 1.5 * found[f"{name}_score"]


def test_the_energy_distance_of_a_shift_is_that_of_the_laws_in_standard_deviations():
    rows = np.random.default_rng(0).standard_normal((4000, 1)) * 5.0
    states, split = pd.DataFrame(rows, columns=["x"]), np.repeat("train", 4000)
    split[-400:] = "test"

    class Shifted:
        def sample(self, n: int, random_state: int) -> np.ndarray:
            return stats.norm(5.0, 5.0).rvs((n, 1), random_state=random_state)

    density: Any = Shifted()
    forecaster: Any = None
    _, found = families.sample_metrics(
        pipeline.Pipeline("flow", density, forecaster), states, split, seed=0
    )
    # E|X - Y| of N(0, 1) and N(1, 1), less that within each.
    between = stats.foldnorm(1.0 / np.sqrt(2.0), scale=np.sqrt(2.0)).mean()
    exact = 2.0 * between - 2.0 * 2.0 / np.sqrt(np.pi)
    assert found["energy_distance_flow"] == pytest.approx(exact, abs=0.09)  # 1,000 rows: sd .03
    assert found["sliced_wasserstein_flow"] == pytest.approx(1.0, abs=0.18)  # sd .06


def test_the_table_holds_the_data_and_every_family(compared):
    states, (table, _) = compared
    assert list(table.columns) == ["wide", "narrow", "source"]
    assert table["source"].value_counts().to_dict() == {"data": 600, "flow": 600, "score": 600}
    data = table.loc[table["source"] == "data", ["wide", "narrow"]].to_numpy()
    assert set(map(tuple, data)) <= set(map(tuple, states.iloc[:1200].to_numpy()))


def test_agreement_counts_ranks_and_shared_alarms():
    frame = pd.DataFrame(
        {
            "split": ["train"] + ["test"] * 4,
            "log_prob": [9.0, 1.0, 2.0, 3.0, 4.0],
            "p_value": [0.0, 0.01, 0.01, 0.5, 0.5],
            "log_prob_score": [9.0, 2.0, 1.0, 3.0, 10.0],
            "p_value_score": [0.0, 0.01, 0.02, 0.01, 0.9],
        }
    )
    companions: Any = {"score": None}
    found = families.agreement_metrics(frame, companions, alarm_rate=0.01)
    assert found["log_likelihood_test_flow"] == 2.5
    assert found["log_likelihood_test_score"] == 4.0
    assert found["median_log_density_test_score"] == 2.5
    assert found["rank_correlation_score"] == pytest.approx(0.8)
    assert found["alarm_rate_test_score"] == 0.5
    assert found["shared_alarms_score"][0] == pytest.approx(1 / 3)
