"""Black-Scholes prices, their inverse, the smile of a forecast law and no-arbitrage gaps; jittable.

Notation: spot S, strike K, forward `F = S exp(rate horizon)`, `k = ln(K / F)`, and the total
volatility `s = volatility sqrt(horizon)`. No dividends. Rates and volatilities are per year,
horizons in years. One option per function; use `jax.vmap` over strikes.
"""

from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp
from jax.scipy.special import ndtr
from jax.scipy.stats import norm

from densityjax import numerics
from densityjax._typing import Array, ArrayLike
from densityjax.risk.pricing import PricingLaw

MAX_TOTAL_VOLATILITY = 18.0  # of the search: a call at the forward is then the spot, in float64


class ImpliedVolatility(NamedTuple):
    """Volatility at which Black-Scholes gives a price.

    Attributes:
      volatility: [...] per year; 0 at the lower bound, NaN where `is_within_bounds` is False.
      vega: [...] price per unit of volatility: an error e of the price moves the volatility by
        `e / vega`, which is all that deep in- or out-of-the-money prices tell.
      is_within_bounds: [...] whether the price is free of arbitrage by itself: at least the
        discounted intrinsic value, and below the spot (call) or the discounted strike (put).
    """

    volatility: Array
    vega: Array
    is_within_bounds: Array


class NoArbitrageGaps(NamedTuple):
    """Largest violation of each rule over strikes; 0 (or rounding) where there is none.

    Attributes:
      parity: [] of `call - put = spot - exp(-rate horizon) strike`, as a share of the spot.
      bounds: [] of intrinsic value <= price <= spot or discounted strike, as a share of the spot.
      slope: [] of `-exp(-rate horizon) <= d call / d strike <= 0`, no unit.
      convexity: [] fall of the slope from one pair of strikes to the next, no unit.
    """

    parity: Array
    bounds: Array
    slope: Array
    convexity: Array


def black_scholes_price(
    spot: ArrayLike,
    strike: ArrayLike,
    volatility: ArrayLike,
    *,
    rate: ArrayLike,
    horizon: ArrayLike,
    is_call: bool = True,
) -> Array:
    """Returns the Black-Scholes price of a European option without dividends.

    Args:
      spot: [] price of the asset, in money, positive.
      strike: [] in money, positive.
      volatility: [] standard deviation of the log return per square root of a year; at 0 the
        price is the discounted intrinsic value on the forward.
      rate: [] continuously compounded riskless rate, per year.
      horizon: [] time to expiry in years, at least 0.
      is_call: a call if true, else a put.

    Returns:
      [] price in money.

    References:
      Black and Scholes, The Pricing of Options and Corporate Liabilities, 1973, eq. 13.
    """
    chex.assert_rank([spot, strike, volatility, rate, horizon], 0)
    bond = jnp.asarray(strike) * jnp.exp(-jnp.asarray(rate) * horizon)
    sign = 1.0 if is_call else -1.0
    total = jnp.asarray(volatility) * jnp.sqrt(horizon)
    is_random = total > 0.0
    safe = jnp.where(is_random, total, 1.0)
    d1 = jnp.log(spot / bond) / safe + 0.5 * safe
    price = sign * (spot * ndtr(sign * d1) - bond * ndtr(sign * (d1 - safe)))
    return jnp.where(is_random, price, jnp.maximum(sign * (spot - bond), 0.0))


def implied_volatility(
    price: ArrayLike,
    strike: ArrayLike,
    *,
    spot: ArrayLike,
    rate: ArrayLike,
    horizon: ArrayLike,
    is_call: bool = True,
) -> ImpliedVolatility:
    """Inverts `black_scholes_price`, by Newton's method on the log of the price in a bracket.

    The time value (price less discounted intrinsic value) is that of the out-of-the-money option
    of the same strike, by parity; its log is concave in the volatility. Give out-of-the-money
    prices where there is a choice: the subtraction costs digits.

    Args:
      price: [] price of the option, in money.
      strike: [] in money, positive.
      spot: [] price of the asset, in money, positive.
      rate: [] continuously compounded riskless rate, per year.
      horizon: [] time to expiry in years, positive.
      is_call: whether the price is a call's.

    Returns:
      An `ImpliedVolatility` of scalars; a price outside the bounds gives NaN and a flag.
    """
    chex.assert_rank([price, strike, spot, rate, horizon], 0)
    price, spot = jnp.asarray(price), jnp.asarray(spot)
    bond = jnp.asarray(strike) * jnp.exp(-jnp.asarray(rate) * horizon)
    intrinsic = jnp.maximum(spot - bond if is_call else bond - spot, 0.0)
    is_within = (price >= intrinsic) & (price < (spot if is_call else bond))
    return _from_time_value(price - intrinsic, is_within, spot, bond, horizon)


