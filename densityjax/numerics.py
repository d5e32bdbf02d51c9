"""Every tolerance and floor of the package, with unit and reason, beside the guarded operations."""

import math

BASIS_POINT = 1e-4  # one basis point, as a fraction

MIN_BIN = 1e-3  # smallest spline bin, as a fraction of the interval: no bin can collapse
MIN_SLOPE = 1e-3  # smallest knot derivative of a spline: the inverse stays Lipschitz

SCALE_FLOOR = 1e-8  # smallest scale of a standardiser, relative to the size of the data


def softplus_inverse(value: float) -> float:
    """Returns `u` with `softplus(u) = value`, for a positive Python number."""
    return value + math.log(-math.expm1(-value))
