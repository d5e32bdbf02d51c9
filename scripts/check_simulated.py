"""Holds the forecaster against simulated markets, whose true next-bar density is known.

For each market: the mean log score of the truth and of the forecast on the test rows, and the
p-values of the calibration tests for both. Prints a table, and the share of tests that reject at
5 %: the truth should be rejected at that rate, a good forecast little more often.

    python scripts/check_simulated.py --markets 5
"""

import argparse
import json
import os
import pathlib
import sys
import time

LEVEL = 0.05  # of every test
TAILS = (0.01, 0.05)


def parse(words: list[str]) -> argparse.Namespace:
    """Reads the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--markets", type=int, default=5, help="number of markets (default 5)")
    parser.add_argument("--bars", type=int, default=20_000, help="bars of each (default 20,000)")
    parser.add_argument("--first-key", type=int, default=100, help="seed of the first market")
    parser.add_argument("--out", metavar="FILE", help="JSON file for the table")
    return parser.parse_args(words)


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


def check(seed: int, num_bars: int) -> dict:
    """Fits and judges one market."""
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
    """Checks the markets one by one; returns the exit status."""
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
    gaps = [row["log_score_true"] - row["log_score"] for row in rows]
    print(f"mean gap {sum(gaps) / len(gaps):.4f} nats, worst {max(gaps):.4f}")
    for name in rows[0]["p_values"]:
        shares = [
            sum(row[who][name] < LEVEL for row in rows) for who in ("true_p_values", "p_values")
        ]
        print(
            f"{name:<20} rejected: truth {shares[0]}/{len(rows)}  forecast {shares[1]}/{len(rows)}"
        )
    if options.out:
        pathlib.Path(options.out).write_text(json.dumps(rows, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
