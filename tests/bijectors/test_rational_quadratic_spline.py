import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from densityjax.bijectors import rational_quadratic_spline as rqs

BOUND = 3.0
forward = jax.jit(jax.vmap(rqs.forward, (None, 0)))
inverse = jax.jit(jax.vmap(rqs.inverse, (None, 0)))
knots_of = jax.jit(rqs.knots_from_logits, static_argnames=("bound", "tails"))


def random_knots(seed, scale=1.0, num_bins=8, tails="identity", bound=BOUND):
    size = rqs.num_logits(num_bins, tails=tails)
    logits = scale * np.random.default_rng(seed).standard_normal(size)
    return knots_of(jnp.asarray(logits), bound=bound, tails=tails)


def bin_of(edges, value):
    k = np.clip(np.searchsorted(edges, value, side="right") - 1, 0, len(edges) - 2)
    return k, k + 1


def textbook_forward(knots, x):
    """Durkan et al. 2019, equations 4-5, in float64; for inputs inside the interval."""
    x_k, y_k, d = (np.asarray(a, np.float64) for a in knots)
    x = np.asarray(x, np.float64)
    i, j = bin_of(x_k, x)
    width, height = x_k[j] - x_k[i], y_k[j] - y_k[i]
    s, xi = height / width, (x - x_k[i]) / width
    both = xi * (1.0 - xi)
    den = s + (d[j] + d[i] - 2.0 * s) * both
    y = y_k[i] + height * (s * xi**2 + d[i] * both) / den
    slope = s**2 * (d[j] * xi**2 + 2.0 * s * both + d[i] * (1.0 - xi) ** 2) / den**2
    return y, np.log(slope)


def exact_inverse(knots, y):
    """Equations 6-8 in extended precision, so that the oracle's own loss is negligible."""
    x_k, y_k, d = (np.asarray(a, np.longdouble) for a in knots)
    y = np.asarray(y, np.longdouble)
    i, j = bin_of(y_k, y)
    width, height, rise = x_k[j] - x_k[i], y_k[j] - y_k[i], y - y_k[i]
    s = height / width
    e = d[j] + d[i] - 2.0 * s
    a, b, c = height * (s - d[i]) + rise * e, height * d[i] - rise * e, -s * rise
    root = np.sqrt(np.maximum(b * b - 4.0 * a * c, 0.0))
    safe = np.where(a == 0.0, 1.0, 2.0 * a)
    xi = np.where(b >= 0.0, 2.0 * c / np.where(b >= 0.0, -b - root, 1.0), (root - b) / safe)
    both = xi * (1.0 - xi)
    den = s + e * both
    slope = s**2 * (d[j] * xi**2 + 2.0 * s * both + d[i] * (1.0 - xi) ** 2) / den**2
    return np.float64(x_k[i] + xi * width), -np.float64(np.log(slope))


def near_upper_knots(edges, rng, size=20_000, closest=7.0):
    """Inputs 1e-2 to 10^-closest of a bin below its upper knot, and strictly inside the bin."""
    edges = np.asarray(edges)
    k = rng.integers(0, len(edges) - 1, size)
    gap = 10.0 ** -rng.uniform(2.0, closest, size)
    value = (edges[k + 1] - gap * (edges[k + 1] - edges[k])).astype(edges.dtype)
    return value[(value > edges[0]) & (value < edges[-1])]


@pytest.mark.parametrize("scale", [1.0, 2.0, 4.0, 8.0, 20.0])
def test_each_direction_is_accurate_in_float32_beside_the_knots(scale):
    rng, knots = np.random.default_rng(7), random_knots(0, scale)
    uniform = rng.uniform(-BOUND, BOUND, 20_000).astype(np.float32)[1:]
    closest = 6.0 if scale == 20.0 else 7.0
    for y in (uniform, near_upper_knots(knots.y, rng, closest=closest)):
        x, log_slope = inverse(knots, y)
        x_true, log_slope_true = exact_inverse(knots, y)
        assert np.abs(log_slope - log_slope_true).max() < 2e-5
        assert np.abs(x - x_true).max() < 2e-6
    for x in (uniform, near_upper_knots(knots.x, rng, closest=closest)):
        y, log_slope = forward(knots, x)
        y_true, log_slope_true = textbook_forward(knots, x)
        assert np.abs(y - y_true).max() < 2e-6
        assert np.abs(log_slope - log_slope_true).max() < 2e-5


