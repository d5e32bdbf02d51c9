"""Positions from the score of the next return: gates, confidence, a stable direction, a size.

One bar t enters as scalars known at its close: the score of the NEXT return at 0 and its confidence
(see `score_reading`; of several members, `score_vote`) and how ordinary the state is. `step` also
carries what earlier bars left, so that one bar at a time equals the batch. The signal is direction
times confidence, and the size is that signal times a base: confidence counts once.
"""

import enum
import math
from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np

from densityjax._typing import Array, ArrayLike, NumpyArray
from densityjax.backtest.rules import is_ordinary
from densityjax.strategies.score_reading import should_trade, variance_scale


class Reason(enum.IntEnum):
    """Why a bar has the signal it has; earlier members win where several apply."""

    NON_FINITE = 0  # an input is NaN or infinite
    TOO_SHORT = 1  # fewer bars than the lookback so far
    OUT_OF_DISTRIBUTION = 2  # the state is too strange for its score to be trusted
    NO_DIRECTION = 3  # the score is zero
    LOW_CONFIDENCE = 4  # confidence is below its minimum
    UNSTABLE = 5  # the direction has not lasted long enough
    LONG = 6
    SHORT = 7


class ScoreRule(NamedTuple):
    """Thresholds and limits of the rule; every field may be an array axis of a `vmap`.

    Attributes:
      min_confidence: confidence from which on the rule trades, in [0, 1], itself included.
      lookback: bars that must have been seen, and over which the variance of the score is taken.
      num_stable: bars in a row, the last included, that must have the same direction.
      density_threshold: log density, in nats, under which a state counts as strange; take a
        quantile of validation log densities. Minus infinity leaves the gate open.
      min_p_value: conformal p-value up to which a state counts as strange; 0 leaves it open.
      base_size: position of full confidence, as a multiple of equity.
      reference_variance: variance of the score at which `variance_scale` is 1, in the score's
        squared unit; infinity holds the scale at its maximum, so that variance is not read.
      max_scale: largest `variance_scale`.
      max_position: largest position, as a multiple of equity.
    """

    min_confidence: ArrayLike = 0.3
    lookback: ArrayLike = 20
    num_stable: ArrayLike = 1
    density_threshold: ArrayLike = -math.inf
    min_p_value: ArrayLike = 0.0
    base_size: ArrayLike = 1.0
    reference_variance: ArrayLike = math.inf
    max_scale: ArrayLike = 1.0
    max_position: ArrayLike = 1.0


# What `score_signals` accepts: from, to, both included. Infinity would make NaN of a zero signal.
_LARGEST = float(np.finfo(np.float32).max)
_RULE_RANGES = {
    "min_confidence": (0.0, 1.0),
    "lookback": (1.0, _LARGEST),
    "num_stable": (1.0, _LARGEST),
    "density_threshold": (-math.inf, math.inf),
    "min_p_value": (0.0, 1.0),
    "base_size": (0.0, _LARGEST),
    "reference_variance": (float(np.finfo(np.float32).tiny), math.inf),  # a positive number
    "max_scale": (0.0, _LARGEST),
    "max_position": (0.0, math.inf),
}


class ScoreState(NamedTuple):
    """What the next bar needs.

    Attributes:
      num_bars: [] bars seen.
      direction: [] direction of the last one.
      run_length: [] bars in a row that had it; 0 where it is none.
      weight: [] sum of the exponential weights of the scores seen.
      mean: [] weighted mean of the scores.
      square: [] weighted sum of squared deviations from it.
    """

    num_bars: Array
    direction: Array
    run_length: Array
    weight: Array
    mean: Array
    square: Array


class ScoreSignal(NamedTuple):
    """Signal of one bar, or of T bars with a leading axis on every field.

    Attributes:
      signal: direction times confidence, 0 for no trade, NaN where an input was not finite.
      raw_signal: direction before all gates, 1, 0 or -1.
      score: score of the next return, as given.
      confidence: as given, in [0, 1].
      log_prob: log density of the state, in nats.
      in_distribution: whether the state passed the gates.
      run_length: bars in a row with this direction.
      score_variance: exponentially weighted variance of the score, in its squared unit.
      position_size: signed position, as a multiple of equity; NaN as `signal`.
      reason: a `Reason`.
      denoised_state: [D] the state without its noise, for display, never read; or None.
    """

    signal: Array
    raw_signal: Array
    score: Array
    confidence: Array
    log_prob: Array
    in_distribution: Array
    run_length: Array
    score_variance: Array
    position_size: Array
    reason: Array
    denoised_state: Array | None = None

    @property
    def is_buy(self) -> Array:
        """Whether the signal is long."""
        return self.signal > 0

    @property
    def is_sell(self) -> Array:
        """Whether the signal is short."""
        return self.signal < 0

    @property
    def is_no_trade(self) -> Array:
        """Whether the rule decided against a trade; false where it could not decide (NaN)."""
        return self.signal == 0


