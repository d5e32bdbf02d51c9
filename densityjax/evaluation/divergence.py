"""How far a model's law is from a known one: `KL(p || q) = E_p[ln p(X) - ln q(X)]`, in nats.

The expectation is over draws of the KNOWN law p, so that a model that misses a part of it pays in
full; the truth never needs the model's sampler.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import numpy as np

from densityjax._typing import Array, ArrayLike, Key
from densityjax.targets import Target


class Divergence(NamedTuple):
    """A Monte Carlo estimate of a divergence.

    Attributes:
      value: mean log ratio, in nats; it may fall below 0 by its error.
      standard_error: of that mean, for independent draws.
      num_samples: number of draws.
    """

    value: float
    standard_error: float
    num_samples: int


def kl_divergence(log_prob_p: ArrayLike, log_prob_q: ArrayLike) -> Divergence:
    """Estimates `KL(p || q)` from log densities at independent draws of p.

    Args:
      log_prob_p: [N] log density of the known law at its own draws, in nats.
      log_prob_q: [N] log density of the model at the same points, in nats, in the same units.

    Returns:
      The `Divergence`; infinite where the model gives a draw no density.

    Raises:
      ValueError: if the shapes differ, there are fewer than two draws, or a value is NaN or +inf.

    References:
      Kullback and Leibler, On Information and Sufficiency, 1951, eq. 2.4.
    """
    p, q = np.asarray(log_prob_p, float), np.asarray(log_prob_q, float)
    if p.ndim != 1 or p.shape != q.shape or p.size < 2:
        raise ValueError(
            f"log_prob_p and log_prob_q must be [N] with N >= 2, got {p.shape} and {q.shape}"
        )
    if not np.all(np.isfinite(p)) or np.any(np.isnan(q) | (q == np.inf)):
        raise ValueError("log densities must be finite, but for -inf in log_prob_q")
    if np.any(q == -np.inf):
        return Divergence(np.inf, np.nan, p.size)
    ratio = p - q
    return Divergence(float(ratio.mean()), float(ratio.std(ddof=1) / np.sqrt(p.size)), p.size)


def kl_to_model(
    key: Key, target: Target, log_prob: Callable[[Array], Array], *, num_samples: int = 10_000
) -> Divergence:
    """Estimates the divergence of a model from a known law, with draws of the law.

    Args:
      key: a typed random key.
      target: the known law p.
      log_prob: [D] point to [] normalised log density of the model q, in nats.
      num_samples: number N of draws.

    Returns:
      The `Divergence` KL(p || q).

    Raises:
      ValueError: as `kl_divergence`.
    """

    def both(sample_key: Key) -> tuple[Array, Array]:
        x = target.sample(sample_key)
        return target.log_prob(x), log_prob(x)

    p, q = jax.jit(jax.vmap(both))(jax.random.split(key, num_samples))
    return kl_divergence(p, q)
