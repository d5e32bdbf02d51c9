"""Fits score models and dual energies to known laws and prints how well each is recovered.

python scripts/check_score_models.py                       # all laws and models, minutes
python scripts/check_score_models.py --laws mixture --models edm dual --epochs 50

One line per law and model. On test rows of the law: correlation of log p with the truth, its bias
(mean of estimate minus truth) and mean absolute error after the bias is taken off, in nats; how the
score agrees, at noise of a tenth of the data's standard deviation: the correlation with that of the
noisy law where it is known in closed form (mixtures), else the mean cosine with that of the clean
law; the log of the integral by importance sampling from a wider mixture of Gaussians, with its
standard error; the energy distance of draws by Heun's method from rows of the law, and its root
mean square between two samples of the law, both of standardised rows; and seconds to fit,
compilation included, to score 1,000 rows and to draw 2,000, compilation apart. Simulated market
states have no closed form: what needs one is nan. Samplers with known answers follow.
"""

import argparse
import functools
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from densityjax import densities, market, models, targets
from densityjax.evaluation import sample_quality, score_accuracy
from densityjax.samplers import annealed, reverse_diffusion, schedules
from densityjax.training import adamw, fit

SIGMA = 0.1  # where scores are compared, in standard deviations of the data
WIDER = 1.5  # sd of the proposal's kernels, in units of a rule of thumb
NUM_TEST = 1_000  # rows that are scored
NUM_DRAWS = 2_000  # draws, and rows of the law that they are compared with
NUM_PAIRS = 5  # pairs of samples of the law for the distance that chance alone makes
THINNING = 4  # bars between market states, whose neighbours are nearly equal
WARM_UP = 200  # first bars of a market, where long windows are not full
PUBLISHED = {  # sigma_max, sigma_min, levels and steps of a level, and the step size in print
    "CIFAR-10": (50.0, 0.01, 232, 5, 6.2e-6),
    "CelebA": (90.0, 0.01, 500, 5, 3.3e-6),
    "FFHQ": (348.0, 0.01, 2311, 3, 9.0e-7),
}


class Law(NamedTuple):
    """A law to fit: draws, and what is known of it in closed form.

    Attributes:
      draw: (seed, number) -> rows [N, D].
      target: the density and the score, or None.
      noisy: (square [D]) -> the target with N(0, diag(square)) noise added, or None.
    """

    draw: Callable[[int, int], jax.Array]
    target: targets.Target | None = None
    noisy: Callable[[np.ndarray], targets.Target] | None = None


def known(target: targets.Target, noisy: Callable | None = None) -> Law:
    """A law in closed form."""

    def draw(seed: int, num: int) -> jax.Array:
        return jax.jit(jax.vmap(target.sample))(jax.random.split(jax.random.key(seed), num))

    return Law(draw, target, noisy)


def mixture(weights: Any, means: Any, covariances: Any) -> Law:
    """A Gaussian mixture; noise adds to its covariances."""

    def noisy(square: np.ndarray) -> targets.Target:
        return targets.gaussian_mixture(weights, means, np.asarray(covariances) + np.diag(square))

    return known(targets.gaussian_mixture(weights, means, covariances), noisy)


def market_states() -> Law:
    """States of simulated markets, each seed a market of its own, thinned."""

    def draw(seed: int, num: int) -> jax.Array:
        bars = market.simulate_market(jax.random.key(seed), WARM_UP + THINNING * num).bars
        states = market.compute_features(bars, "score").to_numpy(np.float32)
        return jnp.asarray(states[::-THINNING][:num])

    return Law(draw)


def far_modes() -> Law:
    """Three modes of weights .6, .3, .1 with little between them, in two dimensions."""
    means = np.array([[-4.0, 0.0], [4.0, 2.0], [1.0, -5.0]])
    tilted = np.array([[1.0, 0.6], [0.6, 0.8]])
    return mixture([0.6, 0.3, 0.1], means, np.stack([tilted, 0.4 * np.eye(2), np.diag([0.8, 0.2])]))


