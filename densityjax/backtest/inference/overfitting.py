"""The best of many rules: what luck alone would show, and how often the choice fails out of sample.

Sharpe ratios here are PER BAR unless a name says annual. Shapes: T bars, S blocks, N rules.
"""

import itertools
import math
from collections.abc import Iterator
from typing import Literal, NamedTuple

import numpy as np
from scipy import stats

from densityjax._typing import ArrayLike, NumpyArray
from densityjax.backtest.inference.blocks import (
    BlockSums,
    as_blocks,
    read_matrix,
    sharpe_of_sums,
)
from densityjax.backtest.inference.sharpe import (
    SharpeMoments,
    VarianceAt,
    probabilistic_sharpe_ratio,
)

CHUNK_VALUES = 2**22  # Sharpe ratios computed together: 32 MiB an array


class Overfitting(NamedTuple):
    """Outcome of combinatorially symmetric cross-validation over M halves of the blocks.

    Attributes:
      probability: PBO, the share of halves whose best rule is at or below the median on the other.
      probability_of_loss: share of halves whose best rule loses on the other.
      slope: of the best rule's Sharpe ratio on the other half over that on its own, least squares;
        below zero where one rule is often best: what one half has of its gains, the other lacks.
      logits: [M] log odds of the rank of the best rule on the other half.
      best: [M] which rule was best on each half.
      in_sample: [M] its Sharpe ratio there, per bar.
      out_of_sample: [M] its Sharpe ratio on the other half, per bar.
    """

    probability: float
    probability_of_loss: float
    slope: float
    logits: NumpyArray
    best: NumpyArray
    in_sample: NumpyArray
    out_of_sample: NumpyArray


def expected_max_sharpe(num_trials: float, sharpe_std: float) -> float:
    """Returns what the best of many rules without skill would show.

    sd [(1 - c) Phi^-1(1 - 1 / K) + c Phi^-1(1 - 1 / (K e))], with c = .5772 Euler's constant.

    Args:
      num_trials: rules tried, K >= 1; one rule has no choice to be lucky by. An effective number
        need not be whole.
      sharpe_std: standard deviation of their Sharpe ratios, in any one unit.

    Returns:
      The expected maximum, in the unit of `sharpe_std`, never below 0.

    Raises:
      ValueError: if `num_trials` is below 1 or `sharpe_std` is negative.

    References:
      Bailey and Lopez de Prado, The Deflated Sharpe Ratio, 2014, eq. 1.
    """
    if num_trials < 1 or sharpe_std < 0:
        raise ValueError(
            f"num_trials is {num_trials} and sharpe_std {sharpe_std}: accepted are >= 1 and >= 0"
        )
    if num_trials == 1:
        return 0.0
    first, second = stats.norm.ppf([1.0 - 1.0 / num_trials, 1.0 - 1.0 / (num_trials * math.e)])
    expected = (1.0 - np.euler_gamma) * first + np.euler_gamma * second
    # The formula is one of many trials: between one and about 1.3 of them it falls below zero.
    return max(float(sharpe_std * expected), 0.0)


def deflated_sharpe_ratio(
    returns: ArrayLike | SharpeMoments,
    *,
    num_trials: float,
    sharpe_variance: float,
    variance_at: VarianceAt = "estimate",
    autocorrelation: float | None = 0.0,
) -> float:
    """Returns the probability that the best of many trials beats the luck of that many.

    It is the probabilistic Sharpe ratio against `expected_max_sharpe` of the trials.

    Args:
      returns: [T] simple returns of the chosen rule, fractions, or their `SharpeMoments`.
      num_trials: rules tried, all of them (`GridResult.num_trials`), >= 1.
      sharpe_variance: variance over the trials of their Sharpe ratios PER BAR
        (`GridResult.sharpe_variance`).
      variance_at: 'estimate' or 'null', as in `probabilistic_sharpe_ratio`.
      autocorrelation: first autocorrelation of the returns; None estimates it.

    Returns:
      The probability; below .95 the winner is not told from luck at the 5 % level.

    Raises:
      ValueError: if an argument is out of range.

    References:
      Bailey and Lopez de Prado, The Deflated Sharpe Ratio, 2014, eq. 2.
    """
    if not sharpe_variance >= 0.0:
        raise ValueError(f"sharpe_variance is {sharpe_variance}: accepted are numbers >= 0")
    return probabilistic_sharpe_ratio(
        returns,
        benchmark_sharpe=expected_max_sharpe(num_trials, math.sqrt(sharpe_variance)),
        variance_at=variance_at,
        autocorrelation=autocorrelation,
    )


def minimum_backtest_length(num_trials: float, annual_sharpe: float) -> float:
    """Returns how many years it takes for the luckiest of K rules to stay below a Sharpe ratio.

    Args:
      num_trials: rules tried, K >= 1.
      annual_sharpe: the annual Sharpe ratio, positive, that luck shall not show.

    Returns:
      `(E[max of K standard normals] / annual_sharpe)^2`, years.

    Raises:
      ValueError: if an argument is out of range.

    References:
      Bailey, Borwein, Lopez de Prado and Zhu, Pseudo-Mathematics and Financial Charlatanism, 2014,
      thm. 1.
    """
    if not annual_sharpe > 0.0:
        raise ValueError(f"annual_sharpe is {annual_sharpe}: accepted are positive numbers")
    return (expected_max_sharpe(num_trials, 1.0) / annual_sharpe) ** 2


