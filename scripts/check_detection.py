"""Delay to the detection of simulated switches, at one mean time between false alarms for all.

python scripts/check_detection.py                         # 400 streams a table, a minute
python scripts/check_detection.py --streams 200 --run-length 100

Returns are Student-t with 5 degrees of freedom; at an unknown bar their scale is multiplied. Every
detector is fitted to one calm training stream (the hidden Markov model to one with switches), and
its threshold is set on calm streams to the same mean time to a false alarm, which is then measured
on further calm streams. A stream is watched to its first alarm: before the switch it is a false
one, within the horizon a detection, and later or never a miss.
"""

import argparse
import sys
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from densityjax.evaluation import detection
from densityjax.regimes import change_points, energy_levels, hidden_markov, kernel_energy

DOF = 5.0
NUM_TRAIN = 2_000  # bars of the training stream
WARMUP = 60  # first bars of a stream, in which no detector alarms
NUM_BARS, HORIZON = 400, 100  # of a stream, and after a switch to find it in
FACTORS = (1.5, 2.0, 3.0)  # scale after the switch over that before it
DECAY = 0.94  # of the exponentially weighted volatility
MAX_RUN, RECENT = 250, 20  # bars: longest run told apart, and runs that count as new
Detector = Callable[[np.ndarray], np.ndarray]  # returns [P, T] -> statistics [P, T]


def draw(rng: np.random.Generator, num: int, factor: float, onset: np.ndarray) -> np.ndarray:
    """Draws returns [num, NUM_BARS], scaled by `factor` from bar `onset` [num] on."""
    noise = 0.01 * rng.standard_t(DOF, (num, NUM_BARS)) * np.sqrt((DOF - 2.0) / DOF)
    return noise * np.where(np.arange(NUM_BARS) >= onset[:, None], factor, 1.0)


def states(returns: jax.Array) -> jax.Array:
    """Returns [T, 3]: the return, and its moving mean sizes with memories of 5 and 20 bars."""

    def smooth(rate: float) -> jax.Array:
        def one(mean: jax.Array, size: jax.Array) -> tuple[jax.Array, jax.Array]:
            mean = (1.0 - rate) * mean + rate * size
            return mean, mean

        return jax.lax.scan(one, jnp.mean(jnp.abs(returns[:20])), jnp.abs(returns))[1]

    return jnp.stack([returns, smooth(1 / 5), smooth(1 / 20)], axis=1)


