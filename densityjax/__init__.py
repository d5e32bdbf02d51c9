"""Densities of markets in JAX: flows, score models and energy models behind one face.

Units are imported when they are first asked for: `import densityjax` is free, and
`densityjax.market` works after it.
"""

import importlib
import pkgutil
from types import ModuleType

__version__ = "0.1.0"


def __getattr__(name: str) -> ModuleType:
    """Imports the unit `name` when it is first asked for."""
    if name.startswith("_") or name not in _units():
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return importlib.import_module(f"{__name__}.{name}")


def __dir__() -> list[str]:
    """Lists the names that are there and the units that can be imported."""
    return sorted({*globals(), *_units()})


def _units() -> list[str]:
    return [module.name for module in pkgutil.iter_modules(__path__) if module.name[0] != "_"]
