"""Scales: half of the dimensions leave for the base after each share of the layers but the last.

What leaves early is left as it is by the later layers, which then move half as many dimensions; the
log-determinants add up. Dinh et al., Density estimation using Real NVP, 2017
(https://arxiv.org/abs/1605.08803), section 3.6.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from densityjax._typing import Array, Key, NumpyArray, Params
from densityjax.models.config import FlowConfig
from densityjax.models.stack import Stack, build_scale


def build_stack(config: FlowConfig) -> Stack:
    """Builds the layers that `config` describes; later scales hold their params as `scale_1`..."""
    is_angle = np.isin(np.arange(config.dim), config.circular_dims)
    scales, left = [], []
    for scale in range(config.num_scales):
        num_layers = len(range(scale, config.num_layers, config.num_scales))
        scales.append(build_scale(config, num_layers, is_angle))
        is_angle = scales[-1].is_angle
        if scale < config.num_scales - 1:
            left.append(is_angle[: len(is_angle) // 2])
            is_angle = is_angle[len(is_angle) // 2 :]
    if config.num_scales == 1:
        return scales[0]
    return _join_scales(scales, np.concatenate([*left, is_angle]))


def _join_scales(scales: list[Stack], is_angle: NumpyArray) -> Stack:
    """Lets the first half of the dimensions leave after every scale but the last."""
    sizes = [len(scale.is_angle) for scale in scales]

    def of_scale(params: Params, index: int) -> Params:
        return params if index == 0 else params[f"scale_{index}"]

    def init(key: Key, value: Array, weights: Array | None, context: Array | None) -> Params:
        params = {}
        keys = jax.random.split(key, len(scales))
        for index, scale in enumerate(scales):
            own = scale.init(keys[index], value, weights, context)
            params.update(own if index == 0 else {f"scale_{index}": own})
            value = _rows_to_noise(scale, own, value, context)[:, sizes[index] // 2 :]
        return params

    def to_noise(
        params: Params, value: Array, context: Array | None, dropout_key: Any
    ) -> tuple[Array, Array]:
        left, total = [], jnp.zeros(())
        for index, scale in enumerate(scales):
            if index:
                half = value.shape[0] // 2
                left.append(value[:half])
                value = value[half:]
            value, log_det = scale.to_noise(of_scale(params, index), value, context, dropout_key)
            total = total + log_det
        return jnp.concatenate([*left, value]), total

    def from_noise(params: Params, z: Array, context: Array | None) -> tuple[Array, Array]:
        value, total = z[z.shape[0] - sizes[-1] :], jnp.zeros(())
        start = z.shape[0] - sizes[-1]
        for index in reversed(range(len(scales))):
            value, log_det = scales[index].from_noise(of_scale(params, index), value, context)
            total = total + log_det
            if index:
                half = sizes[index - 1] // 2
                value = jnp.concatenate([z[start - half : start], value])
                start -= half
        return value, total

    return Stack(init, to_noise, from_noise, is_angle)


def _rows_to_noise(scale: Stack, params: Params, value: Array, context: Array | None) -> Array:
    one = jax.vmap(
        lambda v, c: scale.to_noise(params, v, c, None)[0], (0, 0 if context is not None else None)
    )
    return one(value, context)
