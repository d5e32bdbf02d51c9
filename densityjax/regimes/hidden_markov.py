"""Hidden Markov regimes of returns, filtered: at each bar only what was known at its close.

K regimes with transition matrix A, A[i, j] = P(j next | i), emit normal or Student-t values. The
forward filter in logs is all that leaves here: `P(regime_t | y_1..t)`. Smoothed probabilities and
most likely paths read the future, and are used inside a fit alone. Regimes are numbered by rising
scale, so that regime 0 is calm in every fit and names do not switch from refit to refit.
"""

import functools
import math
from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy import special, stats

from densityjax import numerics
from densityjax._typing import Array, ArrayLike, NumpyArray

NUM_ITERATIONS = 60  # of expectation maximisation: gains below .01 nats by then, as a rule
STAY = 0.95  # probability of staying that a fit starts from: runs of 20 bars
PSEUDO_COUNT = 1.0  # transitions between each pair added to those counted: none becomes impossible


class HiddenMarkov(NamedTuple):
    """A hidden Markov model of K regimes.

    Attributes:
      initial: [K] probabilities of the regime of the first value, before it is seen.
      transition: [K, K] P(column next | row).
      mean: [K] location of the values.
      scale: [K] standard deviation of normal values, scale of Student-t ones; the values' unit.
      dof: [] degrees of freedom of the t law; infinity for normal values.
    """

    initial: ArrayLike
    transition: ArrayLike
    mean: ArrayLike
    scale: ArrayLike
    dof: ArrayLike = math.inf


class Filtered(NamedTuple):
    """Reading of T values.

    Attributes:
      probability: [T, K] P(regime of t | values up to t).
      log_likelihood: [T] log density of each value given those before it, nats; 0 where missing.
    """

    probability: Array
    log_likelihood: Array


def log_emission(model: HiddenMarkov, y: ArrayLike) -> Array:
    """Returns the log density of one value [] under each regime, [K] nats; 0 where it is NaN."""
    y = jnp.asarray(y, float)
    chex.assert_rank(y, 0)
    safe = jnp.where(jnp.isnan(y), 0.0, y)
    mean, scale = jnp.asarray(model.mean, float), jnp.asarray(model.scale, float)
    is_normal = jnp.isinf(jnp.asarray(model.dof, float))
    dof = jnp.where(is_normal, 1.0, model.dof)
    log_p = jnp.where(
        is_normal, stats.norm.logpdf(safe, mean, scale), stats.t.logpdf(safe, dof, mean, scale)
    )
    return jnp.where(jnp.isnan(y), 0.0, log_p)


def start(model: HiddenMarkov) -> Array:
    """Returns the log probabilities of the first value's regime before it is seen, [K] nats."""
    return jnp.log(jnp.asarray(model.initial, float))


def step(model: HiddenMarkov, log_prior: Array, y: ArrayLike) -> tuple[Array, Filtered]:
    """Takes one value in; jittable.

    Args:
      model: the `HiddenMarkov`.
      log_prior: [K] log probabilities of this value's regime given those before, or `start(model)`.
      y: [] the value; NaN is missing and leaves the probabilities to the transitions, and so does a
        value that no regime gives a density above zero in this precision.

    Returns:
      The log prior of the next value's regime, and the `Filtered` of this one.
    """
    joint = log_prior + log_emission(model, y)
    log_likelihood = special.logsumexp(joint)
    is_possible = jnp.isfinite(log_likelihood)
    posterior = jnp.where(is_possible, joint - log_likelihood, log_prior)
    log_transition = jnp.log(jnp.asarray(model.transition, float))
    following = special.logsumexp(posterior[:, None] + log_transition, axis=0)
    return following, Filtered(jnp.exp(posterior), log_likelihood)


def filtered(model: HiddenMarkov, y: ArrayLike) -> Filtered:
    """Filters T values, oldest first: row t reads values up to t and no later one.

    Args:
      model: the `HiddenMarkov`, fitted to values before those that are read.
      y: [T] values; NaN is missing.

    Returns:
      The `Filtered`.

    References:
      Hamilton, A new approach to the economic analysis of nonstationary time series, 1989, eq. 4.
    """
    y = jnp.asarray(y, float)
    chex.assert_rank(y, 1)
    return _filter(model, y)


@jax.jit
def _filter(model: HiddenMarkov, y: Array) -> Filtered:
    return jax.lax.scan(functools.partial(step, model), start(model), y)[1]


def fit_hidden_markov(
    y: ArrayLike,
    *,
    num_regimes: int = 2,
    dof: float = math.inf,
    num_iterations: int = NUM_ITERATIONS,
) -> HiddenMarkov:
    """Fits a model by expectation maximisation from a start that the values fix.

    Args:
      y: [T] training values; NaN is missing.
      num_regimes: K, at least 2.
      dof: degrees of freedom of t values, given and not fitted; infinity for normal ones.
      num_iterations: passes over the values.

    Returns:
      The `HiddenMarkov` of NumPy arrays, regimes by rising scale.

    Raises:
      ValueError: if the values are too few or do not vary, or a setting is not accepted.

    References:
      Rabiner, A tutorial on hidden Markov models, 1989, section III.C; Peel and McLachlan, Robust
      mixture modelling using the t distribution, 2000, section 4 (the weights of t values).
    """
    values = np.asarray(y, np.float64)
    known = values[np.isfinite(values)]
    if values.ndim != 1 or np.isinf(values).any() or known.size < 10 * num_regimes:
        raise ValueError(
            f"y has shape {values.shape} and {known.size} known values: accepted are [T] with at "
            f"least {10 * num_regimes}"
        )
    if num_regimes < 2 or not dof > 2.0 or num_iterations < 1:
        raise ValueError(
            f"num_regimes is {num_regimes}, dof {dof}, num_iterations {num_iterations}: accepted "
            "are >= 2, > 2 and >= 1"
        )
    mean, sd = known.mean(), known.std()
    if not sd > 0.0:
        raise ValueError("y does not vary: accepted are values of more than one regime")
    # Fitted to standardised values: the floor of the scale has no unit then.
    standard = jnp.asarray((values - mean) / sd, float)
    model = _ordered(_expectation_maximisation(_first(num_regimes, dof), standard, num_iterations))
    return model._replace(mean=mean + sd * model.mean, scale=sd * model.scale)


