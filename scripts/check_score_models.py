"""Fits score models and dual energies to known laws and prints how well each is recovered.

python scripts/check_score_models.py                       # all laws and models, minutes
python scripts/check_score_models.py --laws mixture --models edm dual --epochs 50

One line per law and model. On test rows of the law: correlation of log p with the truth, its bias
(mean of estimate minus truth) and mean absolute error after the bias is taken off, in nats; how the
score agrees, at noise of a tenth of the data's standard deviation: the correlation with that of the
noisy law where it is known in closed form (mixtures), else the mean cosine with that of the clean
law; the log of the integral by importance sampling from a wider mixture of Gaussians, with its
standard error; and seconds to fit, compilation included, and to score 1,000 rows, compilation
apart.
"""

import argparse
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from densityjax import densities, models, targets
from densityjax.evaluation import score_accuracy
from densityjax.training import adamw, fit

SIGMA = 0.1  # where scores are compared, in standard deviations of the data
WIDER = 1.5  # sd of the proposal's kernels, in units of a rule of thumb


class Law(NamedTuple):
    """A target, and the same with N(0, diag(square)) noise added where that is a closed form."""

    target: targets.Target
    noisy: Callable[[np.ndarray], targets.Target] | None


def mixture(weights: Any, means: Any, covariances: Any) -> Law:
    """A Gaussian mixture; noise adds to its covariances."""

    def noisy(square: np.ndarray) -> targets.Target:
        return targets.gaussian_mixture(weights, means, np.asarray(covariances) + np.diag(square))

    return Law(targets.gaussian_mixture(weights, means, covariances), noisy)


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
    "banana": lambda: Law(targets.banana(), None),
    "funnel": lambda: Law(targets.funnel(2, log_scale_sd=1.0), None),
    "student_t": lambda: Law(targets.student_t(np.zeros(2), np.eye(2), dof=5.0), None),
}
MODELS = ("edm", "conservative", "dual")


def build(name: str, dim: int) -> tuple[Any, models.ScoreLoss]:
    """Returns a model and its loss."""
    if name == "dual":
        dual = models.dual_score_model(dim)
        return dual, models.dual_score_loss(dual)
    model = models.score_model(dim, parametrisation=name)
    return model, models.score_loss(model)


def draw(law: Law, seed: int, num: int) -> jax.Array:
    """Draws rows, [num, D], of the law."""
    return jax.jit(jax.vmap(law.target.sample))(jax.random.split(jax.random.key(seed), num))


def density_of(name: str, model: Any, params: Any, num_steps: int) -> Callable:
    """Returns the log density of rows, [N, D] to [N]."""
    if name == "dual":
        one = model.log_prob
    else:

        def one(params: Any, x: jax.Array) -> jax.Array:
            return models.flow_log_prob(model, params, x, num_steps=num_steps)

    compiled = jax.jit(jax.vmap(one, (None, 0)))
    return lambda rows: compiled(params, rows)


def timed(call: Callable) -> tuple[Any, float]:
    """Returns the answer of the second call and its seconds."""
    jax.block_until_ready(call())
    start = time.perf_counter()
    return jax.block_until_ready(call()), time.perf_counter() - start


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
    points = draw(Law(proposal, None), 7, num)
    return densities.importance_check(density(points), jax.lax.map(proposal.log_prob, points))


def check(law_name: str, model_name: str, options: argparse.Namespace) -> str:
    """Fits one model to one law and returns its line."""
    law = LAWS[law_name]()
    train, validation, test = (
        draw(law, seed, num) for seed, num in ((0, options.rows), (1, 2_000), (2, 1_000))
    )
    model, losses = build(model_name, train.shape[1])
    steps = options.epochs * -(-options.rows // options.batch)
    start = time.perf_counter()
    result = fit(
        jax.random.key(options.seed),
        losses.loss_fn,
        model.init(jax.random.key(options.seed + 1), train),
        train,
        validation=validation,
        validation_loss_fn=losses.validation_loss_fn,
        optimizer=adamw(num_steps=steps, learning_rate=options.rate),
        num_epochs=options.epochs,
        batch_size=options.batch,
        patience=options.epochs,
        chunk_epochs=options.epochs,
    )
    fit_seconds = time.perf_counter() - start
    params = jax.tree.map(jnp.asarray, result.params)
    density = density_of(model_name, model, params, options.steps)
    estimate, seconds = timed(lambda: density(test))
    error = np.asarray(estimate, np.float64) - np.asarray(jax.vmap(law.target.log_prob)(test))
    truth = np.asarray(jax.vmap(law.target.log_prob)(test))
    integral = log_integral(density, train, options.integral_rows)
    return (
        f"{law_name:<10}{model_name:<13}{correlation(estimate, truth):>8.4f}{error.mean():>8.3f}"
        f"{np.abs(error - error.mean()).mean():>8.3f}"
        f"{score_agreement(law, model, params, test):>8.4f}"
        f"{float(integral.log_z):>8.3f}{float(integral.standard_error):>7.3f}"
        f"{fit_seconds:>8.1f}{seconds:>8.2f}"
    )


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
    parser.add_argument("--integral-rows", type=int, default=4_000)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(arguments)
    columns = ("corr", "bias", "error", "score", "log Z", "+-", "fit s", "score s")
    widths = (8, 8, 8, 8, 8, 7, 8, 8)
    heads = "".join(f"{name:>{width}}" for name, width in zip(columns, widths, strict=True))
    print(f"{'law':<10}{'model':<13}{heads}")
    for law_name in options.laws:
        for model_name in options.models:
            print(check(law_name, model_name, options), flush=True)


if __name__ == "__main__":
    main()
