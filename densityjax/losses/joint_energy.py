"""A classifier that is a density too: cross-entropy plus a loss of p(x), of one example.

With logits f, one a class, and a normal base law of sd tau,

    E(x, y) = |x|^2 / (2 tau^2) - f_y(x),    E(x) = |x|^2 / (2 tau^2) - log sum_y exp f_y(x),

so that p(y | x) = softmax(f)_y. Adding any c(x) to all logits leaves p(y | x), and with it the
cross-entropy, as they are, and changes E(x): a classifier alone has no density, and its low energy
says nothing of p(x). Only the second loss fixes c. The base makes Z finite where f grows at most
linearly. Grathwohl et al., Your classifier is secretly an energy based model, 2020
(https://arxiv.org/abs/1912.03263), without a base there.
"""

from collections.abc import Callable
from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp

from densityjax._typing import Array, ArrayLike
from densityjax.losses.score_matching import denoising_score_matching

LogitsFn = Callable[[Array], Array]  # [D] -> [K]


class JointEnergyTerms(NamedTuple):
    """Both parts of the loss of one example.

    Attributes:
      cross_entropy: [] -log p(y | x), nats.
      density: [] the loss of p(x): denoising (no unit) or contrastive divergence (nats).
      is_finite: [] False where either is not finite: whoever sees it stops, nothing is replaced.
    """

    cross_entropy: Array
    density: Array
    is_finite: Array


def marginal_energy(logits: Array, x: Array, tau: ArrayLike) -> Array:
    """Computes `|x|^2 / (2 tau^2) - log sum_y exp f_y`.

    Args:
      logits: [K] logits f of the classes at `x`.
      x: [D] the point.
      tau: [] sd of the base law, in units of x; infinity for none.

    Returns:
      [] energy, nats.
    """
    chex.assert_rank([logits, x], 1)
    return 0.5 * jnp.sum((x / jnp.asarray(tau)) ** 2) - jax.nn.logsumexp(logits)


def joint_energy_terms(
    logits_fn: LogitsFn,
    x: Array,
    label: ArrayLike,
    *,
    tau: ArrayLike,
    noise: Array | None = None,
    sigma: ArrayLike = 0.2,
    negative: Array | None = None,
) -> JointEnergyTerms:
    """Computes the two parts of `joint_energy_loss`, each for itself.

    Args:
      logits_fn: logits with parameters bound, [D] to [K].
      x: [D] one example, of about unit variance.
      label: [] its class, an integer from 0.
      tau: [] sd of the base law, in units of x.
      noise: [D] unit noise of denoising score matching, or None.
      sigma: [] its level, in units of x: the law that is learnt is that of x + sigma noise.
      negative: [D] the end of a chain on exp(-E), or None; no gradient goes through it.

    Returns:
      The `JointEnergyTerms`; with neither noise nor negative the density's part is zero.

    Raises:
      ValueError: if both are given.
    """
    chex.assert_rank(x, 1)
    if noise is not None and negative is not None:
        raise ValueError("noise and negative are given: accepted is one of them")

    def energy_fn(point: Array) -> Array:
        return marginal_energy(logits_fn(point), point, tau)

    cross_entropy = -jax.nn.log_softmax(logits_fn(x))[label]
    density = jnp.zeros_like(cross_entropy)
    if noise is not None:
        gradient = jax.grad(energy_fn)
        density = denoising_score_matching(lambda y, _: -gradient(y), x, noise, sigma, weight=1.0)
        # Without the part that is the noise's own: what remains is |s - s*|^2 up to a constant.
        density -= jnp.sum(noise**2) / jnp.asarray(sigma) ** 2
    elif negative is not None:
        density = energy_fn(x) - energy_fn(jax.lax.stop_gradient(negative))
    is_finite = jnp.isfinite(cross_entropy) & jnp.isfinite(density)
    return JointEnergyTerms(cross_entropy, density, is_finite)


def joint_energy_loss(
    logits_fn: LogitsFn,
    x: Array,
    label: ArrayLike,
    *,
    tau: ArrayLike,
    density_weight: ArrayLike = 1.0,
    noise: Array | None = None,
    sigma: ArrayLike = 0.2,
    negative: Array | None = None,
) -> Array:
    """Computes `-log p(y | x) + w L(x)`, L a loss of p(x) that fixes what the first leaves open.

    L is denoising score matching on -grad E, `|s + eps / sigma|^2 - |eps|^2 / sigma^2`, half the
    score's square error but for a constant, or contrastive divergence, `E(x) - E(x')`.

    Args:
      logits_fn: logits with parameters bound, [D] to [K].
      x: [D] one example, of about unit variance.
      label: [] its class, an integer from 0.
      tau: [] sd of the base law, in units of x.
      density_weight: [] factor w of the density's part.
      noise: [D] unit noise of denoising score matching, or None.
      sigma: [] its level, in units of x.
      negative: [D] the end of a chain on exp(-E), or None.

    Returns:
      [] the loss.

    Raises:
      ValueError: if noise and negative are both given.
    """
    terms = joint_energy_terms(
        logits_fn, x, label, tau=tau, noise=noise, sigma=sigma, negative=negative
    )
    return terms.cross_entropy + jnp.asarray(density_weight) * terms.density
