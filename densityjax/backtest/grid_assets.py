"""Many assets in one grid, each traded by accounts of its own; one asset gives a single run."""

from typing import Any

import jax
import numpy as np

from densityjax.backtest.columns import MarketColumns
from densityjax.backtest.grid_result import GridResult, sharpe_spread
from densityjax.backtest.inputs import Prices


def num_assets(prices: Prices) -> int | None:
    """Returns A for prices of shape [T, A]; None for those of [T], and for bad ones."""
    shape = np.shape(np.asarray(prices.close))
    if len(shape) != 2:
        return None
    if shape[1] == 0:
        raise ValueError(f"prices.close has shape {shape}; accepted is [T, A] with A >= 1")
    for name, price in prices._asdict().items():
        if price is not None and np.shape(price) != shape:
            raise ValueError(f"prices.{name} has shape {np.shape(price)}; accepted is {shape}")
    return shape[1]


def asset_market(
    signals: Any, prices: Prices, columns: MarketColumns | None, asset: int
) -> tuple[Any, Prices, MarketColumns | None]:
    """Takes one asset out of [T, A] leaves; leaves of [T] are shared by all assets.

    Args:
      signals: pytree of [T] or [T, A] arrays.
      prices: `Prices` of [T, A] arrays.
      columns: `MarketColumns` of [T] or [T, A] arrays, or None.
      asset: number of the asset.

    Returns:
      The same of one asset, [T] each.
    """
    return jax.tree.map(
        lambda leaf: leaf[:, asset] if np.ndim(leaf) == 2 else leaf, (signals, prices, columns)
    )


def join_assets(results: list[GridResult], periods_per_year: float) -> GridResult:
    """Puts the grids of A assets one after the other: trial `a N + i` is rule i on asset a.

    Args:
      results: a `GridResult` of N trials for each asset.
      periods_per_year: bars in a year.

    Returns:
      A `GridResult` of A N trials, the asset's number among `swept`.
    """

    def join(*leaves: Any) -> Any:
        return np.concatenate(leaves, -1)

    first, num_trials = results[0], [each.num_trials for each in results]
    metrics = jax.tree.map(join, *(each.metrics for each in results))
    blocks = {
        name: None if getattr(first, name) is None else join(*(getattr(r, name) for r in results))
        for name in ("block_returns", "block_squares", "block_cubes", "block_fourths")
    }
    mean, variance = sharpe_spread(metrics.sharpe_ratio, periods_per_year)
    swept = {name: join(*(each.swept[name] for each in results)) for name in first.swept}
    return first._replace(
        params=jax.tree.map(join, *(each.params for each in results)),
        metrics=metrics,
        num_trials=sum(num_trials),
        sharpe_mean=mean,
        sharpe_variance=variance,
        swept={"asset": np.repeat(np.arange(len(results)), num_trials), **swept},
        **blocks,
    )
