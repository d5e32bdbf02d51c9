"""Several families on the same states: do they agree, and do their samples look like the data?"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from densityjax import pipeline
from densityjax._typing import NumpyArray
from densityjax.estimators import TabularDensity
from densityjax.evaluation import density_scores, sample_quality
from densityjax.experiment.frames import part, values

MOST_SAMPLES = 1000  # rows that are compared: cost and memory grow with their square
NUM_PAIRS = 20  # of two random halves of the data, for the distances between equals
FLOOR_QUANTILE = 0.95  # of the distances between equals
MAX_SEED = 2**31


def densities(fitted: pipeline.Pipeline) -> dict[str, TabularDensity]:
    """Returns family -> its density of the state, the flow first."""
    return {"flow": fitted.density, **fitted.companions}


def agreement_metrics(
    frame: pd.DataFrame, companions: Mapping[str, TabularDensity], alarm_rate: float
) -> dict[str, Any]:
    """Compares the log densities of the families on the test rows with those of the flow.

    Args:
      frame: of a reading, with the column `split`.
      companions: family -> its density.
      alarm_rate: p-value at or below which a state is marked, a probability.

    Returns:
      The section `families`: name -> number.
    """
    test = part(frame, "test")
    flow, is_alarm = values(test, "log_prob"), values(test, "p_value") <= alarm_rate
    found: dict[str, Any] = {
        "log_likelihood_test_flow": density_scores.mean_log_likelihood(flow),
        "median_log_density_test_flow": float(np.median(flow)),
    }
    for family in companions:
        other = values(test, f"log_prob_{family}")
        is_other_alarm = values(test, f"p_value_{family}") <= alarm_rate
        num_either = int(np.sum(is_alarm | is_other_alarm))
        shared = np.sum(is_alarm & is_other_alarm) / num_either if num_either else np.nan
        found |= {
            f"log_likelihood_test_{family}": density_scores.mean_log_likelihood(other),
            f"median_log_density_test_{family}": float(np.median(other)),
            f"rank_correlation_{family}": _rank_correlation(flow, other),
            f"alarm_rate_test_{family}": float(is_other_alarm.mean()),
            f"shared_alarms_{family}": (shared, "neither family raised an alarm"),
        }
    return found


def _rank_correlation(x: NumpyArray, y: NumpyArray) -> float:
    return float(np.corrcoef(stats.rankdata(x), stats.rankdata(y))[0, 1])


def sample_metrics(
    fitted: pipeline.Pipeline, states: pd.DataFrame, split: NumpyArray, seed: int
) -> tuple[pd.DataFrame, dict[str, Any]]:
    """Draws from every family and measures how far the draws are from training rows.

    Distances are in standard deviations of the training rows. The floor is what 95 % of pairs of
    random, disjoint sets of as many training rows stay below: draws below it cannot be told from
    data by that distance.

    Args:
      fitted: the models.
      states: features that the densities were fitted to, [N] rows.
      split: [N] part of each row.
      seed: of draws and choices.

    Returns:
      Frame of rows (states, and the column `source`: 'data' or a family), and the section
      `samples`: name -> number.
    """
    rows = {name: states[split == name].to_numpy(np.float64) for name in ("train", "test")}
    train = rows["train"]
    num = min(MOST_SAMPLES, len(train) // 2)
    rng = np.random.default_rng(seed)
    drawn = {
        family: density.sample(num, random_state=int(rng.integers(MAX_SEED)))
        for family, density in densities(fitted).items()
    }
    location, scale = train.mean(0), train.std(0)
    kept = rng.permutation(len(train))[:num]
    data = (train[kept] - location) / scale
    test = rng.permutation(len(rows["test"]))[:num]
    sets = {**drawn, "test": rows["test"][test]}
    found: dict[str, Any] = {"num_samples": num}
    floor = _distances_between_equals((train - location) / scale, num, rng)
    for name, distance in _DISTANCES.items():
        found |= {
            f"{name}_{which}": distance((each - location) / scale, data)
            for which, each in sets.items()
        }
        found[f"{name}_floor"] = float(np.quantile(floor[name], FLOOR_QUANTILE))
    frames = [
        pd.DataFrame(each, columns=states.columns).assign(source=source)
        for source, each in {"data": train[kept], **drawn}.items()
    ]
    return pd.concat(frames, ignore_index=True), found


_DISTANCES = {
    "energy_distance": sample_quality.energy_distance,
    "sliced_wasserstein": sample_quality.wasserstein,
}


def _distances_between_equals(
    train: NumpyArray, num: int, rng: np.random.Generator
) -> dict[str, list[float]]:
    """Returns distances between random disjoint sets of `num` rows of the data."""
    found: dict[str, list[float]] = {name: [] for name in _DISTANCES}
    for _ in range(NUM_PAIRS):
        order = rng.permutation(len(train))
        for name, distance in _DISTANCES.items():
            found[name].append(distance(train[order[:num]], train[order[num : 2 * num]]))
    return found
