"""The package itself: free to import, with its units behind attributes."""

import subprocess
import sys

import pytest

import densityjax

SCRIPT = """
import sys, densityjax
assert {"jax", "numpy", "pandas"}.isdisjoint(sys.modules), "the package alone is light"
assert {"market", "backtest", "numerics", "pipeline"} <= set(dir(densityjax))
assert densityjax.numerics.BASIS_POINT == 1e-4
assert "jax" not in sys.modules, "a unit brings its own imports, no others"
assert densityjax.backtest.Costs().fee_bps == 10.0
"""


def test_units_are_imported_when_they_are_asked_for():
    found = subprocess.run(
        [sys.executable, "-c", SCRIPT], capture_output=True, text=True, timeout=300
    )
    assert found.returncode == 0, found.stderr


def test_a_name_that_is_no_unit_is_an_attribute_error():
    with pytest.raises(AttributeError, match="'densityjax' has no attribute 'markets'"):
        densityjax.markets  # noqa: B018
