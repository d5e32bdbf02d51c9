"""Type aliases used across the package; shapes are stated in docstrings and checked by chex."""

from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jax.typing import ArrayLike

Array = jax.Array
Key = jax.Array  # a typed key of `jax.random.key`
Params = Any  # a pytree of arrays
NumpyArray = np.ndarray
ScoreFn = Callable[[Array], Array]  # [D] -> [D]
LogDensityFn = Callable[[Array], Array]  # [D] -> []

__all__ = ["Array", "ArrayLike", "Key", "LogDensityFn", "NumpyArray", "Params", "ScoreFn"]
