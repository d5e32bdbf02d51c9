"""Anomalies planted into bars, with labels: what a detector is scored against.

Every event is transient. The price is back where it was by the event's last close, or, for a jump
and a stale price, at the next bar's untouched open, so rows outside events stay as they were, bit
for bit. A lasting shift of the level would have to move every later row.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
import pandas as pd

from densityjax._typing import Key, NumpyArray

KINDS = ("volatility_burst", "jump", "volume_spike", "stale_price", "broken_correlation")
SINGLE_ASSET_KINDS = KINDS[:-1]


class _Event(NamedTuple):
    """One event: its kind, the asset's number, first row, row after the last, sign of a jump."""

    kind: str
    asset: int
    start: int
    stop: int
    sign: float


class _Sizes(NamedTuple):
    """How large events are; see `inject_anomalies`."""

    burst: float
    jump: float
    volume: float


def inject_anomalies(
    key: Key,
    bars: pd.DataFrame | Mapping[str, pd.DataFrame],
    *,
    kinds: Sequence[str] = SINGLE_ASSET_KINDS,
    num_events: int = 10,
    duration: int = 24,
    burst_factor: float = 4.0,
    jump_size: float = 8.0,
    volume_factor: float = 10.0,
) -> tuple[Any, Any]:
    """Plants events that do not touch each other, and labels their rows.

    - `volatility_burst`: moves away from the straight line between the event's two ends, and
      wicks, grow by `burst_factor`.
    - `jump`: one bar closes `jump_size` standard deviations away; the next opens where it did, so
      the return after the labelled bar undoes it.
    - `volume_spike`: one bar's volume is multiplied by `volume_factor`.
    - `stale_price`: all four prices repeat the last close before it, volume that bar's.
    - `broken_correlation`: one asset's moves are mirrored in the straight line between the ends;
      its correlation with the others changes sign, its volatility does not.

    Args:
      key: random key, typed.
      bars: T rows of bars, or such frames by asset under one index; each event hits one asset.
      kinds: events to draw from, in turn, so that each comes equally often.
      num_events: number of events over all assets.
      duration: bars of a burst, a stale price or a broken correlation, at least 2.
      burst_factor: multiple of the usual moves, above 1.
      jump_size: displacement, in standard deviations of the asset's log returns, positive.
      volume_factor: multiple of the bar's volume, above 1.

    Returns:
      The changed bars, and labels in the same form: one row a bar, columns `kind` (`"none"` outside
      events), `start` and `end` (open times of the event's first and last bar; NaT outside).

    Raises:
      ValueError: if an argument is outside what is stated here, if the events do not fit, if
        `volume_spike` meets bars without volume or `broken_correlation` fewer than two assets.
    """
    frames = {"": bars} if isinstance(bars, pd.DataFrame) else dict(bars)
    _check_arguments(frames, kinds, num_events, duration)
    sizes = _Sizes(burst_factor, jump_size, volume_factor)
    _check_sizes(sizes)
    index = pd.DatetimeIndex(next(iter(frames.values())).index)
    events = _draw_events(key, kinds, num_events, duration, len(frames), len(index))
    changed, labels = {}, {}
    for number, (name, frame) in enumerate(frames.items()):
        own = [event for event in events if event.asset == number]
        changed[name] = _apply_events(frame, own, sizes)
        labels[name] = _label_events(index, own)
    return (changed[""], labels[""]) if isinstance(bars, pd.DataFrame) else (changed, labels)


def no_anomalies(index: pd.DatetimeIndex) -> pd.DataFrame:
    """Labels of bars without events: kind `"none"`, start and end NaT."""
    never = pd.Series(pd.NaT, index=index, dtype=index.dtype)
    return pd.DataFrame({"kind": "none", "start": never, "end": never}, index=index)


def _draw_events(
    key: Key, kinds: Sequence[str], num_events: int, duration: int, num_assets: int, num_bars: int
) -> list[_Event]:
    """Draws events in time order, a free bar before each; all places are equally likely."""
    order_key, place_key, asset_key, sign_key = jax.random.split(key, 4)
    order = np.asarray(jax.random.permutation(order_key, num_events))
    drawn = [kinds[int(i) % len(kinds)] for i in order]
    lengths = np.array([1 if kind in ("jump", "volume_spike") else duration for kind in drawn])
    slack = num_bars - int(np.sum(lengths + 1))
    if slack < 0:
        raise ValueError(
            f"num_events={num_events} of duration={duration} need {num_bars - slack} bars, got "
            f"{num_bars}"
        )
    offset = np.sort(np.asarray(jax.random.randint(place_key, (num_events,), 0, slack + 1)))
    stops = np.cumsum(lengths + 1) + offset
    assets = np.asarray(jax.random.randint(asset_key, (num_events,), 0, num_assets))
    signs = np.asarray(jax.random.rademacher(sign_key, (num_events,)), float)
    starts = stops - lengths
    return [
        _Event(kind, int(asset), int(start), int(stop), float(sign))
        for kind, asset, start, stop, sign in zip(drawn, assets, starts, stops, signs, strict=True)
    ]


