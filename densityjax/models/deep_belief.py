"""Deep belief networks: a Gaussian-Bernoulli machine with Bernoulli machines stacked on its code.

    p(x, h1, .., hL) = p(x | h1) p(h1 | h2) .. p(h_{L-1}, hL),

the last pair a restricted Boltzmann machine, all else directed downwards. Layers are learnt one
after another, each on draws of the layer below given the data: `hidden_rows` draws them. Given x
the units of h1 are taken as independent, which the first machine makes true and the upper ones do
not, so that log p(x) has a lower bound with equality only for a stack of one.

Hinton, Osindero and Teh, A fast learning algorithm for deep belief nets, 2006, section 4.
"""

import functools
import itertools
from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp

from densityjax._typing import Array, Key, Params
from densityjax.models import boltzmann_partition as partition
from densityjax.models.bernoulli_boltzmann import BernoulliRBM, bernoulli_rbm
from densityjax.models.boltzmann import (
    HIGHEST,
    LOG_2_PI,
    GaussianBernoulliRBM,
    clip_log_variance,
    gaussian_bernoulli_rbm,
    refuse_context,
)
from densityjax.models.score_parts import standardiser

MOST_FIRST = 14  # units of the first hidden layer: exact densities sum over 16,384 states a row


class DeepBeliefNetwork(NamedTuple):
    """The network as pure functions of one example; `params` is a tuple, one entry a machine.

    Attributes:
      layers: the machines from the bottom up: a `GaussianBernoulliRBM`, then `BernoulliRBM`s.
      init: (key, x [N, D], context=None, weights=None) -> params of all machines, none learnt.
      hidden_rows: (key, params, x, *, level) -> [H] a draw of hidden layer `level` (1 the first)
        given x: what the machine above it learns from.
      prior_table: (params) -> [2^H1] log probability of each state of the first hidden layer; no
        hidden layer above 14 units.
      log_prob: (params, x, context=None) -> [] log density per unit volume of x, exact; no hidden
        layer above 14 units.
      elbo: (key, params, x, *, log_z=None) -> [] lower bound of log p(x) in the mean over keys;
        `log_z` of the top machine, None for the exact one.
      sample: (key, params, context=None, *, temperature=1.0, num_steps=200) -> [D] Gibbs steps in
        the top machine, then one pass down; the temperature widens the last normal law.
    """

    layers: tuple[GaussianBernoulliRBM | BernoulliRBM, ...]
    init: Callable[..., tuple[Params, ...]]
    hidden_rows: Callable[..., Array]
    prior_table: Callable[..., Array]
    log_prob: Callable[..., Array]
    elbo: Callable[..., Array]
    sample: Callable[..., Array]


def deep_belief_network(dim: int, *, num_hidden: Sequence[int] = (12, 8)) -> DeepBeliefNetwork:
    """Builds a deep belief network over examples of `dim` real numbers.

    Args:
      dim: size D of an example, >= 1.
      num_hidden: units of the hidden layers from the bottom up, at least two layers.

    Returns:
      The `DeepBeliefNetwork`; equal arguments return the same object.

    Raises:
      ValueError: if an argument is not accepted.
    """
    return _build(dim, tuple(num_hidden))