def start() -> ScoreState:
    """Returns the state before the first bar."""
    zero, none = jnp.zeros(()), jnp.zeros((), jnp.int32)
    return ScoreState(none, zero, none, zero, zero, zero)


def step(
    rule: ScoreRule,
    state: ScoreState,
    *,
    score: ArrayLike,
    confidence: ArrayLike,
    log_prob: ArrayLike = 0.0,
    p_value: ArrayLike = 1.0,
    direction: ArrayLike | None = None,
    is_familiar: ArrayLike = True,
    denoised_state: Array | None = None,
) -> tuple[ScoreState, ScoreSignal]:
    """Decides one bar, from what is known at its close and what the bars before left; jittable.

    Args:
      rule: thresholds and limits.
      state: of the bar before, or `start()`.
      score: [] score of the next return at 0, in one unit throughout, best 1 / sd.
      confidence: [] in [0, 1]; see `confidence`, or that of a vote.
      log_prob: [] log density of the state x_t, in nats.
      p_value: [] conformal p-value of the state, in (0, 1].
      direction: [] -1, 0 or 1, of a vote of several members; None takes the sign of `score`.
      is_familiar: [] whether a vote of several members finds the state ordinary.
      denoised_state: [D] for display, or None.

    Returns:
      The state, and a `ScoreSignal` of scalars. A bar with an input that is not finite gives NaN
      for signal and position and `Reason.NON_FINITE`, and leaves the state as it was.
    """
    direction = jnp.sign(jnp.asarray(score, float)) if direction is None else direction
    inputs = [jnp.asarray(v, float) for v in (score, confidence, log_prob, p_value, direction)]
    chex.assert_rank(inputs, 0)
    is_valid = jnp.all(jnp.isfinite(jnp.stack(inputs)))
    score, confidence, log_prob, p_value, direction = inputs
    after = _seen(rule, state, score, direction)
    after = jax.tree.map(lambda new, old: jnp.where(is_valid, new, old), after, state)
    variance = after.square / jnp.maximum(after.weight, 1.0)
    gates = (log_prob >= rule.density_threshold) & is_ordinary(p_value, rule.min_p_value)
    in_distribution = gates & is_familiar
    reason = jnp.select(
        [
            ~is_valid,
            after.num_bars < rule.lookback,
            ~in_distribution,
            direction == 0.0,
            ~should_trade(confidence, rule.min_confidence),
            after.run_length < rule.num_stable,
            direction > 0.0,
        ],
        [jnp.int32(reason) for reason in list(Reason)[:-1]],
        jnp.int32(Reason.SHORT),
    )
    trades = (reason == Reason.LONG) | (reason == Reason.SHORT)
    signal = jnp.where(is_valid, jnp.where(trades, direction * confidence, 0.0), jnp.nan)
    # Confidence is in the signal, and counts nowhere else.
    scale = variance_scale(variance, rule.reference_variance, rule.max_scale)
    limit = jnp.asarray(rule.max_position, float)
    size = jnp.clip(signal * rule.base_size * scale, -limit, limit)
    return after, ScoreSignal(
        signal=signal,
        raw_signal=direction,
        score=score,
        confidence=confidence,
        log_prob=log_prob,
        in_distribution=in_distribution,
        run_length=after.run_length,
        score_variance=variance,
        position_size=size,
        reason=reason,
        denoised_state=denoised_state,
    )


def _seen(rule: ScoreRule, state: ScoreState, score: Array, direction: Array) -> ScoreState:
    """Adds a bar to what is remembered; the variance forgets by a share of 2 / (lookback + 1)."""
    lookback = jnp.asarray(rule.lookback, float)
    kept = (lookback - 1.0) / (lookback + 1.0)
    weight = kept * state.weight + 1.0
    mean = state.mean + (score - state.mean) / weight
    same = jnp.where(direction == state.direction, state.run_length, 0) + 1
    return ScoreState(
        num_bars=state.num_bars + 1,
        direction=direction,
        run_length=jnp.where(direction == 0.0, 0, same).astype(jnp.int32),
        weight=weight,
        mean=mean,
        square=kept * state.square + (score - state.mean) * (score - mean),
    )


