import dataclasses

import numpy as np
import pytest
from scipy import integrate

from densityjax.market.simulated_density import skewed_t_cdf, skewed_t_log_pdf, skewed_t_quantile
from densityjax.market.simulated_law import MarketLaw

PLAIN = MarketLaw(
    durations=(2.0,),
    switching=((0.0,),),
    scale=(1.0,),
    drift=(0.0,),
    skew=(0.0,),
    dof=(6.0,),
    jump_probability=0.0,
)


def test_the_tail_index_of_gaussian_arch_is_four_where_its_fourth_moment_ends():
    law = dataclasses.replace(
        PLAIN, dof=(1e7,), alpha=1.0 / np.sqrt(3.0), gamma=0.0, beta=0.0
    )  # E (alpha z^2)^2 = 3 alpha^2 = 1
    np.testing.assert_allclose(law.tail_index, 4.0, rtol=1e-5)
    assert dataclasses.replace(PLAIN, alpha=0.0, gamma=0.0).tail_index == 6.0


def test_skewed_t_has_mean_zero_and_variance_one_and_precise_tails():
    skew, dof = np.array(-0.3), np.array(5.0)
    for power, moment in ((0, 1.0), (1, 0.0), (2, 1.0)):

        def integrand(z, power=power):
            return z**power * np.exp(skewed_t_log_pdf(z, skew, dof))

        value = sum(integrate.quad(integrand, *i)[0] for i in [(-np.inf, 0), (0, np.inf)])
        np.testing.assert_allclose(value, moment, atol=1e-7)
    far = np.array([-1e5, -1e6])
    np.testing.assert_allclose(
        np.diff(np.log(skewed_t_cdf(far, skew, dof))), -5.0 * np.log(10), rtol=1e-4
    )
    p = np.array([1e-12, 0.3, 0.65, 0.651, 0.9])
    np.testing.assert_allclose(
        skewed_t_cdf(skewed_t_quantile(p, skew, dof), skew, dof), p, rtol=1e-9
    )


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"durations": (1.0, 2.0, 3.0)}, "durations"),
        ({"scale": (1.0, 2.0)}, "scale"),
        ({"dof": (2.0, 5.0, 5.0)}, "dof"),
        ({"skew": (0.0, 0.0, 1.0)}, "skew"),
        ({"alpha": -0.1}, "alpha"),
        ({"jump_probability": np.nan}, "jump_probability"),
        ({"beta": 0.99}, "stationary"),
        ({"switching": ((0.5, 0.5, 0.0),) * 3}, "switching"),
    ],
)
def test_a_law_outside_its_ranges_is_refused(change, match):
    with pytest.raises(ValueError, match=match):
        MarketLaw(**change)
