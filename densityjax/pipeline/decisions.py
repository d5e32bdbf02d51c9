"""From what models say of bars to signals and target weights."""

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd

from densityjax import backtest
from densityjax._typing import Array
from densityjax.backtest import rules
from densityjax.regimes import energy_levels
from densityjax.strategies import energy_sizing
from densityjax.strategies import flow as flow_strategy
from densityjax.strategies import score as score_strategy

QUORUM = 0.5  # share of families above which a state counts as ordinary
DECIDING = (
    "log_prob",
    "p_value",
    "expected_return",
    "return_std",
    "expected_shortfall",
    "short_expected_shortfall",
    "latent_return",
)
# What rules are told of a bar without a forecast: stranger than any gate lets pass.
QUIET = {
    "expected_z": 0.0,
    "p_value": -1.0,
    "expected_shortfall": 1.0,
    "short_expected_shortfall": 1.0,
    "return_std": 1.0,
    "expected_return": 0.0,
    "latent_return": 0.0,
    "log_prob": 0.0,
}


def on_every_bar(frame: pd.DataFrame, bars: pd.DataFrame) -> pd.DataFrame:
    """Lays the rows of a reading out on every bar from the first of them to the last.

    Money knows no gaps: an account lives through bars without a forecast (those whose features
    reach into a repaired gap), and is flat in them.

    Args:
      frame: rows of a reading.
      bars: all bars.

    Returns:
      Frame of contiguous bars: the columns of `frame`, NaN where there is no forecast but for
      close, and has_forecast.
    """
    every = bars.loc[frame.index[0] : frame.index[-1]]
    full = frame.reindex(every.index)
    full["has_forecast"] = every.index.isin(frame.index)
    full["close"] = every["close"]
    return full


def _quiet(frame: pd.DataFrame) -> pd.DataFrame:
    """Fills bars without a forecast with values on which every rule is flat; no other NaN."""
    if "has_forecast" not in frame:
        return frame
    is_missing = ~frame["has_forecast"].to_numpy(bool)
    filled = frame.copy()
    for name, value in QUIET.items():
        filled.loc[is_missing, name] = value
    return filled


def signals(frame: pd.DataFrame) -> rules.Signals:
    """Returns the columns of a reading that trading rules read, float32."""
    frame = _quiet(frame)
    return rules.Signals(
        expected_z=frame["expected_z"].to_numpy(np.float32),
        density_p_value=frame["p_value"].to_numpy(np.float32),
        expected_shortfall=frame["expected_shortfall"].to_numpy(np.float32),
        return_std=frame["return_std"].to_numpy(np.float32),
        short_expected_shortfall=frame["short_expected_shortfall"].to_numpy(np.float32),
    )


def decide(frame: pd.DataFrame, params: rules.ThresholdParams) -> pd.DataFrame:
    """Turns a reading into signals and target weights.

    Args:
      frame: the frame of a `Reading`.
      params: of the threshold rule; the rule starts flat at the first row.

    Returns:
      Frame with the rows of `frame`: signal (1, 0, -1), confidence, in_distribution, latent_return,
      position_size (target weight decided at the close, in equity) and reason in words.
    """
    frame = _quiet(frame)
    rule = flow_strategy.FlowRule(
        entry_z=float(params.entry_z),
        risk_budget=float(params.risk_budget),
        min_p_value=float(params.min_p_value),
        max_position=float(params.max_weight),
    )
    record = flow_strategy.flow_signals(
        rule,
        **{name: frame[name].to_numpy(np.float32) for name in DECIDING},
    )
    position = np.asarray(rules.apply_rule(rules.threshold_rule, params, signals(frame)))
    reason = np.array([flow_strategy.Reason(code).name.lower() for code in record.reason])
    reason = np.char.replace(reason, "_", " ").astype(object)
    reason[(position != 0) & (record.signal == 0)] = "held"
    is_signal = record.signal != 0
    reason[is_signal & (position == 0)] = "no risk budget"
    if not float(params.allow_short):
        reason[(position == 0) & (record.signal < 0)] = "short not allowed"
    if not float(params.max_weight):
        reason[is_signal] = "flat rule"
    if "has_forecast" in frame:
        reason[~frame["has_forecast"].to_numpy(bool)] = "no forecast"
    return pd.DataFrame(
        {
            "signal": record.signal.astype(int),
            "confidence": record.confidence,
            "in_distribution": record.in_distribution,
            "latent_return": record.latent_return,
            "position_size": position,
            "reason": reason,
        },
        index=frame.index,
    )


