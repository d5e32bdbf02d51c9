"""The Bernoulli restricted Boltzmann machine, for binary rows, and a code that makes rows binary.

With visible bias a, hidden bias b and weights W [D, H],

    E(v, h) = -v' W h - a' v - b' h,    F(v) = -a' v - sum_j softplus(b + W' v)_j,

both layers Bernoulli given the other. On real numbers F has no lower bound and the law no Z, so
rows that are not zeros and ones are refused: binarise them first, or take the Gaussian machine.
Smolensky, Information processing in dynamical systems, 1986; Hinton, A practical guide to training
restricted Boltzmann machines, 2010.
"""

import functools
from collections.abc import Callable
from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from numpy.typing import ArrayLike

from densityjax._typing import Array, Key, NumpyArray, Params
from densityjax.models import boltzmann_partition as partition
from densityjax.models.boltzmann import HIGHEST, refuse_context
from densityjax.models.boltzmann_config import BoltzmannConfig


class BernoulliRBM(NamedTuple):
    """The machine as pure functions of one example; `v` is [D] and `h` [H], zeros and ones.

    Attributes:
      init: (key, v [N, D], context=None, weights=None) -> params; weights of sd .01, zero biases.
      energy: (params, v, h) -> [] joint energy, nats.
      free_energy: (params, v, context=None) -> [] minus the log of p(v) Z, nats.
      hidden_logits: (params, v) -> [H] log odds of each hidden unit given v.
      visible_logits: (params, h) -> [D] log odds of each visible unit given h.
      sample_hidden: (key, params, v) -> [H] a draw of p(h | v).
      sample_visible: (key, params, h) -> [D] a draw of p(v | h).
      reconstruct: (params, v) -> [D] probabilities of v given the mean hidden units.
      reconstruction_error: (params, v) -> [] mean square of what `reconstruct` misses.
      log_z: (params) -> [] log Z, exact; the smaller layer has at most 16 units.
      log_z_without_weights: (params) -> [] log Z of the machine with W = 0.
      log_prob: (params, v, context=None, *, log_z=None) -> [] log probability, nats; exact with
        `log_z` None, for a smaller layer of at most 16 units.
      generate: (key, params, *, num_steps=1000) -> [D] the end of a Gibbs chain from fair coins.
      config: the `BoltzmannConfig` it was built from.
    """

    init: Callable[..., Params]
    energy: Callable[..., Array]
    free_energy: Callable[..., Array]
    hidden_logits: Callable[..., Array]
    visible_logits: Callable[..., Array]
    sample_hidden: Callable[..., Array]
    sample_visible: Callable[..., Array]
    reconstruct: Callable[..., Array]
    reconstruction_error: Callable[..., Array]
    log_z: Callable[..., Array]
    log_z_without_weights: Callable[..., Array]
    log_prob: Callable[..., Array]
    generate: Callable[..., Array]
    config: BoltzmannConfig


def bernoulli_rbm(dim: int, *, num_hidden: int = 16, initial_sd: float = 0.01) -> BernoulliRBM:
    """Builds a Bernoulli machine over examples of `dim` zeros and ones.

    Equal arguments return the same object, so that compiled programs are found again.

    Args:
      dim: visible units D, >= 1.
      num_hidden: hidden units H, >= 1.
      initial_sd: sd of the weights at the start.

    Returns:
      The `BernoulliRBM`.

    Raises:
      ValueError: if an argument is not accepted; names it, its value and what is.
    """
    return bernoulli_rbm_from_config(BoltzmannConfig(dim, num_hidden, "bernoulli", initial_sd))


