"""Spline flows: both directions, the log-determinant, the integral, the context, the start."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.scipy.stats import norm

from densityjax.models import FlowConfig, flow_from_config, neural_spline_flow


def build(name, *, disturb=0.1):
    return _build(name, disturb, jax.config.jax_enable_x64)


CASES = {
    "one": {"dim": 1, "num_layers": 2},
    "one, context": {"dim": 1, "num_layers": 1, "context_dim": 3},
    "two, lu": {"dim": 2, "num_layers": 3},
    "three, permutation": {"dim": 3, "num_layers": 2, "mixing": "permutation", "tail": "none"},
    "five, mlp, context": {"dim": 5, "num_layers": 2, "conditioner": "mlp", "context_dim": 2},
}


@functools.cache
def _build(name, disturb, is_double):
    """Returns a flow, parameters away from the identity, and a context."""
    options = {"width": 16, "num_bins": 5, **CASES[name]}
    flow = neural_spline_flow(options.pop("dim"), **options)
    key, data_key, context_key, noise_key = jax.random.split(jax.random.key(0), 4)
    dim, num_context = flow.config.dim, flow.config.context_dim
    x = 2.0 + 3.0 * jax.random.t(data_key, 4.0, (400, dim))
    contexts = jax.random.normal(context_key, (400, num_context)) if num_context else None
    params = jax.jit(flow.init)(key, x, contexts)
    leaves, tree = jax.tree.flatten({k: v for k, v in params.items() if "standardiser" not in k})
    keys = jax.random.split(noise_key, len(leaves))
    moved = [
        leaf + disturb * jax.random.normal(k, leaf.shape)
        for leaf, k in zip(leaves, keys, strict=True)
    ]
    fixed = {k: v for k, v in params.items() if "standardiser" in k}
    return flow, {**jax.tree.unflatten(tree, moved), **fixed}, x, contexts


@pytest.mark.parametrize("name", CASES)
def test_directions_undo_each_other_and_log_dets_are_those_of_autodiff(name, x64):
    flow, params, x, contexts = build(name)

    def one(x, context):
        z, log_det = flow.to_noise(params, x, context)
        back, log_det_back = flow.from_noise(params, z, context)
        jacobian = jax.jacfwd(lambda x: flow.to_noise(params, x, context)[0])(x)
        jacobian_back = jax.jacfwd(lambda z: flow.from_noise(params, z, context)[0])(z)
        slopes = [jnp.linalg.slogdet(matrix)[1] for matrix in (jacobian, jacobian_back)]
        return back, jnp.stack([log_det, log_det_back]), jnp.stack(slopes)

    axis = None if contexts is None else 0
    back, log_dets, slopes = jax.jit(jax.vmap(one, (0, axis)))(x, contexts)
    # Rounding of z moves x by eps / slope: two steep layers can cost seven digits.
    np.testing.assert_allclose(back, x, rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(log_dets, slopes, rtol=1e-10, atol=1e-10)
    np.testing.assert_allclose(log_dets.sum(1), 0.0, atol=1e-10)


@pytest.mark.parametrize("tail", ["lambert_w", "none"])
def test_one_dimension_integrates_to_one(tail, x64):
    flow, params, _, _ = build("one", disturb=0.5)
    flow = flow_from_config(flow.config.replace(tail=tail))
    grid = jnp.sinh(jnp.linspace(-25.0, 25.0, 200_001))  # reaches 3e10: heavy tails count
    mass = jnp.exp(jax.vmap(lambda x: flow.log_prob(params, x[None]))(grid))
    assert jnp.trapezoid(mass, grid) == pytest.approx(1.0, abs=1e-5)


def test_two_dimensions_integrate_to_one(x64):
    flow, params, _, _ = build("two, lu")
    axis = 2.0 + jnp.sinh(jnp.linspace(-8.0, 8.0, 401))
    grid = jnp.stack(jnp.meshgrid(axis, axis, indexing="ij"), -1).reshape(-1, 2)
    mass = jnp.exp(jax.jit(jax.vmap(flow.log_prob, (None, 0)))(params, grid)).reshape(401, 401)
    total = jnp.trapezoid(jnp.trapezoid(mass, axis, axis=1), axis)
    assert total == pytest.approx(1.0, abs=2e-3)


@pytest.mark.parametrize("name", ["two, lu", "three, permutation"])
def test_a_new_flow_is_the_standardiser_and_the_tails_whatever_its_depth(name):
    flow, params, x, _ = build(name, disturb=0.0)
    deeper = flow_from_config(flow.config.replace(num_layers=2 * flow.config.num_layers))
    twice = jax.tree.map(
        lambda leaf: jnp.concatenate([leaf, leaf]), (params["layers"], params["mixing"])
    )
    other = {**params, "layers": twice[0], "mixing": twice[1]}
    expected = sorted(np.asarray(flow.to_noise(params, x[0])[0]))
    np.testing.assert_allclose(sorted(deeper.to_noise(other, x[0])[0]), expected, atol=1e-5)


def test_e335_07_two_layers_move_every_dimension():
    flow, params, x, _ = build("three, permutation")
    second = jax.vmap(jax.hessian(lambda x: flow.to_noise(params, x)[0]))(x[:20])
    own = jnp.abs(jnp.einsum("nijk->njk", jnp.abs(second)))
    assert (jnp.diagonal(own, axis1=1, axis2=2).max(0) > 1e-4).all()
    with pytest.raises(ValueError, match="num_layers is 1"):
        neural_spline_flow(3, num_layers=1)


def test_e335_08_the_log_det_holds_at_a_scale_of_2e_minus_4():
    flow = neural_spline_flow(2, num_layers=2, width=8, tail="none")
    x = 2e-4 * jax.random.normal(jax.random.key(0), (500, 2))
    params = jax.jit(flow.init)(jax.random.key(1), x)
    jacobian = jax.jacfwd(lambda x: flow.to_noise(params, x)[0])(x[0])
    assert flow.to_noise(params, x[0])[1] == pytest.approx(
        float(jnp.linalg.slogdet(jacobian)[1]), abs=1e-4
    )


def test_e335_09_scoring_changes_nothing_and_a_row_does_not_see_its_batch():
    flow, params, x, _ = build("two, lu")
    log_prob = jax.jit(jax.vmap(flow.log_prob, (None, 0)))
    np.testing.assert_array_equal(log_prob(params, x), log_prob(params, x))
    np.testing.assert_allclose(log_prob(params, x[:1]), log_prob(params, x[:256])[:1], rtol=1e-5)


def test_e335_13_a_change_of_units_shifts_the_log_density():
    flow, params, x, _ = build("two, lu")
    scaled = {
        **params,
        "standardiser": jax.tree.map(lambda leaf: 10.0 * leaf, params["standardiser"]),
    }
    np.testing.assert_allclose(
        flow.log_prob(scaled, 10.0 * x[0]),
        flow.log_prob(params, x[0]) - 2 * jnp.log(10.0),
        rtol=1e-4,
    )


def test_samples_follow_the_density_and_the_temperature_scales_the_base():
    flow, params, _, _ = build("one")
    keys = jax.random.split(jax.random.key(3), 4000)
    draws = jax.jit(jax.vmap(lambda k: flow.sample(k, params)))(keys)
    z = jax.vmap(lambda x: flow.to_noise(params, x)[0])(draws)
    # Kolmogorov's statistic: 1.95 / sqrt(n) is passed by chance once in a thousand.
    u = jnp.sort(norm.cdf(z[:, 0]))
    assert jnp.abs(u - (jnp.arange(4000) + 0.5) / 4000).max() < 1.95 / 4000**0.5
    cold = jax.vmap(lambda k: flow.sample(k, params, temperature=0.5))(keys)
    z_cold = jax.vmap(lambda x: flow.to_noise(params, x)[0])(cold)
    assert z_cold.std() == pytest.approx(0.5, abs=5 * 0.5 / (2 * 4000) ** 0.5)


def test_frozen_statistics_get_no_gradient_and_all_else_does():
    flow, params, x, contexts = build("five, mlp, context")
    grads = jax.grad(lambda p: flow.log_prob(p, x[0], contexts[0]))(params)
    for name, sub in grads.items():
        norms = [float(jnp.abs(leaf).max()) for leaf in jax.tree.leaves(sub)]
        assert (max(norms) == 0.0) == ("standardiser" in name), name


@pytest.mark.parametrize("value", [1e30, -1e30, 5e3])
def test_far_points_have_finite_values_and_gradients_and_nan_stays_in_its_row(value):
    flow, params, x, _ = build("two, lu")
    far = jnp.array([value, 0.0])
    assert jnp.isfinite(flow.log_prob(params, x[0]))
    value_and_grad = jax.jit(jax.vmap(jax.value_and_grad(flow.log_prob), (None, 0)))
    values, grads = value_and_grad(params, jnp.stack([x[0], far, jnp.array([jnp.nan, 0.0])]))
    assert np.isnan(values[2])
    assert np.isfinite(values[0])
    moderate = jnp.stack([x[0], jnp.clip(far, -5e3, 5e3)])
    _, grads = value_and_grad(params, jnp.concatenate([moderate, moderate[:1]]))
    assert all(bool(jnp.isfinite(leaf).all()) for leaf in jax.tree.leaves(grads))


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
    with pytest.raises(ValueError, match="context is missing"):
        flow_from_config(config).init(jax.random.key(0), jnp.zeros((9, 4)))
