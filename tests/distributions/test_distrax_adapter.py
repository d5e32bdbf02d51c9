import subprocess
import sys
from typing import NamedTuple

import distrax
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from densityjax import distributions
from densityjax.bijectors import rational_quadratic_spline as rqs
from densityjax.distributions import RationalQuadraticSpline, bases

OPTIONS = ("unconstrained", "lower_identity", "upper_identity", "identity", "circular")


def test_importing_the_package_does_not_import_distrax():
    code = (
        "import sys, densityjax, densityjax.distributions as d, densityjax.distributions.bases\n"
        "assert 'distrax' not in sys.modules\n"
        "assert 'RationalQuadraticSpline' in d.__all__\n"
        "d.RationalQuadraticSpline\n"
        "assert 'distrax' in sys.modules\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'Spline'"):
        distributions.Spline  # noqa: B018


@pytest.mark.parametrize("option", OPTIONS)
def test_it_computes_what_distrax_computes(x64, option):
    params = jax.random.normal(jax.random.key(0), (2, 16))
    arguments = (params, -4.0, 5.0, option)
    ours, theirs = RationalQuadraticSpline(*arguments), distrax.RationalQuadraticSpline(*arguments)
    for name in ("x_pos", "y_pos", "knot_slopes"):
        np.testing.assert_allclose(getattr(ours, name), getattr(theirs, name), atol=1e-9)
    x = jnp.linspace(-7.0, 8.0, 101)[:, None]
    for name in ("forward_and_log_det", "inverse_and_log_det"):
        value, log_det = jax.jit(getattr(ours, name))(x)
        assert value.shape == log_det.shape == (101, 2)
        expected, expected_log_det = jax.jit(getattr(theirs, name))(x)
        np.testing.assert_allclose(value, expected, atol=1e-8)
        np.testing.assert_allclose(log_det, expected_log_det, atol=1e-8)


def test_its_inverse_beats_distrax_beside_the_knots_in_float32():
    params = 4.0 * jax.random.normal(jax.random.key(2), (25,))
    ours = RationalQuadraticSpline(params, -3.0, 3.0, "identity", 6e-3, 1e-3)
    theirs = distrax.RationalQuadraticSpline(params, -3.0, 3.0, "identity", 6e-3, 1e-3)
    rng = np.random.default_rng(0)
    k, gap = rng.integers(0, 8, 4000), 10.0 ** -rng.uniform(2.0, 7.0, 4000)
    edges = np.asarray(ours.y_pos)
    y = (edges[k + 1] - gap * np.diff(edges)[k]).astype(np.float32)
    with jax.enable_x64(True):
        knots = rqs.Knots(
            *(jnp.asarray(a, jnp.float64) for a in (ours.x_pos, edges, ours.knot_slopes))
        )
        _, truth = jax.vmap(rqs.inverse, (None, 0))(knots, jnp.asarray(y, jnp.float64))
    errors = [
        np.abs(np.asarray(b.inverse_and_log_det(y)[1], np.float64) - np.asarray(truth)).max()
        for b in (ours, theirs)
    ]
    assert errors[0] < 2e-5
    assert errors[1] > 20.0 * errors[0]


def test_it_passes_through_jit_and_grad_as_an_argument():
    spline = RationalQuadraticSpline(jnp.ones(13), -1.0, 1.0)

    @jax.jit
    def value(bijector, x):
        return bijector.forward(x)

    assert value(spline, jnp.zeros(3)).shape == (3,)
    gradient = jax.grad(lambda p: RationalQuadraticSpline(p, -1.0, 1.0).forward(0.3))(jnp.ones(13))
    assert np.isfinite(gradient).all()
    assert np.abs(gradient).max() > 0.0


def test_it_makes_a_distribution_that_integrates_to_one():
    spline = RationalQuadraticSpline(
        jax.random.normal(jax.random.key(1), (13,)), -3.0, 3.0, "identity"
    )
    law = distrax.Transformed(distrax.Normal(0.0, 1.0), spline)
    x = jnp.linspace(-9.0, 9.0, 20_001)
    np.testing.assert_allclose(jnp.trapezoid(law.prob(x), x), 1.0, atol=1e-4)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"params": jnp.zeros(3)}, "got 3"),
        ({"params": jnp.zeros(8)}, "got 8"),
        ({"range_max": -1.0}, "range_min must be below"),
        ({"min_bin_size": 0.0}, "min_bin_size"),
        ({"min_bin_size": 0.9}, "min_bin_size"),
        ({"min_knot_slope": 1.0}, "min_knot_slope"),
        ({"boundary_slopes": "free"}, "'free'"),
    ],
)
def test_bad_arguments_raise(options, message):
    arguments = {"params": jnp.zeros(10), "range_min": 0.0, "range_max": 1.0} | options
    with pytest.raises(ValueError, match=message):
        RationalQuadraticSpline(**arguments)


class Shift(NamedTuple):
    """A flow of one layer, to be wrapped: x = z + params + context."""

    log_prob: object = lambda params, x, context: bases.normal_log_prob(x - params - context)
    sample: object = lambda key, params, context: bases.normal_sample(key, 2) + params + context


def test_a_flow_as_a_distribution_of_distrax():
    flow, params, context = Shift(), jnp.array([1.0, -2.0]), jnp.float32(0.5)
    law = distributions.as_distrax(flow, params, dim=2, context=context)
    expected = distrax.MultivariateNormalDiag(params + context, jnp.ones(2))
    assert law.event_shape == (2,)
    assert law.batch_shape == ()
    x = jax.random.normal(jax.random.key(0), (3, 4, 2))
    np.testing.assert_allclose(law.log_prob(x), expected.log_prob(x), atol=1e-5)
    samples, log_prob = law.sample_and_log_prob(seed=jax.random.key(1), sample_shape=(5, 1000))
    assert samples.shape == (5, 1000, 2)
    np.testing.assert_allclose(log_prob, expected.log_prob(samples), atol=1e-5)
    np.testing.assert_allclose(samples.mean((0, 1)), params + context, atol=5 / np.sqrt(5000))
