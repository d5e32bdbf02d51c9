"""Joint energy models: what cross-entropy leaves open, what the second loss fixes, and units."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from densityjax import losses, models

ROWS = jnp.asarray(np.random.default_rng(0).standard_normal((64, 2)) * [3.0, 0.2], jnp.float32)
MODEL = models.joint_energy_model(2, num_classes=3, widths=(16, 8), tau=2.0)
START = MODEL.init(jax.random.key(0), ROWS)
X = jnp.array([0.4, -0.7])
NOISE = jnp.array([0.3, 1.1])


def stirred(params):
    leaves, tree = jax.tree.flatten(params["network"])
    keys = jax.random.split(jax.random.key(1), len(leaves))
    moved = [v + 0.5 * jax.random.normal(k, v.shape) for k, v in zip(keys, leaves, strict=True)]
    return params | {"network": jax.tree.unflatten(tree, moved)}


PARAMS = stirred(START)


def logits(x):
    return jnp.stack([x[0] - x[1], jnp.sin(x[0]), 0.5 * x[1] ** 2])


def shifted(x):
    return logits(x) + 3.0 * jnp.cos(2.0 * x[0]) + x[1]


def test_e338_14_a_shift_of_all_logits_leaves_the_cross_entropy_and_moves_the_density():
    def terms(fn, **options):
        return losses.joint_energy_terms(fn, X, 1, tau=2.0, **options)

    for options in ({}, {"noise": NOISE}, {"negative": jnp.array([1.0, 2.0])}):
        first, second = terms(logits, **options), terms(shifted, **options)
        assert float(first.cross_entropy) == pytest.approx(float(second.cross_entropy), abs=1e-6)
        if options:
            assert abs(float(first.density - second.density)) > 0.1
        else:
            assert float(first.density) == float(second.density) == 0.0
    energies = [float(losses.marginal_energy(fn(X), X, 2.0)) for fn in (logits, shifted)]
    assert abs(energies[0] - energies[1]) > 0.1


def test_e338_14_energy_of_three_zero_logits_is_minus_log_three():
    zero = losses.marginal_energy(jnp.zeros(3), jnp.zeros(2), 2.0)
    assert float(zero) == pytest.approx(-1.098612, abs=1e-6)
    location = START["standardiser"]["location"]  # a new model's logits are zero
    assert float(MODEL.energy(START, location)) == pytest.approx(-1.098612, abs=1e-5)


def test_the_density_term_is_denoising_score_matching_or_a_difference_of_energies():
    energy = lambda x: losses.marginal_energy(logits(x), x, 2.0)  # noqa: E731
    sigma = 0.3
    score = -jax.grad(energy)(X + sigma * NOISE)
    expected = jnp.sum((score + NOISE / sigma) ** 2) - jnp.sum((NOISE / sigma) ** 2)
    found = losses.joint_energy_terms(logits, X, 0, tau=2.0, noise=NOISE, sigma=sigma)
    assert float(found.density) == pytest.approx(float(expected), abs=1e-4)
    negative = jnp.array([1.0, 2.0])
    other = losses.joint_energy_terms(logits, X, 0, tau=2.0, negative=negative)
    assert float(other.density) == pytest.approx(float(energy(X) - energy(negative)), abs=1e-6)
    # No gradient goes through the negative.
    through = jax.grad(lambda v: losses.joint_energy_loss(logits, X, 0, tau=2.0, negative=v))(
        negative
    )
    assert not np.any(through)
    total = losses.joint_energy_loss(
        logits, X, 0, tau=2.0, density_weight=0.5, noise=NOISE, sigma=sigma
    )
    assert float(total) == pytest.approx(float(found.cross_entropy + 0.5 * found.density), abs=1e-5)
    hand = -jax.nn.log_softmax(logits(X))[0]
    assert float(found.cross_entropy) == pytest.approx(float(hand), abs=1e-6)


def test_a_loss_that_is_not_finite_is_flagged_and_not_replaced():
    broken = losses.joint_energy_terms(lambda x: logits(x) * jnp.nan, X, 0, tau=2.0, noise=NOISE)
    assert not broken.is_finite
    assert np.isnan(broken.cross_entropy)
    assert losses.joint_energy_terms(logits, X, 0, tau=2.0, noise=NOISE).is_finite
    with pytest.raises(ValueError, match="noise and negative are given"):
        losses.joint_energy_terms(logits, X, 0, tau=2.0, noise=NOISE, negative=X)


def test_jem_02_probabilities_energies_and_scores_belong_together():
    log_p = MODEL.log_prob_class(PARAMS, ROWS[3])
    assert float(jnp.exp(log_p).sum()) == pytest.approx(1.0, abs=1e-6)
    # E(x) = -log sum_k exp(-E(x, k)), and p(k | x) = exp(E(x) - E(x, k)).
    joint = jnp.stack([MODEL.joint_energy(PARAMS, ROWS[3], k) for k in range(3)])
    energy = MODEL.energy(PARAMS, ROWS[3])
    assert float(-jax.nn.logsumexp(-joint)) == pytest.approx(float(energy), abs=1e-5)
    np.testing.assert_allclose(energy - joint, log_p, atol=1e-5)
    # By differences, in units of x: of the two columns one is fifteen times as wide.
    steps = jnp.array([3e-2, 2e-3])
    ends = [
        (MODEL.energy(PARAMS, ROWS[3] - step) - MODEL.energy(PARAMS, ROWS[3] + step)) / (2 * size)
        for step, size in zip(jnp.diag(steps), steps, strict=True)
    ]
    np.testing.assert_allclose(MODEL.score(PARAMS, ROWS[3]), ends, rtol=0.02, atol=0.02)
    found = float(MODEL.log_prob(PARAMS, ROWS[3], log_z=1.5))
    assert found == pytest.approx(-float(energy) - 1.5, abs=1e-5)


def test_the_base_law_decides_far_out_whatever_the_network():
    for direction in np.random.default_rng(2).standard_normal((6, 2)):
        radii = np.array([10.0, 100.0, 1000.0, 10_000.0])
        y = jnp.asarray(radii[:, None] * direction / np.linalg.norm(direction), jnp.float32)
        scale, location = (START["standardiser"][name] for name in ("scale", "location"))
        energies = [float(MODEL.energy(PARAMS, location + scale * each)) for each in y]
        assert np.diff(energies).min() > 0
        assert energies[-1] == pytest.approx(0.5 * (radii[-1] / 2.0) ** 2, rel=0.02)


def test_losses_of_a_fit_are_means_over_rows_that_judge_alike_each_time():
    pair = models.joint_energy_fit_loss(MODEL, density_weight=0.2, sigma=0.3)
    batch = (ROWS[:16], jnp.asarray(np.arange(16) % 3, jnp.float32))
    first, second = (
        pair.validation_loss_fn(PARAMS, jax.random.key(seed), batch, ())[0] for seed in (0, 1)
    )
    np.testing.assert_array_equal(first, second)
    trains = [pair.loss_fn(PARAMS, jax.random.key(seed), batch, ())[0] for seed in (0, 1)]
    assert (np.asarray(trains[0]) != np.asarray(trains[1])).all()
    plain = models.joint_energy_fit_loss(MODEL, density_weight=0.0)
    found = plain.loss_fn(PARAMS, jax.random.key(0), batch, ())[0]
    log_p = jax.vmap(MODEL.log_prob_class, in_axes=(None, 0))(PARAMS, ROWS[:16])
    expected = -np.asarray(log_p)[np.arange(16), np.arange(16) % 3]
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_wrong_options_are_named():
    for options, match in (
        ({"num_classes": 1}, "num_classes is 1"),
        ({"num_classes": 2, "widths": ()}, r"widths is \(\)"),
        ({"num_classes": 2, "tau": 0.0}, r"tau is 0\.0"),
        ({"num_classes": 2, "activation": "relu"}, "activation is 'relu'"),
    ):
        with pytest.raises(ValueError, match=match):
            models.joint_energy_model(2, **options)
    for options in ({"density_weight": -1.0}, {"sigma": 0.0}, {"num_validation_draws": 0}):
        with pytest.raises(ValueError, match="accepted are >= 0, > 0 and >= 1"):
            models.joint_energy_fit_loss(MODEL, **options)
    config = MODEL.config
    assert models.JointEnergyConfig.from_json(config.to_json()) == config
    assert models.joint_energy_model(2, num_classes=3, widths=[16, 8], tau=2.0) is MODEL
