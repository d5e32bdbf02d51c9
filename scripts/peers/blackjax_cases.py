"""Further cases on blackjax's fixtures: its univariate test on our chains, its diagnostics as twin.

pytest collects this file beside the tests that blackjax's source archive ships.
"""

import blackjax  # pyright: ignore[reportMissingImports]
import blackjax.diagnostics as theirs  # pyright: ignore[reportMissingImports]
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from blackjax.base import SamplingAlgorithm  # pyright: ignore[reportMissingImports]
from tests.mcmc.test_sampling import (  # pyright: ignore[reportMissingImports]
    UnivariateNormalTest as Univariate,
)

from densityjax.samplers import diagnostics, hmc, langevin


class OurChainsTest(Univariate):
    """N(1, 2^2): mean and variance within 10 percent, with and without compilation."""

    def test_our_unadjusted_langevin(self) -> None:
        """A step of .2 has a stationary variance of 4 / (1 - .025), 2.6 percent too much."""
        score_fn = jax.grad(self.normal_logprob)
        algorithm = SamplingAlgorithm(
            lambda position: langevin.init(position, score_fn),
            lambda rng_key, state: langevin.step(rng_key, state, score_fn, 0.2),
        )
        self.variant = jax.jit
        state = algorithm.init(jnp.array(1.0))
        self.univariate_normal_test_case(algorithm, self.key, state, 45_000, 5_000)

    def test_our_mala_at_the_step_of_one(self) -> None:
        """Rejections matter here: without them the variance would be 4.57."""
        algorithm = blackjax.mala(self.normal_logprob, step_size=1.0)
        self.variant = jax.jit
        state = algorithm.init(jnp.array(1.0))
        self.univariate_normal_test_case(algorithm, self.key, state, 45_000, 5_000)

    def test_our_hamiltonian(self) -> None:
        """Four leapfrog steps of one, a quarter of a turn and more."""
        algorithm = SamplingAlgorithm(
            lambda position: hmc.init(position, self.normal_logprob),
            lambda rng_key, state: hmc.step(
                rng_key, state, self.normal_logprob, 1.0, num_leapfrog=4
            ),
        )
        self.variant = jax.jit
        state = algorithm.init(jnp.array(1.0))
        self.univariate_normal_test_case(algorithm, self.key, state, 6_000, 1_000)


def chains(correlation: float, spread: float) -> np.ndarray:
    """Returns [4, 2000] AR(1) chains whose centres differ by `spread`."""
    rng = np.random.default_rng(7)
    noise = rng.standard_normal((4, 2_000))
    for t in range(1, 2_000):
        noise[:, t] += correlation * noise[:, t - 1]
    return noise + spread * rng.standard_normal((4, 1))


@pytest.mark.parametrize("correlation", [0.0, 0.6, 0.95, -0.5])
@pytest.mark.parametrize("spread", [0.0, 1.0])
def test_our_diagnostics_agree_with_theirs(correlation: float, spread: float) -> None:
    """Ours in float64 on the host, theirs in float32: equal to that precision."""
    x = chains(correlation, spread)
    pairs = [
        (diagnostics.split_r_hat, theirs.rhat, 1e-4),
        (diagnostics.bulk_ess, theirs.ess_bulk, 2e-2),
        (diagnostics.tail_ess, theirs.ess_tail, 2e-2),
    ]
    for ours, other, tolerance in pairs:
        np.testing.assert_allclose(ours(x), other(jnp.asarray(x)), rtol=tolerance)
