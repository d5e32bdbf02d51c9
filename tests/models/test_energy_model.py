"""Energy models: a law with tails of its own, not a bounded function; closed forms at f = 0."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from densityjax import models
from densityjax.densities.partition_function import quadrature
from densityjax.models.energy import with_flow
from densityjax.networks.energy import spectral_norm_bound

ROWS = jax.random.normal(jax.random.key(1), (500, 2)) * jnp.array([1.0, 10.0]) + 3.0
NETWORK = {"widths": (16, 8), "zero_output": False}
FLOW = models.neural_spline_flow(2, num_layers=2, width=8, tail="none")
BASES = {
    "normal": {},
    "normal_with_norms": {"norm": "layer"},
    "student_t": {"base": "student_t"},
    "flow": {"base": FLOW},
}


@functools.cache
def built(name, **options):
    model = models.energy_model(2, **{**NETWORK, **BASES[name], **options})
    return model, model.init(jax.random.key(0), ROWS)


@pytest.mark.parametrize("name", sorted(BASES))
def test_e338_01_energies_rise_along_every_ray(name):
    model, params = built(name)
    ray = jax.random.normal(jax.random.key(2), (100, 2))
    ray /= jnp.linalg.norm(ray, axis=1, keepdims=True)
    radius = jnp.array([10.0, 100.0, 1e3, 1e4])
    scale = params["standardiser"]["scale"]
    points = params["standardiser"]["location"] + radius[:, None, None] * ray * scale
    energy = jax.jit(jax.vmap(jax.vmap(model.energy, (None, 0)), (None, 0)))(params, points)
    assert (np.diff(energy, axis=0) > 0.5).all()
    inner = model.energy(params, params["standardiser"]["location"])
    assert (energy > inner).all()


@pytest.mark.parametrize("name", ["normal", "student_t"])
def test_e338_01_the_integral_is_finite_and_does_not_grow_with_its_box(name):
    model, params = built(name)
    location, scale = (np.asarray(params["standardiser"][k]) for k in ("location", "scale"))
    found = [
        float(
            quadrature(
                lambda x: -model.energy(params, x),
                location - reach * scale,
                location + reach * scale,
                num_nodes=160,
                num_panels=8,
            )
        )
        for reach in (25.0, 50.0)
    ]
    assert found[1] - found[0] == pytest.approx(0.0, abs=0.02)
    assert abs(found[1]) > 1e-3  # the network is not zero here


def test_a_new_model_is_its_base_normalised_in_units_of_x():
    model = models.energy_model(2, widths=(8,))
    params = model.init(jax.random.key(0), ROWS)
    location, scale = (np.asarray(params["standardiser"][k]) for k in ("location", "scale"))
    expected = stats.norm(location, 2.5 * scale).logpdf(ROWS[:50]).sum(axis=1)
    found = jax.vmap(model.log_prob, (None, 0))(params, ROWS[:50])
    np.testing.assert_allclose(found, expected, rtol=1e-4)
    shifted = jax.vmap(lambda x: model.log_prob(params, x, log_z=1.5))(ROWS[:50])
    np.testing.assert_allclose(shifted, expected - 1.5, rtol=1e-4)
    np.testing.assert_allclose(params["standardiser"]["scale"], ROWS.std(axis=0), rtol=1e-4)


def test_rows_of_weight_zero_do_not_count():
    model = models.energy_model(2, widths=(8,))
    weights = jnp.arange(500) < 400
    far = jnp.where(weights[:, None], ROWS, 1e6)
    params = model.init(jax.random.key(0), far, None, weights.astype(float))
    expected = model.init(jax.random.key(0), ROWS[:400])
    for name, leaf in params["standardiser"].items():
        np.testing.assert_allclose(leaf, expected["standardiser"][name], rtol=1e-5)


def test_scores_are_minus_gradients_and_temperatures_divide_energies(variant):
    model, params = built("normal")
    x = ROWS[0]
    score = variant(model.score)(params, x)
    step = jnp.array([1e-2, 1e-1])  # of the units of each column
    for column in range(2):
        ends = [x.at[column].add(sign * step[column]) for sign in (1.0, -1.0)]
        rise = model.energy(params, ends[0]) - model.energy(params, ends[1])
        assert score[column] == pytest.approx(float(-rise / (2 * step[column])), rel=0.02, abs=1e-3)
    assert model.energy(params, x, temperature=4.0) == pytest.approx(
        float(model.energy(params, x)) / 4.0
    )
    np.testing.assert_allclose(model.score(params, x, temperature=0.5), 2.0 * score, rtol=1e-5)


def test_standard_energies_differ_by_the_logs_of_the_units():
    model, params = built("normal")
    location, scale = params["standardiser"]["location"], params["standardiser"]["scale"]
    y = jnp.array([0.3, -1.2])
    inside = model.energy(params, location + scale * y)
    assert model.standard_energy(params, y) == pytest.approx(
        float(inside - jnp.sum(jnp.log(scale))), rel=1e-5
    )


def test_a_floor_holds_the_correction_up_and_leaves_small_ones_alone():
    model, params = built("student_t")
    assert model.config.floor == 10.0
    loud = {**params, "network": jax.tree.map(lambda leaf: 30.0 * leaf, params["network"])}
    y = 5.0 * jax.random.normal(jax.random.key(3), (200, 2))
    found = jax.vmap(model.correction, (None, 0))(loud, y)
    assert (found >= -10.0).all()
    assert found.max() > 20.0
    bare, _ = built("normal")
    quiet = jax.vmap(bare.correction, (None, 0))(params, y)
    near = np.abs(quiet) < 3.0
    held = jax.vmap(model.correction, (None, 0))(params, y)
    np.testing.assert_allclose(held[near], quiet[near], atol=2e-3)  # e^-7 at 3 below zero


@pytest.mark.parametrize("name", ["normal", "student_t"])
def test_e338_10_tails_are_those_of_the_base(name):
    """Hill's index of base draws: about 5 for the t of 5 degrees, far larger for the normal."""
    model, params = built(name)
    keys = jax.random.split(jax.random.key(4), 20_000)
    draws = jax.jit(jax.vmap(model.sample_base, (0, None)))(keys, params)
    size = np.sort(np.abs((np.asarray(draws) - 3.0)[:, 0]))
    index = 1.0 / np.mean(np.log(size[-200:] / size[-201]))
    assert (index < 8.0) == (name == "student_t")
    log_prob = jax.vmap(model.base_log_prob, (None, 0))(params, draws[:200])
    location, scale = (np.asarray(params["standardiser"][k]) for k in ("location", "scale"))
    law = (
        stats.multivariate_normal(location, np.diag((2.5 * scale) ** 2))
        if name == "normal"
        else stats.multivariate_t(location, np.diag((2.5 * scale) ** 2), df=5)
    )
    np.testing.assert_allclose(log_prob, law.logpdf(np.asarray(draws[:200])), rtol=1e-3)


