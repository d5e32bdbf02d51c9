"""The joint forecast of A returns: its density, draws of it, and the risk of a portfolio.

A row is a bar, with the context of that bar: there is no unconditional draw. Returns are log
returns, but for `scenarios` and portfolios, where money adds over assets in simple returns alone.
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from densityjax._typing import Array, ArrayLike, Key, Params
from densityjax.models import Flow, map_rows, mixture
from densityjax.risk import portfolio

DRAWS_PER_CALL = 65_536  # draws whose contexts are spelled out at once: bounds memory


class PortfolioRisk(NamedTuple):
    """Risk of a portfolio over each of N bars, from scenarios.

    Attributes:
      value_at_risk: [N] positive losses as fractions of equity.
      expected_shortfall: [N] the same, at least the value at risk.
      marginal: [N, A] derivative of the expected shortfall in each weight, per unit of weight.
      component: [N, A] `weight * marginal`; rows sum to the expected shortfall.
    """

    value_at_risk: np.ndarray
    expected_shortfall: np.ndarray
    marginal: np.ndarray
    component: np.ndarray


@functools.lru_cache(maxsize=64)
def _log_prob(flow: Flow) -> Callable[..., Array]:
    """Returns the (params of M members, r [A], context [C], log_scale [A]) -> [] log density."""

    def one(params: Params, r: Array, context: Array, log_scale: Array) -> Array:
        is_known = jnp.all(jnp.isfinite(r))
        x = jnp.where(is_known, r, 0.0) * jnp.exp(-log_scale)

        def of_member(member: Params, x: Array) -> Array:
            return flow.log_prob(member, x, context)

        density = mixture.log_prob(of_member, params, x) - jnp.sum(log_scale)
        return jnp.where(is_known, density, jnp.nan)

    return one


@functools.lru_cache(maxsize=64)
def _sample(flow: Flow) -> Callable[..., Array]:
    """Returns the (params of M members, key, context [C], log_scale [A]) -> [A] draw."""

    def one(params: Params, key: Key, context: Array, log_scale: Array) -> Array:
        member_key, sample_key = jax.random.split(key)
        member = mixture.pick_member(member_key, params)
        return flow.sample(sample_key, member, context) * jnp.exp(log_scale)

    return one


@dataclasses.dataclass(frozen=True, eq=False)
class JointDistribution:
    """The forecast density of A log returns from the close of each bar to a later close.

    Attributes:
      index: [N] timestamps of the bars at whose close the forecasts are made.
      names: [A] names of the assets, in the order of every axis A.
      flow: flow over `return / exp(log_scale)`, given the context.
      params: its parameters, each leaf with a leading axis of M members; their equal mixture is
        the forecast.
      context: [N, C] what each forecast is conditioned on.
      log_scale: [N, A] log volatilities that put the flow on the scale of the returns.
    """

    index: Any
    names: tuple[str, ...]
    flow: Flow
    params: Params
    context: np.ndarray
    log_scale: np.ndarray

    def __len__(self) -> int:
        return self.context.shape[0]

    def __getitem__(self, rows: Any) -> "JointDistribution":
        """Returns the forecasts of some rows, by a slice, a mask or row numbers."""
        return dataclasses.replace(
            self,
            index=self.index[rows],
            context=self.context[rows],
            log_scale=self.log_scale[rows],
        )

    def log_prob(self, r: ArrayLike) -> np.ndarray:
        """Computes the joint log density.

        Args:
          r: [N, A] log returns, or [A] for all rows.

        Returns:
          [N] log densities in nats per unit of all A returns; NaN where one of them is.

        Raises:
          ValueError: if `r` has another shape.
        """
        values, shape = np.asarray(r, np.float32), self.log_scale.shape
        if values.shape not in (shape, shape[1:]):
            raise ValueError(f"r has shape {values.shape}: accepted is {shape} or {shape[1:]}")
        rows = (np.broadcast_to(values, shape), self.context, self.log_scale)
        return map_rows(_log_prob(self.flow), *rows, shared=(self.params,))

    def sample(self, key: Key, n: int) -> np.ndarray:
        """Draws the returns of all assets together, independently between rows.

        Args:
          key: typed key; the same key gives the same draws.
          n: draws of each row, >= 1.

        Returns:
          [N, n, A] log returns.

        Raises:
          ValueError: if `n` is below 1.
        """
        if n < 1:
            raise ValueError(f"n is {n}: accepted is an integer of at least 1")
        keys = jax.random.split(key, (len(self), n))
        per_call = max(DRAWS_PER_CALL // n, 1)
        draws = []
        for start in range(0, len(self), per_call):
            row = np.repeat(np.arange(start, min(start + per_call, len(self))), n)
            given = (keys[start : start + per_call].reshape(-1), self.context[row])
            draw = map_rows(_sample(self.flow), *given, self.log_scale[row], shared=(self.params,))
            draws.append(draw.reshape(-1, n, len(self.names)))
        return np.concatenate(draws)

    def scenarios(self, row: int, key: Key, n: int) -> np.ndarray:
        """Draws equally likely joint outcomes of one row, as money counts them.

        Args:
          row: number of the row in [-N, N).
          key: typed key.
          n: scenarios, >= 1.

        Returns:
          [n, A] SIMPLE returns as fractions, float64, as `risk.portfolio` takes them.

        Raises:
          ValueError: if `n` is below 1, or there is no such row.
        """
        if not -len(self) <= row < len(self):
            raise ValueError(f"row is {row}: accepted is -{len(self)} <= row < {len(self)}")
        row = row % len(self)
        return np.expm1(self[row : row + 1].sample(key, n)[0].astype(np.float64))

    def portfolio_risk(
        self,
        weights: ArrayLike,
        confidence: float,
        *,
        key: Key | None = None,
        num_scenarios: int = 4096,
    ) -> PortfolioRisk:
        """Computes the risk of a portfolio over the coming return, row by row.

        Args:
          weights: [A] fractions of equity, of any sign, or [N, A]; the rest of equity is cash.
          confidence: level in (0, 1), .99 for the 1 % tail.
          key: typed key of the scenarios; None for a fixed one, so that answers repeat.
          num_scenarios: draws of each row; of 4,096, the 1 % tail holds 41.

        Returns:
          The `PortfolioRisk`, with the Euler contributions to the expected shortfall.

        Raises:
          ValueError: if an argument is out of range or of another shape.

        References:
          Tasche, Risk Contributions and Performance Measurement, 1999, eq. 4.9.
        """
        held, shape = np.asarray(weights, np.float64), self.log_scale.shape
        if held.shape not in (shape, shape[1:]):
            raise ValueError(
                f"weights has shape {held.shape}: accepted is {shape[1:]}, one weight for each of "
                f"{list(self.names)}, or {shape}"
            )
        held = np.broadcast_to(held, shape)
        draws = self.sample(jax.random.key(0) if key is None else key, num_scenarios)
        found = []
        for returns, weight in zip(draws, held, strict=True):
            simple = np.expm1(returns.astype(np.float64))
            split = portfolio.expected_shortfall_contributions(simple, weight, confidence)
            risk = portfolio.portfolio_value_at_risk(simple, weight, confidence)
            found.append((risk, *split))
        return PortfolioRisk(*(np.stack(each) for each in zip(*found, strict=True)))
