"""Joint energy models: the logits of a classifier, read as the energy of a density too.

Inside, rows are standardised, y = (x - location) / scale, and f is a network of y alone:

    E(x, k) = |y|^2 / (2 tau^2) - f_k(y),    E(x) = |y|^2 / (2 tau^2) - log sum_k exp f_k(y).

Nothing bounds the network's input: layer norms there would bound f along rays. f grows at most
linearly, so that far out the normal base of sd tau decides, and log Z is finite. Fitted by
cross-entropy alone E is arbitrary; see `losses.joint_energy_loss`.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp

from densityjax import losses
from densityjax._typing import Array, ArrayLike, Key, Params
from densityjax.models.boltzmann import refuse_context
from densityjax.models.joint_energy_config import JointEnergyConfig
from densityjax.models.score_losses import ScoreLoss
from densityjax.models.score_parts import fit_standardiser, standardiser
from densityjax.networks import mlp

VALIDATION_DRAWS = 16  # of noise for each validation row
_VALIDATION_SEED = 20_053  # any fixed number: epochs are compared on the same noise


class JointEnergy(NamedTuple):
    """A joint energy model as pure functions of one example `x`, [D].

    Attributes:
      init: (key, x [N, D], context=None, weights [N] or None) -> params. The rows set the
        standardiser; all logits start at zero, where p(x) is the base law.
      logits: (params, x) -> [K] log odds of the classes, up to a constant.
      log_prob_class: (params, x) -> [K] log p(k | x), nats.
      energy: (params, x, context=None) -> [] E(x), nats.
      joint_energy: (params, x, label) -> [] E(x, label), nats.
      score: (params, x, context=None) -> [D] minus the gradient of E(x), per unit of x.
      log_prob: (params, x, context=None, *, log_z) -> [] log density, `log_z` that of exp(-E)
        integrated over x.
      standard_logits: (params, y) -> [K] logits at standardised y.
      config: the `JointEnergyConfig` it was built from.
    """

    init: Callable[..., Params]
    logits: Callable[..., Array]
    log_prob_class: Callable[..., Array]
    energy: Callable[..., Array]
    joint_energy: Callable[..., Array]
    score: Callable[..., Array]
    log_prob: Callable[..., Array]
    standard_logits: Callable[..., Array]
    config: JointEnergyConfig


def joint_energy_model(dim: int, *, num_classes: int, **options: Any) -> JointEnergy:
    """Builds a joint energy model over examples of `dim` numbers.

    Equal arguments return the same object, so that compiled programs are found again.

    Args:
      dim: size of one example, >= 1.
      num_classes: classes K, >= 2.
      **options: further fields of `JointEnergyConfig`: widths, tau, activation.

    Returns:
      The `JointEnergy`.

    Raises:
      ValueError: if an option is not accepted; names it, its value and what is.
    """
    return joint_energy_from_config(JointEnergyConfig(dim, num_classes, **options))


@functools.lru_cache(maxsize=64)
def joint_energy_from_config(config: JointEnergyConfig) -> JointEnergy:
    """Builds the model that `config` describes; equal configs give the same object."""
    network = mlp(
        config.dim, config.num_classes, widths=config.widths, activation=config.activation
    )

    def init(
        key: Key, x: Array, context: Array | None = None, weights: Array | None = None
    ) -> Params:
        refuse_context(context)
        chex.assert_shape(x, (None, config.dim))
        fitted = fit_standardiser(x, weights)._asdict()
        return {"standardiser": fitted, "network": network.init(key)}

    def standard(params: Params, x: Array) -> Array:
        chex.assert_shape(x, (config.dim,))
        location, scale = standardiser(params)
        return (x - location) / scale

    def standard_logits(params: Params, y: Array) -> Array:
        return network.apply(params["network"], y)

    def logits(params: Params, x: Array) -> Array:
        return standard_logits(params, standard(params, x))

    def log_prob_class(params: Params, x: Array) -> Array:
        return jax.nn.log_softmax(logits(params, x))

    def energy(params: Params, x: Array, context: Array | None = None) -> Array:
        refuse_context(context)
        y = standard(params, x)
        return losses.marginal_energy(standard_logits(params, y), y, config.tau)

    def joint_energy(params: Params, x: Array, label: ArrayLike) -> Array:
        return energy(params, x) - log_prob_class(params, x)[label]

    def score(params: Params, x: Array, context: Array | None = None) -> Array:
        return -jax.grad(energy, argnums=1)(params, x, context)

    def log_prob(
        params: Params, x: Array, context: Array | None = None, *, log_z: ArrayLike
    ) -> Array:
        return -energy(params, x, context) - jnp.asarray(log_z)

    return JointEnergy(
        init, logits, log_prob_class, energy, joint_energy, score, log_prob, standard_logits, config
    )


@functools.lru_cache(maxsize=64)
def joint_energy_fit_loss(
    model: JointEnergy,
    *,
    density_weight: float = 0.1,
    sigma: float = 0.2,
    num_validation_draws: int = VALIDATION_DRAWS,
) -> ScoreLoss:
    """Builds the loss of a joint energy model for `training.fit`; equal arguments, same functions.

    Args:
      model: the `JointEnergy`.
      density_weight: factor of denoising score matching beside the cross-entropy, >= 0; zero is
        the plain classifier.
      sigma: noise level, in standard deviations of the data, positive. The density is that of
        rows with this noise: small levels blur less and teach more slowly.
      num_validation_draws: noises of each validation row, at least 1.

    Returns:
      The pair of losses; a batch is (x [B, D], label [B]).

    Raises:
      ValueError: if an argument is not accepted.
    """
    if density_weight < 0 or not sigma > 0 or num_validation_draws < 1:
        raise ValueError(
            f"density_weight={density_weight}, sigma={sigma}, num_validation_draws="
            f"{num_validation_draws}: accepted are >= 0, > 0 and >= 1"
        )

    def row_loss(params: Params, x: Array, label: Array, noise: Array) -> Array:
        location, scale = standardiser(params)
        return losses.joint_energy_loss(
            lambda y: model.standard_logits(params, y),
            (x - location) / scale,
            label.astype(int),
            tau=model.config.tau,
            density_weight=density_weight,
            noise=noise if density_weight > 0 else None,
            sigma=sigma,
        )

    def of_batch(params: Params, key: Key, batch: tuple[Array, Array]) -> Array:
        x, label = batch
        noise = jax.random.normal(key, x.shape, x.dtype)
        return jax.vmap(row_loss, in_axes=(None, 0, 0, 0))(params, x, label, noise)

    def loss_fn(params: Params, key: Key, batch: Any, loss_state: Any) -> tuple[Array, Any, tuple]:
        return of_batch(params, key, batch), loss_state, ()

    def validation_loss_fn(
        params: Params, key: Key, batch: Any, loss_state: Any
    ) -> tuple[Array, Any, tuple]:
        del key
        num_draws = num_validation_draws if density_weight > 0 else 1
        keys = jax.random.split(jax.random.key(_VALIDATION_SEED), num_draws)
        draws = jax.lax.map(lambda key: of_batch(params, key, batch), keys)
        return jnp.mean(draws, axis=0), loss_state, ()

    return ScoreLoss(loss_fn, validation_loss_fn)
