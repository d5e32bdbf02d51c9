"""Regimes from a score: what it says of a row at some noise level, and when that changes.

At small noise sigma the score of a row is steep where its regime is narrow; at large noise it tends
to -x / (1 + sigma^2), which tells how far out the row lies, whatever its regime. Features are
clustered row by row, and since regimes last, the clusters' probabilities are filtered over the
past. Sizes at several levels nearly determine each other, which makes clusters of them too sure of
themselves: one level is the default. The log density of the same model gives values in which
`change_points` finds changes. The score of a row says where typical CURRENT rows lie: no feature
here is a forecast.
"""

from collections.abc import Callable

import chex
import jax
import jax.numpy as jnp
import numpy as np

from densityjax._typing import Array, ArrayLike, NumpyArray
from densityjax.regimes import change_points, latent_clusters

LEVELS = (3.0,)  # noise, in standard deviations of the rows: their modes are one, nearly


def score_features(
    score_fn: Callable[[Array, Array], Array], x: Array, *, sigmas: ArrayLike | tuple = LEVELS
) -> Array:
    """Computes `(1 + sigma^2) |s(x, sigma)| / sqrt(D)` of one row at each of L noise levels.

    The mean of its square over N(0, v I) is `v ((1 + sigma^2) / (v + sigma^2))^2`: 1 at any level
    for standard normal rows.

    Args:
      score_fn: (y [D], sigma []) to [D], score of standardised rows with noise of sd sigma; of a
        model, `functools.partial(model.standard_score, params)`.
      x: [D] one standardised row.
      sigmas: [L] noise levels, rising, positive, in standard deviations.

    Returns:
      [L] features, no unit, 0 or more.
    """
    levels = jnp.asarray(sigmas, x.dtype)
    chex.assert_rank([x, levels], 1)

    def one(sigma: Array) -> Array:
        return (1.0 + sigma**2) * jnp.sqrt(jnp.mean(score_fn(x, sigma) ** 2))

    return jax.vmap(one)(levels)


def fit_score_regimes(
    features: ArrayLike, *, num_regimes: int = 2, random_state: int = 0
) -> latent_clusters.LatentClusters:
    """Clusters score features of training rows, each row alone; regime 0 lies nearest the centre.

    Args:
      features: [N, L] of `score_features`, the last level the largest.
      num_regimes: number K of regimes, at least 2.
      random_state: seed of the starting points.

    Returns:
      The clusters, for `regime_probabilities`.

    Raises:
      ValueError: as `latent_clusters.fit_latent_clusters`.
    """
    rows = np.asarray(features, float)
    distance = rows[:, -1] if rows.ndim == 2 else rows
    return latent_clusters.fit_latent_clusters(
        rows, distance, num_regimes=num_regimes, halflife=0.0, random_state=random_state
    )


def regime_probabilities(
    clusters: latent_clusters.LatentClusters, features: ArrayLike, *, stay: float = 0.95
) -> NumpyArray:
    """Filters the probability of each regime given the features up to each row.

    A regime goes on with probability `stay` and else gives way to one drawn by the shares of the
    clusters, so that those shares are the start and the long run too.

    Args:
      clusters: of `fit_score_regimes`.
      features: [N, L] of `score_features`, rows in order of time.
      stay: probability that a regime goes on, in [0, 1); 0 takes each row alone.

    Returns:
      [N, K] probabilities; row t reads rows up to t.

    Raises:
      ValueError: if the features are not finite or not [N, L], or `stay` is not accepted.

    References:
      Hamilton, A new approach to the economic analysis of nonstationary time series, 1989, eq. 4.
    """
    if not 0.0 <= stay < 1.0:
        raise ValueError(f"stay is {stay}: accepted is 0 <= stay < 1")
    share = np.asarray(clusters.mixture.weights_)[clusters.order]
    likelihood = latent_clusters.regime_probabilities(clusters, features) / share
    found, before = np.empty_like(likelihood), share
    for t, row in enumerate(likelihood):
        joint = (stay * before + (1.0 - stay) * share) * row
        found[t] = before = joint / joint.sum()
    return found


def density_changes(
    log_prob: ArrayLike,
    train_log_prob: ArrayLike,
    *,
    hazard: float = 0.01,
    recent_within: int = 10,
) -> NumpyArray:
    """Computes the probability that the level of log densities changed a short while ago.

    Args:
      log_prob: [T] log densities of rows in order of time, nats.
      train_log_prob: [N] those of rows from before, which set centre and scale, nats.
      hazard: probability of a change before a row, in (0, 1).
      recent_within: rows that count as a short while.

    Returns:
      [T] probabilities; entry t reads rows up to t. The first `recent_within` follow a start, which
      is no news, and have it near 1.

    Raises:
      ValueError: if values are not finite, training ones have no spread, or an option is not
        accepted.

    References:
      Adams and MacKay, 2007, https://arxiv.org/abs/0710.3742.
    """
    values = change_points.standardised(log_prob, train_log_prob)
    found = change_points.run_lengths(
        change_points.NormalGammaPrior(), values, hazard=hazard, recent_within=recent_within
    )
    return np.asarray(found.recent)
