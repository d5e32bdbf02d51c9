"""Rounding errors of rational-quadratic splines in single precision, ours beside the usual forms.

All forms get the same float32 knots and inputs and are held against the published formulas in
extended precision. `textbook, root` evaluates the root 2 c / (-b - sqrt(b^2 - 4 a c)), with the
discriminant clamped at 0, and takes the slope at it; `textbook, point` leaves the discriminant as
it is, rounds the root to an x and takes the slope there. They are what widely used libraries
evaluate, written from the paper: Durkan et al., Neural Spline Flows, 2019
(https://arxiv.org/abs/1906.04032), equations 4-8. distrax is itself. The inverse is where they
differ: beside a knot the textbook root cancels.
"""

import functools
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from densityjax._typing import Array, NumpyArray
from densityjax.bijectors import rational_quadratic_spline as rqs

_Map = Callable[[rqs.Knots, Array], tuple[Array, Array]]
NEAREST = 7.0  # inputs near a knot keep 10^-2 to 10^-7 of a bin away from it


class Errors(NamedTuple):
    """Largest absolute errors of one form over the inputs that came out finite.

    Attributes:
      forward: of y, in units of y.
      forward_log_slope: of log dy/dx, in nats.
      inverse: of x, in units of x.
      inverse_log_slope: of log dx/dy, in nats.
      round_trip: of the inverse of forward against x; rounding of y alone makes this large where
        the spline is flat, for every form.
      num_not_finite: number of values and log slopes, of both directions, that are not finite.
    """

    forward: float
    forward_log_slope: float
    inverse: float
    inverse_log_slope: float
    round_trip: float
    num_not_finite: int


def forms() -> dict[str, tuple[_Map, _Map]]:
    """Returns, by name, forward and inverse of each form as functions of knots and one scalar."""
    return {
        "densityjax": (rqs.forward, rqs.inverse),
        "distrax": _distrax_form(),
        "textbook, root": (_textbook_forward, _textbook_inverse_at_root),
        "textbook, point": (_textbook_forward, _textbook_inverse_at_point),
    }


def measure(
    scale: float,
    *,
    near: bool,
    num_splines: int = 32,
    num_inputs: int = 1000,
    num_bins: int = 8,
    seed: int = 0,
) -> dict[str, Errors]:
    """Measures every form on random splines over [-3, 3].

    Args:
      scale: standard deviation of the logits of the knots.
      near: inputs close below a knot instead of uniform ones.
      num_splines: number of splines; which bins are extreme is luck of the draw.
      num_inputs: number of inputs of either direction for each spline.
      num_bins: number of bins.
      seed: of knots and inputs.

    Returns:
      The `Errors` by the name of the form.
    """
    rng = np.random.default_rng(seed)
    logits = scale * rng.standard_normal((num_splines, rqs.num_logits(num_bins)))
    build = jax.jit(jax.vmap(functools.partial(rqs.knots_from_logits, bound=3.0)))
    knots = jax.device_get(build(jnp.asarray(logits, jnp.float32)))
    draw, inputs, exact = (_near_knots if near else _uniform), [], []
    for i in range(num_splines):
        wide = jax.tree.map(lambda leaf, i=i: np.asarray(leaf[i], np.longdouble), knots)
        x, y = (draw(edges[i], rng, num_inputs) for edges in (knots.x, knots.y))
        inputs.append((x, y))
        exact.append((*exact_forward(wide, x), *exact_inverse(wide, y), x))
    x, y = (np.stack(part) for part in zip(*inputs, strict=True))
    truth = [np.stack(part) for part in zip(*exact, strict=True)]
    return {name: _errors(form, knots, x, y, truth) for name, form in forms().items()}


def exact_forward(knots: Any, x: NumpyArray) -> tuple[NumpyArray, NumpyArray]:
    """Evaluates the published formulas on the host, in the precision of `knots`.

    Args:
      knots: `Knots` of host arrays of shape [K + 1], of extended precision to be exact.
      x: [N] inputs inside the interval.

    Returns:
      y and log dy/dx, [N] each, in float64.
    """
    k = np.clip(np.searchsorted(knots.x, x, side="right") - 1, 0, len(knots.x) - 2)
    width = knots.x[k + 1] - knots.x[k]
    return _at(knots, k, (x.astype(knots.x.dtype) - knots.x[k]) / width)


def exact_inverse(knots: Any, y: NumpyArray) -> tuple[NumpyArray, NumpyArray]:
    """Undoes `exact_forward`; returns x and log dx/dy at `y`, [N] each, in float64."""
    k = np.clip(np.searchsorted(knots.y, y, side="right") - 1, 0, len(knots.y) - 2)
    width, height = knots.x[k + 1] - knots.x[k], knots.y[k + 1] - knots.y[k]
    rise, s = y.astype(knots.y.dtype) - knots.y[k], height / width
    e = knots.slope[k] + knots.slope[k + 1] - 2 * s
    a, b, c = (
        height * (s - knots.slope[k]) + rise * e,
        height * knots.slope[k] - rise * e,
        -s * rise,
    )
    root = np.sqrt(np.maximum(b * b - 4 * a * c, 0))
    # Of the two equal quotients the one without a difference of like numbers.
    upper = np.where(b >= 0, 2 * c, root - b)
    lower = np.where(b >= 0, -b - root, np.where(a == 0, 1, 2 * a))
    xi = upper / lower
    _, log_slope = _at(knots, k, xi)
    return (knots.x[k] + xi * width).astype(np.float64), -log_slope


