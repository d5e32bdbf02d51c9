"""Score models: the gradient of the log density of data at any noise level.

Inside, rows are standardised, y = (x - location) / scale, and noise has level sigma in those units:
a noisy example is x + sigma * scale * eps, and `score` is the gradient of the log of its density
in units of x. The network starts at zero, where an 'edm' or 'conservative' model is the score of
N(0, (1 + sigma^2) I), exact for standard normal data. Karras et al., Elucidating the Design Space
of Diffusion-Based Generative Models, 2022 (https://arxiv.org/abs/2206.00364), table 1.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp

from densityjax._typing import Array, ArrayLike, Key, Params
from densityjax.densities import probability_flow
from densityjax.models import score_parts as parts
from densityjax.models.score_config import ScoreConfig

NUM_STEPS = 40  # of the probability flow, from .02 to 20: 1e-3 nats where the score is exact


class Score(NamedTuple):
    """A score model as pure functions of one example; `x` is [D], `context` [C] or None.

    Attributes:
      init: (key, x [N, D], context [N, C] or None, weights [N] or None) -> params. The rows set the
        standardisers; rows of weight zero are ignored.
      score: (params, x, sigma, context=None, *, dropout_key=None) -> [D] per unit of x; sigma [] in
        standard deviations of the data.
      denoise: (params, x, sigma, context=None) -> [D] mean of the clean example given the noisy
        `x`, in units of x; sigma is the noise that is in `x`.
      standard_score: as `score`, of and per unit of standardised y.
      energy: (params, x, sigma, context=None) -> [] minus the log density up to a constant that
        differs with sigma and from mode to mode; of 'conservative' models alone.
      config: the `ScoreConfig` it was built from.
    """

    init: Callable[..., Params]
    score: Callable[..., Array]
    denoise: Callable[..., Array]
    standard_score: Callable[..., Array]
    energy: Callable[..., Array]
    config: ScoreConfig


def score_model(dim: int, *, context_dim: int = 0, **options: Any) -> Score:
    """Builds a score model over examples of `dim` numbers.

    Equal arguments return the same object, so that compiled programs are found again.

    Args:
      dim: size of one example, >= 1.
      context_dim: size of the context, zero for none.
      **options: further fields of `ScoreConfig`.

    Returns:
      The `Score`.

    Raises:
      ValueError: if an option is not accepted; names it, its value and what is.
    """
    return score_from_config(ScoreConfig(dim=dim, context_dim=context_dim, **options))


@functools.lru_cache(maxsize=64)
def score_from_config(config: ScoreConfig) -> Score:
    """Builds the score model that `config` describes; equal configs give the same object."""
    if config.parametrisation == "dual":
        raise ValueError(
            "parametrisation is 'dual': accepted are the others; see `dual_score_model`"
        )
    is_conservative = config.parametrisation == "conservative"
    network = parts.build_network(config, 1 if is_conservative else config.dim)
    form = _FORMS[config.parametrisation]

    def init(
        key: Key, x: Array, context: Array | None = None, weights: Array | None = None
    ) -> Params:
        return parts.init_parts(config, network, key, x, context, weights)

    def bind(params: Params, context: Array | None, dropout_key: Key | None) -> Callable:
        context = parts.standardised_context(config, params, context)
        return lambda y, sigma: network.apply(
            params["network"], y, sigma, context, dropout_key=dropout_key
        )

    def standard_score(
        params: Params,
        y: Array,
        sigma: ArrayLike,
        context: Array | None = None,
        *,
        dropout_key: Key | None = None,
    ) -> Array:
        chex.assert_shape(y, (config.dim,))
        return form(bind(params, context, dropout_key), y, jnp.asarray(sigma, y.dtype))

    def score(
        params: Params,
        x: Array,
        sigma: ArrayLike,
        context: Array | None = None,
        *,
        dropout_key: Key | None = None,
    ) -> Array:
        location, scale = parts.standardiser(params)
        y = (x - location) / scale
        return standard_score(params, y, sigma, context, dropout_key=dropout_key) / scale

    def denoise(params: Params, x: Array, sigma: ArrayLike, context: Array | None = None) -> Array:
        scale = parts.standardiser(params).scale
        # Tweedie's formula: one step, with the noise that is there.
        return x + (jnp.asarray(sigma) * scale) ** 2 * score(params, x, sigma, context)

    def energy(params: Params, x: Array, sigma: ArrayLike, context: Array | None = None) -> Array:
        if not is_conservative:
            raise ValueError(
                f"parametrisation is {config.parametrisation!r}: accepted is 'conservative', the "
                "only one whose score is the gradient of an energy"
            )
        location, scale = parts.standardiser(params)
        y = (x - location) / scale
        return -_log_density(bind(params, context, None), y, jnp.asarray(sigma, y.dtype))

    return Score(init, score, denoise, standard_score, energy, config)


def _edm(network: Callable, y: Array, sigma: Array) -> Array:
    variance = 1.0 + sigma**2
    root = jnp.sqrt(variance)
    return -y / variance + network(y / root, sigma) / (sigma * root)


def _amplitude(network: Callable, y: Array, sigma: Array) -> Array:
    return network(y / jnp.sqrt(1.0 + sigma**2), sigma) / sigma


def _log_density(network: Callable, y: Array, sigma: Array) -> Array:
    variance = 1.0 + sigma**2
    correction = network(y / jnp.sqrt(variance), sigma)[0]
    return -0.5 * jnp.sum(y**2) / variance + correction / sigma


def _conservative(network: Callable, y: Array, sigma: Array) -> Array:
    return jax.grad(_log_density, argnums=1)(network, y, sigma)


_FORMS: dict[str, Callable[[Callable, Array, Array], Array]] = {
    "edm": _edm,
    "amplitude": _amplitude,
    "conservative": _conservative,
    "raw": lambda network, y, sigma: network(y, sigma),
}


def flow_log_prob(
    model: Score, params: Params, x: Array, context: Array | None = None, **options: Any
) -> Array:
    """Computes the normalised log density of a score model by the probability flow.

    Args:
      model: the `Score`.
      params: its parameters.
      x: [D] one example, in units of the data.
      context: [C] what the density is conditioned on, or None.
      **options: of `densities.probability_flow.log_prob`: `num_steps`, `trace`, `key`, ...; the
        range of noise is that of the model, and the steps are 40, where not given.

    Returns:
      [] log density at the smallest noise level, nats per unit volume of x.
    """
    return probability_flow.log_prob(*_bound(model, params, context), x, **_range(params, options))


def flow_log_prob_and_error(
    model: Score, params: Params, x: Array, context: Array | None = None, **options: Any
) -> probability_flow.FlowLogProb:
    """As `flow_log_prob`, by `densities.probability_flow.log_prob_and_error`."""
    return probability_flow.log_prob_and_error(
        *_bound(model, params, context), x, **_range(params, options)
    )


def _bound(model: Score, params: Params, context: Array | None) -> tuple[Callable]:
    return (lambda x, sigma: model.score(params, x, sigma, context),)


def _range(params: Params, options: dict[str, Any]) -> dict[str, Any]:
    location, scale = parts.standardiser(params)
    levels = {f"sigma_{end}": value for end, value in params["sigma"].items()}
    return {"location": location, "scale": scale, "num_steps": NUM_STEPS, **levels, **options}
