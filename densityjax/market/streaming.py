"""Features one bar at a time, equal bit for bit to the rows of the batch.

The state holds the last bars that a window can reach, and what the recursive means carry. A step
runs the very functions of the batch on that tail, asking for its last row alone. States are not
changed in place: an old one may be stepped again.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from densityjax.market import context_features, features
from densityjax.market.bar_arrays import START, BarArrays, Past, continue_from, from_frame
from densityjax.market.context_features import ContextState
from densityjax.market.rolling import EwmaState


class StreamState(NamedTuple):
    """What the next row needs.

    Attributes:
      feature_set: name of the set, or names of features.
      published: whether dependent columns are kept.
      has_volume: whether the bars carry volume.
      window: bars before the first row.
      tail: the last `window + 1` bars at most, oldest first.
      past: what finding gaps needs of the bars before.
      context: carried means of the context set; None before its first row.
      atr: carried mean true range of the other sets; None before the first bar.
    """

    feature_set: str | Sequence[str]
    published: bool
    has_volume: bool
    window: int
    tail: BarArrays
    past: Past = START
    context: ContextState | None = None
    atr: EwmaState | None = None


def init_stream(
    feature_set: str | Sequence[str], *, published: bool = False, has_volume: bool = True
) -> StreamState:
    """Returns the state before the first bar.

    Args:
      feature_set: name of a set, or names of features, as `compute_features` takes it.
      published: True keeps the columns that are functions of others.
      has_volume: False where the bars will carry no volume; their features are left out.

    Returns:
      The state, with an empty tail.

    Raises:
      ValueError: if the set is not known.
    """
    window = features.longest_window(feature_set)
    empty = pd.DataFrame({name: np.empty(0) for name in ("open", "high", "low", "close")})
    return StreamState(feature_set, published, has_volume, window, from_frame(empty))


def step(state: StreamState, bar: Mapping[str, Any]) -> tuple[StreamState, pd.Series | None]:
    """Takes in one closed bar.

    Args:
      state: what the last step or `init_stream` handed back.
      bar: `timestamp` (opening time), open, high, low, close in units of price, volume where the
        stream has it, and `is_filled` for a bar that bridges a gap; a row of the frame of bars
        will do, its name being the timestamp.

    Returns:
      The next state; and the bar's features, named by its timestamp, or None while history is
      missing (the first bars, and the bars after a gap).

    Raises:
      ValueError: if the bar is not valid or does not come after the last one.
    """
    stamp, arrays, past = _one_bar(bar, state.past)
    tail = state.tail
    if tail.seconds.size and arrays.seconds[0] <= tail.seconds[-1]:
        raise ValueError(f"timestamp must be after the last bar's, got {stamp}")
    reach = state.window + 1
    tail = BarArrays(*(np.concatenate([a, b])[-reach:] for a, b in zip(tail, arrays, strict=True)))
    if state.feature_set == "context":
        found, context = _step_context(tail, state)
        after = state._replace(tail=tail, past=past, context=context)
    else:
        names, _ = _names(state)
        found, atr = features.windowed_features(tail, 1, names, state.atr)
        after = state._replace(tail=tail, past=past, atr=atr)
    if tail.close.size < reach:
        return after, None
    names, _ = _names(after)
    row = np.array([found[name][-1] for name in names])
    return after, None if np.isnan(row).any() else pd.Series(row, index=list(names), name=stamp)


def _one_bar(bar: Mapping[str, Any], past: Past) -> tuple[pd.Timestamp, BarArrays, Past]:
    """Returns the bar's opening time, its arrays of one row, checked, and the past after it."""
    stamp = pd.Timestamp(bar["timestamp"] if "timestamp" in bar else getattr(bar, "name", None))
    if not isinstance(stamp, pd.Timestamp):
        raise ValueError(f"timestamp must be a time, got {stamp}")
    names = [n for n in ("open", "high", "low", "close", "volume", "is_filled") if n in bar]
    index = pd.DatetimeIndex([stamp])
    frame = pd.DataFrame({name: [bar[name]] for name in names}, index=index)
    return (stamp, *continue_from(past, frame))


def _names(state: StreamState) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Returns the columns of a stream's rows, and those left out."""
    intraday = state.context is not None and state.context.calendar is not None
    return features.feature_names(
        state.feature_set,
        published=state.published,
        has_volume=state.has_volume,
        intraday=intraday,
    )


def _step_context(
    tail: BarArrays, state: StreamState
) -> tuple[dict[str, np.ndarray], ContextState | None]:
    """Runs the context set on the newest bar; on all bars at once when enough have come."""
    if state.context is not None:
        return context_features.context_features(tail, 1, state.context)
    if tail.close.size <= state.window:
        return {}, None  # the step between bars is not known yet
    first = context_features.init_context(tail.seconds)
    return context_features.context_features(tail, tail.close.size, first)
