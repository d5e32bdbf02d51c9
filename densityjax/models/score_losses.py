"""Losses of score models and dual energies for `training.fit`: one number a row.

Each factory returns a pair: what trains, with fresh stratified noise levels, fresh noise and
dropout, and what judges, `validation_loss_fn`, with levels and noise that are the same whatever the
key, and without dropout. So two evaluations of one model are equal, and the best epoch is no luck
of the draw. What judges also takes the mean of several draws for each row: most of a denoising loss
is noise that no model explains, and with one draw each it would choose the epoch. A batch is rows
[B, D], or a pair of rows and contexts [B, C].
"""

import functools
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from densityjax import losses
from densityjax._typing import Array, Key, Params
from densityjax.models.dual_score import DualScore
from densityjax.models.score import Score
from densityjax.models.score_parts import standardiser

LEVEL_LAWS = ("log_normal", "log_uniform", "geometric")
WEIGHTS = ("edm", "sigma_squared")
METHODS = ("denoising", "sliced", "exact")
VALIDATION_DRAWS = 16  # of levels and noise for each validation row: a quarter of one draw's error
_VALIDATION_SEED = 20_051  # any fixed number: fits are compared on the same noise


class ScoreLoss(NamedTuple):
    """The losses of one fit, each (params, key, batch, loss_state) -> (loss [B], loss_state, ()).

    Attributes:
      loss_fn: for the steps.
      validation_loss_fn: for the validation rows; ignores its key.
    """

    loss_fn: Callable
    validation_loss_fn: Callable


class Levels(NamedTuple):
    """The law of noise levels, in standard deviations of the data, within a model's range.

    Attributes:
      law: 'log_normal', 'log_uniform', or 'geometric' (a grid, all levels equally likely).
      log_mean: mean of ln sigma where it is normal.
      log_sd: standard deviation of ln sigma where it is normal.
      num_levels: number of levels of the grid.
    """

    law: str = "log_normal"
    log_mean: float = -0.5
    log_sd: float = 1.2
    num_levels: int = 10

    def sigmas(self, uniforms: Array, params: Params) -> Array:
        """Maps uniform numbers, [B], to noise levels, [B], in the range that `params` hold."""
        ends = jax.lax.stop_gradient(params["sigma"])
        bounds = {"sigma_min": ends["min"], "sigma_max": ends["max"]}
        if self.law == "log_normal":
            shape = {"log_mean": self.log_mean, "log_sd": self.log_sd}
            return losses.log_normal_sigmas(uniforms, **shape, **bounds)
        if self.law == "log_uniform":
            return losses.log_uniform_sigmas(uniforms, **bounds)
        return losses.geometric_sigmas(uniforms, num_levels=self.num_levels, **bounds)


DUAL_LEVELS = Levels(log_mean=-0.8, log_sd=1.5)


def _check(levels: Levels, choices: dict[str, tuple[str, tuple[str, ...]]]) -> None:
    for name, (value, accepted) in {**choices, "law": (levels.law, LEVEL_LAWS)}.items():
        if value not in accepted:
            raise ValueError(f"{name} is {value!r}: accepted are {accepted}")
    if levels.num_levels < 2 or not levels.log_sd > 0 or not math.isfinite(levels.log_mean):
        raise ValueError(
            f"levels are {levels}: accepted are a finite log_mean, log_sd > 0 and num_levels >= 2"
        )


@functools.lru_cache(maxsize=64)
def score_loss(
    model: Score,
    *,
    method: str = "denoising",
    levels: Levels = Levels(),  # noqa: B008  (a frozen record)
    weight: str = "edm",
    control_variate: bool = False,
    num_validation_draws: int = VALIDATION_DRAWS,
) -> ScoreLoss:
    """Builds the loss of a score model; equal arguments return the same functions.

    Args:
      model: the `Score`.
      method: 'denoising', 'sliced' (one probe of signs, variance reduced) or 'exact' (the trace);
        the last two at noisy points too, where they have the same minimiser.
      levels: the law of the noise levels.
      weight: 'edm' (all levels lose D where the data are standard normal) or 'sigma_squared'.
      control_variate: see `losses.denoising_score_matching`.
      num_validation_draws: levels and noises of each validation row, at least 1.

    Returns:
      The `ScoreLoss`.

    Raises:
      ValueError: if an option is not accepted.
    """
    _check(levels, {"method": (method, METHODS), "weight": (weight, WEIGHTS)})

    def row_loss(
        params: Params, y: Array, context: Array | None, sigma: Array, noise: Array, keys: Any
    ) -> Array:
        probe_key, dropout_key = keys
        factor = losses.edm_weight(sigma) if weight == "edm" else sigma**2

        def score_fn(y: Array, sigma: Array) -> Array:
            return model.standard_score(params, y, sigma, context, dropout_key=dropout_key)

        if method == "denoising":
            return losses.denoising_score_matching(
                score_fn, y, noise, sigma, weight=factor, control_variate=control_variate
            )
        noisy, at_level = y + sigma * noise, functools.partial(score_fn, sigma=sigma)
        if method == "exact":
            return factor * losses.exact_score_matching(at_level, noisy)
        probe = jax.random.rademacher(probe_key, y.shape, y.dtype)
        return factor * losses.sliced_score_matching(at_level, noisy, probe)

    return _pair(row_loss, levels, num_validation_draws, has_dropout=model.config.dropout > 0)


