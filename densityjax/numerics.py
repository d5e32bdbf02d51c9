"""Every tolerance and floor of the package, with unit and reason, beside the guarded operations."""

import math

BASIS_POINT = 1e-4  # one basis point, as a fraction

MIN_BIN = 1e-3  # smallest spline bin, as a fraction of the interval: no bin can collapse
MIN_SLOPE = 1e-3  # smallest knot derivative of a spline: the inverse stays Lipschitz

SPLINE_BOUND = 4.0  # half-width of spline intervals, in sd of the base: 6e-5 of it lies outside
MAX_LOG_SCALE = 4.0  # largest |log scale| a network can ask for: a factor of 55 either way
MAX_LAYER_LOG_SCALE = 2.0  # largest |log scale| of one affine layer: a factor of 7 either way

BISECTIONS = 30  # halvings of a bracket: 1e-9 of its width, below float32 rounding
BIN_NODES = 10  # least Gauss-Legendre nodes in a bin of a spline: 1e-5 sd of a moment, typically
LINE_NODES = 64  # least Gauss-Legendre nodes between the ends of a spline, over all its bins
NEWTON_SHARE = 1e-4  # of a bracket: a Newton step below it leaves an error of about its square
BISECTION_SHARE = 1e-7  # of a bracket: half of it, below float32 rounding, ends a bisection
SCORE_NODES = 64  # Gauss-Legendre nodes on each side of a realised return: 1e-5 of the score
NORMAL_RANGE = 9.0  # sd of the base covered by moments: 1e-19 of it lies outside

RETURN_ROUNDING = 1e-15  # log return, no unit: rounding of a price ratio; smaller sd means flat
RELATIVE_VOLATILITY_FLOOR = 0.02  # smallest volatility, of the mean one so far: logs stay finite
VOLATILITY_FLOOR = 1e-6  # smallest volatility of a bar, log return: a hundredth of a basis point
CORRELATION_SHRINKAGE = 1e-2  # share of the identity in a correlation matrix before its inverse
CORRELATION_FLOOR = 1e-4  # smallest eigenvalue of a correlation: r and ln(1 + r) fall below it

SCALE_FLOOR = 1e-8  # smallest scale of a standardiser, relative to the size of the data

TAIL_INDEX_MARGIN = 0.02  # share of the largest moment left out: its quadrature would not converge
MAX_BISECTIONS = 100  # safeguarded Newton steps of a quantile; about eight are used
QUANTILE_RELATIVE_ERROR = 1e-13  # of a quantile, relative: a few roundings of float64

MIN_TAIL_SHAPE = 1e-3  # smallest generalised Pareto shape: its derivative divides by the square
MIN_SHARE = 1e-6  # a share in (0, 1) is kept this far from its ends, where its logit is finite
NEWTON_DAMPING = 1e-2  # first damping of a Newton step, against curvatures of order 1
LAMBERT_LOG_SWITCH = 50.0  # log of the argument of W beyond which it is solved in logs: no overflow
LAMBERT_CUBE_CAP = 1e12  # largest noise value whose cube single precision holds
SQUARE_CAP = 1e15  # size beyond which squares and their sums near the end of single precision
SERIES_SWITCH = 1e-2  # argument below which nine terms of a series are exact to rounding of float64
ATOM_MARGIN = 1e-4  # where an atom at the end of a bounded feature goes: logit 9, inside float32

FLAT_SPREAD = 1e-12  # sd of returns relative to the largest: below it a path is flat, not smooth
FLAT_SHARE = 64.0  # variance of streamed sums, in roundings of the mean square: below it is noise
SHARE_ROUNDING = 1e-15  # of a share such as 1 - .9, no unit: a few roundings of float64
LARGEST_Z = 1e6  # no unit: a z-score against a past without spread stays a finite number

CAP_ROUNDINGS = 8.0  # roundings of a position by which it may exceed its cap without an order
REPLAY_ERROR = 1e-9  # relative difference of equity between engine and ledger, both in float64
REPLAY_FLOOR = 1e-6  # equity, of that at the start, below which differences are absolute
GRID_ERROR = 2e-3  # relative error of an equity that a grid compounded in float32, 1e5 bars
DECISION_ERROR = 1e-6  # relative distance within which float32 may decide a stop or band otherwise


def softplus_inverse(value: float) -> float:
    """Returns `u` with `softplus(u) = value`, for a positive Python number."""
    return value + math.log(-math.expm1(-value))
