"""The forecast of the next return: an equal mixture of conditional one-dimensional flows.

Rows are bars, members are flows. A row's flows are spelled out once as `Marginal`s in units of the
return itself, so that every question below is scalar arithmetic (`return_law`) and no Jacobian is
left to the reader. What means, deviations and shortfalls share is integrated once and kept, and so
is each quantile that was asked for.
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np

from densityjax._typing import Array, ArrayLike, Key, Params
from densityjax.models import marginal as marginal_lib
from densityjax.models import return_law
from densityjax.models.batching import map_blocks, map_rows
from densityjax.models.flow import Flow
from densityjax.models.marginal import Marginal
from densityjax.risk.tails import RiskRecord

Side = Literal["long", "short"]
SIGNS = {"long": 1.0, "short": -1.0}  # the tail that a position fears: the lower, the upper


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


@dataclasses.dataclass(frozen=True, eq=False)
class ReturnDistribution:
    """The forecast density of the log return from the close of each bar to a later close.

    Attributes:
      index: [N] timestamps of the bars at whose close the forecasts are made.
      members: the mixture, each leaf [N, M, ...], in units of the return.
    """

    index: Any
    members: Marginal
    _quantiles: dict = dataclasses.field(default_factory=dict, init=False, repr=False)

    def __len__(self) -> int:
        return self.members.location.shape[0]

    def _per_row(self, values: ArrayLike, name: str) -> np.ndarray:
        values = np.asarray(values, np.float32)
        if values.ndim > 1 or values.shape not in ((), (len(self),)):
            raise ValueError(f"{name} has shape {values.shape}: accepted is one or [{len(self)}]")
        return np.broadcast_to(values, (len(self),))

    def _probability(self, values: ArrayLike, name: str) -> np.ndarray:
        given = np.asarray(values, np.float64)
        if not ((given > 0) & (given < 1)).all():
            raise ValueError(f"{name} is {given.min()} to {given.max()}: accepted is 0 < p < 1")
        return self._per_row(given, name)

    def _tail(self, confidence: ArrayLike, side: Side) -> tuple[np.ndarray, np.ndarray]:
        """Returns [N] probabilities of the tail and [N] signs of its side."""
        if side not in SIGNS:
            raise ValueError(f"side is {side!r}: accepted are {', '.join(SIGNS)}")
        self._probability(confidence, "confidence")
        tail = self._per_row(1.0 - np.asarray(confidence, np.float64), "confidence")
        return tail, self._per_row(SIGNS[side], "side")

    def _tail_quantile(self, tail: np.ndarray, sign: np.ndarray) -> np.ndarray:
        """Returns [N] returns beyond which the tails hold `tail`, kept for the next question."""
        level = tail.tobytes(), sign.tobytes()
        if level not in self._quantiles:
            self._quantiles[level] = map_blocks(return_law.tail_quantile, self.members, tail, sign)
        return self._quantiles[level]

    @functools.cached_property
    def _moments(self) -> return_law.Moments:
        """The integrals of all rows, each leaf [N, ...]."""
        return map_blocks(return_law.integrate, self.members)

    def log_prob(self, r: ArrayLike) -> np.ndarray:
        """Returns [N] log densities in nats per unit of return at `r`, one or [N]; NaN at NaN."""
        return map_rows(return_law.log_prob, self.members, self._per_row(r, "r"))

    def cdf(self, r: ArrayLike) -> np.ndarray:
        """Returns [N] probabilities of a return of at most `r`, one or [N]; NaN at NaN."""
        return map_rows(return_law.cdf, self.members, self._per_row(r, "r"))

    def prob_above(self, threshold: ArrayLike = 0.0) -> np.ndarray:
        """Returns [N] probabilities of a return above `threshold`, one or [N]; 0 is a gain."""
        return map_rows(return_law.prob_above, self.members, self._per_row(threshold, "threshold"))

    def crps(self, r: ArrayLike) -> np.ndarray:
        """Returns [N] continuous ranked probability scores at `r`, in units of the return."""
        return map_rows(return_law.crps, self.members, self._per_row(r, "r"))

    def quantile(self, probability: ArrayLike) -> np.ndarray:
        """Returns [N] returns that are exceeded with chance 1 - `probability`, one or [N]."""
        probability = self._probability(probability, "probability")
        return self._tail_quantile(probability, self._per_row(1.0, "side")).copy()

    def value_at_risk(self, confidence: ArrayLike, *, side: Side = "long") -> np.ndarray:
        """Returns the losses that are exceeded with chance 1 - `confidence`.

        Args:
          confidence: one or [N] levels in (0, 1), .99 for the 1 % tail.
          side: 'long' for the position +1, which loses in the lower tail, 'short' for -1, which
            loses in the upper one.

        Returns:
          [N] log returns against the position, positive where it loses.

        Raises:
          ValueError: if an argument is not accepted.
        """
        tail, sign = self._tail(confidence, side)
        return -sign * self._tail_quantile(tail, sign)

    def expected_shortfall(self, confidence: ArrayLike, *, side: Side = "long") -> np.ndarray:
        """Returns the mean losses in the worst 1 - `confidence` of cases.

        Args:
          confidence: one or [N] levels in (0, 1), .99 for the 1 % tail.
          side: 'long' for the position +1, 'short' for -1; see `value_at_risk`.

        Returns:
          [N] log returns against the position, positive where it loses, at least the value at risk.

        Raises:
          ValueError: if an argument is not accepted.
        """
        tail, sign = self._tail(confidence, side)
        q = self._tail_quantile(tail, sign)
        return map_blocks(return_law.expected_shortfall, self.members, self._moments, q, tail, sign)

    def moments(self) -> tuple[np.ndarray, np.ndarray]:
        """Returns [N] expected log returns and [N] standard deviations."""
        return np.asarray(self._moments.mean), np.asarray(self._moments.std)

    def mean(self) -> np.ndarray:
        """Returns [N] expected log returns."""
        return self.moments()[0]

    def std(self) -> np.ndarray:
        """Returns [N] standard deviations of the log return."""
        return self.moments()[1]

    def risk_record(self, confidence: ArrayLike, *, side: Side = "long") -> RiskRecord:
        """Returns both losses of a position and the first four moments of the return.

        Args:
          confidence: one or [N] levels in (0, 1), .99 for the 1 % tail.
          side: 'long' for the position +1, 'short' for -1; the moments are of the return itself.

        Returns:
          The `RiskRecord`, [N] on every field.

        Raises:
          ValueError: if an argument is not accepted.
        """
        losses = (
            self.value_at_risk(confidence, side=side),
            self.expected_shortfall(confidence, side=side),
        )
        level = self._probability(confidence, "confidence")
        return RiskRecord._make([*losses, *self._moments[:4], level])

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
