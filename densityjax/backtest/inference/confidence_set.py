"""The model confidence set: the models that the data cannot tell from the best one.

Losses L_i of k models on the same T bars; the worst model is taken out until the rest cannot be
told apart. The set holds the best model with the stated probability; uninformative data leave all.
"""

from typing import Literal, NamedTuple

import numpy as np

from densityjax._typing import ArrayLike, NumpyArray
from densityjax.backtest.inference.blocks import read_matrix
from densityjax.backtest.inference.bootstrap import stationary_bootstrap
from densityjax.backtest.inference.reality_check import automatic_block_length, row_counts


class ModelConfidenceSet(NamedTuple):
    """Outcome of the procedure.

    Attributes:
      p_values: [k] of each model; the set of confidence c are those above 1 - c.
      is_included: [k] whether a model is in the set.
      eliminated: [k - 1] models in the order in which they were taken out, the worst first.
    """

    p_values: NumpyArray
    is_included: NumpyArray
    eliminated: tuple[int, ...]


def model_confidence_set(
    losses: ArrayLike,
    *,
    confidence: float = 0.95,
    method: Literal["range", "max"] = "range",
    mean_block_length: float | None = None,
    num_draws: int = 1_000,
    random_state: int = 0,
    rows: ArrayLike | None = None,
) -> ModelConfidenceSet:
    """Finds the set of models that holds the best one with a given probability.

    'range' looks at the largest studentised difference of two models, 'max' at the largest
    studentised difference of one from the mean of those left. The same resampled paths serve all
    steps, and the p-value of a model is the largest seen up to its elimination.

    Args:
      losses: [T, k] losses of k >= 2 models, any unit, smaller is better; for returns take minus.
      confidence: probability that the best model is in the set, in (0, 1).
      method: 'range' or 'max'.
      mean_block_length: of the stationary bootstrap, in bars; None chooses.
      num_draws: number of resampled paths.
      random_state: seed.
      rows: [B, T] rows of the resampled paths; None draws them.

    Returns:
      The `ModelConfidenceSet`.

    Raises:
      ValueError: if there is one model only, a loss is not finite, or an option is out of range.

    References:
      Hansen, Lunde and Nason, The Model Confidence Set, 2011, https://doi.org/10.3982/ECTA5771.
    """
    values = read_matrix(losses, name="losses")
    if values.shape[1] < 2:
        raise ValueError("losses has one column: accepted are two models and more")
    if method not in ("range", "max") or not 0.0 < confidence < 1.0:
        raise ValueError(
            f"method is {method!r} and confidence {confidence}: accepted are 'range' or 'max', and "
            "0 < confidence < 1"
        )
    if rows is None:
        length = automatic_block_length(values) if mean_block_length is None else mean_block_length
        rows = stationary_bootstrap(
            len(values), mean_block_length=length, num_draws=num_draws, random_state=random_state
        )
    mean = values.mean(0)
    moved = row_counts(rows, len(values)) @ values / len(values) - mean
    eliminate = _worst_of_pairs if method == "range" else _worst_of_means
    left = np.arange(values.shape[1])
    p_values, eliminated, highest = np.ones(left.size), [], 0.0
    while left.size > 1:
        worst, p_value = eliminate(mean[left], moved[:, left])
        highest = max(highest, p_value)
        p_values[left[worst]] = highest
        eliminated.append(int(left[worst]))
        left = np.delete(left, worst)
    return ModelConfidenceSet(p_values, p_values > 1.0 - confidence, tuple(eliminated))


def _worst_of_pairs(mean: NumpyArray, moved: NumpyArray) -> tuple[int, float]:
    """Returns the model behind another one by most, and the p-value that all are equal."""
    gap = mean[:, None] - mean[None, :]
    highest, scale = np.zeros(len(moved)), np.zeros_like(gap)
    for i in range(mean.size):  # k rows at a time: no [B, k, k] table
        between = moved[:, [i]] - moved
        scale[i] = np.sqrt(np.mean(between**2, 0))
        scaled = between / np.where(scale[i] > 0.0, scale[i], np.inf)
        np.maximum(highest, np.abs(scaled).max(1), out=highest)
    scaled_gap = gap / np.where(scale > 0.0, scale, np.inf)
    worst = np.unravel_index(scaled_gap.argmax(), gap.shape)
    return int(worst[0]), float(np.mean(highest > scaled_gap[worst]))


def _worst_of_means(mean: NumpyArray, moved: NumpyArray) -> tuple[int, float]:
    """Returns the model above the mean loss by most, and the p-value that all are equal."""
    relative = moved - moved.mean(1, keepdims=True)
    scale = np.sqrt(np.mean(relative**2, 0))
    scale = np.where(scale > 0.0, scale, np.inf)
    statistic = (mean - mean.mean()) / scale
    worst = int(statistic.argmax())
    return worst, float(np.mean((relative / scale).max(1) > statistic[worst]))
