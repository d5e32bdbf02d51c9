"""Plain densities to hold a learnt one against on the same rows: Gaussian mixture and kernels.

Both work on columns divided by their standard deviation, take their one setting from validation
rows, and state the log density in the unit of the rows, nats.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from sklearn.mixture import GaussianMixture
from sklearn.neighbors import KernelDensity

from densityjax._typing import ArrayLike, NumpyArray

NUM_COMPONENTS = (1, 2, 4, 8, 16)
MAX_CHOOSERS = 2_000  # validation rows, evenly spread, that choose the setting
BANDWIDTHS = tuple(np.geomspace(0.05, 1.5, 8))  # in standard deviations of a column
MAX_KERNELS = 4_000  # rows that carry a kernel: the cost is that many distances a scored row
RIDGE = 1e-6  # added to variances of standardised columns, against components on a single point


class DensityBaseline(NamedTuple):
    """A density fitted by scikit-learn.

    Attributes:
      log_prob: rows [N, D] -> [N] log density in nats, in the unit of the rows.
      setting: number of components, or bandwidth in standard deviations.
      validation_log_likelihood: mean log density of the rows that chose it, nats.
    """

    log_prob: Callable[[ArrayLike], NumpyArray]
    setting: float
    validation_log_likelihood: float


def gaussian_mixture(
    train: ArrayLike,
    validation: ArrayLike,
    *,
    num_components: Sequence[int] = NUM_COMPONENTS,
    random_state: int = 0,
) -> DensityBaseline:
    """Fits Gaussian mixtures of full covariances and keeps the best on the validation rows.

    Args:
      train: [N, D] rows to learn from.
      validation: [V, D] rows that choose the number of components.
      num_components: numbers to try; those above N are left out.
      random_state: seed of the starting points.

    Returns:
      The `DensityBaseline`.

    Raises:
      ValueError: if rows are not finite, of different columns, or constant in a column.
    """
    train, validation = _checked(train, validation)

    def fit(rows: NumpyArray, number: Any) -> Any:
        mixture = GaussianMixture(int(number), reg_covar=RIDGE, random_state=random_state)
        return mixture.fit(rows)

    accepted = [number for number in num_components if number <= len(train)]
    return _best(train, validation, fit, accepted)


def kernel_density(
    train: ArrayLike,
    validation: ArrayLike,
    *,
    bandwidths: Sequence[float] = BANDWIDTHS,
    random_state: int = 0,
) -> DensityBaseline:
    """Puts a normal kernel on training rows and keeps the best width on the validation rows.

    Args:
      train: [N, D] rows to learn from; of more than `MAX_KERNELS` a random part is used.
      validation: [V, D] rows that choose the width.
      bandwidths: widths to try, in standard deviations of each column.
      random_state: seed of that part.

    Returns:
      The `DensityBaseline`.

    Raises:
      ValueError: if rows are not finite, of different columns, or constant in a column.
    """
    train, validation = _checked(train, validation)
    if len(train) > MAX_KERNELS:
        rng = np.random.default_rng(random_state)
        train = train[rng.choice(len(train), MAX_KERNELS, replace=False)]

    def fit(rows: NumpyArray, width: Any) -> Any:
        return KernelDensity(bandwidth=float(width)).fit(rows)

    return _best(train, validation, fit, bandwidths)


def _checked(train: ArrayLike, validation: ArrayLike) -> tuple[NumpyArray, NumpyArray]:
    """Returns both as finite float64 rows of the same columns."""
    rows = [np.asarray(part, float) for part in (train, validation)]
    for name, part in zip(("train", "validation"), rows, strict=True):
        if part.ndim != 2 or part.size == 0 or part.shape[1] != rows[0].shape[1]:
            raise ValueError(
                f"{name} has shape {part.shape}: accepted are rows [N, D] with N >= 1, of the same "
                "columns in train and validation"
            )
        if not np.isfinite(part).all():
            raise ValueError(f"{name} must be finite: {np.sum(~np.isfinite(part))} values are not")
    constant = np.flatnonzero(np.ptp(rows[0], axis=0) == 0)
    if constant.size:
        raise ValueError(f"train is constant in column {constant[0]}: it has no density")
    return rows[0], rows[1]


def _best(
    train: NumpyArray,
    validation: NumpyArray,
    fit: Callable[[NumpyArray, Any], Any],
    settings: Sequence[float],
) -> DensityBaseline:
    """Fits standardised rows with each setting; keeps the one that validation rows like best."""
    location, scale = train.mean(axis=0), train.std(axis=0)
    log_volume = np.log(scale).sum()

    def standard(rows: ArrayLike) -> NumpyArray:
        return (np.asarray(rows, float) - location) / scale

    choosers = standard(validation[:: -(-len(validation) // MAX_CHOOSERS)])
    models = [fit(standard(train), setting) for setting in settings]
    means = [model.score_samples(choosers).mean() for model in models]
    best = int(np.argmax(means))

    def log_prob(rows: ArrayLike) -> NumpyArray:
        return models[best].score_samples(standard(rows)) - log_volume

    return DensityBaseline(log_prob, float(settings[best]), float(means[best] - log_volume))
