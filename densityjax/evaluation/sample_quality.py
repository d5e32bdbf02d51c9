"""Whether two samples come from one law: distances, and tests with their own null.

Rows are draws, columns coordinates; scale them first where their units differ. In expectation
every distance is 0 for one law. Cost and memory are N times M: some thousand rows are enough.
"""

from typing import NamedTuple

import numpy as np
from scipy import spatial, stats
from sklearn import ensemble, model_selection

from densityjax._typing import ArrayLike, NumpyArray

NUM_PROJECTIONS = 100  # directions of the sliced distance: its error is below that of the samples
NUM_TREES = 200  # of the forest that tries to tell two samples apart


class TwoSampleTest(NamedTuple):
    """Outcome of a test that two samples share a law.

    Attributes:
      statistic: the distance, or the accuracy of the classifier.
      p_value: probability under one law of a statistic at least as large.
    """

    statistic: float
    p_value: float


def energy_distance(x: ArrayLike, y: ArrayLike) -> float:
    """Computes `2 E|X - Y| - E|X - X'| - E|Y - Y'|`, without bias.

    Args:
      x: [N, D] draws of one law, N at least 2; [N] counts as [N, 1].
      y: [M, D] draws of the other.

    Returns:
      The distance in the unit of the rows; it may fall below 0 by its error.

    Raises:
      ValueError: if the samples are not finite or disagree in D.

    References:
      Szekely and Rizzo, Energy Statistics, 2013, eq. 5.
    """
    joined, size = _join(x, y)
    return _energy(spatial.distance.cdist(joined, joined), np.arange(len(joined)) < size)


def maximum_mean_discrepancy(
    x: ArrayLike, y: ArrayLike, *, bandwidth: float | None = None
) -> float:
    """Computes the squared discrepancy with a Gaussian kernel, without bias.

    Args:
      x: [N, D] draws of one law, N at least 2.
      y: [M, D] draws of the other.
      bandwidth: sd of the kernel, in the unit of the rows; None takes the median distance.

    Returns:
      The squared discrepancy, at most 2; it may fall below 0 by its error.

    Raises:
      ValueError: as `energy_distance`, or if `bandwidth` is not positive.

    References:
      Gretton et al., A Kernel Two-Sample Test, 2012, eq. 3.
    """
    joined, size = _join(x, y)
    kernel = _kernel(spatial.distance.cdist(joined, joined, "sqeuclidean"), bandwidth)
    return -_energy(kernel, np.arange(len(joined)) < size)


def wasserstein(x: ArrayLike, y: ArrayLike, *, random_state: int = 0) -> float:
    """Computes the Wasserstein-1 distance: exact in one dimension, sliced in more.

    Args:
      x: [N, D] draws of one law.
      y: [M, D] draws of the other.
      random_state: seed of the random directions of D > 1.

    Returns:
      The distance, or its mean over random directions, in the unit of the rows.

    Raises:
      ValueError: as `energy_distance`.

    References:
      Bonneel et al., Sliced and Radon Wasserstein Barycenters of Measures, 2015, eq. 9.
    """
    joined, size = _join(x, y)
    rng = np.random.default_rng(random_state)
    directions = rng.standard_normal((NUM_PROJECTIONS, joined.shape[1]))
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    lines = joined @ (directions.T if joined.shape[1] > 1 else np.ones((1, 1)))
    return float(np.mean([stats.wasserstein_distance(z[:size], z[size:]) for z in lines.T]))


def energy_test(
    x: ArrayLike, y: ArrayLike, *, num_permutations: int = 999, random_state: int = 0
) -> TwoSampleTest:
    """Tests the energy distance by permuting which sample each row belongs to.

    Args:
      x: [N, D] independent draws of one law.
      y: [M, D] independent draws of the other.
      num_permutations: random permutations P; p-values are multiples of 1 / (P + 1).
      random_state: seed of the permutations.

    Returns:
      A `TwoSampleTest`, exact for independent rows.

    Raises:
      ValueError: as `energy_distance`.

    References:
      Szekely and Rizzo, Testing for Equal Distributions in High Dimension, 2004, section 4.
    """
    joined, size = _join(x, y)
    distances = spatial.distance.cdist(joined, joined)
    is_x = np.arange(len(joined)) < size
    rng = np.random.default_rng(random_state)
    observed = _energy(distances, is_x)
    null = [_energy(distances, rng.permutation(is_x)) for _ in range(num_permutations)]
    above = int(np.sum(np.array(null) >= observed))
    return TwoSampleTest(observed, (1.0 + above) / (num_permutations + 1.0))


