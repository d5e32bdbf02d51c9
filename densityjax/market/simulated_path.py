"""Draws of the simulated market: regimes, innovations, returns, wicks and volume.

One compiled scan on the CPU, in double precision, so that one key gives one series on every
machine. Names: s regime, sigma scale of a bar from the returns before it, r log return.
"""

import contextlib
import functools
from collections.abc import Iterator
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import experimental

from densityjax._typing import Array, Key, NumpyArray
from densityjax.market.simulated_density import Components, hansen_constants
from densityjax.market.simulated_law import MarketLaw


class Path(NamedTuple):
    """Raw draws of a market: regime, log return, sigma of the bar, wick and volume noise, [T]."""

    regime: Array | NumpyArray
    log_return: Array | NumpyArray
    sigma: Array | NumpyArray
    upper: Array | NumpyArray
    lower: Array | NumpyArray
    log_volume: Array | NumpyArray


def draw_path(key: Key, law: MarketLaw, num_bars: int) -> Path:
    """Draws the path on the CPU in double precision, whatever holds the key."""
    parts = law.components
    _, a, b = hansen_constants(parts.skew, parts.dof)
    with double_precision():
        host_key = jax.random.wrap_key_data(
            jnp.asarray(np.asarray(jax.random.key_data(key))), impl=jax.random.key_impl(key)
        )
        path = _scan_path(
            host_key,
            law.transition,
            law.stationary,
            parts,
            a,
            b,
            variance_coefficients(law),
            num_bars,
        )
        return Path(*(np.asarray(leaf) for leaf in path))


@functools.partial(jax.jit, static_argnames="num_bars")
def _scan_path(
    key: Key,
    transition: Array,
    stationary: Array,
    parts: Components,
    a: Array,
    b: Array,
    coefficients: Array,
    num_bars: int,
) -> Path:
    """Draws regimes, innovations, returns and the noise of wicks and volume."""
    regime_key, noise_key, wick_key, volume_key = jax.random.split(key, 4)
    regime = _draw_regimes(regime_key, transition, stationary, num_bars)
    innovation = _draw_innovations(noise_key, regime, parts, a, b)

    def step(variance: Array, x: Array) -> tuple[Array, tuple[Array, Array]]:
        sigma = jnp.sqrt(variance)
        return next_variance(coefficients, variance, sigma * x), (sigma * x, sigma)

    _, (log_return, sigma) = jax.lax.scan(step, coefficients[0], innovation)
    upper, lower = _draw_wicks(wick_key, log_return, sigma)
    log_volume = _draw_log_volume(volume_key, log_return, sigma, coefficients[0])
    return Path(regime, log_return, sigma, upper, lower, log_volume)


def _draw_regimes(key: Key, transition: Array, stationary: Array, num_bars: int) -> Array:
    """Draws the Markov chain [T], stationary from the first bar, by inverting its rows."""

    def step(row: Array, uniform: Array) -> tuple[Array, Array]:
        regime = jnp.sum(uniform > jnp.cumsum(row)[:-1])
        return transition[regime], regime

    return jax.lax.scan(step, stationary, jax.random.uniform(key, (num_bars,)))[1]


def _draw_innovations(key: Key, regime: Array, parts: Components, a: Array, b: Array) -> Array:
    """Draws r / sigma [T] given the regimes: a component, then a two-piece t."""
    jump_key, side_key, tail_key = jax.random.split(key, 3)
    is_jump = jax.random.uniform(jump_key, regime.shape) < parts.weight[regime, 1]
    location, scale, skew, dof, a, b = (
        leaf[regime, is_jump.astype(int)] for leaf in (*parts[1:], a, b)
    )
    is_upper = jax.random.uniform(side_key, regime.shape) < 0.5 * (1.0 + skew)
    size = jnp.abs(jax.random.t(tail_key, dof, regime.shape)) * jnp.sqrt((dof - 2.0) / dof)
    side = jnp.where(is_upper, (1.0 + skew) * size, -(1.0 - skew) * size)
    return location + scale * (side - a) / b


def _draw_wicks(key: Key, log_return: Array, sigma: Array) -> tuple[Array, Array]:
    """Draws log(high / open) and log(low / open), [T], from r_t, sigma_t and fresh noise alone.

    Each is the extreme of a Brownian bridge from 0 to r_t with variance (sigma_t^2 + r_t^2) / 2.
    """
    bridge = 0.5 * (sigma**2 + log_return**2)
    exponential = jax.random.exponential(key, (2, *log_return.shape))
    root = jnp.sqrt(log_return**2 + 2.0 * bridge * exponential)
    return 0.5 * (log_return + root[0]), 0.5 * (log_return - root[1])


def _draw_log_volume(key: Key, log_return: Array, sigma: Array, mean_variance: Array) -> Array:
    """Draws log volume [T] from r_t, sigma_t and an autoregressive noise of its own.

    The elasticities of volume to volatility and to the bar's own move are near those of liquid
    markets; the noise remembers nine tenths of itself and has standard deviation .3.
    """
    memory, noise_sd, base = 0.9, 0.3, 1_000.0  # base: contracts in a quiet bar
    shock_sd = noise_sd * (1.0 - memory**2) ** 0.5

    def step(state: Array, shock: Array) -> tuple[Array, Array]:
        state = memory * state + shock_sd * shock
        return state, state

    shocks = jax.random.normal(key, log_return.shape)
    noise = jax.lax.scan(step, jnp.zeros_like(sigma[0]), shocks)[1]
    level = 0.5 * jnp.log(sigma**2 / mean_variance)
    return jnp.log(base) + 0.6 * level + 0.5 * jnp.log1p(jnp.abs(log_return) / sigma) + noise


def variance_coefficients(law: MarketLaw) -> NumpyArray:
    """Returns [5]: first variance, omega, alpha, gamma, beta."""
    return np.array([law.initial_variance, law.omega, law.alpha, law.gamma, law.beta])


def next_variance(coefficients: Array, variance: Array, log_return: Array) -> Array:
    """Takes one step of the recursion of sigma^2."""
    _, omega, alpha, gamma, beta = coefficients
    return omega + (alpha + gamma * (log_return < 0.0)) * log_return**2 + beta * variance


@contextlib.contextmanager
def double_precision() -> Iterator[None]:
    """Runs float64 on the CPU: scans of scalars are slow elsewhere, and keys then agree."""
    name = "enable_x64"  # at the top of jax since 0.8
    enable_x64 = getattr(jax if hasattr(jax, name) else experimental, name)
    with enable_x64(True), jax.default_device(jax.local_devices(backend="cpu")[0]):
        yield