def with_tails(knots, x):
    """The grid `x`, with every knot and points far outside."""
    return jnp.concatenate([x, knots.x, 100.0 * BOUND * jnp.array([-1.0, 1.0])])


@pytest.mark.parametrize(("num_bins", "tails"), [(8, "identity"), (8, "linear"), (1, "circular")])
def test_log_slopes_equal_autodiff_and_round_trips_close_in_float64(x64, num_bins, tails):
    knots = random_knots(1, 2.0, num_bins, tails)
    assert knots.x.dtype == jnp.float64
    x = with_tails(knots, jnp.linspace(-2.0 * BOUND, 2.0 * BOUND, 401))
    y, log_slope = forward(knots, x)
    assert np.all(np.diff(np.sort(x)) >= 0.0)
    back, back_log_slope = inverse(knots, y)
    np.testing.assert_allclose(back, x, rtol=1e-10, atol=1e-10)
    slope = jax.jit(jax.vmap(jax.grad(lambda k, x: rqs.forward(k, x)[0], 1), (None, 0)))(knots, x)
    back_slope = jax.jit(jax.vmap(jax.grad(lambda k, y: rqs.inverse(k, y)[0], 1), (None, 0)))
    np.testing.assert_allclose(log_slope, np.log(slope), atol=1e-10)
    np.testing.assert_allclose(back_log_slope, np.log(back_slope(knots, y)), atol=1e-7)
    np.testing.assert_allclose(log_slope + back_log_slope, 0.0, atol=1e-9)


def test_gradients_in_the_logits_match_finite_differences(x64):
    logits = jnp.asarray(np.random.default_rng(3).standard_normal(rqs.num_logits(4)))

    def value(logits, x):
        knots = rqs.knots_from_logits(logits, bound=BOUND)
        return jnp.stack([*rqs.forward(knots, x), *rqs.inverse(knots, x)])

    x, step = jnp.array([-2.9, -0.3, 1.1, 2.2]), 1e-6 * jnp.eye(logits.size)
    values = jax.jit(jax.vmap(jax.vmap(value, (None, 0)), (0, None)))
    numeric = (values(logits + step, x) - values(logits - step, x)) / 2e-6
    jacobian = jax.jit(jax.vmap(jax.jacrev(value), (None, 0)))(logits, x)
    np.testing.assert_allclose(jnp.moveaxis(jacobian, -1, 0), numeric, atol=1e-7)


@pytest.mark.parametrize("scale", [1.0, 50.0])
def test_gradients_stay_finite_far_outside_on_knots_and_for_extreme_logits(scale):
    rng = np.random.default_rng(5)
    logits = scale * np.sign(rng.standard_normal(rqs.num_logits(8, tails="linear")))
    logits = jnp.asarray(logits, jnp.float32)
    knots = knots_of(logits, bound=BOUND, tails="linear")
    far = np.array([-1e30, 1e30, *(100.0 * rng.standard_cauchy(200))], np.float32)
    x = jnp.concatenate([jnp.asarray(far), knots.x, knots.y])

    def values(logits, x):
        knots = rqs.knots_from_logits(logits, bound=BOUND, tails="linear")
        return jnp.stack([*rqs.forward(knots, x), *rqs.inverse(knots, x)])

    jacobian = jax.jit(jax.vmap(jax.jacrev(values, (0, 1)), (None, 0)))(logits, x)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(jacobian))
    assert np.isfinite(jax.jit(jax.vmap(values, (None, 0)))(logits, x)).all()


def test_a_bad_row_affects_only_itself():
    knots, x = random_knots(2), np.linspace(-4.0, 4.0, 9, dtype=np.float32)
    clean = np.stack(forward(knots, x))
    for bad in (np.nan, np.inf, -np.inf):
        dirty = np.stack(forward(knots, np.where(np.arange(9) == 4, np.float32(bad), x)))
        np.testing.assert_array_equal(np.delete(dirty, 4, 1), np.delete(clean, 4, 1))
        np.testing.assert_equal(dirty[0, 4], np.float32(bad))
    assert np.isnan(np.stack(forward(knots, np.full(1, np.nan, np.float32)))).all()
    assert np.isnan(np.stack(inverse(knots, np.full(1, np.nan, np.float32)))).all()


