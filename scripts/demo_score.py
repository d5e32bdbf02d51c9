"""Three short tours of the score, each on data it makes itself, in some minutes.

python scripts/demo_score.py basic      # a mixture in the plane: how right the score is, and draws
python scripts/demo_score.py live       # the last 200 hourly bars: state, score, signal, and why
python scripts/demo_score.py backtest   # 1,000 hourly bars, 70/30: the signal as positions

The signal is the score of the NEXT return at zero. Tours on bars fit what they read; `--save` keeps
it, and `live --model` reads with it. A model that is not trained is refused.
"""

import argparse
import functools
import os
import pathlib
import sys
from typing import Any, NamedTuple

NUM_BARS = {"live": 900, "backtest": 1000}
NUM_LIVE = 200
TRAIN_SHARE = 0.7
WEIGHTS, MEANS = (0.6, 0.3, 0.1), ((-4.0, 0.0), (4.0, 2.0), (1.0, -5.0))
COVARIANCES = (((1.0, 0.6), (0.6, 0.8)), ((0.4, 0.0), (0.0, 0.4)), ((0.8, 0.0), (0.0, 0.2)))
COMPARE_SIGMA = 0.1  # noise at which scores are compared, in sd
DENOISE_SIGMA = 0.1  # noise that a state is taken to carry, in sd
FALSE_ALARM_RATE = 0.05
FEE_BPS = 5.0


class Models(NamedTuple):
    """What a reading needs: the score of the next return, and the density of states."""

    score: Any
    density: Any


def parse(words: list[str]) -> argparse.Namespace:
    """Reads the command line; `settings` gathers the constants of the strategy."""
    from densityjax.strategies.score_reading import ScoreSettings

    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("tour", choices=("basic", "live", "backtest"))
    parser.add_argument("--bars", metavar="FILE", help="bars of your own, for live and backtest")
    parser.add_argument("--model", metavar="FOLDER", help="models that --save wrote, for live")
    parser.add_argument("--save", metavar="FOLDER", help="keep the models of live or backtest")
    parser.add_argument("--seed", type=int, default=0, help="of data and fits (default 0)")
    parser.add_argument("--epochs", type=int, default=60, help="most epochs of a fit (default 60)")
    group = parser.add_argument_group("settings")
    for name, value in ScoreSettings()._asdict().items():
        flag, kind = f"--{name.replace('_', '-')}", type(value)
        group.add_argument(flag, type=kind, default=value, help=f"(default {value})")
    arguments = parser.parse_args(words)
    if arguments.tour == "basic" and (arguments.bars or arguments.model or arguments.save):
        parser.error("--bars, --model or --save is given with basic: accepted with live, backtest")
    if arguments.tour == "backtest" and arguments.model:
        parser.error("--model is given with backtest: accepted with live, for it fits its own")
    if arguments.epochs < 1:
        parser.error(f"--epochs is {arguments.epochs}: a model that is not trained has no signal")
    given = {name: getattr(arguments, name) for name in ScoreSettings._fields}
    arguments.settings = ScoreSettings(**given)
    return arguments


def wide_enough(settings: Any, rows: Any) -> float:
    """Returns a largest noise level that hides what the rows are: densities and draws need it."""
    import numpy as np

    standard = (rows - rows.mean(0)) / rows.std(0)
    # Twice the largest distance from the mean is at least that of any pair.
    return max(settings.sigma_max, 2.0 * float(np.linalg.norm(standard, axis=1).max()))


