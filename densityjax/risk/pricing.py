"""European option prices, and the volatility smile, implied by ONE forecast density; jittable.

LOUD WARNING: a forecast density is not a risk-neutral one. The martingale correction used here
only shifts the log return, `r -> r + shift`, until `E[exp(r)] = exp(rate horizon)`. It leaves
scale, skew and tails as forecast, prices no risk premium in them, and picks one of the many
martingale measures of an incomplete market. The results say what the FORECAST is worth under
that choice: a yardstick beside quoted prices, not a quote. No dividends, funding or early exercise.

Notation: spot S, strike K, forward `F = S exp(rate horizon)`, `k = ln(K / F)`, and the forward
return `x = r + shift - rate horizon`, so that `E[exp(x)] = 1`; prices are `S E[(e^x - e^k)^+]`
and `S E[(e^k - e^x)^+]`. Probabilities are integrated as `u = Phi(z)`, which tames both tails.
"""

from collections.abc import Callable
from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.special import ndtr, ndtri
from jax.scipy.stats import norm

from densityjax import numerics
from densityjax._typing import Array, ArrayLike
from densityjax.risk.tails import QuantileFn

TAIL_CUT = 1e-9  # probability held at each end: a 3-sd option on a normal law moves by 5e-7
NUM_NODES = 128  # Gauss-Legendre nodes from the strike to each cut; a smooth law needs about 40
CUT_ROUNDINGS = 16.0  # smallest cut that `1 - u` still resolves to 6 %, in roundings of 1
TAIL_STEP = 10.0  # factor between the probabilities whose quantiles show the tail
TAIL_MARGIN = 0.01  # tail index above which a tail counts as heavier than exponential: rounding


class PricingLaw(NamedTuple):
    """Law of the forward return `x`, with `E[exp(x)] = 1`, and what was done to get it.

    Attributes:
      payoff_fn: log moneyness `k` [] to the pair `E[(e^x - e^k)^+]` (call) and
        `E[(e^k - e^x)^+]` (put), each [], in units of the spot.
      rate: [] continuously compounded riskless rate, per year.
      horizon: [] time to expiry in years, the span of the forecast.
      shift: [] martingale correction added to the log return.
      tail_cut: [] probability at EACH end whose outcomes are held at the quantile there, never 0.
      cut_sensitivity: [] change of `ln E[exp(r)]` if `tail_cut` were ten times larger; prices
        with a cut sensitivity near the standard deviation of the return are about the cut alone.
      tail_index: [] of the right tail of the log return at the cut (Pickands): 0 exponential,
        below 0 lighter, above 0 a power law; NaN where it is unknown (samples).
      is_tail_light: [] True only if the tail at the cut shows that `E[exp(r)]` exists. Where it is
        False, the price of the uncut law is infinite and ours depends on `tail_cut`.
    """

    payoff_fn: Callable[[Array], tuple[Array, Array]]
    rate: Array
    horizon: Array
    shift: Array
    tail_cut: Array
    cut_sensitivity: Array
    tail_index: Array
    is_tail_light: Array


