"""Spline flows: both directions, the log-determinant, the integral, the context, the start."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import special
from scipy.stats import norm

from densityjax.bijectors import lambert_w
from densityjax.models import FlowConfig, flow_from_config, neural_spline_flow

CASES = {
    "one": {"dim": 1, "num_layers": 2},
    "one, context": {"dim": 1, "num_layers": 1, "context_dim": 3, "tail": "none"},
    "two, lu": {"dim": 2, "num_layers": 3},
    "three, permutation": {"dim": 3, "num_layers": 2, "mixing": "permutation", "tail": "none"},
    "five, mlp, context": {"dim": 5, "num_layers": 2, "conditioner": "mlp", "context_dim": 2},
}


@functools.cache
def build(name, *, disturb=0.1):
    """Returns a flow, NumPy parameters away from the identity, rows and contexts."""
    options = {"width": 8, "num_bins": 5, **CASES[name]}
    flow = neural_spline_flow(options.pop("dim"), **options)
    rng = np.random.default_rng(0)
    dim, num_context = flow.config.dim, flow.config.context_dim
    x = (2.0 + 3.0 * rng.standard_t(4.0, (100, dim))).astype(np.float32)
    contexts = rng.standard_normal((100, num_context)).astype(np.float32) if num_context else None
    shapes = jax.eval_shape(flow.init, jax.random.key(0), x, contexts)
    noise = jax.tree.map(
        lambda leaf: disturb * rng.standard_normal(leaf.shape).astype(np.float32), shapes
    )
    fixed = {
        standardiser: {
            "location": np.full(size, 2.0, np.float32),
            "scale": np.full(size, 3.0, np.float32),
        }
        for standardiser, size in (("standardiser", dim), ("context_standardiser", num_context))
        if standardiser in shapes
    }
    return flow, {**noise, **fixed}, x, contexts


@functools.cache
def compiled(name, method):
    """Returns one of a flow's functions, (params, x [N, D], contexts) -> [N], compiled once."""
    flow, _, _, contexts = build(name)
    axis = None if contexts is None else 0
    return jax.jit(jax.vmap(getattr(flow, method), (None, 0, axis)))


@pytest.mark.parametrize("name", CASES)
def test_directions_undo_each_other_and_log_dets_are_those_of_autodiff(name, x64):
    flow, params, x, contexts = build(name)
    params, x, contexts = jax.tree.map(lambda leaf: leaf.astype(np.float64), (params, x, contexts))

    def one(x, context):
        def to_noise(x):
            z, log_det = flow.to_noise(params, x, context)
            return z, (z, log_det)

        jacobian, (z, log_det) = jax.jacfwd(to_noise, has_aux=True)(x)
        back, log_det_back = flow.from_noise(params, z, context)
        return back, jacobian, log_det, log_det_back

    axis = None if contexts is None else 0
    back, jacobian, log_det, log_det_back = jax.jit(jax.vmap(one, (0, axis)))(x, contexts)
    # Rounding of z moves x by eps / slope: two steep layers can cost seven digits.
    np.testing.assert_allclose(back, x, rtol=1e-9, atol=1e-9)
    slope = np.linalg.slogdet(jacobian)[1]  # of the way back it is the negative
    np.testing.assert_allclose(log_det, slope, rtol=1e-10, atol=1e-10)
    np.testing.assert_allclose(log_det_back, -slope, rtol=1e-10, atol=1e-10)
    assert np.abs(log_det + np.log(3.0) * flow.config.dim).max() > 0.1  # not the standardiser's


@pytest.mark.parametrize("spread", ["sd", "mad"])
def test_a_context_is_standardised_by_its_spread(spread):
    flow = neural_spline_flow(1, context_dim=1, num_layers=1, width=4, context_spread=spread)
    context = np.random.default_rng(0).standard_t(3.0, size=(500, 1)).astype(np.float32)
    fitted = jax.jit(flow.init)(jax.random.key(0), context, context)["context_standardiser"]
    deviation = context - np.median(context)
    expected = context.std() if spread == "sd" else 1.482602 * np.median(np.abs(deviation))
    np.testing.assert_allclose(fitted["scale"], expected, rtol=1e-4)
    with pytest.raises(ValueError, match="context_spread is 'iqr': accepted are"):
        neural_spline_flow(1, context_dim=1, context_spread="iqr")


@pytest.mark.parametrize("name", ["one", "one, context"])
def test_one_dimension_integrates_to_one(name, x64):
    flow, params, _, contexts = build(name, disturb=0.5)
    grid = np.sinh(np.linspace(-25.0, 25.0, 50_001))  # reaches 3e10: heavy tails count
    context = None if contexts is None else contexts[0].astype(np.float64)
    log_prob = jax.jit(jax.vmap(lambda x: flow.log_prob(params, x[None], context)))
    assert np.trapezoid(np.exp(log_prob(grid)), grid) == pytest.approx(1.0, abs=1e-5)


