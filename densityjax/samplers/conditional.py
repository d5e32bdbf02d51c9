"""Sampling the unknown coordinates given the known ones, from a score of all of them.

`langevin` holds the known coordinates at their values and moves the others by annealed Langevin
steps. At level sigma its chain samples p_sigma(unknown | known), for the gradient of a conditional
log density in the unknown is the joint one: EXACT as the last sigma and the step sizes go to zero
and the steps at each level grow. Its error is that of a chain, about half the share of the step,
and sigma_L^2 against the variances of the data.

`replacement` runs reverse diffusion and replaces the known coordinates at each level by their
values with fresh noise. It is cheap and APPROXIMATE: the unknown hear of the known through noised
copies alone. Crossed once, dependence comes out too weak (two fifths of the shift of a Gaussian's
mean were lost); crossing every interval `num_resamples` times mends the mean, and more levels the
spread, so that it is exact only as both grow and the last sigma goes to zero.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from densityjax._typing import Array, ArrayLike, Key
from densityjax.samplers import annealed, chain, reverse_diffusion
from densityjax.samplers._checks import check_count, check_levels, known_value
from densityjax.samplers.denoise import NoisedScoreFn
from densityjax.samplers.draw import Draw, finish


class Evidence(NamedTuple):
    """What is known of a point.

    Attributes:
      value: [D] the known coordinates; the others are ignored, and may be NaN.
      is_known: [D] bool, which coordinates are known.
    """

    value: Array
    is_known: Array


def observe(value: ArrayLike) -> Evidence:
    """Builds the `Evidence` of a point, [D], in which NaN marks the unknown coordinates."""
    array = jnp.asarray(value, jnp.result_type(float))
    return Evidence(array, ~jnp.isnan(array))


def _check_evidence(evidence: Evidence, position: Array) -> Evidence:
    """Returns the evidence with zeros where nothing is known; NaN there must reach no score."""
    shape = jnp.shape(position)
    if len(shape) != 1 or jnp.shape(evidence.value) != shape:
        raise ValueError(f"evidence must have shape {shape}, got {jnp.shape(evidence.value)}")
    is_bool = jnp.issubdtype(jnp.result_type(evidence.is_known), jnp.bool_)
    if jnp.shape(evidence.is_known) != shape or not is_bool:
        raise ValueError(f"is_known must be bool of shape {shape}, got {evidence.is_known}")
    value = jnp.where(evidence.is_known, evidence.value, 0.0)
    known = known_value(value)
    if known is not None and not jnp.isfinite(known).all():
        raise ValueError(f"known coordinates must be finite, got {evidence.value}")
    return Evidence(value, jnp.asarray(evidence.is_known))


def langevin(
    key: Key,
    score_fn: NoisedScoreFn,
    position: Array,
    evidence: Evidence,
    *,
    sigmas: Array,
    step_sizes: Array,
    num_steps_per_level: int,
    final_denoise: bool = True,
) -> Draw:
    """Samples the unknown coordinates by annealed Langevin steps, the known ones held fast.

    A single level is the plain chain at that noise, for a `position` that is already likely.

    Args:
      key: random key, typed.
      score_fn: (x [D], sigma []) -> [D], score of the joint law with noise of sd sigma.
      position: [D] start, as `annealed.start` draws it; its known coordinates are replaced.
      evidence: what is known, `Evidence` of D coordinates.
      sigmas: [L] noise levels, decreasing, units of x.
      step_sizes: [L] step sizes a_i, squared units of x.
      num_steps_per_level: T, >= 1.
      final_denoise: whether the unknown end by Tweedie at sigma_L.

    Returns:
      The `Draw`; its known coordinates are the evidence.

    Raises:
      ValueError: if shapes disagree, levels are not decreasing or a number is not accepted.
    """
    evidence = _check_evidence(evidence, position)
    is_known = evidence.is_known
    position = jnp.where(is_known, evidence.value, position)

    def step(key: Key, state: annealed.AnnealedState) -> tuple:
        moved, info = annealed.step(
            key, state, score_fn, sigmas, step_sizes, num_steps_per_level=num_steps_per_level
        )
        held = jnp.where(is_known, evidence.value, moved.position)
        return moved._replace(position=held), info

    num_steps = len(sigmas) * num_steps_per_level
    done = chain.run(key, annealed.init(position), step, num_samples=num_steps, collect=None)
    draw = finish(score_fn, done, jnp.asarray(sigmas)[-1], final_denoise=final_denoise)
    return draw._replace(position=jnp.where(is_known, evidence.value, draw.position))


def replacement(
    key: Key,
    score_fn: NoisedScoreFn,
    position: Array,
    evidence: Evidence,
    *,
    sigmas: Array,
    num_resamples: int = 10,
    predictor: reverse_diffusion.Predictor = reverse_diffusion.ancestral,
    final_denoise: bool = True,
) -> Draw:
    """Samples the unknown coordinates by reverse diffusion, the known ones replaced as it goes.

    Args:
      key: random key, typed.
      score_fn: (x [D], sigma []) -> [D], score of the joint law with noise of sd sigma.
      position: [D] start, as `reverse_diffusion.start` draws it.
      evidence: what is known, `Evidence` of D coordinates.
      sigmas: [L] noise levels, decreasing, units of x.
      num_resamples: times that each interval is crossed, >= 1; between them noise is added again.
      predictor: how to cross an interval, of `reverse_diffusion`.
      final_denoise: whether the unknown end by Tweedie at sigma_L.

    Returns:
      The `Draw`; its known coordinates are the evidence.

    Raises:
      ValueError: if shapes disagree, levels are not decreasing or a number is not accepted.

    References:
      Lugmayr et al., RePaint, 2022, https://arxiv.org/abs/2201.09865, algorithm 1; its bias:
      Trippe et al., 2023, https://arxiv.org/abs/2206.04119, section 3.
    """
    evidence = _check_evidence(evidence, position)
    check_levels(sigmas, least=2)
    check_count(num_resamples=num_resamples)
    levels, is_known = jnp.asarray(sigmas), evidence.is_known

    def replace(key: Key, position: Array, sigma: Array) -> Array:
        noise = jax.random.normal(key, position.shape, position.dtype)
        return jnp.where(is_known, evidence.value + sigma * noise, position)

    def step(key: Key, state: reverse_diffusion.DiffusionState) -> tuple:
        known_key, predictor_key, up_key = jax.random.split(key, 3)
        interval = state.index // num_resamples
        sigma, next_sigma = levels[interval], levels[interval + 1]
        x = replace(known_key, state.position, sigma)
        x = predictor(predictor_key, x, sigma, next_sigma, score_fn)
        is_last = state.index % num_resamples == num_resamples - 1
        climb = jnp.where(is_last, 0.0, jnp.sqrt(sigma**2 - next_sigma**2))
        x += climb * jax.random.normal(up_key, x.shape, x.dtype)
        is_finite = jnp.all(jnp.isfinite(x))
        position = jnp.where(is_finite, x, state.position)
        after = reverse_diffusion.DiffusionState(position, state.index + 1)
        return after, reverse_diffusion.DiffusionInfo(is_finite)

    last_key, key = jax.random.split(key)
    first = reverse_diffusion.init(position)
    num_steps = (len(sigmas) - 1) * num_resamples
    done = chain.run(key, first, step, num_samples=num_steps, collect=None)
    state = done.final_state
    state = state._replace(position=replace(last_key, state.position, levels[-1]))
    draw = finish(
        score_fn, done._replace(final_state=state), levels[-1], final_denoise=final_denoise
    )
    return draw._replace(position=jnp.where(is_known, evidence.value, draw.position))
