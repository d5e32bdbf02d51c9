"""Changes of a stream, found as it comes: run lengths by Bayes' rule, and cumulative sums.

Run length r_t is the number of values since the last change, the newest included; a change comes
before each value with probability `hazard`. Of all r the law `P(r_t | x_1..t)` is exact up to a
cap, at which longer runs are counted together. P(r_t = 0) always equals the hazard: alarm on
`P(1 <= r_t <= k)` or on a drop of the likeliest run, never on r = 0.

The cumulative sum is `S_t = max(0, S_{t-1} + x_t - k)` with an alarm at S > h. Its mean time to an
alarm, on the null the only honest setting of h, is `average_run_length`.
"""

import functools
from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy import special, stats
from scipy import optimize
from scipy.stats import norm

from densityjax._typing import Array, ArrayLike, NumpyArray

MAX_RUN = 300  # run lengths told apart
QUADRATURE = 96  # nodes of the run-length equation: 1e-10 of its solution for h up to 10


class NormalPrior(NamedTuple):
    """Values with one unknown mean a run, and a known variance.

    Attributes:
      mean: prior mean of a run's mean.
      variance: its prior variance, squared unit of the values.
      noise_variance: variance of the values about it.
    """

    mean: ArrayLike = 0.0
    variance: ArrayLike = 1.0
    noise_variance: ArrayLike = 1.0


class NormalGammaPrior(NamedTuple):
    """Values with an unknown mean and variance a run; their predictive is a Student t.

    Attributes:
      mean: prior mean of a run's mean.
      strength: values that the prior mean counts for.
      shape: shape of the inverse gamma law of the variance.
      rate: its scale, squared unit of the values; the prior variance is rate / (shape - 1).
    """

    mean: ArrayLike = 0.0
    strength: ArrayLike = 1.0
    shape: ArrayLike = 2.0
    rate: ArrayLike = 1.0


class RunState(NamedTuple):
    """Law of the run length, and what the values of each run were.

    Attributes:
      log_probability: [R + 1] log P(r), nats, r = 0 .. R.
      count: [R + 1] values of the run.
      mean: [R + 1] their mean.
      square: [R + 1] their sum of squared deviations.
    """

    log_probability: Array
    count: Array
    mean: Array
    square: Array


class RunLength(NamedTuple):
    """Reading after one value, or after T with a leading axis on every field.

    Attributes:
      log_probability: [R + 1] log P(r | values so far), nats.
      log_evidence: log density of the value given those before it, nats.
      likeliest: the most probable run length.
      recent: P(1 <= r <= recent_within).
    """

    log_probability: Array
    log_evidence: Array
    likeliest: Array
    recent: Array


def start_runs(*, max_run: int = MAX_RUN) -> RunState:
    """Returns the state before the first value; ValueError unless max_run is at least 1."""
    if max_run < 1:
        raise ValueError(f"max_run is {max_run}: accepted is an integer >= 1")
    empty = jnp.zeros(max_run + 1)
    return RunState(jnp.full(max_run + 1, -jnp.inf).at[0].set(0.0), empty, empty, empty)


