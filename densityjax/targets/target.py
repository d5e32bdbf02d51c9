"""A known law: what a model, a loss or a sampler is checked against.

Functions act on ONE example; use `jax.vmap` for more. Densities are normalised, scores are closed
forms rather than autodiff, samplers are exact and independent. Parameters are checked and
factorised on the host, in float64, when a target is built.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from densityjax._typing import Array, ArrayLike, Key, NumpyArray


class Target(NamedTuple):
    """A law with exact density, sampler and score.

    Attributes:
      log_prob: [D] point to [] normalised log density, nats.
      sample: key to [D] point.
      score: [D] point to [D] gradient of `log_prob`.
      noised: sigma [] >= 0, which may be traced, to the `Target` of x + sigma eps, eps ~ N(0, I);
        None where that law has no closed form. A score of all noise levels is
        `lambda x, sigma: target.noised(sigma).score(x)`.
    """

    log_prob: Callable[[Array], Array]
    sample: Callable[[Key], Array]
    score: Callable[[Array], Array]
    noised: Callable[[ArrayLike], "Target"] | None = None


def cholesky_factors(name: str, covariance: ArrayLike) -> NumpyArray:
    """Returns lower factors [..., D, D]; `ValueError` unless symmetric and positive definite."""
    matrix = np.asarray(covariance, np.float64)
    is_square = matrix.ndim >= 2 and matrix.shape[-1] == matrix.shape[-2]
    if not is_square or not np.allclose(matrix, np.swapaxes(matrix, -1, -2)):
        raise ValueError(f"{name} must be symmetric, got shape {matrix.shape}")
    try:
        return np.linalg.cholesky(matrix)
    except np.linalg.LinAlgError:
        raise ValueError(f"{name} must be positive definite, got {matrix}") from None


def check_positive(**values: float) -> None:
    """Raises `ValueError` naming the first argument that is not positive and finite."""
    for name, value in values.items():
        if not 0.0 < value < np.inf:
            raise ValueError(f"{name} must be positive and finite, got {value}")
