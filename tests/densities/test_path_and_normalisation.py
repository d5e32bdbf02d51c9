"""Path integrals of scores, and the importance-sampling check of an integral."""

import functools
import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from densityjax import targets
from densityjax.densities import importance_check, normalisation, path_integral

SHEAR = jnp.array([[2.0, 0.5], [0.5, 1.0]])
X, START = jnp.array([1.0, -2.0]), jnp.array([0.5, 1.0])
SKEWED = targets.log_exponential()


def linear_score(x):
    return -SHEAR @ x


def exact_ratio(x, start):
    return -0.5 * (x @ SHEAR @ x - start @ SHEAR @ start)


@pytest.mark.parametrize(("rule", "num_nodes"), [("gauss_legendre", 1), ("midpoint", 1)])
def test_e337_13_one_node_is_exact_for_a_linear_score(rule, num_nodes):
    found = path_integral.log_density_ratio(linear_score, X, START, rule=rule, num_nodes=num_nodes)
    assert float(found) == pytest.approx(float(exact_ratio(X, START)), rel=1e-6)


@pytest.mark.parametrize("num_nodes", [10, 100])
def test_e337_13_left_nodes_are_off_by_one_over_their_number(num_nodes):
    exact = float(exact_ratio(X, jnp.zeros(2)))
    found = path_integral.log_density_ratio(linear_score, X, rule="left", num_nodes=num_nodes)
    assert float(found) / exact - 1.0 == pytest.approx(-1.0 / num_nodes, rel=1e-3)


@pytest.mark.parametrize("rule", ["gauss_legendre", "midpoint"])
def test_den_02_a_skewed_law_keeps_its_sign_and_its_error_is_reported(rule):
    start, end = jnp.array([-2.0]), jnp.array([1.5])
    exact = float(SKEWED.log_prob(end) - SKEWED.log_prob(start))
    assert exact < -0.5
    answer = path_integral.log_density_ratio_and_error(SKEWED.score, end, start, rule=rule)
    assert float(answer.log_ratio) == pytest.approx(exact, abs=1e-3)
    back = path_integral.log_density_ratio(SKEWED.score, start, end, rule=rule)
    assert float(back) == pytest.approx(-exact, abs=1e-3)
    coarse = path_integral.log_density_ratio_and_error(
        SKEWED.score, end, start, rule=rule, num_nodes=4
    )
    assert abs(float(coarse.log_ratio) - exact) <= float(coarse.error)


def test_e337_13_two_paths_agree_for_a_gradient_and_differ_for_a_turning_field():
    corner = jnp.array([3.0, -1.0])
    turn = jnp.array([[0.0, 1.0], [-1.0, 0.0]])
    for score_fn, agrees in ((linear_score, True), (lambda x: linear_score(x) + turn @ x, False)):
        ratio = functools.partial(path_integral.log_density_ratio, score_fn, num_nodes=4)
        straight = float(ratio(X, START))
        detour = float(ratio(corner, START) + ratio(X, corner))
        assert (abs(straight - detour) < 1e-4) == agrees


def test_e337_14_a_shift_of_the_data_leaves_the_ratio_as_it_is():
    shift = jnp.array([100.0, -30.0])
    moved = path_integral.log_density_ratio(
        lambda x: linear_score(x - shift), X + shift, START + shift
    )
    assert float(moved) == pytest.approx(float(exact_ratio(X, START)), abs=1e-3)


@pytest.mark.parametrize("options", [{"rule": "right"}, {"num_nodes": 0}])
def test_a_wrong_rule_is_named(options):
    with pytest.raises(ValueError, match="rule is"):
        path_integral.log_density_ratio(linear_score, X, **options)


@pytest.mark.parametrize("num_nodes", [1, 0])
def test_too_few_nodes_for_an_error_are_named_as_given(num_nodes):
    with pytest.raises(ValueError, match=f"num_nodes is {num_nodes}: accepted is at least 2"):
        path_integral.log_density_ratio_and_error(linear_score, X, num_nodes=num_nodes)


def test_whole_numbers_are_points_like_any_other():
    whole = jnp.array([1, -2])
    found = path_integral.log_density_ratio(linear_score, whole, START, num_nodes=4)
    assert float(found) == pytest.approx(float(exact_ratio(X, START)), rel=1e-6)
    alone = path_integral.log_density_ratio(linear_score, whole, num_nodes=4)
    assert float(alone) == pytest.approx(float(exact_ratio(X, jnp.zeros(2))), rel=1e-6)


WIDE = targets.gaussian(np.zeros(2), 2.0 * np.eye(2))
NARROW = targets.gaussian(np.array([0.3, -0.5]), np.array([[1.0, 0.4], [0.4, 0.7]]))


@functools.partial(jax.jit, static_argnames=("law", "proposal", "num"))
def check(seed=0, offset=0.0, *, num=4_000, law=NARROW, proposal=WIDE):
    rows = jax.vmap(proposal.sample)(jax.random.split(jax.random.key(seed), num))
    return importance_check(
        jax.vmap(law.log_prob)(rows) + offset, jax.vmap(proposal.log_prob)(rows)
    )


@pytest.mark.parametrize("offset", [0.0, 0.7])
def test_the_integral_is_found_within_its_standard_error(offset):
    answer = check(0, offset)
    assert float(answer.log_z) == pytest.approx(offset, abs=4 * float(answer.standard_error))
    assert float(answer.standard_error) < 0.02
    assert 1.0 < float(answer.effective_sample_size) < 4_000
    assert float(answer.tail_shape) < 0.5


def test_the_standard_error_is_the_spread_of_repetitions():
    answers = [check(seed) for seed in range(1, 60)]
    spread = np.std([float(answer.log_z) for answer in answers], ddof=1)
    reported = np.mean([float(answer.standard_error) for answer in answers])
    # 59 repetitions give a standard deviation within a tenth.
    assert spread == pytest.approx(reported, rel=0.4)


def test_equal_laws_give_all_rows_and_no_tail():
    answer = check(law=WIDE)
    assert float(answer.effective_sample_size) == pytest.approx(4_000, rel=1e-4)
    assert float(answer.log_z) == pytest.approx(0.0, abs=1e-5)


def test_a_proposal_too_narrow_is_given_away_by_the_tail_of_the_weights():
    answer = check(law=WIDE, proposal=targets.gaussian(np.zeros(2), 0.5 * np.eye(2)))
    assert float(answer.tail_shape) > 0.6
    assert float(answer.effective_sample_size) < 2_000


@pytest.mark.parametrize("shape", [0.3, 0.8])
def test_the_tail_shape_of_pareto_weights_is_found(shape):
    uniforms = jax.random.uniform(jax.random.key(1), (40_000,))
    log_weights = -shape * jnp.log(uniforms)  # P(w > t) = t^(-1 / shape)
    found = float(normalisation.tail_shape(log_weights))
    # 600 tail rows: standard error (1 + shape) / sqrt(600), and a prior of ten rows at 1 / 2.
    assert found == pytest.approx(shape, abs=4 * (1 + shape) / math.sqrt(600))


def test_few_rows_have_no_tail_shape_and_nan_stays_nan():
    assert jnp.isnan(normalisation.tail_shape(jnp.zeros(20)))
    assert jnp.isnan(importance_check(jnp.array([0.0, jnp.nan]), jnp.zeros(2)).log_z)
    assert all(
        float(a) >= float(b)
        for a, b in itertools.pairwise(
            [normalisation.tail_shape(rate * jnp.arange(100.0)) for rate in (0.3, 0.1, 0.01)]
        )
    )
