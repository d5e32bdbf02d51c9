"""The forecast of the next return: an equal mixture of conditional one-dimensional flows.

Rows are bars, members are flows. A row's flows are spelled out once as `Marginal`s in units of the
return itself, so that every question below is scalar arithmetic and no Jacobian is left to the
reader. With F_m the CDF of member m:

    log p = logsumexp_m log p_m - log M        F = mean_m F_m        Q by bisection of F
    ES_a  = -1/a mean_m int_0^{F_m(Q(a))} Q_m(u) du
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.special import ndtr

from densityjax import numerics
from densityjax._typing import Array, ArrayLike, Key, Params
from densityjax.models import marginal as marginal_lib
from densityjax.models import mixture
from densityjax.models.batching import map_rows
from densityjax.models.flow import Flow
from densityjax.models.marginal import Marginal
from densityjax.risk.tails import RiskRecord

_member_noise = jax.vmap(marginal_lib.to_noise, (0, None))
_member_quantile = jax.vmap(marginal_lib.quantile, (0, None))
_member_noises = jax.vmap(jax.vmap(marginal_lib.to_noise, (None, 0)), (0, None))
_member_values = jax.vmap(jax.vmap(marginal_lib.from_noise, (None, 0)), (0, None))


@functools.lru_cache(maxsize=64)
def return_marginals(flow: Flow) -> Callable[[Params, Array, Array], Marginal]:
    """Returns the function that spells out all members' flows for one bar.

    Args:
      flow: flow of one dimension over y = return / exp(log_scale), with a context.

    Returns:
      (params with a leading axis of M members, context [C], log_scale []) -> `Marginal` in units
      of the return, each leaf with a leading axis of M.
    """

    def spell_out(params: Params, context: Array, log_scale: Array) -> Marginal:
        one = jax.vmap(flow.marginal, (0, None))(params, context)
        scale = jnp.exp(log_scale)
        return one._replace(location=one.location * scale, scale=one.scale * scale)

    return spell_out


def log_prob(members: Marginal, x: Array) -> Array:
    """Returns the log density of the mixture at the scalar `x`."""
    return mixture.log_prob(marginal_lib.log_prob, members, x)


def cdf(members: Marginal, x: Array) -> Array:
    """Returns P(X <= x) of the mixture."""
    return jnp.mean(ndtr(_member_noise(members, x)[0]))


def prob_above(members: Marginal, x: Array) -> Array:
    """Returns P(X > x) of the mixture, with the digits that 1 - CDF would round off."""
    return jnp.mean(ndtr(-_member_noise(members, x)[0]))


def quantile(members: Marginal, probability: Array) -> Array:
    """Returns the mixture's quantile, bisected between the members' smallest and largest."""
    each = _member_quantile(members, probability)
    is_upper = probability > 0.5

    def halve(bracket: tuple[Array, Array], _: None) -> tuple[tuple[Array, Array], None]:
        low, high = bracket
        middle = 0.5 * (low + high)
        z = _member_noise(members, middle)[0]
        # In the upper half the survival function keeps the digits that the CDF would round off.
        below = jnp.where(
            is_upper, jnp.mean(ndtr(-z)) > 1.0 - probability, jnp.mean(ndtr(z)) < probability
        )
        return (jnp.where(below, middle, low), jnp.where(below, high, middle)), None

    bracket = (jnp.min(each), jnp.max(each))
    (low, high), _ = jax.lax.scan(halve, bracket, length=numerics.BISECTIONS)
    return 0.5 * (low + high)


def expected_shortfall(members: Marginal, tail_probability: Array) -> Array:
    """Returns the mean loss beyond the quantile, positive for a loss; u = a s^4 tames the tail."""
    threshold = quantile(members, tail_probability)
    mass = ndtr(_member_noise(members, threshold)[0])
    nodes, weights = np.polynomial.legendre.leggauss(numerics.QUADRATURE_NODES)
    s, w = 0.5 * (nodes + 1.0), 0.5 * weights

    def partial_mean(member: Marginal, mass: Array) -> Array:
        values = jax.vmap(marginal_lib.quantile, (None, 0))(member, mass * s**4)
        return mass * jnp.sum(w * 4.0 * s**3 * values)

    return -jnp.mean(jax.vmap(partial_mean)(members, mass)) / tail_probability


def moments(members: Marginal) -> tuple[Array, Array, Array, Array]:
    """Returns mean, standard deviation, skewness and excess kurtosis.

    By the trapezoid rule over the normal score. They are finite numbers even where the law has no
    such moment: the k-th needs Lambert-W tails h below 1 / k.
    """
    z = np.linspace(-numerics.NORMAL_RANGE, numerics.NORMAL_RANGE, numerics.TRAPEZOID_NODES)
    mass = np.exp(-0.5 * z**2) / np.exp(-0.5 * z**2).sum()
    values = _member_values(members, jnp.asarray(z))[0]
    centre = jnp.mean(values @ mass)
    std = jnp.sqrt(jnp.mean((values - centre) ** 2 @ mass))
    standard = (values - centre) / std
    return centre, std, jnp.mean(standard**3 @ mass), jnp.mean(standard**4 @ mass) - 3.0


def crps(members: Marginal, x: Array) -> Array:
    """Returns the continuous ranked probability score of the mixture at the realised `x`.

    int_-inf^x F^2 + int_x^inf (1 - F)^2, each half line mapped to (-1, 1) and integrated by
    Gauss-Legendre (Matheson and Winkler, 1976).
    """
    node, weight = np.polynomial.legendre.leggauss(numerics.SCORE_NODES)
    scale = jnp.mean(members.scale * members.tail.scale)
    distance = scale * (1.0 + node) / (1.0 - node)
    weight = weight * 2.0 / (1.0 - node) ** 2

    def tail_mass(side: float) -> Array:
        points = x + side * distance
        return jnp.mean(ndtr(-side * _member_noises(members, points)[0]), axis=0)

    return scale * jnp.sum(weight * (tail_mass(-1.0) ** 2 + tail_mass(1.0) ** 2))


@dataclasses.dataclass(frozen=True, eq=False)
class ReturnDistribution:
    """The forecast density of the log return from the close of each bar to the next close.

    Attributes:
      index: [N] timestamps of the bars at whose close the forecasts are made.
      members: the mixture, each leaf [N, M, ...], in units of the return.
    """

    index: Any
    members: Marginal

    def __len__(self) -> int:
        return self.members.location.shape[0]

    def _per_row(self, values: ArrayLike, name: str) -> np.ndarray:
        values = np.asarray(values, np.float32)
        if values.ndim > 1 or values.shape not in ((), (len(self),)):
            raise ValueError(f"{name} has shape {values.shape}: accepted is one or [{len(self)}]")
        return np.broadcast_to(values, (len(self),))

    def _probability(self, values: ArrayLike, name: str) -> np.ndarray:
        values = self._per_row(values, name)
        if not ((values > 0) & (values < 1)).all():
            raise ValueError(f"{name} is {values.min()} to {values.max()}: accepted is 0 < p < 1")
        return values

    def log_prob(self, r: ArrayLike) -> np.ndarray:
        """Returns [N] log densities in nats per unit of return at `r`, one or [N]; NaN at NaN."""
        return map_rows(log_prob, self.members, self._per_row(r, "r"))

    def cdf(self, r: ArrayLike) -> np.ndarray:
        """Returns [N] probabilities of a return of at most `r`, one or [N]; NaN at NaN."""
        return map_rows(cdf, self.members, self._per_row(r, "r"))

    def prob_above(self, threshold: ArrayLike = 0.0) -> np.ndarray:
        """Returns [N] probabilities of a return above `threshold`, one or [N]; 0 is a gain."""
        return map_rows(prob_above, self.members, self._per_row(threshold, "threshold"))

    def crps(self, r: ArrayLike) -> np.ndarray:
        """Returns [N] continuous ranked probability scores at `r`, in units of the return."""
        return map_rows(crps, self.members, self._per_row(r, "r"))

    def quantile(self, probability: ArrayLike) -> np.ndarray:
        """Returns [N] returns that are exceeded with chance 1 - `probability`, one or [N]."""
        return map_rows(quantile, self.members, self._probability(probability, "probability"))

    def value_at_risk(self, confidence: ArrayLike) -> np.ndarray:
        """Returns [N] losses, positive, that are exceeded with chance 1 - `confidence`."""
        confidence = self._probability(confidence, "confidence")
        return -self.quantile(1.0 - confidence.astype(np.float64))

    def expected_shortfall(self, confidence: ArrayLike) -> np.ndarray:
        """Returns [N] mean losses, positive, in the worst 1 - `confidence` of cases."""
        tail = 1.0 - self._probability(confidence, "confidence").astype(np.float64)
        return map_rows(expected_shortfall, self.members, tail.astype(np.float32))

    def moments(self) -> tuple[np.ndarray, np.ndarray]:
        """Returns [N] expected log returns and [N] standard deviations."""
        return map_rows(moments, self.members)[:2]

    def mean(self) -> np.ndarray:
        """Returns [N] expected log returns."""
        return self.moments()[0]

    def std(self) -> np.ndarray:
        """Returns [N] standard deviations of the log return."""
        return self.moments()[1]

    def risk_record(self, confidence: ArrayLike) -> RiskRecord:
        """Returns both losses at `confidence` and the first four moments, [N] on every field."""
        losses = (self.value_at_risk(confidence), self.expected_shortfall(confidence))
        level = self._probability(confidence, "confidence")
        return RiskRecord._make([*losses, *map_rows(moments, self.members), level])

    def sample(self, key: Key, n: int) -> np.ndarray:
        """Returns [N, n] draws of the next return of each bar, independent between bars.

        Args:
          key: typed key; the same key gives the same draws.
          n: draws of each bar, >= 1.

        Returns:
          [N, n] log returns.

        Raises:
          ValueError: if `n` is below 1.
        """
        if n < 1:
            raise ValueError(f"n is {n}: accepted is an integer of at least 1")
        member_key, noise_key = jax.random.split(key)
        shape = (len(self), n)
        num_members = self.members.location.shape[1]
        member = np.asarray(jax.random.randint(member_key, shape, 0, num_members)).ravel()
        noise = np.asarray(jax.random.normal(noise_key, shape)).ravel()
        row = np.repeat(np.arange(len(self)), n)
        drawn = jax.tree.map(lambda leaf: leaf[row, member], self.members)
        return map_rows(marginal_lib.from_noise, drawn, noise)[0].reshape(shape)

    def __getitem__(self, rows: Any) -> "ReturnDistribution":
        """Returns the forecasts of some rows, by a slice, a mask or row numbers."""
        members = jax.tree.map(lambda leaf: leaf[rows], self.members)
        return ReturnDistribution(self.index[rows], members)
