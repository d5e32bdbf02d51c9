import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from densityjax import targets

WEIGHTS = np.array([0.6, 0.3, 0.1])
SIGMAS = (0.0, 0.3, 4.0)
NUM = 20_000

CALM, CRISIS = 0.2 + 0.8 * np.eye(3), 6.25 * (0.7 + 0.3 * np.eye(3))
LAWS = {
    "ill_conditioned_gaussian": lambda: targets.ill_conditioned_gaussian(jax.random.key(1), 4),
    "separated_mixture": targets.separated_mixture,
    "two_regimes": lambda: targets.two_regimes(3),
    "skewed_mixture": lambda: targets.gaussian_mixture(
        [0.8, 0.2], [[0.0], [2.0]], [[[0.2]], [[1.0]]]
    ),
}


@functools.cache  # one program a law: compiling is what these tests cost
def battery(name):
    """Returns, per sigma, points and log density, score, autodiff score and Laplacian there."""
    with jax.enable_x64(True):
        target = LAWS[name]()

        def at(sigma, key):
            noisy = target.noised(sigma)
            x = noisy.sample(key)
            value, gradient = jax.value_and_grad(noisy.log_prob)(x)
            trace = jnp.trace(jax.jacfwd(noisy.score)(x))
            by_sigma = jax.grad(lambda s: target.noised(s).log_prob(x))(sigma)
            return x, value, noisy.score(x), gradient, trace, by_sigma

        keys = jax.random.split(jax.random.key(3), NUM)
        run = jax.jit(jax.vmap(at, (None, 0)))
        return [[np.asarray(each) for each in run(sigma, keys)] for sigma in SIGMAS]


