"""Functions of one row for score models; one object per model, so that programs are kept.

`u` is a row of transformed columns, y = (u - location) / scale the standardised one, in whose units
noise of level sigma is. Sampling runs in y.
"""

import functools
import warnings
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from densityjax._typing import Array, ArrayLike, Key, NumpyArray, Params
from densityjax.bijectors import feature_transforms
from densityjax.models import DualScore, Score, flow_log_prob
from densityjax.models.dual_score import DENSITY_SIGMA
from densityjax.models.score_parts import standardiser
from densityjax.samplers import conditional, reverse_diffusion, schedules
from densityjax.samplers.denoise import NoisedScoreFn
from densityjax.samplers.draw import Draw

MOST_EXACT = 32  # columns: above it the trace of the flow is estimated, by far fewer derivatives
NUM_NOISES, NUM_MOVES, SHARE = 40, 40, 0.1  # of annealed Langevin steps given evidence
HANDOVER, NUM_NODES = 0.15, 16  # sd: below it the unknown follow the probability flow


def least_sigma(model: Score | DualScore) -> float:
    """Returns the noise at which the density stands for that of the data, in sd."""
    is_dual = isinstance(model, DualScore)
    return max(DENSITY_SIGMA, model.config.sigma_min) if is_dual else model.config.sigma_min


def check_noise(model: Score | DualScore) -> None:
    """Raises ValueError if a 'dual' model has no level of noise at which it gives densities."""
    least, largest = least_sigma(model), model.config.sigma_max
    if largest <= least:
        raise ValueError(
            f"sigma_max is {largest}: accepted is above {least}, the least noise of the densities"
        )


def warn_of_far_rows(model: Score | DualScore, rows: NumpyArray) -> None:
    """Warns if the largest noise does not hide where rows [N, D] are; blames the fit's caller."""
    rows, largest = rows.astype(np.float64), model.config.sigma_max
    standard = (rows - rows.mean(axis=0)) / rows.std(axis=0)
    farthest = np.linalg.norm(standard, axis=1).max()
    if farthest > largest:
        warnings.warn(
            f"sigma_max is {largest}, below the largest distance of a row from the mean, "
            f"{farthest:.3g} standard deviations: the largest noise does not hide the law of the "
            "rows, so that densities and samples are biased; raise sigma_max",
            stacklevel=4,
        )


@functools.lru_cache(maxsize=64)
def log_prob(
    model: Score | DualScore, num_steps: int, num_probes: int
) -> Callable[[Params, Key, Array], Array]:
    """Returns the (params, key of the probes, u [D]) -> [] log density at the least noise, nats."""
    if isinstance(model, DualScore):
        return lambda params, key, u: model.log_prob(params, u, sigma=least_sigma(model))
    trace = "exact" if model.config.dim <= MOST_EXACT else "hutchinson"
    options = {"num_steps": num_steps, "num_probes": num_probes, "trace": trace}
    return lambda params, key, u: flow_log_prob(model, params, u, key=key, **options)


@functools.lru_cache(maxsize=64)
def gradient(model: Score | DualScore) -> Callable[..., Array]:
    """Returns the (params, transform, sigma, x [D]) -> [D] score in units of X."""

    def one(
        params: Params, transform: feature_transforms.FeatureTransform, sigma: Array, x: Array
    ) -> Array:
        (u, log_det), pull_back = jax.vjp(lambda x: feature_transforms.forward(transform, x), x)
        return pull_back((model.score(params, u, sigma), jnp.ones_like(log_det)))[0]

    return one


@functools.lru_cache(maxsize=64)
def denoise(model: Score | DualScore) -> Callable[[Params, Array, Array], Array]:
    """Returns the (params, sigma, u [D]) -> [D] mean of the clean u given the noisy one."""

    def one(params: Params, sigma: Array, u: Array) -> Array:
        scale = standardiser(params).scale
        return u + (sigma * scale) ** 2 * model.score(params, u, sigma)

    return one


def _standard_score(model: Score | DualScore, params: Params) -> NoisedScoreFn:
    """Returns the (y [D], sigma []) -> [D] score in standardised units."""
    location, scale = standardiser(params)
    return lambda y, sigma: scale * model.score(params, location + scale * y, sigma)


