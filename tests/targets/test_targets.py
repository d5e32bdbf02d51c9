import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import integrate, stats

from densityjax import targets

COVARIANCE = np.array([[1.0, 0.6], [0.6, 0.5]])
MEANS = np.array([[-2.0, 0.0], [3.0, 1.0], [0.0, -4.0]])
COVARIANCES = np.stack([COVARIANCE, 0.25 * np.eye(2), np.diag([2.0, 0.1])])
WEIGHTS = np.array([0.6, 0.3, 0.1])

# name: (constructor, half-width of the square that holds the mass, mass outside at most)
PLANE = {
    "gaussian": (lambda: targets.gaussian(np.array([1.0, -2.0]), COVARIANCE), 12.0, 1e-8),
    "gaussian_mixture": (
        lambda: targets.gaussian_mixture(WEIGHTS, MEANS, COVARIANCES),
        14.0,
        1e-8,
    ),
    "random_gaussian_mixture": (
        lambda: targets.random_gaussian_mixture(jax.random.key(0), 2),
        16.0,
        1e-8,
    ),
    "banana": (lambda: targets.banana(curvature=0.2), 40.0, 1e-8),
    "funnel": (lambda: targets.funnel(2, log_scale_sd=0.8), 30.0, 1e-7),
    "student_t": (lambda: targets.student_t(np.array([0.5, 0.0]), COVARIANCE, dof=9.0), 60.0, 1e-6),
    "ring": (lambda: targets.ring(), 6.0, 1e-8),
}
LINE = {
    "two_piece_t": lambda: targets.two_piece_t(mode=0.3),
    "log_exponential": targets.log_exponential,
}
MOMENTS = {  # name: (mean, covariance) in closed form
    "gaussian": (np.array([1.0, -2.0]), COVARIANCE),
    "gaussian_mixture": (
        WEIGHTS @ MEANS,
        np.einsum("k,kij->ij", WEIGHTS, COVARIANCES)
        + np.einsum("k,ki,kj->ij", WEIGHTS, MEANS, MEANS)
        - np.outer(WEIGHTS @ MEANS, WEIGHTS @ MEANS),
    ),
    "banana": (np.zeros(2), np.diag([4.0, 0.25 + 0.04 * 2.0 * 16.0])),
    "funnel": (np.zeros(2), np.diag([0.64, np.exp(0.32)])),
    "student_t": (np.array([0.5, 0.0]), COVARIANCE * 9.0 / 7.0),
    "ring": (np.zeros(2), 2.0 * np.eye(2)),  # half the mean of |x|^2, the truncation beyond 5 sd
    "log_exponential": (np.array([-np.euler_gamma]), np.array([[np.pi**2 / 6.0]])),
}
KEYS = jax.random.split(jax.random.key(2), 30_000)
EVERY = {name: entry[0] for name, entry in PLANE.items()} | LINE


@pytest.mark.parametrize("name", PLANE)
def test_density_in_the_plane_integrates_to_one(name, x64):
    build, half_width, outside = PLANE[name]
    target = build()
    grid = np.linspace(-half_width, half_width, 1_601)  # trapezoid: exact for smooth bumps
    log_prob = jax.jit(
        jax.vmap(jax.vmap(lambda a, b: target.log_prob(jnp.stack([a, b])), (None, 0)), (0, None))
    )
    mass = float(jnp.sum(jnp.exp(log_prob(grid, grid)))) * (grid[1] - grid[0]) ** 2
    np.testing.assert_allclose(mass, 1.0, atol=2.0 * outside)


@pytest.mark.parametrize("name", LINE)
def test_density_on_the_line_integrates_to_one(name, x64):
    log_prob = jax.jit(LINE[name]().log_prob)

    def pdf(x):
        return float(jnp.exp(log_prob(jnp.array([x]))))

    mass = sum(integrate.quad(pdf, *ends)[0] for ends in [(-np.inf, 0.3), (0.3, np.inf)])
    np.testing.assert_allclose(mass, 1.0, atol=1e-7)


@functools.cache  # one program a target: compiling is what these tests cost
def battery(name):
    """Returns samples [N, D], then score and gradient at the samples and at thrice them."""
    with jax.enable_x64(True):
        target = EVERY[name]()

        def one(key):
            x = target.sample(key)
            points = jnp.stack([x, 3.0 * x])
            return x, jax.vmap(target.score)(points), jax.vmap(jax.grad(target.log_prob))(points)

        return [np.asarray(y) for y in jax.jit(jax.vmap(one))(KEYS)]


