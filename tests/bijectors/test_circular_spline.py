"""The spline on the circle: onto itself, invertible, smooth across the seam."""

import math

import jax
import jax.numpy as jnp
import numpy as np

from densityjax.bijectors import circular_spline

forward = jax.jit(jax.vmap(circular_spline.forward, (None, 0)))
inverse = jax.jit(jax.vmap(circular_spline.inverse, (None, 0)))


def random_map(seed=0, scale=1.0, num_bins=6):
    logits = scale * np.random.default_rng(seed).standard_normal(
        circular_spline.num_logits(num_bins)
    )
    return circular_spline.from_logits(jnp.asarray(logits))


def test_both_directions_stay_on_the_circle_undo_each_other_and_have_autodiff_slopes(x64):
    circular = random_map(scale=2.0)
    x = jnp.linspace(-math.pi, math.pi, 301)[:-1] + 1e-3
    y, log_slope = forward(circular, x)
    back, back_log_slope = inverse(circular, y)
    np.testing.assert_allclose(np.exp(1j * back), np.exp(1j * x), atol=1e-9)
    np.testing.assert_allclose(log_slope + back_log_slope, 0.0, atol=1e-9)
    assert (y >= -math.pi).all()
    assert (y < math.pi).all()
    slope = jax.vmap(jax.grad(lambda x: circular_spline.forward(circular, x)[0]))(x)
    np.testing.assert_allclose(log_slope, np.log(slope), atol=1e-10)


def test_the_map_goes_round_once_and_its_slope_is_continuous_across_both_seams(x64):
    circular = random_map(scale=2.0)
    x = jnp.linspace(-math.pi, math.pi, 100_001)
    y, _ = forward(circular, x)
    turn = np.diff(np.unwrap(y))
    assert (turn > 0.0).all()
    np.testing.assert_allclose(turn.sum(), 2.0 * math.pi, rtol=1e-12)
    step = math.pi * (1.0 - 1e-13)
    for transform in (forward, inverse):
        # The seams are at pi before the spline and at its image after it.
        for seam in (math.pi, float(y[0])):
            ends = transform(circular, jnp.array([seam - math.pi + step, seam + math.pi - step]))[1]
            assert abs(float(ends[0] - ends[1])) < 1e-7


def test_whole_turns_do_not_matter_and_angles_inside_stay_exactly():
    circular = random_map(3)
    x = np.float32([-3.0, -0.5, 0.0, 2.5])
    np.testing.assert_array_equal(circular_spline.wrap(jnp.asarray(x)), x)
    turned, log_slope = forward(circular, x + np.float32(4.0 * math.pi))
    same, same_log_slope = forward(circular, x)
    np.testing.assert_allclose(turned, same, atol=1e-5)
    np.testing.assert_allclose(log_slope, same_log_slope, atol=1e-4)


def test_zeros_are_the_identity_and_float32_keeps_to_a_float64_twin():
    zero = circular_spline.from_logits(jnp.zeros(circular_spline.num_logits(4)))
    x = np.float32([-3.0, 1.0])
    np.testing.assert_allclose(forward(zero, x)[0], x, atol=1e-6)
    x = np.linspace(-3.1, 3.1, 501).astype(np.float32)
    small = random_map()
    pairs = [np.asarray(v) for v in (*forward(small, x), *inverse(small, x))]
    with jax.enable_x64(True):
        wide = jax.tree.map(lambda leaf: jnp.asarray(np.float64(leaf)), small)
        exact = [
            np.asarray(v) for v in (*forward(wide, np.float64(x)), *inverse(wide, np.float64(x)))
        ]
    for got, want, limit in zip(pairs, exact, (5e-6, 5e-5) * 2, strict=True):
        gap = np.abs(got - want)
        assert np.minimum(gap, 2 * math.pi - gap).max() < limit


def test_gradients_are_finite_far_out_and_features_are_periodic():
    circular = random_map()
    far = np.float32([1e7, -1e7, math.pi, -math.pi])
    grads = jax.jit(
        jax.vmap(jax.grad(lambda c, x: sum(circular_spline.forward(c, x)), (0, 1)), (None, 0))
    )(circular, far)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(grads))
    read = circular_spline.features(jnp.array([math.pi, 2.0]), jnp.array([True, False]))
    np.testing.assert_allclose(read, [-1.0, 2.0, 0.0, 0.0], atol=1e-6)
