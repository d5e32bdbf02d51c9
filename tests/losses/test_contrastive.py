"""Contrastive losses against closed forms, by quadrature, on a law that is not symmetric."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from densityjax import losses

LOG_2PI = np.log(2.0 * np.pi)


def nodes(lower, upper, num, log_prob):
    """Nodes and probabilities of a law on a line, by Gauss-Legendre quadrature."""
    node, weight = np.polynomial.legendre.leggauss(num)
    x = lower + 0.5 * (upper - lower) * (node + 1.0)
    mass = 0.5 * (upper - lower) * weight * np.exp(log_prob(x))
    assert mass.sum() == pytest.approx(1.0, abs=1e-6)  # the range holds the law
    return jnp.asarray(x), jnp.asarray(mass)


SKEWED = (-24.0, 3.6, 240, lambda x: x - np.exp(x))  # log of an exponential variable
NOISE = stats.norm(-0.6, 2.5)
NOISE_NODES = (-24.0, 15.0, 240, NOISE.logpdf)


def energy(theta, x):
    """The law itself at theta = (1, 1), whose log Z is zero; anything symmetric is far."""
    return jnp.sum(theta[0] * jnp.exp(x) - theta[1] * x)


def noise_log_prob(x):
    return jnp.sum(-0.5 * ((x + 0.6) / 2.5) ** 2) - np.log(2.5) - 0.5 * LOG_2PI


def nce(theta, x, noise):
    return losses.noise_contrastive_estimation(
        lambda y: energy(theta, y), x, noise[None], noise_log_prob, log_z=theta[2]
    )


def snl(theta, x, noise):
    return losses.self_normalised_likelihood(
        lambda y: energy(theta, y), x, noise[None], noise_log_prob, log_z=theta[2]
    )


def cnce(theta, x, noise):
    noisy = x + 0.5 * (noise + 0.6) / 2.5  # standard normal noise of half a unit
    return losses.conditional_noise_contrastive_estimation(
        lambda y: energy(theta, y), x, noisy[None]
    )


LOSSES = {"nce": (nce, 3), "snl": (snl, 3), "conditional": (cnce, 2)}


@pytest.mark.parametrize("name", sorted(LOSSES))
def test_the_minimum_of_the_mean_loss_is_the_law_and_its_log_z(name, x64):
    loss, size = LOSSES[name]
    (x, mass), (noise, noise_mass) = nodes(*SKEWED), nodes(*NOISE_NODES)

    def mean(theta):
        grid = jax.vmap(jax.vmap(loss, (None, None, 0)), (None, 0, None))
        return mass @ grid(theta, x[:, None], noise[:, None]) @ noise_mass

    truth = jnp.array([1.0, 1.0, 0.0])
    gradient, hessian = jax.jit(lambda t: (jax.grad(mean)(t), jax.hessian(mean)(t)))(truth)
    np.testing.assert_allclose(gradient[:size], 0.0, atol=1e-6)
    assert np.linalg.eigvalsh(hessian[:size, :size]).min() > 1e-3
    flipped = jax.jit(mean)(jnp.array([-0.2, -0.2, 0.0]))  # the energy upside down
    assert flipped > jax.jit(mean)(truth) + 0.05


@pytest.mark.parametrize("num_noise", [1, 3])
def test_contrasts_at_equal_laws_have_their_values(num_noise):
    same = jnp.full(num_noise, 0.0)
    nu = float(num_noise)
    expected = np.log1p(nu) + nu * np.log1p(1.0 / nu)
    assert losses.logistic_contrast(jnp.asarray(0.0), same) == pytest.approx(expected, rel=1e-6)
    if num_noise == 1:
        assert expected == pytest.approx(2.0 * np.log(2.0))
    ranked = losses.ranking_contrast(jnp.asarray(0.0), same)
    assert ranked == pytest.approx(np.log(1.0 + num_noise), rel=1e-6)
    x = jnp.ones(2)
    flat = losses.conditional_noise_contrastive_estimation(
        lambda y: 0.0 * jnp.sum(y), x, jnp.stack([x] * num_noise)
    )
    assert flat == pytest.approx(2.0 * np.log(2.0), rel=1e-6)


@pytest.mark.parametrize(("true", "noise"), [(0.4, -1.3), (-3.0, 2.0)])
def test_ranking_has_the_true_row_in_the_denominator_and_forgets_constants(true, noise):
    expected = -np.log(np.exp(true) / (np.exp(true) + np.exp(noise)))
    for constant in (0.0, 9.19):
        found = losses.ranking_contrast(jnp.asarray(true + constant), jnp.array([noise + constant]))
        assert found == pytest.approx(expected, rel=1e-5)
        assert found > 0.0


def test_ranking_of_an_energy_is_the_contrast_of_its_log_ratios():
    x, noise = jnp.array([0.3]), jnp.array([[-1.0], [2.0]])
    of_energy = losses.noise_contrastive_estimation(
        lambda y: energy((1.0, 1.0), y), x, noise, noise_log_prob, ranking=True, log_z=5.0
    )
    rows = np.array([0.3, -1.0, 2.0])
    ratio = rows - np.exp(rows) - NOISE.logpdf(rows)
    expected = -np.log(np.exp(ratio[0]) / np.exp(ratio).sum())
    assert of_energy == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("dim", [1, 10])
def test_e338_06_the_constant_of_the_noise_is_part_of_log_z(dim, x64):
    """With exact E of N(0, I) and noise N(0, I) the loss is least at c = log Z, not beside it."""
    x = jnp.zeros(dim)  # p / q is one everywhere, so that one point is as good as all

    def loss(log_z, constant):
        return losses.noise_contrastive_estimation(
            lambda y: 0.5 * jnp.sum(y**2),
            x,
            x[None],
            lambda y: -0.5 * jnp.sum(y**2) - constant,
            log_z=log_z,
        )

    right = 0.5 * dim * LOG_2PI
    assert jax.grad(loss)(right, right) == pytest.approx(0.0, abs=1e-12)
    assert jax.grad(loss)(0.0, 0.0) == pytest.approx(0.0, abs=1e-12)  # log Z off by `right`
    assert right == pytest.approx({1: 0.919, 10: 9.19}[dim], abs=1e-3)


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_e338_07_huge_log_ratios_give_finite_losses_and_gradients(sign):
    ratio = jnp.asarray(sign * 1e4)
    for contrast in (losses.logistic_contrast, losses.ranking_contrast):
        value, gradient = jax.value_and_grad(lambda r, fn=contrast: fn(r, -r[None]))(ratio)
        assert np.isfinite(value)
        assert np.isfinite(gradient)
    value, gradient = jax.value_and_grad(
        lambda r: losses.self_normalised_bound(jnp.asarray(0.0), r[None], 0.0)
    )(ratio)
    assert np.isfinite(value)
    assert np.isfinite(gradient)
    if sign > 0:  # on from e^10 with the slope it has there
        assert gradient == pytest.approx(np.exp(10.0), rel=1e-5)


def test_the_self_normalised_bound_is_above_minus_log_p_and_tight_at_log_z(x64):
    """Noise at equal quantiles, energies with log Z = 1.3 that is not known beforehand."""
    share = (np.arange(20_000) + 0.5) / 20_000
    noise = NOISE.ppf(share)
    rows = np.log(-np.log1p(-share))
    of_noise = jnp.asarray(noise - np.exp(noise) + 1.3 - NOISE.logpdf(noise))
    mean_energy = jnp.asarray(np.mean(np.exp(rows) - rows) - 1.3)
    truth = np.mean(np.exp(rows) - rows)
    tight = losses.self_normalised_bound(mean_energy, of_noise, 1.3)
    assert tight == pytest.approx(truth, abs=1e-3)  # of the outermost quantiles
    for log_z in (0.3, 1.0, 1.6, 3.0):
        assert losses.self_normalised_bound(mean_energy, of_noise, log_z) > truth + 0.01


@pytest.mark.parametrize(("step", "expected"), [(0.05, 1.0263), (0.3, 1.2251)])
def test_contrastive_divergence_settles_where_its_chain_keeps_the_law(step, expected, x64):
    """E = k x^2 / 2 on N(0, 1): unadjusted Langevin at step a ends at (1 - sqrt(1 - 2 a)) / a."""
    point, weight = np.polynomial.hermite_e.hermegauss(8)
    weight = jnp.asarray(weight / weight.sum())
    point = jnp.asarray(point)

    def gradient(k):
        def one(x, z):
            negative = (x - step * k * x + np.sqrt(2.0 * step) * z)[None]
            return jax.grad(
                lambda k: losses.contrastive_divergence(
                    lambda y: 0.5 * k * jnp.sum(y**2), x[None], negative
                )
            )(k)

        grid = jax.vmap(jax.vmap(one, (None, 0)), (0, None))(point, point)
        return weight @ grid @ weight

    exact = (1.0 - np.sqrt(1.0 - 2.0 * step)) / step
    assert exact == pytest.approx(expected, abs=1e-4)
    assert gradient(exact) == pytest.approx(0.0, abs=1e-12)
    assert gradient(exact - 0.05) < 0.0 < gradient(exact + 0.05)


def test_e338_04_no_gradient_goes_through_negatives_and_squares_are_optional():
    def loss(shift, regularisation):
        return losses.contrastive_divergence(
            lambda y: 0.5 * jnp.sum(y**2),
            jnp.array([3.0]),
            jnp.array([1.0]) + shift,
            regularisation=regularisation,
        )

    assert loss(0.0, 0.0) == pytest.approx(4.5 - 0.5)
    assert loss(0.0, 0.01) == pytest.approx(4.0 + 0.01 * (4.5**2 + 0.5**2))
    assert jax.grad(loss)(0.0, 0.01) == 0.0


def test_constants_of_the_energy_fall_out_of_contrastive_divergence_and_ranking():
    x, noise = jnp.array([0.3]), jnp.array([[-1.0], [2.0]])
    for constant in (0.0, 7.0):
        shifted = [
            losses.contrastive_divergence(lambda y: jnp.sum(y**2) + constant, x, noise[0]),  # noqa: B023
            losses.conditional_noise_contrastive_estimation(
                lambda y: jnp.sum(y**2) + constant,  # noqa: B023
                x,
                noise,
            ),
        ]
        if constant == 0.0:
            plain = shifted
    np.testing.assert_allclose(shifted, plain, rtol=1e-5)
