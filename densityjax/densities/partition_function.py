"""Z of an unnormalised density, log f = -E: by annealing, by importance sampling, by quadrature.

Every estimate comes with what says how far to trust it. With weights w whose mean is Z the log of
their average errs by about sqrt(1 / ESS - 1 / n), ESS = (sum w)^2 / sum w^2; and since
`E log Z_hat <= log Z`, annealed runs lean low. Run backwards from exact draws of the law they lean
high, so that a pair of runs holds log Z between them. Neal, Annealed importance sampling, 2001
(https://arxiv.org/abs/physics/9803008); Grosse et al., Sandwiching the marginal likelihood using
bidirectional Monte Carlo, 2015 (https://arxiv.org/abs/1511.02543), for the pair.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np
from scipy import special

from densityjax._typing import Array, ArrayLike, Key, LogDensityFn, NumpyArray
from densityjax.densities.normalisation import importance_check

MoveFn = Callable[[Key, Array, LogDensityFn], Array]  # (key, x [D], log density) -> [D]


class PartitionFunction(NamedTuple):
    """An estimate of log Z.

    Attributes:
      log_z: [] nats.
      standard_error: [] of it, nats.
      lower: [] end of the interval, nats.
      upper: [] end of the interval, nats.
      effective_sample_size: [] of the weights, from 1 to n.
      tail_shape: [] Pareto shape of the largest weights: above .7 neither the estimate nor its
        interval is to be trusted; NaN below 25 weights.
      spread: [] standard deviation of the log weights, nats: an annealed run wants about 1 or less.
    """

    log_z: Array
    standard_error: Array
    lower: Array
    upper: Array
    effective_sample_size: Array
    tail_shape: Array
    spread: Array


def from_log_weights(log_weights: Array, *, confidence: float = 0.95) -> PartitionFunction:
    """Estimates log Z from independent weights of mean Z.

    Args:
      log_weights: [n] logs of the weights, nats; n >= 2.
      confidence: of the interval, in (0, 1).

    Returns:
      The `PartitionFunction`. The interval is normal in log Z; it knows only what the weights
      show, and is too narrow where the tail shape says so.

    Raises:
      ValueError: if the confidence is not in (0, 1) or there are fewer than two weights.
    """
    chex.assert_rank(log_weights, 1)
    if not 0.0 < confidence < 1.0:
        raise ValueError(f"confidence is {confidence}: accepted is 0 < confidence < 1")
    if log_weights.shape[0] < 2:
        raise ValueError(f"log_weights has {log_weights.shape[0]} entries: accepted is at least 2")
    found = importance_check(log_weights, jnp.zeros_like(log_weights))
    reach = float(special.ndtri(0.5 + 0.5 * confidence)) * found.standard_error
    return PartitionFunction(
        found.log_z,
        found.standard_error,
        found.log_z - reach,
        found.log_z + reach,
        found.effective_sample_size,
        found.tail_shape,
        jnp.std(log_weights, ddof=1),
    )


def importance_sampling(
    log_density: Array, proposal_log_prob: Array, *, confidence: float = 0.95
) -> PartitionFunction:
    """Estimates log Z from draws of another law.

    Args:
      log_density: [n] log f at draws of the proposal, nats.
      proposal_log_prob: [n] normalised log density of the proposal there, nats, all constants in
        it; its tails must not be lighter than those of f.
      confidence: of the interval, in (0, 1).

    Returns:
      The `PartitionFunction`.

    Raises:
      ValueError: as `from_log_weights`.
    """
    chex.assert_equal_shape([log_density, proposal_log_prob])
    return from_log_weights(log_density - proposal_log_prob, confidence=confidence)


def sigmoid_schedule(num_steps: int, *, steepness: float = 4.0) -> NumpyArray:
    """Returns inverse temperatures from 0 to 1, [num_steps + 1], densest at both ends.

    Args:
      num_steps: steps of the path, >= 1.
      steepness: the sigmoid runs over minus to plus this; towards zero the steps are equal.

    Returns:
      The inverse temperatures, increasing.

    Raises:
      ValueError: if the count is below 1 or the steepness not positive.
    """
    if num_steps < 1 or not steepness > 0.0:
        raise ValueError(
            f"num_steps is {num_steps} and steepness {steepness}: accepted are >= 1 and > 0"
        )
    rise = special.expit(steepness * np.linspace(-1.0, 1.0, num_steps + 1))
    return (rise - rise[0]) / (rise[-1] - rise[0])


class AnnealedChain(NamedTuple):
    """One annealed run.

    Attributes:
      log_weight: [] nats; the mean of its exponential is Z, of a reverse run 1 / Z.
      position: [D] where the run ends: with its weight, a draw of the law at that end.
    """

    log_weight: Array
    position: Array


def annealed_importance(
    key: Key,
    log_density_fn: LogDensityFn,
    initial_log_prob_fn: LogDensityFn,
    initial: Array,
    move_fn: MoveFn,
    *,
    inverse_temperatures: Array,
) -> AnnealedChain:
    """Runs one chain along `f^b q^(1 - b)` from a draw of q at b = 0 to f at b = 1.

    The weight of a step is taken before its move. `jax.vmap` over keys and draws gives many, for
    `from_log_weights`.

    Args:
      key: random key, typed.
      log_density_fn: log f, [D] to [] nats, up to a constant: the one that is asked for.
      initial_log_prob_fn: normalised log q, [D] to [] nats.
      initial: [D] one draw of q.
      move_fn: (key, x [D], log density) -> x [D], reversible moves that keep that density:
        several steps of MALA or HMC, say.
      inverse_temperatures: [K + 1] b from 0 to 1, of `sigmoid_schedule` for one.

    Returns:
      The `AnnealedChain`; its mean weight is Z.

    References:
      Neal, 2001, https://arxiv.org/abs/physics/9803008, eq. 7 to 11.
    """
    return _anneal(
        key,
        log_density_fn,
        initial_log_prob_fn,
        initial,
        move_fn,
        jnp.asarray(inverse_temperatures),
    )


def reverse_annealed_importance(
    key: Key,
    log_density_fn: LogDensityFn,
    initial_log_prob_fn: LogDensityFn,
    exact: Array,
    move_fn: MoveFn,
    *,
    inverse_temperatures: Array,
) -> AnnealedChain:
    """As `annealed_importance`, from an exact draw of the law back to q.

    Args:
      key: as in `annealed_importance`.
      log_density_fn: as in `annealed_importance`.
      initial_log_prob_fn: as in `annealed_importance`.
      exact: [D] one exact draw of exp(-E) / Z, not the end of a chain that may not have arrived.
      move_fn: as in `annealed_importance`.
      inverse_temperatures: [K + 1] the same increasing b; they are run backwards.

    Returns:
      The `AnnealedChain`; its mean weight is 1 / Z, so that minus `from_log_weights(...).log_z`
      is log Z, and leans high.
    """
    backwards = jnp.asarray(inverse_temperatures)[::-1]
    return _anneal(key, log_density_fn, initial_log_prob_fn, exact, move_fn, backwards)


def _anneal(
    key: Key,
    log_density_fn: LogDensityFn,
    initial_log_prob_fn: LogDensityFn,
    start: Array,
    move_fn: MoveFn,
    path: Array,
) -> AnnealedChain:
    """Runs along a path of inverse temperatures; either way the weight comes before the move."""
    chex.assert_rank([start, path], 1)

    def one(carry: tuple[Array, Array], inputs: tuple) -> tuple[tuple[Array, Array], None]:
        position, log_weight = carry
        here, there, step = inputs
        gap = log_density_fn(position) - initial_log_prob_fn(position)

        def tempered(x: Array) -> Array:
            return there * log_density_fn(x) + (1.0 - there) * initial_log_prob_fn(x)

        position = move_fn(jax.random.fold_in(key, step), position, tempered)
        return (position, log_weight + (there - here) * gap), None

    first = (start, jnp.zeros((), start.dtype))
    inputs = (path[:-1].astype(start.dtype), path[1:].astype(start.dtype))
    steps = jnp.arange(path.shape[0] - 1)
    (position, log_weight), _ = jax.lax.scan(one, first, (*inputs, steps))
    return AnnealedChain(log_weight, position)


def quadrature(
    log_density_fn: LogDensityFn,
    lower: ArrayLike,
    upper: ArrayLike,
    *,
    num_nodes: int = 200,
    num_panels: int = 4,
) -> Array:
    """Integrates exp(log f) over a box of one or two dimensions, by Gauss-Legendre panels.

    That the box is wide enough shows when a box twice as wide gives the same.

    Args:
      log_density_fn: log f, [D] to [] nats.
      lower: [D] lower corner, in units of x; D is 1 or 2.
      upper: [D] upper corner, in units of x.
      num_nodes: nodes along each axis, over all its panels.
      num_panels: equal panels along each axis.

    Returns:
      [] log of the integral, nats.

    Raises:
      ValueError: if D is not 1 or 2, the corners are not in order, or a count is not accepted.
    """
    low, high = np.atleast_1d(np.asarray(lower, float)), np.atleast_1d(np.asarray(upper, float))
    if low.shape != high.shape or low.shape not in ((1,), (2,)) or not (low < high).all():
        raise ValueError(
            f"lower is {lower} and upper {upper}: accepted are corners of 1 or 2 numbers in order"
        )
    if num_panels < 1 or num_nodes < num_panels:
        raise ValueError(
            f"num_nodes is {num_nodes} and num_panels {num_panels}: accepted is "
            "num_nodes >= num_panels >= 1"
        )
    node, weight = np.polynomial.legendre.leggauss(-(-num_nodes // num_panels))
    unit = (np.arange(num_panels)[:, None] + 0.5 * (node + 1.0)).ravel() / num_panels
    log_weight = np.tile(np.log(0.5 * weight / num_panels), num_panels)
    axes = [a + (b - a) * unit for a, b in zip(low, high, strict=True)]
    grid = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, low.size)
    log_weights = np.stack(np.meshgrid(*[log_weight] * low.size, indexing="ij")).sum(0).ravel()
    values = jax.lax.map(log_density_fn, jnp.asarray(grid), batch_size=4096)
    log_volume = math.log(float(np.prod(high - low)))
    return jax.nn.logsumexp(values + jnp.asarray(log_weights, values.dtype)) + log_volume


class LogLikelihood(NamedTuple):
    """A mean log-likelihood whose normaliser was estimated.

    Attributes:
      mean: nats a row.
      lower: end of the interval, nats.
      upper: end of the interval, nats.
      standard_error: of rows and of log Z together, nats.
    """

    mean: float
    lower: float
    upper: float
    standard_error: float


def log_likelihood(
    log_density: ArrayLike, partition: PartitionFunction, *, confidence: float = 0.95
) -> LogLikelihood:
    """Computes the mean of `log f - log Z` over rows, with an interval that knows both errors.

    Args:
      log_density: [N] log f at independent rows, nats; N >= 2.
      partition: the estimate of log Z, made without these rows.
      confidence: of the interval, in (0, 1).

    Returns:
      The `LogLikelihood`.

    Raises:
      ValueError: if the confidence is not in (0, 1) or there are fewer than two rows.
    """
    values = np.asarray(log_density, np.float64)
    if values.ndim != 1 or values.size < 2 or not 0.0 < confidence < 1.0:
        raise ValueError(
            f"log_density has shape {values.shape} and confidence is {confidence}: accepted are "
            "[N], N >= 2, and 0 < confidence < 1"
        )
    of_rows = values.std(ddof=1) / math.sqrt(values.size)
    error = math.hypot(of_rows, float(partition.standard_error))
    mean = float(values.mean()) - float(partition.log_z)
    reach = float(special.ndtri(0.5 + 0.5 * confidence)) * error
    return LogLikelihood(mean, mean - reach, mean + reach, error)