def two_regimes(dim: int = 10) -> Law:
    """A calm regime of weight .85 and a crisis of twice the spread, more correlated and shifted."""
    calm = 0.7 * np.eye(dim) + 0.3
    crisis = 4.0 * (0.3 * np.eye(dim) + 0.7)
    return mixture([0.85, 0.15], np.stack([np.zeros(dim), np.full(dim, -0.5)]), [calm, crisis])


LAWS: dict[str, Callable[[], Law]] = {
    "mixture": far_modes,
    "regimes": two_regimes,
    "banana": lambda: known(targets.banana()),
    "funnel": lambda: known(targets.funnel(2, log_scale_sd=1.0)),
    "student_t": lambda: known(targets.student_t(np.zeros(2), np.eye(2), dof=5.0)),
    "market": market_states,
}
MODELS = ("edm", "conservative", "dual")


def build(name: str, dim: int) -> tuple[Any, models.ScoreLoss]:
    """Returns a model and its loss."""
    if name == "dual":
        dual = models.dual_score_model(dim)
        return dual, models.dual_score_loss(dual)
    model = models.score_model(dim, parametrisation=name)
    return model, models.score_loss(model)


def density_of(name: str, model: Any, params: Any, num_steps: int) -> Callable:
    """Returns the log density of rows, [N, D] to [N]."""
    if name == "dual":
        one = model.log_prob
    else:

        def one(params: Any, x: jax.Array) -> jax.Array:
            return models.flow_log_prob(model, params, x, num_steps=num_steps)

    compiled = jax.jit(jax.vmap(one, (None, 0)))
    return lambda rows: compiled(params, rows)


def sampler_of(name: str, model: Any, params: Any, num_levels: int) -> Callable:
    """Returns draws by Heun's method, (seed, number) to [N, D], in units of the data."""
    sigmas = schedules.edm_levels(
        sigma_min=float(params["sigma"]["min"]),
        sigma_max=float(params["sigma"]["max"]),
        num_levels=num_levels,
    )

    def score(params: Any, y: Any, sigma: Any) -> jax.Array:
        if name == "dual":
            return -jax.grad(model.standard_energy, argnums=1)(params, y, jnp.log(sigma))
        return model.standard_score(params, y, sigma)

    def one(params: Any, key: jax.Array) -> jax.Array:
        location, scale = (params["standardiser"][each] for each in ("location", "scale"))
        start_key, key = jax.random.split(key)
        start = reverse_diffusion.start(start_key, model.config.dim, sigmas[0])
        score_fn = functools.partial(score, params)
        drawn = reverse_diffusion.sample(key, score_fn, start, sigmas=sigmas)
        return location + scale * drawn.position

    compiled = jax.jit(jax.vmap(one, (None, 0)))
    return lambda seed, num: compiled(params, jax.random.split(jax.random.key(seed), num))


def timed(call: Callable) -> tuple[Any, float]:
    """Returns the answer of the second call and its seconds."""
    jax.block_until_ready(call())
    start = time.perf_counter()
    return jax.block_until_ready(call()), time.perf_counter() - start


def sample_distances(law: Law, draws: Any, scale: Any) -> tuple[float, float]:
    """Returns the energy distance of draws from rows, and what chance makes of two such samples.

    The distance is without bias, so that its mean between two samples of one law is zero; the root
    mean square is its scale.
    """
    rows = [np.asarray(law.draw(100 + i, len(draws))) / scale for i in range(NUM_PAIRS + 1)]
    pairs = zip(rows[1:], rows[:-1], strict=True)
    chance = [sample_quality.energy_distance(first, second) for first, second in pairs]
    found = sample_quality.energy_distance(np.asarray(draws) / scale, rows[0])
    return found, float(np.sqrt(np.mean(np.square(chance))))


def correlation(first: Any, second: Any) -> float:
    """Returns Pearson's correlation over all entries."""
    return float(np.corrcoef(np.ravel(first), np.ravel(second))[0, 1])


