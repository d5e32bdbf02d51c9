"""Fixture: a small synthetic run folder with everything that a run may write."""

import json

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from densityjax.report.terms import TERMS

PROBABILITIES = (0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99)
VALUES = {"count": 12, "fraction": 0.0512, "nats": 3.1415, "ratio": 0.42, "p_value": 0.31}


def forecast_frame(rng, stamps, split):
    """A Student-t market with a slow volatility, forecast with the right law."""
    num_bars = len(stamps)
    scale = 0.01 * np.exp(0.5 * np.sin(np.arange(num_bars) / 40.0))
    returns = scale * rng.standard_t(5, num_bars)
    law = stats.t(5, scale=scale)
    frame = pd.DataFrame({"split": split, "close": 100 * np.exp(np.cumsum(returns))}, stamps)
    returns_next = np.append(returns[1:], np.nan)
    law_next = stats.t(5, scale=np.append(scale[1:], scale[-1]))
    frame["return_next"] = returns_next
    frame["log_prob"] = law_next.logpdf(returns_next)
    frame["log_prob_gjr_skewt"] = stats.t(5, scale=0.012).logpdf(returns_next)
    frame["log_prob_ewma_t"] = stats.t(4, scale=0.014).logpdf(returns_next)
    frame["log_prob_true"] = law_next.logpdf(returns_next) + 0.002
    frame["cdf"] = law_next.cdf(returns_next)
    frame["mean"], frame["std"] = law.mean(), law.std()
    for probability in PROBABILITIES:
        frame[f"quantile_{probability}"] = law_next.ppf(probability)
    for confidence in (95, 99):
        frame[f"value_at_risk_{confidence}"] = -law_next.ppf(1 - confidence / 100)
        frame[f"expected_shortfall_{confidence}"] = -1.3 * law_next.ppf(1 - confidence / 100)
    return frame