def volatility_smile(law: PricingLaw, strikes: Array, *, spot: ArrayLike) -> ImpliedVolatility:
    """Returns the volatilities implied by a forecast law, from out-of-the-money prices.

    Flat at the volatility of the log return on a normal law. The law is a forecast made a
    martingale by a shift, NOT a risk-neutral law: see `densityjax.risk.pricing`.

    Args:
      law: martingale law of the return to expiry.
      strikes: [K] in money, positive.
      spot: [] price of the asset, in money.

    Returns:
      An `ImpliedVolatility` of [K] fields.
    """
    chex.assert_rank(strikes, 1)
    spot = jnp.asarray(spot)
    discount = jnp.exp(-law.rate * law.horizon)

    def at(strike: Array) -> ImpliedVolatility:
        bond = discount * strike
        call, put = law.payoff_fn(jnp.log(bond / spot))
        time_value = spot * jnp.where(bond >= spot, call, put)  # of the out-of-the-money side
        is_within = (time_value >= 0.0) & (time_value < jnp.minimum(spot, bond))
        return _from_time_value(time_value, is_within, spot, bond, law.horizon)

    return jax.vmap(at)(strikes)


def no_arbitrage_gaps(
    strikes: Array,
    calls: Array,
    puts: Array,
    *,
    spot: ArrayLike,
    rate: ArrayLike,
    horizon: ArrayLike,
) -> NoArbitrageGaps:
    """Measures how far European prices of one expiry are from free of static arbitrage.

    Args:
      strikes: [K] in money, positive, increasing, K at least 3.
      calls: [K] call prices, in money.
      puts: [K] put prices, in money.
      spot: [] price of the asset, in money.
      rate: [] continuously compounded riskless rate, per year.
      horizon: [] time to expiry in years.

    Returns:
      A `NoArbitrageGaps`; compare its fields with the rounding or the spread of the prices.

    References:
      Carr and Madan, A Note on Sufficient Conditions for No Arbitrage, 2005, section 2.
    """
    chex.assert_rank([strikes, calls, puts], 1)
    chex.assert_equal_shape([strikes, calls, puts])
    discount = jnp.exp(-jnp.asarray(rate) * horizon)
    bonds = discount * strikes
    slopes = jnp.diff(calls) / jnp.diff(strikes)
    below = jnp.maximum(
        jnp.maximum(spot - bonds, 0.0) - calls, jnp.maximum(bonds - spot, 0.0) - puts
    )
    above = jnp.maximum(calls - spot, puts - bonds)
    return NoArbitrageGaps(
        parity=jnp.max(jnp.abs(calls - puts - (spot - bonds))) / spot,
        bounds=jnp.maximum(jnp.max(jnp.maximum(below, above)), 0.0) / spot,
        slope=jnp.maximum(jnp.max(jnp.maximum(slopes, -discount - slopes)), 0.0),
        convexity=jnp.maximum(jnp.max(-jnp.diff(slopes)), 0.0),
    )


def _from_time_value(
    time_value: Array, is_within: Array, spot: Array, bond: Array, horizon: ArrayLike
) -> ImpliedVolatility:
    """Inverts an out-of-the-money price, all arguments []; `bond` is the discounted strike."""
    unit, root = jnp.sqrt(spot * bond), jnp.sqrt(horizon)
    distance = jnp.abs(jnp.log(spot / bond))
    total = _solve(jnp.where(is_within, time_value / unit, 0.0), distance)
    positive = jnp.maximum(total, jnp.finfo(total.dtype).tiny)
    vega = unit * root * _value_and_slope(positive, distance)[1]
    return ImpliedVolatility(jnp.where(is_within, total / root, jnp.nan), vega, is_within)


def _value_and_slope(total: Array, distance: Array) -> tuple[Array, Array]:
    """Returns the out-of-the-money price over `sqrt(S K e^-rT)`, and its slope in `total`."""
    d1, growth = -distance / total + 0.5 * total, jnp.exp(0.5 * distance)
    value = ndtr(d1) / growth - ndtr(d1 - total) * growth
    return value, norm.pdf(d1) / growth


def _solve(target: Array, distance: Array) -> Array:
    """Returns the total volatility with a given scaled out-of-the-money price; 0 at price 0."""
    tiny = jnp.finfo(target.dtype).tiny
    safe = jnp.maximum(target, tiny)

    def improve(_: int, state: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
        total, low, high = state
        value, slope = _value_and_slope(total, distance)
        gap = jnp.log(jnp.maximum(value, tiny) / safe)
        low, high = jnp.where(gap <= 0.0, total, low), jnp.where(gap >= 0.0, total, high)
        newton = total - gap * value / jnp.maximum(slope, tiny)
        is_usable = (value > tiny) & (slope > tiny) & (newton >= low) & (newton <= high)
        return jnp.where(is_usable, newton, 0.5 * (low + high)), low, high

    high = jnp.full_like(target, MAX_TOTAL_VOLATILITY)
    start = (jnp.maximum(jnp.sqrt(2.0 * distance), 0.1), jnp.zeros_like(target), high)
    total, _, _ = jax.lax.fori_loop(0, numerics.MAX_BISECTIONS, improve, start)
    return jnp.where(target > 0.0, total, 0.0)