def law_from_quantiles(
    quantile_fn: QuantileFn,
    *,
    rate: ArrayLike,
    horizon: ArrayLike,
    tail_cut: float = TAIL_CUT,
    upper_quantile_fn: QuantileFn | None = None,
    num_nodes: int = NUM_NODES,
) -> PricingLaw:
    """Cuts and shifts a forecast law of the log return so that the price is a martingale.

    A power-law right tail has `E[exp(r)]` infinite, so outcomes beyond `tail_cut` at each end are
    ALWAYS held at the quantile there (an atom of that probability); the fields say how much of
    the result that decided. First derivatives in strike and parameters are right, second are not.

    Args:
      quantile_fn: probability [] to log return [] over the horizon, as a fraction, increasing.
      rate: [] continuously compounded riskless rate, per year.
      horizon: [] time to expiry in years, positive.
      tail_cut: probability held at each end, in (0, 1/1000); without `upper_quantile_fn` it is
        raised to what `1 - u` resolves (2e-6 in single, 2e-15 in double precision).
      upper_quantile_fn: survival probability [] to log return [], `u -> Q(1 - u)` without the
        subtraction; None subtracts.
      num_nodes: nodes of each integral; laws with kinks (splines) need more than smooth ones.

    Returns:
      A `PricingLaw` whose functions close over the quantile function.

    Raises:
      ValueError: if `tail_cut` is outside (0, 1/1000).

    References:
      Gerber and Shiu, Option Pricing by Esscher Transforms, 1994, for the choice of a measure;
      Pickands, Statistical Inference Using Extreme Order Statistics, 1975, eq. 4 (tail index).
    """
    if not 0.0 < tail_cut < 1e-3:  # the tail is read at 100 cuts, which must still be a tail
        raise ValueError(f"tail_cut must be in (0, 0.001), got {tail_cut}")
    dtype = jnp.result_type(float)
    if upper_quantile_fn is None:
        tail_cut = max(tail_cut, CUT_ROUNDINGS * float(jnp.finfo(dtype).eps))

    def upper_fn(u: Array) -> Array:
        return quantile_fn(1.0 - u) if upper_quantile_fn is None else upper_quantile_fn(u)

    def log_return(z: Array) -> Array:
        low, high = ndtr(jnp.minimum(z, 0.0)), ndtr(-jnp.maximum(z, 0.0))
        return jnp.where(z < 0.0, quantile_fn(low), upper_fn(high))

    log_mean = _log_mean(log_return, tail_cut, num_nodes)
    wider = _log_mean(log_return, TAIL_STEP * tail_cut, num_nodes)
    tail_index, is_light = _right_tail(upper_fn, jnp.asarray(tail_cut, dtype))
    payoff_fn = _payoff_fn(lambda z: log_return(z) - log_mean, tail_cut, num_nodes)
    rate, horizon = jnp.asarray(rate, dtype), jnp.asarray(horizon, dtype)
    chex.assert_rank([rate, horizon], 0)
    return PricingLaw(
        payoff_fn=payoff_fn,
        rate=rate,
        horizon=horizon,
        shift=rate * horizon - log_mean,
        tail_cut=jnp.asarray(tail_cut, dtype),
        cut_sensitivity=wider - log_mean,
        tail_index=tail_index,
        is_tail_light=is_light,
    )


def law_from_samples(
    log_returns: Array,
    weights: Array | None = None,
    *,
    rate: ArrayLike,
    horizon: ArrayLike,
) -> PricingLaw:
    """As `law_from_quantiles`, for draws or quadrature nodes: the discrete law itself is priced.

    Its prices are free of arbitrage to rounding, whatever the draws; their error as prices of the
    law behind the draws is Monte Carlo error, and beyond the largest draw every call is worth 0.

    Args:
      log_returns: [N] log returns over the horizon, as fractions.
      weights: [N] probabilities, normalised here; None weighs all draws alike.
      rate: [] continuously compounded riskless rate, per year.
      horizon: [] time to expiry in years, positive.

    Returns:
      A `PricingLaw`; `tail_cut` is the probability of the largest outcome, the tail index is
      unknown and `is_tail_light` False, because no finite sample can show that a moment exists.
    """
    chex.assert_rank(log_returns, 1)
    if weights is None:
        weights = jnp.ones_like(log_returns)
    chex.assert_equal_shape([log_returns, weights])
    order = jnp.argsort(log_returns)
    r, w = log_returns[order], weights[order] / jnp.sum(weights)
    cut = w[-1]
    log_mean = jnp.log1p(jnp.sum(w * jnp.expm1(r)))
    beyond = jnp.cumsum(w[::-1])[::-1] - w  # probability of a larger outcome
    # At one cut nothing is held; at ten, what fewer than ten cuts exceed is the end.
    end = jnp.min(jnp.where(beyond < (TAIL_STEP - 0.5) * cut, r, jnp.inf))
    wider = jnp.log1p(jnp.sum(w * jnp.expm1(jnp.minimum(r, end))))
    x, carry = r - log_mean, jnp.asarray(rate) * jnp.asarray(horizon)

    def payoff_fn(k: Array) -> tuple[Array, Array]:
        gain = jnp.exp(k) * jnp.expm1(x - k)
        return jnp.sum(w * jnp.maximum(gain, 0.0)), jnp.sum(w * jnp.maximum(-gain, 0.0))

    return PricingLaw(
        payoff_fn=payoff_fn,
        rate=jnp.asarray(rate, r.dtype),
        horizon=jnp.asarray(horizon, r.dtype),
        shift=carry - log_mean,
        tail_cut=cut,
        cut_sensitivity=wider - log_mean,
        tail_index=jnp.asarray(jnp.nan, r.dtype),
        is_tail_light=jnp.asarray(False),
    )


