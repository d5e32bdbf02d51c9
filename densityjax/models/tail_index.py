"""How heavy the tails of a fitted flow are: its tail index per dimension and side.

P(X > x) falls as x^-index. Far out all splines are the identity, so the noise v that meets the tail
layer of dimension i is a linear map A of the base. For the normal base v has variance |A_i|_2^2 and
both tail layers, with shape h, give the index 1 / (h |A_i|_2^2). For Wallace scores of the shared
t the likeliest way out is along the diagonal of the base, which replaces the variance by
(kappa |A_i|_1)^2. Without a tail layer the tails are those of the base.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from densityjax._typing import Array, Params
from densityjax.distributions import bases
from densityjax.models.base import degrees_of_freedom
from densityjax.models.elementwise import all_tails
from densityjax.models.flow import Flow
from densityjax.models.multiscale import build_stack


class TailIndex(NamedTuple):
    """Tail index of each dimension, infinite where moments of all orders exist.

    Attributes:
      lower: [D] of the side towards minus infinity, no unit; moments below it exist.
      upper: [D] of the side towards infinity, likewise.
    """

    lower: Array
    upper: Array


def tail_index(flow: Flow, params: Params) -> TailIndex:
    """Reads the tail indices off the parameters of a flow.

    Args:
      flow: a spline flow.
      params: its parameters; what the context says moves no index.

    Returns:
      The `TailIndex`, leaves [D]; periodic dimensions have infinite ones.

    Raises:
      ValueError: if the flow is affine with two or more dimensions: there the scale far out is
        whatever the networks say far out.

    References:
      Goerg, 2015, https://arxiv.org/abs/1010.2265, for one dimension, where A is 1.
    """
    config = flow.config
    if config.transform != "spline":
        raise ValueError(f"transform is {config.transform!r}: accepted is 'spline'")
    is_angle = np.isin(np.arange(config.dim), config.circular_dims)
    is_t = config.base == "student_t"
    df = degrees_of_freedom(params["base"]) if is_t else jnp.asarray(jnp.inf)
    if config.tail == "none":
        index = jnp.where(is_angle, jnp.inf, df)
        return TailIndex(index, index)
    spread = _linear_part(flow, params)
    if is_t:
        variance = (bases.wallace_factor(df) * jnp.sum(jnp.abs(spread), axis=1)) ** 2
    else:
        variance = jnp.sum(spread**2, axis=1)
    tail = all_tails(config, params)
    lower, upper = (
        jnp.where(is_angle, jnp.inf, 1.0 / (shape * variance))
        for shape in (tail.h_minus, tail.h_plus)
    )
    return TailIndex(lower, upper)


def _linear_part(flow: Flow, params: Params) -> Array:
    """Returns A, [D, D]: the layers with all splines at the identity, from noise to tails."""

    def without_splines(part: Params) -> Params:
        return {**part, "layers": jax.tree.map(jnp.zeros_like, part["layers"])}

    flat = without_splines(params)
    for name in params:
        if name.startswith("scale_"):
            flat[name] = without_splines(params[name])
    stack, num_context = build_stack(flow.config), flow.config.context_dim
    context = jnp.zeros(num_context) if num_context else None
    return jax.jacfwd(lambda z: stack.from_noise(flat, z, context)[0])(jnp.zeros(flow.config.dim))