@functools.lru_cache(maxsize=64)
def bernoulli_rbm_from_config(config: BoltzmannConfig) -> BernoulliRBM:
    """Builds the machine that `config` describes; equal configs give the same object."""
    if config.visible != "bernoulli":
        raise ValueError(f"visible is {config.visible!r}: accepted is 'bernoulli'")
    dim, num_hidden = config.dim, config.num_hidden

    def init(
        key: Key, v: Array, context: Array | None = None, weights: Array | None = None
    ) -> Params:
        refuse_context(context)
        chex.assert_shape(v, (None, dim))
        check_binary(v)
        return {
            "kernel": config.initial_sd * jax.random.normal(key, (dim, num_hidden)),
            "visible_bias": jnp.zeros(dim),
            "hidden_bias": jnp.zeros(num_hidden),
        }

    def hidden_logits(params: Params, v: Array) -> Array:
        chex.assert_shape(v, (dim,))
        return params["hidden_bias"] + jnp.matmul(v, params["kernel"], precision=HIGHEST)

    def visible_logits(params: Params, h: Array) -> Array:
        chex.assert_shape(h, (num_hidden,))
        return params["visible_bias"] + jnp.matmul(params["kernel"], h, precision=HIGHEST)

    def energy(params: Params, v: Array, h: Array) -> Array:
        pull = jnp.vdot(hidden_logits(params, v), h, precision=HIGHEST)
        return -pull - jnp.vdot(params["visible_bias"], v, precision=HIGHEST)

    def free_energy(params: Params, v: Array, context: Array | None = None) -> Array:
        refuse_context(context)
        soft = jnp.sum(jax.nn.softplus(hidden_logits(params, v)))
        return -jnp.vdot(params["visible_bias"], v, precision=HIGHEST) - soft

    def sample_hidden(key: Key, params: Params, v: Array) -> Array:
        return _coins(key, hidden_logits(params, v))

    def sample_visible(key: Key, params: Params, h: Array) -> Array:
        return _coins(key, visible_logits(params, h))

    def reconstruct(params: Params, v: Array) -> Array:
        mean = jax.nn.sigmoid(hidden_logits(params, v))
        return jax.nn.sigmoid(visible_logits(params, mean))

    def reconstruction_error(params: Params, v: Array) -> Array:
        return jnp.mean((v - reconstruct(params, v)) ** 2)

    def log_z(params: Params) -> Array:
        partition.check_enumerable(min(dim, num_hidden), "the smaller of dim and num_hidden")
        size, bias, other = num_hidden, params["hidden_bias"], visible_logits
        if dim < num_hidden:
            size, bias, other = dim, params["visible_bias"], hidden_logits

        def log_weight(units: Array) -> Array:
            opened = jax.vmap(other, in_axes=(None, 0))(params, units)
            linear = jnp.matmul(units, bias, precision=HIGHEST)
            return linear + jnp.sum(jax.nn.softplus(opened), axis=-1)

        return jax.nn.logsumexp(partition.table(log_weight, size))

    def log_z_without_weights(params: Params) -> Array:
        free = jnp.sum(jax.nn.softplus(params["visible_bias"]))
        return free + jnp.sum(jax.nn.softplus(params["hidden_bias"]))

    def log_prob(
        params: Params, v: Array, context: Array | None = None, *, log_z: Array | None = None
    ) -> Array:
        normaliser = exact_log_z(params) if log_z is None else log_z
        return -free_energy(params, v, context) - normaliser

    exact_log_z = log_z

    def generate(key: Key, params: Params, *, num_steps: int = 1000) -> Array:
        start_key, chain_key = jax.random.split(key)
        start = _coins(start_key, jnp.zeros(dim))

        def one_step(step: Array, v: Array) -> Array:
            keys = jax.random.split(jax.random.fold_in(chain_key, step))
            return sample_visible(keys[1], params, sample_hidden(keys[0], params, v))

        return jax.lax.fori_loop(0, num_steps, one_step, start)

    return BernoulliRBM(
        init,
        energy,
        free_energy,
        hidden_logits,
        visible_logits,
        sample_hidden,
        sample_visible,
        reconstruct,
        reconstruction_error,
        log_z,
        log_z_without_weights,
        log_prob,
        generate,
        config,
    )


def _coins(key: Key, logits: Array) -> Array:
    return jax.random.bernoulli(key, jax.nn.sigmoid(logits)).astype(logits.dtype)


def check_binary(rows: ArrayLike | Array) -> None:
    """Raises ValueError unless all values are zeros and ones; a traced array passes unseen."""
    if isinstance(rows, Tracer):
        return
    values = np.asarray(rows)
    wrong = np.argwhere((values != 0) & (values != 1))
    if wrong.size:
        where = tuple(int(each) for each in wrong[0])
        raise ValueError(
            f"the rows hold {values[where]} at {where}: accepted are zeros and ones; binarise real "
            "numbers by `fit_binariser`, or take `gaussian_bernoulli_rbm`"
        )


class Binariser(NamedTuple):
    """Thresholds of a thermometer code.

    Attributes:
      thresholds: [D, K] increasing in each row, in units of the column.
    """

    thresholds: NumpyArray


def fit_binariser(x: ArrayLike, *, num_thresholds: int = 4) -> Binariser:
    """Sets the thresholds of each column at equally spaced quantiles of training rows.

    Args:
      x: [N, D] training rows, finite, in units of the data.
      num_thresholds: thresholds K of a column; 1 splits it at the median, 4 into fifths.

    Returns:
      The `Binariser`. Where many rows of a column are equal some thresholds coincide, and so do
      the bits they give.

    Raises:
      ValueError: if the rows are not a finite table, or the number is below 1.
    """
    rows = np.asarray(x, np.float64)
    if rows.ndim != 2 or not rows.size or not np.isfinite(rows).all():
        raise ValueError(f"x has shape {rows.shape}: accepted is a finite table [N, D]")
    if num_thresholds < 1:
        raise ValueError(f"num_thresholds is {num_thresholds}: accepted is an integer >= 1")
    levels = np.arange(1, num_thresholds + 1) / (num_thresholds + 1)
    return Binariser(np.quantile(rows, levels, axis=0).T)


def binarise(binariser: Binariser, x: ArrayLike) -> NumpyArray:
    """Encodes rows by a thermometer: bit k of a column is 1 where its value is above threshold k.

    A larger value never turns a bit off, so that near values share bits, as they do not in a code
    of one bit an interval.

    Args:
      binariser: the thresholds.
      x: [N, D] rows in units of the data.

    Returns:
      [N, D K] zeros and ones of float32, the K bits of a column side by side.

    Raises:
      ValueError: if the rows have other columns or a NaN, which is on no side of a threshold.
    """
    rows = np.asarray(x, np.float64)
    num_columns = len(binariser.thresholds)
    if rows.ndim != 2 or rows.shape[1] != num_columns or np.isnan(rows).any():
        raise ValueError(f"x has shape {rows.shape}: accepted is [N, {num_columns}] without a NaN")
    bits = rows[:, :, None] > binariser.thresholds
    return bits.reshape(len(rows), -1).astype(np.float32)
