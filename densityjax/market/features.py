"""Feature sets of bars: what the densities and the forecaster look at.

Every value at row `t` reads bars up to and including `t` only. Names count bars: `return_20` is
`ln(C_t / C_{t-20})`. Each set exists as published in its chapter and, by default, without the
columns that are exact functions of others, for a density on a thin sheet has no finite maximum.
Rows without full history are dropped and never filled, as are rows that need a return into a
filled bar, out of one or across a gap. Windows leave such returns out, and the volume of filled
bars, where at least half of their values are left; windows over prices join them there. Where a
ratio has no meaning (flat prices, no volume) a neutral value stands in its place.
"""

from collections.abc import Callable, Sequence

import numpy as np
import pandas as pd

from densityjax import numerics
from densityjax.market import context_features, indicators, seasonality
from densityjax.market.bar_arrays import BarArrays, from_frame, joined_prices, log_returns
from densityjax.market.rolling import EwmaState, lagged, window_sum
from densityjax.market.rolling_statistics import describe

# name: columns as published, and those of them that are functions of the others
FEATURE_SETS: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "flow": (
        ("return_1", "return_5", "return_10", "return_20", "volatility_20", "volatility_5")
        + ("vol_ratio", "skewness", "kurtosis", "volume_ratio", "volume_trend")
        + ("price_position", "rsi", "momentum_20"),
        ("vol_ratio", "momentum_20"),
    ),
    "score": (
        ("return_1", "return_5", "return_10", "return_20", "volatility", "volatility_ratio")
        + ("momentum_20", "volume_ratio", "price_position", "rsi"),
        ("momentum_20",),
    ),
    "energy": (
        ("return", "log_return", "volatility_5", "volatility_10", "volatility_20")
        + ("volatility_50", "volume_ratio", "volume_zscore", "close_position", "range")
        + ("range_ratio", "momentum_5", "momentum_10", "momentum_20", "skewness", "kurtosis"),
        ("return",),
    ),
    "flow_companion": (
        ("return_1", "return_5", "return_10", "return_20", "volatility_20", "volatility_5")
        + ("vol_ratio", "volume_ratio", "price_position", "rsi"),
        ("vol_ratio",),
    ),
    "energy_companion": (
        ("return", "log_return", "return_abs", "volatility_5", "volatility_20")
        + ("volatility_50", "vol_ratio_5_20", "vol_ratio_20_50", "range", "range_ratio")
        + ("close_position", "body_ratio", "momentum_5", "momentum_20", "momentum_50")
        + ("volume_ratio", "volume_zscore", "vwap_ratio", "skewness", "kurtosis", "rsi")
        + ("bollinger_position", "atr_ratio"),
        ("return", "return_abs", "vol_ratio_5_20", "vol_ratio_20_50"),
    ),
}
NEEDS_VOLUME = ("volume_ratio", "volume_trend", "volume_zscore", "vwap_ratio")
ATR = "atr_ratio"  # the one feature with a carried state
HALF = 0.5  # of the returns or volumes of a window: half of it tells enough

POSITIVE = ("volatility", "vol_ratio", "volume_ratio", "volume_trend", "range", "vwap_ratio", ATR)
UNIT_INTERVAL = ("price_position", "close_position", "body_ratio", "rsi")

# kind: windows where the name carries none, and the formula of (columns, log returns, *windows)
FORMULAS: dict[str, tuple[tuple[int, ...], Callable[..., np.ndarray]]] = {
    "return": ((), lambda c, r, k=0: _log_change(c, r, k) if k else np.expm1(r)),
    "return_abs": ((), lambda c, r: np.abs(np.expm1(r))),
    "log_return": ((), lambda c, r: r),
    "momentum": ((20,), lambda c, r, w: np.expm1(_log_change(c, r, w))),
    "volatility": ((20,), lambda c, r, w: indicators.volatility(r, w, min_share=HALF)),
    "volatility_ratio": (
        (5, 20),
        lambda c, r, s, w: indicators.volatility_ratio(r, s, w, min_share=HALF),
    ),
    "vol_ratio": ((5, 20), lambda c, r, s, w: indicators.volatility_ratio(r, s, w, min_share=HALF)),
    "skewness": ((20,), lambda c, r, w: indicators.skewness(r, w, min_share=HALF)),
    "kurtosis": ((20,), lambda c, r, w: indicators.kurtosis(r, w, min_share=HALF)),
    "volume_ratio": ((20,), lambda c, r, w: indicators.ratio_to_mean(c.volume, w, min_share=HALF)),
    "volume_trend": (
        (5, 20),
        lambda c, r, s, w: indicators.mean_ratio(c.volume, s, w, min_share=HALF),
    ),
    "volume_zscore": ((20,), lambda c, r, w: indicators.zscore(c.volume, w, min_share=HALF)),
    "price_position": ((20,), lambda c, r, w: _position(c, w)),
    "close_position": ((), lambda c, r: _position(c, 1)),
    "range": ((), lambda c, r: (c.high - c.low) / c.close),
    "range_ratio": ((20,), lambda c, r, w: indicators.ratio_to_mean((c.high - c.low) / c.close, w)),
    "body_ratio": ((), lambda c, r: indicators.body_ratio(c.open, c.high, c.low, c.close)),
    "rsi": (
        (14,),
        lambda c, r, w: indicators.rsi(c.close, w, is_broken=c.is_broken, min_share=HALF),
    ),
    "vwap_ratio": (
        (20,),
        lambda c, r, w: indicators.vwap_ratio(c.close, c.volume, w, min_share=HALF),
    ),
    "bollinger_position": ((20,), lambda c, r, w: indicators.bollinger_position(c.close, w)),
    ATR: ((20,), lambda c, r, w: np.full(r.size, np.nan)),  # see `windowed_features`
}