def basic(arguments: argparse.Namespace) -> dict[str, float]:
    """Fits a mixture whose score is known and prints how near the fit is; returns the figures."""
    import jax
    import numpy as np

    from densityjax import models, targets, training
    from densityjax.evaluation import score_accuracy
    from densityjax.samplers import reverse_diffusion, schedules

    settings, key = arguments.settings, jax.random.key(arguments.seed)
    weights, means, covariances = (np.asarray(each) for each in (WEIGHTS, MEANS, COVARIANCES))
    law = targets.gaussian_mixture(weights, means, covariances)
    rows = jax.jit(jax.vmap(law.sample))(jax.random.split(key, 3000))
    train, test = rows[:2500], rows[2500:]
    sigma_max = wide_enough(settings, np.asarray(train))
    model = models.score_model(
        2,
        width=settings.width,
        num_hidden=settings.num_layers,
        sigma_min=settings.sigma_min,
        sigma_max=sigma_max,
    )
    loss = models.score_loss(model, levels=levels(settings), num_validation_draws=4)
    params = training.fit(
        key,
        loss.loss_fn,
        model.init(key, train),
        train,
        optimizer=training.adamw(
            num_steps=arguments.epochs * 10, learning_rate=settings.learning_rate
        ),
        num_epochs=arguments.epochs,
        batch_size=250,
        validation=test,
        validation_loss_fn=loss.validation_loss_fn,
    ).params
    scale = np.asarray(params["standardiser"]["scale"], np.float64)
    noise = COMPARE_SIGMA * scale
    truth = targets.gaussian_mixture(weights, means, covariances + np.diag(noise**2))
    noisy = test + noise * jax.random.normal(jax.random.fold_in(key, 1), test.shape)
    found = jax.jit(jax.vmap(lambda x: model.score(params, x, COMPARE_SIGMA)))(noisy)
    known = jax.jit(jax.vmap(truth.score))(noisy)
    right = score_accuracy.score_accuracy(scale * found, scale * known)
    ladder = schedules.edm_levels(sigma_min=0.02, sigma_max=sigma_max, num_levels=18)

    def draw(key: Any) -> Any:
        start = reverse_diffusion.start(key, 2, sigma_max)
        score_fn = functools.partial(model.standard_score, params)
        return reverse_diffusion.sample(key, score_fn, start, sigmas=ladder).position

    standard = jax.jit(jax.vmap(draw))(jax.random.split(jax.random.fold_in(key, 2), 1000))
    drawn = np.asarray(params["standardiser"]["location"] + scale * standard)
    nearest = np.argmin(np.linalg.norm(drawn[:, None] - means, axis=2), axis=1)
    figures = {
        "largest noise level, sd": sigma_max,
        "correlation of score and truth": right.correlation,
        "mean cosine of score and truth": right.cosine,
    }
    for mode, weight in enumerate(WEIGHTS):
        figures[f"share of draws at mode {mode} (law {weight:g})"] = np.mean(nearest == mode)
    return shown(figures)


def levels(settings: Any) -> Any:
    """Returns the grid of noise levels of a fit."""
    from densityjax.models import Levels

    return Levels("geometric", num_levels=settings.num_levels)


def shown(figures: dict[str, Any]) -> dict[str, float]:
    """Prints the figures and returns them as Python numbers."""
    for name, value in figures.items():
        print(f"{name:42s}{float(value):12.5f}")
    return {name: float(value) for name, value in figures.items()}


def bars_of(arguments: argparse.Namespace) -> Any:
    """Returns the bars of the file, or simulated ones."""
    import jax

    from densityjax import market

    if arguments.bars:
        return market.read_bars(arguments.bars)
    return market.simulate_market(jax.random.key(arguments.seed), NUM_BARS[arguments.tour]).bars


def train(past: Any, arguments: argparse.Namespace) -> Models:
    """Fits both models to bars of the past; saves them if asked to."""
    from densityjax import market
    from densityjax.estimators import ReturnScore, ScoreDensity

    settings = arguments.settings
    shape = {"width": settings.width, "num_hidden": settings.num_layers}
    fits = {
        "sigma_min": settings.sigma_min,
        "learning_rate": settings.learning_rate,
        "num_epochs": arguments.epochs,
        "random_state": arguments.seed,
    }
    score = ReturnScore(
        num_members=2,
        sigma_max=settings.sigma_max,
        num_levels=settings.num_levels,
        read_sigma=min(1.0, settings.sigma_max),
        **shape,
        **fits,
    )
    states = market.compute_features(past, "score")
    density = ScoreDensity(sigma_max=wide_enough(settings, states.to_numpy()), **shape, **fits)
    models = Models(score.fit(past), density.fit(states))
    if arguments.save:
        for name, model in models._asdict().items():
            model.save(pathlib.Path(arguments.save) / name)
        print(f"Saved to {arguments.save}.")
    return models


def load(folder: str) -> Models:
    """Reads models that `train` saved; raises ValueError where there are none."""
    from densityjax.estimators import ReturnScore, ScoreDensity

    path = pathlib.Path(folder)
    return Models(ReturnScore.load(path / "score"), ScoreDensity.load(path / "density"))


def read(models: Models, bars: Any, settings: Any) -> tuple[Any, Any, Any]:
    """Reads bars with trained models; returns timestamps, scores and signals of the same rows."""
    import jax
    import numpy as np

    from densityjax import market
    from densityjax.strategies import score as strategy
    from densityjax.strategies import score_reading, score_vote

    scores = models.score.predict(bars)
    states = market.compute_features(bars, "score")
    index = scores.index.intersection(states.index)
    chosen = scores.index.get_indexer(index)
    scores = type(scores)(*(leaf[chosen] for leaf in scores))
    states = states.loc[index]
    ruler = models.score.validation_scores_
    members = scores.member_scores
    votes = jax.jit(jax.vmap(functools.partial(score_vote.vote, score_vote.mean)))(
        members, score_reading.confidence(members, ruler), np.ones(members.shape, bool)
    )
    log_prob = models.density.score_samples(states)
    signals = strategy.score_signals(
        strategy.ScoreRule(
            min_confidence=settings.min_confidence,
            lookback=settings.lookback,
            num_stable=2,
            min_p_value=FALSE_ALARM_RATE,
            reference_variance=float(np.mean(ruler**2)),
        ),
        score=scores.standard_score,
        confidence=np.minimum(votes.confidence, 1.0),
        direction=votes.direction,
        log_prob=log_prob,
        p_value=models.density.p_value_of_log_prob(log_prob),
        denoised_state=denoised(models.density, states.to_numpy(np.float32), settings),
    )
    return index, scores, signals


