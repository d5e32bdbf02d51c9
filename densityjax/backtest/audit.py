"""Does any output of row t know a bar after t? Separate checks, each of which some leaks escape.

A pipeline maps bars to features, signals or positions, one row for a bar. The checks change what
comes after a cut t in different ways and look at the rows up to t:

- replaced: other bars stand in the future; the past must be equal bit for bit;
- truncated: there is no future; equal up to rounding;
- shuffled: the future's bars change places; equal bit for bit;
- poisoned: the future is NaN, or huge where a pipeline refuses NaN; equal up to rounding;
- warm-up: history begins later; equal, up to rounding, once the declared warm-up is over;
- derivative: d row_t / d bar_s is exactly zero for s > t. It cannot see leaks through signs and
  comparisons, whose derivative is zero: it is never the only check;
- stamps: rows carry the open times of bars, and what is joined was available at the close.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from densityjax._typing import Array, ArrayLike, NumpyArray
from densityjax.backtest import _audit_checks as checks
from densityjax.backtest import _audit_outputs as outputs
from densityjax.backtest._audit_checks import AuditCheck
from densityjax.backtest._audit_outputs import Pipeline

CUT_SHARES = (0.01, 0.03, 0.1, 0.25, 0.4, 0.55, 0.7, 0.85, 0.97)  # early ones catch backfills
FUTURES = ("replaced", "truncated", "shuffled", "poisoned")  # checks that change what comes later


class AuditReport(NamedTuple):
    """Outcome of an audit: `checks`, one for each way of looking."""

    checks: tuple[AuditCheck, ...]

    @property
    def passed(self) -> bool:
        """Whether no check failed, and the future was changed in at least one way."""
        looked = any(check.passed for check in self.checks if check.name in FUTURES)
        return looked and not self.failed

    @property
    def failed(self) -> tuple[str, ...]:
        """The names of the checks that failed."""
        return tuple(check.name for check in self.checks if check.passed is False)

    def to_frame(self) -> pd.DataFrame:
        """Returns one row for each check, indexed by its name."""
        return pd.DataFrame(list(self.checks)).set_index("name")

    def __str__(self) -> str:
        words = {True: "passed", False: "FAILED", None: "not made"}
        return "\n".join(f"{c.name:<10} {words[c.passed]:<9} {c.detail}" for c in self.checks)


def audit_lookahead(
    pipeline: Pipeline,
    bars: pd.DataFrame,
    *,
    warmup: int | None = None,
    cuts: Sequence[int] | None = None,
    jax_fn: Callable[[Array], Array] | None = None,
    jax_input: ArrayLike | None = None,
    available_at: Mapping[str, ArrayLike] | None = None,
    num_shuffles: int = 3,
    random_state: int = 0,
) -> AuditReport:
    """Audits a pipeline for look-ahead, in every way that its form allows.

    Args:
      pipeline: bars -> frame indexed as (some of) the bars, or array of one row for each bar; pure.
      bars: [T] bars with open, high, low, close and what else the pipeline reads; T of a few
        hundred will do, a pipeline is called about forty times.
      warmup: rows that history needs before outputs settle, as the pipeline declares it; None
        measures it and fails nothing.
      cuts: rows t after which the future is changed; None takes some, early ones among them.
      jax_fn: the differentiable part of the pipeline, [T, F] to [T, ...], before any threshold.
      jax_input: [T, F] what it is differentiated at; None takes log returns and relative volume.
      available_at: name -> [T] time at which what was joined to each bar became known.
      num_shuffles: permutations of the future at each cut.
      random_state: seed of the replaced and the shuffled future.

    Returns:
      The `AuditReport`.

    Raises:
      ValueError: if bars are too few, a cut is out of range, or the pipeline's output cannot be
        matched with the bars.

    Example:
      >>> index = pd.date_range("2024-01-01", periods=60, freq="h", tz="UTC", name="timestamp")
      >>> close = 100.0 + np.cumsum(np.sin(np.arange(60.0)))
      >>> bars = pd.DataFrame({name: close for name in ("open", "high", "low", "close")}, index)
      >>> audit_lookahead(lambda b: b.close.rolling(5, center=True).mean(), bars).failed
      ('replaced', 'truncated', 'shuffled', 'poisoned')
    """
    num = len(bars)
    if num < 20:
        raise ValueError(f"bars has {num} rows: accepted are 20 and more")
    chosen = np.unique([int(share * num) for share in CUT_SHARES] if cuts is None else cuts)
    if chosen.size == 0 or chosen[0] < 0 or chosen[-1] > num - 2:
        raise ValueError(f"cuts are {chosen.tolist()}: accepted are rows from 0 to {num - 2}")
    whole = outputs.output_of(pipeline, bars)
    rng = np.random.default_rng(random_state)
    futures = {
        "replaced": [(cut, outputs.replace_future(bars, cut, rng)) for cut in chosen],
        "shuffled": [
            (cut, outputs.shuffle_future(bars, cut, rng))
            for cut in chosen
            for _ in range(num_shuffles)
        ],
    }
    found = [checks.compare(name, pipeline, whole, each) for name, each in futures.items()]
    truncated = checks.check_truncated(pipeline, bars, whole, chosen, warmup or 0)
    found.insert(1, truncated)
    found.append(checks.check_poisoned(pipeline, bars, whole, chosen))
    found.append(checks.check_warmup(pipeline, bars, whole, warmup))
    found.append(checks.check_derivative(jax_fn, _jax_input(bars, jax_input), chosen))
    found.append(checks.check_stamps(bars, available_at))
    return AuditReport(tuple(found))


def _jax_input(bars: pd.DataFrame, given: Any) -> NumpyArray:
    """Returns what the differentiable part is differentiated at, [T, F]."""
    if given is not None:
        return np.asarray(given)
    names = [name for name in ("open", "high", "low", "close") if name in bars]
    scaled = np.log(bars[names].to_numpy(np.float64) / float(bars["close"].iloc[0]))
    if "volume" in bars:
        volume = bars["volume"].to_numpy(np.float64)
        scaled = np.column_stack([scaled, volume / max(float(np.nanmean(volume)), 1.0)])
    return scaled