@functools.lru_cache(maxsize=64)
def _build(dim: int, sizes: tuple[int, ...]) -> DeepBeliefNetwork:
    if len(sizes) < 2:
        raise ValueError(
            f"num_hidden is {sizes}: accepted are at least two layers; one is a "
            "`gaussian_bernoulli_rbm`"
        )
    first = gaussian_bernoulli_rbm(dim, num_hidden=sizes[0])
    uppers = [bernoulli_rbm(below, num_hidden=above) for below, above in itertools.pairwise(sizes)]
    top = uppers[-1]

    def init(
        key: Key, x: Array, context: Array | None = None, weights: Array | None = None
    ) -> tuple[Params, ...]:
        keys = jax.random.split(key, len(sizes))
        params = [first.init(keys[0], x, context, weights)]
        for upper, upper_key in zip(uppers, keys[1:], strict=True):
            params.append(upper.init(upper_key, jnp.zeros((1, upper.config.dim))))
        return tuple(params)

    def hidden_rows(key: Key, params: Sequence[Params], x: Array, *, level: int) -> Array:
        hidden = x
        for index, machine in enumerate((first, *uppers)[:level]):
            hidden = machine.sample_hidden(jax.random.fold_in(key, index), params[index], hidden)
        return hidden

    def prior_table(params: Sequence[Params]) -> Array:
        log_z = top.log_z(params[-1])
        log_p = -jax.vmap(top.free_energy, in_axes=(None, 0))(params[-1], _layer(sizes[-2])) - log_z
        for index in range(len(sizes) - 2, 0, -1):
            logits = jax.vmap(uppers[index - 1].visible_logits, in_axes=(None, 0))(
                params[index], _layer(sizes[index])
            )
            below = _layer(sizes[index - 1])
            log_given = jnp.matmul(below, logits.T, precision=HIGHEST)
            log_given -= jnp.sum(jax.nn.softplus(logits), axis=-1)
            log_p = jax.nn.logsumexp(log_given + log_p, axis=1)
        return log_p

    def log_normal(params: Params, x: Array, h: Array) -> Array:
        scale = standardiser(params).scale
        log_variance = clip_log_variance(params["log_variance"])
        missed = (x - first.visible_mean(params, h)) / scale
        square = missed**2 * jnp.exp(-log_variance) + log_variance + LOG_2_PI
        return -0.5 * jnp.sum(square) - jnp.sum(jnp.log(scale))

    def log_prob(params: Sequence[Params], x: Array, context: Array | None = None) -> Array:
        refuse_context(context)
        given = jax.vmap(log_normal, in_axes=(None, None, 0))(params[0], x, _layer(sizes[0]))
        return jax.nn.logsumexp(prior_table(params) + given)

    def elbo(key: Key, params: Sequence[Params], x: Array, *, log_z: Array | None = None) -> Array:
        codes = [hidden_rows(key, params, x, level=level) for level in range(1, len(sizes))]
        bound = log_normal(params[0], x, codes[0])
        bound -= _log_bernoulli(first.hidden_logits(params[0], x), codes[0])
        # Going up: log p(h_l | h_{l+1}) - log q(h_{l+1} | h_l).
        for index in range(1, len(sizes) - 1):
            below, above = codes[index - 1], codes[index]
            upper, theirs = uppers[index - 1], params[index]
            bound += _log_bernoulli(upper.visible_logits(theirs, above), below)
            bound -= _log_bernoulli(upper.hidden_logits(theirs, below), above)
        return bound + top.log_prob(params[-1], codes[-1], log_z=log_z)

    def sample(
        key: Key,
        params: Sequence[Params],
        context: Array | None = None,
        *,
        temperature: float = 1.0,
        num_steps: int = 200,
    ) -> Array:
        refuse_context(context)
        keys = jax.random.split(key, len(sizes))
        hidden = top.generate(keys[0], params[-1], num_steps=num_steps)
        for index in range(len(sizes) - 2, 0, -1):
            hidden = uppers[index - 1].sample_visible(keys[index], params[index], hidden)
        spread = temperature**0.5
        return first.sample_visible(keys[-1], params[0], hidden, spread=spread)

    layers = (first, *uppers)
    return DeepBeliefNetwork(layers, init, hidden_rows, prior_table, log_prob, elbo, sample)


def _layer(num_units: int) -> Array:
    """Returns all states of a hidden layer, [2^H, H]."""
    if num_units > MOST_FIRST:
        raise ValueError(
            f"num_hidden holds {num_units}: accepted are layers of at most {MOST_FIRST} units for "
            "exact densities; see elbo"
        )
    return partition.all_states(num_units)


def _log_bernoulli(logits: Array, units: Array) -> Array:
    """Returns the log probability of binary units with these log odds, summed."""
    return jnp.sum(units * logits - jax.nn.softplus(logits))