@pytest.mark.parametrize("tails", ["identity", "linear", "circular"])
def test_the_log_slope_is_continuous_across_the_bounds(x64, tails):
    knots = random_knots(4, 2.0, tails=tails)
    for bound in (-BOUND, BOUND):
        x = bound * np.array([1.0 - 1e-13, 1.0, 1.0 + 1e-13])
        for transform in (forward, inverse):
            # A steep log slope changes by up to 1e6 times the step.
            assert np.ptp(transform(knots, x)[1]) < 1e-6
    assert (knots.slope[0] == knots.slope[-1]) == (tails != "linear")


def test_identity_tails_are_exact():
    x = np.array([-1e30, -17.3, -BOUND, BOUND, 3.0000005, 1e30, np.inf], np.float32)
    for transform in (forward, inverse):
        y, log_slope = transform(random_knots(6, 3.0), x)
        np.testing.assert_array_equal(y, x)
        np.testing.assert_array_equal(log_slope, 0.0)


def test_knots_map_onto_each_other_with_their_slopes():
    for num_bins, tails in ((8, "identity"), (1, "linear"), (1, "identity")):
        knots = random_knots(8, 2.0, num_bins, tails)
        y, log_slope = forward(knots, knots.x)
        np.testing.assert_allclose(y, knots.y, atol=1e-6)
        np.testing.assert_allclose(log_slope, np.log(knots.slope), atol=2e-6)
        x, log_slope = inverse(knots, knots.y)
        np.testing.assert_allclose(x, knots.x, atol=1e-6)
        np.testing.assert_allclose(log_slope, -np.log(knots.slope), atol=2e-6)


def test_asymmetric_interval_is_mapped_onto_itself():
    logits = jnp.asarray(np.random.default_rng(9).standard_normal(rqs.num_logits(5)), jnp.float32)
    knots = rqs.knots_on_interval(logits, -4.0, 5.0)
    x = np.linspace(-6.0, 7.0, 301, dtype=np.float32)
    y, _ = forward(knots, x)
    outside = (x <= -4.0) | (x >= 5.0)
    np.testing.assert_array_equal(y[outside], x[outside])
    assert np.abs(y - x)[~outside].max() > 0.05
    assert (np.diff(y) > 0.0).all()
    np.testing.assert_allclose(inverse(knots, y)[0], x, atol=2e-5)


def test_a_batch_with_a_spline_per_dimension_equals_a_loop():
    rng = np.random.default_rng(10)
    logits = jnp.asarray(rng.standard_normal((3, rqs.num_logits(4))), jnp.float32)
    knots = jax.vmap(lambda a: rqs.knots_from_logits(a, bound=BOUND))(logits)
    x = jnp.asarray(rng.normal(size=(5, 3)), jnp.float32)
    batch = jax.jit(jax.vmap(jax.vmap(rqs.forward), (None, 0)))(knots, x)
    single = jax.jit(rqs.forward)
    for i in range(5):
        for d in range(3):
            one = single(jax.tree.map(lambda leaf, d=d: leaf[d], knots), x[i, d])
            np.testing.assert_allclose([b[i, d] for b in batch], one, atol=1e-6)


def test_bad_arguments_raise():
    with pytest.raises(ValueError, match="num_bins must be at least 1, got 0"):
        rqs.num_logits(0)
    with pytest.raises(ValueError, match="tails must be one of"):
        rqs.num_logits(4, tails="cubic")
    with pytest.raises(ValueError, match="got 12"):
        rqs.knots_from_logits(jnp.zeros(12), bound=1.0)
    with pytest.raises(ValueError, match="min_bin"):
        rqs.knots_from_logits(jnp.zeros(11), bound=1.0, min_bin=0.3)
    with pytest.raises(ValueError, match="min_slope"):
        rqs.knots_from_logits(jnp.zeros(11), bound=1.0, min_slope=1.0)


def test_e335_01_knots_span_the_interval_and_increase_over_many_draws():
    logits = 3.0 * jax.random.normal(jax.random.key(0), (10_000, rqs.num_logits(8)))
    knots = jax.jit(jax.vmap(lambda a: rqs.knots_from_logits(a, bound=BOUND)))(logits)
    for edges in (knots.x, knots.y):
        assert (np.diff(edges) > 0.9 * 1e-3 * 2.0 * BOUND).all()
        np.testing.assert_array_equal(edges[:, 0], -BOUND)
        np.testing.assert_array_equal(edges[:, -1], BOUND)
    middle = 0.5 * (knots.x[:, 1:] + knots.x[:, :-1])  # one input in every bin
    y, _ = jax.jit(jax.vmap(jax.vmap(rqs.forward, (None, 0))))(knots, middle)
    assert ((y > knots.y[:, :-1]) & (y < knots.y[:, 1:])).all()