@functools.lru_cache(maxsize=64)
def sample(model: Score | DualScore, num_levels: int) -> Callable[[Params, Key], Draw]:
    """Returns the (params, key) -> `Draw` of y by Heun's method along the probability flow."""
    sigma_min, sigma_max = least_sigma(model), model.config.sigma_max
    sigmas = schedules.edm_levels(sigma_min=sigma_min, sigma_max=sigma_max, num_levels=num_levels)

    def one(params: Params, key: Key) -> Draw:
        score_fn = _standard_score(model, params)
        start_key, key = jax.random.split(key)
        start = reverse_diffusion.start(start_key, model.config.dim, sigma_max)
        return reverse_diffusion.sample(key, score_fn, start, sigmas=sigmas)

    return one


def correlation(rows: NumpyArray) -> NumpyArray:
    """Returns the correlation of rows [N, D], [D, D] of double precision.

    Raises:
      ValueError: if single precision cannot tell a column from a constant; names it.
    """
    rows = rows.astype(np.float64)
    is_flat = np.ptp(rows, axis=0) <= np.finfo(np.float32).eps * np.abs(rows).max(axis=0)
    if is_flat.any():
        raise ValueError(
            f"X is constant in column {np.flatnonzero(is_flat)[0]} in single precision among the "
            f"{len(rows)} rows to learn from: accepted are columns that vary there"
        )
    return np.atleast_2d(np.corrcoef(rows.T))


def finished(params: Params, draws: Draw) -> NumpyArray:
    """Returns draws of y, [N, D], in units of u; FloatingPointError where one is no sample."""
    position, fitted = np.asarray(draws.position), params["standardiser"]
    num_bad = int(np.sum((draws.num_refused > 0) | ~np.isfinite(position).all(axis=1)))
    if num_bad:
        raise FloatingPointError(
            f"{num_bad} of {len(position)} draws were not finite on their way: look for columns "
            "that depend on each other, or a fit that went wrong"
        )
    return (fitted["location"] + fitted["scale"] * position).astype(np.float32)


def standard_evidence(
    params: Params, row: NumpyArray, is_known: NumpyArray
) -> conditional.Evidence:
    """Returns the evidence in y of a row in u, [D], of which `is_known`, [D], says what counts."""
    fitted = params["standardiser"]
    value = np.where(is_known, (row - fitted["location"]) / fitted["scale"], 0.0)
    return conditional.Evidence(jnp.asarray(value, jnp.float32), jnp.asarray(is_known))


@functools.lru_cache(maxsize=64)
def sample_given(
    model: Score | DualScore,
) -> Callable[[Params, conditional.Evidence, Key], Draw]:
    """Returns the (params, evidence in y, key) -> `Draw` of y given the evidence.

    Annealed Langevin steps on the unknown down to noise of `HANDOVER`, then Heun's method along the
    probability flow of the unknown: chains that go on to small noise settle into the errors of a
    fitted score, which are largest there, and made spreads a quarter too narrow.
    """
    sigma_min, sigma_max = least_sigma(model), model.config.sigma_max
    middle = min(max(HANDOVER, 2.0 * sigma_min), (sigma_min * sigma_max) ** 0.5)
    high = schedules.geometric_levels(sigma_min=middle, sigma_max=sigma_max, num_levels=NUM_NOISES)
    low = schedules.edm_levels(sigma_min=sigma_min, sigma_max=middle, num_levels=NUM_NODES)

    def one(params: Params, evidence: conditional.Evidence, key: Key) -> Draw:
        score_fn = _standard_score(model, params)

        def score_of_unknown(y: Array, sigma: ArrayLike) -> Array:
            return jnp.where(evidence.is_known, 0.0, score_fn(y, sigma))

        start_key, chain_key, flow_key = jax.random.split(key, 3)
        chain = conditional.langevin(
            chain_key,
            score_fn,
            reverse_diffusion.start(start_key, model.config.dim, sigma_max),
            evidence,
            sigmas=high,
            step_sizes=schedules.proportional_steps(high, share=SHARE),
            num_steps_per_level=NUM_MOVES,
            final_denoise=False,
        )
        draw = reverse_diffusion.sample(flow_key, score_of_unknown, chain.position, sigmas=low)
        return draw._replace(num_refused=draw.num_refused + chain.num_refused)

    return one
