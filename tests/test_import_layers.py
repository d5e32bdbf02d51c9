"""Arrows point down: every unit imports lower layers only, and outside packages stay at home."""

import ast
import pathlib

import pytest

import densityjax

ROOT = pathlib.Path(densityjax.__file__).parent
LAYERS = (
    "_typing numerics",
    "bijectors",
    "networks distributions",
    "regimes targets",
    "losses samplers densities risk backtest market evaluation",
    "models training",
    "strategies estimators",
    "pipeline",
    "report live",
    "experiment",
)
LEVEL = {unit: level for level, units in enumerate(LAYERS) for unit in units.split()}
PANDAS = {"market", "estimators", "pipeline", "report", "live", "experiment", "backtest"}
HOMES = {
    "flax": {"networks"},
    "distrax": {"distributions"},
    "orbax": {"training"},
    "optax": {"training"},
    "ccxt": {"market", "live"},
    "arch": {"risk", "market"},
    "matplotlib": {"report"},
    "pandas": PANDAS,
    "pyarrow": PANDAS,
    "sklearn": {"estimators", "risk", "regimes", "evaluation"},
    "rich": {"pipeline", "experiment", "live"},
    "torch": set(),
    "vectorbt": set(),
}


def imports_of(text, path):
    """Yields (unit of the file, imported package, imported unit or '') of each real import."""
    parts = path.relative_to(ROOT).parts
    unit = parts[0].removesuffix(".py")
    tree = ast.parse(text)
    typing_only = {
        id(node)
        for branch in ast.walk(tree)
        if isinstance(branch, ast.If) and "TYPE_CHECKING" in ast.unparse(branch.test)
        for node in ast.walk(branch)
    }
    for node in ast.walk(tree):
        if id(node) in typing_only:
            continue
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = [] if node.level == 0 else ["densityjax", *parts[: len(parts) - node.level]]
            prefix = ".".join([*base, *([node.module] if node.module else [])])
            names = [f"{prefix}.{alias.name}" for alias in node.names]
        else:
            continue
        for name in names:
            package, other, *_ = f"{name}.".split(".")
            yield unit, package, other


def violations(text, path):
    """Returns one line for each arrow that points up or sideways, or away from a package's home."""
    found = []
    for unit, package, other in imports_of(text, path):
        if unit == "__init__":
            continue
        if unit not in LEVEL:
            found.append(f"{path.name}: no layer names the unit {unit!r}")
        elif package == "densityjax":
            if other == "__version__" or other == unit:
                continue
            if other not in LEVEL:
                found.append(f"{path.name}: imports {other!r}, which no layer names")
            elif LEVEL[other] >= LEVEL[unit]:
                found.append(f"{path.name}: {unit} imports {other}, which is not below it")
        elif unit not in HOMES.get(package, {unit}):
            found.append(f"{path.name}: {package} is imported away from its home")
    return found


def test_units_import_only_from_layers_below_and_packages_stay_at_home():
    files = sorted(ROOT.rglob("*.py"))
    found = [line for path in files for line in violations(path.read_text(), path)]
    assert files
    assert not found, "\n".join(found)


@pytest.mark.parametrize(
    ("unit", "text"),
    [
        ("bijectors/x.py", "from densityjax.models import flow"),
        ("bijectors/x.py", "from densityjax import networks"),
        ("bijectors/x.py", "from ..losses import likelihood"),
        ("losses/x.py", "from densityjax.risk import tails"),
        ("losses/x.py", "def f():\n    import flax.linen as nn"),
        ("market/x.py", "import torch"),
        ("nowhere/x.py", "import numpy"),
        ("models/x.py", "import densityjax.nowhere"),
    ],
)
def test_a_planted_violation_is_caught(unit, text):
    assert violations(text, ROOT / unit)


@pytest.mark.parametrize(
    ("unit", "text"),
    [
        ("models/x.py", "from densityjax import bijectors, networks"),
        ("models/x.py", "from .flow import Flow\nfrom . import forecaster"),
        (
            "models/x.py",
            "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from densityjax import live",
        ),
    ],
)
def test_a_lawful_import_passes(unit, text):
    assert not violations(text, ROOT / unit)