def test_two_dimensions_integrate_to_one():
    _, params, _, _ = build("two, lu")
    axis = 2.0 + np.sinh(np.linspace(-8.0, 8.0, 301))
    grid = np.stack(np.meshgrid(axis, axis, indexing="ij"), -1).reshape(-1, 2)
    mass = np.exp(compiled("two, lu", "log_prob")(params, grid, None)).reshape(301, 301)
    total = np.trapezoid(np.trapezoid(mass, axis, axis=1), axis)
    assert total == pytest.approx(1.0, abs=2e-3)


def test_a_new_flow_is_the_robust_standardiser_and_its_tails():
    _, _, x, _ = build("two, lu")
    z, log_det = compiled("two, lu", "to_noise")(_initial(), x, None)
    # Every spline and LU is the identity: what is left moves each dimension on its own, and the
    # three reversals of the mixing swap the two.
    one = np.abs(z[:, ::-1] - np.stack([_tail_only(x[:, i], i) for i in (0, 1)], 1))
    assert one.max() < 1e-4
    assert np.isfinite(log_det).all()
    median = np.median(x, axis=0)
    np.testing.assert_allclose(_initial()["standardiser"]["location"], median, rtol=1e-4)


def test_a_new_flow_that_whitens_takes_the_correlation_out_of_its_rows():
    rng = np.random.default_rng(1)
    x = np.stack([*rng.standard_normal((2, 500)), rng.uniform(-3.0, 3.0, 500)], 1).astype("f4")
    x[:, 1] += 2.0 * x[:, 0]
    flow = neural_spline_flow(
        3, num_layers=2, width=4, tail="none", whiten=True, circular_dims=(2,)
    )
    params = flow.init(jax.random.key(0), x)
    z = np.asarray(jax.vmap(flow.to_noise, (None, 0))(params, x)[0])
    assert abs(np.corrcoef(z[:, :2].T)[0, 1]) < 0.05 < 0.8 < np.corrcoef(x[:, :2].T)[0, 1]
    np.testing.assert_allclose(z[:, 2], x[:, 2], atol=1e-4)  # an angle is not mixed


@functools.cache
def _initial(*, rest=0.0):
    """Parameters fitted to the rows of weight one, and twenty more of weight zero."""
    flow, _, x, _ = build("two, lu")
    rows = np.concatenate([x, np.full((20, 2), rest, np.float32)])
    weights = np.r_[np.ones(100), np.zeros(20)].astype(np.float32)
    return compiled_init(flow)(jax.random.key(0), rows, None, weights)


@functools.cache
def compiled_init(flow):
    return jax.jit(flow.init)


def _tail_only(column, dim):
    """Standardiser and Lambert-W tail of one dimension, in NumPy and scipy."""
    params = jax.device_get(_initial())
    tail = jax.vmap(lambert_w.tail_from_logits)(params["tail"]["logits"])
    location, scale, h_plus, h_minus = (np.asarray(leaf, np.float64)[dim] for leaf in tail)
    fixed = params["standardiser"]
    standard = (column - fixed["location"][dim]) / fixed["scale"][dim]
    y = (standard - location) / scale
    h = np.where(y > 0, h_plus, h_minus)
    return y * np.exp(-0.5 * special.lambertw(h * y**2).real)


def test_rows_of_weight_zero_do_not_touch_the_start():
    for leaf, same in zip(
        jax.tree.leaves(_initial(rest=1e3)), jax.tree.leaves(_initial()), strict=True
    ):
        np.testing.assert_allclose(leaf, same, rtol=1e-3, atol=1e-4)


def test_e335_07_two_layers_bend_every_dimension():
    _, params, x, _ = build("three, permutation")
    line = np.linspace(-3.0, 7.0, 41, dtype=np.float32)
    for dim in range(3):
        points = np.repeat(x[:1], len(line), axis=0)
        points[:, dim] = line
        z, _ = compiled("three, permutation", "to_noise")(params, points, None)
        assert np.abs(np.diff(z, n=2, axis=0)).max() > 1e-3  # an affine map has none
    with pytest.raises(ValueError, match="num_layers is 1"):
        neural_spline_flow(3, num_layers=1)