def step_runs(
    prior: NormalPrior | NormalGammaPrior,
    state: RunState,
    x: ArrayLike,
    *,
    hazard: ArrayLike,
    recent_within: int = 10,
) -> tuple[RunState, RunLength]:
    """Takes one value in; jittable.

    Args:
      prior: of the values of a run.
      state: of the value before, or `start_runs()`.
      x: [] the value.
      hazard: [] probability of a change before a value, in (0, 1).
      recent_within: run lengths from 1 to this make up `recent`, at most the cap.

    Returns:
      The state and the `RunLength`.

    References:
      Adams and MacKay, Bayesian Online Changepoint Detection, 2007, algorithm 1
      (https://arxiv.org/abs/0710.3742).
    """
    x, hazard = jnp.asarray(x, float), jnp.asarray(hazard, float)
    chex.assert_rank([x, hazard, state.log_probability], [0, 0, 1])
    joint = state.log_probability + _log_predictive(prior, state, x)
    grown, ended = joint + jnp.log1p(-hazard), joint + jnp.log(hazard)
    # The last bucket takes what grows out of it and what grows into it.
    last = jnp.logaddexp(grown[-1], grown[-2])
    shifted = jnp.concatenate([special.logsumexp(ended)[None], grown[:-2], last[None]])
    log_evidence = special.logsumexp(shifted)
    stays = grown[-1] > grown[-2]  # whose values the last bucket goes on with: the likelier run's
    count = state.count + 1.0
    mean = state.mean + (x - state.mean) / count
    square = state.square + (x - state.mean) * (x - mean)

    def pushed(new: Array) -> Array:
        kept = jnp.where(stays, new[-1], new[-2])
        return jnp.concatenate([jnp.zeros(1), new[:-2], kept[None]])

    log_probability = shifted - log_evidence
    after = RunState(log_probability, pushed(count), pushed(mean), pushed(square))
    recent = jnp.sum(jnp.exp(log_probability[1 : recent_within + 1]))
    likeliest = jnp.argmax(log_probability)
    return after, RunLength(log_probability, log_evidence, likeliest, recent)


def _log_predictive(prior: NormalPrior | NormalGammaPrior, state: RunState, x: Array) -> Array:
    """Returns the log density of a value given each run, [R + 1] nats."""
    if isinstance(prior, NormalPrior):
        precision = 1.0 / prior.variance + state.count / prior.noise_variance
        pull = prior.mean / prior.variance + state.count * state.mean / prior.noise_variance
        sd = jnp.sqrt(1.0 / precision + prior.noise_variance)
        return stats.norm.logpdf(x, pull / precision, sd)
    strength = prior.strength + state.count
    shape = prior.shape + 0.5 * state.count
    mean = (prior.strength * prior.mean + state.count * state.mean) / strength
    between = prior.strength * state.count * (state.mean - prior.mean) ** 2 / strength
    rate = prior.rate + 0.5 * (state.square + between)
    scale = jnp.sqrt(rate * (strength + 1.0) / (shape * strength))
    return stats.t.logpdf(x, 2.0 * shape, mean, scale)


def run_lengths(
    prior: NormalPrior | NormalGammaPrior,
    x: ArrayLike,
    *,
    hazard: float = 0.01,
    max_run: int = MAX_RUN,
    recent_within: int = 10,
) -> RunLength:
    """Reads T values, oldest first, as `step_runs` one by one would.

    Args:
      prior: of the values of a run, in their unit.
      x: [T] values, finite.
      hazard: probability of a change before a value, in (0, 1).
      max_run: run lengths told apart.
      recent_within: as in `step_runs`.

    Returns:
      A `RunLength` of NumPy arrays with a leading axis of T; row t reads values up to t.

    Raises:
      ValueError: if an argument is not accepted.
    """
    values = np.asarray(x, float)
    if values.ndim != 1 or not np.isfinite(values).all():
        raise ValueError(f"x has shape {values.shape}: accepted are finite numbers [T]")
    if not 0.0 < hazard < 1.0 or not 1 <= recent_within <= max_run:
        raise ValueError(
            f"hazard is {hazard}, recent_within {recent_within}: accepted are in (0, 1) and "
            f"[1, max_run={max_run}]"
        )
    begin = start_runs(max_run=max_run)
    found = _scan_runs(recent_within, prior, begin, jnp.asarray(values, float), hazard)
    return jax.tree.map(np.asarray, found)


@functools.partial(jax.jit, static_argnums=0)
def _scan_runs(
    recent_within: int,
    prior: NormalPrior | NormalGammaPrior,
    begin: RunState,
    x: Array,
    hazard: ArrayLike,
) -> RunLength:
    def one(state: RunState, value: Array) -> tuple[RunState, RunLength]:
        return step_runs(prior, state, value, hazard=hazard, recent_within=recent_within)

    return jax.lax.scan(one, begin, x)[1]