@functools.lru_cache(maxsize=64)
def dual_score_loss(
    model: DualScore,
    *,
    levels: Levels = DUAL_LEVELS,
    num_validation_draws: int = VALIDATION_DRAWS,
) -> ScoreLoss:
    """Builds the loss of a dual energy; equal arguments return the same functions.

    Args:
      model: the `DualScore`.
      levels: the law of the noise levels.
      num_validation_draws: levels and noises of each validation row, at least 1.

    Returns:
      The `ScoreLoss`.

    Raises:
      ValueError: if an option is not accepted.
    """
    _check(levels, {})

    def row_loss(
        params: Params, y: Array, context: Array | None, sigma: Array, noise: Array, keys: Any
    ) -> Array:
        def energy_fn(y: Array, log_sigma: Array) -> Array:
            return model.standard_energy(params, y, log_sigma, context, dropout_key=keys[1])

        return losses.dual_score_matching(energy_fn, y, noise, jnp.log(sigma))

    return _pair(row_loss, levels, num_validation_draws, has_dropout=model.config.dropout > 0)


def _pair(row_loss: Callable, levels: Levels, num_draws: int, *, has_dropout: bool) -> ScoreLoss:
    """Wraps a loss of one standardised row into losses of batches."""
    if num_draws < 1:
        raise ValueError(f"num_validation_draws is {num_draws}: accepted is at least 1")

    def of_batch(
        params: Params, key: Key, batch: Any, sigmas: Array, *, is_training: bool
    ) -> Array:
        x, context = batch if isinstance(batch, tuple) else (batch, None)
        location, scale = standardiser(params)
        noise_key, probe_key, dropout_key = jax.random.split(key, 3)
        noise = jax.random.normal(noise_key, x.shape, x.dtype)
        probe_keys = jax.random.split(probe_key, x.shape[0])
        dropout_keys = jax.random.split(dropout_key, x.shape[0])
        keys = (probe_keys, dropout_keys if is_training and has_dropout else None)
        rows = jax.vmap(row_loss, in_axes=(None, 0, None if context is None else 0, 0, 0, 0))
        return rows(params, (x - location) / scale, context, sigmas, noise, keys)

    def loss_fn(params: Params, key: Key, batch: Any, loss_state: Any) -> tuple[Array, Any, tuple]:
        num = jax.tree.leaves(batch)[0].shape[0]
        level_key, key = jax.random.split(key)
        uniforms = losses.stratified_uniforms(num, jax.random.uniform(level_key, (num,)))
        # Rounding may put the last one at 1, whose level is infinite before it is cut.
        sigmas = levels.sigmas(uniforms, params)
        return of_batch(params, key, batch, sigmas, is_training=True), loss_state, ()

    def validation_loss_fn(
        params: Params, key: Key, batch: Any, loss_state: Any
    ) -> tuple[Array, Any, tuple]:
        del key
        num = jax.tree.leaves(batch)[0].shape[0]
        sigmas = levels.sigmas(losses.fixed_uniforms(num_draws * num), params)
        keys = jax.random.split(jax.random.key(_VALIDATION_SEED), num_draws)

        def one_draw(drawn: tuple[Key, Array]) -> Array:
            return of_batch(params, drawn[0], batch, drawn[1], is_training=False)

        draws = jax.lax.map(one_draw, (keys, sigmas.reshape(num_draws, num)))
        return jnp.mean(draws, axis=0), loss_state, ()

    return ScoreLoss(loss_fn, validation_loss_fn)
