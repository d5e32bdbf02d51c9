"""Holds the forecaster against simulated markets, whose true next-bar density is known.

For each market: the mean log score of the truth and of the forecast on the test rows, and the
p-values of the calibration tests for both. Then a line per criterion, pass or FAIL:

- the forecast's mean log score stays within `--max-gap` nats a bar of the truth's, on average over
  markets, and within `--max-worst-gap` on every one;
- each calibration test, at 5 %, rejects the truth in a share of markets that 5 % explains, and the
  forecast in one that three times 5 % explains. The limits are binomial quantiles: a share of .01
  of checks where truth and forecast are just that good fails by chance, over all tests together.
  With few markets these limits are wide, and with one or two they cannot fail.

    python scripts/check_simulated.py --markets 5

The exit status is 0 if every criterion passes, 1 if one fails, 2 for arguments not accepted.
"""

import argparse
import json
import math
import os
import pathlib
import sys
import time
from typing import NamedTuple

LEVEL = 0.05  # of every test
TAILS = (0.01, 0.05)
CHANCE = 0.01  # share of checks that fail by chance, of the truth's limits and of the forecast's
LENIENCE = 3.0  # times the nominal rate at which a good forecast may be rejected
MIN_BARS = 2_000  # fewer leave a test part that says nothing


class Criterion(NamedTuple):
    """One line of the verdict: what was found, least and most accepted, and most possible."""

    name: str
    found: float
    least: float
    most: float
    possible: float = math.inf

    @property
    def passes(self) -> bool:
        """Whether it was found within the limits; what is not a number was not."""
        return self.least <= self.found <= self.most


