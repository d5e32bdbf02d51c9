"""Compares a joint energy model with a plain classifier of the same net on the simulated market.

python scripts/check_regime_classifier.py                 # five markets of 20,000 bars, minutes
python scripts/check_regime_classifier.py --bars 6000 --seeds 1

Classes are the regimes of the next 20 bars (`market.label_regimes`), inputs the energy features.
Both nets are fitted on the first part of the rows, temperatures on the middle one, and scores are
of the last, with purges between. Rows: the share of each class (base rates), the plain net, the
plain net with temperature scaling, the joint model, and that with temperature scaling. Columns:
expected calibration error in 15 bins, Brier score (0 to 2), log loss in nats, accuracy, and mean
log p(x) in nats with the standard error of its normaliser; means over seeds with their spread.
"""

import argparse
import sys

import jax
import numpy as np
import pandas as pd

from densityjax import market
from densityjax.estimators import JointEnergyClassifier
from densityjax.evaluation import classification
from densityjax.market.regime_labels import HORIZON, REGIMES

COLUMNS = ("ECE", "Brier", "log loss", "accuracy", "log p(x)", "error of log Z")


def rows_of(seed: int, num_bars: int) -> tuple[pd.DataFrame, pd.Series, market.Split]:
    """Draws a market and returns its features, labels, and the split of their rows."""
    bars = market.simulate_market(jax.random.key(seed), num_bars).bars
    features = market.compute_features(bars, "energy")
    purge = market.longest_window("energy") + HORIZON
    parts = market.split(features, purge=purge)
    first = np.flatnonzero(bars.index == features.index[parts.train.stop - 1])[0]
    labels = market.label_regimes(bars, num_training=int(first) + 1).labels
    return features, labels.reindex(features.index), parts


def scores(labels: np.ndarray, log_p: np.ndarray) -> list[float]:
    """Returns calibration error, Brier score, log loss and accuracy."""
    p = np.exp(log_p)
    return [
        classification.expected_calibration_error(labels, p).error,
        classification.brier_score(labels, p),
        classification.log_loss(labels, log_p),
        float(np.mean(log_p.argmax(axis=1) == labels)),
    ]


def compare(seed: int, num_bars: int, num_epochs: int | None) -> dict[str, list[float]]:
    """Fits both nets on one market and scores them on its last part."""
    features, labels, parts = rows_of(seed, num_bars)
    names = np.array(sorted(REGIMES))
    known = labels.notna().to_numpy()
    spans = {}
    for name, span in parts._asdict().items():
        keep = known[span]
        codes = np.searchsorted(names, labels.iloc[span][keep].to_numpy(str))
        spans[name] = features.iloc[span][keep].to_numpy(), codes
    (train, train_codes), (middle, middle_codes), (test, test_codes) = spans.values()
    shares = np.bincount(train_codes, minlength=len(names)) / len(train_codes)
    base = np.tile(np.log(shares), (len(test), 1))
    found = {"base rates": [*scores(test_codes, base), np.nan, np.nan]}
    for name, weight in (("cross-entropy", 0.0), ("joint", 0.1)):
        net = JointEnergyClassifier(
            density_weight=weight, num_epochs=num_epochs, purge=HORIZON, random_state=seed
        ).fit(train, train_codes)
        density = [float(net.score_samples(test).mean())]
        density.append(float(net.normalisation_.standard_error))
        log_p = net.predict_log_proba(test)
        found[name] = [*scores(test_codes, log_p), *density]
        scaling = classification.temperature_scaling(middle_codes, net.predict_log_proba(middle))
        scaled = scaling.log_probabilities(log_p)
        found[f"{name}, scaled"] = [*scores(test_codes, scaled), *density]
    return found


def main(words: list[str]) -> int:
    """Runs the comparison; returns the exit status."""
    parser = argparse.ArgumentParser(description="Regime classifiers on the simulated market.")
    parser.add_argument("--bars", type=int, default=20_000, help="bars of each market")
    parser.add_argument("--seeds", type=int, default=5, help="markets")
    parser.add_argument("--epochs", type=int, help="most passes over the rows")
    options = parser.parse_args(words)
    if options.bars < 1000 or options.seeds < 1:
        print("error: accepted are --bars of 1000 and more and --seeds of 1", file=sys.stderr)
        return 2
    runs = [compare(seed, options.bars, options.epochs) for seed in range(options.seeds)]
    table = np.array([list(run.values()) for run in runs])
    index = list(runs[0])
    print(pd.DataFrame(table.mean(axis=0), index, COLUMNS).to_string(float_format="%.4f"))
    if len(runs) > 1:
        print("standard deviation between markets")
        print(pd.DataFrame(table.std(axis=0), index, COLUMNS).to_string(float_format="%.4f"))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
