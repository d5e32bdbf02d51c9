"""The `context` set: what a forecaster of the next log return looks at.

With `l_t = ln(C_t / C_{t-1})` and `sigma_h` the root of the bias-corrected exponentially weighted
mean of `l^2` with a half-life of `h` bars. The first column, `log_scale = ln sigma_10`, is the
base scale: the forecaster models `l_{t+1} / exp(log_scale_t)`. All others are without unit, and
bounded or slowly growing: logs of ratios to the base scale, shares, standardised returns.

| columns | what they tell |
|---|---|
| log_vol_h, h = 2, 5, 20, 60, 250 | `ln(sigma_h / sigma_10)`: the term structure of volatility |
| log_range_vol_3, _15 | the same from the mean size of overnight moves and ranges |
| downside_5, _20 | share of `l^2` on falling bars: volatility rises more after falls |
| tail_20 | `ln` of mean |l| over sigma, 0 for a Gaussian: recent jumps inflate sigma |
| return_lag_j, j = 0, 1, 2 | `l_{t-j} / sigma_10`, within +-4 |
| abs_return | `ln(1 + |l_t| / sigma_10)` |
| momentum_k, k = 5, 20, 60 | `ln(C_t / C_{t-k}) / (sigma_k sqrt(k))` |
| log_volume, log_volume_trend | volume over its mean (20), and mean volume 5 over 60 |

Intraday bars (median step of the first 61 under a day) add `seasonality.NAMES`. No volatility
falls below a floor, a fiftieth of the mean volatility so far and at least `VOLATILITY_FLOOR`, so
that flat stretches stay finite. Means run from the first bar on: feed a stream the same start.
"""

from typing import NamedTuple

import numpy as np

from densityjax import numerics
from densityjax.market import seasonality
from densityjax.market.bar_arrays import BarArrays, log_returns
from densityjax.market.rolling import EwmaState, ewma, halflife_to_alpha, lagged, window_sum

WINDOW = 60  # bars before the first row, and the longest finite window
BASE = 10  # half-life of `log_scale`, bars: a decay of 0.93, near RiskMetrics' 0.94
VOLUME_FLOOR = 0.05  # share of mean volume: an empty bar has a log volume of -3
GAUSSIAN_MEAN_SIZE = float(np.sqrt(2.0 / np.pi))  # mean |z| of a standard normal

# half-life in bars: the series whose means are taken with it
MEANS = {
    2: ("square",),
    3: ("range",),
    5: ("square", "downside", "volume"),
    10: ("square",),
    15: ("range",),
    20: ("square", "downside", "size", "volume"),
    60: ("square", "volume"),
    250: ("square",),
}
NAMES = (
    ("log_scale", "log_vol_2", "log_vol_5", "log_vol_20", "log_vol_60", "log_vol_250")
    + ("log_range_vol_3", "log_range_vol_15", "downside_5", "downside_20", "tail_20")
    + ("return_lag_0", "return_lag_1", "return_lag_2", "abs_return")
    + ("momentum_5", "momentum_20", "momentum_60", "log_volume", "log_volume_trend")
)
VOLUME_NAMES = ("log_volume", "log_volume_trend")


class ContextState(NamedTuple):
    """What the next row of the context set needs, beside the last `WINDOW` bars.

    Attributes:
      means: state of the means of each half-life.
      total: [2, 1] carried sum and number of squared returns so far.
      last_scale: base volatility at the last bar; NaN before the first.
      calendar: state of the calendar features; None for bars of a day or more.
    """

    means: dict[int, EwmaState | None]
    total: np.ndarray
    last_scale: float
    calendar: seasonality.CalendarState | None


def init_context(seconds: np.ndarray) -> ContextState:
    """Returns the state before the first bar, given the opening times of the first 61."""
    step = int(np.median(np.diff(seconds[: WINDOW + 1])))
    calendar = seasonality.init_calendar(step) if step < seasonality.DAY else None
    return ContextState(dict.fromkeys(MEANS), np.zeros((2, 1)), float("nan"), calendar)


def _range_size(columns: BarArrays) -> np.ndarray:
    """Returns the root of (log gap at the open)^2 + Parkinson's ln(H/L)^2 / (4 ln 2), [T].

    Where only closes are known (flat bars) it is the size of the return itself. Sizes and not
    squares are averaged later: bad ticks are commoner in highs and lows than in closes.
    """
    gap = np.log(columns.open / lagged(columns.close, 1))
    width = np.log(columns.high / columns.low)
    return np.sqrt(gap * gap + width * width / (4.0 * np.log(2.0)))


