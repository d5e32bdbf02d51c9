"""Autoregressive flows in one fixed order: exact conditionals, and the Rosenblatt transform.

With the same order in every layer the noise z_i depends on x_1 .. x_i alone and grows with x_i, so
the conditional distribution function is that of the base, at z_i: Rosenblatt's transform is u_i =
Phi(z_i) for the normal base, and the conditional Student t at z_i for the shared t. Rosenblatt,
Remarks on a multivariate transformation, Annals of Mathematical Statistics 23, 1952.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp
from jax.scipy.special import ndtr, ndtri

from densityjax._typing import Array, ArrayLike, Key, Params
from densityjax.distributions import bases
from densityjax.models.base import degrees_of_freedom
from densityjax.models.config import FlowConfig
from densityjax.models.flow import Flow, flow_from_config


class AutoregressiveFlow(NamedTuple):
    """A flow whose conditionals are known exactly; `x` is [D], `context` [C] or None.

    Attributes:
      flow: the `Flow`.
      rosenblatt: (params, x, context=None) -> u [D], entry i is P(X_i <= x_i | X_<i = x_<i); under
        the flow's own law the entries are independent and uniform.
      conditional_cdf: (params, x, index, context=None) -> [], that of entry `index` alone; entries
        of x after it are not read.
      conditional_quantile: (params, x, index, probability, context=None) -> [], the value of entry
        `index` with that probability below it, given the entries before it; the others are not
        read. Of the normal base only.
      conditional_sample: (key, params, x, num_given, context=None) -> [D], a draw of the entries
        from `num_given` on given those before, which come back as they are.
    """

    flow: Flow
    rosenblatt: Callable[..., Array]
    conditional_cdf: Callable[..., Array]
    conditional_quantile: Callable[..., Array]
    conditional_sample: Callable[..., Array]


def autoregressive_flow(dim: int, *, context_dim: int = 0, **options: Any) -> AutoregressiveFlow:
    """Builds a spline flow whose layers all keep one order of the dimensions.

    The order matters: what is to be conditioned on comes first. Equal arguments return the same
    object, so that compiled programs are found again.

    Args:
      dim: size of one example, >= 1.
      context_dim: size of the context, zero for none.
      **options: further fields of `FlowConfig` but `kind` and `mixing`; periodic dimensions have
        no distribution function and are refused.

    Returns:
      The `AutoregressiveFlow`.

    Raises:
      ValueError: if an option is not accepted; names it, its value and what is.

    References:
      Papamakarios et al., Masked autoregressive flow, 2017, https://arxiv.org/abs/1705.07057.
    """
    for name in ("kind", "mixing", "circular_dims"):
        if name in options:
            raise ValueError(f"{name} is {options[name]!r}: accepted is none, the order is fixed")
    options |= {"kind": "autoregressive", "mixing": "none"}
    return _from_config(FlowConfig(dim=dim, context_dim=context_dim, **options))


@functools.lru_cache(maxsize=64)
def _from_config(config: FlowConfig) -> AutoregressiveFlow:
    flow, is_t = flow_from_config(config), config.base == "student_t"
    is_scored = config.tail != "none"

    def known(x: Array, num_known: ArrayLike) -> Array:
        """Keeps the first entries; a network must not even multiply the others, NaN perhaps."""
        return jnp.where(jnp.arange(config.dim) < num_known, x, 0.0)

    def rosenblatt(params: Params, x: Array, context: Array | None = None) -> Array:
        z, _ = flow.to_noise(params, x, context)
        if not is_t:
            return ndtr(z)
        df = degrees_of_freedom(params["base"])
        return _student_t_conditionals(_t_values(z, df, is_scored), df)

    def conditional_cdf(
        params: Params, x: Array, index: ArrayLike, context: Array | None = None
    ) -> Array:
        chex.assert_shape(x, (config.dim,))
        return rosenblatt(params, known(x, jnp.asarray(index) + 1), context)[index]

    def conditional_quantile(
        params: Params,
        x: Array,
        index: ArrayLike,
        probability: ArrayLike,
        context: Array | None = None,
    ) -> Array:
        if is_t:
            raise ValueError("base is 'student_t': conditional_quantile accepts 'normal' alone")
        z, _ = flow.to_noise(params, known(x, index), context)
        z = z.at[index].set(ndtri(jnp.asarray(probability, z.dtype)))
        return flow.from_noise(params, z, context)[0][index]

    def conditional_sample(
        key: Key, params: Params, x: Array, num_given: ArrayLike, context: Array | None = None
    ) -> Array:
        chex.assert_shape(x, (config.dim,))
        given = jnp.arange(config.dim) < num_given
        z, _ = flow.to_noise(params, known(x, num_given), context)
        if is_t:
            df = degrees_of_freedom(params["base"])
            noise = _t_given(key, jnp.where(given, _t_values(z, df, is_scored), 0.0), given, df)
            noise = jax.vmap(bases.wallace_from_t, (0, None))(noise, df)[0] if is_scored else noise
        else:
            noise = jax.random.normal(key, z.shape)
        drawn, _ = flow.from_noise(params, jnp.where(given, z, noise), context)
        return jnp.where(given, x, drawn)

    return AutoregressiveFlow(
        flow, rosenblatt, conditional_cdf, conditional_quantile, conditional_sample
    )


def _t_values(z: Array, df: Array, is_scored: bool) -> Array:
    """Undoes Wallace's scores where the base has them."""
    return jax.vmap(bases.wallace_to_t, (0, None))(z, df)[0] if is_scored else z


def _student_t_conditionals(z: Array, df: Array) -> Array:
    """Returns P(Z_i <= z_i | Z_<i = z_<i) of the multivariate t, [D].

    Given n entries with squared sum S, the next is sqrt((df + S) / (df + n)) times a t with
    df + n degrees of freedom.
    """
    num_before = jnp.arange(z.shape[0])
    sum_before = jnp.cumsum(z * z) - z * z
    scale = jnp.sqrt((df + num_before) / (df + sum_before))
    return jax.vmap(bases.student_t_cdf)(z * scale, df + num_before)


def _t_given(key: Key, z: Array, given: Array, df: Array) -> Array:
    """Draws [D] entries of the multivariate t given those of `z` where `given`; 0 elsewhere."""
    normal_key, chi_key = jax.random.split(key)
    half = 0.5 * (df + jnp.sum(given))
    log_mixing = jax.random.loggamma(chi_key, half) - jnp.log(0.5 * (df + jnp.sum(z * z)))
    return jax.random.normal(normal_key, z.shape) * jnp.exp(-0.5 * log_mixing)