def test_e335_02_known_answer_of_one_bin():
    knots = rqs.Knots(jnp.array([0.0, 1.0]), jnp.array([0.0, 1.0]), jnp.array([0.5, 2.0]))
    y, log_slope = rqs.forward(knots, jnp.array(0.5))
    np.testing.assert_allclose([y, jnp.exp(log_slope)], [1 / 3, 8 / 9], rtol=1e-6)
    inside = jnp.array([1e-6, 1.0 - 1e-6])
    np.testing.assert_allclose(jnp.exp(forward(knots, inside)[1]), knots.slope, rtol=1e-4)
    shifted, log_slope = rqs.forward(knots._replace(y=knots.y + 7.0), jnp.array(0.5))
    np.testing.assert_allclose([shifted, jnp.exp(log_slope)], [7 + 1 / 3, 8 / 9], rtol=1e-6)


@pytest.mark.parametrize("tails", ["identity", "linear"])
def test_e335_03_density_integrates_to_one_beyond_the_interval(x64, tails):
    knots = random_knots(11, 1.0, tails=tails)
    x = jnp.linspace(-60.0, 60.0, 240_001)
    z, log_slope = forward(knots, x)
    density = jnp.exp(-0.5 * z * z + log_slope) / jnp.sqrt(2.0 * jnp.pi)
    np.testing.assert_allclose(jnp.trapezoid(density, x), 1.0, atol=1e-6)
    y, _ = forward(knots, 100.0 * BOUND * jnp.array([-1.0, 1.0]))
    assert (jnp.abs(y) > 2.0 * BOUND).all()


@pytest.mark.parametrize("tails", ["identity", "linear", "circular"])
def test_e335_04_zero_logits_give_the_identity(tails):
    knots = rqs.knots_from_logits(
        jnp.zeros(rqs.num_logits(8, tails=tails)), bound=BOUND, tails=tails
    )
    np.testing.assert_array_equal(knots.x, knots.y)
    np.testing.assert_allclose(knots.slope, 1.0, atol=1.2e-7)
    x = jnp.linspace(-2.0 * BOUND, 2.0 * BOUND, 1001)
    for transform in (forward, inverse):
        y, log_slope = transform(knots, x)
        np.testing.assert_allclose(y, x, atol=5e-7)
        np.testing.assert_allclose(log_slope, 0.0, atol=5e-7)
    named = rqs.identity(8, BOUND)
    np.testing.assert_array_equal(named.x, knots.x)


def test_e335_05_number_of_parameters_per_mode():
    assert [rqs.num_logits(8, tails=t) for t in ("identity", "linear", "circular")] == [23, 25, 24]
    for tails in ("identity", "linear", "circular"):
        assert random_knots(0, tails=tails).x.shape == (9,)


def test_e335_06_extreme_logits_keep_every_bin_open():
    logits = jnp.where(jnp.arange(rqs.num_logits(8)) % 3 == 0, 50.0, -50.0)
    knots = rqs.knots_from_logits(logits, bound=BOUND)
    smallest = 1e-3 * 2.0 * BOUND
    assert min(np.diff(knots.x).min(), np.diff(knots.y).min()) > 0.999 * smallest
    assert knots.slope.min() >= 1e-3
    x = jnp.concatenate([jnp.linspace(-4.0, 4.0, 2001), knots.x])
    assert np.isfinite(np.stack([*forward(knots, x), *inverse(knots, x)])).all()


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 2**31),
    scale=st.floats(0.0, 20.0),
    x=st.lists(st.floats(-1e6, 1e6, width=32), min_size=16, max_size=16),
)
def test_spline_is_increasing_and_invertible_for_any_input(seed, scale, x):
    knots = random_knots(seed, scale)
    x = np.sort(np.asarray(x, np.float32))
    y, log_slope = forward(knots, x)
    assert (np.diff(y) >= -1e-6).all()
    back, back_log_slope = inverse(knots, y)
    assert np.isfinite(np.stack([log_slope, back_log_slope])).all()
    # Rounding y moves x by eps / slope, so the error is bounded in y, not in x.
    again, _ = forward(knots, back)
    np.testing.assert_allclose(again, y, rtol=1e-6, atol=1e-4)
