"""Positions from a flow: a density gate, a forecast of the next return, a size set by its tail.

One bar t enters as scalars known at its close: how ordinary its state is (`log_prob`, `p_value`)
and the law of the NEXT return, `r_{t+1}`, given that state (mean, standard deviation, expected
shortfall ES). Direction comes from `z = mean / standard deviation` of that law alone, never from
a latent coordinate of the state, which after permutations need not belong to the return. Entry,
gate and size are those of `backtest.rules`, so that a signal and a backtest never differ.
"""

import enum
import math
from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np

from densityjax._typing import Array, ArrayLike, NumpyArray
from densityjax.backtest.rules import entry_direction, is_ordinary, tail_risk_size

CONFIDENCE_Z = 2.0  # the |z| of full confidence: a forecast mean two standard deviations from 0


class Reason(enum.IntEnum):
    """Why a bar has the signal it has; earlier members win where several apply."""

    NON_FINITE = 0  # an input is NaN or infinite, or the standard deviation is not positive
    OUT_OF_DISTRIBUTION = 1  # the state is too strange for the forecast to be trusted
    WEAK_FORECAST = 2  # |z| does not exceed the entry threshold
    LOW_CONFIDENCE = 3  # it does, but confidence is below its minimum
    LONG = 4
    SHORT = 5


class FlowRule(NamedTuple):
    """Thresholds and limits of the rule; every field may be an array axis of a `vmap`.

    Attributes:
      entry_z: |z| that a forecast has to exceed; take `entry_threshold` of validation bars.
      risk_budget: ES that a position may carry, as a fraction of equity per bar.
      density_threshold: log density, in nats, under which a state counts as strange; take a
        quantile of validation log densities. Minus infinity leaves the gate open.
      min_p_value: conformal p-value up to which a state counts as strange; 0 leaves it open.
      min_confidence: smallest confidence that trades, in [0, 1].
      max_position: largest position, as a multiple of equity.
    """

    entry_z: ArrayLike
    risk_budget: ArrayLike
    density_threshold: ArrayLike = -math.inf
    min_p_value: ArrayLike = 0.0
    min_confidence: ArrayLike = 0.0
    max_position: ArrayLike = 1.0


class FlowSignal(NamedTuple):
    """Signal of one bar, or of T bars with a leading axis on every field.

    Attributes:
      signal: 1 long, -1 short, 0 no trade, NaN where an input was not finite.
      confidence: `min(|z| / 2, 1)`.
      log_prob: log density of the state, in nats.
      in_distribution: whether the state passed both gates.
      expected_return: mean of the next return, as a fraction.
      return_std: standard deviation of the next return, as a fraction.
      latent_return: a normal score of the return, for display; z where none was given.
      position_size: signed position, as a multiple of equity; NaN as `signal`.
      reason: a `Reason`.
    """

    signal: Array
    confidence: Array
    log_prob: Array
    in_distribution: Array
    expected_return: Array
    return_std: Array
    latent_return: Array
    position_size: Array
    reason: Array

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


def entry_threshold(validation_z: ArrayLike, share: float) -> Array:
    """Returns the |z| that a share of validation bars exceeds.

    Args:
      validation_z: [N] forecast mean over standard deviation on held-out bars; NaN gives NaN.
      share: share of bars that should trade, in (0, 1), a Python number.

    Returns:
      [] threshold for `FlowRule.entry_z`.

    Raises:
      ValueError: if `share` is outside (0, 1).
    """
    if not 0.0 < share < 1.0:
        raise ValueError(f"share must be in (0, 1), got {share}")
    size = jnp.abs(jnp.asarray(validation_z))
    chex.assert_rank(size, 1)
    return jnp.quantile(size, 1.0 - share)


def flow_signal(
    rule: FlowRule,
    *,
    log_prob: ArrayLike,
    p_value: ArrayLike,
    expected_return: ArrayLike,
    return_std: ArrayLike,
    expected_shortfall: ArrayLike,
    short_expected_shortfall: ArrayLike | None = None,
    latent_return: ArrayLike | None = None,
) -> FlowSignal:
    """Decides one bar, from scalars known at its close; jittable.

    Long where `E[r] > 0` and `z > entry_z`, short where `E[r] < 0` and `z < -entry_z`, nothing
    where the state is strange: `log_prob < density_threshold` or `p_value <= min_p_value`.

    Args:
      rule: thresholds and limits.
      log_prob: [] log density of the state, in nats.
      p_value: [] conformal p-value of the state, in (0, 1].
      expected_return: [] mean of the next return, as a fraction.
      return_std: [] standard deviation of the next return, as a fraction, positive.
      expected_shortfall: [] ES of a unit long position over the next bar, a positive loss.
      short_expected_shortfall: [] the same of a unit short position, from the upper tail; None
        takes the long one, which is right for a symmetric law.
      latent_return: [] a normal score for display, never read; None shows z.

    Returns:
      A `FlowSignal` of scalars. An input that is not finite gives NaN for signal and position and
      `Reason.NON_FINITE`, on which `flow_signals` raises.
    """
    if short_expected_shortfall is None:
        short_expected_shortfall = expected_shortfall
    shortfalls = [expected_shortfall, short_expected_shortfall]
    inputs = [jnp.asarray(v) for v in (log_prob, p_value, expected_return, return_std, *shortfalls)]
    chex.assert_rank(inputs, 0)
    log_prob, p_value, mean, std, long_loss, short_loss = inputs
    is_valid = jnp.all(jnp.isfinite(jnp.stack(inputs))) & (std > 0.0)
    z = mean / jnp.where(std > 0.0, std, 1.0)
    confidence = jnp.minimum(jnp.abs(z) / CONFIDENCE_Z, 1.0)
    in_distribution = (log_prob >= rule.density_threshold) & is_ordinary(p_value, rule.min_p_value)
    entry = entry_direction(z, rule.entry_z)
    reason = jnp.select(
        [
            ~is_valid,
            ~in_distribution,
            entry == 0.0,
            ~(confidence >= rule.min_confidence),
            entry > 0.0,
        ],
        [jnp.int32(reason) for reason in list(Reason)[:-1]],
        jnp.int32(Reason.SHORT),
    )
    trades = (reason == Reason.LONG) | (reason == Reason.SHORT)
    signal = jnp.where(is_valid, jnp.where(trades, entry, 0.0), jnp.nan)
    return FlowSignal(
        signal=signal,
        confidence=confidence,
        log_prob=log_prob,
        in_distribution=in_distribution,
        expected_return=mean,
        return_std=std,
        latent_return=z if latent_return is None else jnp.asarray(latent_return),
        position_size=tail_risk_size(
            signal,
            long_loss,
            rule.risk_budget,
            rule.max_position,
            short_expected_shortfall=short_loss,
        ),
        reason=reason,
    )


