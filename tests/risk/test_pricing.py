"""Option prices and smiles against Black-Scholes, SciPy quadrature and rules of no arbitrage."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.scipy.special import ndtri
from scipy import integrate, stats

from densityjax.risk import black_scholes, pricing

SPOT, RATE, HORIZON, VOLATILITY = 100.0, 0.03, 0.25, 0.4
TOTAL = VOLATILITY * HORIZON**0.5
STRIKES = np.array([60.0, 80.0, 95.0, 100.0, 105.0, 130.0, 170.0])
GRID = np.linspace(60.0, 160.0, 61)
MARKET = {"spot": SPOT, "rate": RATE, "horizon": HORIZON}


def textbook(strike, total=TOTAL, is_call=True):
    """Black and Scholes by SciPy in float64, written apart from the package."""
    bond = strike * np.exp(-RATE * HORIZON)
    d1 = (np.log(SPOT / bond) + total**2 / 2) / total
    call = SPOT * stats.norm.cdf(d1) - bond * stats.norm.cdf(d1 - total)
    put = bond * stats.norm.sf(d1 - total) - SPOT * stats.norm.sf(d1)
    return call if is_call else put


def normal_law(**options):
    # The mean .11 is a forecast: the correction has to take it out again.
    return pricing.law_from_quantiles(
        lambda u: 0.11 + TOTAL * ndtri(u),
        upper_quantile_fn=lambda u: 0.11 - TOTAL * ndtri(u),
        rate=RATE,
        horizon=HORIZON,
        **options,
    )


def skewed_law(tail_weight=0.02):
    def quantile(u):
        z = ndtri(u)
        return 0.1 * (z - 0.1 * z**2 + tail_weight * z**3)

    return pricing.law_from_quantiles(quantile, rate=RATE, horizon=HORIZON, tail_cut=1e-13)


def tabulate(law_fn, strikes=STRIKES, *args, with_smile=False):
    """Calls, puts, gaps, smile and reported numbers of `law_fn(*args)`, in one compilation."""

    @jax.jit
    def run(strikes, *args):
        law = law_fn(*args)

        def price(strike, is_call):
            return pricing.option_price(law, strike, spot=SPOT, is_call=is_call)

        sides = jax.vmap(jax.vmap(price, (0, None)), (None, 0))
        calls, puts = sides(strikes, jnp.array([True, False]))
        smile = black_scholes.volatility_smile(law, strikes, spot=SPOT) if with_smile else None
        gaps = black_scholes.no_arbitrage_gaps(strikes, calls, puts, **MARKET)
        return calls, puts, gaps, smile, law._replace(payoff_fn=None)

    return run(jnp.asarray(strikes), *args)


def test_a_normal_law_gives_black_scholes_and_a_flat_smile_in_single_precision():
    calls, puts, gaps, smile, law = tabulate(normal_law, with_smile=True)
    np.testing.assert_allclose(calls, textbook(STRIKES), rtol=1e-4)
    np.testing.assert_allclose(puts, textbook(STRIKES, is_call=False), rtol=1e-4)
    np.testing.assert_allclose(smile.volatility, VOLATILITY, rtol=1e-4)
    np.testing.assert_allclose(gaps, 0.0, atol=1e-5)
    assert bool(law.is_tail_light)


def check_no_arbitrage(table, num_strikes):
    calls, gaps = table[0][:num_strikes], table[2]
    assert np.all(np.diff(calls) < 0.0)
    assert np.all(np.diff(calls, 2) > 0.0)
    np.testing.assert_allclose(gaps, 0.0, atol=1e-12)


def test_a_normal_law_gives_black_scholes_to_rounding_in_double_precision(x64):
    table = calls, puts, _, smile, law = tabulate(
        lambda: normal_law(tail_cut=1e-18), GRID, with_smile=True
    )
    np.testing.assert_allclose(calls, textbook(GRID), rtol=2e-11)
    np.testing.assert_allclose(puts, textbook(GRID, is_call=False), rtol=2e-11)
    assert np.all(smile.is_within_bounds)
    np.testing.assert_allclose(smile.volatility, VOLATILITY, rtol=2e-11)
    check_no_arbitrage(table, GRID.size)
    # The normal law has E[exp(r)] = exp(.11 + s^2 / 2): the shift takes the forecast mean out.
    expected = RATE * HORIZON - 0.11 - TOTAL**2 / 2
    assert float(law.shift) == pytest.approx(expected, abs=1e-14)
    assert float(law.tail_index) < 0.0
    assert abs(float(law.cut_sensitivity)) < 1e-14


def test_a_skewed_law_is_priced_as_scipy_integrates_it(x64):
    def price_ratio(z):
        r = 0.1 * (z - 0.1 * z**2 + 0.02 * z**3)
        return np.exp(r) * stats.norm.pdf(z)

    mean = integrate.quad(price_ratio, -9, 9, epsabs=1e-13, epsrel=1e-13)[0]
    forward = SPOT * np.exp(RATE * HORIZON)
    table = calls, *_, smile, _ = tabulate(skewed_law, GRID, with_smile=True)
    check_no_arbitrage(table, GRID.size)
    assert np.ptp(smile.volatility) > 0.01
    for strike, ours in zip(GRID[::20], calls[::20], strict=True):

        def payoff(z, strike=strike):
            return max(forward / mean * price_ratio(z) - strike * stats.norm.pdf(z), 0.0)

        fair = integrate.quad(payoff, -9, 9, epsabs=1e-12, limit=500)[0] * np.exp(-RATE * HORIZON)
        assert float(ours) == pytest.approx(fair, rel=2e-6)  # the cut, at 160


def test_planted_arbitrage_is_measured():
    strikes = jnp.asarray(STRIKES)
    calls = jnp.asarray(textbook(STRIKES))
    puts = jnp.asarray(textbook(STRIKES, is_call=False))

    def gaps(calls, puts):
        return black_scholes.no_arbitrage_gaps(strikes, calls, puts, **MARKET)

    assert float(gaps(calls, puts.at[3].add(1.0)).parity) == pytest.approx(0.01, rel=1e-3)
    assert float(gaps(calls.at[0].set(SPOT + 2.0), puts).bounds) == pytest.approx(0.02, rel=1e-3)
    assert float(gaps(calls.at[0].set(calls[1] - 4.0), puts).slope) == pytest.approx(0.2, rel=1e-3)
    # A bump of 1 at 105 lifts the slope before it by 1 / 5 and lowers the one after by 1 / 25.
    bend = np.diff(np.diff(textbook(STRIKES)) / np.diff(STRIKES))[3]
    bumped = float(gaps(calls.at[4].add(1.0), puts).convexity)
    assert bumped == pytest.approx(0.24 - bend, rel=1e-3)
    assert float(gaps(calls, puts).convexity) < 1e-5


def test_a_law_without_risk_pays_the_discounted_intrinsic_value(x64):
    def law_fn():
        return pricing.law_from_quantiles(lambda u: 0.3 + 0.0 * u, rate=RATE, horizon=HORIZON)

    calls, puts, _, _, law = tabulate(law_fn)
    value = SPOT - STRIKES * np.exp(-RATE * HORIZON)
    np.testing.assert_allclose(calls, np.maximum(value, 0.0), atol=1e-10)
    np.testing.assert_allclose(puts, np.maximum(-value, 0.0), atol=1e-10)
    zero = jax.vmap(
        lambda k: black_scholes.black_scholes_price(SPOT, k, 0.0, rate=RATE, horizon=HORIZON)
    )(STRIKES)
    np.testing.assert_allclose(zero, np.maximum(value, 0.0), rtol=1e-14)
    assert bool(law.is_tail_light)


@pytest.mark.parametrize("is_call", [True, False])
def test_black_scholes_matches_the_textbook_and_its_inverse(x64, is_call):
    @jax.jit
    @jax.vmap
    def there_and_back(strike, volatility):
        price = black_scholes.black_scholes_price(
            SPOT, strike, volatility, rate=RATE, horizon=HORIZON, is_call=is_call
        )
        return price, black_scholes.implied_volatility(price, strike, is_call=is_call, **MARKET)

    strike, volatility = (a.ravel() for a in np.meshgrid([70.0, 100, 140], [0.15, 0.4, 2.0]))
    price, found = there_and_back(strike, volatility)
    expected = textbook(strike, volatility * HORIZON**0.5, is_call)
    np.testing.assert_allclose(price, expected, rtol=1e-11, atol=1e-13)
    # What the rounding of the price leaves of the volatility, and no more.
    slack = 1e-14 * SPOT / found.vega + 1e-12
    np.testing.assert_array_less(np.abs(found.volatility - volatility), slack)
    step = 1e-5
    bumped = textbook(strike, (volatility + step) * HORIZON**0.5, is_call) - textbook(
        strike, (volatility - step) * HORIZON**0.5, is_call
    )
    np.testing.assert_allclose(found.vega, bumped / (2 * step), rtol=1e-5, atol=1e-8)


def test_implied_volatility_of_a_price_ten_deviations_away(x64):
    total = 0.1 * HORIZON**0.5
    strike = SPOT * np.exp(RATE * HORIZON + 10.0 * total)
    price = textbook(strike, total)
    assert 0.0 < price < 1e-20
    found = black_scholes.implied_volatility(price, strike, **MARKET)
    assert float(found.volatility) == pytest.approx(0.1, rel=1e-10)


def test_prices_outside_the_bounds_are_flagged(variant):
    invert = variant(
        jax.vmap(lambda p, k: black_scholes.implied_volatility(p, k, **MARKET), (0, 0))
    )
    # Below intrinsic 20.6, at the spot, below zero; then two lawful ones.
    found = invert(jnp.array([20.0, 100.0, -0.1, 25.0, 0.0]), jnp.array([80.0, 100, 120, 80, 120]))
    np.testing.assert_array_equal(found.is_within_bounds, [False, False, False, True, True])
    np.testing.assert_array_equal(np.isnan(found.volatility), [True, True, True, False, False])
    assert float(found.volatility[4]) == 0.0


def heavy_law(power, scale=0.05, **options):
    # From the median 0 on both sides, |r| / scale + 1 is Pareto with tail index `power`.
    def upper(u):
        return scale * ((2.0 * u) ** -power - 1.0)

    return pricing.law_from_quantiles(
        lambda u: -upper(u),
        upper_quantile_fn=upper,
        rate=RATE,
        horizon=HORIZON,
        **options,
    )


def test_a_power_law_tail_is_reported_and_its_price_hangs_on_the_cut(x64):
    law = heavy_law(0.25)
    assert not bool(law.is_tail_light)
    assert float(law.tail_index) == pytest.approx(0.25, abs=1e-6)
    finer = heavy_law(0.25, tail_cut=1e-12)
    assert float(finer.shift) < float(law.shift) - 0.1  # the mean runs away as the cut moves out
    assert float(finer.cut_sensitivity) < -0.1


def test_an_exponential_tail_is_light_only_below_growth_one(x64):
    def law(scale):
        return pricing.law_from_quantiles(
            lambda u: scale * jnp.log(2.0 * jnp.minimum(u, 0.5)),
            upper_quantile_fn=lambda u: -scale * jnp.log(2.0 * jnp.minimum(u, 0.5)),
            rate=RATE,
            horizon=HORIZON,
        )

    assert bool(law(0.2).is_tail_light)
    assert not bool(law(1.1).is_tail_light)
    # Laplace: E[exp(r)] = 1 / (1 - b^2); the cut leaves out 1e-9^(1 - b) of it.
    assert float(law(0.2).shift) == pytest.approx(RATE * HORIZON + np.log(1 - 0.04), abs=1e-7)


def test_without_an_upper_quantile_the_cut_is_what_the_precision_resolves():
    law = pricing.law_from_quantiles(lambda u: TOTAL * ndtri(u), rate=RATE, horizon=HORIZON)
    assert 1e-6 < float(law.tail_cut) < 3e-6
    assert bool(law.is_tail_light)
    call = pricing.option_price(law, 100.0, spot=SPOT)
    assert float(call) == pytest.approx(textbook(100.0), rel=1e-4)
    for cut in (0.0, 0.01, float("nan")):
        with pytest.raises(ValueError, match="tail_cut"):
            pricing.law_from_quantiles(ndtri, rate=0.0, horizon=1.0, tail_cut=cut)


def test_samples_are_priced_as_the_discrete_law_they_are(x64):
    r, w = jnp.log(jnp.array([1.2, 0.9])), jnp.array([1.0, 3.0])
    law = pricing.law_from_samples(r, w, rate=0.0, horizon=HORIZON)
    # Mean ratio .25 * 1.2 + .75 * .9 = .975, so the two prices are 120 / .975 and 90 / .975.
    assert float(law.shift) == pytest.approx(-np.log(0.975), abs=1e-15)
    call = pricing.option_price(law, 100.0, spot=SPOT)
    put = pricing.option_price(law, 100.0, spot=SPOT, is_call=False)
    assert float(call) == pytest.approx(0.25 * (120 / 0.975 - 100), rel=1e-13)
    assert float(put) == pytest.approx(0.75 * (100 - 90 / 0.975), rel=1e-13)
    assert float(law.tail_cut) == 0.25
    assert not bool(law.is_tail_light)
    assert np.isnan(float(law.tail_index))


def test_draws_of_a_normal_law_price_within_their_standard_error(x64):
    draws = 0.11 + TOTAL * jax.random.normal(jax.random.key(0), (20_000,))
    law_fn = functools.partial(pricing.law_from_samples, rate=RATE, horizon=HORIZON)
    calls, _, gaps, _, law = tabulate(law_fn, STRIKES, draws)
    assert max(float(gap) for gap in gaps) < 1e-13
    x = np.asarray(draws) + float(law.shift)
    payoffs = np.maximum(SPOT * np.exp(x)[:, None] - STRIKES, 0.0)
    error = payoffs.std(0) / np.sqrt(x.size)
    np.testing.assert_array_less(np.abs(np.asarray(calls) - textbook(STRIKES)), 5 * error)
    # Holding the largest nine draws at the tenth lowers the mean by what they exceed it.
    top = np.sort(np.asarray(draws))[-10:]
    lost = np.sum(np.exp(top) - np.exp(top[0])) / x.size / np.mean(np.exp(draws))
    assert float(law.cut_sensitivity) == pytest.approx(np.log1p(-lost), rel=1e-9)


def test_the_default_cut_costs_a_millionth_of_a_price_and_delta_is_its_derivative(x64):
    @jax.jit
    def price_and_delta(spot):
        law = normal_law()
        price = functools.partial(pricing.option_price, law, 130.0)
        return *jax.value_and_grad(lambda s: price(spot=s))(spot), law.cut_sensitivity

    price, delta, sensitivity = price_and_delta(SPOT)
    assert 1e-10 < abs(float(price) / textbook(130.0) - 1.0) < 2e-6
    assert -1e-7 < float(sensitivity) < -1e-10
    d1 = (np.log(SPOT / 130.0) + RATE * HORIZON + TOTAL**2 / 2) / TOTAL
    assert float(delta) == pytest.approx(stats.norm.cdf(d1), rel=1e-6)