def decide_by_score(
    frame: pd.DataFrame, rule: score_strategy.ScoreRule | None = None
) -> pd.DataFrame:
    """Turns the score of the next return into signals and target weights.

    Args:
      frame: the frame of a `Reading` with a score of the next return, rows in order of time. A
        state counts as strange by the p-value of the score's own density, and where half of the
        families or more find it so.
      rule: None takes `ScoreRule` with its defaults.

    Returns:
      Frame with the rows of `frame`: signal (direction times confidence), in_distribution,
      position_size (target weight decided at the close, in equity) and reason in words.
    """
    rule = rule or score_strategy.ScoreRule()
    p_values = frame[[name for name in frame if str(name).startswith("p_value")]].to_numpy()
    record = score_strategy.score_signals(
        rule,
        score=frame["score_of_return"].to_numpy(np.float32),
        confidence=frame["score_confidence"].to_numpy(np.float32),
        direction=frame["score_direction"].to_numpy(np.float32),
        log_prob=frame["log_prob_score"].to_numpy(np.float32),
        p_value=frame["p_value_score"].to_numpy(np.float32),
        is_familiar=(p_values > np.asarray(rule.min_p_value)).mean(axis=1) > QUORUM,
    )
    words = [score_strategy.Reason(code).name.lower().replace("_", " ") for code in record.reason]
    return pd.DataFrame(
        {
            "signal": record.signal,
            "in_distribution": record.in_distribution,
            "position_size": record.position_size,
            "reason": words,
        },
        index=frame.index,
    )


def decide_by_energy(
    frame: pd.DataFrame, params: energy_sizing.OverlayParams | None = None
) -> pd.DataFrame:
    """Holds the market, and less of it the stranger its state is against the bars before.

    Args:
      frame: the frame of a `Reading` with an energy family, all rows in order of time: a row is
        held against strictly earlier ones.
      params: None takes `OverlayParams` with its defaults.

    Returns:
      Frame with the rows of `frame`: signal (z-score of the energy, NaN where too few came before),
      position_size (target weight decided at the close, in equity) and reason (the regime).
    """
    levels = energy_levels.energy_levels(-frame["log_prob_energy"].to_numpy(np.float64))
    weight = _cut(params or energy_sizing.OverlayParams(), jnp.asarray(levels.z, float))
    is_known = np.isfinite(levels.z)
    return pd.DataFrame(
        {
            "signal": levels.z,
            "position_size": np.where(is_known, np.asarray(weight), 0.0),
            "reason": [energy_levels.Regime(int(code)).name.lower() for code in levels.regime],
        },
        index=frame.index,
    )


@jax.jit
def _cut(params: energy_sizing.OverlayParams, z: Array) -> Array:
    """Returns the weights [T] that the overlay leaves of holding the market, at z-scores [T]."""

    def one(z: Array) -> Array:
        return energy_sizing.energy_overlay(params, energy_sizing.OverlaySignals(1.0, z), None)[0]

    return jax.vmap(one)(z)


def prices(bars: pd.DataFrame, index: pd.Index) -> backtest.Prices:
    """Returns the prices of some bars as the engine takes them."""
    chosen = bars.loc[index]
    return backtest.Prices(
        *(chosen[name].to_numpy(np.float64) for name in ("open", "high", "low", "close"))
    )
