"""How far chains have come: rank-normalised split R-hat, bulk and tail ESS, Monte Carlo error.

Host code in float64. Chains are [C, N] or [C, N, ...]: C chains of N samples of each quantity, as
`jax.vmap` over `chain.run` stacks them; results have the remaining shape. Every chain is split in
halves first, so that one chain is enough and a trend shows. Vehtari et al., Rank-normalization,
folding, and localization: an improved R-hat, 2021 (https://arxiv.org/abs/1903.08008).
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from scipy import special, stats

from densityjax._typing import ArrayLike, NumpyArray

MIN_SAMPLES = 8  # of a chain: two halves with a variance and a few lags each
TAILS = (0.05, 0.95)  # probabilities whose quantiles a tail ESS looks at


class Summary(NamedTuple):
    """Diagnostics of chains; every field has the shape of one sample.

    Attributes:
      mean: average over all chains, units of the samples.
      sd: standard deviation over all chains, units of the samples.
      mean_error: Monte Carlo standard error of the mean, units of the samples.
      r_hat: rank-normalised split R-hat, the larger of bulk and folded; above 1.01 is too much.
      bulk_ess: effective number of samples for the centre; 100 a chain are wanted.
      tail_ess: effective number of samples for the 5 and 95 percent quantiles, the lesser.
      acceptance_rate: mean acceptance over chains, in [0, 1]; None where it was not given.
    """

    mean: NumpyArray
    sd: NumpyArray
    mean_error: NumpyArray
    r_hat: NumpyArray
    bulk_ess: NumpyArray
    tail_ess: NumpyArray
    acceptance_rate: float | None


def _checked(chains: ArrayLike) -> NumpyArray:
    array = np.asarray(chains, np.float64)
    if array.ndim < 2 or array.shape[0] < 1 or array.shape[1] < MIN_SAMPLES:
        raise ValueError(
            f"chains must be [C, N, ...] with N >= {MIN_SAMPLES}, got shape {array.shape}"
        )
    if not np.isfinite(array).all():
        raise ValueError(f"chains must be finite, got {np.sum(~np.isfinite(array))} that are not")
    return array


def _per_quantity(function: Callable[[NumpyArray], float], chains: ArrayLike) -> NumpyArray:
    """Applies a function of [C, N] to every quantity of [C, N, ...]."""
    array = _checked(chains)
    columns = array.reshape(*array.shape[:2], -1)
    values = [function(columns[..., i]) for i in range(columns.shape[-1])]
    return np.reshape(values, array.shape[2:])


def _split(chains: NumpyArray) -> NumpyArray:
    """Returns [2 C, N // 2] halves; the middle sample of an odd chain is left out."""
    half = chains.shape[1] // 2
    return np.concatenate([chains[:, :half], chains[:, -half:]])


def _normal_scores(chains: NumpyArray) -> NumpyArray:
    ranks = stats.rankdata(chains, axis=None).reshape(chains.shape)  # ties share their mean rank
    return special.ndtri((ranks - 0.375) / (chains.size + 0.25))


def _plain_r_hat(chains: NumpyArray) -> float:
    num_samples = chains.shape[1]
    within = chains.var(axis=1, ddof=1).mean()
    between = chains.mean(axis=1).var(ddof=1)
    if not np.ptp(chains, axis=1).any():  # chains that never moved; a variance may round above 0
        return np.nan if np.ptp(chains) == 0.0 else np.inf
    return float(np.sqrt((num_samples - 1) / num_samples + between / within))


def _plain_ess(chains: NumpyArray) -> float:
    """Effective sample size by Geyer's initial monotone sequence; NaN of constant chains."""
    num_chains, num_samples = chains.shape
    centred = chains - chains.mean(axis=1, keepdims=True)
    size = 2 ** (2 * num_samples - 1).bit_length()  # padded, so that no lag wraps around
    power = np.abs(np.fft.rfft(centred, size, axis=1)) ** 2
    covariance = np.fft.irfft(power, size, axis=1)[:, :num_samples].mean(axis=0) / num_samples
    within = covariance[0] * num_samples / (num_samples - 1.0)
    total = covariance[0]
    if num_chains > 1:
        total += chains.mean(axis=1).var(ddof=1)
    if np.ptp(chains) == 0.0:  # a variance may round above 0
        return np.nan
    correlation = 1.0 - (within - covariance) / total
    correlation[0] = 1.0
    pairs = correlation[: num_samples // 2 * 2].reshape(-1, 2).sum(axis=1)
    ends = np.flatnonzero(pairs <= 0.0)
    positive = pairs[: ends[0]] if ends.size else pairs
    time = -1.0 + 2.0 * np.minimum.accumulate(positive).sum()
    num_total = num_chains * num_samples
    return float(num_total / max(time, 1.0 / np.log10(num_total)))  # cap of antithetic chains


def split_r_hat(chains: ArrayLike) -> NumpyArray:
    """Computes rank-normalised split R-hat: one where all halves of all chains look alike.

    Args:
      chains: [C, N] or [C, N, ...] samples, any unit.

    Returns:
      [...] the larger of two: of the samples' ranks, and of the ranks of their distances from the
      median, which see chains that differ in scale alone. NaN of constant chains.

    Raises:
      ValueError: if the shape is not [C, N, ...], N is below 8 or a sample is not finite.
    """

    def of_one(columns: NumpyArray) -> float:
        halves = _split(columns)
        folded = np.abs(halves - np.median(halves))
        values = [_plain_r_hat(_normal_scores(each)) for each in (halves, folded)]
        return max((value for value in values if not np.isnan(value)), default=np.nan)

    return _per_quantity(of_one, chains)


def mean_ess(chains: ArrayLike) -> NumpyArray:
    """Returns [...] the effective sample size for the mean of [C, N, ...] chains, not ranked."""
    return _per_quantity(lambda columns: _plain_ess(_split(columns)), chains)


def bulk_ess(chains: ArrayLike) -> NumpyArray:
    """Computes the effective sample size of the ranks: for the centre, whatever the tails.

    Args:
      chains: [C, N] or [C, N, ...] samples, any unit.

    Returns:
      [...] number of independent samples worth as much; `N C (1 - rho) / (1 + rho)` of an AR(1).

    Raises:
      ValueError: if the shape is not [C, N, ...], N is below 8 or a sample is not finite.
    """
    return _per_quantity(lambda columns: _plain_ess(_normal_scores(_split(columns))), chains)


def tail_ess(chains: ArrayLike) -> NumpyArray:
    """Computes the lesser effective sample size of being below the 5 and 95 percent quantiles.

    Args:
      chains: [C, N] or [C, N, ...] samples, any unit.

    Returns:
      [...] number of independent samples worth as much, for the tails.

    Raises:
      ValueError: if the shape is not [C, N, ...], N is below 8 or a sample is not finite.
    """

    def of_one(columns: NumpyArray) -> float:
        halves = _split(columns)
        quantiles = np.quantile(halves, TAILS)
        return min(_plain_ess((halves <= each).astype(np.float64)) for each in quantiles)

    return _per_quantity(of_one, chains)


def summarise(chains: ArrayLike, *, acceptance_rate: ArrayLike | None = None) -> Summary:
    """Computes all diagnostics of a set of chains.

    Args:
      chains: [C, N] or [C, N, ...] samples, any unit.
      acceptance_rate: [C] or [] of each chain, `Chain.mean_info.acceptance_rate`, or None.

    Returns:
      The `Summary`.

    Raises:
      ValueError: if the shape is not [C, N, ...], N is below 8 or a sample is not finite.
    """
    array = _checked(chains)
    sd = array.std(axis=(0, 1), ddof=1)
    return Summary(
        mean=array.mean(axis=(0, 1)),
        sd=sd,
        mean_error=sd / np.sqrt(mean_ess(array)),
        r_hat=split_r_hat(array),
        bulk_ess=bulk_ess(array),
        tail_ess=tail_ess(array),
        acceptance_rate=None if acceptance_rate is None else float(np.mean(acceptance_rate)),
    )