def score_signals(
    rule: ScoreRule,
    *,
    score: ArrayLike,
    confidence: ArrayLike,
    log_prob: ArrayLike | None = None,
    p_value: ArrayLike | None = None,
    direction: ArrayLike | None = None,
    is_familiar: ArrayLike | None = None,
    denoised_state: ArrayLike | None = None,
) -> ScoreSignal:
    """Decides T bars on the host, oldest first, as `step` one by one from `start()` would.

    Args:
      rule: thresholds and limits, scalars.
      score: [T] score of each next return at 0, in one unit.
      confidence: [T] in [0, 1].
      log_prob: [T] log density of each state, in nats, or None.
      p_value: [T] conformal p-value of each state, in (0, 1], or None.
      direction: [T] -1, 0 or 1, of votes, or None.
      is_familiar: [T] whether a vote finds the state ordinary, or None.
      denoised_state: [T, D] for display, or None.

    Returns:
      A `ScoreSignal` of NumPy arrays with a leading axis of T, which may be 0.

    Raises:
      ValueError: if lengths differ, a number of the rule is NaN or out of its range, or an input is
        not finite or out of its range: a broken model must not look like a cautious one.
    """
    columns = {
        "score": score,
        "confidence": confidence,
        "log_prob": log_prob,
        "p_value": p_value,
        "direction": direction,
        "is_familiar": is_familiar,
        "denoised_state": denoised_state,
    }
    arrays = {name: np.asarray(v) for name, v in columns.items() if v is not None}
    _check_inputs(rule, arrays)
    return jax.tree.map(np.asarray, _decide_bars(rule, arrays))


def signal_records(signals: ScoreSignal) -> list[dict[str, Any]]:
    """Returns one dictionary per bar, same keys on every branch, with the reason in words.

    Args:
      signals: a `ScoreSignal` of arrays with a leading axis of T.

    Returns:
      T dictionaries of Python values: the fields, `is_buy`, `is_sell` and `is_no_trade`.
    """
    fields = {k: np.asarray(v) for k, v in signals._asdict().items() if v is not None}
    for name in ("is_buy", "is_sell", "is_no_trade"):
        fields[name] = np.asarray(getattr(signals, name))
    rows = zip(*(column.tolist() for column in fields.values()), strict=True)
    records = [dict(zip(fields, row, strict=True)) for row in rows]
    return [record | {"reason": Reason(record["reason"]).name.lower()} for record in records]


@jax.jit
def _decide_bars(rule: ScoreRule, bars: dict[str, Array]) -> ScoreSignal:
    """Scans `step` over a dictionary of arrays with a leading axis of T."""
    return jax.lax.scan(lambda state, bar: step(rule, state, **bar), start(), bars)[1]


def _check_inputs(rule: ScoreRule, arrays: dict[str, NumpyArray]) -> None:
    """Raises on numbers out of range, lengths that differ and values that are not finite."""
    for name, value in rule._asdict().items():
        _check_rule_field(name, value)
    num_bars = np.shape(arrays["score"])[0] if arrays["score"].ndim else 0
    for name, values in arrays.items():
        if values.ndim != 1 + (name == "denoised_state") or len(values) != num_bars:
            raise ValueError(f"{name} must have {num_bars} bars like score, got {values.shape}")
        is_bad, accepted = ~np.isfinite(values).all(axis=tuple(range(1, values.ndim))), "finite"
        if name in ("confidence", "p_value"):
            is_bad, accepted = ~((values >= 0.0) & (values <= 1.0)), "in [0, 1]"
        elif name == "direction":
            is_bad, accepted = ~np.isin(values, (-1.0, 0.0, 1.0)), "-1, 0 or 1"
        if is_bad.any():
            first, count = int(np.argmax(is_bad)), int(is_bad.sum())
            raise ValueError(
                f"{name} must be {accepted}, got {values[first]} at bar {first} ({count} bad bars)"
            )


def _check_rule_field(name: str, value: ArrayLike) -> None:
    """Raises a `ValueError` unless a field of the rule is one number in its range."""
    if np.ndim(value) != 0 or np.isnan(value):
        raise ValueError(f"rule.{name} must be one number, got {value}")
    (lowest, highest), number = _RULE_RANGES[name], float(np.asarray(value))
    if name in ("lookback", "num_stable") and not number.is_integer():
        raise ValueError(f"rule.{name} must be a whole number >= 1, got {value}")
    if not lowest <= number <= highest:
        raise ValueError(f"rule.{name} must be from {lowest:g} to {highest:g}, got {value}")
