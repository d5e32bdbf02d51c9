"""A pytest plugin: blackjax's own tests then exercise this package's MALA and Langevin step.

Modules are rebound before collection. MALA stands in as it is, but for the class of the pair that
`as_top_level_api` returns; the Langevin step, which moves one array, is given pytrees raveled.
"""

import functools
import sys
from collections.abc import Callable
from typing import Any

import blackjax  # pyright: ignore[reportMissingImports]
import blackjax.mcmc  # pyright: ignore[reportMissingImports]
import jax
from blackjax.base import SamplingAlgorithm  # pyright: ignore[reportMissingImports]
from blackjax.mcmc import diffusions  # pyright: ignore[reportMissingImports]
from jax.flatten_util import ravel_pytree

from densityjax.samplers import langevin, mala

CALLS = {"mala.step": 0, "langevin.step": 0}


def counted(name: str, function: Callable) -> Callable:
    """Wraps a function so that it is known how often it was called or traced."""

    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        CALLS[name] += 1
        return function(*args, **kwargs)

    return call


def top_level(logdensity_fn: Callable, step_size: float) -> SamplingAlgorithm:
    """Dresses our algorithm in the class that blackjax's protocol tests ask for."""
    return SamplingAlgorithm(*our_top_level(logdensity_fn, step_size))


def overdamped_langevin(value_and_grad_fn: Callable) -> Callable:
    """Builds blackjax's one-step integrator from our unadjusted Langevin step."""

    def one_step(rng_key: jax.Array, state: Any, step_size: float, batch: tuple = ()) -> Any:
        x, unravel = ravel_pytree(state.position)

        def score_fn(flat: jax.Array) -> jax.Array:
            return ravel_pytree(value_and_grad_fn(unravel(flat), *batch)[1])[0]

        ours = langevin.LangevinState(x, ravel_pytree(state.logdensity_grad)[0])
        moved, _ = langevin_step(rng_key, ours, score_fn, step_size)
        position = unravel(moved.position)
        return diffusions.DiffusionState(position, *value_and_grad_fn(position, *batch))

    return one_step


our_top_level = mala.as_top_level_api
langevin_step = counted("langevin.step", langevin.step)
mala.step = counted("mala.step", mala.step)  # what `build_kernel` and `as_top_level_api` look up
mala.as_top_level_api = top_level
diffusions.overdamped_langevin = overdamped_langevin
sys.modules["blackjax.mcmc.mala"] = mala
blackjax.mcmc.mala = mala
blackjax.mala = blackjax.GenerateSamplingAPI(top_level, mala.init, mala.build_kernel)


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Says at the end of the run how often ours was called."""
    terminalreporter.write_line(", ".join(f"{name} called {n}" for name, n in CALLS.items()))
