"""Simulated bars whose true density, distribution function and score come with every bar.

The truth of row t is the law of the log return close[t] -> close[t+1] given bars up to t, regimes
hidden: `p(r) = sum_s P(s | past) f_s(r / sigma) / sigma`, exact, in float64. The probabilities are
those of the Hamilton filter.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd

from densityjax._typing import ArrayLike, Key, NumpyArray
from densityjax.market import simulated_density as density
from densityjax.market.anomalies import inject_anomalies, no_anomalies
from densityjax.market.simulated_filter import conditional_law
from densityjax.market.simulated_law import MarketLaw
from densityjax.market.simulated_path import Path, draw_path


class SimulatedMarket(NamedTuple):
    """Bars with their truth; row t of every array belongs to row t of `bars`.

    Attributes:
      bars: T rows of open, high, low, close, volume under a UTC index named `timestamp`.
      regime: [T] hidden regime of bar t itself, 0 to S - 1; no forecaster can know it.
      log_prob: [T] true log density of the return close[t] -> close[t+1] where it fell, in nats
        (density per unit of log return); NaN in the last row.
      cdf: [T] true distribution function there, uniform and independent over t; NaN last.
      score: [T] derivative of the true log density in the return there; NaN last.
      sigma: [T] scale of the next return given bars up to t: sigma_{t+1}.
      regime_probability: [T, S] probability of each regime of bar t + 1, given bars up to t.
      anomalies: labels as `inject_anomalies` gives them, one row a bar.
      law: the law that was simulated.
    """

    bars: pd.DataFrame
    regime: NumpyArray
    log_prob: NumpyArray
    cdf: NumpyArray
    score: NumpyArray
    sigma: NumpyArray
    regime_probability: NumpyArray
    anomalies: pd.DataFrame
    law: MarketLaw


def simulate_market(
    key: Key,
    num_bars: int,
    *,
    law: MarketLaw | None = None,
    start: str = "2018-01-01",
    interval: str = "1h",
    initial_price: float = 30_000.0,
    num_anomalies: int = 0,
) -> SimulatedMarket:
    """Draws a market of known law: regimes, clustered volatility, leverage, skew, tails, jumps.

    The truth is exact given all columns, not closes alone. Open is the previous close. High, low
    and volume of bar t are functions of r_t, sigma_t and noise that nothing else reads, so given
    the returns up to t they are independent of the regimes and of the future:
    P(s_{t+1} | bars) = P(s_{t+1} | returns).

    Args:
      key: random key, typed.
      num_bars: number of bars, at least 2.
      law: the law; `MarketLaw()` where None.
      start: open time of the first bar; UTC where it names no zone.
      interval: spacing of the bars, as pandas writes it; the law is per bar, whatever it is.
      initial_price: open of the first bar, the close before it.
      num_anomalies: events of `inject_anomalies` to plant into the bars afterwards; the truth, and
        the returns it is taken at, remain those of the bars before.

    Returns:
      The `SimulatedMarket`.

    Raises:
      ValueError: if an argument is outside what is stated here.

    References:
      Hamilton (1989), eq. 4-8, for the filter; Diebold, Gunther, Tay (1998) for uniform `cdf`.
    """
    law = MarketLaw() if law is None else law
    _check_arguments(key, num_bars, law, initial_price)
    index = bar_index(start, interval, num_bars)
    path = draw_path(key, law, num_bars)
    bars = _build_bars(path, initial_price, index)
    truth = conditional_law(law, bar_returns(bars))
    market = SimulatedMarket(
        bars=bars,
        regime=np.asarray(path.regime),
        log_prob=np.empty(0),
        cdf=np.empty(0),
        score=np.empty(0),
        sigma=truth.sigma,
        regime_probability=truth.regime_probability,
        anomalies=no_anomalies(index),
        law=law,
    )
    following = np.append(bar_returns(bars)[1:], np.nan)
    market = market._replace(
        log_prob=true_log_prob(market, following),
        cdf=true_cdf(market, following),
        score=true_score(market, following),
    )
    if num_anomalies == 0:
        return market
    # A folded key: the same market with events and without.
    changed, labels = inject_anomalies(jax.random.fold_in(key, 1), bars, num_events=num_anomalies)
    return market._replace(bars=changed, anomalies=labels)


def bar_returns(bars: pd.DataFrame) -> NumpyArray:
    """Log returns [T] of simulated bars, the first one from the first open."""
    close = np.log(bars["close"].to_numpy())
    return np.diff(close, prepend=np.log(bars["open"].iloc[0]))


def true_log_prob(market: SimulatedMarket, r: ArrayLike) -> NumpyArray:
    """True log density of the next log return, at points of the caller's choice.

    Args:
      market: a simulated market of T bars.
      r: log returns: a scalar for all rows, [T] one a row, or [T, P].

    Returns:
      [T], or [T, P], log density per unit of log return; NaN where `r` is.

    Raises:
      ValueError: if `r` has another shape.
    """
    x, shape, sigma = _rows(market, r)
    log_pdf = density.mixture_log_pdf(market.law.components, market.regime_probability, x)
    return (log_pdf - np.log(sigma)).reshape(shape)


def true_cdf(market: SimulatedMarket, r: ArrayLike) -> NumpyArray:
    """True probability that the next log return is at most `r`; arguments as `true_log_prob`."""
    x, shape, _ = _rows(market, r)
    return density.mixture_cdf(market.law.components, market.regime_probability, x).reshape(shape)


def true_score(market: SimulatedMarket, r: ArrayLike) -> NumpyArray:
    """Derivative of `true_log_prob` in `r`; arguments as there."""
    x, shape, sigma = _rows(market, r)
    score = density.mixture_score(market.law.components, market.regime_probability, x)
    return (score / sigma).reshape(shape)


def true_quantile(market: SimulatedMarket, probability: ArrayLike) -> NumpyArray:
    """True quantile of the next log return.

    Args:
      market: a simulated market of T bars.
      probability: tail probabilities in (0, 1), a scalar or [P].

    Returns:
      [T], or [T, P], log returns; minus the one at .01 is the 99 % value at risk.

    Raises:
      ValueError: if a probability is outside (0, 1).
    """
    levels = np.asarray(probability, np.float64)
    if levels.ndim > 1 or not np.all((levels > 0.0) & (levels < 1.0)):
        raise ValueError(f"probability must be a scalar or [P] in (0, 1), got {probability}")
    inner = density.mixture_quantile(
        market.law.components, market.regime_probability, np.atleast_1d(levels)
    )
    return (market.sigma[:, None] * inner).reshape(len(inner), *levels.shape)


def true_mean(market: SimulatedMarket) -> NumpyArray:
    """True conditional mean [T] of the next log return."""
    law = market.law
    return market.sigma * (market.regime_probability @ (np.multiply(law.scale, law.drift)))


def true_std(market: SimulatedMarket) -> NumpyArray:
    """True conditional standard deviation [T] of the next log return."""
    scale, drift = np.asarray(market.law.scale), np.asarray(market.law.drift)
    second = market.regime_probability @ (scale**2 * (1.0 + drift**2))
    return np.sqrt(market.sigma**2 * second - true_mean(market) ** 2)


def _build_bars(path: Path, initial_price: float, index: pd.DatetimeIndex) -> pd.DataFrame:
    """Turns log returns and wicks into prices; open is the previous close."""
    close = initial_price * np.exp(np.cumsum(path.log_return))
    open_ = np.concatenate([[initial_price], close[:-1]])
    body_high, body_low = np.maximum(open_, close), np.minimum(open_, close)
    columns = {
        "open": open_,
        "high": np.maximum(open_ * np.exp(path.upper), body_high),  # the maximum undoes rounding
        "low": np.minimum(open_ * np.exp(path.lower), body_low),
        "close": close,
        "volume": np.exp(path.log_volume),
    }
    return pd.DataFrame(columns, index=index)


def bar_index(start: str, interval: str, num_bars: int) -> pd.DatetimeIndex:
    """Open times of `num_bars` bars from `start` on, UTC; `ValueError` on what cannot be read."""
    try:
        first, step = pd.to_datetime([start], utc=True), pd.Timedelta(interval)
    except ValueError as error:
        raise ValueError(f"cannot read start {start!r} or interval {interval!r}: {error}") from None
    if first.isna().any() or not step > pd.Timedelta(0):
        raise ValueError(f"need a start and a positive interval, got {start!r}, {interval!r}")
    steps = pd.to_timedelta(np.arange(num_bars) * step.total_seconds(), unit="s")
    return pd.DatetimeIndex(first[0] + steps, name="timestamp")


def _check_arguments(key: Key, num_bars: int, law: MarketLaw, initial_price: float) -> None:
    """Raises `ValueError` on what `simulate_market` cannot take."""
    if not jnp.issubdtype(getattr(key, "dtype", np.float64), jax.dtypes.prng_key) or key.ndim:
        raise ValueError(f"key must be one typed key of jax.random.key, got {key}")
    if not isinstance(num_bars, int | np.integer) or num_bars < 2:
        raise ValueError(f"num_bars must be a whole number, at least 2, got {num_bars}")
    if not isinstance(law, MarketLaw):
        raise ValueError(f"law must be a MarketLaw, got {law}")
    if not 0.0 < initial_price < np.inf:
        raise ValueError(f"initial_price must be positive and finite, got {initial_price}")


def _rows(market: SimulatedMarket, r: ArrayLike) -> tuple[NumpyArray, tuple[int, ...], NumpyArray]:
    """Returns r / sigma [T, P], the shape to answer in, and sigma [T, 1]."""
    values, num_rows = np.asarray(r, np.float64), len(market.sigma)
    if values.ndim > 2 or (values.ndim and len(values) != num_rows):
        raise ValueError(f"r must be a scalar, [T] or [T, P] with T = {num_rows}: {values.shape}")
    shape = values.shape or (num_rows,)
    sigma = market.sigma[:, None]
    return np.broadcast_to(values, shape).reshape(num_rows, -1) / sigma, shape, sigma
