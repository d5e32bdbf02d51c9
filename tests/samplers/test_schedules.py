import numpy as np
import pytest
from scipy.stats import norm

from densityjax.samplers import schedules

RANGE = {"sigma_min": 0.01, "sigma_max": 50.0}


@pytest.mark.parametrize(
    ("sigma_max", "num_levels", "num_steps", "published", "digits"),
    [(50.0, 232, 5, 6.2e-6, 0.05), (90.0, 500, 5, 3.3e-6, 0.05), (348.0, 2311, 3, 9e-7, 0.5)],
)
def test_e337_11_the_step_rule_reproduces_the_published_step_sizes(
    sigma_max, num_levels, num_steps, published, digits
):
    """CIFAR-10, CelebA and FFHQ, to the digits that were published; epsilon = e sigma_min^2."""
    share = schedules.ncsnv2_share(
        sigma_min=0.01, sigma_max=sigma_max, num_levels=num_levels, num_steps_per_level=num_steps
    )
    scale = 10.0 ** np.floor(np.log10(published))
    assert abs(share * 1e-4 - published) <= digits * scale


def test_the_step_rule_is_the_best_share_by_brute_force():
    share = schedules.ncsnv2_share(**RANGE, num_levels=40, num_steps_per_level=7)
    square_ratio = (50.0 / 0.01) ** (2.0 / 39)

    def variance(e):  # seven steps by hand, in units of sigma^2
        value = square_ratio
        for _ in range(7):
            value = (1.0 - e) ** 2 * value + 2.0 * e
        return value

    grid = np.linspace(1e-4, 0.999, 20_000)
    assert abs(share - grid[np.argmin(np.abs(variance(grid) - 1.0))]) < 2e-4


@pytest.mark.parametrize(("dim", "expected"), [(10, 3.04), (20, 1.90), (50, 1.43)])
def test_neighbouring_levels_overlap_by_half_at_the_known_ratios(dim, expected):
    ratio = schedules.overlap_ratio(dim)
    assert abs(ratio - expected) < 0.005
    shift = np.sqrt(2.0 * dim) * (ratio - 1.0)
    np.testing.assert_allclose(
        norm.cdf(shift + 3.0 * ratio) - norm.cdf(shift - 3.0 * ratio), 0.5, rtol=1e-6
    )


def test_in_a_few_dimensions_no_ratio_overlaps_by_only_half():
    with pytest.raises(ValueError, match="dim=4"):
        schedules.overlap_ratio(4)


def test_levels_run_from_the_largest_to_the_smallest():
    geometric = schedules.geometric_levels(**RANGE, num_levels=20)
    edm = schedules.edm_levels(**RANGE, num_levels=20)
    for levels in (geometric, edm):
        assert levels.shape == (20,)
        np.testing.assert_allclose((levels[0], levels[-1]), [50.0, 0.01], rtol=1e-5)
    np.testing.assert_allclose(geometric[1:] / geometric[:-1], (0.01 / 50.0) ** (1 / 19), rtol=1e-5)
    np.testing.assert_allclose(np.diff(np.asarray(edm) ** (1.0 / 7.0), 2), 0.0, atol=1e-5)


def test_step_sizes_follow_their_rules():
    levels = np.array([2.0, 1.0, 0.1])
    np.testing.assert_allclose(
        schedules.proportional_steps(levels, share=0.01), [0.04, 0.01, 1e-4], rtol=1e-6
    )
    np.testing.assert_allclose(
        schedules.smooth_steps(levels, share=0.1, smallest_variance=0.5),
        [0.45, 0.15, 0.051],
        rtol=1e-6,
    )


@pytest.mark.parametrize(
    ("call", "match"),
    [
        (
            lambda: schedules.geometric_levels(sigma_min=1.0, sigma_max=1.0, num_levels=5),
            "sigma_min",
        ),
        (lambda: schedules.edm_levels(sigma_min=2.0, sigma_max=1.0, num_levels=5), "sigma_min"),
        (lambda: schedules.edm_levels(sigma_min=0.0, sigma_max=1.0, num_levels=5), "sigma_min"),
        (lambda: schedules.edm_levels(**RANGE, num_levels=1), "num_levels"),
        (lambda: schedules.edm_levels(**RANGE, num_levels=5, rho=0.0), "rho"),
        (lambda: schedules.overlap_ratio(0), "dim"),
        (lambda: schedules.overlap_ratio(10, overlap=1.0), "overlap"),
        (
            lambda: schedules.ncsnv2_share(**RANGE, num_levels=5, num_steps_per_level=0),
            "num_steps_per_level",
        ),
        (lambda: schedules.proportional_steps([1.0, 2.0], share=0.1), "decreasing"),
        (lambda: schedules.proportional_steps([[2.0, 1.0]], share=0.1), "rank 1"),
        (lambda: schedules.proportional_steps([2.0, 1.0], share=-0.1), "share"),
        (lambda: schedules.smooth_steps([2.0, 1.0], smallest_variance=0.0), "smallest_variance"),
        (lambda: schedules.smooth_steps([2.0, -1.0], smallest_variance=1.0), "sigmas"),
    ],
)
def test_bad_ranges_and_numbers_are_refused(call, match):
    with pytest.raises(ValueError, match=match):
        call()
