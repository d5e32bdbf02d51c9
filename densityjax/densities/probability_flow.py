"""Log density from a score, by the ordinary differential equation that noise and score define.

With l = ln(sigma), points move by dx/dl = -sigma^2 s(x, sigma), which carries p_sigma from level
to level, so that

    log p_sigma_min(x) = log N(x_end; 0, C + sigma_max^2 I) + int div(-sigma^2 s) dl

along the path from sigma_min to sigma_max. The path takes fourth-order Runge-Kutta steps, even in
l; the divergence, the dear part, is taken at the nodes alone and summed by Simpson's rule. All of
it runs in standardised units y = (x - location) / scale, with sigma in those units too; the result
is per unit of x. Song et al., 2021 (https://arxiv.org/abs/2011.13456), section 4.3; Karras et al.,
2022 (https://arxiv.org/abs/2206.00364), eq. 1, for this time.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from densityjax._typing import Array, ArrayLike, Key

NoisyScoreFn = Callable[[Array, Array], Array]  # (x [D], sigma []) -> [D]
TRACES = ("exact", "hutchinson")
SIGMA_MIN, SIGMA_MAX = 0.005, 80.0  # wide enough for a known score: 1e-3 nats of a Gaussian's log p
NUM_STEPS = 56  # six for each factor of e in sigma, nearly


class FlowLogProb(NamedTuple):
    """A log density with what is known of its error.

    Attributes:
      log_prob: [] log p_sigma_min(x), nats per unit volume of x.
      step_error: [] absolute change of it from half as many steps, nats: a cautious bound, the
        error of fourth order being about a fifteenth of it.
      trace_error: [] standard error over probes, nats; 0 for the exact trace.
      end: [D] where the path ends, in standardised units, about N(0, sigma_max^2 I).
    """

    log_prob: Array
    step_error: Array
    trace_error: Array
    end: Array


def log_prob(
    score_fn: NoisyScoreFn,
    x: Array,
    *,
    sigma_min: ArrayLike = SIGMA_MIN,
    sigma_max: ArrayLike = SIGMA_MAX,
    num_steps: int = NUM_STEPS,
    trace: str = "exact",
    key: Key | None = None,
    num_probes: int = 16,
    location: ArrayLike = 0.0,
    scale: ArrayLike = 1.0,
    data_covariance: Array | None = None,
) -> Array:
    """Computes log p_sigma_min of one point, in nats per unit volume of x.

    It is the density of data plus noise of level `sigma_min`: close to that of the data where
    `sigma_min^2` is a tenth of the least eigenvalue of their covariance or less. Give the range of
    noise that a network was fitted on; the wider default is for scores known in closed form.

    Args:
      score_fn: (x [D], sigma []) to [D], gradient of log p_sigma in units of `1 / x`, where noise
        of level sigma has standard deviation `sigma * scale` in units of x.
      x: [D] one point, in units of x.
      sigma_min: [] level at which the density is wanted, in standardised units, positive.
      sigma_max: [] level at which it is known, in standardised units.
      num_steps: Runge-Kutta steps, even; four calls of `score_fn` and one divergence each.
      trace: 'exact' (D forward derivatives) or 'hutchinson' (one for each probe).
      key: key of the probes; the same key gives the same answer.
      num_probes: probes of signs, fixed along the path; their mean is unbiased for log p, not p.
      location: [] or [D] centre of the data, in units of x.
      scale: [] or [D] standard deviation of the data, in units of x.
      data_covariance: [D, D] covariance of standardised data, for the law at `sigma_max`; None for
        the identity, wrong by about `|R - I|^2 / (4 sigma_max^4)` nats in the mean, R the true one.

    Returns:
      [] log density; NaN where `x` is not finite.

    Raises:
      ValueError: if `num_steps`, `trace`, `num_probes` or a missing `key` is not accepted, or if
        `sigma_min >= sigma_max` where they are numbers.
    """
    options = {"data_covariance": data_covariance, "location": location, "scale": scale}
    x = jnp.asarray(x, jnp.result_type(x, float))
    probes = _checked_probes(x, num_steps, trace, key, num_probes, sigma_min, sigma_max)
    path = _follow(score_fn, x, probes, sigma_min, sigma_max, num_steps, **options)
    return path.log_prob


def log_prob_and_error(
    score_fn: NoisyScoreFn,
    x: Array,
    *,
    sigma_min: ArrayLike = SIGMA_MIN,
    sigma_max: ArrayLike = SIGMA_MAX,
    num_steps: int = NUM_STEPS,
    trace: str = "exact",
    key: Key | None = None,
    num_probes: int = 16,
    location: ArrayLike = 0.0,
    scale: ArrayLike = 1.0,
    data_covariance: Array | None = None,
) -> FlowLogProb:
    """As `log_prob`, with the errors of its steps and of its trace; takes half as long again.

    Args:
      score_fn: as in `log_prob`.
      x: [D] one point, in units of x.
      sigma_min: as in `log_prob`.
      sigma_max: as in `log_prob`.
      num_steps: a multiple of four.
      trace: as in `log_prob`.
      key: as in `log_prob`.
      num_probes: as in `log_prob`.
      location: as in `log_prob`.
      scale: as in `log_prob`.
      data_covariance: as in `log_prob`.

    Returns:
      The `FlowLogProb`.

    Raises:
      ValueError: as in `log_prob`.
    """
    if num_steps % 4:
        raise ValueError(f"num_steps is {num_steps}: accepted is a multiple of 4")
    options = {"data_covariance": data_covariance, "location": location, "scale": scale}
    x = jnp.asarray(x, jnp.result_type(x, float))
    probes = _checked_probes(x, num_steps, trace, key, num_probes, sigma_min, sigma_max)
    path = _follow(score_fn, x, probes, sigma_min, sigma_max, num_steps, **options)
    coarse = _follow(score_fn, x, probes, sigma_min, sigma_max, num_steps // 2, **options)
    return path._replace(step_error=jnp.abs(path.log_prob - coarse.log_prob))


def _checked_probes(
    x: Array,
    num_steps: int,
    trace: str,
    key: Key | None,
    num_probes: int,
    sigma_min: ArrayLike,
    sigma_max: ArrayLike,
) -> Array | None:
    """Returns the probes, [K, D], None for the exact trace; ValueError for a bad argument."""
    chex.assert_rank(x, 1)
    if num_steps < 2 or num_steps % 2:
        raise ValueError(f"num_steps is {num_steps}: accepted is an even integer >= 2")
    if trace not in TRACES:
        raise ValueError(f"trace is {trace!r}: accepted are {TRACES}")
    is_known = not any(isinstance(level, Tracer) for level in (sigma_min, sigma_max))
    if is_known and not 0.0 < np.asarray(sigma_min) < np.asarray(sigma_max):
        raise ValueError(
            f"sigma_min is {sigma_min} and sigma_max {sigma_max}: accepted is "
            "0 < sigma_min < sigma_max"
        )
    if trace == "exact":
        return None
    if key is None or num_probes < 1:
        raise ValueError(
            f"trace 'hutchinson' has key {key} and num_probes {num_probes}: accepted are a key and "
            "at least 1"
        )
    return jax.random.rademacher(key, (num_probes, x.shape[0]), x.dtype)


def _follow(
    score_fn: NoisyScoreFn,
    x: Array,
    probes: Array | None,
    sigma_min: ArrayLike,
    sigma_max: ArrayLike,
    num_steps: int,
    *,
    location: ArrayLike,
    scale: ArrayLike,
    data_covariance: Array | None,
) -> FlowLogProb:
    """Follows one path up the noise levels and sums the divergence along it."""
    dim, dtype = x.shape[0], x.dtype
    scales = jnp.broadcast_to(jnp.asarray(scale, dtype), (dim,))
    centre = jnp.asarray(location, dtype)
    start = (x - centre) / scales
    low, high = (jnp.log(jnp.asarray(level, dtype)) for level in (sigma_min, sigma_max))
    step_size = (high - low) / num_steps

    def velocity(y: Array, level: ArrayLike) -> Array:
        sigma = jnp.exp(level)
        with jax.default_matmul_precision("highest"):  # accelerators round products otherwise
            return -(sigma**2) * scales * score_fn(centre + scales * y, sigma)

    def node(y: Array, index: Array) -> tuple[Array, Array]:
        level = low + step_size * index
        divergence = _divergence(lambda point: velocity(point, level), y, probes)
        return _runge_kutta_step(velocity, y, level, step_size), divergence

    end, divergences = jax.lax.scan(node, start, jnp.arange(num_steps, dtype=dtype))
    last = _divergence(lambda point: velocity(point, high), end, probes)
    values = jnp.concatenate([divergences, last[None]])
    each = step_size / 3.0 * jnp.tensordot(_simpson_weights(num_steps, dtype), values, 1)
    prior = _gaussian_log_prob(end, jnp.exp(high), data_covariance)
    answer = prior + jnp.mean(each) - jnp.sum(jnp.log(scales))
    spread = jnp.std(each, ddof=1) / math.sqrt(each.size) if each.size > 1 else jnp.zeros((), dtype)
    return FlowLogProb(answer, jnp.zeros((), dtype), spread, end)


def _runge_kutta_step(velocity: Callable, y: Array, level: Array, step_size: Array) -> Array:
    """Takes one classical step of fourth order."""
    middle = level + 0.5 * step_size
    first = velocity(y, level)
    second = velocity(y + 0.5 * step_size * first, middle)
    third = velocity(y + 0.5 * step_size * second, middle)
    fourth = velocity(y + step_size * third, level + step_size)
    return y + step_size / 6.0 * (first + 2.0 * second + 2.0 * third + fourth)


def _divergence(field: Callable[[Array], Array], y: Array, probes: Array | None) -> Array:
    """Returns the trace of the Jacobian, [1], or one estimate for each probe, [K]."""
    if probes is None:
        return jnp.trace(jax.jacfwd(field)(y))[None]
    return jax.vmap(lambda v: jnp.vdot(v, jax.jvp(field, (y,), (v,))[1]))(probes)


def _simpson_weights(num_steps: int, dtype: jnp.dtype) -> Array:
    """Returns 1, 4, 2, 4, ..., 4, 1, [num_steps + 1]."""
    index = jnp.arange(num_steps + 1)
    inner = jnp.where(index % 2 == 1, 4.0, 2.0)
    return jnp.where((index == 0) | (index == num_steps), 1.0, inner).astype(dtype)


def _gaussian_log_prob(y: Array, sigma: Array, data_covariance: Array | None) -> Array:
    """Returns log N(y; 0, C + sigma^2 I): data and noise both have variance."""
    dim = y.shape[0]
    if data_covariance is None:
        variance = 1.0 + sigma**2
        square, log_det = jnp.sum(y**2) / variance, dim * jnp.log(variance)
    else:
        chex.assert_shape(data_covariance, (dim, dim))
        covariance = data_covariance + sigma**2 * jnp.eye(dim, dtype=y.dtype)
        factor = jnp.linalg.cholesky(covariance)
        square = jnp.sum(jax.scipy.linalg.solve_triangular(factor, y, lower=True) ** 2)
        log_det = 2.0 * jnp.sum(jnp.log(jnp.diagonal(factor)))
    return -0.5 * (square + log_det + dim * math.log(2.0 * math.pi))
