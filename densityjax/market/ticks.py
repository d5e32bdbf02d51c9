"""Bad ticks: a price that is far away for one bar, and back at once.

A price p of bar t is a bad tick if, in log prices and with a = close t-1, b = close t+1,

1. p lies on one side of both a and b, at least `BODY_SCALES` (open, close) or `WICK_SCALES`
   (high, low) robust standard deviations of a one-bar return, and at least `MIN_TICK_MOVE`, from
   the nearer; and
2. a and b agree: they differ by less than `AGREEMENT` of that distance.

A crash that stays, or comes back over hours, meets neither; nor does a fat tail: under a Student t
with 3 degrees of freedom a close meets both less than once in 10^7 bars. The first and last bar
are not judged. The rule reads one bar ahead and is for history only.
"""

import numpy as np

from densityjax._typing import NumpyArray

BODY_SCALES = 20.0  # robust standard deviations; closes of real markets undid up to 14 at once
WICK_SCALES = 25.0  # robust standard deviations; real wicks in liquid markets reached 22
MIN_TICK_MOVE = 0.05  # log units: a smaller error does no harm that is worth the risk of a repair
AGREEMENT = 0.25  # how closely the neighbours agree, as a share of the distance to the tick
SCALE_WINDOW = 101  # bars around t that set the local scale, so that a wild week is judged as such
MAD_TO_SD = 1.4826  # median absolute deviation to standard deviation, under a normal law


def find_bad_ticks(prices: NumpyArray) -> NumpyArray:
    """Finds bad ticks by the rule of this module.

    Args:
      prices: [T, 4] open, high, low, close, all positive and finite.

    Returns:
      [T, 4] True where a price is a bad tick.
    """
    bad = np.zeros(prices.shape, bool)
    if len(prices) < 3:
        return bad
    log_price = np.log(prices)
    close = log_price[:, 3]
    scale = _scale(np.diff(close))
    scales = (BODY_SCALES, WICK_SCALES, WICK_SCALES, BODY_SCALES)
    before, after = close[:-2, None], close[2:, None]
    middle = log_price[1:-1]
    above, below = middle - np.maximum(before, after), np.minimum(before, after) - middle
    distance = np.maximum(above, below)
    least = np.maximum(np.outer(scale[1:-1], scales), MIN_TICK_MOVE)
    bad[1:-1] = (distance > least) & (np.abs(after - before) < AGREEMENT * distance)
    return bad


def _scale(returns: NumpyArray) -> NumpyArray:
    """Returns the robust standard deviation around each of T bars, [T], from T - 1 returns.

    It is the larger of the local and the whole one: a stretch without trades has a local one of 0.
    """
    size = np.abs(np.append(returns[:1], returns))
    whole = np.median(size)
    half = min(SCALE_WINDOW, len(size)) // 2
    padded = np.pad(size, half, mode="reflect")
    local = np.median(np.lib.stride_tricks.sliding_window_view(padded, 2 * half + 1), axis=1)
    return MAD_TO_SD * np.maximum(local, whole)