def cumulative_sum(x: ArrayLike, *, reference: ArrayLike = 0.5) -> Array:
    """Returns `S_t = max(0, S_{t-1} + x_t - k)` from 0, without a restart.

    Args:
      x: [T] standardised values, a rise of which is looked for; negate them for a fall. NaN is
        missing and leaves the sum as it was.
      reference: k, half the shift to be found, in standard deviations.

    Returns:
      [T] sums, no unit; the first one above h is the alarm.

    References:
      Page, Continuous inspection schemes, 1954.
    """
    x = jnp.asarray(x, float)
    chex.assert_rank(x, 1)

    def one(total: Array, value: Array) -> tuple[Array, Array]:
        raised = jnp.maximum(0.0, total + value - reference)
        total = jnp.where(jnp.isnan(value), total, raised)
        return total, total

    return jax.lax.scan(one, jnp.zeros(()), x)[1]


def alarms(x: ArrayLike, threshold: ArrayLike, *, reference: ArrayLike = 0.5) -> Array:
    """Returns where the cumulative sum rises above h, [T] booleans; it restarts at 0 after each.

    Args:
      x: [T] as in `cumulative_sum`; NaN is missing, leaves the sum as it was and raises no alarm.
      threshold: h, positive; see `threshold_for`.
      reference: k.

    Returns:
      [T] booleans.
    """
    x = jnp.asarray(x, float)
    chex.assert_rank(x, 1)

    def one(total: Array, value: Array) -> tuple[Array, Array]:
        raised = jnp.maximum(0.0, total + value - reference)
        is_alarm = raised > threshold
        raised = jnp.where(jnp.isnan(value), total, raised)
        return jnp.where(is_alarm, 0.0, raised), is_alarm

    return jax.lax.scan(one, jnp.zeros(()), x)[1]


def average_run_length(threshold: float, *, reference: float = 0.5, shift: float = 0.0) -> float:
    """Returns the mean number of values to an alarm, of independent normal ones from S = 0.

    Solves `L(s) = 1 + L(0) Phi(k - s - m) + int_0^h L(u) phi(u + k - s - m) du` by quadrature.

    Args:
      threshold: h, positive, in standard deviations.
      reference: k.
      shift: mean m of the values; 0 gives the time to a false alarm, others the delay.

    Returns:
      The average run length, values.

    Raises:
      ValueError: if the threshold is not positive.

    References:
      Goel and Wu, Determination of ARL and a contour nomogram for CUSUM charts, 1971.
    """
    if not threshold > 0.0:
        raise ValueError(f"threshold is {threshold}: accepted is above 0")
    node, weight = np.polynomial.legendre.leggauss(QUADRATURE)
    # The atom at zero is one more node: its kernel is the probability to fall back to zero.
    node = np.concatenate([[0.0], 0.5 * threshold * (node + 1.0)])
    weight = 0.5 * threshold * weight
    kernel = np.empty((node.size, node.size))
    kernel[:, 0] = norm.cdf(reference - node - shift)
    kernel[:, 1:] = weight * norm.pdf(node[1:] + reference - node[:, None] - shift)
    return float(np.linalg.solve(np.eye(node.size) - kernel, np.ones(node.size))[0])


def threshold_for(run_length: float, *, reference: float = 0.5) -> float:
    """Returns the h whose mean time to a false alarm is `run_length` values, above 3 of them."""
    if not run_length > 3.0:
        raise ValueError(f"run_length is {run_length}: accepted is above 3 values")

    def gap(threshold: float) -> float:
        return float(np.log(average_run_length(threshold, reference=reference) / run_length))

    return optimize.root_scalar(gap, bracket=(0.01, 30.0)).root


def standardised(x: ArrayLike, train: ArrayLike) -> NumpyArray:
    """Returns values [T] less the mean and over the standard deviation of training ones [N]."""
    values, rows = np.asarray(x, float), np.asarray(train, float)
    sd = float(rows.std(ddof=1)) if rows.size > 1 else 0.0
    if not sd > 0.0:
        raise ValueError(f"train has {rows.size} values of sd {sd}: accepted is a positive one")
    return (values - rows.mean()) / sd