def denoised(density: Any, states: Any, settings: Any) -> Any:
    """Returns the states without the noise that they are taken to carry."""
    import jax
    import numpy as np

    from densityjax.strategies import score_reading

    location, scale = (density.params_["standardiser"][k] for k in ("location", "scale"))
    score_fn = functools.partial(density.model_.standard_score, density.params_)

    def clean(y: Any) -> Any:
        steps = settings.num_denoise_steps
        return score_reading.denoised_state(score_fn, y, DENOISE_SIGMA, num_steps=steps)

    return np.asarray(location + scale * jax.jit(jax.vmap(clean))((states - location) / scale))


def live(arguments: argparse.Namespace) -> dict[str, float]:
    """Prints what is known at the last close: state, score, signal; returns the figures."""
    from densityjax.market import compute_features
    from densityjax.strategies.score import signal_records

    bars = bars_of(arguments)
    recent, past = bars.iloc[-NUM_LIVE:], bars.iloc[:-NUM_LIVE]
    models = load(arguments.model) if arguments.model else train(past, arguments)
    index, scores, signals = read(models, recent, arguments.settings)
    record = signal_records(signals)[-1]
    state = compute_features(recent, "score").loc[index[-1]]
    print(f"At the close of {index[-1]} at {recent['close'].iloc[-1]:.2f}:")
    print(f"{'state':42s}{'as it is':>12s}{'denoised':>12s}")
    for name, value, clean in zip(state.index, state, record["denoised_state"], strict=True):
        print(f"{name:42s}{value:12.5f}{clean:12.5f}")
    print("and for the next bar:")
    figures = {
        "score at zero, per sd": record["score"],
        "score at zero, per unit of return": scores.score[-1],
        "expected return": scores.expected_return[-1],
        "raw signal": record["raw_signal"],
        "confidence": record["confidence"],
        "log density of the state, nats": record["log_prob"],
        "signal": record["signal"],
        "position": record["position_size"],
    }
    figures = shown(figures)
    print(f"Reason: {record['reason']}.")
    return figures


def backtest(arguments: argparse.Namespace) -> dict[str, float]:
    """Trades the last 30 % of the bars beside holding; prints and returns the figures."""
    import numpy as np

    from densityjax import backtest as engine
    from densityjax import market, pipeline
    from densityjax.backtest import metrics

    bars = bars_of(arguments)
    num_train = int(TRAIN_SHARE * len(bars))
    models = train(bars.iloc[:num_train], arguments)
    index, _, signals = read(models, bars, arguments.settings)
    is_test = np.asarray(index >= bars.index[num_train + pipeline.window("score")])
    prices = pipeline.prices(bars, index[is_test])
    per_year = market.periods_per_year(bars.index)
    position = signals.position_size[is_test]
    figures = {
        "bars": is_test.sum(),
        "share of bars with a signal": np.mean(signals.signal[is_test] != 0),
        "share in distribution": np.mean(signals.in_distribution[is_test]),
    }
    for name, weights in (("score", position), ("holding", np.ones(is_test.sum()))):
        result = engine.run(weights, prices, costs=engine.Costs(fee_bps=FEE_BPS))
        returns = np.asarray(result.returns)
        figures[f"total return, {name}"] = metrics.total_return(returns)
        figures[f"Sharpe ratio, {name}"] = metrics.sharpe_ratio(returns, periods_per_year=per_year)
        figures[f"maximum drawdown, {name}"] = metrics.max_drawdown(returns)
    figures = shown(figures)
    ahead = figures["total return, score"] - figures["total return, holding"]
    print(
        f"After costs the score ends {abs(ahead):.2%} {'above' if ahead > 0 else 'below'} holding."
    )
    print("Some hundred bars say next to nothing about a rule: this shows the path, not a profit.")
    return figures


def main() -> int:
    """Runs one tour; returns the exit status."""
    cache = pathlib.Path(os.environ.get("XDG_CACHE_HOME", "~/.cache")).expanduser()
    os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(cache / "densityjax"))
    arguments = parse(sys.argv[1:])
    try:
        {"basic": basic, "live": live, "backtest": backtest}[arguments.tour](arguments)
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
