"""Exact conditionals of autoregressive flows: uniform, equal to quadrature, and drawn from."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from scipy import stats

from densityjax.models import autoregressive_flow

SMALL = {"width": 8, "num_bins": 4, "num_hidden": 1, "num_layers": 2}


@functools.cache
def build(base="normal", tail="lambert_w", disturb=0.4):
    model = autoregressive_flow(2, **SMALL, base=base, tail=tail)
    shapes = jax.eval_shape(model.flow.init, jax.random.key(0), np.zeros((9, 2), "f4"))
    rng = np.random.default_rng(0)
    params = jax.tree.map(lambda a: disturb * rng.standard_normal(a.shape).astype("f4"), shapes)
    params["standardiser"] = {"location": np.zeros(2, "f4"), "scale": np.ones(2, "f4")}
    return model, params


@pytest.mark.parametrize(
    ("base", "tail"), [("normal", "lambert_w"), ("student_t", "none"), ("student_t", "lambert_w")]
)
def test_the_conditional_cdf_is_the_integral_of_the_density(base, tail, x64):
    model, params = build(base, tail)
    params = jax.tree.map(np.float64, params)
    grid = np.sinh(np.linspace(-12.0, 12.0, 4001))
    log_prob = jax.jit(
        jax.vmap(lambda a, b: model.flow.log_prob(params, jnp.stack([a, b])), (None, 0))
    )
    cdf = jax.jit(lambda x: jnp.stack([model.conditional_cdf(params, x, i) for i in (0, 1)]))
    rosenblatt = jax.jit(lambda x: model.rosenblatt(params, x))
    for point in ([0.7, -0.4], [-3.0, 5.0]):
        row = np.exp(log_prob(point[0], grid))
        below = np.r_[0.0, np.cumsum(0.5 * (row[1:] + row[:-1]) * np.diff(grid))]
        exact = np.interp(point[1], grid, below) / below[-1]
        u = rosenblatt(np.array(point))
        np.testing.assert_allclose(u[1], exact, atol=2e-4)
        np.testing.assert_allclose(cdf(np.array(point)), u, rtol=1e-12)
    # The first entry does not read the second, not even to multiply it by zero.
    assert np.isfinite(cdf(np.array([0.7, np.nan]))[0])


def test_the_rosenblatt_transform_of_its_own_samples_is_uniform_and_independent():
    for base, tail in (("normal", "lambert_w"), ("student_t", "lambert_w")):
        model, params = build(base, tail)

        def one(key, params=params, model=model):
            return model.rosenblatt(params, model.flow.sample(key, params))

        u = np.asarray(jax.jit(jax.vmap(one))(jax.random.split(jax.random.key(1), 4000)))
        for column in u.T:
            assert stats.kstest(column, "uniform").pvalue > 1e-3
        # Under a shared t the scores are uncorrelated, but their sizes are not; the u are free.
        for values in (u, np.abs(u - 0.5)):
            assert abs(np.corrcoef(values.T)[0, 1]) < 4 / 4000**0.5


def test_after_a_fit_of_a_correlated_normal_law_the_transform_of_its_rows_is_uniform():
    model = autoregressive_flow(2, **{**SMALL, "num_layers": 1}, tail="none")
    rng = np.random.default_rng(2)
    law = np.array([[1.0, 0.0], [1.6, 1.2]])  # correlation .8
    x, fresh = (rng.standard_normal((4000, 2)).astype("f4") @ law.T.astype("f4") for _ in range(2))
    params = jax.jit(model.flow.init)(jax.random.key(0), x)
    optimiser = optax.adam(1e-2)

    def loss(params):
        return -jnp.mean(jax.vmap(model.flow.log_prob, (None, 0))(params, x[:2000]))

    def step(carry, _):
        updates, state = optimiser.update(jax.grad(loss)(carry[0]), carry[1])
        return (optax.apply_updates(carry[0], updates), state), None

    fit = jax.jit(lambda p: jax.lax.scan(step, (p, optimiser.init(p)), None, length=300)[0][0])
    params = fit(params)
    u = np.asarray(jax.jit(jax.vmap(model.rosenblatt, (None, 0)))(params, fresh))
    exact = stats.norm.cdf(np.stack([fresh[:, 0], (fresh[:, 1] - 1.6 * fresh[:, 0]) / 1.2], 1))
    assert np.abs(u - exact).mean() < 0.02
    assert abs(np.corrcoef(u.T)[0, 1]) < 0.07  # .79 before the fit
    # The conditional quantile is the regression quantile of the law.
    given = np.array([1.0, 0.0], "f4")
    quantile = jax.jit(lambda p: model.conditional_quantile(params, given, 1, p))
    for probability in (0.05, 0.5, 0.95):
        exact = 1.6 + 1.2 * stats.norm.ppf(probability)
        assert float(quantile(probability)) == pytest.approx(exact, abs=0.25)


@pytest.mark.parametrize("base", ["normal", "student_t"])
def test_sam_09_conditional_samples_follow_the_conditional_law(base):
    model, params = build(base, "lambert_w")
    given = jnp.array([1.5, jnp.nan])

    def one(key):
        x = model.conditional_sample(key, params, given, 1)
        return x, model.conditional_cdf(params, x, 1)

    x, u = jax.jit(jax.vmap(one))(jax.random.split(jax.random.key(5), 4000))
    np.testing.assert_array_equal(x[:, 0], 1.5)
    assert stats.kstest(np.asarray(u), "uniform").pvalue > 1e-3


def test_the_quantile_undoes_the_cdf_and_the_model_is_found_again():
    model, params = build()
    x = jnp.array([0.5, 2.0])
    probability = model.conditional_cdf(params, x, 1)
    back = model.conditional_quantile(params, x, 1, probability)
    assert float(back) == pytest.approx(2.0, rel=1e-4)
    assert autoregressive_flow(2, **SMALL) is model
    with pytest.raises(ValueError, match="mixing is 'lu'"):
        autoregressive_flow(2, mixing="lu")
    with pytest.raises(ValueError, match="student_t"):
        build("student_t")[0].conditional_quantile(params, x, 1, 0.5)