def _at(knots: Any, k: NumpyArray, xi: NumpyArray) -> tuple[NumpyArray, NumpyArray]:
    """Evaluates y and log dy/dx at the fractions `xi` of the bins `k`."""
    height = knots.y[k + 1] - knots.y[k]
    s, both = height / (knots.x[k + 1] - knots.x[k]), xi * (1 - xi)
    d0, d1 = knots.slope[k], knots.slope[k + 1]
    den = s + (d0 + d1 - 2 * s) * both
    y = knots.y[k] + height * (s * xi**2 + d0 * both) / den
    slope = s**2 * (d1 * xi**2 + 2 * s * both + d0 * (1 - xi) ** 2) / den**2
    return y.astype(np.float64), np.log(slope).astype(np.float64)


def _uniform(edges: NumpyArray, rng: np.random.Generator, size: int) -> NumpyArray:
    return rng.uniform(edges[0], edges[-1], size).astype(np.float32).clip(*_inside(edges))


def _near_knots(edges: NumpyArray, rng: np.random.Generator, size: int) -> NumpyArray:
    """Draws inputs 10^-2 to 10^-7 of a bin below its upper knot."""
    k = rng.integers(0, len(edges) - 1, size)
    gap = 10.0 ** -rng.uniform(2.0, NEAREST, size)
    values = edges[k + 1] - gap * np.diff(edges)[k]
    return values.astype(np.float32).clip(*_inside(edges))


def _inside(edges: NumpyArray) -> tuple[NumpyArray, NumpyArray]:
    """Returns the first and last single-precision number strictly between the end knots."""
    return np.nextafter(edges[0], edges[-1]), np.nextafter(edges[-1], edges[0])


def _errors(
    form: tuple[_Map, _Map], knots: rqs.Knots, x: NumpyArray, y: NumpyArray, truth: list
) -> Errors:
    forward, inverse = (jax.vmap(jax.vmap(fn, (None, 0))) for fn in form)

    def run(knots: rqs.Knots, x: Array, y: Array) -> tuple[Array, ...]:
        there = forward(knots, x)
        return (*there, *inverse(knots, y), inverse(knots, there[0])[0])

    got = [np.asarray(v, np.float64) for v in jax.jit(run)(knots, x, y)]
    largest = [
        float(np.abs(value - want)[np.isfinite(value)].max())
        for value, want in zip(got, truth, strict=True)
    ]
    bad = sum(int((~np.isfinite(value)).sum()) for value in got[:4])
    return Errors(*largest, num_not_finite=bad)


class _Bin(NamedTuple):
    x: Array
    y: Array
    width: Array
    height: Array
    d0: Array
    d1: Array


def _bin(knots: rqs.Knots, edges: Array, value: Array) -> _Bin:
    k = jnp.clip(jnp.searchsorted(edges, value, side="right") - 1, 0, edges.shape[0] - 2)
    x, y, d = (leaf[k] for leaf in knots)
    return _Bin(x, y, knots.x[k + 1] - x, knots.y[k + 1] - y, d, knots.slope[k + 1])


def _textbook_slope(cell: _Bin, xi: Array) -> Array:
    """Equation 5."""
    s, both = cell.height / cell.width, xi * (1.0 - xi)
    numerator = s**2 * (cell.d1 * xi**2 + 2.0 * s * both + cell.d0 * (1.0 - xi) ** 2)
    return numerator / (s + (cell.d0 + cell.d1 - 2.0 * s) * both) ** 2


def _textbook_forward(knots: rqs.Knots, x: Array) -> tuple[Array, Array]:
    """Equations 4 and 5 as they stand."""
    cell = _bin(knots, knots.x, x)
    s, xi = cell.height / cell.width, (x - cell.x) / cell.width
    both = xi * (1.0 - xi)
    den = s + (cell.d0 + cell.d1 - 2.0 * s) * both
    y = cell.y + cell.height * (s * xi**2 + cell.d0 * both) / den
    return y, jnp.log(_textbook_slope(cell, xi))


def _textbook_root(cell: _Bin, y: Array, least: float) -> Array:
    """Equations 6 to 8 as they stand, with a discriminant of at least `least`."""
    s, rise = cell.height / cell.width, y - cell.y
    e = cell.d0 + cell.d1 - 2.0 * s
    a = cell.height * (s - cell.d0) + rise * e
    b = cell.height * cell.d0 - rise * e
    c = -s * rise
    return 2.0 * c / (-b - jnp.sqrt(jnp.maximum(b * b - 4.0 * a * c, least)))


def _textbook_inverse_at_root(knots: rqs.Knots, y: Array) -> tuple[Array, Array]:
    cell = _bin(knots, knots.y, y)
    xi = _textbook_root(cell, y, 0.0)
    return cell.x + xi * cell.width, -jnp.log(_textbook_slope(cell, xi))


def _textbook_inverse_at_point(knots: rqs.Knots, y: Array) -> tuple[Array, Array]:
    cell = _bin(knots, knots.y, y)
    x = cell.x + _textbook_root(cell, y, -math.inf) * cell.width
    return x, -_textbook_forward(knots, x)[1]


def _distrax_form() -> tuple[_Map, _Map]:
    from distrax._src.bijectors import rational_quadratic_spline as theirs

    def forward(knots: rqs.Knots, x: Array) -> Any:
        return theirs._rational_quadratic_spline_fwd(x, knots.x, knots.y, knots.slope)

    def inverse(knots: rqs.Knots, y: Array) -> Any:
        return theirs._rational_quadratic_spline_inv(y, knots.x, knots.y, knots.slope)

    return forward, inverse