@pytest.mark.parametrize("name", EVERY)
def test_score_is_the_gradient_of_the_log_density(name):
    _, score, gradient = battery(name)
    np.testing.assert_allclose(score, gradient, rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("name", MOMENTS)
def test_samples_have_the_moments_of_the_law(name):
    mean, covariance = MOMENTS[name]
    x = battery(name)[0]
    assert x.shape == (len(KEYS), len(mean))
    error = np.sqrt(np.diag(covariance) / len(x))
    np.testing.assert_array_less(np.abs(x.mean(0) - mean), 5.0 * error)
    products = np.einsum("ni,nj->nij", x - mean, x - mean)
    error = products.std(0) / np.sqrt(len(x))
    np.testing.assert_array_less(np.abs(products.mean(0) - covariance), 5.0 * error + 1e-9)


@pytest.mark.parametrize("name", EVERY)
def test_samples_and_score_agree_by_steins_identity(name):
    x, scores, _ = battery(name)
    score = scores[:, 0]
    error = score.std(0) / np.sqrt(len(x))
    np.testing.assert_array_less(np.abs(score.mean(0)), 5.0 * error)  # E score = 0
    products = np.einsum("ni,nj->nij", x, score)  # E x score^T = -I
    error = products.std(0) / np.sqrt(len(x))
    np.testing.assert_array_less(np.abs(products.mean(0) + np.eye(x.shape[1])), 5.0 * error)


def test_two_piece_samples_have_the_distribution_of_the_density():
    x = battery("two_piece_t")[0][:, 0]

    def cdf(points):
        z = points - 0.3
        below, above = 1.2 * stats.t.cdf(z / 1.5, 5.0), 1.0 - 0.8 * stats.t.sf(z, 5.0)
        return np.where(z < 0.0, below, above)

    assert stats.kstest(x, cdf).pvalue > 0.01


def test_log_densities_agree_with_scipy(x64):
    x = np.array([0.4, -1.1])
    t = targets.student_t(np.array([0.5, 0.0]), COVARIANCE, dof=4.0)
    expected = stats.multivariate_t.logpdf(x, [0.5, 0.0], COVARIANCE, 4.0)
    np.testing.assert_allclose(t.log_prob(jnp.asarray(x)), expected, rtol=1e-10)
    mixture = targets.gaussian_mixture(WEIGHTS, MEANS, COVARIANCES)
    parts = [
        stats.multivariate_normal.pdf(x, m, c) for m, c in zip(MEANS, COVARIANCES, strict=True)
    ]
    np.testing.assert_allclose(
        mixture.log_prob(jnp.asarray(x)), np.log(WEIGHTS @ parts), rtol=1e-10
    )


def test_random_mixture_centres_have_the_stated_spread_and_modes_theirs():
    target = targets.random_gaussian_mixture(
        jax.random.key(5), 50, num_modes=1, centre_sd=2.0, mode_sd=0.5
    )
    draw = jax.jit(jax.vmap(target.sample))
    x = np.asarray(draw(jax.random.split(jax.random.key(6), 4_000)))
    assert abs(x.mean(0).std() / 2.0 - 1.0) < 5.0 / np.sqrt(100.0)
    assert abs(x.std(0).mean() / 0.5 - 1.0) < 5.0 / np.sqrt(2.0 * x.size)


def test_funnel_has_any_dimension(x64):
    target = targets.funnel(5)
    x = np.array([1.2, 0.3, -2.0, 0.1, 4.0])
    expected = (
        stats.norm.logpdf(x[0], scale=3.0) + stats.norm.logpdf(x[1:], scale=np.exp(0.6)).sum()
    )
    np.testing.assert_allclose(target.log_prob(jnp.asarray(x)), expected, rtol=1e-10)


def test_far_points_of_a_mixture_keep_a_finite_score():
    target = targets.gaussian_mixture(WEIGHTS, MEANS, COVARIANCES)
    far = jnp.full(2, 1e3)
    assert np.isfinite(target.score(far)).all()
    assert np.isfinite(target.log_prob(far))


@pytest.mark.parametrize(
    ("build", "match"),
    [
        (lambda: targets.gaussian(np.zeros(2), np.array([[1.0, 2.0], [2.0, 1.0]])), "positive"),
        (lambda: targets.gaussian(np.zeros(2), np.array([[1.0, 2.0], [0.0, 1.0]])), "symmetric"),
        (lambda: targets.gaussian(np.zeros(3), np.eye(2)), "disagree"),
        (
            lambda: targets.gaussian_mixture([0.5, 0.6], np.zeros((2, 1)), np.ones((2, 1, 1))),
            "weights",
        ),
        (lambda: targets.random_gaussian_mixture(jax.random.key(0), 0), "dim"),
        (lambda: targets.random_gaussian_mixture(jax.random.key(0), 2, mode_sd=-1.0), "mode_sd"),
        (lambda: targets.banana(short_sd=0.0), "short_sd"),
        (lambda: targets.funnel(1), "dim"),
        (lambda: targets.ring(radius=np.inf), "radius"),
        (lambda: targets.student_t(np.zeros(2), np.eye(2), dof=0.0), "dof"),
        (lambda: targets.student_t(np.zeros(3), np.eye(2)), "disagree"),
        (lambda: targets.two_piece_t(lower_scale=-1.0), "lower_scale"),
    ],
)
def test_bad_parameters_are_refused(build, match):
    with pytest.raises(ValueError, match=match):
        build()
