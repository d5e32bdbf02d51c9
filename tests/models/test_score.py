"""Score models: closed forms at the start, units, denoising, refusals; fits have their own file."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from densityjax import models, targets
from densityjax.evaluation import score_accuracy as accuracy

SCALE, SHIFT = np.array([100.0, 0.01]), np.array([-300.0, 0.5])
STANDARD = np.random.default_rng(0).standard_normal((512, 2)).astype(np.float32)
ROWS = jnp.asarray(SHIFT + SCALE * STANDARD, jnp.float32)
KEY = jax.random.key(0)
FORMS = ("edm", "amplitude", "conservative", "raw")


def stirred(params, amount=0.3):
    """Moves the network away from its start, where its last layer is zero."""
    leaves, tree = jax.tree.flatten(params["network"])
    keys = jax.random.split(jax.random.key(7), len(leaves))
    moved = [
        leaf + amount * jax.random.normal(key, leaf.shape)
        for leaf, key in zip(leaves, keys, strict=True)
    ]
    return params | {"network": jax.tree.unflatten(tree, moved)}


@functools.lru_cache
def started(form="edm", **options):
    model = models.score_model(2, parametrisation=form, width=16, **options)
    return model, model.init(KEY, ROWS)


def test_equal_arguments_give_the_same_object():
    assert models.score_model(3, width=8) is models.score_model(3, width=8)


@pytest.mark.parametrize("form", ["edm", "conservative"])
def test_e337_08_a_new_model_is_the_score_of_normal_data_at_every_level(form):
    model, params = started(form)
    location, scale = (params["standardiser"][name] for name in ("location", "scale"))
    score = jax.jit(model.score)
    for sigma in (0.02, 1.0, 20.0):
        found = score(params, ROWS[3], sigma)
        expected = -(ROWS[3] - location) / (scale**2 * (1 + sigma**2))
        np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_the_standardiser_is_mean_and_standard_deviation_of_rows_that_count():
    weights = jnp.asarray(np.r_[np.ones(256), np.zeros(256)], jnp.float32)
    broken = ROWS.at[300:].set(jnp.nan)
    params = started()[0].init(KEY, broken, None, weights)["standardiser"]
    half = np.asarray(ROWS, np.float64)[:256]
    np.testing.assert_allclose(params["location"], half.mean(0), rtol=1e-5)
    np.testing.assert_allclose(params["scale"], half.std(0), rtol=1e-4)


@pytest.mark.parametrize("form", FORMS)
def test_units_of_the_data_divide_the_score_and_leave_the_standard_one(form):
    model, params = started(form)
    params, sigma = stirred(params), 0.3
    score, standard = jax.jit(model.score), jax.jit(model.standard_score)
    location, scale = (params["standardiser"][name] for name in ("location", "scale"))
    y = (ROWS[5] - location) / scale
    expected = standard(params, y, sigma) / scale
    np.testing.assert_allclose(score(params, ROWS[5], sigma), expected, rtol=1e-4)
    assert jnp.abs(score(params, ROWS[5], sigma) - score(params, ROWS[5], 0.6)).max() > 0


def test_e337_12_denoising_is_one_step_to_the_mean_of_the_clean_example():
    model, params = started()
    location, sigma = params["standardiser"]["location"], 0.7
    found = jax.jit(model.denoise)(params, ROWS[5], sigma)
    np.testing.assert_allclose(found, location + (ROWS[5] - location) / (1 + sigma**2), rtol=1e-5)


def test_sco_05_the_score_of_an_energy_is_its_gradient_and_has_a_symmetric_jacobian():
    model, params = started("conservative")
    params = stirred(params)

    free, free_params = started("edm")
    free_params = stirred(free_params)

    @jax.jit
    def compare(y):
        scores = (
            functools.partial(model.standard_score, params, sigma=0.5),
            functools.partial(free.standard_score, free_params, sigma=0.5),
        )
        gradient = jax.grad(model.energy, argnums=1)(params, ROWS[5], 0.5)
        asymmetries = [accuracy.jacobian_asymmetry(score, y) for score in scores]
        return asymmetries, -gradient, model.score(params, ROWS[5], 0.5)

    (conservative, other), gradient, score = compare(jnp.array([0.4, -0.8]))
    assert float(conservative) < 1e-5
    assert float(other) > 1e-3
    np.testing.assert_allclose(gradient, score, rtol=1e-4)
    with pytest.raises(ValueError, match="parametrisation is 'edm': accepted is 'conservative'"):
        free.energy(free_params, ROWS[5], 0.5)


@pytest.mark.parametrize("network", ["mlp", "multi_scale", "multi_scale_fourier", "single_scale"])
def test_e337_09_scores_grow_with_the_distance_whatever_the_network(network):
    model, params = started("edm", network=network)
    score = jax.jit(lambda y: model.standard_score(params, y, 0.3))
    far = [float(jnp.linalg.norm(score(radius * jnp.ones(2)))) for radius in (1e2, 1e3)]
    assert far[1] / far[0] == pytest.approx(10.0, rel=0.1)


def test_a_context_is_standardised_and_moves_the_score():
    model = models.score_model(2, context_dim=1, width=16)
    context = jnp.linspace(50.0, 150.0, 512)[:, None]
    params = stirred(model.init(KEY, ROWS, context))
    np.testing.assert_allclose(params["context_standardiser"]["location"], [100.0], rtol=1e-5)
    score = jax.jit(model.score)
    near, far = (score(params, ROWS[0], 0.5, jnp.array([c])) for c in (80.0, 120.0))
    assert jnp.abs(near - far).max() > 0
    with pytest.raises(ValueError, match="context is missing"):
        model.score(params, ROWS[0], 0.5)
    with pytest.raises(ValueError, match="context is of shape"):
        started()[0].score(started()[1], ROWS[0], 0.5, jnp.zeros(1))
    with pytest.raises(ValueError, match="context column 0 is constant"):
        model.init(KEY, ROWS, jnp.ones((512, 1)))


@pytest.mark.parametrize(
    ("rows", "match"),
    [
        (ROWS.at[7, 1].set(jnp.nan), "x column 1 has values that are not finite"),
        (ROWS.at[7, 0].set(jnp.inf), "x column 0 has values that are not finite"),
        (ROWS.at[:, 1].set(0.1), "x column 1 is constant"),
        (ROWS[:1], "x column 0 is constant"),
    ],
)
def test_rows_that_cannot_be_standardised_are_refused(rows, match):
    with pytest.raises(ValueError, match=match):
        started()[0].init(KEY, rows)


def test_rows_under_jit_cannot_raise_and_make_the_parameters_nan():
    params = jax.jit(started()[0].init)(KEY, ROWS.at[7, 1].set(jnp.nan))
    assert jnp.isnan(params["standardiser"]["scale"][1])


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"dim": 0}, "dim is 0"),
        ({"sigma_min": 1.0, "sigma_max": 1.0}, r"sigma_min is 1\.0 and sigma_max 1\.0"),
        ({"parametrisation": "vp"}, "parametrisation is 'vp'"),
        ({"parametrisation": "dual"}, "see `dual_score_model`"),
        ({"network": "cnn"}, "network is 'cnn'"),
        ({"dropout": 1.0}, r"dropout is 1\.0"),
        ({"parametrisation": "conservative", "activation": "relu"}, "activation is 'relu'"),
        ({"parametrisation": "conservative", "network": "single_scale"}, "network is 'single_sc"),
    ],
)
def test_a_wrong_option_is_named(options, match):
    with pytest.raises(ValueError, match=match):
        models.score_model(**{"dim": 2, **options})


def test_a_config_survives_json_and_refuses_unknown_fields():
    config = models.ScoreConfig(dim=3, parametrisation="conservative", sigma_max=9.0)
    assert models.ScoreConfig.from_json(config.to_json()) == config
    with pytest.raises(ValueError, match="height"):
        models.ScoreConfig.from_json('{"height": 3}')


@pytest.mark.parametrize("dim", [1, 64])
def test_one_and_many_dimensions_have_scores_and_densities(dim):
    rows = jax.random.normal(KEY, (512, dim))
    model = models.score_model(dim, width=8)
    params = model.init(KEY, rows)
    probes = {"trace": "hutchinson", "key": KEY, "num_probes": 2}
    one = functools.partial(models.flow_log_prob, model, params, **(probes if dim > 1 else {}))
    # A new model is the normal law with independent columns, whose trace signs give exactly.
    standardiser = params["standardiser"]
    spread = np.asarray(standardiser["scale"]) ** 2 * (1 + 0.02**2)
    law = targets.gaussian(np.asarray(standardiser["location"]), np.diag(spread))
    found = float(jax.jit(one)(rows[0]))
    assert found == pytest.approx(float(law.log_prob(rows[0])), abs=1e-3 * dim)
