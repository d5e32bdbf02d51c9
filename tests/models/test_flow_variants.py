"""Flows of other layers, tails, bases and scales: exact both ways, normalised, safe far out."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from densityjax.models import FlowConfig, affine_flow, flow_from_config, neural_spline_flow

SMALL = {"width": 8, "num_bins": 4, "num_hidden": 1, "num_layers": 2}
CASES = {
    "autoregressive, lu, context": {"dim": 3, "kind": "autoregressive", "context_dim": 2},
    "affine": {"dim": 3, "transform": "affine", "mixing": "permutation"},
    "affine, one, gpd": {"dim": 1, "transform": "affine", "tail": "gpd", "context_dim": 1},
    "actnorm, one": {"dim": 1, "tail": "none", "actnorm": True, "context_dim": 1},
    "actnorm, two scales": {"dim": 5, "num_scales": 2, "num_layers": 4, "actnorm": True},
    "autoregressive, one order, three scales": {
        "dim": 4,
        "num_scales": 3,
        "num_layers": 3,
        "kind": "autoregressive",
        "mixing": "none",
    },
    "gpd, shared t": {"dim": 2, "tail": "gpd", "base": "student_t"},
    "no tail, shared t": {"dim": 2, "tail": "none", "base": "student_t"},
    "circle": {"dim": 1, "circular_dims": (0,)},
    "circle and line": {"dim": 2, "circular_dims": (0,), "periods": (24.0,), "num_layers": 3},
    "torus, autoregressive": {
        "dim": 3,
        "circular_dims": (0, 2),
        "kind": "autoregressive",
        "actnorm": True,
        "base": "normal",
    },
}


@functools.cache
def build(name, disturb=0.2):
    """Returns a flow, NumPy parameters away from the identity, rows and contexts."""
    flow = flow_from_config(FlowConfig(**{**SMALL, **CASES[name]}))
    config, rng = flow.config, np.random.default_rng(0)
    x = (2.0 + 3.0 * rng.standard_t(4.0, (60, config.dim))).astype(np.float32)
    contexts = rng.standard_normal((60, config.context_dim)).astype(np.float32)
    contexts = contexts if config.context_dim else None
    shapes = jax.eval_shape(flow.init, jax.random.key(0), x, contexts)
    params = jax.tree.map(
        lambda leaf: disturb * rng.standard_normal(leaf.shape).astype(np.float32), shapes
    )
    location, scale = np.full(config.dim, 2.0, np.float32), np.full(config.dim, 3.0, np.float32)
    periods = config.periods or (2.0 * math.pi,) * len(config.circular_dims)
    for dim, period in zip(config.circular_dims, periods, strict=True):
        location[dim], scale[dim] = 0.0, period / (2.0 * math.pi)
        x[:, dim] = rng.uniform(-period / 2, period / 2, 60)
    params["standardiser"] = {"location": location, "scale": scale}
    return flow, params, x, contexts


@pytest.mark.parametrize(
    "name",
    # The rest are of the same parts: a base, a scalar map and an angle change no Jacobian's rule.
    [name for name in CASES if name not in ("circle", "no tail, shared t", "actnorm, one")],
)
def test_directions_undo_each_other_and_log_dets_are_those_of_autodiff(name, x64):
    flow, params, x, contexts = build(name)
    wide = jax.tree.map(lambda leaf: leaf.astype(np.float64), (params, x[:20], contexts))
    params, x, contexts = wide

    def one(x, context):
        def to_noise(x):
            z, log_det = flow.to_noise(params, x, context)
            return z, (z, log_det)

        jacobian, (z, log_det) = jax.jacfwd(to_noise, has_aux=True)(x)
        back, log_det_back = flow.from_noise(params, z, context)
        return back, jacobian, log_det, log_det_back

    axis = None if contexts is None else 0
    contexts = None if contexts is None else contexts[:20]
    back, jacobian, log_det, log_det_back = jax.jit(jax.vmap(one, (0, axis)))(x, contexts)
    np.testing.assert_allclose(back, x, rtol=1e-8, atol=1e-8)
    slope = np.linalg.slogdet(jacobian)[1]  # of the way back it is the negative
    np.testing.assert_allclose(log_det, slope, rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(log_det_back, -slope, rtol=1e-8, atol=1e-8)
    if flow.config.mixing == "none":  # one order throughout: the whole flow is triangular
        assert np.abs(np.triu(jacobian, 1)).max() == 0.0


@functools.cache
def log_prob_of(name):
    return jax.jit(jax.vmap(build(name)[0].log_prob, (None, 0, None)))


HEAVY = 2.0 + np.sinh(np.linspace(-14.0, 14.0, 401))


@pytest.mark.parametrize(
    ("name", "axes", "limit"),
    [
        ("affine, one, gpd", [np.sinh(np.linspace(-30, 30, 4001))], 1e-3),
        ("circle", [np.linspace(-math.pi, math.pi, 2001)], 1e-4),
        ("circle and line", [np.linspace(-12, 12, 301), HEAVY], 2e-3),
        ("no tail, shared t", [HEAVY, HEAVY], 2e-3),
        ("gpd, shared t", [HEAVY, HEAVY], 1e-2),
    ],
)
def test_the_density_integrates_to_one(name, axes, limit):
    _, params, _, contexts = build(name)
    grid = np.stack(np.meshgrid(*axes, indexing="ij"), -1).reshape(-1, len(axes))
    context = None if contexts is None else contexts[0]
    total = np.exp(np.float64(log_prob_of(name)(params, grid.astype(np.float32), context)))
    total = total.reshape([len(axis) for axis in axes])
    for axis in reversed(axes):
        total = np.trapezoid(total, axis)
    assert total == pytest.approx(1.0, abs=limit)


def test_e335_12_a_flow_whose_halves_leave_early_integrates_to_one():
    flow = neural_spline_flow(2, **{**SMALL, "num_layers": 4}, num_scales=2, tail="none")
    shapes = jax.eval_shape(flow.init, jax.random.key(0), np.zeros((9, 2), np.float32))
    assert shapes["layers"]["output"]["kernel"].shape[0] == 2  # two of four layers see both
    assert shapes["scale_1"]["layers"]["logits"].shape[0] == 2  # and two see what is left
    rng = np.random.default_rng(0)
    params = jax.tree.map(lambda a: 0.2 * rng.standard_normal(a.shape).astype("f4"), shapes)
    params["standardiser"] = {"location": np.zeros(2, "f4"), "scale": np.ones(2, "f4")}
    axis = np.linspace(-12.0, 12.0, 401)
    grid = np.stack(np.meshgrid(axis, axis, indexing="ij"), -1).reshape(-1, 2)
    log_prob = jax.jit(jax.vmap(flow.log_prob, (None, 0)))
    mass = np.exp(log_prob(params, grid.astype("f4"))).reshape(401, 401)
    total = np.trapezoid(np.trapezoid(mass, axis, axis=1), axis)
    assert total == pytest.approx(1.0, abs=1e-4)


@pytest.mark.parametrize("name", ["circle and line", "torus, autoregressive"])
def test_the_density_is_periodic_and_continuous_across_the_seam(name):
    flow, params, x, _ = build(name)
    log_prob = log_prob_of(name)
    period = (flow.config.periods or (2.0 * math.pi,))[0]
    points = np.repeat(x[:30], 2, axis=0)
    points[::2, 0], points[1::2, 0] = period / 2 * (1 - 1e-6), -period / 2 * (1 - 1e-6)
    value = np.asarray(log_prob(params, points, None))
    np.testing.assert_allclose(value[::2], value[1::2], atol=1e-3)
    turned = x + np.eye(flow.config.dim, dtype="f4")[0] * np.float32(period)
    np.testing.assert_allclose(log_prob(params, turned, None), log_prob(params, x, None), atol=2e-3)
    line = np.repeat(x[:1], 50, axis=0)
    line[:, 0] = np.linspace(-period / 2, period / 2, 50)
    assert np.ptp(np.asarray(log_prob(params, line, None))) > 0.05  # it does depend on the angle


FAR = ("affine", "gpd, shared t", "no tail, shared t", "circle and line", "torus, autoregressive")


@pytest.mark.parametrize("name", FAR)
def test_values_and_gradients_are_finite_on_far_points(name):
    flow, params, _, contexts = build(name)
    far = 100.0 * np.random.default_rng(1).standard_cauchy((200, flow.config.dim))
    context = None if contexts is None else contexts[0]
    both = jax.jit(jax.vmap(jax.value_and_grad(flow.log_prob, (0, 1)), (None, 0, None)))
    values, grads = both(params, far.astype(np.float32), context)
    assert np.isfinite(values).all()
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(grads))


@functools.cache
def fitted_start(name):
    flow, _, x, contexts = build(name)
    rows = np.r_[x, np.full((5, flow.config.dim), np.nan, np.float32)]
    weights = np.r_[np.ones(60), np.zeros(5)].astype(np.float32)
    if contexts is not None:
        contexts = np.r_[contexts, np.zeros((5, contexts.shape[1]), np.float32)]

    @jax.jit
    def start(rows, contexts, weights, x):
        params = flow.init(jax.random.key(0), rows, contexts, weights)
        return params, jax.vmap(flow.to_noise, (None, 0))(params, x)[0]

    return jax.device_get(start(rows, contexts, weights, x))


@pytest.mark.parametrize("name", ["actnorm, two scales", "gpd, shared t", "torus, autoregressive"])
def test_the_start_is_finite_and_blind_to_rows_of_weight_zero(name):
    flow = build(name)[0]
    params, z = fitted_start(name)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(params))
    if flow.config.actnorm and not flow.config.circular_dims:
        # ActNorm comes before every layer, and the layers are still the identity.
        np.testing.assert_allclose(z.mean(0), 0.0, atol=1e-4)
        np.testing.assert_allclose(z.std(0), 1.0, atol=1e-3)


def test_e335_14_joint_extremes_come_together_under_a_shared_t_alone():
    # P(both beyond their 99 % quantile | one is): .01 if independent; for the bivariate t with
    # three degrees of freedom and no correlation it tends to 2 t_4(-2) = .116 in the far tail.
    counts = {}
    for base in ("normal", "student_t"):
        flow = neural_spline_flow(2, **SMALL, base=base)
        params = jax.tree.map(
            lambda a: np.zeros(a.shape, "f4"),
            jax.eval_shape(flow.init, jax.random.key(0), np.zeros((9, 2), "f4")),
        )
        params["standardiser"]["scale"] += 1.0
        keys = jax.random.split(jax.random.key(1), 40_000)
        x = np.asarray(jax.jit(jax.vmap(flow.sample, (0, None)))(keys, params))
        beyond = x > np.quantile(x, 0.99, axis=0)
        counts[base] = beyond.all(1).sum() / 400
    assert counts["normal"] < 0.01 + 4 * (0.01 / 400) ** 0.5
    assert counts["student_t"] > 0.06


def test_an_affine_flow_is_the_spline_flow_with_another_scalar_map():
    flow = affine_flow(3, width=8)
    assert flow is neural_spline_flow(3, width=8, transform="affine")
    shapes = jax.eval_shape(flow.init, jax.random.key(0), jnp.zeros((9, 3)))
    assert shapes["layers"]["output"]["bias"].shape == (4, 4)  # two logits for two of three


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"kind": "made"}, "kind is 'made'"),
        ({"transform": "cubic"}, "transform is 'cubic'"),
        ({"base": "cauchy"}, "base is 'cauchy'"),
        ({"mixing": "none"}, "mixing is 'none'"),
        ({"mixing": "permutation", "whiten": True}, "whiten is True"),
        ({"num_scales": 3}, "num_scales is 3"),
        ({"num_scales": 2, "num_layers": 3}, "num_layers is 3: accepted is >= 4"),
        ({"dim": 1, "base": "student_t"}, "base is 'student_t'"),
        ({"kind": "autoregressive", "conditioner": "mlp"}, "conditioner is 'mlp'"),
        ({"circular_dims": (2,)}, r"circular_dims is \(2,\)"),
        ({"circular_dims": (0,), "periods": (1.0, 2.0)}, "periods is"),
        ({"circular_dims": (0,), "periods": (-1.0,)}, "periods is"),
    ],
)
def test_a_config_names_what_does_not_go_together(options, match):
    with pytest.raises(ValueError, match=match):
        FlowConfig(**{"dim": 2, **options})


def test_periodic_dimensions_survive_json_and_have_no_marginal():
    config = FlowConfig(dim=1, circular_dims=(0,), periods=(24.0,))
    assert FlowConfig.from_json(config.to_json()) == config
    with pytest.raises(ValueError, match="circular_dims"):
        flow_from_config(config).marginal({})
    with pytest.raises(ValueError, match="actnorm True"):
        neural_spline_flow(1, actnorm=True).marginal({})