def _means(
    series: dict[str, np.ndarray], states: dict[int, EwmaState | None]
) -> tuple[dict[tuple[str, int], np.ndarray], dict[int, EwmaState | None]]:
    """Returns every mean of `MEANS` by (series, half-life), and the states after the last row."""
    found, after = {}, {}
    for halflife, names in MEANS.items():
        stacked = np.stack([series[name] for name in names])
        means, after[halflife] = ewma(stacked, halflife_to_alpha(halflife), states[halflife])
        found.update({(name, halflife): row for name, row in zip(names, means, strict=True)})
    return found, after


def _floor(square: np.ndarray, total: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns the smallest variance allowed at each row, [T], and the carried total."""
    is_there = ~np.isnan(square)
    rows = np.stack([np.where(is_there, square, 0.0), is_there.astype(np.float64)])
    sums = np.cumsum(np.concatenate([total, rows], axis=1), axis=1)  # one at a time, in order
    mean = sums[0, 1:] / np.maximum(sums[1, 1:], 1.0)
    relative = numerics.RELATIVE_VOLATILITY_FLOOR * numerics.RELATIVE_VOLATILITY_FLOOR
    smallest = numerics.VOLATILITY_FLOOR * numerics.VOLATILITY_FLOOR
    return np.maximum(relative * mean, smallest), sums[:, -1:]


def _volume_features(volume: np.ndarray, means: dict) -> dict[str, np.ndarray]:
    """Returns the two log volume ratios, 0 where there was no volume at all."""

    def log_ratio(top: np.ndarray, bottom: np.ndarray) -> np.ndarray:
        ratio = np.where(bottom == 0.0, 1.0, top / np.where(bottom == 0.0, 1.0, bottom))
        return np.log((ratio + VOLUME_FLOOR) / (1.0 + VOLUME_FLOOR))

    return {
        "log_volume": log_ratio(volume, means["volume", 20]),
        "log_volume_trend": log_ratio(means["volume", 5], means["volume", 60]),
    }


def _return_features(
    returns: np.ndarray, size: int, scale: np.ndarray, volatility: dict[int, np.ndarray]
) -> dict[str, np.ndarray]:
    """Returns the standardised returns and momenta of the last `size` rows."""
    found = {f"return_lag_{j}": lagged(returns, j)[-size:] / scale for j in range(3)}
    found["abs_return"] = np.log1p(np.abs(returns[-size:]) / scale)
    for window in (5, 20, 60):
        moved = window_sum(returns, window, min_share=0.5)[-size:]  # what a gap moved is unknown
        found[f"momentum_{window}"] = moved / (volatility[window] * np.sqrt(float(window)))
    return found


def context_features(
    columns: BarArrays, size: int, state: ContextState
) -> tuple[dict[str, np.ndarray], ContextState]:
    """Computes the context features of the last `size` bars, and the state after them.

    Args:
      columns: bars [T], of which the first `T - size` are known to `state` and only looked back
        at; at least the last 60 of those before, if there are as many.
      size: number of new bars.
      state: what an earlier call or `init_context` handed back.

    Returns:
      The columns of the module's table, each [size], `log_scale` first (natural log of a log
      return per bar), NaN where history is missing; and the state after the last bar.
    """
    returns = log_returns(columns)
    new, square = returns[-size:], (returns * returns)[-size:]
    is_known = ~np.isnan(new)
    series = {
        "square": square,
        "downside": np.where(new < 0.0, square, np.where(is_known, 0.0, np.nan)),
        "size": np.abs(new),
        "range": np.where(is_known, _range_size(columns)[-size:], np.nan),
        "volume": columns.volume[-size:],
    }
    means, mean_states = _means(series, state.means)
    floor, total = _floor(square, state.total)
    volatility = {
        h: np.sqrt(np.maximum(means["square", h], floor)) for h in (2, 5, 10, 20, 60, 250)
    }
    scale = volatility[BASE]
    found = {"log_scale": np.log(scale)}
    found |= {f"log_vol_{h}": np.log(volatility[h] / scale) for h in (2, 5, 20, 60, 250)}
    for h in (3, 15):
        found[f"log_range_vol_{h}"] = np.log(np.maximum(means["range", h], np.sqrt(floor)) / scale)
    for h in (5, 20):
        share = (means["downside", h] + 0.5 * floor) / (means["square", h] + floor)
        found[f"downside_{h}"] = share
    mean_size = means["size", 20] / GAUSSIAN_MEAN_SIZE + np.sqrt(floor)
    found["tail_20"] = np.log(mean_size / (np.sqrt(means["square", 20]) + np.sqrt(floor)))
    found |= _return_features(returns, size, scale, volatility)
    found |= _volume_features(series["volume"], means)
    calendar = state.calendar
    if calendar is not None:
        before = np.concatenate([[state.last_scale], scale[:-1]])
        seconds = columns.seconds[-size:]
        season, calendar = seasonality.calendar_features(seconds, np.abs(new) / before, calendar)
        found |= season
    return found, ContextState(mean_states, total, float(scale[-1]), calendar)