def score_agreement(law: Law, model: Any, params: Any, rows: jax.Array) -> float:
    """Correlates the score with that of the noisy law; else the cosine with that of the clean one.

    Both in standardised units. A few rows of a clean law may have scores so large that they alone
    would make a correlation; a cosine counts all rows alike.
    """
    scale = params["standardiser"]["scale"]
    reference = law.target
    if reference is None:
        return float("nan")
    if law.noisy is not None:
        reference = law.noisy((SIGMA * np.asarray(scale, np.float64)) ** 2)
        rows = rows + SIGMA * scale * jax.random.normal(jax.random.key(9), rows.shape)
    score = scale * jax.jit(jax.vmap(lambda x: model.score(params, x, SIGMA)))(rows)
    found = score_accuracy.score_accuracy(score, scale * jax.vmap(reference.score)(rows), SIGMA)
    return float(found.cosine if law.noisy is None else found.correlation)


def log_integral(density: Callable, train: jax.Array, num: int) -> densities.Normalisation:
    """Checks the integral by rows drawn from wide kernels about training rows."""
    rows, dim = np.asarray(train[:500], np.float64), train.shape[1]
    bandwidth = WIDER * rows.std(0).mean() * len(rows) ** (-1.0 / (dim + 4))
    covariances = np.tile(bandwidth**2 * np.cov(rows.T) / np.var(rows, axis=0).mean(), (500, 1, 1))
    proposal = targets.gaussian_mixture(np.full(500, 1 / 500), rows, covariances)
    points = known(proposal).draw(7, num)
    return densities.importance_check(density(points), jax.lax.map(proposal.log_prob, points))