def _log_change(columns: BarArrays, returns: np.ndarray, window: int) -> np.ndarray:
    """Returns `ln(C_t / C_{t-window})` of joined prices, NaN where too few returns are known."""
    change = np.log(columns.close / lagged(columns.close, window))
    return np.where(np.isnan(window_sum(returns, window, min_share=HALF)), np.nan, change)


def _position(columns: BarArrays, window: int) -> np.ndarray:
    """Returns the place of the close in the range of the last `window` bars."""
    return indicators.price_position(columns.high, columns.low, columns.close, window)


def _parse(name: str) -> tuple[str, tuple[int, ...]]:
    """Splits a feature's name into its kind and its windows, in bars."""
    kind, windows = name, ()
    while kind not in FORMULAS:
        kind, _, digits = kind.rpartition("_")
        if not digits.isdecimal() or int(digits) < 1:
            raise ValueError(
                f"feature must be one of {sorted(FORMULAS)} or one with _bars, got {name!r}"
            )
        windows = (int(digits), *windows)
    defaults = FORMULAS[kind][0]
    if windows and len(windows) != max(len(defaults), kind == "return"):
        raise ValueError(f"{kind!r} takes {len(defaults)} windows, got {name!r}")
    return kind, windows or defaults


def _published(feature_set: str | Sequence[str]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Returns the columns of a windowed set as published, and the dependent ones among them."""
    if not isinstance(feature_set, str):
        return tuple(feature_set), ()
    if feature_set not in FEATURE_SETS:
        known = [*FEATURE_SETS, "context"]
        raise ValueError(f"feature_set must be one of {known}, got {feature_set!r}")
    return FEATURE_SETS[feature_set]


def longest_window(feature_set: str | Sequence[str]) -> int:
    """Returns how many bars before `t` the row of `t` looks back on; one more close is needed.

    Args:
      feature_set: name of a set, or names of features.

    Returns:
      The number of bars: 20 where 21 closes are needed.

    Raises:
      ValueError: if a name is not known.
    """
    if feature_set == "context":
        return context_features.WINDOW
    names, _ = _published(feature_set)
    return max(1, *(max(_parse(name)[1], default=1) for name in names))


def windowed_features(
    columns: BarArrays, size: int, names: Sequence[str], state: EwmaState | None
) -> tuple[dict[str, np.ndarray], EwmaState | None]:
    """Computes the features `names` of the last `size` bars, and the carried state after them.

    Args:
      columns: bars [T]; the first `T - size` are looked back at only.
      size: number of new bars.
      names: features by kind and window, as in `FEATURE_SETS`; one `atr_ratio` at most.
      state: mean true range carried from the bars before, or None at the start.

    Returns:
      The columns, each [size], NaN where history is missing; and the state.
    """
    returns = log_returns(columns)
    columns = joined_prices(columns)  # ratios of prices are all that the formulas read
    found: dict[str, np.ndarray] = {}
    for name in names:
        kind, windows = _parse(name)
        if kind == ATR:
            is_first = np.isnan(lagged(columns.close, 1))  # its range needs no bar before
            ranges = indicators.true_range(columns.high, columns.low, columns.close)
            ranges = np.where(columns.is_broken & ~is_first, np.nan, ranges)[-size:]
            mean, state = indicators.ema_with_state(ranges, windows[0], state)
            found[name] = mean / columns.close[-size:]
        else:
            found[name] = FORMULAS[kind][1](columns, returns, *windows)[-size:]
    return found, state


def feature_names(
    feature_set: str | Sequence[str],
    *,
    published: bool = False,
    has_volume: bool = True,
    intraday: bool = False,
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Lists the columns of a set.

    Args:
      feature_set: name of the set, or names of features.
      published: True for the chapter's full list.
      has_volume: False where the bars carry no volume.
      intraday: True where bars are shorter than a day; matters to `context` alone.

    Returns:
      The names kept, in order, and those left out for want of volume.

    Raises:
      ValueError: if `feature_set` is not a known name.
    """
    if feature_set == "context":
        names = context_features.NAMES + (seasonality.NAMES if intraday else ())
    else:
        names, dependent = _published(feature_set)
        names = tuple(name for name in names if published or name not in dependent)

    def is_needy(name: str) -> bool:
        if feature_set == "context":
            return name in context_features.VOLUME_NAMES
        return _parse(name)[0] in NEEDS_VOLUME

    left_out = () if has_volume else tuple(name for name in names if is_needy(name))
    return tuple(name for name in names if name not in left_out), left_out


def feature_support(name: str) -> str:
    """Returns where a feature of the sets lives: 'real', 'positive' or 'unit_interval'.

    The ends 0 and 1 count in: volume can be zero, a close can be the bar's high.
    """
    kind = name.rstrip("_0123456789")
    if kind in UNIT_INTERVAL:
        return "unit_interval"
    return "positive" if kind in (*POSITIVE, "volatility_ratio", "range_ratio") else "real"


def compute_features(
    bars: pd.DataFrame, feature_set: str | Sequence[str], *, published: bool = False
) -> pd.DataFrame:
    """Computes a feature set of every bar that has the history for it.

    Args:
      bars: frame of bars, [T] rows: columns open, high, low, close in units of price, volume in
        any unit (absent or all NaN: the features that need it are left out), and optionally the
        flag `is_filled`, True for bars that bridge a gap.
      feature_set: 'flow', 'score', 'energy', 'flow_companion', 'energy_companion' or 'context';
        or names of features with windows of your own, such as ('return_1', 'volatility_30').
      published: True keeps the columns that are exact functions of others, in published order.

    Returns:
      Float64 frame indexed like the rows of `bars` it keeps. Its `attrs`: `feature_set`,
      `window` (bars before `t` that row `t` looks back on) and `left_out` (names of features left
      out for want of volume).

    Raises:
      ValueError: if the set is not known, a bar is not valid, there are too few bars, or gaps
        leave no row with full history.
    """
    window = longest_window(feature_set)
    columns = from_frame(bars)
    if len(bars) <= window:
        raise ValueError(f"{feature_set!r} needs at least {window + 1} bars, got {len(bars)}")
    size, has_volume, intraday = len(bars), not np.isnan(columns.volume).all(), False
    if feature_set == "context":
        context = context_features.init_context(columns.seconds)
        found, _ = context_features.context_features(columns, size, context)
        intraday = context.calendar is not None
    names, left_out = feature_names(
        feature_set, published=published, has_volume=has_volume, intraday=intraday
    )
    if feature_set != "context":
        found, _ = windowed_features(columns, size, names, None)
    values = np.column_stack([found[name] for name in names])
    values[:window] = np.nan
    keep = np.flatnonzero(~np.isnan(values).any(axis=1))
    if not keep.size:
        raise ValueError(f"gaps leave no bar with the {window + 1} bars that {feature_set!r} needs")
    frame = pd.DataFrame(values[keep], index=bars.index[keep], columns=list(names))
    frame.attrs = {"feature_set": feature_set, "window": window, "left_out": list(left_out)}
    return frame


def compute_single(
    bars: pd.DataFrame, feature_set: str | Sequence[str], *, published: bool = False
) -> pd.Series:
    """Computes the features of the last bar alone: the last row of `compute_features`.

    Args:
      bars: frame of bars, as `compute_features` takes it.
      feature_set: name of the set.
      published: True for the chapter's full list.

    Returns:
      Series of the features, named by the bar's timestamp; `row.get(name)` reads one.

    Raises:
      ValueError: as `compute_features`, and if the last bar has no full history.
    """
    frame = compute_features(bars, feature_set, published=published)
    if frame.index[-1] != bars.index[-1]:
        raise ValueError(f"the last bar, {bars.index[-1]}, touches a gap: no {feature_set!r} row")
    return frame.iloc[-1]


def feature_stats(frame: pd.DataFrame) -> pd.DataFrame:
    """Describes every column: one row per feature, the statistics of `describe` as columns."""
    rows = {name: describe(frame[name].to_numpy()) for name in frame.columns}
    return pd.DataFrame.from_dict(rows, orient="index")


def check_full_rank(frame: pd.DataFrame, *, floor: float = numerics.CORRELATION_FLOOR) -> None:
    """Refuses features that are constant or depend linearly on each other.

    Args:
      frame: [N, D] features, any units.
      floor: smallest eigenvalue of the correlation matrix that is accepted.

    Raises:
      ValueError: naming the columns that are constant, or that make up the dependence.
    """
    values = frame.to_numpy(np.float64)
    centred = values - values.mean(axis=0)
    sd = np.sqrt(np.mean(centred * centred, axis=0))
    size = np.abs(values).max(axis=0)
    constant = frame.columns[sd <= numerics.SCALE_FLOOR * size].tolist()
    if constant:
        raise ValueError(f"features must vary, {constant} are constant")
    scores = centred / sd
    eigenvalues, vectors = np.linalg.eigh(scores.T @ scores / len(scores))
    if eigenvalues[0] < floor:
        weights = np.abs(vectors[:, 0])
        named = frame.columns[weights > 0.1 * weights.max()].tolist()
        raise ValueError(
            f"features must be linearly independent, {named} are not: the smallest eigenvalue "
            f"of the correlation is {eigenvalues[0]:.3g}, below {floor:.3g}"
        )
