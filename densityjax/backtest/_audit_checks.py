"""The checks behind `audit_lookahead`, each a function from a pipeline and bars to a finding."""

from collections.abc import Callable, Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd

from densityjax._typing import Array, ArrayLike, NumpyArray
from densityjax.backtest._audit_outputs import (
    Leak,
    Pipeline,
    differs,
    first_difference,
    output_of,
)

ROUNDING = 1e-5  # relative, of what may differ where sums run over other lengths
HUGE = 1e6  # factor on future bars where a pipeline refuses NaN: no rounding hides it
STARTS = (0.1, 0.3, 0.5)  # share of the bars at which a later history begins


class AuditCheck(NamedTuple):
    """One way of looking.

    Attributes:
      name: 'replaced', 'truncated', 'shuffled', 'poisoned', 'warm-up', 'derivative' or 'stamps'.
      passed: whether nothing was found; None where the check could not be made.
      row: first row that knows its future, -1 where there is none.
      column: the output's column there, '' where there is none.
      detail: what was found, in words.
    """

    name: str
    passed: bool | None
    row: int
    column: str
    detail: str


def compare(
    name: str,
    pipeline: Pipeline,
    whole: pd.DataFrame,
    futures: list[tuple[int, pd.DataFrame]],
    *,
    tolerance: float = 0.0,
    skips: Callable[[int], bool] = lambda cut: False,
) -> AuditCheck:
    """Runs a pipeline on bars with changed futures and compares the rows up to each cut.

    Args:
      name: of the check.
      pipeline: bars -> output.
      whole: [T] output on the bars as they are.
      futures: (last row that stays, bars) pairs.
      tolerance: relative to the size of a column; 0 asks for equality bit for bit.
      skips: whether an error at a cut means that history is too short there.

    Returns:
      The `AuditCheck`; it reports the first leak in time of those found.
    """
    leaks, num_run, refusal = [], 0, ""
    for cut, bars in futures:
        try:
            other = output_of(pipeline, bars)
        except Exception as error:
            refusal = f"{type(error).__name__}: {error}".splitlines()[0]
            if not skips(cut):
                return AuditCheck(name, None, -1, "", f"the pipeline refused it: {refusal}")
            continue
        num_run += 1
        rows = slice(0, cut + 1)
        leak = first_difference(whole.iloc[rows], other.iloc[rows], tolerance)
        leaks += [leak] if leak else []
    if not num_run:
        return AuditCheck(name, None, -1, "", f"the pipeline refused it: {refusal}")
    return _verdict(name, leaks, f"rows up to each of {num_run} cuts are equal")


