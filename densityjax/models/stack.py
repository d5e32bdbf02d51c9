"""The layers between tails and base: mixing and a spline or affine layer, L times.

A layer is ActNorm (optional), a mixing of the dimensions, and scalar maps whose parameters a
network reads off the other dimensions: half of them in a coupling (Dinh et al., 2017), those before
in an autoregressive layer (Papamakarios et al., 2017). Layers are stacked on a leading axis and
scanned, so that compile time does not grow with their number. Angles, see `circular_dims` of
`FlowConfig`, are moved by circular splines, stay out of the linear mixing, and are read by the
networks as cosine and sine.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from densityjax._typing import Array, Key, NumpyArray, Params
from densityjax.bijectors import actnorm as actnorm_lib
from densityjax.bijectors import autoregressive, circular_spline, coupling, linear
from densityjax.models import scalar_maps
from densityjax.models.config import FlowConfig
from densityjax.networks import Network, masked_residual, mlp, residual

_Step = tuple[Array, Array]


class Stack(NamedTuple):
    """All layers between tails and base, as pure functions; `value` and `z` are [D].

    Attributes:
      init: (key, value [N, D], weights [N] or None, context [N, C] or None) -> params.
      to_noise: (params, value, context, dropout_key) -> (z, log det []).
      from_noise: (params, z, context) -> (value, log det []).
      is_angle: [D] which entries of z are angles, a host array.
    """

    init: Callable[..., Params]
    to_noise: Callable[..., _Step]
    from_noise: Callable[..., _Step]
    is_angle: NumpyArray


def build_scale(config: FlowConfig, num_layers: int, is_angle: NumpyArray) -> Stack:
    """Builds the scanned layers of one scale.

    Args:
      config: what the layers are made of.
      num_layers: number of layers, at least 1.
      is_angle: [D] which entries of the value are angles, a host array; sets the size D too.

    Returns:
      The `Stack`.
    """
    dim, is_reversed = len(is_angle), config.mixing != "none"
    layer = _Layer(config, is_angle)
    # The mixing reverses the dimensions, so every other layer sees the angles reversed.
    flips = [is_angle[::-1] if is_reversed and i % 2 else is_angle for i in range(num_layers)]
    angles = jnp.asarray(np.stack(flips)) if is_angle.any() else None
    last = is_angle[::-1] if is_reversed and num_layers % 2 else is_angle

    def init(key: Key, value: Array, weights: Array | None, context: Array | None) -> Params:
        if layer.network is None:
            layers = {"logits": jnp.zeros((num_layers, layer.num_logits))}
        else:
            layers = jax.vmap(layer.network.init)(jax.random.split(key, num_layers))
        params = {"layers": layers, "mixing": {}}
        if dim > 1 and config.mixing == "lu":
            params["mixing"] = start_mixing(value, weights)
        if config.actnorm:
            params["actnorm"] = fit_actnorm(params, value, weights, context)
        return params

    def start_mixing(value: Array, weights: Array | None) -> Params:
        # All start as the reversal that the fixed one is; the first may take out correlation too.
        start = [linear.init(dim)] * num_layers
        if config.whiten:
            start[0] = linear.whitening(jnp.where(is_angle, 0.0, value)[:, ::-1], weights)
        return jax.tree.map(lambda *leaves: jnp.stack(leaves), *start)._asdict()

    def inputs_of(params: Params) -> tuple:
        return params["layers"], params["mixing"], params.get("actnorm"), angles

    def fit_actnorm(params: Params, value: Array, weights: Array | None, context: Any) -> Params:
        def one(rows: Array, inputs: tuple) -> tuple[Array, Params]:
            own = actnorm_lib.fit(rows, weights)._asdict()
            inputs = (inputs[0], inputs[1], own, inputs[3])
            move = jax.vmap(
                lambda v, c: layer.to_noise(inputs, v, c, None)[0],
                (0, None if context is None else 0),
            )
            return move(rows, context), own

        if weights is not None:
            value = jnp.where(weights[:, None] > 0.0, value, 0.0)
        return jax.lax.scan(one, value, inputs_of(params))[1]

    def to_noise(params: Params, value: Array, context: Array | None, dropout_key: Any) -> _Step:
        def step(carry: _Step, inputs: tuple) -> tuple[_Step, None]:
            moved, log_det = layer.to_noise(inputs, carry[0], context, dropout_key)
            return (moved, carry[1] + log_det), None

        return jax.lax.scan(step, (value, jnp.zeros(())), inputs_of(params))[0]

    def from_noise(params: Params, z: Array, context: Array | None) -> _Step:
        def step(carry: _Step, inputs: tuple) -> tuple[_Step, None]:
            moved, log_det = layer.from_noise(inputs, carry[0], context)
            return (moved, carry[1] + log_det), None

        return jax.lax.scan(step, (z, jnp.zeros(())), inputs_of(params), reverse=True)[0]

    return Stack(init, to_noise, from_noise, last)


class _Layer:
    """One layer; `inputs` are its network params, mixing, ActNorm and which entries are angles."""

    def __init__(self, config: FlowConfig, is_angle: NumpyArray) -> None:
        self.config, self.dim = config, len(is_angle)
        self.has_angles = bool(is_angle.any())
        self.is_autoregressive = config.kind == "autoregressive" and self.dim > 1
        self.num_kept = 0 if self.is_autoregressive else self.dim // 2
        self.num_logits = scalar_maps.num_logits(config)
        if self.has_angles:
            of_angle = circular_spline.num_logits(config.num_bins)
            self.num_logits = max(self.num_logits, of_angle)
        self.network = self._network()

    def _network(self) -> Network | None:
        """The conditioner; None where a layer reads nothing and its logits are free."""
        config, copies = self.config, 2 if self.has_angles else 1
        if self.is_autoregressive:
            return masked_residual(
                self.dim,
                self.num_logits,
                copies=copies,
                num_context=config.context_dim,
                width=config.width,
                num_blocks=config.num_hidden,
                activation=config.activation,
                dropout=config.dropout,
            )
        num_outputs = (self.dim - self.num_kept) * self.num_logits
        return conditioner(config, copies * self.num_kept, num_outputs)

    def to_noise(
        self, inputs: tuple, value: Array, context: Array | None, dropout_key: Key | None
    ) -> _Step:
        """Normalises, mixes, then moves."""
        layer, mixing, actnorm, is_angle = inputs
        value, log_det_norm = self._normalise(actnorm, value, is_angle, actnorm_lib.forward)
        value, log_det_mixed = self._mix(mixing, value, is_angle, inverse=False)
        value, log_det = self._move(layer, value, context, self._after(is_angle), dropout_key)
        return value, log_det_norm + log_det_mixed + log_det

    def from_noise(self, inputs: tuple, value: Array, context: Array | None) -> _Step:
        """Undoes `to_noise`."""
        layer, mixing, actnorm, is_angle = inputs
        after = self._after(is_angle)
        value, log_det = self._move(layer, value, context, after, None, inverse=True)
        value, log_det_mixed = self._mix(mixing, value, is_angle, inverse=True)
        value, log_det_norm = self._normalise(actnorm, value, is_angle, actnorm_lib.inverse)
        return value, log_det + log_det_mixed + log_det_norm

    def _after(self, is_angle: Array | None) -> Array | None:
        """Which entries are angles once the mixing has reversed them."""
        if is_angle is None or self.config.mixing == "none":
            return is_angle
        return is_angle[::-1]

    def _normalise(
        self, actnorm: Params, value: Array, is_angle: Array | None, apply: Callable
    ) -> _Step:
        if actnorm is None:
            return value, jnp.zeros(())
        if is_angle is not None:
            actnorm = jax.tree.map(lambda leaf: jnp.where(is_angle, 0.0, leaf), actnorm)
        return apply(actnorm_lib.ActNorm(**actnorm), value)

    def _mix(self, mixing: Params, value: Array, is_angle: Array | None, *, inverse: bool) -> _Step:
        """Reverses the dimensions, so that two layers move them all, and mixes them if asked to."""
        if self.config.mixing == "none" or self.dim == 1:
            return value, jnp.zeros(())
        order = linear.reverse_permutation(self.dim)
        if self.config.mixing == "permutation":
            return value[order], jnp.zeros(())  # its own inverse
        factors = linear.Linear(**mixing)
        apply = linear.inverse if inverse else linear.forward
        if is_angle is None:
            return apply(factors, value, permutation=order)
        is_real = ~is_angle[order]
        factors = linear.Linear(
            factors.lower * jnp.outer(is_real, is_real),
            factors.upper * jnp.outer(is_real, is_real),
            factors.diagonal_logits * is_real,
        )
        mixed, log_det = apply(factors, value, permutation=order)
        return jnp.where(is_angle if inverse else ~is_real, value[order], mixed), log_det

    def _move(
        self,
        layer: Params,
        value: Array,
        context: Array | None,
        is_angle: Array | None,
        dropout_key: Key | None,
        *,
        inverse: bool = False,
    ) -> _Step:
        """Moves entries by scalar maps whose logits the network reads off the others."""
        network, num_moved = self.network, self.dim - self.num_kept

        def parameters(read: Array) -> Params:
            if network is None:
                logits = layer["logits"]
            else:
                if is_angle is not None:
                    read = circular_spline.features(read, is_angle[: read.shape[0]])
                logits = network.apply(layer, read, context, dropout_key=dropout_key)
            logits = logits.reshape(num_moved, -1)
            return (logits, None if is_angle is None else is_angle[self.num_kept :])

        def move(one: tuple[Array, Array | None], entry: Array) -> _Step:
            return scalar_maps.apply_logits(self.config, one[0], one[1], entry, inverse=inverse)

        if self.is_autoregressive:
            transform = autoregressive.inverse if inverse else autoregressive.forward
            return transform(value, parameters, move)
        return coupling.transform(value, self.num_kept, parameters, move)


def conditioner(config: FlowConfig, num_inputs: int, num_outputs: int) -> Network | None:
    """Builds the network of `num_inputs` entries and the context; None where it reads nothing."""
    if num_inputs + config.context_dim == 0:
        return None
    common = {
        "num_context": config.context_dim,
        "activation": config.activation,
        "dropout": config.dropout,
    }
    if config.conditioner == "mlp":
        widths = (config.width,) * config.num_hidden
        return mlp(num_inputs, num_outputs, widths=widths, **common)
    return residual(
        num_inputs, num_outputs, width=config.width, num_blocks=config.num_hidden, **common
    )