def classifier_test(
    x: ArrayLike, y: ArrayLike, *, num_folds: int = 5, random_state: int = 0
) -> TwoSampleTest:
    """Tests whether a random forest can tell the samples apart (C2ST).

    The larger sample is cut to the size of the smaller. The accuracy is that on rows the forest
    has not seen; a half is what a coin has.

    Args:
      x: [N, D] independent draws of one law.
      y: [M, D] independent draws of the other.
      num_folds: folds of the cross-validation.
      random_state: seed of the forest, the folds and the cut.

    Returns:
      A `TwoSampleTest` with the accuracy, and its p-value from the binomial law of coin flips.

    Raises:
      ValueError: as `energy_distance`, or if a sample has fewer rows than folds.

    References:
      Lopez-Paz and Oquab, Revisiting Classifier Two-Sample Tests, 2017, section 3.
    """
    joined, size = _join(x, y)
    rng = np.random.default_rng(random_state)
    each = min(size, len(joined) - size)
    if each < num_folds:
        raise ValueError(
            f"num_folds is {num_folds}: accepted is at most {each}, the rows there are"
        )
    first = rng.choice(size, each, replace=False)
    second = size + rng.choice(len(joined) - size, each, replace=False)
    rows, labels = joined[np.concatenate([first, second])], np.repeat([0, 1], each)
    forest = ensemble.RandomForestClassifier(
        NUM_TREES, min_samples_leaf=5, random_state=random_state
    )
    folds = model_selection.StratifiedKFold(num_folds, shuffle=True, random_state=random_state)
    told = model_selection.cross_val_predict(forest, rows, labels, cv=folds)
    right = int(np.sum(told == labels))
    return TwoSampleTest(right / len(rows), float(stats.binom.sf(right - 1, len(rows), 0.5)))


def _join(x: ArrayLike, y: ArrayLike) -> tuple[NumpyArray, int]:
    """Returns both samples in one array, and the number of rows of the first."""
    samples = []
    for name, values in (("x", x), ("y", y)):
        rows = np.asarray(values, float)
        rows = rows[:, None] if rows.ndim == 1 else rows
        if rows.ndim != 2 or len(rows) < 2 or not np.all(np.isfinite(rows)):
            raise ValueError(f"{name} must be [N, D], finite, with N >= 2, got {np.shape(values)}")
        samples.append(rows)
    if samples[0].shape[1] != samples[1].shape[1]:
        raise ValueError(
            f"x and y must have the same columns, got {samples[0].shape} and {samples[1].shape}"
        )
    return np.concatenate(samples), len(samples[0])


def _kernel(squares: NumpyArray, bandwidth: float | None) -> NumpyArray:
    """Returns the Gaussian kernel of squared distances."""
    if bandwidth is None:
        above = squares[np.triu_indices(len(squares), 1)]
        bandwidth = float(np.sqrt(np.median(above))) or 1.0  # more than half the rows are equal
    if not bandwidth > 0.0:
        raise ValueError(f"bandwidth must be positive, got {bandwidth}")
    return np.exp(-0.5 * squares / bandwidth**2)


def _energy(table: NumpyArray, is_x: NumpyArray) -> float:
    """Returns twice the mean of `table` between samples less its means within each."""
    within_x, within_y = table[np.ix_(is_x, is_x)], table[np.ix_(~is_x, ~is_x)]
    n, m = len(within_x), len(within_y)
    inner = (within_x.sum() - np.trace(within_x)) / (n * (n - 1))
    inner += (within_y.sum() - np.trace(within_y)) / (m * (m - 1))
    return float(2.0 * table[np.ix_(is_x, ~is_x)].mean() - inner)