def _label_events(index: pd.DatetimeIndex, events: list[_Event]) -> pd.DataFrame:
    """Labels the rows of one asset's events."""
    labels = no_anomalies(index)
    kind, start, end = (labels[name].array.copy() for name in labels)
    for event in events:
        rows = slice(event.start, event.stop)
        kind[rows], start[rows], end[rows] = event.kind, index[event.start], index[event.stop - 1]
    return pd.DataFrame({"kind": kind, "start": start, "end": end}, index=index)


def _apply_events(frame: pd.DataFrame, events: list[_Event], sizes: _Sizes) -> pd.DataFrame:
    """Returns the frame with one asset's events in it."""
    names = [name for name in ("open", "high", "low", "close", "volume") if name in frame]
    parts = {name: frame[name].to_numpy(dtype=np.float64, copy=True) for name in names}
    jump = sizes.jump * np.std(np.diff(np.log(parts["close"])))
    for event in events:
        rows = slice(event.start, event.stop)
        match event.kind:
            case "jump":
                _displace_close(parts, rows, np.exp(event.sign * jump))
            case "volume_spike":
                parts["volume"][rows] *= sizes.volume
            case "stale_price":
                _freeze(parts, rows)
            case "volatility_burst":
                _stretch(parts, rows, sizes.burst)
            case "broken_correlation":
                _stretch(parts, rows, -1.0)
    return frame.assign(**parts)


def _displace_close(parts: dict[str, NumpyArray], rows: slice, factor: float) -> None:
    """Moves one close, and the extreme that it passes."""
    close = parts["close"][rows] * factor
    parts["close"][rows] = close
    parts["high"][rows] = np.maximum(parts["high"][rows], close)
    parts["low"][rows] = np.minimum(parts["low"][rows], close)


def _freeze(parts: dict[str, NumpyArray], rows: slice) -> None:
    """Repeats the last close before the rows in all prices, and its bar's volume."""
    last = rows.start - 1
    price = parts["close"][last]
    for name in ("open", "high", "low", "close"):
        parts[name][rows] = price
    if "volume" in parts:
        parts["volume"][rows] = parts["volume"][last]


def _stretch(parts: dict[str, NumpyArray], rows: slice, factor: float) -> None:
    """Multiplies log prices' distance from the line between the ends; negative mirrors them.

    The line joins the close before the rows to their last close, which both stay. An open is
    measured from the line's value at the close before it, so that gaps scale too.
    """
    open_, high, low, close = (
        np.log(parts[name][rows]) for name in ("open", "high", "low", "close")
    )
    line = np.linspace(np.log(parts["close"][rows.start - 1]), close[-1], len(close) + 1)
    wicks = high - np.maximum(open_, close), np.minimum(open_, close) - low
    upper, lower = wicks if factor > 0.0 else wicks[::-1]
    new_open = np.exp(line[:-1] + factor * (open_ - line[:-1]))
    new_close = np.exp(line[1:] + factor * (close - line[1:]))
    new_close[-1] = parts["close"][rows][-1]  # exactly: the next row follows from it
    parts["open"][rows], parts["close"][rows] = new_open, new_close
    parts["high"][rows] = np.maximum(new_open, new_close) * np.exp(np.abs(factor) * upper)
    parts["low"][rows] = np.minimum(new_open, new_close) * np.exp(-np.abs(factor) * lower)


def _check_arguments(
    frames: dict[str, pd.DataFrame], kinds: Sequence[str], num_events: int, duration: int
) -> None:
    """Raises `ValueError` on frames, kinds or counts that cannot be served."""
    unknown = [kind for kind in kinds if kind not in KINDS]
    if isinstance(kinds, str) or not kinds or unknown:
        raise ValueError(f"kinds must be a sequence of some of {KINDS}, got {kinds!r}")
    if num_events < 1 or duration < 2:
        raise ValueError(f"need num_events >= 1 and duration >= 2: {num_events}, {duration}")
    if "broken_correlation" in kinds and len(frames) < 2:
        raise ValueError("broken_correlation needs a mapping of at least two frames")
    if not frames:
        raise ValueError("bars must hold at least one frame, got an empty mapping")
    index = next(iter(frames.values())).index
    for name, frame in frames.items():
        missing = {"open", "high", "low", "close"} - set(frame)
        if missing or not frame.index.equals(index):
            raise ValueError(f"bars {name!r} lack {sorted(missing)} or share no index with others")
        if "volume_spike" in kinds and ("volume" not in frame or np.isnan(frame["volume"]).any()):
            raise ValueError(f"volume_spike needs volume in every bar of bars {name!r}")


def _check_sizes(sizes: _Sizes) -> None:
    """Raises `ValueError` on sizes that would change nothing, or too much."""
    if not 0.0 < sizes.jump < np.inf:
        raise ValueError(f"jump_size must be positive and finite, got {sizes.jump}")
    for name, factor in (("burst_factor", sizes.burst), ("volume_factor", sizes.volume)):
        if not 1.0 < factor < np.inf:
            raise ValueError(f"{name} must be above 1 and finite, got {factor}")
