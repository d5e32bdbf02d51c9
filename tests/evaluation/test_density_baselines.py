"""Mixtures and kernels: the log density of a known law, in the unit of the rows."""

import numpy as np
import pytest
from scipy import stats

from densityjax.evaluation.density_baselines import gaussian_mixture, kernel_density

LAW = stats.multivariate_normal([1.0, -2.0], [[4.0, 1.2], [1.2, 1.0]])


def draws(seed, size):
    return LAW.rvs(size, random_state=np.random.default_rng(seed))


def test_a_mixture_finds_a_normal_law_and_needs_no_second_component():
    found = gaussian_mixture(draws(0, 3000), draws(1, 2000), num_components=(1, 4))
    test = draws(2, 500)
    gap = np.abs(found.log_prob(test) - LAW.logpdf(test))
    assert np.median(gap) < 0.03
    assert gap.max() < 0.5
    assert found.setting == 1
    assert found.validation_log_likelihood == pytest.approx(-LAW.entropy(), abs=0.08)


def test_two_clumps_need_two_components():
    rng = np.random.default_rng(3)
    rows = rng.standard_normal((2000, 1)) + 8.0 * rng.integers(2, size=(2000, 1))
    found = gaussian_mixture(rows[:1000], rows[1000:], num_components=(1, 2))
    assert found.setting == 2
    truth = np.log((stats.norm.pdf(rows) + stats.norm.pdf(rows, 8.0)) / 2)[:, 0]
    assert found.log_prob(rows).mean() == pytest.approx(truth.mean(), abs=0.02)


def test_kernels_integrate_to_one_and_follow_the_law_in_the_unit_of_the_rows():
    found = kernel_density(draws(0, 3000), draws(1, 1000))
    axes = np.linspace(-13.0, 15.0, 150), np.linspace(-9.0, 5.0, 150)
    grid = np.stack(np.meshgrid(*axes, indexing="ij"), -1)
    mass = np.exp(found.log_prob(grid.reshape(-1, 2))).reshape(150, 150)
    assert np.trapezoid(np.trapezoid(mass, axes[1]), axes[0]) == pytest.approx(1.0, abs=1e-3)
    test = draws(2, 1000)
    gap = (LAW.logpdf(test) - found.log_prob(test)).mean()
    assert 0.0 < gap < 0.1
    one_unit_wider = kernel_density(10.0 * draws(0, 3000), 10.0 * draws(1, 1000))
    np.testing.assert_allclose(
        one_unit_wider.log_prob(10.0 * test), found.log_prob(test) - 2.0 * np.log(10.0), atol=1e-6
    )


@pytest.mark.parametrize("fit", [gaussian_mixture, kernel_density])
def test_rows_without_a_density_are_named(fit):
    good = draws(0, 50)
    with pytest.raises(ValueError, match="train must be finite: 1 values"):
        fit(np.where(good == good[3, 1], np.nan, good), good)
    with pytest.raises(ValueError, match=r"validation has shape \(50, 1\)"):
        fit(good, good[:, :1])
    with pytest.raises(ValueError, match="train is constant in column 1"):
        fit(good * [1.0, 0.0], good)