def test_a_flow_as_the_base_is_the_law_where_the_network_is_zero_and_takes_no_gradient():
    model = models.energy_model(2, base=FLOW, widths=(8,))
    start = model.init(jax.random.key(0), ROWS)
    flow_params = FLOW.init(jax.random.key(9), ROWS[:100])
    params = with_flow(start, flow_params)
    expected = FLOW.log_prob(flow_params, ROWS[0])
    assert model.log_prob(params, ROWS[0]) == pytest.approx(float(expected), rel=1e-5)
    gradient = jax.grad(model.energy)(params, ROWS[0])
    assert not any(np.any(leaf) for leaf in jax.tree.leaves(gradient["frozen"]))
    assert any(np.any(leaf) for leaf in jax.tree.leaves(gradient["network"]))


def test_no_layer_stretches_more_than_the_largest_gain():
    kernel = jax.random.normal(jax.random.key(5), (40, 24))
    exact = np.linalg.svd(kernel, compute_uv=False).max()
    for matrix in (kernel, kernel.T, 1e-6 * kernel, 1e6 * kernel):
        ratio = spectral_norm_bound(matrix) / np.linalg.svd(matrix, compute_uv=False).max()
        assert 0.9999 < ratio < 24 ** (1 / 32) + 1e-3
    assert np.isfinite(spectral_norm_bound(jnp.zeros((3, 3))))
    assert exact > 5.0
    model, params = built("normal", max_gain=0.5)
    loud = {**params, "network": jax.tree.map(lambda leaf: 100.0 * leaf, params["network"])}
    slope = jax.vmap(jax.grad(model.correction, argnums=1), (None, 0))(loud, ROWS[:50] / 10.0)
    assert np.linalg.norm(slope, axis=1).max() < 1.13**2 * 0.5**3


def test_the_small_model_has_the_chapters_sizes_and_a_context_is_read():
    small = models.small_energy_model(3)
    assert small.config.widths == (64, 32, 16)
    params = small.init(jax.random.key(0), jax.random.normal(jax.random.key(1), (64, 3)))
    kernel = np.asarray(params["network"]["hidden_0"]["kernel"])
    assert kernel.shape == (3, 64)
    assert kernel.std() == pytest.approx((2 / 3) ** 0.5, rel=0.25)
    model = models.energy_model(2, context_dim=1, **NETWORK)
    context = ROWS[:, :1] ** 2
    params = model.init(jax.random.key(0), ROWS, context)
    energies = [float(model.energy(params, ROWS[0], context[i])) for i in (0, 1)]
    assert energies[0] != energies[1]
    with pytest.raises(ValueError, match="context is missing"):
        model.energy(params, ROWS[0])


def test_configs_survive_json_and_equal_ones_share_a_model():
    config = models.energy_model(2, base=FLOW, widths=(8, 4)).config
    assert models.EnergyConfig.from_json(config.to_json()) == config
    assert models.energy_from_config(config) is models.energy_model(2, base=FLOW, widths=[8, 4])
    assert config.replace(widths=(3,)).widths == (3,)
    with pytest.raises(ValueError, match="are not of an EnergyConfig"):
        models.EnergyConfig.from_json('{"sharpness": 1}')


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"activation": "relu"}, "activation is 'relu'"),
        ({"norm": "batch"}, "norm is 'batch'"),
        ({"kernel_init": "ones"}, "kernel_init is 'ones'"),
        ({"base": "cauchy"}, "base is 'cauchy'"),
        ({"base": "flow"}, "flow is None and base 'flow'"),
        ({"base": models.neural_spline_flow(3)}, "flow has dim 3"),
        ({"base_scale": 0.0}, r"base_scale is 0\.0"),
        ({"floor": -1.0}, r"floor is -1\.0"),
        ({"max_gain": 0.0}, r"max_gain is 0\.0"),
        ({"widths": ()}, r"widths is \(\)"),
        ({"widths": (0,)}, "widths is 0"),
        ({"dropout": 1.0}, r"dropout is 1\.0"),
    ],
)
def test_wrong_options_are_named(options, match):
    with pytest.raises(ValueError, match=match):
        models.energy_model(2, **options)
