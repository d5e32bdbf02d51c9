"""Activations with their slopes in closed form: the usual seven.

Those of conditioners are taken from there; leaky ReLU, sigmoid and the identity are added. GELU is
the tanh form, u (1 + tanh(c (u + a u^3))) / 2 with c = sqrt(2 / pi), as everywhere in the package.
Densities and conservative scores differentiate a network twice: `is_smooth` says which ones allow
it.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from densityjax._typing import Array
from densityjax.networks.conditioners import ACTIVATIONS as _OF_CONDITIONERS

_GELU_RATE = math.sqrt(2.0 / math.pi)
_GELU_CUBE = 0.044715  # coefficient of u^3, of Hendrycks and Gimpel, GELUs, 2016
LEAK = 0.01  # slope of the leaky ReLU of the table below zero, no unit


class Activation(NamedTuple):
    """An activation of one number, applied entry by entry.

    Attributes:
      value: u -> activation.
      slope: u -> its derivative; at a kink, that of the right side.
      is_smooth: True where it has a second derivative everywhere.
    """

    value: Callable[[Array], Array]
    slope: Callable[[Array], Array]
    is_smooth: bool


def _gelu_slope(u: Array) -> Array:
    bend = jnp.tanh(_GELU_RATE * (u + _GELU_CUBE * u**3))
    rate = _GELU_RATE * (1.0 + 3.0 * _GELU_CUBE * u**2)
    return 0.5 * (1.0 + bend + u * (1.0 - bend**2) * rate)


def _silu_slope(u: Array) -> Array:
    share = jax.nn.sigmoid(u)
    return share * (1.0 + u * (1.0 - share))


def _sigmoid_slope(u: Array) -> Array:
    return jax.nn.sigmoid(u) * jax.nn.sigmoid(-u)


def leaky_relu(leak: float = LEAK) -> Activation:
    """Builds the leaky ReLU, `u` above zero and `leak * u` below.

    Args:
      leak: slope below zero, no unit.

    Returns:
      The `Activation`; `leak` zero is the ReLU.

    Raises:
      ValueError: if `leak` is not in [0, 1).
    """
    if not 0.0 <= leak < 1.0:
        raise ValueError(f"leak is {leak}: accepted is 0 <= leak < 1")
    return Activation(
        lambda u: jnp.where(u >= 0.0, u, leak * u),
        lambda u: jnp.where(u >= 0.0, 1.0, leak),
        is_smooth=False,
    )


ACTIVATIONS: dict[str, Activation] = {
    "gelu": Activation(_OF_CONDITIONERS["gelu"], _gelu_slope, True),
    "identity": Activation(lambda u: u, jnp.ones_like, True),
    "leaky_relu": leaky_relu(),
    "relu": Activation(_OF_CONDITIONERS["relu"], leaky_relu(0.0).slope, False),
    "sigmoid": Activation(jax.nn.sigmoid, _sigmoid_slope, True),
    "silu": Activation(_OF_CONDITIONERS["silu"], _silu_slope, True),
    "tanh": Activation(_OF_CONDITIONERS["tanh"], lambda u: 1.0 - jnp.tanh(u) ** 2, True),
}