def parse(words: list[str]) -> argparse.Namespace:
    """Reads the command line; exits with 2 where it is not accepted."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--markets", type=int, default=5, help="number of markets (default 5)")
    add("--bars", type=int, default=20_000, help="bars of each (default 20,000)")
    add("--first-key", type=int, default=100, help="seed of the first market")
    add("--max-gap", type=float, default=0.02, help="mean gap to the truth, nats a bar")
    add("--max-worst-gap", type=float, default=0.02, help="gap of any market, nats a bar")
    add("--out", type=pathlib.Path, metavar="FILE", help="JSON file for the table")
    options = parser.parse_args(words)
    accepted = {"markets": 1, "bars": MIN_BARS, "first_key": 0, "max_gap": 0, "max_worst_gap": 0}
    for name, least in accepted.items():
        value = getattr(options, name)
        if not (least <= value and math.isfinite(value)):
            parser.error(f"--{name.replace('_', '-')} is {value}: accepted is at least {least}")
    if options.out is not None and (options.out.is_dir() or not options.out.parent.is_dir()):
        parser.error(f"--out is {options.out}: accepted is a file in a folder that exists")
    return options


def p_values(pit) -> dict[str, float]:  # noqa: ANN001  numpy is imported late
    """Returns the p-value of each calibration test of [T] probability integral transforms."""
    import numpy as np

    from densityjax import evaluation, risk

    pit = np.clip(pit, 1e-9, 1 - 1e-9)  # float32 forecasts round to the ends
    found = {"pit": evaluation.calibration.pit_test(pit).p_value}
    for tail in TAILS:
        for name, test in (
            ("kupiec", risk.kupiec_test),
            ("christoffersen", risk.christoffersen_test),
        ):
            found[f"{name} {tail:g}"] = test(pit < tail, tail).p_value
    return found


def rejection_limits(num_markets: int, rate: float, chance: float) -> tuple[int, int]:
    """Bounds how often a test may reject.

    Args:
      num_markets: independent markets K, each tested once.
      rate: probability that the test rejects one.
      chance: most probability that the bounds leave out, half of it on either side.

    Returns:
      Least and most rejections that are accepted, of K.
    """
    from scipy.stats import binom

    least, most = binom.ppf([chance / 2, 1.0 - chance / 2], num_markets, rate)
    return int(least), int(most)


def verdict(rows: list[dict], *, max_gap: float, max_worst_gap: float) -> list[Criterion]:
    """Judges the markets.

    Args:
      rows: what `check` says of each market, K >= 1.
      max_gap: most nats a bar between the log scores of truth and forecast, mean over markets.
      max_worst_gap: the same of the worst market.

    Returns:
      One `Criterion` for each gap, one for the forecast's rejections over all tests and markets,
      which is three times the nominal rate at most, and two for each calibration test.
    """
    gaps = [row["log_score_true"] - row["log_score"] for row in rows]
    found = [
        Criterion("mean gap, nats", sum(gaps) / len(gaps), -math.inf, max_gap),
        Criterion("worst gap, nats", max(gaps, key=_badness), -math.inf, max_worst_gap),
    ]
    names = list(rows[0]["p_values"])
    _, most_of_forecast = rejection_limits(
        len(rows),
        LENIENCE * LEVEL,
        2.0 * CHANCE / len(names),  # too few count for it
    )
    limits = {
        "truth": ("true_p_values", rejection_limits(len(rows), LEVEL, CHANCE / len(names))),
        "forecast": ("p_values", (0, most_of_forecast)),
    }
    pooled = sum(not row["p_values"][name] >= LEVEL for row in rows for name in names)
    most = math.floor(LENIENCE * LEVEL * len(rows) * len(names))
    found.append(Criterion("rejections of the forecast, pooled", pooled, 0, most))
    for name in names:
        for who, (column, (least, most)) in limits.items():
            count = sum(not row[column][name] >= LEVEL for row in rows)
            found.append(Criterion(f"{name} rejects the {who}", count, least, most, len(rows)))
    return found


def _badness(gap: float) -> float:
    """Orders gaps so that one that is not a number is the worst."""
    return math.inf if math.isnan(gap) else gap


def check(seed: int, num_bars: int) -> dict:
    """Fits the forecaster to one market and scores it on the test rows."""
    import jax
    import numpy as np

    from densityjax import market
    from densityjax.estimators import ReturnForecaster, forecast_rows

    simulated = market.simulate_market(jax.random.key(seed), num_bars)
    bars = simulated.bars
    purge = forecast_rows(bars.iloc[:1000]).window + 1
    parts = market.split(bars, purge=purge)
    start = time.perf_counter()
    forecaster = ReturnForecaster().fit(bars.iloc[parts.train])
    seconds = time.perf_counter() - start
    forecast = forecaster.predict(bars)
    test = np.arange(num_bars)[parts.test][:-1]  # the last bar has no next return
    rows = bars.index.get_indexer(forecast.index)
    forecast = forecast[np.flatnonzero(np.isin(rows, test))]
    realised = market.log_returns(bars).shift(-1).to_numpy()[test]
    return {
        "seed": seed,
        "rows": len(test),
        "fit_seconds": seconds,
        "log_score_true": float(simulated.log_prob[test].mean()),
        "log_score": float(forecast.log_prob(realised).mean(dtype=np.float64)),
        "true_p_values": p_values(simulated.cdf[test]),
        "p_values": p_values(forecast.cdf(realised).astype(np.float64)),
    }


def main() -> int:
    """Checks the markets one by one and prints the verdict; returns the exit status."""
    options = parse(sys.argv[1:])
    cache = pathlib.Path(os.environ.get("XDG_CACHE_HOME", "~/.cache")).expanduser()
    os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(cache / "densityjax"))
    rows = []
    for seed in range(options.first_key, options.first_key + options.markets):
        row = check(seed, options.bars)
        rows.append(row)
        gap = row["log_score_true"] - row["log_score"]
        print(
            f"market {seed}: true {row['log_score_true']:.4f}  forecast {row['log_score']:.4f}  "
            f"gap {gap:+.4f} nats  fit {row['fit_seconds']:.0f} s",
            flush=True,
        )
    criteria = verdict(rows, max_gap=options.max_gap, max_worst_gap=options.max_worst_gap)
    for each in criteria:
        limits = f"at most {each.most:g}" if each.least <= 0 else f"{each.least:g} to {each.most:g}"
        cannot_fail = each.least <= 0 and each.most >= each.possible
        word = "(cannot fail)" if cannot_fail else "pass" if each.passes else "FAIL"
        print(f"{word:<14}{each.name:<36} {each.found:>8.4g}  accepted: {limits}")
    if options.out:
        options.out.write_text(json.dumps(rows, indent=2) + "\n")
    return 0 if all(each.passes for each in criteria) else 1


if __name__ == "__main__":
    sys.exit(main())