def option_price(
    law: PricingLaw, strike: ArrayLike, *, spot: ArrayLike, is_call: ArrayLike = True
) -> Array:
    """Returns the discounted expected payoff of a European option; read the module's warning.

    Args:
      law: martingale law of the return to expiry.
      strike: [] in money, positive.
      spot: [] price of the asset today, in money.
      is_call: [] a call if true, else a put.

    Returns:
      [] price in money.
    """
    chex.assert_rank([strike, spot, is_call], 0)
    k = jnp.log(jnp.asarray(strike) / jnp.asarray(spot)) - law.rate * law.horizon
    call, put = law.payoff_fn(k)
    return jnp.asarray(spot) * jnp.where(jnp.asarray(is_call), call, put)


def _integral(fn: Callable[[Array], Array], low: Array, high: Array, num_nodes: int) -> Array:
    """Returns the integral of `fn(z) phi(z)` over `[low, high]`, all []."""
    node, weight = np.polynomial.legendre.leggauss(num_nodes)
    half = 0.5 * (high - low)
    z = low + half * (1.0 + jnp.asarray(node))
    return half * jnp.sum(jnp.asarray(weight) * norm.pdf(z) * jax.vmap(fn)(z))


def _log_mean(log_return: QuantileFn, cut: float, num_nodes: int) -> Array:
    """Returns `ln E[exp(r)]` of the law held at its two cuts."""
    end = -ndtri(jnp.asarray(cut))

    def excess(z: Array) -> Array:
        return jnp.expm1(log_return(z))

    zero = jnp.zeros_like(end)
    inner = _integral(excess, -end, zero, num_nodes) + _integral(excess, zero, end, num_nodes)
    return jnp.log1p(inner + cut * (excess(-end) + excess(end)))


def _payoff_fn(
    x_fn: QuantileFn, cut: float, num_nodes: int
) -> Callable[[Array], tuple[Array, Array]]:
    """Returns call and put of log moneyness, each integrated from the strike to its cut."""
    end = -ndtri(jnp.asarray(cut))
    x_low, x_high = x_fn(-end), x_fn(end)

    def strike_z(k: Array) -> Array:
        def halve(_: int, bracket: tuple[Array, Array]) -> tuple[Array, Array]:
            low, high = bracket
            middle = 0.5 * (low + high)
            is_below = x_fn(middle) < k
            return jnp.where(is_below, middle, low), jnp.where(is_below, high, middle)

        low, high = jax.lax.fori_loop(0, numerics.BISECTIONS, halve, (-end, end))
        # The payoff vanishes here, so an error d of z costs d^2, and its derivative nothing.
        return jax.lax.stop_gradient(0.5 * (low + high))

    def payoff_fn(k: Array) -> tuple[Array, Array]:
        def call_payoff(x: Array) -> Array:
            return jnp.maximum(jnp.expm1(x - k), 0.0)

        def put_payoff(x: Array) -> Array:
            return jnp.maximum(-jnp.expm1(x - k), 0.0)

        middle = strike_z(k)
        # Both atoms pay what they pay: the far one is 0 unless the strike is beyond its cut.
        call = _integral(lambda z: call_payoff(x_fn(z)), middle, end, num_nodes)
        call += cut * (call_payoff(x_low) + call_payoff(x_high))
        put = _integral(lambda z: put_payoff(x_fn(z)), -end, middle, num_nodes)
        put += cut * (put_payoff(x_low) + put_payoff(x_high))
        return jnp.exp(k) * call, jnp.exp(k) * put

    return payoff_fn


def _right_tail(upper_fn: QuantileFn, cut: Array) -> tuple[Array, Array]:
    """Returns the tail index at the cut, and whether `E[exp(r)]` is seen to exist.

    `E[exp(r)]` is the integral of `exp(Q(1 - v))`: it exists if Q rises by less than 1 for each
    factor e in 1 / v, in the limit, so if the steps of Q do not grow and are below that.
    """
    far, middle, near = (upper_fn(cut * TAIL_STEP**power) for power in range(3))
    last, step = far - middle, middle - near
    is_flat = (last <= 0.0) | (step <= 0.0)
    ratio = jnp.where(is_flat, 1.0, last) / jnp.where(is_flat, 1.0, step)
    index = jnp.where(is_flat, -jnp.inf, jnp.log(ratio) / np.log(TAIL_STEP))  # flat: no tail
    return index, (index <= TAIL_MARGIN) & (last < np.log(TAIL_STEP))