def test_e335_08_the_log_det_holds_at_a_scale_of_2e_minus_4():
    flow, params, x, _ = build("three, permutation")
    small = {"location": np.zeros(3, np.float32), "scale": np.full(3, 2e-4, np.float32)}
    params, point = {**params, "standardiser": small}, 1e-4 * x[0]
    jacobian, (_, log_det) = jax.jit(
        lambda x: (jax.jacfwd(lambda x: flow.to_noise(params, x)[0])(x), flow.to_noise(params, x))
    )(point)
    assert float(log_det) == pytest.approx(float(np.linalg.slogdet(jacobian)[1]), abs=1e-4)


def test_e335_09_scoring_changes_nothing_and_a_row_does_not_see_its_batch():
    _, params, x, _ = build("two, lu")
    log_prob = compiled("two, lu", "log_prob")
    values = log_prob(params, x, None)
    np.testing.assert_array_equal(values, log_prob(params, x, None))
    np.testing.assert_allclose(log_prob(params, x[:1], None), values[:1], rtol=1e-5)


def test_e335_13_a_change_of_units_shifts_the_log_density():
    _, params, x, _ = build("two, lu")
    log_prob = compiled("two, lu", "log_prob")
    scaled = jax.tree.map(lambda leaf: 10 * leaf, params["standardiser"])
    np.testing.assert_allclose(
        log_prob({**params, "standardiser": scaled}, 10 * x, None),
        log_prob(params, x, None) - 2 * np.log(10.0),
        rtol=1e-4,
    )


def test_samples_follow_the_density_and_the_temperature_scales_the_base():
    flow, params, _, _ = build("one")
    keys = jax.random.split(jax.random.key(3), 4000)
    draw = jax.jit(jax.vmap(lambda k, t: flow.sample(k, params, temperature=t), (0, None)))
    z = compiled("one", "to_noise")(params, draw(keys, 1.0), None)[0]
    # Kolmogorov's statistic: 1.95 / sqrt(n) is passed by chance once in a thousand.
    u = np.sort(norm.cdf(z[:, 0]))
    assert np.abs(u - (np.arange(4000) + 0.5) / 4000).max() < 1.95 / 4000**0.5
    z_cold = compiled("one", "to_noise")(params, draw(keys, 0.5), None)[0]
    assert z_cold.std() == pytest.approx(0.5, abs=5 * 0.5 / (2 * 4000) ** 0.5)


def test_frozen_statistics_get_no_gradient_and_all_else_does():
    flow, params, x, contexts = build("five, mlp, context")
    grads = jax.jit(jax.grad(flow.log_prob))(params, x[0], contexts[0])
    for name, sub in grads.items():
        norms = [float(jnp.abs(leaf).max()) for leaf in jax.tree.leaves(sub)]
        assert (max(norms) == 0.0) == ("standardiser" in name), name


def test_far_points_have_finite_values_and_gradients_and_nan_stays_in_its_row():
    flow, params, x, _ = build("two, lu")
    far = np.array([x[0], [1e30, 0.0], [-1e30, 0.0], [5e3, 0.0], [-5e3, 0.0], [np.nan, 0.0]])
    value_and_grad = jax.jit(jax.vmap(jax.value_and_grad(flow.log_prob), (None, 0)))
    values, grads = value_and_grad(params, far.astype(np.float32))
    np.testing.assert_array_equal(np.isnan(values), [False] * 5 + [True])
    assert np.isfinite(np.asarray(values)[[0, 3, 4]]).all()
    for leaf in jax.tree.leaves(grads):
        assert np.isfinite(np.asarray(leaf)[[0, 3, 4]]).all()


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("dim", 0),
        ("num_bins", 0),
        ("bound", -1.0),
        ("dropout", 1.0),
        ("conditioner", "cnn"),
        ("mixing", "none"),
        ("tail", "cauchy"),
        ("activation", "step"),
        ("width", 1.5),
    ],
)
def test_a_config_names_the_field_it_refuses(field, value):
    with pytest.raises(ValueError, match=f"{field} is"):
        FlowConfig(**{"dim": 2, field: value})


def test_a_config_survives_json_and_equal_ones_give_the_same_flow():
    config = FlowConfig(dim=4, context_dim=2).replace(num_bins=6)
    assert FlowConfig.from_json(config.to_json()) == config
    assert flow_from_config(config) is neural_spline_flow(4, context_dim=2, num_bins=6)
    with pytest.raises(ValueError, match="depth"):
        FlowConfig.from_json('{"depth": 3}')
    with pytest.raises(ValueError, match=r"context is missing: accepted is \[9, 2\]"):
        flow_from_config(config).init(jax.random.key(0), jnp.zeros((9, 4)))
    flow, params, x, _ = build("one")
    with pytest.raises(ValueError, match=r"context is of shape \(3,\): accepted is None"):
        flow.log_prob(params, x[0], jnp.zeros(3))
    with pytest.raises(ValueError, match="dim is 4"):
        flow_from_config(config).marginal({})