def detectors(rng: np.random.Generator) -> dict[str, Detector]:
    """Fits every detector to training streams of its own."""
    calm = 0.01 * rng.standard_t(DOF, NUM_TRAIN) * np.sqrt((DOF - 2.0) / DOF)
    regime = np.zeros(NUM_TRAIN, bool)
    for t in range(1, NUM_TRAIN):
        regime[t] = regime[t - 1] ^ (rng.random() < 0.01)
    markov = hidden_markov.fit_hidden_markov(calm * np.where(regime, 2.0, 1.0), dof=DOF)
    seen = np.asarray(states(jnp.asarray(calm, float)))
    kernel = kernel_energy.fit_kernel_energy(seen[: NUM_TRAIN // 2])
    held_out = kernel_energy.kernel_energies(kernel, seen[NUM_TRAIN // 2 :])
    spread = np.std(calm)

    def energies(returns: jax.Array) -> jax.Array:
        return jax.vmap(lambda x: kernel_energy.kernel_energy(kernel, x))(states(returns))

    def level(returns: jax.Array) -> jax.Array:
        def one(state: energy_levels.LevelState, energy: jax.Array) -> tuple:
            state, reading = energy_levels.step(energy_levels.LevelRule(), state, energy)
            return state, jnp.nan_to_num(reading.z)

        return jax.lax.scan(one, energy_levels.start(), energies(returns))[1]

    def sum_of(values: jax.Array, train: np.ndarray) -> jax.Array:
        return change_points.cumulative_sum((values - train.mean()) / train.std())

    def volatility(returns: jax.Array) -> jax.Array:
        def one(square: jax.Array, value: jax.Array) -> tuple[jax.Array, jax.Array]:
            square = DECAY * square + (1.0 - DECAY) * value**2
            return square, jnp.sqrt(square)

        return jax.lax.scan(one, jnp.asarray(spread**2), returns)[1]

    def turbulent(returns: jax.Array) -> jax.Array:
        probability = hidden_markov.filtered(markov, returns).probability
        return jnp.log(probability[:, 1]) - jnp.log(probability[:, 0])

    def recent(returns: jax.Array) -> jax.Array:
        def one(state: change_points.RunState, value: jax.Array) -> tuple:
            state, reading = change_points.step_runs(
                prior, state, value, hazard=1.0 / MAX_RUN, recent_within=RECENT
            )
            return state, reading.recent

        return jax.lax.scan(one, change_points.start_runs(max_run=MAX_RUN), returns / spread)[1]

    prior = change_points.NormalGammaPrior(strength=10.0, shape=3.0, rate=2.0)
    of_stream = {
        "energy level, 20 bars": level,
        "log density, CUSUM": lambda r: sum_of(energies(r), held_out),
        "|r|, CUSUM": lambda r: sum_of(jnp.abs(r), np.abs(calm)),
        "EWMA volatility": volatility,
        "HMM filter": turbulent,
        "run length, Bayes": recent,
    }
    return {name: _over_streams(function) for name, function in of_stream.items()}


def _over_streams(function: Callable) -> Detector:
    """Returns the detector over streams, blind in its warm-up."""
    # One stream after the other: distances of all at once to all kernels would fill the memory.
    compiled = jax.jit(lambda streams: jax.lax.map(function, streams))

    def statistic(returns: np.ndarray) -> np.ndarray:
        values = np.array(compiled(jnp.asarray(returns, float)), float)
        values[:, :WARMUP] = values.min()
        return values

    return statistic


def measure(values: np.ndarray, onset: np.ndarray, threshold: float) -> list[float]:
    """Returns mean and median delay, shares missed and of false alarms first, and F1."""
    alarms = values > threshold
    first = np.where(alarms.any(axis=1), alarms.argmax(axis=1), NUM_BARS)
    is_false = first < onset
    watched = np.flatnonzero(~is_false)
    # Streams without a false alarm, end to end, each with its switch.
    begin = np.arange(watched.size) * NUM_BARS + onset[watched]
    ends = begin + HORIZON
    latency = detection.detection_latency(alarms[watched].ravel(), begin.tolist(), ends.tolist())
    ever = first < NUM_BARS
    times = (np.arange(len(values)) * NUM_BARS + first)[ever]
    changes = np.arange(len(values)) * NUM_BARS + onset
    f1 = detection.alarm_score(times, changes, margin=HORIZON - 1).f1
    missed = latency.num_missed / watched.size
    return [latency.mean_found, latency.median, missed, float(is_false.mean()), f1]


def compare(seed: int, num: int, run_length: float) -> dict[str, list[list[float]]]:
    """Returns, for each detector, its realised run length and its figures at each factor."""
    rng = np.random.default_rng(seed)
    fitted = detectors(rng)
    never = np.full(num, NUM_BARS)
    null, check = (draw(rng, num, 1.0, never) for _ in range(2))
    onset = rng.integers(WARMUP + 20, NUM_BARS - HORIZON, num)
    switched = {factor: draw(rng, num, factor, onset) for factor in FACTORS}
    found = {}
    for name, detector in fitted.items():
        tail = slice(WARMUP, None)
        threshold = detection.run_length_threshold(detector(null)[:, tail], run_length=run_length)
        above = detector(check)[:, tail] > threshold
        watched = np.where(above.any(axis=1), above.argmax(axis=1) + 1, above.shape[1])
        realised = watched.sum() / max(int(above.any(axis=1).sum()), 1)
        rows = [measure(detector(switched[f]), onset, threshold) for f in FACTORS]
        found[name] = [[float(realised)], *rows]
    return found


def main(words: list[str]) -> int:
    """Runs the comparison; returns the exit status."""
    parser = argparse.ArgumentParser(description="Delays of detectors at equal false alarms.")
    parser.add_argument("--streams", type=int, default=400, help="streams of each kind")
    parser.add_argument("--run-length", type=float, default=250.0, help="bars to a false alarm")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(words)
    try:
        found = compare(options.seed, options.streams, options.run_length)
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(f"bars to a false alarm: {options.run_length:g} wanted, {options.streams} streams")
    columns = "mean delay, median delay, missed %, false alarm first %, F1"
    print(f"{'':22} {'realised':>8} | {columns} at scale x {', x '.join(map(str, FACTORS))}")
    for name, (realised, *rows) in found.items():
        cells = [
            f"{mean:6.1f} {median:5.0f} {100 * missed:5.1f} {100 * false:5.1f} {f1:5.3f}"
            for mean, median, missed, false, f1 in rows
        ]
        print(f"{name:22} {realised[0]:>8.0f} | " + " | ".join(cells))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