def check_truncated(
    pipeline: Pipeline, bars: pd.DataFrame, whole: pd.DataFrame, cuts: NumpyArray, warmup: int
) -> AuditCheck:
    """Compares with bars that end at each cut; a history too short to run at all is left out.

    Args:
      pipeline: bars -> output.
      bars: [T] bars.
      whole: [T] output on all of them.
      cuts: last rows.
      warmup: rows below which a pipeline may refuse.

    Returns:
      The `AuditCheck`.
    """
    futures = [(int(cut), bars.iloc[: cut + 1]) for cut in cuts]
    shortest = max(warmup, len(bars) // 4)
    return compare(
        "truncated",
        pipeline,
        whole,
        futures,
        tolerance=ROUNDING,
        skips=lambda cut: cut < shortest,
    )


def check_poisoned(
    pipeline: Pipeline, bars: pd.DataFrame, whole: pd.DataFrame, cuts: NumpyArray
) -> AuditCheck:
    """Makes the future NaN, or a million times as large where the pipeline refuses NaN."""
    numbers = bars.select_dtypes("floating").columns

    def poisoned(value: float) -> list[tuple[int, pd.DataFrame]]:
        futures = []
        for cut in cuts:
            changed = bars.copy()
            future = changed.index[cut + 1 :]
            changed.loc[future, numbers] = value * bars.loc[future, numbers]
            futures.append((int(cut), changed))
        return futures

    check = compare("poisoned", pipeline, whole, poisoned(np.nan), tolerance=ROUNDING)
    if check.passed is not None:
        return check
    huge = compare("poisoned", pipeline, whole, poisoned(HUGE), tolerance=ROUNDING)
    return huge._replace(detail=f"{huge.detail} (future times {HUGE:.0e}: NaN is refused)")


def check_warmup(
    pipeline: Pipeline, bars: pd.DataFrame, whole: pd.DataFrame, warmup: int | None
) -> AuditCheck:
    """Begins history later; past the warm-up the output has to be what it was.

    Args:
      pipeline: bars -> output.
      bars: [T] bars.
      whole: [T] output on all of them.
      warmup: declared number of rows; None only measures.

    Returns:
      The `AuditCheck`, with the rows after which outputs agree; without a declaration and without
      agreement there is nothing to judge, and `passed` is None.
    """
    name, needed, worst, num_run, refusal = "warm-up", 0, None, 0, ""
    for share in STARTS:
        start = int(share * len(bars))
        try:
            later = output_of(pipeline, bars.iloc[start:])
        except Exception as error:
            refusal = f"{type(error).__name__}: {error}".splitlines()[0]
            continue
        num_run += 1
        apart = differs(whole.iloc[start:], later, ROUNDING)
        rows = np.flatnonzero(apart.any(axis=1))
        if rows.size and rows[-1] + 1 > needed:
            needed = int(rows[-1]) + 1
            column = int(np.flatnonzero(apart[rows[-1]])[0])
            worst = (start + needed - 1, str(whole.columns[column]), len(later))
    if not num_run:
        return AuditCheck(name, None, -1, "", f"the pipeline refused it: {refusal}")
    never = worst is not None and needed >= worst[2]
    if worst is not None and (never or (warmup is not None and needed > warmup)):
        detail = f"row {worst[0]} of {worst[1]!r} still depends on where history began"
        if warmup is None:
            return AuditCheck(name, None, worst[0], worst[1], f"{detail}; none was declared")
        detail += f", {needed} rows on; declared are {warmup}"
        return AuditCheck(name, False, worst[0], worst[1], detail)
    return AuditCheck(name, True, -1, "", f"outputs agree after {needed} rows")


def check_derivative(
    jax_fn: Callable[[Array], Array] | None, x: NumpyArray, cuts: NumpyArray
) -> AuditCheck:
    """Takes one vector-Jacobian product for each cut; it has to vanish on the rows after it.

    Args:
      jax_fn: [T, F] to [T, ...], or None.
      x: [T, F] where to differentiate.
      cuts: last rows of the outputs that are looked at.

    Returns:
      The `AuditCheck`; not made where the derivative is zero everywhere.
    """
    name = "derivative"
    if jax_fn is None:
        return AuditCheck(name, None, -1, "", "no differentiable function was given")
    output, pull_back = jax.vjp(jax_fn, jnp.asarray(x, float))
    if output.shape[:1] != (len(x),):
        raise ValueError(f"jax_fn returns shape {output.shape}: accepted are {len(x)} rows")
    weights = np.random.default_rng(0).uniform(0.5, 1.5, output.shape)
    size, leaks = 0.0, []
    for cut in cuts:
        is_past = np.arange(len(x)) <= cut
        cotangent = weights * is_past.reshape(-1, *(1,) * (output.ndim - 1))
        slope = np.abs(np.asarray(pull_back(jnp.asarray(cotangent, output.dtype))[0]))
        slope = slope.reshape(len(x), -1).max(1)
        size = max(size, float(slope.max()))
        ahead = np.flatnonzero(slope[cut + 1 :])
        if ahead.size:
            leaks.append((int(cut), int(cut + 1 + ahead[-1]), float(slope[cut + 1 :].max())))
    if leaks:
        cut, source, slope = leaks[0]
        detail = f"rows up to {cut} depend on row {source}, slope {slope:.3g}"
        return AuditCheck(name, False, cut, "", detail)
    if not size > 0.0:
        return AuditCheck(name, None, -1, "", "the derivative is zero everywhere: it sees nothing")
    return AuditCheck(name, True, -1, "", f"zero on all rows after each of {len(cuts)} cuts")


def check_stamps(bars: pd.DataFrame, available_at: Mapping[str, ArrayLike] | None) -> AuditCheck:
    """Checks times: bars open in order and in UTC, and joined values are known at their close.

    Args:
      bars: [T] bars.
      available_at: name -> [T] times at which joined values became known.

    Returns:
      The `AuditCheck`.
    """
    name, index = "stamps", bars.index
    if not isinstance(index, pd.DatetimeIndex) or index.tz is None:
        return AuditCheck(name, False, 0, "", "bars carry no UTC times")
    if str(index.tz) != "UTC" or not (index.is_monotonic_increasing and index.is_unique):
        return AuditCheck(name, False, 0, "", "times are not UTC or do not increase strictly")
    interval = pd.Series(index).diff().median()
    closes = index + interval
    for column, times in (available_at or {}).items():
        known = pd.DatetimeIndex(pd.to_datetime(np.asarray(times), utc=True))
        if len(known) != len(index):
            raise ValueError(f"available_at[{column!r}] has {len(known)} rows, not {len(index)}")
        late = np.flatnonzero(known > closes)
        if late.size:
            row = int(late[0])
            detail = (
                f"{column!r} of row {row} is known at {known[row]}, its bar closes {closes[row]}"
            )
            return AuditCheck(name, False, row, column, detail)
    num = len(available_at or {})
    return AuditCheck(name, True, -1, "", f"open times in order, {num} joined columns in time")


def _verdict(name: str, leaks: list[Leak], well: str) -> AuditCheck:
    """Reports the first leak in time, or that all is well."""
    if not leaks:
        return AuditCheck(name, True, -1, "", well)
    leak = min(leaks, key=lambda each: each.row)
    detail = f"row {leak.row} of {leak.column!r} was {leak.was:.6g} and became {leak.became:.6g}"
    return AuditCheck(name, False, leak.row, leak.column, detail)