def flow_signals(
    rule: FlowRule,
    *,
    log_prob: ArrayLike,
    p_value: ArrayLike,
    expected_return: ArrayLike,
    return_std: ArrayLike,
    expected_shortfall: ArrayLike,
    short_expected_shortfall: ArrayLike | None = None,
    latent_return: ArrayLike | None = None,
) -> FlowSignal:
    """Decides T bars on the host, as `flow_signal` one by one would.

    Args:
      rule: thresholds and limits, scalars.
      log_prob: [T] log density of each state, in nats.
      p_value: [T] conformal p-value of each state, in (0, 1].
      expected_return: [T] mean of the next return, as a fraction.
      return_std: [T] standard deviation of the next return, as a fraction, positive.
      expected_shortfall: [T] ES of a unit long position over the next bar, a positive loss.
      short_expected_shortfall: [T] the same of a unit short position; None takes the long one.
      latent_return: [T] normal scores for display, or None.

    Returns:
      A `FlowSignal` of NumPy arrays, [T].

    Raises:
      ValueError: if lengths differ, a threshold is NaN, or an input is not finite: a broken model
        must not look like a cautious one.
    """
    columns = {
        "log_prob": log_prob,
        "p_value": p_value,
        "expected_return": expected_return,
        "return_std": return_std,
        "expected_shortfall": expected_shortfall,
        "short_expected_shortfall": short_expected_shortfall,
        "latent_return": latent_return,
    }
    arrays = {name: np.asarray(v) for name, v in columns.items() if v is not None}
    _check_inputs(rule, arrays)
    return jax.tree.map(np.asarray, _decide_bars(rule, arrays))


def signal_records(signals: FlowSignal) -> list[dict[str, Any]]:
    """Returns one dictionary per bar, same keys on every branch, with the reason in words.

    Args:
      signals: a `FlowSignal` of [T] arrays.

    Returns:
      T dictionaries of Python values: the fields, `is_buy`, `is_sell` and `is_no_trade`.
    """
    fields = {name: np.asarray(value) for name, value in signals._asdict().items()}
    for name in ("is_buy", "is_sell", "is_no_trade"):
        fields[name] = np.asarray(getattr(signals, name))
    rows = zip(*(column.tolist() for column in fields.values()), strict=True)
    records = [dict(zip(fields, row, strict=True)) for row in rows]
    return [
        record | {"signal": int(record["signal"]), "reason": Reason(record["reason"]).name.lower()}
        for record in records
    ]


@jax.jit
def _decide_bars(rule: FlowRule, bars: dict[str, Array]) -> FlowSignal:
    """Applies `flow_signal` to every bar of a dictionary of [T] arrays."""
    return jax.vmap(lambda bar: flow_signal(rule, **bar))(bars)


def _check_inputs(rule: FlowRule, arrays: dict[str, NumpyArray]) -> None:
    """Raises on thresholds that are NaN, lengths that differ and values that are not finite."""
    for name, value in rule._asdict().items():
        if np.ndim(value) != 0 or np.isnan(value):
            raise ValueError(f"rule.{name} must be one number, got {value}")
    shape = arrays["log_prob"].shape
    for name, values in arrays.items():
        if values.ndim != 1 or values.shape != shape:
            raise ValueError(f"{name} must be [T] like log_prob, {shape}, got {values.shape}")
        is_bad = ~np.isfinite(values)
        if name == "return_std":
            is_bad |= values <= 0.0
        if is_bad.any():
            first, count = int(np.argmax(is_bad)), int(is_bad.sum())
            accepted = "finite and positive" if name == "return_std" else "finite"
            raise ValueError(
                f"{name} must be {accepted}, got {values[first]} at bar {first} ({count} bad bars)"
            )