def signals_frame(rng, forecast):
    """Signals, positions and equity of the test rows."""
    test = forecast[forecast["split"] == "test"]
    num_bars = len(test)
    position = np.clip(np.repeat(rng.normal(size=num_bars // 10 + 1), 10)[:num_bars], -1, 1)
    market = np.expm1(np.append(0.0, test["return_next"].to_numpy()[:-1]))
    pnl = np.append(0.0, position[:-1]) * market
    frame = pd.DataFrame({"price": test["close"]}, test.index)
    frame["log_prob"] = rng.normal(-8.0, 2.0, num_bars)
    frame["p_value"] = rng.uniform(size=num_bars)
    frame["in_distribution"] = frame["p_value"] > 0.05
    frame["is_anomaly"] = ~frame["in_distribution"]
    frame["signal"], frame["confidence"] = np.sign(position), np.abs(position)
    frame["expected_return"], frame["return_std"] = test["mean"], test["std"]
    frame["position"], frame["pnl"] = position, pnl
    frame["reason"] = np.where(np.abs(position) < 0.3, "below entry <z>", "entry")
    frame["cumulative_pnl"] = pnl.cumsum()
    frame["equity"] = np.cumprod(1 + pnl)
    frame["drawdown"] = frame["equity"] / frame["equity"].cummax() - 1
    frame["equity_buy_and_hold"] = np.cumprod(1 + market)
    frame["equity_volatility_target"] = np.cumprod(1 + 0.6 * market)
    frame["equity_score_strategy"] = np.cumprod(1 - 0.2 * market)
    frame["equity_energy_strategy"] = np.cumprod(1 + 0.4 * market)
    return frame


def grid_frame(rng):
    """Every rule of a small grid with its validation metrics."""
    axes = {
        "entry_z": [0.25, 0.5, 1.0, 1.5, 2.0],
        "exit_z": [0.0, 0.1, 0.25],
        "min_p_value": [0.01, 0.05],
        "risk_budget": [0.01],
    }
    grid = pd.MultiIndex.from_product(axes.values(), names=list(axes)).to_frame(index=False)
    grid["sharpe_ratio"] = rng.normal(0.1, 0.5, len(grid))
    grid["total_return"] = 0.1 * grid["sharpe_ratio"]
    grid["max_drawdown"], grid["turnover"], grid["exposure"] = 0.1, 12.0, 0.5
    return grid


def training_frame(rng):
    """Losses of three members of both models."""
    rows = []
    for model in ("density", "forecast"):
        for member in range(3):
            for epoch in range(40):
                train = 3.0 * np.exp(-epoch / 8) - 1.0 + 0.02 * rng.normal()
                validation = train + 0.1 + 0.00015 * (epoch - 15) ** 2
                rows.append((model, member, epoch, train, validation))
    return pd.DataFrame(rows, columns=["model", "member", "epoch", "train_loss", "validation_loss"])


def samples_frame(rng):
    """Two features of the data, and draws of two families that differ in one correlation."""
    frames = []
    for source, correlation in (("data", 0.8), ("flow", 0.8), ("score", -0.4)):
        rows = rng.multivariate_normal([0, 0], [[1, correlation], [correlation, 1]], 400)
        rows = pd.DataFrame(rows * [0.01, 3.0], columns=["return_1", "log_volatility_20"])
        frames.append(rows.assign(source=source))
    return pd.concat(frames, ignore_index=True)


def metrics_of(grid):
    """One value for every name of the glossary, one missing, one unknown."""
    metrics = {}
    for (section, name), term in TERMS.items():
        metrics.setdefault(section, {})[name] = VALUES.get(term.kind, 1.75)
    best = grid.loc[grid["sharpe_ratio"].idxmax()]
    for name in ("entry_z", "exit_z", "min_p_value", "risk_budget"):
        metrics["grid"][f"best_{name}"] = float(best[name])
    metrics["grid"]["best_band"] = 0.05
    metrics["grid"] |= {"num_trials": len(grid), "validation_sharpe_ratio": best["sharpe_ratio"]}
    metrics["grid"]["expected_max_sharpe"] = 1.2
    metrics["strategy"] |= {"sharpe_ratio_low": -0.41, "sharpe_ratio_high": 1.25}
    metrics["buy_and_hold"] |= {"sharpe_ratio": 0.6, "total_return": 0.12}
    metrics["volatility_target"]["calmar_ratio"] = None
    metrics["volatility_target"]["calmar_ratio_reason"] = "the equity never fell"
    metrics["forecast"] |= {"crps": 0.00512, "log_score": 3.02, "log_score_gjr_skewt": 3.01}
    metrics["forecast"]["violations_1pct"], metrics["forecast"]["violation_rate_1pct"] = 3, 0.01
    metrics["forecast"]["diebold_mariano_gjr_skewt"] = 1.1
    metrics["forecast"]["brier_score_of_signs"] = 0.2491
    return metrics


def split_block(stamps, split):
    """Start, end and rows of every split, as the configuration records them."""
    blocks = {}
    for name in ("train", "validation", "test"):
        rows = stamps[split == name]
        start, end = rows[0].isoformat(), rows[-1].isoformat()
        blocks[name] = {"start": start, "end": end, "rows": len(rows)}
    return blocks | {"purge": 1}


def config_of(stamps, split):
    """The configuration that belongs to the frames."""
    start, end = stamps[0].isoformat(), stamps[-1].isoformat()
    data = {"name": "synthetic & <small>", "source": "a random generator", "num_bars": len(stamps)}
    data |= {"start": start, "end": end, "span_days": (stamps[-1] - stamps[0]).days}
    data |= {"interval_seconds": 86400, "num_gaps": 2, "largest_gap_seconds": 3 * 86400}
    data |= {"periods_per_year": 252.3, "has_volume": False, "hash": "0f1e2d3c4b5a"}
    data |= {"notes": ["prices are made up"], "warnings": ["less than a year of test rows"]}
    return {
        "arguments": {"data": "synthetic", "num_members": 3, "fee_bps": 2.5, "device": None},
        "versions": {"jax": "0.10.2", "numpy": "2.4.0"},
        "data": data,
        "features": {
            "state": ["return_1", "log_volatility_20"],
            "context": ["return_1"],
            "left_out": ["volume_z: the bars have no volume"],
        },
        "split": split_block(stamps, split),
        "seed": 2026,
        "created": "2026-11-21T12:00:00+00:00",
        "seconds": {"fit": 42.5, "backtest": 3.0},
    }


@pytest.fixture(scope="session")
def write_run():
    """Returns a function that writes a synthetic run into a folder and returns the folder."""

    def write(folder, num_bars=1200):
        rng = np.random.default_rng(7)
        stamps = pd.bdate_range("2016-01-04", periods=num_bars, tz="UTC", name="timestamp")
        split = np.repeat(
            ["train", "validation", "test"],
            [
                int(0.6 * num_bars),
                int(0.15 * num_bars),
                num_bars - int(0.6 * num_bars) - int(0.15 * num_bars),
            ],
        )
        folder.mkdir(parents=True, exist_ok=True)
        forecast, grid = forecast_frame(rng, stamps, split), grid_frame(rng)
        density = forecast[["split", "close"]].copy()
        density["log_prob"] = 4.0 * rng.standard_t(6, num_bars) - 8.0
        density["p_value"] = density["log_prob"].rank(pct=True)
        density["log_prob_score"] = density["log_prob"] + rng.normal(1.0, 2.0, num_bars)
        frames = {
            "forecast": forecast,
            "signals": signals_frame(rng, forecast),
            "density": density,
            "grid": grid,
            "training": training_frame(rng),
            "samples": samples_frame(rng),
        }
        for name, frame in frames.items():
            frame.to_parquet(folder / f"{name}.parquet")
        config, metrics = config_of(stamps, split), metrics_of(grid)
        (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
        (folder / "metrics.json").write_text(json.dumps(metrics), encoding="utf-8")
        return folder

    return write


@pytest.fixture
def run_folder(tmp_path, write_run):
    """A fresh synthetic run folder."""
    return write_run(tmp_path / "run")