@pytest.mark.parametrize("name", LAWS)
def test_score_of_a_noised_law_is_the_gradient_of_its_log_density(name):
    for _, _, score, gradient, _, _ in battery(name):
        np.testing.assert_allclose(score, gradient, rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("name", LAWS)
def test_noised_densities_obey_the_heat_equation(name):
    """d log p / d sigma = sigma (tr ds/dx + |s|^2): ties all noise levels to one another."""
    for sigma, (_, _, score, _, trace, by_sigma) in zip(SIGMAS, battery(name), strict=True):
        expected = sigma * (trace + np.sum(score**2, axis=-1))
        np.testing.assert_allclose(by_sigma, expected, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("name", LAWS)
def test_no_noise_is_the_law_itself(name, x64):
    target = LAWS[name]()
    x, value, score, *_ = battery(name)[0]
    np.testing.assert_allclose(jax.vmap(target.log_prob)(x[:50]), value[:50], rtol=1e-9)
    np.testing.assert_allclose(jax.vmap(target.score)(x[:50]), score[:50], rtol=1e-7, atol=1e-9)


@pytest.mark.parametrize("name", LAWS)
def test_samples_of_a_noised_law_fit_its_score_by_steins_identity(name):
    for x, _, score, *_ in battery(name):
        error = score.std(0) / np.sqrt(NUM)
        np.testing.assert_array_less(np.abs(score.mean(0)), 5.0 * error)
        products = np.einsum("ni,nj->nij", x, score)
        error = products.std(0) / np.sqrt(NUM)
        assert (np.abs(products.mean(0) + np.eye(x.shape[1])) < 5.0 * error).all()


def test_a_noised_density_is_the_convolution_by_quadrature(x64):
    target, sigma = LAWS["skewed_mixture"](), 0.7
    nodes, weights = np.polynomial.hermite_e.hermegauss(60)
    x = np.linspace(-3.0, 6.0, 40)
    clean = jax.vmap(jax.vmap(lambda value: target.log_prob(value[None])))(
        x[:, None] - sigma * nodes
    )
    expected = np.log(np.exp(clean) @ weights / np.sqrt(2.0 * np.pi))
    found = jax.vmap(lambda value: target.noised(sigma).log_prob(value[None]))(x)
    np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_a_noised_density_integrates_to_one_in_the_plane(x64):
    law = targets.separated_mixture().noised(0.8)
    grid = np.linspace(-14.0, 18.0, 321)  # trapezoid: exact for smooth bumps
    points = np.stack(np.meshgrid(grid, grid), -1).reshape(-1, 2)
    mass = np.exp(jax.jit(jax.vmap(law.log_prob))(points)).sum() * (grid[1] - grid[0]) ** 2
    np.testing.assert_allclose(mass, 1.0, atol=1e-8)


def test_noise_upon_noise_adds_squares(x64):
    target = targets.two_regimes(3)
    x = jnp.array([0.3, -2.0, 1.0])
    twice, once = target.noised(0.6).noised(0.8), target.noised(1.0)
    np.testing.assert_allclose(twice.log_prob(x), once.log_prob(x), rtol=1e-12)


def test_two_regimes_agree_with_scipy(x64):
    x = np.array([0.4, -1.1, 2.0])
    parts = [stats.multivariate_normal.pdf(x, np.zeros(3), each) for each in (CALM, CRISIS)]
    found = targets.two_regimes(3).log_prob(jnp.asarray(x))
    np.testing.assert_allclose(found, np.log(np.dot([0.85, 0.15], parts)), rtol=1e-10)


def test_the_ill_conditioned_gaussian_has_the_stated_condition(x64):
    target = targets.ill_conditioned_gaussian(jax.random.key(1), 6, condition_number=500.0)
    precision = -jax.jacfwd(target.score)(jnp.zeros(6))
    values = np.linalg.eigvalsh(precision)
    np.testing.assert_allclose(values[[0, -1]], [1.0, 500.0], rtol=1e-6)


def test_the_modes_of_the_separated_mixture_have_their_weights_and_nothing_is_between(x64):
    target = targets.separated_mixture()
    x = np.asarray(jax.jit(jax.vmap(target.sample))(jax.random.split(jax.random.key(0), NUM)))
    centres = 8.0 * np.array([[-0.5, 0.0], [0.5, 0.0], [0.0, 0.75**0.5]])
    nearest = np.argmin(np.linalg.norm(x[:, None] - centres, axis=-1), axis=1)
    share = np.bincount(nearest) / NUM
    error = np.sqrt(WEIGHTS * (1.0 - WEIGHTS) / NUM)
    np.testing.assert_array_less(np.abs(share - WEIGHTS), 5.0 * error)
    middles = jnp.asarray(0.5 * (centres + np.roll(centres, 1, axis=0)))
    assert jax.vmap(target.log_prob)(middles).max() < -9.0


def test_laws_without_a_closed_noised_form_say_so():
    assert targets.log_exponential().noised is None
    assert targets.ring().noised is None


@pytest.mark.parametrize(
    ("build", "match"),
    [
        (lambda: targets.ill_conditioned_gaussian(jax.random.key(0), 1), "dim"),
        (
            lambda: targets.ill_conditioned_gaussian(jax.random.key(0), condition_number=0.5),
            "condition_number",
        ),
        (lambda: targets.separated_mixture(distance=0.0), "distance"),
        (lambda: targets.two_regimes(1), "dim"),
        (lambda: targets.two_regimes(crisis_weight=1.0), "crisis_weight"),
        (lambda: targets.two_regimes(crisis_scale=-1.0), "crisis_scale"),
        (lambda: targets.two_regimes(correlations=(0.2, 1.0)), "correlations"),
        (lambda: targets.two_regimes(correlations=(-0.2, 0.5)), "correlations"),
        (lambda: targets.separated_mixture().noised(-1.0), "sigma"),
        (lambda: targets.separated_mixture().noised(np.nan), "sigma"),
    ],
)
def test_bad_parameters_of_named_laws_are_refused(build, match):
    with pytest.raises(ValueError, match=match):
        build()
