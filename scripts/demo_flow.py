"""Three short tours of the flow, each on data it makes itself, in a minute or two.

python scripts/demo_flow.py basic      # a correlated normal law: fit, codes, samples, an outlier
python scripts/demo_flow.py live       # 500 hourly bars: what the next one could do, and why act
python scripts/demo_flow.py backtest   # 1,000 hourly bars, 70/30: the signal as positions
"""

import argparse
import os
import pathlib
import sys

NUM_BARS = {"live": 500, "backtest": 1000}
TRAIN_SHARE = 0.7
DIM = 4
CORRELATION = 0.6
FAR = 10.0  # coordinates of the planted outlier, in sd


def parse(words: list[str]) -> argparse.Namespace:
    """Reads the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("tour", choices=("basic", "live", "backtest"))
    parser.add_argument("--bars", metavar="FILE", help="bars of your own, for live and backtest")
    parser.add_argument("--seed", type=int, default=0, help="of data and fits (default 0)")
    parser.add_argument("--epochs", type=int, default=60, help="most epochs of a fit (default 60)")
    arguments = parser.parse_args(words)
    if arguments.bars and arguments.tour == "basic":
        parser.error("--bars is given with basic: accepted with live and backtest")
    return arguments


def basic(seed: int, num_epochs: int) -> dict[str, float]:
    """Fits a correlated normal law and prints how near the fit is; returns the figures."""
    import jax
    import numpy as np

    from densityjax import targets
    from densityjax.estimators import FlowDensity

    covariance = (1 - CORRELATION) * np.eye(DIM) + CORRELATION
    law = targets.gaussian(np.zeros(DIM), covariance)
    keys = jax.random.split(jax.random.key(seed), 6000)
    rows = np.asarray(jax.jit(jax.vmap(law.sample))(keys), float)
    train, test = rows[:4000], rows[4000:]
    density = FlowDensity(width=32, num_epochs=num_epochs, random_state=seed).fit(train)
    truth = np.asarray(jax.jit(jax.vmap(law.log_prob))(jax.numpy.asarray(test)))
    found = density.score_samples(test)
    codes, drawn = density.to_noise(test), density.sample(2000, random_state=seed)
    outlier = density.score_samples(np.full((1, DIM), FAR))[0]
    figures = {
        "log density of the law, nats a row": truth.mean(),
        "log density of the flow, nats a row": found.mean(),
        "mean |correlation| of the codes": np.abs(
            np.corrcoef(codes.T)[~np.eye(DIM, dtype=bool)]
        ).mean(),
        "correlation of draws (law .6)": np.corrcoef(drawn.T)[0, 1],
        f"log density at ({FAR:g}, ..., {FAR:g})": outlier,
        "its 0.1 % quantile over test rows": np.quantile(found, 1 / 1000),
    }
    for name, value in figures.items():
        print(f"{name:40s}{value:10.3f}")
    print("The point far out is an outlier." if outlier < min(found) else "Nothing is far out.")
    return {name: float(value) for name, value in figures.items()}


def num_training(bars) -> int:  # noqa: ANN001
    """Returns how many bars are fitted on."""
    return int(TRAIN_SHARE * len(bars))


def fit_and_read(arguments: argparse.Namespace):  # noqa: ANN201
    """Fits a small pipeline to the first 70 % of the bars and reads them all; returns both."""
    import jax

    from densityjax import market, pipeline
    from densityjax.estimators import FlowDensity, ReturnForecaster

    if arguments.bars:
        bars = market.read_bars(arguments.bars)
    else:
        key = jax.random.key(arguments.seed)
        bars = market.simulate_market(key, NUM_BARS[arguments.tour]).bars
    past = bars.iloc[: num_training(bars)]
    fits = {"num_epochs": arguments.epochs, "random_state": arguments.seed}
    density = FlowDensity(width=32, num_layers=2, **fits)
    fitted = pipeline.Pipeline(
        "flow",
        density.fit(market.compute_features(past, "flow")),
        ReturnForecaster(num_members=4, **fits).fit(past),
    )
    return bars, pipeline.read(fitted, bars)


def entry_rule(frame, num_train: int):  # noqa: ANN001, ANN201
    """Returns a rule that acts on the quarter of training rows with the strongest forecasts."""
    import numpy as np

    from densityjax.backtest import ThresholdParams

    known = frame["expected_z"].abs().to_numpy()[:num_train]
    return ThresholdParams(entry_z=float(np.quantile(known, 0.75)), exit_z=0.0, min_p_value=0.05)


def live(arguments: argparse.Namespace) -> dict[str, float]:
    """Prints what is known at the last close: signal, risk and odds; returns the figures."""
    from densityjax import pipeline

    bars, reading = fit_and_read(arguments)
    frame = reading.frame
    decided = pipeline.decide(frame, entry_rule(frame, len(frame))).iloc[-1]
    last, forecast = frame.iloc[-1], reading.forecast[-1:]
    figures = {
        "expected return": last["expected_return"],
        "its standard deviation": last["return_std"],
        "P(return > 0)": float(forecast.prob_above(0.0)[0]),
        "value at risk, 95 %": float(forecast.value_at_risk(0.95)[0]),
        "expected shortfall, 95 %": last["expected_shortfall"],
        "p-value of the state": last["p_value"],
        "position": decided["position_size"],
    }
    print(f"At the close of {frame.index[-1]} at {bars['close'].iloc[-1]:.2f}, for the next bar:")
    for name, value in figures.items():
        print(f"{name:40s}{value:10.5f}")
    print(f"Reason: {decided['reason']}.")
    return {name: float(value) for name, value in figures.items()}


def backtest(arguments: argparse.Namespace) -> dict[str, float]:
    """Trades the last 30 % of the bars beside holding; prints and returns the figures."""
    import numpy as np

    from densityjax import backtest as engine
    from densityjax import market, pipeline
    from densityjax.backtest import metrics

    bars, reading = fit_and_read(arguments)
    num_train = num_training(bars)
    is_test = reading.frame.index >= bars.index[num_train + pipeline.window()]
    frame = reading.frame.loc[is_test]
    decided = pipeline.decide(frame, entry_rule(reading.frame, int((~is_test).sum())))
    prices = pipeline.prices(bars, frame.index)
    per_year = market.periods_per_year(bars.index)
    figures = {"bars": float(len(frame))}
    for name, weights in (
        ("rule", decided["position_size"].to_numpy()),
        ("holding", np.ones(len(frame))),
    ):
        result = engine.run(weights, prices, costs=engine.Costs(fee_bps=5.0))
        returns = np.asarray(result.returns)
        figures[f"total return, {name}"] = float(metrics.total_return(returns))
        figures[f"Sharpe ratio, {name}"] = float(
            metrics.sharpe_ratio(returns, periods_per_year=per_year)
        )
        figures[f"maximum drawdown, {name}"] = float(metrics.max_drawdown(returns))
    for name, value in figures.items():
        print(f"{name:40s}{value:10.4f}")
    print("Some hundred bars say next to nothing about a rule: this shows the path, not a profit.")
    return figures


def main() -> int:
    """Runs one tour; returns the exit status."""
    arguments = parse(sys.argv[1:])
    cache = pathlib.Path(os.environ.get("XDG_CACHE_HOME", "~/.cache")).expanduser()
    os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(cache / "densityjax"))
    try:
        if arguments.tour == "basic":
            basic(arguments.seed, arguments.epochs)
        else:
            {"live": live, "backtest": backtest}[arguments.tour](arguments)
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