def _first(num_regimes: int, dof: float) -> HiddenMarkov:
    """Returns a start for standardised values: one mean, scales from a half to twice theirs."""
    away = (1.0 - STAY) / (num_regimes - 1)
    transition = np.full((num_regimes, num_regimes), away)
    np.fill_diagonal(transition, STAY)
    initial = np.full(num_regimes, 1.0 / num_regimes)
    scale = np.geomspace(0.5, 2.0, num_regimes)
    return HiddenMarkov(initial, transition, np.zeros(num_regimes), scale, np.float64(dof))


def _ordered(model: HiddenMarkov) -> HiddenMarkov:
    """Numbers the regimes by rising scale."""
    initial, transition, mean, scale, dof = (np.asarray(leaf, np.float64) for leaf in model)
    order = np.argsort(scale)
    rows = transition[np.ix_(order, order)]
    rows /= rows.sum(axis=1, keepdims=True)
    first = initial[order] / initial.sum()
    return HiddenMarkov(first, rows, mean[order], scale[order], float(dof))


@jax.jit
def _expectation_maximisation(
    model: HiddenMarkov, y: Array, num_iterations: ArrayLike
) -> HiddenMarkov:
    model = jax.tree.map(lambda leaf: jnp.asarray(leaf, y.dtype), model)
    return jax.lax.fori_loop(0, num_iterations, lambda _, model: _maximised(model, y), model)


def _maximised(model: HiddenMarkov, y: Array) -> HiddenMarkov:
    """Returns the model after one iteration; smoothing stays in here."""
    log_p = jax.vmap(functools.partial(log_emission, model))(y)
    past = jnp.log(_filter(model, y).probability)
    log_transition = jnp.log(model.transition)

    def back(ahead: Array, row: Array) -> tuple[Array, Array]:
        before = special.logsumexp(log_transition + row + ahead, axis=1)
        return before - special.logsumexp(before), ahead

    ahead = jax.lax.scan(back, jnp.zeros(log_p.shape[1]), log_p, reverse=True)[1]
    share = jax.nn.softmax(past + ahead, axis=1)
    pair = past[:-1, :, None] + log_transition + (log_p + ahead)[1:, None, :]
    pair = jnp.exp(pair - special.logsumexp(pair, axis=(1, 2), keepdims=True))
    is_known = ~jnp.isnan(y)
    # After the last known value there is nothing to count but what the model says already.
    is_within = jax.lax.cummax(is_known.astype(jnp.int32), reverse=True)[1:]
    counts = jnp.sum(pair * is_within[:, None, None], axis=0) + PSEUDO_COUNT
    value = jnp.where(is_known, y, 0.0)
    held = share * is_known[:, None]
    squared = ((value[:, None] - model.mean) / model.scale) ** 2
    # The t law is normal with a random precision, whose mean given the value this is.
    is_normal = jnp.isinf(model.dof)
    dof = jnp.where(is_normal, 1.0, model.dof)
    weight = held * jnp.where(is_normal, 1.0, (dof + 1.0) / (dof + squared))
    mean = weight.T @ value / jnp.sum(weight, axis=0)
    spread = jnp.sum(weight * (value[:, None] - mean) ** 2, axis=0) / jnp.sum(held, axis=0)
    return HiddenMarkov(
        initial=share[0],
        transition=counts / jnp.sum(counts, axis=1, keepdims=True),
        mean=mean,
        scale=jnp.maximum(jnp.sqrt(spread), numerics.RELATIVE_VOLATILITY_FLOOR),
        dof=model.dof,
    )


def walk_forward_regimes(
    y: ArrayLike,
    *,
    first: int,
    refit_every: int,
    num_regimes: int = 2,
    dof: float = math.inf,
    num_iterations: int = NUM_ITERATIONS,
) -> NumpyArray:
    """Filters T values by models that are refitted as they come, each to values before its block.

    Args:
      y: [T] values; NaN is missing.
      first: values before the first fit, which get NaN.
      refit_every: values that a model serves.
      num_regimes: K.
      dof: as in `fit_hidden_markov`.
      num_iterations: as in `fit_hidden_markov`.

    Returns:
      [T, K] filtered probabilities; row t reads values up to t, through model and filter both.

    Raises:
      ValueError: as `fit_hidden_markov`, or if a size is not accepted.
    """
    values = np.asarray(y, np.float64)
    if not 1 <= first < values.size or refit_every < 1:
        raise ValueError(
            f"first is {first}, refit_every {refit_every}: accepted are in [1, {values.size}) and "
            ">= 1"
        )
    probability = np.full((values.size, num_regimes), np.nan)
    for begin in range(first, values.size, refit_every):
        # Values from the block on are missing to the fit: one shape, so one compiled program.
        seen = np.where(np.arange(values.size) < begin, values, np.nan)
        model = fit_hidden_markov(
            seen, num_regimes=num_regimes, dof=dof, num_iterations=num_iterations
        )
        block = slice(begin, begin + refit_every)
        probability[block] = np.asarray(filtered(model, values).probability)[block]
    return probability