def fitted(name: str, rows: jax.Array, validation: jax.Array, options: Any) -> tuple[Any, Any]:
    """Returns a model and the parameters fitted to rows."""
    model, losses = build(name, rows.shape[1])
    steps = options.epochs * -(-options.rows // options.batch)
    result = fit(
        jax.random.key(options.seed),
        losses.loss_fn,
        model.init(jax.random.key(options.seed + 1), rows),
        rows,
        validation=validation,
        validation_loss_fn=losses.validation_loss_fn,
        optimizer=adamw(num_steps=steps, learning_rate=options.rate),
        num_epochs=options.epochs,
        batch_size=options.batch,
        patience=options.epochs,
        chunk_epochs=options.epochs,
    )
    return model, jax.tree.map(jnp.asarray, result.params)


def log_prob_errors(law: Law, test: jax.Array, estimate: Any) -> tuple[float, float, float]:
    """Returns correlation, bias and mean absolute error without the bias, nats."""
    if law.target is None:
        return float("nan"), float("nan"), float("nan")
    truth = np.asarray(jax.vmap(law.target.log_prob)(test))
    error = np.asarray(estimate, np.float64) - truth
    centred = np.abs(error - error.mean()).mean()
    return correlation(estimate, truth), float(error.mean()), float(centred)


def check(law_name: str, model_name: str, options: argparse.Namespace) -> str:
    """Fits one model to one law and returns its line."""
    law = LAWS[law_name]()
    sizes = (options.rows, 2_000, NUM_TEST)
    train, validation, test = (law.draw(seed, num) for seed, num in enumerate(sizes))
    begin = time.perf_counter()
    model, params = fitted(model_name, train, validation, options)
    fit_seconds = time.perf_counter() - begin
    density = density_of(model_name, model, params, options.steps)
    estimate, score_seconds = timed(lambda: density(test))
    integral = log_integral(density, train, options.integral_rows)
    sampler = sampler_of(model_name, model, params, options.levels)
    draws, draw_seconds = timed(lambda: sampler(options.seed + 2, NUM_DRAWS))
    distance, chance = sample_distances(law, draws, np.asarray(params["standardiser"]["scale"]))
    corr, bias, error = log_prob_errors(law, test, estimate)
    return (
        f"{law_name:<10}{model_name:<13}{corr:>8.4f}{bias:>8.3f}{error:>8.3f}"
        f"{score_agreement(law, model, params, test):>8.4f}"
        f"{float(integral.log_z):>8.3f}{float(integral.standard_error):>7.3f}"
        f"{distance:>9.4f}{chance:>8.4f}"
        f"{fit_seconds:>8.1f}{score_seconds:>8.2f}{draw_seconds:>8.2f}"
    )


def annealed_variance(num_chains: int, num_steps: int = 75) -> tuple[float, float]:
    """Returns the variance of annealed Langevin draws of N(0, 1), and what recursion makes it."""
    sigmas = schedules.geometric_levels(sigma_min=0.01, sigma_max=10.0, num_levels=20)
    step_sizes = schedules.smooth_steps(sigmas, share=0.02, smallest_variance=1.0)
    expected = float(sigmas[0]) ** 2
    for sigma, step_size in zip(np.asarray(sigmas), np.asarray(step_sizes), strict=True):
        for _ in range(num_steps):
            expected = (1.0 - step_size / (1.0 + sigma**2)) ** 2 * expected + 2.0 * step_size
    expected /= (1.0 + float(sigmas[-1]) ** 2) ** 2  # Tweedie's step

    def one(key: jax.Array) -> jax.Array:
        start_key, key = jax.random.split(key)
        return annealed.sample(
            key,
            lambda x, sigma: -x / (1.0 + sigma**2),
            annealed.start(start_key, 1, sigmas[0]),
            sigmas=sigmas,
            step_sizes=step_sizes,
            num_steps_per_level=num_steps,
        ).position[0]

    keys = jax.random.split(jax.random.key(0), num_chains)
    return float(np.var(np.asarray(jax.jit(jax.vmap(one))(keys), np.float64))), expected


def sampler_lines(num_chains: int) -> list[str]:
    """Returns lines on samplers whose answers are known."""
    error = np.sqrt(2.0 / num_chains)  # of the variance of normal draws
    found, expected = annealed_variance(num_chains)
    lines = [
        f"annealed Langevin, N(0, 1): variance {found:.4f} +- {error:.4f}, recursion {expected:.4f}"
    ]
    for name, (high, low, num_levels, num_steps, step) in PUBLISHED.items():
        share = schedules.ncsnv2_share(
            sigma_min=low, sigma_max=high, num_levels=num_levels, num_steps_per_level=num_steps
        )
        lines.append(f"NCSNv2 step, {name}: {share * low**2:.3g}, published {step:.2g}")
    return lines


def main(arguments: Sequence[str] | None = None) -> None:
    """Reads the arguments and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])  # type: ignore[union-attr]
    parser.add_argument("--laws", nargs="+", choices=sorted(LAWS), default=list(LAWS))
    parser.add_argument("--models", nargs="+", choices=MODELS, default=list(MODELS))
    parser.add_argument("--rows", type=int, default=50_000, help="training rows")
    parser.add_argument("--epochs", type=int, default=25)
    parser.add_argument("--batch", type=int, default=256)
    parser.add_argument("--rate", type=float, default=0.002, help="peak learning rate")
    parser.add_argument("--steps", type=int, default=40, help="steps of the probability flow")
    parser.add_argument("--levels", type=int, default=36, help="levels of Heun's method")
    parser.add_argument("--chains", type=int, default=100_000, help="of annealed Langevin dynamics")
    parser.add_argument("--integral-rows", type=int, default=4_000)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(arguments)
    columns = {"corr": 8, "bias": 8, "error": 8, "score": 8, "log Z": 8, "+-": 7}
    columns |= {"energy": 9, "chance": 8, "fit s": 8, "score s": 8, "draw s": 8}
    heads = "".join(f"{name:>{width}}" for name, width in columns.items())
    print(f"{'law':<10}{'model':<13}{heads}")
    for law_name in options.laws:
        for model_name in options.models:
            print(check(law_name, model_name, options), flush=True)
    for line in sampler_lines(options.chains):
        print(line)


if __name__ == "__main__":
    main()
