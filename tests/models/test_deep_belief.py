"""Deep belief networks: exact densities by enumeration, the bound, samples, greedy training."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import special, stats

from densityjax import models, training
from densityjax.models.boltzmann_losses import negative_log_likelihood_fn
from densityjax.models.boltzmann_partition import all_states

ROWS = jnp.asarray(np.random.default_rng(0).standard_normal((64, 2)) * [2.0, 0.5], jnp.float32)
NETWORK = models.deep_belief_network(2, num_hidden=(4, 3, 2))


def stirred(network, x, amount=1.0):
    """Parameters away from the start, where every layer is nearly independent of the next."""
    params = network.init(jax.random.key(0), x)
    free = [{k: v for k, v in each.items() if k != "standardiser"} for each in params]
    leaves, tree = jax.tree.flatten(free)
    keys = jax.random.split(jax.random.key(1), len(leaves))
    moved = [amount * jax.random.normal(k, v.shape) for k, v in zip(keys, leaves, strict=True)]
    free = jax.tree.unflatten(tree, moved)
    return tuple(old | new for old, new in zip(params, free, strict=True))


PARAMS = stirred(NETWORK, ROWS)


def by_hand(params, x):
    """Log density of rows by sums over all three hidden layers, in float64."""
    first, second, third = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), params)
    h1, h2, h3 = (np.asarray(all_states(n), np.float64) for n in (4, 3, 2))
    joint = h2 @ third["kernel"] @ h3.T + (h2 @ third["visible_bias"])[:, None]
    joint += h3 @ third["hidden_bias"]
    log_p2 = special.logsumexp(joint, axis=1) - special.logsumexp(joint)
    logits = second["visible_bias"] + h2 @ second["kernel"].T
    log_given = stats.bernoulli.logpmf(h1[:, None], special.expit(logits)).sum(-1)
    log_p1 = special.logsumexp(log_given + log_p2, axis=1)
    scale = first["standardiser"]["scale"]
    means = first["standardiser"]["location"] + scale * (
        first["visible_bias"] + h1 @ first["kernel"].T
    )
    sd = scale * np.exp(0.5 * first["log_variance"])
    normal = stats.norm.logpdf(np.asarray(x)[:, None], means, sd).sum(-1)
    return special.logsumexp(log_p1 + normal, axis=1)


def test_the_density_is_the_sum_over_all_hidden_layers():
    found = jax.jit(jax.vmap(NETWORK.log_prob, in_axes=(None, 0)))(PARAMS, ROWS)
    np.testing.assert_allclose(found, by_hand(PARAMS, ROWS), atol=2e-4)
    prior = NETWORK.prior_table(PARAMS)
    assert float(jax.nn.logsumexp(prior)) == pytest.approx(0.0, abs=1e-5)


def test_the_density_of_one_column_integrates_to_one():
    network = models.deep_belief_network(1, num_hidden=(3, 2))
    params = stirred(network, ROWS[:, :1])
    nodes = jnp.linspace(-60.0, 60.0, 6001)
    density = jnp.exp(jax.vmap(network.log_prob, in_axes=(None, 0))(params, nodes[:, None]))
    assert float(density.sum() * 0.02) == pytest.approx(1.0, abs=1e-4)


def test_the_bound_is_below_the_density_and_tight_for_one_machine_on_an_empty_one():
    @jax.jit
    def bounds(params, x):
        keys = jax.random.split(jax.random.key(2), 2000)
        return jax.vmap(NETWORK.elbo, in_axes=(0, None, None))(keys, params, x)

    for x in ROWS[:4]:
        draws, exact = np.asarray(bounds(PARAMS, x)), by_hand(PARAMS, x[None])[0]
        error = draws.std() / len(draws) ** 0.5
        assert draws.mean() + 4 * error < exact
        # exp of the bound is an unbiased estimate of p(x) where q covers p: the bound is not loose
        # by more than its own spread allows.
        assert special.logsumexp(draws) - np.log(len(draws)) == pytest.approx(exact, abs=0.5)
    without = tuple(each | {"kernel": 0.0 * each["kernel"]} for each in PARAMS)
    params = tuple(
        each | ({"visible_bias": below["hidden_bias"]} if index else {})
        for index, (each, below) in enumerate(zip(without, (None, *without), strict=False))
    )
    draws = np.asarray(bounds(params, ROWS[0]))
    np.testing.assert_allclose(draws, by_hand(params, ROWS[:1])[0], atol=1e-4)


def test_samples_follow_the_density():
    keys = jax.random.split(jax.random.key(3), 4000)
    draws = jax.jit(jax.vmap(lambda key: NETWORK.sample(key, PARAMS, num_steps=40)))(keys)
    h1 = np.asarray(all_states(4), np.float64)
    prior = np.exp(np.asarray(NETWORK.prior_table(PARAMS), np.float64))
    first = PARAMS[0]
    means = np.asarray(first["visible_bias"] + h1 @ first["kernel"].T)
    y = (np.asarray(draws) - np.asarray(first["standardiser"]["location"])) / np.asarray(
        first["standardiser"]["scale"]
    )
    sd = np.exp(0.5 * np.asarray(first["log_variance"]))
    for column in range(2):
        cdf = stats.norm.cdf(y[:, column, None], means[:, column], sd[column]) @ prior
        assert stats.kstest(cdf, "uniform").pvalue > 1e-3


def fitted(loss, params, rows, num_epochs):
    """Parameters after the last epoch: what a greedy fit has, whatever their density."""
    optimizer = training.adamw(num_steps=num_epochs * 8, learning_rate=0.05)
    result = training.fit(
        jax.random.key(5),
        loss,
        params,
        rows,
        optimizer=optimizer,
        num_epochs=num_epochs,
        batch_size=128,
        patience=num_epochs,
    )
    return result.state.params


def test_ebm_12_a_second_layer_raises_density_and_bound():
    # Four modes on a square of unequal weights: one machine with four units is not enough.
    rng = np.random.default_rng(7)
    modes = rng.choice(4, size=1536, p=[0.45, 0.05, 0.05, 0.45])
    centres = 2.0 * np.array([[-1, -1], [-1, 1], [1, -1], [1, 1]])[modes]
    rows = jnp.asarray(centres + 0.4 * rng.standard_normal((1536, 2)), jnp.float32)
    train, held_out = rows[:1024], rows[1024:]
    network = models.deep_belief_network(2, num_hidden=(4, 8))
    params = network.init(jax.random.key(0), train)
    first, second = network.layers
    start = params[0] | {"kernel": 0.5 * jax.random.normal(jax.random.key(4), (2, 4))}
    # Short chains leave the machine's own law of the code away from that of the data's codes,
    # which is what the second layer mends; exact likelihood would leave it nothing.
    below = fitted(models.contrastive_divergence_loss(first).loss_fn, start, train, 20)
    codes = jax.vmap(lambda key, x: network.hidden_rows(key, (below,), x, level=1))(
        jax.random.split(jax.random.key(6), 1024), train
    )
    above = fitted(negative_log_likelihood_fn(second), params[1], codes, 40)
    stack = (below, above)
    single = float(jax.vmap(first.log_prob, in_axes=(None, 0))(below, held_out).mean())
    exact = jax.jit(jax.vmap(network.log_prob, in_axes=(None, 0)))(stack, held_out)
    keys = jax.random.split(jax.random.key(8), 512)

    @jax.jit
    def bound(params):
        return jax.vmap(network.elbo, in_axes=(0, None, 0))(keys, params, held_out).mean()

    before, after = float(bound((below, params[1]))), float(bound(stack))
    assert after > before + 0.1
    assert float(exact.mean()) > single + 0.05
    assert after < float(exact.mean())


def test_wrong_stacks_are_named():
    with pytest.raises(ValueError, match=r"num_hidden is \(4,\): accepted are at least two"):
        models.deep_belief_network(2, num_hidden=[4])
    wide = models.deep_belief_network(2, num_hidden=(15, 2))
    with pytest.raises(ValueError, match="num_hidden holds 15: accepted are layers of at most 14"):
        wide.log_prob(wide.init(jax.random.key(0), ROWS), ROWS[0])
    assert models.deep_belief_network(2, num_hidden=[4, 3, 2]) is NETWORK
