"""Rules by their hash: what differs in what it does has another one, what is equal the same."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from densityjax.backtest import rules
from densityjax.backtest.grid_digest import rule_digest

SCALE = 2.0


def helper(x):
    return x * SCALE


def rule(params, signal, state):
    return helper(signal) * params, state


class Holder:
    def __init__(self, size):
        self.size = size

    def rule(self, params, signal, state):
        return self.size * params, state

    def __call__(self, params, signal, state):
        return self.size, state


def table_rule(table, params, signal, state):
    return table[0] * params, state


def closing_over(value):
    return lambda params, signal, state: (value, state)


def large(last):
    table = np.zeros(3000)
    table[1500] = last
    return table


@pytest.mark.parametrize(
    ("first", "second"),
    [
        *[(lambda p, s, t, k=k: (k, t), lambda p, s, t, k=-k: (k, t)) for k in (1.0,)],
        (Holder(1.0).rule, Holder(-1.0).rule),
        (Holder(1.0), Holder(-1.0)),
        (functools.partial(table_rule, large(0.0)), functools.partial(table_rule, large(1.0))),
        (closing_over(jnp.ones(2)), closing_over(jnp.zeros(2))),
        (closing_over({"a": [1, 2]}), closing_over({"a": [1, 3]})),
        (rules.threshold_rule, rules.momentum),
    ],
)
def test_rules_that_do_other_things_have_other_digests(first, second):
    assert rule_digest(first) != rule_digest(second)


def test_equal_rules_have_equal_digests_however_often_they_are_made():
    assert rule_digest(Holder(1.0).rule) == rule_digest(Holder(1.0).rule)
    assert rule_digest(closing_over(jnp.ones(2))) == rule_digest(closing_over(jnp.ones(2)))
    assert rule_digest(rules.threshold_rule) == rule_digest(rules.threshold_rule)
    assert rule_digest(jax.jit(rule)).split()[1] == rule_digest(jax.jit(rule)).split()[1]


def test_what_a_helper_and_a_constant_of_the_module_are_counts(monkeypatch):
    before = rule_digest(rule)
    monkeypatch.setitem(globals(), "SCALE", 3.0)
    other_scale = rule_digest(rule)
    monkeypatch.setitem(globals(), "helper", lambda x: x + 1.0)
    assert len({before, other_scale, rule_digest(rule)}) == 3


def test_what_has_no_digest_is_refused_by_name():
    with pytest.raises(ValueError, match="rule reads <generator"):
        rule_digest(closing_over(number for number in range(3)))