def effective_number_of_trials(
    returns: ArrayLike, *, method: Literal["effective_rank", "mean_correlation"] = "effective_rank"
) -> float:
    """Returns how many independent rules N correlated ones amount to.

    'effective_rank' is `exp(-sum p_i log p_i)` of the eigenvalues of their correlation matrix over
    its trace; at most the number of rows less one. 'mean_correlation' is `m + (1 - m) N`, with m
    the mean correlation of two rules, kept between 1 and N.

    Args:
      returns: [T, N] simple returns of the rules, or [S, N] sums over blocks of equal length.
      method: 'effective_rank' or 'mean_correlation'.

    Returns:
      The number, from 1 to N. Rules that never move do not count; NaN where none moves.

    Raises:
      ValueError: if the method is unknown or the shape is not [T, N].

    References:
      Roy and Vetterli, The Effective Rank, 2007; Bailey and Lopez de Prado, The Deflated Sharpe
      Ratio, 2014, appendix 3.
    """
    if method not in ("effective_rank", "mean_correlation"):
        raise ValueError(f"method is {method!r}: accepted are effective_rank, mean_correlation")
    values = read_matrix(returns)
    centred = values - values.mean(0)
    size = np.sqrt(np.sum(centred**2, 0))
    unit = centred[:, size > 0.0] / size[size > 0.0]
    num_rules = unit.shape[1]
    if num_rules < 2:
        return 1.0 if num_rules else math.nan
    if method == "mean_correlation":
        total = np.sum(unit.sum(1) ** 2)
        mean = (total - num_rules) / (num_rules * (num_rules - 1.0))
        return float(np.clip(mean + (1.0 - mean) * num_rules, 1.0, num_rules))
    gram = unit @ unit.T if len(unit) < num_rules else unit.T @ unit
    share = np.clip(np.linalg.eigvalsh(gram), 0.0, None)
    share = share[share > 0.0] / share.sum()
    return float(np.exp(-np.sum(share * np.log(share))))


def probability_of_backtest_overfitting(
    returns: ArrayLike | BlockSums, *, num_blocks: int = 16
) -> Overfitting:
    """Returns how often the rule that is best on half of the time is below the median on the rest.

    All halves of the blocks are looked at. With Z the [M, S] matrix of halves, Sharpe ratios on
    them come from the three products of Z with numbers of bars, sums and sums of squares, in chunks
    of halves, so that 10,000 rules need no more than their block sums. A rule that never moves on a
    half is the worst there; equal ratios share their ranks.

    Args:
      returns: [T, N] simple returns of N >= 2 rules, fractions, or their `BlockSums`.
      num_blocks: S, even; that of given `BlockSums` is theirs.

    Returns:
      The `Overfitting`; about one half for rules without skill.

    Raises:
      ValueError: if the number of blocks is odd, there is one rule only, or none moves on a half.

    References:
      Bailey, Borwein, Lopez de Prado and Zhu, The Probability of Backtest Overfitting, 2017,
      section 2.1, https://doi.org/10.21314/JCF.2016.322.
    """
    blocks = as_blocks(returns, num_blocks)
    size, num_rules = blocks.returns.shape
    if size % 2 or num_rules < 2:
        raise ValueError(
            f"{size} blocks of {num_rules} rules: accepted are an even number and >= 2"
        )
    parts = [_choose(blocks, halves) for halves in _halves(size, max(CHUNK_VALUES // num_rules, 1))]
    best, in_sample, out_of_sample, rank = (
        np.concatenate(part) for part in zip(*parts, strict=True)
    )
    logits = np.log(rank) - np.log(num_rules + 1.0 - rank)
    centred = in_sample - in_sample.mean()
    spread = centred @ centred
    is_defined = np.isfinite(out_of_sample).all() and spread > 0.0
    return Overfitting(
        probability=float(np.mean(logits <= 0.0)),
        probability_of_loss=float(np.mean(~(out_of_sample >= 0.0))),
        slope=float(centred @ out_of_sample / spread) if is_defined else math.nan,
        logits=logits,
        best=best,
        in_sample=in_sample,
        out_of_sample=out_of_sample,
    )


def _halves(num_blocks: int, chunk: int) -> Iterator[NumpyArray]:
    """Yields [m, S] chunks of 0/1 rows, one for each choice of half of the blocks."""
    choices = itertools.combinations(range(num_blocks), num_blocks // 2)
    while rows := list(itertools.islice(choices, chunk)):
        halves = np.zeros((len(rows), num_blocks))
        np.put_along_axis(halves, np.asarray(rows), 1.0, axis=1)
        yield halves


def _choose(blocks: BlockSums, halves: NumpyArray) -> tuple[NumpyArray, ...]:
    """Returns for each half the best rule, its ratio there and on the rest, and its rank there."""
    own, other = (
        sharpe_of_sums(z @ blocks.returns, z @ blocks.squares, (z @ blocks.num_bars)[:, None])
        for z in (halves, 1.0 - halves)
    )
    own = np.where(np.isnan(own), -np.inf, own)
    best = own.argmax(1)
    in_sample = np.take_along_axis(own, best[:, None], 1)
    if np.isneginf(in_sample).any():
        raise ValueError("no rule moves on some half of the blocks: accepted are rules that trade")
    out_of_sample = np.take_along_axis(other, best[:, None], 1)
    ranked, mine = (np.where(np.isnan(x), -np.inf, x) for x in (other, out_of_sample))
    rank = np.sum(ranked < mine, 1) + 0.5 * (np.sum(ranked == mine, 1) + 1.0)
    return best, in_sample[:, 0], out_of_sample[:, 0], rank
